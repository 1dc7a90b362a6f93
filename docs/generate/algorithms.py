"""A page for each algorithm: the docstring at the head of its kernel file, equations as mathematics, and a picture."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import equations
from .files import replace

PACKAGE = Path(__file__).parents[2] / "fastconv"
#: What each beginning of a file's name is for.
KINDS = {
    "conv": ("convolution", 'conv2d(..., algorithm="{}")'),
    "transpose": ("transposed convolution", 'conv_transpose2d(..., algorithm="{}")'),
    "weight": ("gradient for the weight", 'grad.conv2d_weight(..., algorithm="{}")'),
    "pool": ("pooling", 'max_pool2d(..., algorithm="{}")'),
    "order": ("order statistics", ""),
    "filter": ("filters of images", ""),
}


@functools.cache
def docstrings(device: str) -> dict[str, str]:
    """The docstrings of a device's kernel files by the files' names, without their endings."""
    found = {}
    for file in sorted((PACKAGE / device / "algorithms").glob("[a-z]*.py")):
        found[file.stem] = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return found


def stems() -> list[str]:
    """The names of the pages: the CPU's kernel files, and the GPU's that have no namesake there."""
    own = [f"cuda_{stem}" for stem in docstrings("cuda") if stem not in docstrings("cpu")]
    return [*docstrings("cpu"), *own]


def page_of(name: str, here: str) -> str | None:
    """The page that a name in a docstring means: a file's, or an algorithm's of the same kind; None if none."""
    kind = re.sub(r"_[a-z0-9]+$", "", here) if here.startswith("cuda_") else here.partition("_")[0]
    plain = here.removeprefix("cuda_").partition("_")[0]
    for stem in (name, f"{kind}_{name}", f"{plain}_{name}", f"cuda_{name}", f"cuda_{plain}_{name}"):
        if stem in stems():
            return stem
    return None


def text_of(stem: str, pictures: dict[str, tuple[str, str]]) -> str:
    """A page; of each picture its file and what stands below it, by the page, with "cuda_" before a GPU's."""
    plain = stem.removeprefix("cuda_")
    device = "cuda" if stem != plain else "cpu"
    kind, _, name = plain.partition("_")
    operation, how = KINDS.get(kind, ("", ""))
    title = (f"{name}: {operation}" if operation else plain) + (", on a GPU" if device == "cuda" else "")
    first, _, rest = docstrings(device)[plain].partition("\n\n")
    text = f"{title}\n{'=' * len(title)}\n\n{lead(first)}"
    text += f"The file is ``fastconv/{device}/algorithms/{plain}.py``"
    text += f"; ``fastconv.{how.format(name)}`` asks for it.\n\n" if how and device == "cpu" else ".\n\n"
    text += mathematical(rest)
    if stem in pictures:
        text += f"\n\nA small problem\n---------------\n\n{illustrated(*pictures[stem])}"
    if device == "cpu" and plain in docstrings("cuda"):
        first, _, rest = docstrings("cuda")[plain].partition("\n\n")
        text += (f"\n\nOn a GPU\n--------\n\n{lead(first)}The file is ``fastconv/cuda/algorithms/{plain}.py``.\n\n"
                 f"{mathematical(rest)}\n\n{illustrated(*pictures[f'cuda_{plain}'])}")  # fmt: skip
    return text


def illustrated(file: str, told: str) -> str:
    """A picture, and what stands below it."""
    return f".. image:: {file}\n   :alt: {alternative(told)}\n\n{told}\n"


def lead(sentence: str) -> str:
    """A docstring's first sentence, in larger letters."""
    return f".. rst-class:: lead\n\n{escaped(' '.join(sentence.split()))}\n\n"


def alternative(told: str) -> str:
    """What is said of a picture to those who do not see it."""
    return told.replace("``", "").partition(" (")[0]


def mathematical(docstring: str) -> str:
    """A docstring's text whose equations are mathematics."""
    text, end = "", 0
    for begin, after, block in equations.blocks(docstring):
        before = docstring[end:begin]
        text += escaped(before) + (":\n\n" if before.strip() and before[-1] != "\n" else "\n\n")
        for is_formula, part in equations.parts(block):
            text += f".. math::\n\n   {part}\n\n" if is_formula else f"{escaped(part)}\n\n"
        end = after
    return text + escaped(docstring[end:])


def escaped(text: str) -> str:
    """Text in which bars and underlines at the ends of words stand for themselves, outside of code."""
    pieces = re.split(r"(``.*?``|`[^`]*`)", text, flags=re.DOTALL)
    pieces[::2] = [re.sub(r"([|*])", r"\\\1", re.sub(r"_(?!\w)", r"\\_", piece)) for piece in pieces[::2]]
    return "".join(pieces)


def write(folder: Path) -> None:
    """Write the pages and their pictures, unless nothing that they are made from has changed."""
    stamp, made = folder / "made_from.txt", made_from()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made:
        return
    folder.mkdir(exist_ok=True)
    pictures = dict(_pictures(folder))
    replace(folder, {f"{stem}.rst": text_of(stem, pictures) for stem in stems()})
    stamp.write_text(made, encoding="utf-8")


def made_from() -> str:
    """A number that differs where the package's code, or this folder's, does."""
    told = hashlib.sha256()
    for file in sorted([*PACKAGE.rglob("*.py"), *Path(__file__).parent.glob("*.py")]):
        told.update(file.read_bytes())
    return told.hexdigest()


def _pictures(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Draw the problems: of each its page's name, with "cuda_" before a GPU's, its file, and what stands below it."""
    from . import gpu_walks, walks
    from .pictures import draw, draw_blocks
    from .problems import problems

    noted = walks.walks()
    drawn = {problem.stem: draw(problem, _of(noted, problem.stem)) for problem in problems()}
    noted = gpu_walks.walks()
    for stem in {name.partition(".")[0]: None for name in noted}:
        walk = _of(noted, stem)
        drawn[f"cuda_{stem}"] = draw_blocks(str(walk["text"]), walk["often"], walk["blocks"])
    for stem, (figure, told) in drawn.items():
        figure.savefig(folder / f"{stem}.png", dpi=110)
        yield stem, (f"{stem}.png", told)


def _of(noted: dict[str, np.ndarray], stem: str) -> dict[str, np.ndarray]:
    """What was noted of a problem."""
    return {name.partition(".")[2]: each for name, each in noted.items() if name.partition(".")[0] == stem}
