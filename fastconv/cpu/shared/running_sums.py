"""A pass that sums up windows along rows, at a cost that does not depend on their size.

::

    suffix[j] = x[b*k + j] + ... + x[b*k + k-1]         prefix[j] = x[(b+1)*k] + ... + x[(b+1)*k + j-1]
    sum[b*k + j] = suffix[j] + prefix[j]                 for blocks b of k rows, and j < k

A window of k rows is the end of one block and the beginning of the next, so three additions a row make it. Nothing is
subtracted: neither NaN nor rounding errors leave the windows that see them, which they do in a running sum. Sums are
added up in parts of `PART` rows, so that errors grow with the parts, not with the rows.

Loops: a strip of vectors, blocks downwards; in each up its rows for suffixes, which stay in the first-level cache, and
down the rows of the next one.

Source: van Herk, A fast algorithm for local minimum and maximum filters, 1992, with sums for maxima.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..system.kernels import jit
from ..tiles import simd
from ..tiles.elements import at

#: Vectors of a strip: as many sums as wait for one another.
STRIP = 4
#: Fewer taps are added up for each window.
FEWEST = 6
#: Rows whose elements are added up before they are added to a sum.
PART = 8


@lru_cache(maxsize=4)
def windows_of_rows(dtype: str) -> Any:
    """A pass: sums over `taps` rows, each element times the weight at `first`.

    From ``2 * first`` on, `offsets` has the pitch, and where there is room for the suffixes of a strip.
    """
    lanes = simd.lanes(dtype)
    step = STRIP * lanes
    two, three, nothing = 2 * lanes, 3 * lanes, np.dtype(dtype).type(0)

    @jit(key=(dtype,))
    def sum_up(band, place, offsets, weights, first, taps, to, count):
        pitch, room, scale = at(offsets, 2 * first), at(offsets, 2 * first + 1), simd.splat(at(weights, first))
        zero = simd.splat(nothing)
        rows = count // pitch
        for strip in range(0, pitch, step):
            i = min(strip, pitch - step)  # the last strip makes some again, not those of the next row
            for block in range(0, rows, taps):
                begin = place + block * pitch + i
                a = b = c = d = zero
                for done in range(0, taps, PART):
                    e = f = g = h = zero
                    for number in range(done, min(done + PART, taps)):
                        j = taps - 1 - number
                        source, goal = begin + j * pitch, room + j * step
                        e = simd.fma(simd.load(band, source), scale, e)
                        f = simd.fma(simd.load(band, source + lanes), scale, f)
                        g = simd.fma(simd.load(band, source + two), scale, g)
                        h = simd.fma(simd.load(band, source + three), scale, h)
                        simd.store(band, goal, a + e)
                        simd.store(band, goal + lanes, b + f)
                        simd.store(band, goal + two, c + g)
                        simd.store(band, goal + three, d + h)
                    a, b, c, d = a + e, b + f, c + g, d + h
                goal = to + block * pitch + i
                simd.store(band, goal, a)
                simd.store(band, goal + lanes, b)
                simd.store(band, goal + two, c)
                simd.store(band, goal + three, d)
                a = b = c = d = zero
                begin += (taps - 1) * pitch
                high = min(taps, rows - block)
                for lowest in range(1, high, PART):
                    e = f = g = h = zero
                    for j in range(lowest, min(lowest + PART, high)):
                        source, suffix, goal = begin + j * pitch, room + j * step, to + (block + j) * pitch + i
                        e = simd.fma(simd.load(band, source), scale, e)
                        f = simd.fma(simd.load(band, source + lanes), scale, f)
                        g = simd.fma(simd.load(band, source + two), scale, g)
                        h = simd.fma(simd.load(band, source + three), scale, h)
                        simd.store(band, goal, simd.load(band, suffix) + (a + e))
                        simd.store(band, goal + lanes, simd.load(band, suffix + lanes) + (b + f))
                        simd.store(band, goal + two, simd.load(band, suffix + two) + (c + g))
                        simd.store(band, goal + three, simd.load(band, suffix + three) + (d + h))
                    a, b, c, d = a + e, b + f, c + g, d + h

    return sum_up
