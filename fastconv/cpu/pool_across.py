"""Pooling by windows one row high, read where they lie: across, without lines.

::

    max:  out[row, j] = max over b of x[row, col(j, b)]          col(j, b) = j * stride_w + b * dilation_w - left
    avg:  out[row, j] = sum over b of x[row, col(j, b)] / divisor

What it changes over `rows`: that one goes down the columns of a window first, into lines that are dealt by the stride,
and where windows have one row the lines would be a mere copy. Here the taps of a vector of outputs are combined as they
are loaded. With a stride s, tap b and tap b + s of neighbouring outputs lie one output apart, so vectors of the input
are first combined with those s, 2 s, ... columns on and then dealt, once: s loads for s taps, as with a stride of one.
What is left, kw % s taps, is dealt from s more vectors.

Loop order: one task per some rows (and block of columns, where rows are long). Vectors that would read beside the row
are not masked tap by tap: the first and last columns of all rows of a task are copied into lines with padding around
them, and read from there by the same loops.

Measured: windows of 3, stride 2, of a float32 array of 8 x 64 x 4096, on one core of an AMD EPYC 9005: TODO ms.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ..pool_spec import PoolSpec
from . import argmax, simd, simd_pool
from .machine import Machine
from .runtime import jit, kernel, num_threads
from .window import DEAL, Lines, Prepared, combine, constants, counts, kind, lines, powering

#: Bytes of the lines of one task: a quarter of a 32 KiB first-level cache, for its input and output take up as much.
LINE_BYTES = 8 << 10
#: Bytes of input of a task's rows, if they are more than one: what lies between them is in the second-level cache.
TASK_BYTES = 64 << 10
#: Bytes of output of a task's columns.
COLUMN_BYTES = 16 << 10


def supports(spec: PoolSpec) -> str | None:
    if spec.kh != 1:
        return "only windows one row high"
    if powering(spec) != (0, 0):
        return "powers would be taken once a tap"
    if spec.ow > 1 and spec.stride[1] > spec.w:
        return "strides beyond the image"
    return None


def _taps(spec: PoolSpec, line: Lines) -> tuple[int, int, int, int, int]:
    """Taps to a group, which are dealt from the same columns; the number of groups and the step between them; taps
    left over; and how many columns a vector of outputs reads."""
    lanes, taps = simd.lanes(spec.x_dtype), line.taps.size
    if line.every > 1:
        return 1, taps, spec.dilation[1], 0, int(line.taps[-1]) + (lanes - 1) * line.every + 1
    if spec.dilation[1] > 1:
        return 1, taps, spec.dilation[1], 0, int(line.taps[-1]) + line.dealt * lanes
    together = min(taps, line.dealt)
    groups, rest = divmod(taps, together) if together == line.dealt else (1, 0)
    return together, groups, line.dealt, rest, (groups - 1 + (rest > 0) + lanes) * line.dealt


class Columns(NamedTuple):
    """Which outputs of a row are read where they lie, and how wide the lines are for the others."""

    first: int
    """Outputs before the first whose vector reads nothing beside the row: whole vectors of them."""
    behind: int
    """The last of those + 1; between the two, too, lie whole vectors."""
    block: int
    """Outputs a task."""
    pitch: int
    """Elements of a line, 0 if none are needed."""


def _columns(spec: PoolSpec, line: Lines, reads: int) -> Columns:
    lanes, stride = simd.lanes(spec.x_dtype), line.dealt * line.every
    first = -(-max(0, -(-line.left // stride)) // lanes) * lanes
    last = min(spec.ow - lanes, (spec.w + line.left - reads) // stride)
    behind = first + (last - first + lanes) // lanes * lanes
    if last < first:
        first = behind = 0
    block = min(spec.ow, COLUMN_BYTES // spec.x_dtype.itemsize)
    at_edges = min(block, max(first, spec.ow - behind))
    pitch = -(-(max(at_edges - lanes, 0) * stride + reads) // lanes) * lanes if at_edges else 0
    return Columns(first, behind, block, pitch)


def cost(spec: PoolSpec, machine: Machine) -> float:
    """Fitted, to 160 problems in float32 and float64, with vectors of 64 bytes."""
    line, lanes = lines(spec, 1), simd.lanes(spec.x_dtype)
    together, groups, _, rest, reads = _taps(spec, line)
    loads = groups * 0.42 * lanes if line.every > 1 else (groups + (rest > 0)) * line.dealt
    shuffles = (together + rest) * (line.dealt - 1)
    steps = -(-spec.ow // lanes) * (loads + DEAL * shuffles + 2) + 2.3 * _columns(spec, line, reads).pitch / lanes
    moved = spec.x_dtype.itemsize * spec.planes * (spec.h * spec.w + spec.oh * spec.ow)
    return machine.call + (spec.planes * spec.oh * steps * machine.vector + moved / machine.stream) / machine.threads


def scratch(spec: PoolSpec) -> int:
    threads = num_threads()
    needed = threads * _prepared(spec, threads).scratch * spec.x_dtype.itemsize
    return max(needed, argmax.scratch(spec)) if spec.op == "max" else needed


@lru_cache(maxsize=1024)
def _prepared(spec: PoolSpec, threads: int) -> Prepared:
    size, lanes, line = spec.x_dtype.itemsize, simd.lanes(spec.x_dtype), lines(spec, 1)
    together, groups, step, rest, reads = _taps(spec, line)
    first, behind, block_w, pitch = _columns(spec, line, reads)
    in_lines = LINE_BYTES // (size * pitch) if pitch else spec.oh * spec.planes
    rows = spec.oh if spec.stride[0] > 1 else spec.planes * spec.oh
    block_h = max(1, min(rows, in_lines, TASK_BYTES // (size * spec.w)))
    if threads > 1:
        block_h = max(1, min(block_h, spec.planes * spec.oh * -(-spec.ow // block_w) // (4 * threads)))
    stride = line.dealt * line.every
    sizes = (spec.stride[0], stride, line.left, groups, step, first, behind, block_h, block_w, pitch, lanes)
    return Prepared(
        loops=_kernel(kind(spec)[0], line.dealt, line.every > 1, together, rest),
        arguments=(counts(spec), constants(spec), np.array(sizes, np.int64)),
        dtype=spec.x_dtype,
        scratch=block_h * pitch,
        work=4.0 * size * spec.planes * (spec.h * spec.w + spec.oh * spec.ow),
    )


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    if indices is not None:
        argmax.run(spec, x, out, indices)
        return
    _prepared(spec, num_threads()).run(x, out)


@lru_cache(maxsize=64)
def _kernel(name: str, dealt: int, far: bool, together: int, rest: int) -> Any:
    """The loops for columns that are dealt to so many vectors, or are read as `far` apart as they are; and for groups
    of so many taps, with so many left over."""
    ops = combine(name, False)
    vectors, finish = ops.vectors, ops.finish
    columns, part = simd_pool.columns(name, dealt, False), simd_pool.columns(name, 1, True)
    key = (name, dealt, far, together, rest)
    settings: dict[str, Any] = {"forceinline": True, "error_model": "numpy"}

    @jit(key=key, **settings)
    def windows(x, at, stride, groups, step, norm):
        """The windows of a vector of neighbouring outputs, of which the first begins at a flat index."""
        if far:
            value = simd_pool.load_every(x, at, stride)
            for b in range(1, groups):
                value = vectors(simd_pool.load_every(x, at + b * step, stride), value)
            return value
        values = columns(x, at, step, groups, norm)
        value = values[0]
        for p in range(1, together):
            value = vectors(values[p], value)
        if rest:
            values = columns(x, at + groups * step, 0, 1, norm)
            for p in range(rest):
                value = vectors(values[p], value)
        return value

    @jit(key=key, **settings)
    def across(x, at, next_row, out, to, next_out, rows, width, stride, groups, step, counts, factor, norm, lanes):
        """So many outputs of each row, those of the first of which begin at flat indices."""
        for i in range(rows):
            for begin in range(0, width, lanes):
                j = min(begin, max(width - lanes, 0))
                value = windows(x, at + i * next_row + j * stride, stride, groups, step, norm)
                value = finish(value, counts, 0, factor + j, norm)
                if width >= lanes:
                    simd.store(out, to + i * next_out + j, value)
                else:
                    simd.store_part(out, to + i * next_out + j, value, width)

    @kernel(key=key, error_model="numpy")
    def _across(x, out, counts, constants, sizes, scratches):
        planes, oh, ow = out.shape
        h, w = x.shape[1:]
        stride_h, stride, left, groups, step, first, behind, block_h, block_w, pitch, lanes = (
            sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8], sizes[9],
            sizes[10]
        )
        factor = oh
        if stride_h == 1:  # rows of all planes lie one behind the other
            planes, oh = 1, planes * oh
            h = oh
        nothing, norm = constants
        blocks_h, blocks_w = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        for index in prange(planes * blocks_h * blocks_w):
            job = np.int64(index)  # a parallel loop's index is unsigned: functions called with it would compile twice
            plane, i = job // (blocks_h * blocks_w), job // blocks_w % blocks_h * block_h
            j0 = job % blocks_w * block_w
            rows, j3 = min(block_h, oh - i), min(j0 + block_w, ow)
            j1, j2 = min(max(j0, first), j3), min(max(j0, behind), j3)
            row, next_row, to = (plane * h + i * stride_h) * w, stride_h * w, (plane * oh + i) * ow
            for side in range(2):
                begin, end = (j0, j1) if side == 0 else (j2, j3)
                if begin < end:
                    line, column = scratches[numba.get_thread_id()], begin * stride - left
                    for v in range(0, pitch, lanes):
                        for r in range(rows):
                            at = row + r * next_row + column + v
                            values = part(x, at, 0, 1, norm, -column - v, w - column - v, nothing)
                            simd.store(line, r * pitch + v, values[0])
                    across(line, 0, pitch, out, to + begin, ow, rows, end - begin, stride, groups, step, counts,
                           factor + begin, norm, lanes)
            across(x, row + j1 * stride - left, next_row, out, to + j1, ow, rows, j2 - j1, stride, groups, step, counts,
                   factor + j1, norm, lanes)

    return _across
