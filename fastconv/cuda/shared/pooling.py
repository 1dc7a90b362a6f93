"""Code that the pooling kernels share: the layout of a block's threads, the dtype that is computed in, and the step
from a sum to a mean."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ..system.kernels import device_function, pick
from ..system.streams import Tensor

#: Norms of Lp pooling whose powers need no function: the sum (1) and the Euclidean norm (2).
NORMS = (1.0, 2.0)
#: Threads of a block across, down and deep; the first for many lanes across, the last for few.
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
