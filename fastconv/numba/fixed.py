"""Correlation of images with windows of one shape, a constant: `fastconv.numba.correlate`.

::

    out[i, j] = sum over a, b of weights[a, b] * image[i - before + a, j - left + b]

What it changes over `correlations.correlate`: the products of `ROWS` neighbouring rows of the output are written out,
tap by tap, in a loop along a row. The compiler makes vectors of the loop; a pixel, once loaded, is multiplied for all
rows that see it, and sums stay in registers. A tile reads a band, a few extended rows of a block of columns, in which
rows begin a constant number of elements apart, so that the compiler knows that nothing it reads is written.

Loops: bands of `BAND` rows, blocks of `COLUMNS` columns, tiles, columns. No sum is longer than `PART` products, and
these sums are added up.

One core of an AMD EPYC 9005, 512 x 512, float32: 3x3 in 0.05 ms, 9x9 in 0.25 (plain calls in 0.09 and 0.28).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload

from ..base.values import shown
from ..ndimage import arguments
from .parts import OPTIONS, fused_part, part
from .windows import CODES, fill, inside

#: Rows of the output that share what they load: sums, parts of sums, and a pixel are in 9 of 32 registers, or in 18
#: where the compiler takes two vectors at once.
ROWS = 4
#: Rows of a band: of a window of 9, a fifth of them are read twice.
BAND = 32
#: Columns of a block: the rows that a tile sees of a window of 9 x 9, 12 of them, lie in the first-level cache.
COLUMNS = 512
#: Products that are added up before the sum is added to others: with so many a sum has at most 26 roundings, as many as
#: those of a plain call (`specs.filters.ROUNDINGS`).
PART = 13
#: Most elements of a window: the compiler takes a second for each 40 of them.
MOST = PART * PART


@lru_cache(maxsize=256)
def tile(high: int, wide: int, pitch: int) -> Callable:
    """The compiled function ``(band, weights, sums, count)``: sums of `ROWS` rows, `COLUMNS` apart, of which so many
    columns are computed."""
    lines = ["def tile(band, weights, sums, count):"]
    lines += [f"    w{a}_{b} = weights[{a * wide + b}]" for a in range(high) for b in range(wide)]
    lines.append("    for j in range(count):")
    for seen in range(ROWS + high - 1):
        rows = [row for row in range(ROWS) if 0 <= seen - row < high]
        for b in range(wide):
            lines.append(f"        x = band[j + {seen * pitch + b}]")
            for row in rows:
                a, t = seen - row, (seen - row) * wide + b
                lines.append(f"        p{row} {'+=' if t % PART else '='} w{a}_{b} * x")
                if (t + 1) % PART == 0 or t + 1 == high * wide:
                    lines.append(f"        s{row} {'=' if t < PART else '+='} p{row}")
    lines += [f"        sums[j + {row * COLUMNS}] = s{row}" for row in range(ROWS)]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    return fused_part(names["tile"])


@part
def load(image, band, pitch, row, column, rows, columns, mode, cval):
    """Write rows and columns of an image, extended, to a band."""
    high, wide = image.shape
    low = min(max(-column, 0), columns)
    end = max(min(wide - column, columns), low)
    for r in range(rows):
        source, to = inside(mode, row + r, high), r * pitch
        if source < 0:
            fill(band, to, columns, cval)
            continue
        line = image[source]
        given, target = line[column + low : column + end], band[to + low : to + end]
        for k in range(end - low):
            target[k] = given[k]
        for rim in range(low + columns - end):
            k = rim if rim < low else end + rim - low
            place = inside(mode, column + k, wide)
            band[to + k] = line[place] if place >= 0 else cval


def checked(array, kind):
    """An argument as it is, if it is an image of this dtype."""
    raise NotImplementedError  # only compiled code calls it


@overload(checked, jit_options=OPTIONS)
def _checked(array, kind):
    if not isinstance(array, types.Array) or array.ndim != 2 or array.dtype != kind.dtype:
        raise TypingError(f"input and weights must be arrays of 2 axes of {kind.dtype}, got {array}")
    return lambda array, kind: array


def made(kernel_shape: Any, dtype: Any, mode: Any, cval: Any, origin: Any) -> Callable[..., Any]:
    """The function of `fastconv.numba.correlate`, of checked arguments."""
    try:
        high, wide = (operator.index(size) for size in kernel_shape)
    except (TypeError, ValueError):
        raise TypeError(f"kernel_shape must be a pair of integers, got {shown(kernel_shape)}") from None
    if min(high, wide) < 1 or high * wide > MOST:
        raise ValueError(f"kernel_shape must have from 1 to {MOST} elements, got {shown(kernel_shape)}")
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be float32 or float64, got {shown(dtype)}") from None
    if kind not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {kind}")
    origins = arguments.per_axis("origin", origin, 2)
    top, left = (arguments.before(size, one) for size, one in zip((high, wide), origins, strict=True))
    return _function(high, wide, kind, CODES[arguments.mode(mode)], arguments.fill_value(cval), top, left)


@lru_cache(maxsize=256)
def _function(high: int, wide: int, dtype: np.dtype, mode: int, cval: float, top: int, left: int) -> Callable:
    pitch, kind = COLUMNS + 16 * -(-wide // 16), dtype.type
    sums_of_tile = tile(high, wide, pitch)

    @numba.njit(error_model="numpy")
    def correlate(input, weights):
        image, window, outside = checked(input, kind), checked(weights, kind), kind(cval)
        if window.shape[0] != high or window.shape[1] != wide:
            raise ValueError("weights must have the shape kernel_shape")
        rows, columns = image.shape
        out, taps = np.empty((rows, columns), kind), np.empty(high * wide, kind)
        for a in range(high):
            for b in range(wide):
                taps[a * wide + b] = window[a, b]
        band, sums = np.zeros((BAND + high - 1) * pitch, kind), np.empty(ROWS * COLUMNS, kind)
        for row in range(0, rows, BAND):
            for column in range(0, columns, COLUMNS):
                deep, count = min(BAND, rows - row), min(COLUMNS, columns - column)
                load(image, band, pitch, row - top, column - left, deep + high - 1, count + wide - 1, mode, outside)
                for i in range(0, deep, ROWS):
                    sums_of_tile(band[i * pitch :], taps, sums, count)
                    for r in range(min(ROWS, deep - i)):
                        line, found = out[row + i + r, column : column + count], sums[r * COLUMNS :]
                        for j in range(count):
                            line[j] = found[j]
        return out

    return correlate

