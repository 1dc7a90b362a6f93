"""Reorders images between channels last and channels first: each image is a matrix that is transposed.

::

    out[n, c, p] = x[n, p, c]          p a pixel; the other way round with pixels and channels exchanged

A task transposes some rows by blocks of a vector's lanes each way, so that it writes whole cache lines.

Measured: 56x56 pixels of 64 channels, float32, in 20 us and of 256 channels in 91 us, one core (AMD EPYC, 136 GFLOP/s);
NumPy's copies take 112 us and 1.2 ms.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ...specs.arrays import allocate, kernel_ready
from ..system.kernels import kernel
from ..system.memory import KEPT_BYTES, buffer
from ..tiles import simd
from .interleave import MOVE_OPERATIONS

#: Rows that one task transposes: of each column it writes neighbours, several cache lines of them.
ROWS = 64
#: Fewer rows or columns than this of small elements are left to NumPy, for they leave most of a block empty: three
#: columns of 8 bits took four times as long. (Of float32 NumPy takes as long, or twice.)
FEW, SMALL_BYTES = 8, 2


@kernel
def _transpose_all(x, out, lanes):
    images, rows, columns = x.shape
    shares = (rows + ROWS - 1) // ROWS
    for task in prange(images * shares):
        image, first = task // shares, task % shares * ROWS
        for c in range(0, columns, lanes):
            for r in range(first, min(rows, first + ROWS), lanes):
                at, to = (image * rows + r) * columns + c, (image * columns + c) * rows + r
                simd.transpose(x, at, columns, min(lanes, rows - r), min(lanes, columns - c), out, to, rows)


def transpose(x: np.ndarray, out: np.ndarray) -> None:
    """out[n, c, p] = x[n, p, c]; both arrays are contiguous and have three axes."""
    if x.itemsize <= SMALL_BYTES and min(x.shape[1:]) < FEW:
        out[...] = x.transpose(0, 2, 1)
        return
    bits = np.dtype(f"u{x.itemsize}")  # elements are only moved
    _transpose_all.sized(MOVE_OPERATIONS * x.size)(x.view(bits), out.view(bits), simd.lanes(bits))


def channels_first(x: np.ndarray, dtype: np.dtype, axes: int) -> np.ndarray:
    """Images of so many spatial axes as `kernel_ready` returns them, soon also if channels are last in their memory.

    What is reordered lies in memory that this thread's next call uses again.
    """
    if x.ndim > axes and x.size and not x.flags.c_contiguous:
        moved = x.transpose(*range(x.ndim - axes - 1), *range(x.ndim - axes, x.ndim), x.ndim - axes - 1)
        if moved.flags.c_contiguous:
            pixels, channels = math.prod(moved.shape[-axes - 1 : -1]), moved.shape[-1]
            given = kernel_ready(moved, dtype).reshape(-1, pixels, channels)
            small = given.nbytes <= KEPT_BYTES
            made = buffer("ordered", x.shape, dtype) if small else allocate(x.shape, dtype, "a copy of the input")
            transpose(given, made.reshape(-1, channels, pixels))
            return made
    return kernel_ready(x, dtype)
