"""Maxima or minima of windows that are boxes of rows and columns, at a cost that hardly depends on the window.

::

    out[o, i, j] = op over a < kh, b < kw of x[o, row(i + a), pixel(j + b)]              (row, pixel: `specs.windows`)

    across:  level[s * 4][col] = op of level[s][col + m * s], m < 4                      level[1] = an extended row of x
             band[row][j] = op of the few levels' elements that together cover the kw pixels of window j
    down:    out[i][j] = op of core[j], band[i][j];   out[i + 1][j] = op of core[j], band[i + kh][j]         low windows
             out[i][j] = op of rest[i][j], run[i + kh - 1][j]                                              higher ones

    where core = op over the rows that two neighbouring windows share, rest[row] = op over rows from `row` to the end of
    its block of kh rows, run[row] = op over those from the start of its block to `row`

Across, windows quadruple, as in `pool_running`: a maximum may cover a pixel twice. Down, pairs of rows share all but
two of their operations; from `LOW` rows on that is slower than the method of van Herk and of Gil and Werman, which
takes three operations whatever the window. What it changes over `pool_running`: the image's surroundings are those of
any boundary mode, as rows are extended while they are copied to where vectors are read from any pixel on; sums down
are walked in registers, vector by vector, not row by row.

Loop order: a task is a block of columns of a band of rows, which fits the second-level cache; its rows across, then the
band down. 1080x1920 uint8, one core of an AMD EPYC 9005: MEASURED.

Source: van Herk, A fast algorithm for local minimum and maximum filters, 1992; Gil and Werman, Computing 2-D min,
median and max filters, 1993.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange

from ...specs.windows import Windows
from ..shared.bands import at as element
from ..shared.lines import load_line, store_vector
from ..shared.pooling import Prepared
from ..system.kernels import jit, kernel
from ..tiles import simd

#: Windows of a level that make one of the next.
RADIX = 4
#: Pixels of windows from which levels take less time than all pixels one after the other.
WIDE = 6
#: Rows of windows from which blocks with running maxima take less time than pairs of rows.
LOW = 8
#: Rows that are extended together, before the first of them is read: a vector that is read right after a part of it was
#: written waits for memory.
TOGETHER = 8
#: Rows of a band of low windows, those of before make place for: at least `TOGETHER` and `LOW` - 1, a power of two.
RING = 16
#: Bytes of such a band: two thirds of a 48 KiB first-level cache.
RING_BYTES = 32 << 10
#: Bytes of a band of higher windows: a third of a 1 MiB second-level cache.
BAND_BYTES = 320 << 10
#: Rows of output of a band, if not limited by its bytes: the kh - 1 rows that two bands see cost little then.
BAND_ROWS = 64


def _ladder(kw: int, step: int) -> tuple[int, list[tuple[int, int]]]:
    """The number of levels, and the (level, first element) of the windows that together cover `kw` pixels."""
    size, level = 1, 0
    while kw >= WIDE and size * RADIX <= kw:
        size, level = size * RADIX, level + 1
    return level, [(level, min(at, kw - size) * step) for at in range(0, kw, size)]


def prepared(windows: Windows, dtype: np.dtype, name: str, constant: Any) -> Prepared:
    """All that a call of the windows' maxima or minima needs beside its arrays, of shape `windows.shape`."""
    planes, h, length = windows.shape
    lanes, step, kh, kw = simd.lanes(dtype), windows.step, windows.kh, windows.kw
    rim = (kw - 1) * step
    rows = min(h, max(BAND_ROWS, 2 * kh)) if kh > 1 else min(h, BAND_ROWS)
    kept = RING if kh < LOW else rows + kh
    most = max(4 * lanes, 4 * rim, (RING_BYTES if kh < LOW else BAND_BYTES) // dtype.itemsize // kept)
    blocks = -(-length // most)
    columns = min(length, -(-length // blocks // lanes) * lanes)
    levels, terms = _ladder(kw, step)
    pitch = -(-(columns + rim) // lanes) * lanes + 2 * lanes
    line = -(-columns // (2 * lanes)) * 2 * lanes + lanes  # an odd number of vectors: rows fall into different sets
    margin = -(-2 * rim // lanes) * lanes + 5 * lanes
    offsets = np.array([level * pitch + at for level, at in terms], np.int64)
    sizes = [step, kh, rim, windows.left, rows, columns, pitch, line, levels, lanes, margin]
    return Prepared(
        loops=_kernel(name),
        arguments=(windows.rows, windows.columns, offsets, dtype.type(constant), np.array(sizes, np.int64)),
        dtype=dtype,
        scratch=(levels + 1) * pitch + 2 * TOGETHER * margin + kept * line,
        work=16.0 * dtype.itemsize * planes * h * length,
    )


@lru_cache(maxsize=2)
def _kernel(name: str) -> Any:
    op = {"max": simd.larger, "min": simd.smaller}[name]

    @jit(key=(name,), forceinline=True)
    def first_level(source, at, begin, end, distance, level, pitch, lanes):
        """Windows of `RADIX` elements of a row that stands at ``source[at:]``, from `begin` to before `end`; the last
        vector ends there, if there are so many."""
        q = begin
        last = max(begin, end - lanes)
        while q < end:
            q = min(q, last)
            first = op(simd.load(source, at + q + distance), simd.load(source, at + q))
            second = op(simd.load(source, at + q + 3 * distance), simd.load(source, at + q + 2 * distance))
            simd.store(level, pitch + q, op(second, first))
            q += lanes

    @jit(key=(name,), forceinline=True)
    def covered(source, at, begin, end, terms, band, to, lanes):
        """Windows that are made of a few others, as `first_level`; four vectors for each look at a term, if there are
        so many."""
        q, turns = begin, terms.size
        last = end - 4 * lanes
        if last >= begin:
            while q < end:
                q = min(q, last)
                here = at + q + element(terms, 0)
                one, two = simd.load(source, here), simd.load(source, here + lanes)
                three, four = simd.load(source, here + 2 * lanes), simd.load(source, here + 3 * lanes)
                for t in range(1, turns):
                    here = at + q + element(terms, t)
                    one, two = op(simd.load(source, here), one), op(simd.load(source, here + lanes), two)
                    three = op(simd.load(source, here + 2 * lanes), three)
                    four = op(simd.load(source, here + 3 * lanes), four)
                simd.store(band, to + q, one)
                simd.store(band, to + q + lanes, two)
                simd.store(band, to + q + 2 * lanes, three)
                simd.store(band, to + q + 3 * lanes, four)
                q += 4 * lanes
            return
        last = max(begin, end - lanes)
        while q < end:
            q = min(q, last)
            one = simd.load(source, at + q + element(terms, 0))
            for t in range(1, turns):
                one = op(simd.load(source, at + q + element(terms, t)), one)
            simd.store(band, to + q, one)
            q += lanes

    @jit(key=(name,), forceinline=True)
    def higher_levels(level, there, distance, pitch, levels, lanes):
        """Windows of RADIX**2 elements, and so on."""
        at = pitch
        for _ in range(1, levels):
            distance *= RADIX
            there -= (RADIX - 1) * distance
            first_level(level, at, 0, there, distance, level, at + pitch, lanes)
            at += pitch

    @jit(key=(name,), forceinline=True)
    def pairs(band, line, done, rows, kh, count, out, at, length, lanes):
        """Down a band, from row `done` on: two rows of windows together."""
        for i in range(done, rows, 2):
            first, last = (i & RING - 1) * line, (i + kh & RING - 1) * line
            q = 0
            while q < count:
                here = (i + 1 & RING - 1) * line + q
                core, more = simd.load(band, here), simd.load(band, here + lanes)
                for k in range(2, kh):
                    here = (i + k & RING - 1) * line + q
                    core, more = op(simd.load(band, here), core), op(simd.load(band, here + lanes), more)
                there, to = count - q, at + i * length + q
                store_vector(out, to, op(simd.load(band, first + q), core), there, lanes)
                store_vector(out, to + lanes, op(simd.load(band, first + q + lanes), more), there - lanes, lanes)
                if i + 1 < rows:
                    store_vector(out, to + length, op(simd.load(band, last + q), core), there, lanes)
                    more = op(simd.load(band, last + q + lanes), more)
                    store_vector(out, to + length + lanes, more, there - lanes, lanes)
                q += 2 * lanes

    @jit(key=(name,), forceinline=True)
    def blocks(band, line, rows, kh, count, out, at, length, lanes):
        """Down a band: by running maxima of blocks of rows. The band's own rows become those of `rest`."""
        for q in range(0, count, 2 * lanes):
            there = count - q
            for top in range(0, rows, kh):
                here = (top + kh - 1) * line + q
                rest, more = simd.load(band, here), simd.load(band, here + lanes)
                for r in range(top + kh - 2, top - 1, -1):
                    here = r * line + q
                    rest, more = op(simd.load(band, here), rest), op(simd.load(band, here + lanes), more)
                    simd.store(band, here, rest)
                    simd.store(band, here + lanes, more)
                to = at + top * length + q
                store_vector(out, to, rest, there, lanes)
                store_vector(out, to + lanes, more, there - lanes, lanes)
                here = (top + kh) * line + q
                run, other = simd.load(band, here), simd.load(band, here + lanes)
                for i in range(top + 1, min(top + kh, rows)):
                    here = i * line + q
                    to += length
                    store_vector(out, to, op(simd.load(band, here), run), there, lanes)
                    store_vector(out, to + lanes, op(simd.load(band, here + lanes), other), there - lanes, lanes)
                    here += kh * line
                    run, other = op(simd.load(band, here), run), op(simd.load(band, here + lanes), other)

    @kernel(key=(name,))
    def _running(x, out, rows, columns, terms, constant, sizes, scratches):
        planes, h, length = out.shape
        step, kh, rim, left, high, wide = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        pitch, line, levels, lanes, margin = sizes[6], sizes[7], sizes[8], sizes[9], sizes[10]
        flat = simd.flat(x)
        bands, beside = (h + high - 1) // high, (length + wide - 1) // wide
        reach = (RADIX - 1) * step if levels else rim
        kept = RING - 1 if kh < LOW else -1
        for job in prange(planes * bands * beside):
            plane, i0, j0 = job // (bands * beside), job // beside % bands * high, job % beside * wide
            height, count = min(high, h - i0), min(wide, length - j0)
            total, to = height + kh - 1, (plane * h + i0) * length + j0
            level = scratches[numba.get_thread_id()]
            margins = level[(levels + 1) * pitch :]
            band = margins[2 * TOGETHER * margin :]
            # What only elements of the row are needed for is made of them in place: from `low` to before `top`. The
            # margins have more elements than are needed, so that they are copied as vectors.
            there = count + rim - reach
            low = max(0, (left - j0 + lanes - 1) // lanes * lanes)
            top, done = min(there, left + length - j0 - reach), 0
            if top - low < lanes:
                low = top = there
            before, behind = min(low + max(reach, lanes), count + rim), min(top, lanes)
            for r0 in range(0, total, TOGETHER):
                end = min(total, r0 + TOGETHER)
                if rim:
                    for r in range(r0, end):
                        row = rows[i0 + r]
                        start, near = (plane * h + row) * length, 2 * (r - r0) * margin
                        if row >= 0 and low > 0:
                            load_line(flat, start, length, left, columns, constant, j0, before, margins, near, lanes)
                        if row >= 0 and top < there:
                            load_line(flat, start, length, left, columns, constant, j0 + top - behind,
                                      count + rim - top + behind, margins, near + margin, lanes)  # fmt: skip
                for r in range(r0, end):
                    row, goal = rows[i0 + r], (r & kept) * line
                    start, near = (plane * h + row) * length, 2 * (r - r0) * margin
                    if row < 0 or rim == 0:
                        start = start if row >= 0 else -1
                        load_line(flat, start, length, left, columns, constant, j0, count, band, goal, lanes)
                        continue
                    here, far = start + j0 - left, near + margin - top + behind
                    if levels == 0:
                        covered(margins, near, 0, low, terms, band, goal, lanes)
                        covered(flat, here, low, top, terms, band, goal, lanes)
                        covered(margins, far, top, there, terms, band, goal, lanes)
                    else:
                        first_level(margins, near, 0, low, step, level, pitch, lanes)
                        first_level(flat, here, low, top, step, level, pitch, lanes)
                        first_level(margins, far, top, there, step, level, pitch, lanes)
                        higher_levels(level, there, step, pitch, levels, lanes)
                        covered(level, 0, 0, count, terms, band, goal, lanes)
                if kh >= LOW:
                    continue
                ready = max(0, end - kh + 1)
                if end < total:
                    ready -= ready & 1
                if kh > 1:
                    pairs(band, line, done, ready, kh, count, out, to, length, lanes)
                else:
                    for r in range(r0, end):
                        q, goal = 0, (r & kept) * line
                        while q < count:
                            store_vector(out, to + r * length + q, simd.load(band, goal + q), count - q, lanes)
                            q += lanes
                done = ready
            if kh >= LOW:
                blocks(band, line, height, kh, count, out, to, length, lanes)

    return _running
