"""Calls of this package compiled in ``@njit`` functions, and what their results may differ by from plain calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import fastconv
from fastconv import ndimage

fastconv.numba.declare()  # where the package is not installed, nobody else does


def rims(function: str, given: str, modes: tuple[str, ...] | list[str], name: str = "mode") -> Callable[..., Any]:
    """A compiled function of `given` arguments and the number of a boundary mode: modes are constants."""
    lines = [f"def call(number, {given}):"]
    for number, mode in enumerate(modes):
        lines.append(f"    if number == {number}:")
        told = [f"{one}={one}" for one in given.split(", ")]
        lines.append(f"        return {function}({', '.join(told)}, {name}={mode!r})")
    names: dict[str, Any] = {"fastconv": fastconv, "ndimage": ndimage}
    exec("\n".join([*lines, "    raise ValueError('number')"]), names)
    return numba.njit(names["call"])


compiled = lru_cache(maxsize=None)(rims)


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
