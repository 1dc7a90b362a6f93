"""Pages: one HTML document each, with its style, its script and its data inside, that loads nothing."""

from __future__ import annotations

import html
import json
from functools import cache
from pathlib import Path
from typing import Any


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


def embedded(title: str, document: str) -> str:
    """A document as part of another page, with a style and keys of its own; its script makes it as high as it is."""
    return (f'<iframe title="{html.escape(title)}" srcdoc="{html.escape(document)}" '
            'style="width: 100%; height: 40em; border: 0"></iframe>')


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
