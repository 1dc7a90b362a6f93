"""Compiled code on disk.

It is kept under a key of everything it depends on: its source file and the files that this imports, the versions of
Python, NumPy, Numba and llvmlite, the processor that it is for, the signature and Numba's compiler settings. (Numba's
own cache looks at one source file only, and raises where its folder cannot be written.) A file that is missing, damaged
or unreadable means compiling again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numba

from ...base.files import cache_folder, read, write
from . import target

_IMPORT = re.compile(r"^from (\.+)([\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)
#: The sources of compiled code: the folder `cpu`, and the matrices that are constants of kernels.
_CPU = Path(__file__).resolve().parents[1]
_MATRICES = _CPU.parent / "base" / "toom_cook.py"


@lru_cache(maxsize=256)
def _read(file: Path) -> tuple[str, tuple[Path, ...]]:
    """A source file's hash, and the files of `cpu` that it imports."""
    data, ahead = file.read_bytes(), []
    for dots, module, names in _IMPORT.findall(data.decode()):
        origin = file.parents[len(dots) - 1].joinpath(*filter(None, module.split(".")))
        for path in (origin.with_suffix(".py"), *(origin / f"{name}.py" for name in re.findall(r"\w+", names))):
            if (path == _MATRICES or _CPU in path.parents) and path.is_file():
                ahead.append(path)
    return hashlib.sha256(data).hexdigest(), tuple(ahead)


@lru_cache(maxsize=256)
def sources(file: Path) -> frozenset[Path]:
    """A source file and the files of `cpu` that it imports, directly or not: all that its compiled code depends on.

    A kernel gets everything else of the package as arguments, which count by their types. Only the matrices of
    `toom_cook` are constants.
    """
    found, ahead = set(), [file]
    while ahead:
        if (file := ahead.pop()) not in found:
            found.add(file)
            ahead += _read(file)[1]
    return frozenset(found)


@lru_cache(maxsize=256)
def _sources_hash(file: str) -> str | None:
    """A text that tells a file and its `sources`; None where there is no file, as for code from a command line."""
    path = Path(file).resolve()
    return repr([(one.name, _read(one)[0]) for one in sorted(sources(path))]) if path.is_file() else None


def identity() -> str:
    """A name that tells the versions that compile kernels, and the processor that these are for."""
    name, features = target.processor()
    told = repr((target.versions(), name, sorted(features)))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


_SETTINGS = (
    "BOUNDSCHECK",
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "ENABLE_AVX",
    "DEBUGINFO_DEFAULT",
    "FULL_TRACEBACKS",
)


#: Names of the files that this process has written.
saved: set[str] = set()


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
        return repr((identity(), settings, where, key, sorted(options.items()))) if told else None

    def _file(self, args: tuple) -> Path:
        key = hashlib.sha256(repr((self._identity, str(args))).encode()).hexdigest()
        return cache_folder() / f"{self._name}-{key[:40]}.nbc"

    def load(self, args: tuple) -> bytes | None:
        """Saved code, from the cache or a pack; None if there is none, or it is damaged."""
        if not self._identity:
            return None
        file = self._file(args)
        data = target.packed(file.name) or read(file) or b""
        checksum, rest = data[:32], data[32:]
        return rest[16:] if hashlib.sha256(rest).digest() == checksum else None

    def save(self, args: tuple, payload: bytes) -> None:
        """Keep compiled code for other processes."""
        if self._identity:
            data = target.kernels_id(target.processor()) + payload
            file = self._file(args)
            if write(file, hashlib.sha256(data).digest() + data):
                saved.add(file.name)
