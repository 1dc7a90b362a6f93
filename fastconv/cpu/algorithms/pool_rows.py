"""Pooling in vectors along the rows: first down the columns of a window, then across.

::

    max:  line[p][q] = max over a of x[plane, row(i, a), col],       out[plane, i, j] = max over b of at(j, b)
    avg:  line[p][q] = sum over a of x[plane, row(i, a), col],       out[plane, i, j] = sum over b of at(j, b) / divisor
    lp:   as avg, of the powers of |x| and with the root in the end; of an infinite norm as max, of |x|

    where col = q * stride_w + p - left and at(j, b) = line[b * dilation_w % stride_w][j + b * dilation_w // stride_w]

What it changes over `naive`: a rectangular window is separable, so kh * kw operations an output become about kh *
stride_w + kw; and all loops run over vectors. The columns are dealt out to one line for each remainder by the stride
(in registers, up to `pooling.MOST_DEALT`), so that across, too, neighbouring outputs read neighbouring elements.

Loop order: one task per block of rows (and of columns, where rows are long) of a plane: down, for all rows of the
block, into lines that stay in the first-level cache, then across. Where windows do not overlap, no line is needed: the
dealt vectors are combined in registers. Sums and powers are kept in the input's own precision. It wins for short
windows.

Sums of more than `simd_pool.PART` rows or columns are added up in parts.

Measured: 2x2 windows, stride 2, of a float32 array of 8 x 64 x 112 x 112, on one core of an AMD EPYC 9005: 1.3 ms, as
long as copying the input takes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.pool import PoolSpec
from ..machine import Machine
from ..shared import argmax
from ..shared.pooling import (
    DEAL,
    Lines,
    Prepared,
    combine,
    constants,
    counts,
    in_parts,
    inside,
    kind,
    lines,
    power_cost,
)
from ..system.kernels import jit, kernel
from ..system.threads import num_threads
from ..tiles import simd, simd_pool
from ..tiles.simd_pool import PART

#: Bytes of the lines of one block: half of a 32 KiB first-level cache.
LINE_BYTES = 16 << 10
#: Bytes of input that a pass over the columns spans: more rows would be too many streams for the prefetchers.
ROW_BYTES = 2 << 10


def supports(spec: PoolSpec) -> str | None:
    if spec.ow > 1 and spec.stride[1] > spec.w:
        return "strides beyond the image"
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    """Estimated seconds, fitted with the other poolings' to 750 problems in float32, with vectors of 64 bytes."""
    lanes, line = simd.lanes(spec.x_dtype), lines(spec, spec.ow)
    power, root = power_cost(spec)
    down = -(-line.groups // lanes) * (line.dealt * (min(spec.kh, spec.h) * (1 + power) + DEAL * (line.dealt - 1)) + 5)
    across = -(-spec.ow // lanes) * (line.number * (0.8 if line.every == 1 else 0.45 * lanes) + 5)
    across = across * (line.groups > spec.ow) + -(-spec.ow // lanes) * root
    steps = spec.planes * (spec.oh * (down + across) + 20)
    moved = spec.x_dtype.itemsize * spec.planes * (spec.h * spec.w + spec.oh * spec.ow)
    return machine.call + (steps * machine.vector + moved / machine.stream) / machine.threads


def scratch(spec: PoolSpec) -> int:
    threads = num_threads()
    needed = threads * _cut(spec, threads).lines * spec.x_dtype.itemsize
    return max(needed, argmax.scratch(spec)) if spec.picks else needed


class Cut(NamedTuple):
    """The blocks that a problem is cut into, and the lines of each."""

    line: Lines
    alone: bool
    """Whether no lines are needed: one vector of each phase has all columns of a vector of windows."""
    block_h: int
    block_w: int
    """Output rows and columns of a block."""
    lines: int
    """Elements of a thread's lines."""


def _cut(spec: PoolSpec, threads: int) -> Cut:
    size, stride = spec.x_dtype.itemsize, min(spec.stride[1], spec.w)
    block_w = min(spec.ow, max(simd.lanes(spec.x_dtype), LINE_BYTES // size // stride))
    line = lines(spec, block_w)
    alone = line.every == 1 and spec.dilation[1] == 1 and line.last < line.dealt
    block_h = max(1, min(spec.oh, LINE_BYTES // size // (line.pitch * line.dealt)))
    across = spec.planes * -(-spec.ow // block_w)
    if threads > 1:
        block_h = max(1, min(block_h, spec.oh * across // (4 * threads)))
    return Cut(line, alone, block_h, block_w, 0 if alone else block_h * line.dealt * line.pitch)


@lru_cache(maxsize=1024)
def _prepared(spec: PoolSpec, threads: int) -> Prepared:
    line, alone, block_h, block_w, scratch = _cut(spec, threads)
    size, stride = spec.x_dtype.itemsize, min(spec.stride[1], spec.w)
    together = max(2, ROW_BYTES // size // (block_w * stride * spec.stride[0]))
    long = in_parts(spec, max(min(spec.kh, spec.h), line.number))
    blocks = block_h, block_w, together, line.every, line.pitch, line.groups, simd.lanes(spec.x_dtype)
    sizes = (spec.kh, *spec.stride, spec.dilation[0], spec.padding[0][0], line.left, *blocks)
    return Prepared(
        loops=_kernel(*kind(spec), line.dealt, line.every > 1, line.number if alone else 0, long),
        arguments=(line.offsets, counts(spec), constants(spec), np.array(sizes, np.int64)),
        dtype=spec.x_dtype,
        scratch=scratch,
        work=4.0 * size * spec.planes * (spec.h * spec.w + spec.oh * spec.ow),
    )


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    if indices is not None:
        argmax.run(spec, x, out, indices)
        return
    _prepared(spec, num_threads()).run(x, out)


@lru_cache(maxsize=128)
def _kernel(name: str, power: str, dealt: int, far: bool, alone: int, long: bool) -> Any:
    """The loops for columns that are dealt to so many lines, or are read across as `far` apart as they are; for
    windows of `alone` columns that do not overlap, 0 if they do; and for sums so `long` that they are made in parts."""
    ops = combine(name, power)
    vectors, finish = ops.vectors, ops.finish
    joined = alone == dealt and dealt & (dealt - 1) == 0  # windows have all that is dealt
    inner, edge = (
        simd_pool.columns(name, dealt, at_edge, power, in_parts=long, joined=joined) for at_edge in (False, True)
    )
    key = (name, power, dealt, far, alone, long)
    settings: dict[str, Any] = {"forceinline": True}

    @jit(key=key, **settings)
    def put(values, target, at, pitch, valid, lanes, counts, row, factor, norm):
        """Store the dealt columns of one row: in lines, or combined in the result."""
        if alone:
            value = values[0]
            for b in range(1, 1 if joined else alone):
                value = vectors(values[b], value)
            value = finish(value, counts, row, factor, norm)
            if valid >= lanes:
                simd.store(target, at, value)
            else:
                simd.store_part(target, at, value, valid)
        else:
            for p in range(dealt):
                simd.store(target, at + p * pitch, values[p])

    @jit(key=key, **settings)
    def down(x, plane, i0, i1, column, window, stride_h, dilation, top, constants, lanes, target, at, pitch, next_row,
             valid, counts, factor):
        """Combine and deal a vector of columns for each row of the block."""
        h, w = x.shape[1:]
        nothing, norm = constants
        step, origin = dilation * w, plane * h * w + column
        if column >= 0 and column + dealt * lanes <= w:
            for i in range(i0, i1):
                start = i * stride_h - top
                a0, a1 = inside(start, dilation, h, window)
                values = inner(x, origin + (start + a0 * dilation) * w, step, a1 - a0, norm)
                put(values, target, at + (i - i0) * next_row, pitch, valid, lanes, counts, i, factor, norm)
        else:
            for i in range(i0, i1):
                start = i * stride_h - top
                a0, a1 = inside(start, dilation, h, window)
                here = origin + (start + a0 * dilation) * w
                values = edge(x, here, step, a1 - a0, norm, -column, w - column, nothing)
                put(values, target, at + (i - i0) * next_row, pitch, valid, lanes, counts, i, factor, norm)

    @jit(key=key, **settings)
    def read(line, at, every):
        return simd_pool.load_every(line, at, every) if far else simd.load(line, at)

    @jit(key=key, **settings)
    def across(line, i0, i1, next_line, every, offsets, out, at, next_row, width, counts, factor, lanes, constants):
        zero, norm = simd.splat(constants[0]), constants[1]  # what loses against every value, of sums
        for begin in range(0, width, lanes):
            j = min(begin, max(width - lanes, 0))
            for i in range(i0, i1):
                here = (i - i0) * next_line + j * every
                value, away = read(line, here + offsets[0], every), (zero, zero)
                for b in range(1, offsets.size):
                    if long and b % PART == 0:
                        away, value = simd_pool.put_away(away, value), zero
                    value = vectors(read(line, here + offsets[b], every), value)
                if long:
                    value = simd_pool.put_away(away, value)[0]
                value = finish(value, counts, i, factor + j, norm)
                if width >= lanes:
                    simd.store(out, at + (i - i0) * next_row + j, value)
                else:
                    simd.store_part(out, at + (i - i0) * next_row + j, value, width)

    @kernel(key=key)
    def _rows(x, out, offsets, counts, constants, sizes, scratches):
        planes, oh, ow = out.shape
        window, stride_h, stride_w, dilation, top, left = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        block_h, block_w, together, every, pitch, groups, lanes = (
            sizes[6], sizes[7], sizes[8], sizes[9], sizes[10], sizes[11], sizes[12]
        )
        blocks_h, blocks_w = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        for job in prange(planes * blocks_h * blocks_w):
            plane, i0 = job // (blocks_h * blocks_w), job // blocks_w % blocks_h * block_h
            j0 = job % blocks_w * block_w
            i1, width = min(i0 + block_h, oh), min(block_w, ow - j0)
            at, column = (plane * oh + i0) * ow + j0, j0 * stride_w - left
            if not alone:
                line = scratches[numba.get_thread_id()]
            for i in range(i0, i1, together):
                end, done = min(i + together, i1), i - i0
                if alone:
                    for begin in range(0, width, lanes):
                        j = min(begin, max(width - lanes, 0))
                        down(x, plane, i, end, column + j * dealt, window, stride_h, dilation, top, constants, lanes,
                             out, at + done * ow + j, 0, ow, width, counts, oh + j0 + j)
                else:
                    for begin in range(0, groups, lanes):
                        q = min(begin, max(groups - lanes, 0))
                        down(x, plane, i, end, column + q * dealt, window, stride_h, dilation, top, constants, lanes,
                             line, done * dealt * pitch + q, pitch, dealt * pitch, lanes, counts, 0)
            if not alone:
                across(line, i0, i1, dealt * pitch, every, offsets, out, at, ow, width, counts, oh + j0, lanes,
                       constants)

    return _rows
