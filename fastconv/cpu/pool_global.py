"""Pooling by windows as wide as the image: each is one run of memory, which is folded up.

::

    max:  out[plane, i] = max over r of x[plane, rows(i), :][r]
    avg:  out[plane, i] = (sum over r of x[plane, rows(i), :][r]) / divisor
    lp:   as avg, of the powers of x and with the root in the end

What it changes over `rows`: where a window spans all columns, its rows lie in memory one behind the other. The vectors
then run over the whole window instead of its rows (49 elements of 7 x 7 are four vectors, not seven), and only one
vector a window is folded to a number, in log2(lanes) steps.

Loop order: one task per some windows of a plane, or some planes; within a window four independent sums, so that
additions need not wait for each other. The index of a maximum is found by a second look at its window, which is in the
cache. It wins wherever it can be used: global pooling, and windows over the whole of one axis of a signal.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ..pool_spec import PoolSpec
from . import simd, simd_pool
from .machine import Machine
from .runtime import jit, kernel, num_threads
from .window import combine, constants, counts, inside, kind, powering

#: Elements that a task folds at least.
TASK = 8192


def supports(spec: PoolSpec) -> str | None:
    left, dilation = spec.padding[1][0], spec.dilation
    if spec.ow != 1 or spec.kw - left < spec.w or (dilation[1] != 1 and spec.w > 1):
        return "only windows that span all columns"
    if dilation[0] != 1 and spec.kh > 1:
        return "only windows of neighbouring rows"
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    lanes, run = simd.lanes(spec.x_dtype), min(spec.kh, spec.h) * spec.w
    power, root = powering(spec)
    steps = spec.planes * spec.oh * (8 + run / lanes * (1 + power) + root / lanes)
    moved = spec.x_dtype.itemsize * spec.planes * (spec.h * spec.w + spec.oh)
    return machine.call + (steps * machine.vector + moved / machine.stream) / machine.threads


def scratch(spec: PoolSpec) -> int:
    return 0


class Prepared(NamedTuple):
    """All that a call needs beside its arrays."""

    loops: Any
    constants: tuple[np.generic, np.generic]
    counts: np.ndarray
    sizes: np.ndarray
    work: float


@lru_cache(maxsize=1024)
def _prepared(spec: PoolSpec, threads: int, indices: bool) -> Prepared:
    windows = spec.planes * spec.oh
    group = max(1, TASK // (min(spec.kh, spec.h) * spec.w))
    if threads > 1:
        group = max(1, min(group, windows // (4 * threads)))
    sizes = (spec.kh, spec.stride[0], spec.padding[0][0], group, simd.lanes(spec.x_dtype))
    return Prepared(
        loops=_kernel(*kind(spec), indices),
        constants=constants(spec),
        counts=counts(spec),
        sizes=np.array(sizes, np.int64),
        work=4.0 * windows * min(spec.kh, spec.h) * spec.w * spec.x_dtype.itemsize,
    )


_NO_INDICES = np.empty((0, 0, 0), np.int64)


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    this = _prepared(spec, num_threads(), indices is not None)
    found = _NO_INDICES if indices is None else indices
    this.loops.sized(this.work)(x, out, found, this.counts, this.constants, this.sizes)


@jit
def _place(values, at, count, value):
    """Where in a run its largest value is first, or NaN last."""
    if value == value:
        for k in range(count):
            if values[at + k] == value:
                return k
    for k in range(count - 1, -1, -1):
        if values[at + k] != values[at + k]:
            return k
    return 0


@lru_cache(maxsize=4)
def _kernel(name: str, powers: bool, with_indices: bool) -> Any:
    ops = combine(name, powers)
    vectors, finish, fold = ops.vectors, ops.finish_scalar, simd_pool.fold(name)
    raised = ops.raised
    # Many short windows or one long: the first row of a window of which only some lanes are there is an edge of all.
    part = simd_pool.columns(name, 1, True, powers)
    key = (name, powers, with_indices)
    settings: dict[str, Any] = {"forceinline": True, "error_model": "numpy"}

    @jit(key=key, **settings)
    def folded(x, at, count, constants, lanes):
        """All of `count` elements from a flat index on."""
        nothing, norm = constants
        full = count - count % lanes
        if full < count:
            (value,) = part(x, at + full, 0, 1, norm, 0, count - full, nothing)
        else:
            value = simd.splat(nothing)
        k = 0
        if full >= 4 * lanes:
            v0, v1, v2, v3 = (
                raised(simd.load(x, at), norm),
                raised(simd.load(x, at + lanes), norm),
                raised(simd.load(x, at + 2 * lanes), norm),
                raised(simd.load(x, at + 3 * lanes), norm),
            )
            k = 4 * lanes
            while k + 4 * lanes <= full:
                v0 = vectors(raised(simd.load(x, at + k), norm), v0)
                v1 = vectors(raised(simd.load(x, at + k + lanes), norm), v1)
                v2 = vectors(raised(simd.load(x, at + k + 2 * lanes), norm), v2)
                v3 = vectors(raised(simd.load(x, at + k + 3 * lanes), norm), v3)
                k += 4 * lanes
            value = vectors(vectors(value, vectors(v0, v1)), vectors(v2, v3))
        while k < full:
            value = vectors(raised(simd.load(x, at + k), norm), value)
            k += lanes
        return fold(value)

    @kernel(key=key, error_model="numpy")
    def _global(x, out, indices, counts, constants, sizes):
        planes, oh, _ = out.shape
        h, w = x.shape[1:]
        window, stride, top, group, lanes = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
        for index in prange((planes * oh + group - 1) // group):
            job = np.int64(index)
            plane, i = job * group // oh, job * group % oh
            for _ in range(min(group, planes * oh - job * group)):
                start = i * stride - top
                a0, a1 = inside(start, 1, h, window)
                first, count = (start + a0) * w, (a1 - a0) * w
                value = folded(x, plane * h * w + first, count, constants, lanes)
                out[plane, i, 0] = finish(value, counts, i, oh, constants[1])
                if with_indices:
                    indices[plane, i, 0] = first + _place(x.reshape(-1), plane * h * w + first, count, value)
                i += 1
                if i == oh:
                    plane, i = plane + 1, 0

    return _global
