"""The pages of the reference: every public name of every public module, from the modules' own ``__all__``."""

from __future__ import annotations

import functools
import importlib
import inspect
import types
from pathlib import Path

from .files import replace

#: The public modules, in the order of the reference.
MODULES = ("fastconv", "fastconv.ndimage", "fastconv.signal", "fastconv.grad", "fastconv.nn", "fastconv.numba",
           "fastconv.dask", "fastconv.cache", "fastconv.wisdom")  # fmt: skip
#: The objects that a module's table begins with: first lines of a name, and their title. The others come last.
GROUPS = {
    "fastconv": {
        "Convolutions": ("conv", "corr2d"),
        "Poolings": ("max_", "avg_", "min_", "lp_", "adaptive_"),
        "Windows": ("unfold2d", "fold2d", "separable_filter"),
        "Plans": ("plan_",),
        "Shapes": ("output_shape", "receptive_field"),
        "To look at": ("explain", "compare"),
    },
    "fastconv.ndimage": {
        "Linear filters": ("correlate", "convolve", "gaussian_filter", "uniform_filter"),
        "Derivatives": ("sobel", "prewitt", "laplace", "gaussian_", "generic_"),
        "Order statistics": ("median", "rank", "percentile", "maximum", "minimum"),
        "Morphology": ("grey_", "binary_", "morphological_", "white_", "black_"),
        "Spread": ("std_", "variance_"),
    },
}


@functools.cache
def public(module: str) -> tuple[str, ...]:
    """A module's public names in the order of the alphabet, its public modules left out."""
    loaded = importlib.import_module(module)
    names = [name for name in loaded.__all__ if not isinstance(getattr(loaded, name), types.ModuleType)]
    return tuple(sorted(names, key=lambda name: (name.lower(), name)))


@functools.cache
def names() -> frozenset[str]:
    """The full names of all that has a place in the reference: modules, functions, classes."""
    return frozenset([*MODULES, *(f"{module}.{name}" for module in MODULES for name in public(module))])


def grouped(module: str) -> dict[str, list[str]]:
    """A module's public names by the titles they stand under; each name once."""
    left = list(public(module))
    found: dict[str, list[str]] = {}
    for title, beginnings in GROUPS.get(module, {}).items():
        found[title] = [name for name in left if name.startswith(beginnings)]
        left = [name for name in left if name not in found[title]]
    found["Others" if found else "Functions and classes"] = left
    return {title: chosen for title, chosen in found.items() if chosen}


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    texts = {f"{module}.rst": page(module) for module in MODULES}
    listed = "\n".join(f"   {module}" for module in MODULES)
    lines = "\n".join(f"   * - :doc:`{module}`\n     - {first_sentence(module)}" for module in MODULES)
    lines += f"\n   * - :doc:`fastconv.typing`\n     - {first_sentence('fastconv.typing').partition(':')[0]}."
    texts["fastconv.typing.rst"] = (
        f"{title('fastconv.typing', '=')}.. automodule:: fastconv.typing\n\n"
        ".. literalinclude:: ../../fastconv/typing.py\n   :start-after: # -- numbers\n"
    )
    texts["index.rst"] = (
        f"{title('API reference', '=')}Everything that is public, from the code's own docstrings. Every example on "
        f"these pages is run by the tests.\n\n.. list-table::\n   :widths: 25 75\n\n{lines}\n\n"
        f".. toctree::\n   :hidden:\n\n{listed}\n   fastconv.typing\n"
    )
    return texts


def page(module: str) -> str:
    """A module's page: its docstring, and tables of its names, each of which has a page of its own."""
    text = (f".. This page is generated.\n\n{title(module, '=')}.. automodule:: {module}\n\n"
            f".. currentmodule:: {module}\n\n")  # fmt: skip
    for heading, chosen in grouped(module).items():
        rows = "\n".join(f"   {name}" for name in chosen)
        text += f"{title(heading, '-')}.. autosummary::\n   :toctree: .\n\n{rows}\n\n"
    return text


def first_sentence(module: str) -> str:
    """The beginning of a module's docstring."""
    text = inspect.getdoc(importlib.import_module(module)) or ""
    return " ".join(text.split("\n\n")[0].split()).removesuffix(":")


def title(text: str, line: str) -> str:
    """A heading of reStructuredText."""
    return f"{text}\n{line * len(text)}\n\n"


def write(folder: Path) -> None:
    """Write the pages; those of single names are autosummary's."""
    texts = pages()
    single = {f"{name}.rst" for name in names()} - set(texts)
    kept = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.rst") if file.name in single}
    replace(folder, {**kept, **texts})
