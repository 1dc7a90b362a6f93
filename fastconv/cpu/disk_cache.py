"""Compiled code on disk.

It is kept under a key of everything it depends on: the source file and those it imports, the versions of Python, NumPy,
Numba and llvmlite, the processor, the signature and Numba's compiler settings. (Numba's own cache looks at one source
file only, and raises where its folder cannot be written.) A file that is missing, damaged or unreadable means compiling
again.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import re
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import caching, compiler, serialize

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


class PackageCache(caching._Cache):
    """Numba's cache interface over one file a compiled function, named by its key, guarded by a checksum."""

    def __init__(self, py_func: Callable, key: tuple, options: dict[str, Any]) -> None:
        settings = tuple(str(getattr(numba.config, name, None)) for name in _SETTINGS)
        self._name = py_func.__name__
        told = _sources_hash(py_func.__code__.co_filename)
        where = (told, py_func.__module__, py_func.__qualname__)
        self._identity = repr((_VERSIONS, settings, where, key, sorted(options.items())))
        self._known = self._enabled = told is not None

    @property
    def cache_path(self) -> str:
        return str(cache_folder())

    def enable(self) -> None:
        self._enabled = self._known

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Nothing is held back."""

    def _file(self, sig: Any, codegen: Any) -> Path:
        key = hashlib.sha256(repr((self._identity, str(sig), codegen.magic_tuple())).encode()).hexdigest()
        return cache_folder() / f"{self._name}-{key[:40]}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        if not self._enabled:
            return None
        try:
            data = read(self._file(sig, target_context.codegen())) or b""
            checksum, payload = data[:32], data[32:]
            if hashlib.sha256(payload).digest() != checksum:
                return None
            return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # whatever is wrong with a cache file, compiling mends it
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._enabled or data.library.has_dynamic_globals or data.lifted:
            return
        payload = serialize.dumps(data._reduce())
        file = self._file(sig, data.codegen)
        write(file, hashlib.sha256(payload).digest() + payload)
