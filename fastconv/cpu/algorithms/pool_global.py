"""Pooling by windows as wide as the image: each is one run of memory, whose vectors are combined.

::

    max:  out[plane, i] = max over r of x[plane, rows(i), :][r]
    avg:  out[plane, i] = (sum over r of x[plane, rows(i), :][r]) / divisor
    lp:   as avg, of the powers of |x| and with the root in the end; of an infinite norm as max, of |x|

What it changes over `rows`: where a window spans all columns, its rows lie in memory one behind the other. The vectors
then run over the whole window instead of its rows (49 elements of 7 x 7 are four vectors, not seven). The vector that a
window leaves is halved to a number, in log2(lanes) steps; a vector of these numbers is divided and stored at once.

Loop order: one task per some windows of a plane, or some planes; within a window four independent sums, so that
additions need not wait for each other. The index of a maximum is found by a second look at its window, which is in the
cache. It wins wherever it can be used: global pooling, and windows over the whole of one axis of a signal.

Sums of more than `simd_pool.PART` vectors are added up in parts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange

from ...specs.pool import PoolSpec
from ..machine import Machine
from ..shared.pooling import Prepared, combine, constants, counts, in_parts, inside, kind, power_cost
from ..system.kernels import jit, kernel
from ..system.threads import num_threads
from ..tiles import simd, simd_pool
from ..tiles.simd_pool import PART

#: Vectors that are summed side by side.
SUMS = 4
#: Most elements that a task combines, unless it has a single window.
TASK = 32768


def supports(spec: PoolSpec) -> str | None:
    left, dilation = spec.padding[1][0], spec.dilation
    if spec.ow != 1 or spec.kw - left < spec.w or (dilation[1] != 1 and spec.w > 1):
        return "only windows that span all columns"
    if dilation[0] != 1 and spec.kh > 1:
        return "only windows of neighbouring rows"
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    lanes, run = simd.lanes(spec.x_dtype), min(spec.kh, spec.h) * spec.w
    power, root = power_cost(spec)
    steps = spec.planes * spec.oh * (8 + run / lanes * (1 + power) + root / lanes)
    moved = spec.x_dtype.itemsize * spec.planes * (spec.h * spec.w + spec.oh)
    return machine.call + (steps * machine.vector + moved / machine.stream) / machine.threads


def scratch(spec: PoolSpec) -> int:
    return 0


@lru_cache(maxsize=1024)
def _prepared(spec: PoolSpec, threads: int, indices: bool) -> Prepared:
    lanes, windows, size = simd.lanes(spec.x_dtype), spec.planes * spec.oh, min(spec.kh, spec.h) * spec.w
    group = max(1, TASK // size)
    if threads > 1:
        group = max(1, min(group, windows // (4 * threads)))
    if group > lanes:
        group -= group % lanes
    sizes = spec.kh, spec.stride[0], spec.padding[0][0], group
    return Prepared(
        loops=_kernel(*kind(spec), indices, in_parts(spec, size // (SUMS * lanes))),
        arguments=(_divisors(spec), constants(spec), np.array(sizes, np.int64)),
        dtype=spec.x_dtype,
        scratch=0,
        work=4.0 * windows * size * spec.x_dtype.itemsize,
    )


def _divisors(spec: PoolSpec) -> np.ndarray:
    """A one, then the divisors of a plane's windows, and a vector more, which may begin at any row of the output."""
    factors = counts(spec)
    if not factors.size:
        return factors
    rows = np.arange(spec.oh + simd.lanes(spec.x_dtype)) % spec.oh
    return np.concatenate([np.ones(1, factors.dtype), factors[rows] * factors[spec.oh]])


_NO_INDICES = np.empty((0, 0, 0), np.int64)


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    _prepared(spec, num_threads(), indices is not None).run(x, out, _NO_INDICES if indices is None else indices)


