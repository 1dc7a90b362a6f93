"""Two checkouts of fastconv side by side: packages are copied, and the copies are put first on a process's path."""

from __future__ import annotations

import argparse
import compileall
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
