"""Maxima with their places, in vectors along the rows: for poolings of windows that are asked for indices.

::

    out[plane, i, j] = max (or min) over a, b of x[plane, row(i, a), col(j, b)],  indices[plane, i, j] = row * w + col

of the first of equal maxima in reading order, or of the last NaN, as in PyTorch. To tell which is first, all kh * kw
taps are looked at in reading order. What it changes over `pool_naive`: it makes as many outputs at once as a vector has
lanes. A second vector holds how far behind the window's first tap the best one lies; it changes where the best does.

Loop order: one task per block of rows (and columns) of a plane; for each row of the output the rows of its windows are
copied into lines, padded with a value that loses to all others (`pooling.Lines`); then vectors of outputs, and taps.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.pool import PoolSpec
from ..system.kernels import jit, kernel
from ..system.memory import scratch_rows
from ..system.threads import num_threads
from ..tiles import simd, simd_pool
from .pooling import Lines, combine, inside, lines

#: Bytes of the lines of one row of outputs: a quarter of a 1 MiB second-level cache.
LINE_BYTES = 256 << 10


class Prepared(NamedTuple):
    """All that a call needs beside its arrays."""

    loops: Any
    nothing: np.generic
    offsets: np.ndarray
    """For the taps of a row of a window: their places in its lines, then their columns from the first tap."""
    first: np.ndarray
    """Columns from the first tap of each output's windows to the first that is inside."""
    sizes: np.ndarray
    scratch: int


def scratch(spec: PoolSpec) -> int:
    """Bytes that `run` allocates."""
    threads = num_threads()
    return threads * _lines(spec)[2] * spec.x_dtype.itemsize


def _lines(spec: PoolSpec) -> tuple[Lines, int, int]:
    """The lines for a block of outputs, the columns of the block, and the elements of all lines of a thread."""
    size, rows, lanes, stride = spec.x_dtype.itemsize, min(spec.kh, spec.h), simd.lanes(spec.x_dtype), spec.stride[1]
    block_w = min(spec.ow, max(lanes, LINE_BYTES // size // rows // min(stride, spec.w)))
    line = lines(spec, block_w)
    return line, block_w, rows * line.dealt * line.pitch


@lru_cache(maxsize=1024)
def _prepared(spec: PoolSpec, threads: int) -> Prepared:
    (stride_h, stride), (dilation_h, dilation) = spec.stride, spec.dilation
    (line, block_w, scratch), lanes = _lines(spec), simd.lanes(spec.x_dtype)
    block_h = max(1, min(spec.oh, 64, spec.oh * spec.planes // (4 * threads)))
    reach = min(spec.kh, spec.h) * dilation_h * spec.w + line.last
    place = np.dtype(np.int32 if reach < 2**31 else np.int64)
    first = np.zeros(spec.ow + lanes, place)
    start = np.arange(min(spec.ow, -(-line.left // stride)), dtype=np.int64) * stride - line.left
    first[: start.size] = -(start // dilation) * dilation
    sizes = (spec.kh, stride_h, stride, dilation_h, spec.padding[0][0], line.left, block_h, block_w)
    return Prepared(
        loops=_kernel(spec.op, line.dealt, line.every > 1, place),
        nothing=combine(spec.op, "").nothing(spec.x_dtype),
        offsets=np.append(line.offsets, line.taps),
        first=first,
        sizes=np.array((*sizes, line.every, line.pitch, line.groups, lanes), np.int64),
        scratch=scratch,
    )


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray) -> None:
    this = _prepared(spec, num_threads())
    scratches = scratch_rows(this.scratch, spec.x_dtype)
    this.loops.sized(spec.flops)(x, out, indices, this.offsets, this.first, this.nothing, this.sizes, scratches)


@lru_cache(maxsize=64)
def _kernel(op: str, dealt: int, far: bool, place: np.dtype) -> Any:
    """The loops for "max" or "min", for columns that are dealt to so many lines, or are read across as `far` apart as
    they are; and for places of an integer dtype."""
    inner, edge = simd_pool.columns(op, dealt, False), simd_pool.columns(op, dealt, True)
    winner, where, place_type = combine(op, "").vectors, simd_pool.where(op), place.type
    key = (op, dealt, far, place.str)
    settings: dict[str, Any] = {"forceinline": True}

    @jit(key=key, **settings)
    def copy(x, at, column, nothing, line, to, pitch, groups, lanes):
        """Deal a row of the input to its lines."""
        w = x.shape[2]
        for begin in range(0, groups, lanes):
            q = min(begin, max(groups - lanes, 0))
            here = column + q * dealt
            if here >= 0 and here + dealt * lanes <= w:
                values = inner(x, at + here, 0, 1, nothing)
            else:
                values = edge(x, at + here, 0, 1, nothing, -here, w - here, nothing)
            for p in range(dealt):
                simd.store(line, to + p * pitch + q, values[p])

    @jit(key=key, **settings)
    def read(line, at, every):
        return simd_pool.load_every(line, at, every) if far else simd.load(line, at)

    @kernel(key=key)
    def _argmax(x, out, indices, offsets, first, nothing, sizes, scratches):
        planes, oh, ow = out.shape
        h, w = x.shape[1:]
        window, stride_h, stride_w, dilation, top, left = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        block_h, block_w, every, pitch, groups, lanes = sizes[6], sizes[7], sizes[8], sizes[9], sizes[10], sizes[11]
        blocks_h, blocks_w = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        taps = offsets.size // 2
        for job in prange(planes * blocks_h * blocks_w):
            plane, i0 = job // (blocks_h * blocks_w), job // blocks_w % blocks_h * block_h
            j0 = job % blocks_w * block_w
            width = min(block_w, ow - j0)
            line = scratches[numba.get_thread_id()]
            for i in range(i0, min(i0 + block_h, oh)):
                start = i * stride_h - top
                a0, a1 = inside(start, dilation, h, window)
                start += a0 * dilation
                for a in range(a1 - a0):
                    at = (plane * h + start + a * dilation) * w
                    copy(x, at, j0 * stride_w - left, nothing, line, a * dealt * pitch, pitch, groups, lanes)
                for begin in range(0, width, lanes):
                    j = min(begin, max(width - lanes, 0))
                    best = simd.splat(nothing)
                    place = simd_pool.load_beside(first, j0 + j, best)
                    for a in range(a1 - a0):
                        for b in range(taps):
                            value = read(line, a * dealt * pitch + j * every + offsets[b], every)
                            far_behind = place_type(a * dilation * w + offsets[taps + b])
                            here = simd_pool.splat_beside(far_behind, best)
                            place = where(value, best, here, place)
                            best = winner(value, best)
                    at = (plane * oh + i) * ow + j0 + j
                    if width >= lanes:
                        simd.store(out, at, best)
                    else:
                        simd.store_part(out, at, best, width)
                    simd_pool.store_places(indices, at, place, start * w + (j0 + j) * stride_w - left, stride_w, width)

    return _argmax
