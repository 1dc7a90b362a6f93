"""Compiled code on disk.

It is kept under a key of everything it depends on: the source file and those it imports, the versions of Python, NumPy,
Numba and llvmlite, the processor, the signature and Numba's compiler settings. (Numba's own cache looks at one source
file only, and raises where its folder cannot be written.) A file that is missing, damaged or unreadable means compiling
again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np

from .._files import cache_folder, read, write
from .processor import features, processor_name

_PACKAGE = Path(__file__).resolve().parent.parent


def _hash(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(os.path.relpath(file, _PACKAGE).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


#: Of every source file of this package.
SOURCES = _hash(_PACKAGE.rglob("*.py"))

_IMPORT = re.compile(r"^from \.(\w*|\.toom_cook) import (\([^)]*\)|.*)$", re.MULTILINE)


@lru_cache(maxsize=256)
def sources(file: Path) -> frozenset[Path]:
    """A source file and those of its folder that it imports, directly or not: all that its compiled code depends on.

    What a kernel needs from elsewhere in the package comes as an argument, and so counts by its type, but for the
    matrices of `toom_cook`, which are constants.
    """
    found, ahead = set(), [file]
    while ahead:
        if (file := ahead.pop()) not in found:
            found.add(file)
            for module, names in _IMPORT.findall(file.read_text()):
                if module == ".toom_cook":
                    found.add(file.parents[1] / "toom_cook.py")
                imported = [module] if module else re.findall(r"\w+", names)
                ahead += [path for name in imported if (path := file.with_name(f"{name}.py")).exists()]
    return frozenset(found)


@lru_cache(maxsize=256)
def _sources_hash(file: str) -> str | None:
    """None where there is no file to look at, as of code from a command line."""
    path = Path(file).resolve()
    return _hash(sources(path)) if path.is_file() else None


_VERSIONS = (
    sys.version,
    os.environ.get("FASTCONV_SIMD"),
    platform.machine(),
    numba.__version__,
    llvmlite.__version__,
    np.__version__,
)


def identity() -> str:
    """A name for this package's sources, the versions of what compiles them, and the processor they run on."""
    processor = (processor_name(), sorted(features()))
    return hashlib.sha256(repr((SOURCES, _VERSIONS, processor)).encode()).hexdigest()[:16]


_SETTINGS = (
    "BOUNDSCHECK",
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "ENABLE_AVX",
    "DEBUGINFO_DEFAULT",
    "FULL_TRACEBACKS",
)


class CodeFiles:
    """The files of one kernel: one for each signature, named by its key, guarded by a checksum."""

    def __init__(self, py_func: Callable, key: tuple, options: dict[str, Any]) -> None:
        self._name = py_func.__name__
        self._made_of = py_func, key, options

    @cached_property
    def _identity(self) -> str | None:
        """All that the code depends on but for the signature; None where there is no source file to look at."""
        py_func, key, options = self._made_of
        told = _sources_hash(py_func.__code__.co_filename)
        settings = tuple(str(getattr(numba.config, name, None)) for name in _SETTINGS)
        where = (told, py_func.__module__, py_func.__qualname__)
        return repr((_VERSIONS, settings, where, key, sorted(options.items()))) if told else None

    def _file(self, args: tuple, codegen: Any) -> Path:
        key = hashlib.sha256(repr((self._identity, str(args), codegen.magic_tuple())).encode()).hexdigest()
        return cache_folder() / f"{self._name}-{key[:40]}.nbc"

    def load(self, args: tuple, codegen: Any) -> bytes | None:
        if not self._identity:
            return None
        data = read(self._file(args, codegen)) or b""
        checksum, payload = data[:32], data[32:]
        return payload if hashlib.sha256(payload).digest() == checksum else None

    def save(self, args: tuple, codegen: Any, payload: bytes) -> None:
        if self._identity:
            write(self._file(args, codegen), hashlib.sha256(payload).digest() + payload)
