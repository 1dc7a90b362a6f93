"""The element of any rank of large boxes of bytes, at a cost that hardly depends on the window.

::

    out[o, i, j] = the rank-th smallest of x[plane(o, t), row(i + a), pixel(j + b)], t < taps, a < kh, b < kw

Each column has a histogram of the elements that windows of this row see of it: 16 coarse counts, and 16 fine ones for
each of them. From a row to the next a column loses an element and gains one; from a pixel to the next a window loses a
column and gains one: 16 counts at once. Of the fine counts only those are brought up to date that the wanted element
falls into. What it changes over `order_ranked`: its changes do not grow with kh.

Loop order: a task is a block of columns of a band of rows, whose histograms fit the second-level cache. MEASURED

Source: Perreault and Hebert, Median filtering in constant time, 2007.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import prange

from ...specs.windows import Windows
from ..shared.bands import at, put
from ..shared.lines import load_line
from ..system.kernels import Launch, jit, kernel
from ..system.memory import buffer
from ..system.threads import masked_threads
from ..tiles import simd
from ..tiles.bits import BINS, find, minus, plus

#: Bytes of the histograms of a column.
COLUMN = BINS + BINS * BINS
#: Columns of a block: their histograms take half of a 1 MiB second-level cache.
COLUMNS = 1920
#: Least rows of a band: its first row's histograms are made of kh elements a column.
ROWS = 64


def supports(windows: Windows, dtype: np.dtype) -> bool:
    """Whether columns have at most as many elements as a byte counts, and windows as 16 bits do."""
    lines = windows.taps * windows.kh
    return dtype.itemsize == 1 and lines <= 255 and lines * windows.kw < 1 << 16


class Prepared:
    """All that a call needs beside its arrays."""

    __slots__ = ("_arguments", "_launch", "_sizes")

    def __init__(self, windows: Windows, dtype: np.dtype, rank: int, constant: Any) -> None:
        planes, h, length = windows.shape
        step, kh, kw, taps = windows.step, windows.kh, windows.kw, windows.taps
        rim = (kw - 1) * step
        wide = min(length, max(COLUMNS // step * step - rim, rim, step))
        wide = -(-wide // step) * step
        high = min(h, max(ROWS, 4 * kh))
        line = wide + rim + simd.lanes(np.uint8)
        flip = 128 if dtype.kind == "i" else 0
        sizes = [step, kh, kw, windows.left, high, wide, line, rank, flip, simd.lanes(np.uint8)]
        self._arguments = (
            windows.planes, windows.rows, windows.columns, np.array(constant, dtype).view(np.uint8)[()],
            np.array(sizes, np.int64),
        )  # fmt: skip
        self._sizes = taps * (high + kh - 1) * line + (wide + rim) * COLUMN, COLUMN + BINS + 2, BINS
        self._launch = Launch(_columns, 100.0 * planes * h * length)

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """Filter `x` into `out`, both of shape `windows.shape`."""
        threads = masked_threads()
        kinds: tuple[np.dtype, ...] = np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int64)
        scratches = [
            buffer(f"order columns {number}", (threads, size), kind)
            for number, (size, kind) in enumerate(zip(self._sizes, kinds, strict=True))
        ]
        self._launch.call(x.view(np.uint8), out.view(np.uint8), *self._arguments, *scratches)


@jit(forceinline=True)
def change(histograms, column, value, by):
    """Count an element of a column: its fine counts stand behind its coarse ones."""
    here = column * COLUMN
    coarse, fine = here + (value >> 4), here + BINS + value
    put(histograms, coarse, at(histograms, coarse) + by)
    put(histograms, fine, at(histograms, fine) + by)


@kernel
def _columns(x, out, seen, rows, columns, constant, sizes, all_bytes, all_counts, all_ends):
    planes, h, length = out.shape
    step, kh, kw, left, high, wide = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    line, rank, flip, lanes = sizes[6], sizes[7], sizes[8], sizes[9]
    flat, flat_out, taps, rim = simd.flat(x), simd.flat(out), seen.shape[1], (kw - 1) * step
    one, less, none = np.uint8(1), np.uint8(255), np.uint16(0)
    bands, beside = (h + high - 1) // high, (length + wide - 1) // wide
    for job in prange(planes * bands * beside):
        plane, i0, j0 = job // (bands * beside), job // beside % bands * high, job % beside * wide
        height, width = min(high, h - i0), min(wide, length - j0)
        band, counts, end = (all_bytes[numba.get_thread_id()], all_counts[numba.get_thread_id()],
                             all_ends[numba.get_thread_id()])  # fmt: skip
        plane_of_rows = (high + kh - 1) * line
        histograms = band[taps * plane_of_rows :]
        sums = counts[COLUMN:]
        sums[0] = none
        for t in range(taps):
            there = seen[plane, t]
            for r in range(height + kh - 1):
                row = rows[i0 + r]
                start = (there * h + row) * length if there >= 0 and row >= 0 else -1
                load_line(flat, start, length, left, columns, constant, j0, width + rim, band,
                          t * plane_of_rows + r * line, lanes)  # fmt: skip
        for k in range((width + rim) * COLUMN):
            put(histograms, k, np.uint8(0))
        for t in range(taps):
            for r in range(kh - 1):
                for e in range(width + rim):
                    value = np.int64(at(band, t * plane_of_rows + r * line + e)) ^ flip
                    change(histograms, e, value, one)
        for i in range(height):
            for t in range(taps):
                come = t * plane_of_rows + (i + kh - 1) * line
                gone = t * plane_of_rows + (i - 1) * line
                for e in range(width + rim):
                    change(histograms, e, np.int64(at(band, come + e)) ^ flip, one)
                    if i:
                        change(histograms, e, np.int64(at(band, gone + e)) ^ flip, less)
            to = (plane * h + i0 + i) * length + j0
            for channel in range(step):
                for k in range(COLUMN):
                    put(counts, k, none)
                for b in range(kw - 1):
                    plus(counts, 0, histograms, (channel + b * step) * COLUMN)
                for k in range(BINS):
                    end[k] = -kw * step  # the column, of this channel's, that fine counts have come to
                for j in range(channel, width, step):
                    plus(counts, 0, histograms, (j + rim) * COLUMN)
                    coarse = find(counts, 0, rank, sums)
                    wanted = rank - np.int64(at(sums, coarse))
                    fine, last = BINS + coarse * BINS, at(end, coarse)
                    place = BINS + coarse * BINS
                    if j - last >= kw * step:
                        for k in range(BINS):
                            put(counts, fine + k, none)
                        for e in range(j, j + rim + 1, step):
                            plus(counts, fine, histograms, e * COLUMN + place)
                    else:
                        for e in range(last, j, step):
                            minus(counts, fine, histograms, e * COLUMN + place)
                            plus(counts, fine, histograms, (e + rim + step) * COLUMN + place)
                    put(end, coarse, j)
                    value = coarse * BINS + find(counts, fine, wanted, sums)
                    put(flat_out, to + j, np.uint8(value ^ flip))
                    minus(counts, 0, histograms, j * COLUMN)
