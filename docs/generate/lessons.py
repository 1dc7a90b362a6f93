"""The lessons of `examples/` as a gallery: each script's `main` taken apart, so that what it prints stands below it.

A lesson is a script with a docstring, functions, and a `main` that prints and saves a picture. A gallery's page shows
code and what it prints in turns. So the body of `main` is moved to the end of the script, and cut where it has blank
lines.
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from typing import Any

from .files import replace

#: The first page, and what a reader is told.
HEADER = """Lessons
=======

Short scripts to read from top to bottom, with what they print and draw. ``python -m fastconv examples`` lists them,
``python -m fastconv examples edges`` runs one.
"""


#: What a lesson's page ends with, to be stepped through: an expression of `fastconv` and NumPy.
EXPLAINED = {
    "cross_correlation": "fastconv.explain(np.arange(9).reshape(3, 3), [[0, 1], [2, 3]], op='corr2d')",
    "edges": "fastconv.explain(stripe().astype(int), [[1, -1]], shades=True)",
    "convolution": "fastconv.explain(np.arange(9).reshape(3, 3), [[3, 2], [1, 0]])",
    "padding_and_stride": "fastconv.explain(np.arange(9).reshape(3, 3), [[0, 1], [2, 3]], padding=1, stride=(3, 2))",
    "channels": "fastconv.explain(np.stack([np.arange(9), np.arange(1, 10)]).reshape(2, 3, 3), "
                "[[[[0, 1], [2, 3]], [[1, 2], [3, 4]]]])",
    "one_by_one": "fastconv.explain(np.arange(18).reshape(2, 3, 3), [[[[1]], [[2]]], [[[0]], [[-1]]]])",
    "pooling": "fastconv.explain(np.arange(9).reshape(3, 3), op='max_pool2d', kernel_size=2, stride=1)",
    "receptive_field": "fastconv.explain_stack([2, 2])",
    "lenet": "fastconv.explain_stack([(5, 1, 2), 2, 5, (2, 2)], 28)",
}  # fmt: skip


def script(text: str, explained: str | None = None) -> str:
    """A lesson's script for a gallery, with an explanation at its end if there is one."""
    tree = ast.parse(text)
    lines = text.splitlines()
    docstring = ast.get_docstring(tree) or ""
    name, _, rest = docstring.partition(": ")
    main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    pieces = [f'"""\n{name}\n{"=" * len(name)}\n\n{rest[:1].upper()}{rest[1:]}\n"""']
    before = lines[tree.body[0].end_lineno : main.lineno - 1]
    pieces.append("\n".join(before).strip())
    defaults = zip(main.args.args, main.args.defaults, strict=True)
    pieces.append("# %%\n" + "\n".join(f"{each.arg} = {ast.unparse(value)}" for each, value in defaults))
    end = main.body[0].lineno - 1
    for statement in main.body:
        if not isinstance(statement, ast.Return):
            code = textwrap.dedent("\n".join(lines[end : statement.end_lineno]))
            pieces[-1] += f"\n\n# %%{code}" if code.startswith("\n") else f"\n{code}"
        end = statement.end_lineno
    if explained:
        told = "Step through it with the buttons, the slider or the arrow keys:"
        pieces.append(f"# %%\n# {told}\n\nimport fastconv\n\n{explained}")
    return "\n\n".join(pieces) + "\n"


def write(examples: Path, folder: Path) -> None:
    """Write the scripts that the gallery is made from."""
    texts = {}
    for file in sorted(examples.glob("[0-9]*.py")):
        texts[file.name] = script(file.read_text(encoding="utf-8"), EXPLAINED.get(file.stem.partition("_")[2]))
    replace(folder, {"GALLERY_HEADER.rst": HEADER, **texts})


def pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """What sphinx-gallery calls after a block of code: it moves pictures that were saved to where pages find them."""
    from sphinx_gallery.scrapers import figure_rst

    folder = Path(block_vars["src_file"]).parent
    moved = []
    for file, place in zip(sorted(folder.glob("*.png")), block_vars["image_path_iterator"], strict=False):
        file.replace(place)
        moved.append(place)
    return figure_rst(moved, gallery_conf["src_dir"])
