"""Maxima or minima of windows of any form, flat or not.

::

    out[o, i, j] = op over (t, a, b) in the footprint of x[plane(o, t), row(i + a), pixel(j + b)] + height[t, a, b]

Without heights the runs of a footprint are maxima of fewer elements: level m has those of 2**m neighbours, and two of
them, which may overlap, are a run of any length. So a disk of radius r takes 4 r + 2 operations, not pi r**2. What it
changes over `order_running`: the form is any, and the work grows with the number of runs.

Loop order: a task is a block of columns of a band of rows; its levels, then for each two vectors of results all taps.
MEASURED
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange

from ...specs.windows import Windows, runs
from ..shared.bands import at
from ..shared.lines import load_line, store_vector
from ..shared.pooling import Prepared
from ..system.kernels import kernel
from ..tiles import simd

#: Bytes of a band with its levels: a third of a 1 MiB second-level cache.
BAND_BYTES = 320 << 10
#: Rows of results of a band, if its bytes allow.
BAND_ROWS = 32


def prepared(
    windows: Windows, footprint: np.ndarray, heights: np.ndarray | None, dtype: np.dtype, name: str, constant: Any
) -> Prepared:
    """All that a call needs beside its arrays, of shape `windows.shape`. Footprint and heights have the axes taps,
    rows, pixels; heights are added to what is in the footprint."""
    planes, h, length = windows.shape
    lanes, step, kh, taps = simd.lanes(dtype), windows.step, windows.kh, windows.taps
    rim = (windows.kw - 1) * step
    if heights is None:
        parts = runs(footprint)
        levels = max(count for *_, count in parts).bit_length() - 1
    else:
        parts = [(t, a, b, 1) for t, a, b in np.argwhere(footprint).tolist()]
        levels = 0
    lines = taps * (levels + 1)
    rows = min(h, max(4, min(BAND_ROWS, BAND_BYTES // dtype.itemsize // lines // (8 * lanes + rim) - kh + 1)))
    most = max(8 * lanes, rim, BAND_BYTES // dtype.itemsize // (lines * (rows + kh - 1)))
    blocks = -(-length // most)
    columns = min(length, -(-length // blocks // lanes) * lanes)
    line = -(-(columns + rim) // (2 * lanes)) * 2 * lanes + lanes
    high = rows + kh - 1
    size = taps * high * line
    offsets, added = [], []
    for t, a, b, count in parts:
        level = count.bit_length() - 1
        for first in {b, b + count - (1 << level)}:
            offsets.append(level * size + (t * high + a) * line + first * step)
            added.append(0 if heights is None else heights[t, a, b])
    sizes = [step, kh, rim, windows.left, rows, columns, line, size, levels, lanes]
    return Prepared(
        loops=_kernel(name, heights is not None),
        arguments=(
            windows.planes, windows.rows, windows.columns, np.array(offsets, np.int64),
            np.array(added if heights is not None else [0], dtype), dtype.type(constant), np.array(sizes, np.int64),
        ),
        dtype=dtype,
        scratch=(levels + 1) * size + 3 * lanes,
        work=8.0 * dtype.itemsize * planes * h * length * len(offsets),
    )  # fmt: skip


@lru_cache(maxsize=4)
def _kernel(name: str, with_heights: bool) -> Any:
    op = {"max": simd.larger, "min": simd.smaller}[name]

    @kernel(key=(name, with_heights))
    def _taps(x, out, seen, rows, columns, offsets, heights, constant, sizes, scratches):
        planes, h, length = out.shape
        step, kh, rim, left, high, wide = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        line, size, levels, lanes = sizes[6], sizes[7], sizes[8], sizes[9]
        flat, taps, count_of_taps = simd.flat(x), seen.shape[1], offsets.size
        bands, beside = (h + high - 1) // high, (length + wide - 1) // wide
        for job in prange(planes * bands * beside):
            plane, i0, j0 = job // (bands * beside), job // beside % bands * high, job % beside * wide
            height, count = min(high, h - i0), min(wide, length - j0)
            band = scratches[numba.get_thread_id()]
            for t in range(taps):
                there = seen[plane, t]
                for r in range(height + kh - 1):
                    row = rows[i0 + r]
                    start = (there * h + row) * length if there >= 0 and row >= 0 else -1
                    to = (t * (high + kh - 1) + r) * line
                    load_line(flat, start, length, left, columns, constant, j0, count + rim, band, to, lanes)
                    distance = step
                    for _ in range(levels):
                        for q in range(to, to + count + rim, lanes):
                            value = op(simd.load(band, q + distance), simd.load(band, q))
                            simd.store(band, q + size, value)
                        to, distance = to + size, 2 * distance
            for i in range(height):
                to = (plane * h + i0 + i) * length + j0
                for q in range(0, count, 2 * lanes):
                    here = i * line + q
                    one, two = simd.load(band, here + at(offsets, 0)), simd.load(band, here + at(offsets, 0) + lanes)
                    if with_heights:
                        one, two = one + simd.splat(at(heights, 0)), two + simd.splat(at(heights, 0))
                    for t in range(1, count_of_taps):
                        near = simd.load(band, here + at(offsets, t))
                        far = simd.load(band, here + at(offsets, t) + lanes)
                        if with_heights:
                            more = simd.splat(at(heights, t))
                            near, far = near + more, far + more
                        one, two = op(near, one), op(far, two)
                    store_vector(out, to + q, one, count - q, lanes)
                    store_vector(out, to + q + lanes, two, count - q - lanes, lanes)

    return _taps
