"""Pooling by large windows, at a cost that hardly depends on the window.

::

    across:  level[s * m][col] = op of level[s][col], level[s][col + s], ... (m <= RADIX)       level[1] = a row of x
             line[row][j] = op of the few levels' elements that together cover the kw columns of window j
    down:    out[plane, i, j] = op(rest[top of window i][j], run[bottom of window i][j])

    where rest[row] = op over rows from `row` to the end of its block, run[row] = op over rows from the start of its
    block to `row`, and blocks are kh rows high, so that each window is the end of one block and the start of the next

What it changes over `rows`: kw + kh operations an output become about 4 log4(kw) + 3. Down it is the method of van Herk
and of Gil and Werman, which needs any associative `op`: also a sum, and as no value is ever subtracted from a running
sum, its rounding errors are those of direct summation, and an infinity or a NaN is gone with its window. Across, where
that method would run along the lanes of a vector, windows double (quadruple) instead; a maximum may cover a column
twice, so there one level is enough, a sum takes kw's digits in the base RADIX.

Loop order: one task per block of columns and of some blocks of rows; the rows of the input one by one, each across,
then down. It wins for windows of some 8 rows or columns and more, with strides much smaller than the window.

Sums down more than `simd_pool.PART` rows are added up in parts.

Source: van Herk, A fast algorithm for local minimum and maximum filters, 1992; Gil and Werman, Computing 2-D min,
median and max filters, 1993.
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
from ..shared.pooling import Prepared, combine, constants, counts, in_parts, kind, power_cost
from ..system.kernels import jit, kernel
from ..system.threads import num_threads
from ..tiles import simd, simd_pool
from ..tiles.simd_pool import PART

#: Windows of a level that make one of the next level: to load more costs less than to store another level.
RADIX = 4
#: Bytes of the block of rows that `rest` keeps: a quarter of a 1 MiB second-level cache.
REST_BYTES = 256 << 10
#: Blocks of rows whose windows a task begins; it reads the rows of one block more to end them.
TASK_BLOCKS = 4


def supports(spec: PoolSpec) -> str | None:
    if spec.kh > 1 and spec.dilation[0] > 1:
        return "only windows of neighbouring rows"
    if max(spec.kh, spec.padding[0][0]) > 2 * spec.h or max(_reach(spec), spec.padding[1][0]) > 2 * spec.w:
        return "only windows of at most twice the image"
    if spec.ow > 1 and spec.stride[1] > spec.w:
        return "strides beyond the image"
    return None


def _reach(spec: PoolSpec) -> int:
    return (spec.kw - 1) * spec.dilation[1] + 1


def cost(spec: PoolSpec, machine: Machine) -> float:
    lanes, stride = simd.lanes(spec.x_dtype), spec.stride[1] if spec.ow > 1 else 1
    terms, levels = _ladder(kind(spec)[0], spec.kw)
    fine = (spec.ow - 1) * stride + 1  # columns that windows begin at
    power, root = power_cost(spec)
    power *= 1 + 1 / TASK_BLOCKS  # rows that two tasks see
    across = -(-(fine + _reach(spec)) // lanes) * ((RADIX + 1) * levels + 1 + power) + -(-fine // lanes) * len(terms)
    down = -(-spec.ow // lanes) * ((7 if stride == 1 else 7 + lanes) + root * spec.oh / spec.h)
    steps = spec.planes * spec.h * (across + down + 30)
    moved = spec.x_dtype.itemsize * spec.planes * (spec.h * spec.w + spec.oh * spec.ow)
    return machine.call + (steps * machine.vector + moved / machine.stream) / machine.threads


def scratch(spec: PoolSpec) -> int:
    threads = num_threads()
    needed = threads * _cut(spec).scratch * spec.x_dtype.itemsize
    return max(needed, argmax.scratch(spec)) if spec.picks else needed


def _ladder(name: str, taps: int) -> tuple[list[tuple[int, int]], int]:
    """The (level, first tap) of the windows that together cover `taps` taps; and the number of levels."""
    size, level = 1, 0
    terms: list[tuple[int, int]] = []
    while size * RADIX <= taps:
        size, level = size * RADIX, level + 1
    if name in ("max", "min"):  # taps may be covered twice
        return [(level, min(at, taps - size)) for at in range(0, taps, size)], level
    at, highest = 0, level
    while at < taps:
        while at + size > taps:
            size, level = size // RADIX, level - 1
        terms.append((level, at))
        at += size
    return terms, highest


class Cut(NamedTuple):
    """The blocks of columns that a problem is cut into, and the levels of each."""

    block_w: int
    """Output columns of a block."""
    columns: int
    """Columns of the input that a block sees."""
    levels: int
    offsets: list[int]
    """Places, in the levels, of the windows that together are the first window of a block."""
    pitch: int
    """Elements of a level."""
    width: int
    """Elements of a row of results."""
    scratch: int
    """Elements for each thread."""


def _cut(spec: PoolSpec) -> Cut:
    size, lanes = spec.x_dtype.itemsize, simd.lanes(spec.x_dtype)
    stride = spec.stride[1] if spec.ow > 1 else 1
    block_w = min(spec.ow, max(4 * lanes, REST_BYTES // size // spec.kh))
    columns = (block_w - 1) * stride + _reach(spec)
    # A vector of any level, but for those behind the last column that some window sees, is read in full.
    pitch = -(-(columns + lanes * (stride + 1)) // lanes) * lanes
    width = -(-(block_w + lanes) // lanes) * lanes
    lines = spec.kh + (3 if in_parts(spec, spec.kh) else 1)
    terms, levels = _ladder(kind(spec)[0], spec.kw)
    offsets = [level * pitch + at * spec.dilation[1] for level, at in terms]
    return Cut(block_w, columns, levels, offsets, pitch, width, (levels + 2) * pitch + lines * width)


@lru_cache(maxsize=1024)
def _prepared(spec: PoolSpec) -> Prepared:
    size, cut, (top, _), (left, _) = spec.x_dtype.itemsize, _cut(spec), *spec.padding
    stride = spec.stride[1] if spec.ow > 1 else 1
    blocks = (TASK_BLOCKS, cut.block_w, cut.columns, cut.levels, cut.pitch, cut.width, simd.lanes(spec.x_dtype))
    sizes = (spec.kh, *spec.stride, spec.dilation[1], top, left, *blocks)
    return Prepared(
        loops=_kernel(*kind(spec), stride > 1, in_parts(spec, spec.kh)),
        arguments=(np.array(cut.offsets, np.int64), counts(spec), constants(spec), np.array(sizes, np.int64)),
        dtype=spec.x_dtype,
        scratch=cut.scratch,
        work=16.0 * size * spec.planes * (spec.h * spec.w + spec.oh * spec.ow),
    )


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    if indices is not None:
        argmax.run(spec, x, out, indices)
        return
    _prepared(spec).run(x, out)


@lru_cache(maxsize=32)
def _kernel(name: str, power: str, far: bool, long: bool) -> Any:
    """The loops for horizontal strides of one, or larger ones; and for sums so `long` that they are made in parts."""
    ops = combine(name, power)
    vectors, finish = ops.vectors, ops.finish
    inner, edge = (simd_pool.columns(name, 1, at_edge, power) for at_edge in (False, True))
    key = (name, power, far, long)
    settings: dict[str, Any] = {"forceinline": True}

    @jit(key=key, **settings)
    def across(x, at, column, columns, constants, level, levels, pitch, dilation, lanes):
        """Load a row of the input and make its levels."""
        w = x.shape[2]
        nothing, norm = constants
        for q in range(0, columns, lanes):
            here = column + q
            if here >= 0 and here + lanes <= w:
                (value,) = inner(x, at + here, 0, 1, norm)
            else:
                (value,) = edge(x, at + here, 0, 1, norm, -here, w - here, nothing)
            simd.store(level, q, value)
        distance, to = dilation, pitch
        for _ in range(levels):
            columns -= (RADIX - 1) * distance
            for q in range(to - pitch, to - pitch + columns, lanes):
                value = simd.load(level, q)
                for m in range(1, RADIX):
                    value = vectors(simd.load(level, q + m * distance), value)
                simd.store(level, q + pitch, value)
            distance, to = distance * RADIX, to + pitch

    @jit(key=key, **settings)
    def covered(level, q, terms):
        value = simd.load(level, q + terms[0])
        for t in range(1, terms.size):
            value = vectors(simd.load(level, q + terms[t]), value)
        return value

    @kernel(key=key)
    def _running(x, out, terms, counts, constants, sizes, scratches):
        planes, oh, ow = out.shape
        h, w = x.shape[1:]
        (nothing, norm), zero = constants, simd.splat(constants[0])  # of sums
        high, stride_h, stride_w, dilation, top, left = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        together, block_w, columns, levels = sizes[6], sizes[7], sizes[8], sizes[9]
        pitch, line, lanes = sizes[10], sizes[11], sizes[12]
        starts = (oh - 1) * stride_h + 1  # rows, from the padding's first, that a window may begin at
        across_blocks, down_blocks = (ow + block_w - 1) // block_w, (starts + together * high - 1) // (together * high)
        for job in prange(planes * down_blocks * across_blocks):
            plane, origin = job // (down_blocks * across_blocks), job // across_blocks % down_blocks * together * high
            j0 = job % across_blocks * block_w
            width = min(block_w, ow - j0)
            mine = scratches[numba.get_thread_id()]
            level, rest, run = mine, mine[(levels + 2) * pitch :], mine[(levels + 2) * pitch + high * line :]
            fine = (levels + 1) * pitch
            seen = (width - 1) * stride_w + columns - (block_w - 1) * stride_w if far else columns - block_w + width
            end = min(origin + together * high, starts) - 1 + high  # behind the last row of the last window
            for r in range(origin, end):
                row, turn, begin = r - top, (r - origin) % high, r - high + 1
                within = 0 <= row < h
                if within:
                    at = (plane * h + row) * w
                    across(x, at, j0 * stride_w - left, seen, constants, level, levels, pitch, dilation, lanes)
                    if far:
                        for q in range(0, (width - 1) * stride_w + 1, lanes):
                            simd.store(level, fine + q, covered(level, q, terms))
                ends = begin >= origin and begin % stride_h == 0
                i = begin // stride_h
                for j in range(0, width, lanes):
                    if not within:
                        value = simd.splat(nothing)
                    elif far:
                        value = simd_pool.load_every(level, fine + j * stride_w, stride_w)
                    else:
                        value = covered(level, j, terms)
                    anew = turn == 0 or (long and turn % PART == 0)
                    if long and anew:
                        away = simd.load(run, line + j), simd.load(run, 2 * line + j)
                        away = (zero, zero) if turn == 0 else simd_pool.put_away(away, simd.load(run, j))
                        simd.store(run, line + j, away[0])
                        simd.store(run, 2 * line + j, away[1])
                    so_far = value if anew else vectors(simd.load(run, j), value)
                    simd.store(run, j, so_far)
                    if long:
                        so_far = so_far + simd.load(run, line + j)
                    if ends:
                        if turn < high - 1:
                            so_far = vectors(simd.load(rest, (turn + 1) * line + j), so_far)
                        to, factor = (plane * oh + i) * ow + j0 + j, oh + j0 + j
                        if j + lanes <= width:
                            simd.store(out, to, finish(so_far, counts, i, factor, norm))
                        else:
                            so_far = finish(so_far, counts, i, factor, norm)
                            simd.store_part(out, to, so_far, width - j)
                    simd.store(rest, turn * line + j, value)
                if turn == high - 1 and r + 1 < end:
                    for j in range(0, width, lanes):
                        value, away = simd.load(rest, turn * line + j), (zero, zero)
                        for before in range(turn - 1, -1, -1):
                            if long and (turn - before) % PART == 0:
                                away, value = simd_pool.put_away(away, value), zero
                            value = vectors(simd.load(rest, before * line + j), value)
                            simd.store(rest, before * line + j, away[0] + value if long else value)

    return _running
