"""Code that the pooling kernels share: the layout of a block's threads, the dtype that is computed in, and the step
from a sum to a mean."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ...specs.pool import PoolSpec
from ..system.kernels import device_function, pick
from ..system.streams import Tensor

#: Norms of Lp pooling whose powers need no function: the sum of magnitudes, the Euclidean norm, the largest magnitude.
NORMS = (1.0, 2.0, math.inf)
#: Threads of a block across, down and deep, by how many lanes there are to share out.
BLOCKS: tuple[tuple[int, int, int], ...] = ((32, 4, 1), (16, 4, 2), (8, 4, 4))
if pick(0, 1):
    BLOCKS = ((4, 2, 1), (2, 2, 2))


def block_shape(lanes: int) -> tuple[int, int, int]:
    """The widest block of which at least half is used by so many lanes across."""
    for block in BLOCKS[:-1]:
        if lanes > block[0] // 2:
            return block
    return BLOCKS[-1]


def lanes_last(x: Tensor) -> bool:
    """Whether neighbouring threads should have neighbouring channels: if these lie together, and columns do not."""
    return x.strides[1] == 1 and x.shape[1] > 1 and x.strides[3] != 1


#: Additions of a thread from which on it keeps what rounding takes from its sum.
LONG = pick(256, 4)


@cache
def plus(long: bool, dtype: np.dtype) -> Any:
    """The function that adds to a total: the total, and of a `long` sum what rounding took from it (Kahan, 1965)."""
    number = dtype.type
    infinite = number(np.inf if dtype.kind == "f" else 0)

    @device_function
    def added(total, lost, value):
        if not long:
            return number(total + value), lost
        part = number(value - lost)
        grown = number(total + part)
        if not abs(grown) < infinite:
            return grown, number(0)
        return grown, number(number(grown - total) - part)

    return added


#: Operations whose outputs are elements of their windows.
PICKS = ("max", "min")


@cache
def above(op: str) -> Any:
    """The function that tells whether of two elements the first is the "max", or the "min", and not the second, too."""

    @device_function
    def first(a, b):
        return a < b if op == "min" else a > b

    return first


def nothing(op: str, dtype: np.dtype) -> np.generic:
    """The value that loses against every other, or adds nothing to a sum."""
    if op in ("avg", "lp"):
        return dtype.type(0)
    if op not in PICKS:
        raise ValueError(f"there is no way to combine elements by {op!r}")
    if dtype.kind == "f":
        return dtype.type(np.inf if op == "min" else -np.inf)
    return dtype.type(np.iinfo(dtype).max if op == "min" else np.iinfo(dtype).min)


@cache
def power(norm: float, dtype: np.dtype) -> Any:
    """The function that makes an element what is combined; `norm` is one of `NORMS`, or 0 for the element itself."""
    number = dtype.type

    @device_function
    def to_power(value):
        if norm == 2.0:
            return number(value * value)
        return value if norm == 0.0 else abs(value)

    return to_power


def reduction(spec: PoolSpec) -> tuple[str, float]:
    """How a window is combined, as an operation, and the `power` of its elements."""
    if spec.op == "lp" and spec.norm == math.inf:
        return "max", math.inf
    return spec.op, spec.norm if spec.op == "lp" else 0.0


@cache
def finish(norm: float, dtype: np.dtype) -> Any:
    """Make the function that turns the sum of a window into its mean or its norm; `norm` is 0 for a mean."""
    number = dtype.type

    @device_function
    def touched(start, dilation, size, taps):
        return min(taps, (size - 1 - start) // dilation + 1) - max(0, -(start // dilation))

    @device_function
    def finished(total, top, left, window, dilation, before, counted, whole, divisor):
        area = number(window[0]) * number(window[1])
        count = number(divisor)
        if divisor == 0:
            count = area
            if not whole:
                rows = touched(top + before[0], dilation[0], before[0] + counted[0], window[0])
                cols = touched(left + before[1], dilation[1], before[1] + counted[1], window[1])
                count = number(rows) * number(cols)
        mean = number(total / count)
        if norm == 0.0:
            return mean
        # If the divisor is the window's area, the result is the sum; dividing first would only round it.
        power = total if count == area else number(mean * area)
        return number(math.sqrt(power)) if norm == 2.0 else power

    return finished
