"""Two checkouts of fastconv side by side: packages are copied, and the copies are put first on a process's path."""

from __future__ import annotations

import argparse
import compileall
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

#: Functions that are not public: the modules that have them, here and in earlier commits.
INTERNAL = {
    "conv_spec": ("fastconv.specs.conv", "fastconv.spec"),
    "in_turns": ("fastconv.planner.measure", "fastconv.timing"),
    "pair": ("fastconv.specs.arguments", "fastconv.checks"),
    "pool_spec": ("fastconv.specs.pool", "fastconv.pool_spec"),
    "recipe": ("fastconv.cpu.recipes", "fastconv.plan"),
}


def internal(name: str) -> Any:
    """A function of `INTERNAL`, of whichever checkout is measured."""
    for module in INTERNAL[name]:
        with suppress(ModuleNotFoundError):
            return getattr(import_module(module), name)
    raise LookupError(f"this checkout has no {name}")


@contextmanager
def copied(*packages: Path) -> Iterator[str]:
    """A folder that holds copies of these packages, compiled to bytecode as an installation leaves them.

    The copies do not change while something is measured, nothing is written beside the originals, and a process whose
    path begins with the folder finds no other package of the originals' checkouts in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        for package in packages:
            shutil.copytree(package, Path(folder, package.name), ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(folder, quiet=1)
        yield folder


def checkout(path: str) -> Path:
    """The fastconv package in a folder that a command line names."""
    package = Path(path).resolve() / "fastconv"
    if not (package / "__init__.py").is_file():
        raise argparse.ArgumentTypeError(f"there is no package fastconv in {path}")
    return package
