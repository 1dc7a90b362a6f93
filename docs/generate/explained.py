"""The directive ``explained``: what an expression of `fastconv.explain` shows in a notebook, shown on a page."""

from __future__ import annotations

from typing import Any

import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive

import fastconv


class Explained(Directive):
    """Evaluates its text, an expression of `fastconv` and `np`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The page of the explanation, as a frame."""
        explanation = eval("\n".join(self.content), {"fastconv": fastconv, "np": np})
        return [nodes.raw("", explanation._repr_html_(), format="html")]


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_directive("explained", Explained)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
