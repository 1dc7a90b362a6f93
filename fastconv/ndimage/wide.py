"""Integers of 64 bits, exact where float64 is not: an image is filtered in two halves of 32 bits.

::

    x = high * 2**32 + low        sum(w * x) = sum(w * high) * 2**32 + sum(w * low)       modulo 2**64

Both sums are whole numbers below 2**53 if the weights are, so float64 has them in any order of additions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..specs.filters import DOUBLE

#: The most that weights may add up to: 2**53 over 2**32, the largest half.
MOST_WEIGHT = 2.0**21
_EXACT = 2.0**53


def is_wide(dtype: np.dtype) -> bool:
    """Whether a dtype has integers that float64 has not."""
    return dtype.kind in "iu" and dtype.itemsize == 8


def needs_halves(x: np.ndarray, out: np.dtype, growth: float, cval: float) -> bool:
    """Whether an image's sums can exceed 2**53, if weights make them at most so many times as large as its elements."""
    if not x.size or not (is_wide(x.dtype) or (is_wide(out) and x.dtype.kind in "biu")):
        return False
    if x.dtype.kind == "b" or cval != math.floor(cval):
        return False
    most = max(abs(int(x.max())), abs(int(x.min())), abs(cval))
    return most * max(growth, 1.0) > _EXACT


def in_halves(
    x: np.ndarray, cval: float, out: np.dtype, size: int, run: Callable[[np.ndarray, float], np.ndarray]
) -> np.ndarray:  # fmt: skip
    """Sums over windows, each divided by `size`; `run` makes those of float64, for an image and what lies outside."""
    high = np.right_shift(x, x.dtype.type(32)).astype(DOUBLE)
    low = np.bitwise_and(x, x.dtype.type(0xFFFFFFFF)).astype(DOUBLE) if x.dtype.itemsize == 8 else None
    if low is None:
        high, low = np.zeros(x.shape), x.astype(DOUBLE)
    outside = math.floor(cval / 2.0**32)
    upper = run(high, float(outside)).astype(np.int64)
    lower = run(low, cval - outside * 2.0**32).astype(np.int64)
    if out.kind == "f":
        return ((upper * 2.0**32 + lower) / size).astype(out)
    if size > 1:
        negative = upper + (lower >> 32) < 0
        upper, rest = np.divmod(upper, size)
        lower, rest = np.divmod((rest << 32) + lower, size)
        lower += negative & (rest != 0)  # a fraction is cut off, towards zero
    return ((upper << 32) + lower).astype(out)
