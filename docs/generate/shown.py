"""The directive ``shown``: arrays that a page's code has made so far, drawn side by side as pictures.

Each of its lines is a title, a colon and an expression. The page's snippets above are run for it, as the tests do.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive
from matplotlib.figure import Figure

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


class Shown(Directive):
    """Runs the code above it, and draws what its lines name."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The picture."""
        environment = self.state.document.settings.env
        page = Path(environment.doc2path(environment.docname)).read_text(encoding="utf-8")
        code = "".join(BLOCK.findall(page[: page.index("\n".join(self.content))]))
        names: dict[str, Any] = {}
        exec(compile(code, environment.docname, "exec"), names)
        images = {}
        for line in self.content:
            title, _, expression = line.partition(": ")
            images[title] = np.asarray(eval(expression, names))
        folder = Path(environment.srcdir) / "_shown"
        folder.mkdir(exist_ok=True)
        file = folder / f"{hashlib.sha256((code + repr(self.content)).encode()).hexdigest()[:16]}.png"
        draw(images).savefig(file, dpi=110)
        return [nodes.image(uri=f"/_shown/{file.name}", alt="; ".join(images))]


def draw(images: dict[str, np.ndarray]) -> Figure:
    """Images in one row, each from its darkest value to its brightest; bytes as they are."""
    height, width = next(iter(images.values())).shape[:2]
    figure = Figure(figsize=(10, 10 / len(images) * height / width + 0.35), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        axes.imshow(image, cmap="gray", vmin=0 if image.dtype == np.uint8 else None)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    return figure


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_directive("shown", Shown)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
