"""Pages: one HTML document each, with its style, its script and its data inside, that loads nothing."""

from __future__ import annotations

import html
import json
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import Any


class Shown(ABC):
    """Base of what shows itself as a page: in a notebook, and as a file."""

    title: str

    @abstractmethod
    def to_html(self) -> str:
        """The page: one HTML document, which loads nothing."""

    def save(self, path: str | Path) -> None:
        """Write the page to a file, which any browser opens without a network or a server."""
        Path(path).write_text(self.to_html(), encoding="utf-8")

    def _repr_html_(self) -> str:
        return _embedded(self.title, self.to_html())


def page(title: str, data: dict[str, Any], text: str, script: str = "windows.js") -> str:
    """The document of one script; `text` is for readers without JavaScript."""
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _asset("page.css"),
        "TEXT": html.escape(text),
        "DATA": as_script(data),
        "SCRIPT": _asset("grids.js") + _asset(script),
    }
    document = _asset("page.html")
    pieces = document.split("@@")  # text and names in turns: what is put in is not searched for names
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def as_script(data: dict[str, Any]) -> str:
    """Data as JSON that a ``<script>`` may hold: no text of it can end the script or begin another."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _embedded(title: str, document: str) -> str:
    """A document as part of another page, with a style and keys of its own; its script makes it as high as it is."""
    return (f'<iframe title="{html.escape(title)}" srcdoc="{html.escape(document)}" '
            'style="width: 100%; height: 40em; border: 0"></iframe>')


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
