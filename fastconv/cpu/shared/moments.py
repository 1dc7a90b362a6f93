"""Passes that make means and sums of squared differences from them, of parts of a window: for variances.

Two parts, of n_a and n_b elements, are one (d the difference of their means)::

    n = n_a + n_b        mean = mean_a + d * n_b / n        squares = squares_a + squares_b + d * d * n_a * n_b / n

Nothing is subtracted but means, so a variance is as exact as the differences are, however large the mean is; the usual
mean of squares less the squared mean loses all digits that both share.

Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ..system.kernels import jit
from ..tiles import simd
from .bands import at, put


@lru_cache(maxsize=4)
def zeros(dtype: str) -> Any:
    """A pass: zeros, which are the squares of single elements."""
    nothing = np.dtype(dtype).type(0)

    @jit(key=(dtype,))
    def clear(band, place, offsets, weights, first, taps, to, count):
        for i in range(count):
            put(band, to + i, nothing)

    return clear


@lru_cache(maxsize=8)
def merged(dtype: str, present: bool) -> Any:
    """A pass: two parts of a window are one, the second some elements behind the first.

    At `first`, `offsets` has that distance and the one from means to squares (and from those to counts, if it is told
    what is `present`); `weights` has n_b / n, and then n_a * n_b / n.
    """
    lanes, number = simd.lanes(dtype), np.dtype(dtype).type
    unit = number(1)

    @jit(key=(dtype, present))
    def merge(band, place, offsets, weights, first, taps, to, count):
        offset, apart = at(offsets, 2 * first), at(offsets, 2 * first + 1)
        share, both = simd.splat(at(weights, first)), simd.splat(at(weights, first + 1))
        other, one = place + offset, simd.splat(unit)
        for i in range(0, count, lanes):
            a, b = simd.load(band, place + i), simd.load(band, other + i)
            squares = simd.load(band, place + apart + i) + simd.load(band, other + apart + i)
            if present:
                na, nb = simd.load(band, place + 2 * apart + i), simd.load(band, other + 2 * apart + i)
                n = na + nb
                share = nb / simd.larger(n, one)
                both = na * share
                simd.store(band, to + 2 * apart + i, n)
            between = b - a
            simd.store(band, to + i, simd.fma(between, share, a))
            simd.store(band, to + apart + i, simd.fma(between * between, both, squares))

    return merge


@lru_cache(maxsize=8)
def spread(dtype: str, root: bool, present: bool) -> Any:
    """A pass: variances from sums of squares at `place`, or their square roots.

    `weights` has the elements of a window, how many fewer they count as, and how many must be present; `offsets` the
    distance from squares to counts, if it is told what is present.
    """
    missing = np.dtype(dtype).type(np.nan)

    @jit(key=(dtype, root, present))
    def variances(band, place, offsets, weights, first, taps, to, count):
        elements, fewer, least = at(weights, first), at(weights, first + 1), at(weights, first + 2)
        counts = place + at(offsets, 2 * first)
        for i in range(count):
            if present:
                elements = at(band, counts + i)
            value = at(band, place + i) / (elements - fewer)
            if root:
                value = math.sqrt(value)
            put(band, to + i, missing if elements < least else value)

    return variances
