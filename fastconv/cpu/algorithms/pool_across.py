"""Pooling by windows one row high: their taps are combined as they are loaded, from where they lie.

::

    max:  out[row, j] = max over b of x[row, col(j, b)]          col(j, b) = j * stride_w + b * dilation_w - left
    avg:  out[row, j] = sum over b of x[row, col(j, b)] / divisor

What it changes over `rows`: `rows` first goes down the columns of a window, into lines that are dealt by the stride;
where windows have one row the lines would be a mere copy. Here the taps of a vector of outputs are combined as they are
loaded. With a stride s, tap b and tap b + s of neighbouring outputs lie one output apart, so vectors of the input are
first combined with those s, 2 s, ... columns on and then dealt, once: s loads for s taps, as with a stride of one.
The kw % s taps that are left are dealt from s more vectors.

Loop order: one task per some rows (and block of columns, where rows are long); rows, then vectors. Columns beside the
row that a vector would read are masked, tap by tap.

Sums of more than `simd_pool.PART` vectors are added up in parts.

Measured: windows of 3, stride 2, of a float32 array of 8 x 64 x 4096, on one core of an AMD EPYC 9004: 0.31
ms, as long as copying the input takes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange

from ...specs.pool import PoolSpec
from ..machine import Machine
from ..shared import argmax
from ..shared.pooling import DEAL, Lines, Prepared, combine, constants, counts, in_parts, kind, lines
from ..system.kernels import jit, kernel
from ..system.threads import num_threads
from ..tiles import simd, simd_pool
from ..tiles.simd_pool import PART

#: Cost that a mask adds to a load, in units of the load.
EDGE = 0.6
#: Most columns of a row, or of a window: with padding, and what is read behind it, they are counted in 32 bits.
MOST_COLUMNS = 1 << 28
#: Most bytes of a task: of the input of its rows, unless it has one row, and of the output of its columns.
TASK_BYTES, COLUMN_BYTES = 64 << 10, 16 << 10


def supports(spec: PoolSpec) -> str | None:
    if spec.kh != 1:
        return "only windows one row high"
    if kind(spec)[1] in ("square", "power"):
        return "powers would be taken once a tap"
    if spec.ow > 1 and spec.stride[1] > spec.w:
        return "strides beyond the image"
    if max(spec.w, spec.kw * spec.dilation[1]) >= MOST_COLUMNS:
        return "only columns whose numbers have 32 bits"
    return None


def _taps(spec: PoolSpec, line: Lines) -> tuple[int, int, int, int, int]:
    """Taps of a group, which are dealt from one vector of columns each; the number of groups and the step between them;
    taps left over; and how many columns a vector of outputs reads."""
    lanes, taps = simd.lanes(spec.x_dtype), line.number
    if line.every > 1:
        return 1, taps, spec.dilation[1], 0, line.last + (lanes - 1) * line.every + 1
    if spec.dilation[1] > 1:
        return 1, taps, spec.dilation[1], 0, line.last + line.dealt * lanes
    together = min(taps, line.dealt)
    groups, rest = divmod(taps, together) if together == line.dealt else (1, 0)
    return together, groups, line.dealt, rest, (groups - 1 + (rest > 0) + lanes) * line.dealt


def cost(spec: PoolSpec, machine: Machine) -> float:
    """Estimated seconds, fitted to 234 problems in float32 and float64, with vectors of 64 bytes."""
    line, lanes = lines(spec, 1), simd.lanes(spec.x_dtype)
    together, groups, _, rest, reads = _taps(spec, line)
    stride = line.dealt * line.every
    loads = groups * 0.55 * lanes if line.every > 1 else (groups + (rest > 0)) * line.dealt
    shuffles, vectors = (together + rest) * (line.dealt - 1), -(-spec.ow // lanes)
    beside = max(0, line.left) + max(0, (vectors * lanes - lanes) * stride + reads - line.left - spec.w)
    edges = min(vectors, -(-beside // (stride * lanes)))
    steps = vectors * (loads + DEAL * shuffles + 3.5) + edges * loads * EDGE
    moved = spec.x_dtype.itemsize * spec.planes * (spec.h * spec.w + spec.oh * spec.ow)
    return machine.call + (spec.planes * spec.oh * steps * machine.vector + moved / machine.stream) / machine.threads


def scratch(spec: PoolSpec) -> int:
    return argmax.scratch(spec) if spec.picks else 0


@lru_cache(maxsize=1024)
def _prepared(spec: PoolSpec, threads: int) -> Prepared:
    size, lanes, line = spec.x_dtype.itemsize, simd.lanes(spec.x_dtype), lines(spec, 1)
    together, groups, step, rest, reads = _taps(spec, line)
    block_w = min(spec.ow, COLUMN_BYTES // size)
    rows = spec.oh if spec.stride[0] > 1 else spec.planes * spec.oh
    block_h = max(1, min(rows, TASK_BYTES // (size * spec.w)))
    if threads > 1:
        block_h = max(1, min(block_h, spec.planes * spec.oh * -(-spec.ow // block_w) // (4 * threads)))
    sizes = (spec.stride[0], line.dealt * line.every, line.left, groups, step, reads, block_h, block_w, lanes)
    return Prepared(
        loops=_kernel(*kind(spec), line.dealt, line.every > 1, together, rest, in_parts(spec, groups)),
        arguments=(counts(spec), constants(spec), np.array(sizes, np.int64)),
        dtype=spec.x_dtype,
        scratch=0,
        work=4.0 * size * spec.planes * (spec.h * spec.w + spec.oh * spec.ow),
    )


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    if indices is not None:
        argmax.run(spec, x, out, indices)
        return
    _prepared(spec, num_threads()).run(x, out)


@lru_cache(maxsize=128)
def _kernel(name: str, power: str, dealt: int, far: bool, together: int, rest: int, long: bool) -> Any:
    """The loops for columns that are dealt to so many vectors, or are read as `far` apart as they are; and for groups
    of so many taps, with so many left over, and of sums so `long` that they are made in parts."""
    ops = combine(name, power)
    vectors, finish, each = ops.vectors, ops.finish, ops.power
    joined = together == dealt and not rest and dealt & (dealt - 1) == 0  # windows have all that is dealt
    inner, edge = (simd_pool.columns(name, dealt, at_edge, power, True, long, joined) for at_edge in (False, True))
    key = (name, power, dealt, far, together, rest, long)
    settings: dict[str, Any] = {"forceinline": True}

    @jit(key=key, **settings)
    def inside(x, at, stride, groups, step, norm):
        """Pool the windows of a vector of neighbouring outputs; the first window begins at the flat index `at`."""
        if far:
            value, zero = each(simd_pool.load_every(x, at, stride), norm), simd.splat(x.dtype.type(0))
            away = zero, zero
            for b in range(1, groups):
                if long and b % PART == 0:
                    away, value = simd_pool.put_away(away, value), zero
                value = vectors(each(simd_pool.load_every(x, at + b * step, stride), norm), value)
            return simd_pool.put_away(away, value)[0] if long else value
        values = inner(x, at, step, groups, norm)
        value = values[0]
        for p in range(1, 1 if joined else together):
            value = vectors(values[p], value)
        if rest:
            values = inner(x, at + groups * step, step, 1, norm)
            for p in range(rest):
                value = vectors(values[p], value)
        return value

    @jit(key=key, **settings)
    def at_side(x, at, stride, groups, step, norm, first, last, nothing):
        """Pool windows of which only the columns from `first` to before `last`, counted from `at` on, are there."""
        if far:
            value, zero = simd_pool.load_every_inside(x, at, stride, first, last, nothing), simd.splat(nothing)
            value = each(value, norm)
            away = zero, zero
            for b in range(1, groups):
                if long and b % PART == 0:
                    away, value = simd_pool.put_away(away, value), zero
                behind = b * step
                values = simd_pool.load_every_inside(x, at + behind, stride, first - behind, last - behind, nothing)
                value = vectors(each(values, norm), value)
            return simd_pool.put_away(away, value)[0] if long else value
        values = edge(x, at, step, groups, norm, first, last, nothing)
        value = values[0]
        for p in range(1, 1 if joined else together):
            value = vectors(values[p], value)
        if rest:
            behind = groups * step
            values = edge(x, at + behind, step, 1, norm, first - behind, last - behind, nothing)
            for p in range(rest):
                value = vectors(values[p], value)
        return value

    @kernel(key=key)
    def _across(x, out, counts, constants, sizes, scratches):
        planes, oh, ow = out.shape
        h, w = x.shape[1:]
        stride_h, stride, left, groups, step, reads, block_h, block_w, lanes = (
            sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8]
        )
        factor = oh
        if stride_h == 1:  # rows of all planes lie one behind the other
            planes, oh = 1, planes * oh
            h = oh
        nothing, norm = constants
        blocks_h, blocks_w = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        for job in prange(planes * blocks_h * blocks_w):
            plane, i0 = job // (blocks_h * blocks_w), job // blocks_w % blocks_h * block_h
            j0 = job % blocks_w * block_w
            width = min(block_w, ow - j0)
            for i in range(i0, min(i0 + block_h, oh)):
                row, to = (plane * h + i * stride_h) * w, (plane * oh + i) * ow
                # Vectors from `low` to before `high` read nothing outside their row: in a loop of their own less is
                # loaded again and again.
                start, each, full = j0 * stride - left, lanes * stride, width // lanes
                low = min(full, max(0, (each - 1 - start) // each))
                high = min(full, max(low, (w - reads - start) // each + 1))
                k = high if low == 0 else 0
                while k * lanes < width:
                    j = j0 + min(k * lanes, max(width - lanes, 0))
                    column = j * stride - left
                    value = at_side(x, row + column, stride, groups, step, norm, -column, w - column, nothing)
                    value = finish(value, counts, 0, factor + j, norm)
                    if width >= lanes:
                        simd.store(out, to + j, value)
                    else:
                        simd.store_part(out, to + j, value, width)
                    k = high if k + 1 == low else k + 1
                for k in range(low, high):
                    j = j0 + k * lanes
                    value = inside(x, row + start + k * each, stride, groups, step, norm)
                    simd.store(out, to + j, finish(value, counts, 0, factor + j, norm))

    return _across
