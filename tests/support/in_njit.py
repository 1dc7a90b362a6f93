"""Calls of this package compiled in ``@njit`` functions, and what their results may differ by from plain calls."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import fastconv
from fastconv.base.files import cache_folder, read, untrusted, write

fastconv.numba.declare()  # where the package is not installed, nobody else does


#: What `fastconv.numba` has no code of.
OTHERS = {"cpu", "cuda", "dask", "examples", "nn", "tools", "warming"}


@cache
def _folder() -> Path:
    """A folder of functions, and of what Numba compiles of them, for this package as it is and Numba's settings.

    Numba would see neither change: it looks at the file of the function that is called.
    """
    package = Path(fastconv.__file__).parent
    files = [file for file in sorted(package.rglob("*.py")) if file.relative_to(package).parts[0] not in OTHERS]
    settings = [pair for pair in sorted(os.environ.items()) if pair[0].startswith("NUMBA_")]  # as to check bounds
    told = b"\0".join([repr(settings).encode(), *(file.read_bytes() for file in files)])
    folders = cache_folder() / "njit"
    for old in folders.glob("*") if untrusted(folders) is None else ():
        if old.stat().st_mtime < time.time() - 30 * 86_400:
            shutil.rmtree(old, ignore_errors=True)
    return folders / hashlib.sha256(told).hexdigest()[:16]


@cache
def compiled(function: str, given: str, modes: tuple[str, ...], name: str = "mode") -> Callable[..., Any]:
    """A compiled function of `given` arguments and the number of a boundary mode: modes are constants."""
    lines = ["import fastconv", "from fastconv import ndimage", f"def call(number, {given}):"]
    for number, mode in enumerate(modes):
        lines.append(f"    if number == {number}:")
        told = [f"{one}={one}" for one in given.split(", ")]
        lines.append(f"        return {function}({', '.join(told)}, {name}={mode!r})")
    lines.append("    raise ValueError('number')")
    text = "\n".join(lines).encode()
    file = _folder() / f"call_{hashlib.sha256(text).hexdigest()[:16]}.py"
    if read(file) != text and not write(file, text):
        pytest.fail(f"{file} cannot be written: FASTCONV_CACHE_DIR must be a folder of your own")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[file.stem] = module = importlib.util.module_from_spec(spec)  # where Numba looks for it
    spec.loader.exec_module(module)
    return numba.njit(cache=True)(module.call)


def same(result: np.ndarray, expected: np.ndarray, bound: Any = None) -> None:
    """Both have a shape and a dtype, and floats differ at most by the `bound`, or not at all."""
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    if bound is None or expected.dtype.kind != "f":
        np.testing.assert_array_equal(result, expected)
        return
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(result[~finite], expected[~finite])
    assert (np.abs(result[finite].astype(float) - expected[finite]) <= bound[finite]).all()


def refuse(call: str, words: str) -> None:
    """Numba must not compile a call with an image `x` and a kernel `k`, and say `words`."""
    names: dict[str, Any] = {**vars(fastconv), "np": np}
    exec(f"def wrong(x, k):\n    return {call}", names)
    with pytest.raises(TypingError, match=words):
        numba.njit(names["wrong"])(np.ones((6, 7)), np.ones((3, 3)))