@jit
def _place(values, at, count, value):
    """The place in a run of the first element that equals `value` or, if that is NaN, of the last NaN."""
    if value == value:
        for k in range(count):
            if values[at + k] == value:
                return k
    for k in range(count - 1, -1, -1):
        if values[at + k] != values[at + k]:
            return k
    return 0


@lru_cache(maxsize=32)
def _kernel(name: str, power: str, with_indices: bool, long: bool) -> Any:
    ops = combine(name, power)
    vectors, finish, fold, each = ops.vectors, ops.finish, simd_pool.fold(name), ops.power
    # The last vector of a window, of which only some lanes are there.
    part = simd_pool.columns(name, 1, True, power, along=True)
    key = (name, power, with_indices, long)
    settings: dict[str, Any] = {"forceinline": True}

    @jit(key=key, **settings)
    def folded(x, at, count, constants, lanes):
        """Combine `count` elements from a flat index on to one value."""
        nothing, norm = constants
        full = count & -lanes  # lanes are a power of two
        zero = simd.splat(nothing)  # of sums
        away = zero, zero
        if full >= 4 * lanes:
            v0, v1, v2, v3 = (
                each(simd.load(x, at), norm),
                each(simd.load(x, at + lanes), norm),
                each(simd.load(x, at + 2 * lanes), norm),
                each(simd.load(x, at + 3 * lanes), norm),
            )
            k = 4 * lanes
            while k + 4 * lanes <= full:
                if long and k % (PART * SUMS * lanes) == 0:
                    away = simd_pool.put_away(away, vectors(vectors(v0, v1), vectors(v2, v3)))
                    v0 = v1 = v2 = v3 = zero
                v0 = vectors(each(simd.load(x, at + k), norm), v0)
                v1 = vectors(each(simd.load(x, at + k + lanes), norm), v1)
                v2 = vectors(each(simd.load(x, at + k + 2 * lanes), norm), v2)
                v3 = vectors(each(simd.load(x, at + k + 3 * lanes), norm), v3)
                k += 4 * lanes
            value = vectors(vectors(v0, v1), vectors(v2, v3))
        else:
            value, k = simd.splat(nothing), 0
        while k < full:
            value = vectors(each(simd.load(x, at + k), norm), value)
            k += lanes
        if long:
            value = simd_pool.put_away(away, value)[0]
        # Where nothing is left, nothing of this is read: faster than a branch.
        (rest,) = part(x, at + full, 0, 1, norm, 0, count - full, nothing)
        return fold(vectors(rest, value))

    @kernel(key=key)
    def _global(x, out, indices, counts, constants, sizes, scratches):
        planes, oh, _ = out.shape
        h, w = x.shape[1:]
        window, stride, top, group = sizes[0], sizes[1], sizes[2], sizes[3]
        windows, lanes = planes * oh, simd_pool.lanes_of(x)
        for index in prange((windows + group - 1) // group):
            begin = index * group
            end, plane, i = min(begin + group, windows), begin // oh, begin % oh
            for number in range(begin, end, lanes):
                some, first, values = min(lanes, end - number), i, simd.splat(constants[0])
                for k in range(some):
                    start = i * stride - top
                    a0, a1 = inside(start, 1, h, window)
                    value = folded(x, (plane * h + start + a0) * w, (a1 - a0) * w, constants, lanes)
                    values = simd_pool.put_lane(values, k, value)
                    i += 1
                    if i == oh:
                        plane, i = plane + 1, 0
                value = finish(values, counts, 0, 1 + first, constants[1])
                if some == lanes:
                    simd.store(out, number, value)
                else:
                    simd.store_part(out, number, value, some)
            if with_indices:
                for number in range(begin, end):
                    plane, i = number // oh, number % oh
                    start = i * stride - top
                    a0, a1 = inside(start, 1, h, window)
                    at, count = (start + a0) * w, (a1 - a0) * w
                    place = _place(x.reshape(-1), plane * h * w + at, count, out[plane, i, 0])
                    indices[plane, i, 0] = at + place

    return _global
