"""Patches: what a block of outputs sees of the input, copied so that the taps lie at fixed distances.

::

    patch[c, r, f, g, q] = x[n, first + c, corner_h + r * stride_h + f, corner_w + q * stride_w + g]

with zeros outside the image, and only the phases f and g (remainders by the stride) that some tap falls on. The tap
(c, a, b) of the output at row i and column j of the block is then `offsets` [c, a, b] from row i and column j of the
patch, whatever the stride, dilation and padding: a sum over channels and taps becomes one flat loop (indirect
convolution).

The number of lanes is a constant of the micro-kernels here. As an argument it would cost each loop a division, and
short rows are all loops: `conv_direct` of 16 channels at 14x14 took 1.7 times as long (a Xeon with AVX-512).

Source: Dukhan, The indirect convolution algorithm, arXiv:1907.02129.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...specs.conv import ConvSpec
from ..system import micro
from ..system.kernels import jit
from ..tiles import simd

#: The `phases` of an axis without a stride.
ONE_PHASE = np.zeros(1, np.int64)


def phases(kernel: int, dilation: int, stride: int) -> np.ndarray:
    """Remainders by the stride that some tap of an axis falls on."""
    return np.unique(np.arange(kernel) * dilation % stride)


def phase_count(kernel: int, dilation: int, stride: int) -> int:
    """Number of `phases` of an axis: they repeat every stride / gcd(stride, dilation) taps."""
    return min(kernel, stride // math.gcd(stride, dilation))


def shape(spec: ConvSpec, block_h: int, block_w: int) -> tuple[int, int, int, int]:
    """Rows, row phases, column phases and columns that a block of outputs needs of each channel."""
    rows = block_h + (spec.kh - 1) * spec.dilation[0] // spec.stride[0]
    pitch = block_w + (spec.kw - 1) * spec.dilation[1] // spec.stride[1]
    down = phase_count(spec.kh, spec.dilation[0], spec.stride[0])
    return rows, down, phase_count(spec.kw, spec.dilation[1], spec.stride[1]), pitch


def size(spec: ConvSpec, block_h: int, block_w: int) -> int:
    """Elements of a patch."""
    return spec.c_in // spec.groups * math.prod(shape(spec, block_h, block_w))


def offsets(spec: ConvSpec, block_h: int, block_w: int) -> np.ndarray:
    """Elements of the patch from an output's own place to each of its taps (c, a, b)."""
    rows, down, across, pitch = shape(spec, block_h, block_w)
    c, a, b = np.ogrid[: spec.c_in // spec.groups, : spec.kh, : spec.kw]
    row, column = a * spec.dilation[0], b * spec.dilation[1]
    row_phase = np.searchsorted(phases(spec.kh, spec.dilation[0], spec.stride[0]), row % spec.stride[0])
    column_phase = np.searchsorted(phases(spec.kw, spec.dilation[1], spec.stride[1]), column % spec.stride[1])
    line = ((c * rows + row // spec.stride[0]) * down + row_phase) * across + column_phase
    return (line * pitch + column // spec.stride[1]).reshape(-1)


def image_offsets(spec: ConvSpec) -> np.ndarray:
    """Elements of an image without padding from what an output's first tap sees to what each of its taps (c, a, b)
    does."""
    c, a, b = np.ogrid[: spec.c_in // spec.groups, : spec.kh, : spec.kw]
    return ((c * spec.h + a * spec.dilation[0]) * spec.w + b * spec.dilation[1]).reshape(-1)


@jit
def zeros(target, to, count, lanes):
    """Write `count` zeros from a flat index on. (LLVM makes a call of a loop over elements: slow for one or two.)"""
    zeros_row(target, to, count, lanes, False)


@jit
def zeros_row(target, to, count, lanes, over):
    """Write `count` zeros from a flat index on; if `over`, anything may be written behind them."""
    for q in range(0, count, lanes):
        _put(target, to + q, simd.splat(target.dtype.type(0)), count - q, lanes, over)


@jit
def copy_row(source, at, stride, target, to, count, lanes, over):
    """target[to + q] = source[at + q * stride] for q < count, as flat indices; if `over`, anything may be written
    behind them. (AVX2 takes some 20 cycles to write a part of a vector.)"""
    if stride == 1:
        for q in range(0, count - lanes + 1, lanes):
            simd.store(target, to + q, simd.load(source, at + q))
        q = count // lanes * lanes
        if q < count:
            _put(target, to + q, simd.load_part(source, at + q, count - q), count - q, lanes, over)
    elif stride == 2:
        for q in range(0, count, lanes):
            whole = at + 2 * (q + lanes) <= simd.flat(source).size  # then masks are constants
            some = simd.load_even(source, at + 2 * q, lanes) if whole else simd.load_even(source, at + 2 * q, count - q)
            _put(target, to + q, some, count - q, lanes, over)
    else:
        values, result = simd.flat(source), target[to : to + count]
        for q in range(count):
            result[q] = values[at + q * stride]


@jit(forceinline=True)
def _put(target, to, vector, count, lanes, over):
    if over or count >= lanes:
        simd.store(target, to, vector)
    else:
        simd.store_part(target, to, vector, count)


@jit(forceinline=True)
def copy_run(source, at, target, to, count, lanes):
    """target[to + q] = source[at + q] for q < count; the last vector overlaps the one before, if it can."""
    if count < lanes:
        simd.store_part(target, to, simd.load_part(source, at, count), count)
        return
    for q in range(0, count - lanes, lanes):
        simd.store(target, to + q, simd.load(source, at + q))
    simd.store(target, to + count - lanes, simd.load(source, at + count - lanes))


#: Bytes of an image, or of weights, beyond which what is read next is fetched: no hardware foresees parts of rows.
#: (From 64 to 3 channels, 3x3, 256x256, on an AMD EPYC of Zen 3: 1.15 times as fast.)
FAR_BYTES = 4 << 20


def fill_address(dtype: np.dtype) -> int:
    """Address of the micro-kernel `fill`, for kernels that call it."""
    row, place, table = micro.array(dtype), micro.PLACE, micro.array(np.int64)
    types_ = row, *[place] * 7, table, table, *[place] * 3, row, place
    return micro.address(fill, (simd.lanes(dtype),), types_)


def fill(lanes: int) -> Any:
    """A micro-kernel that copies channels into a patch, see the module's equation; it is called as ``fill(x, at, h, w,
    top, left, channels, rows, row_phases, phases, stride_h, stride_w, pitch, patch, to)``.

    The first of `channels` planes of x, of h rows and w columns, begins at `at`, the patch at `to`; (top, left) is the
    corner.
    """

    @jit(key=(lanes,))
    def fill_patch(x, at, h, w, top, left, channels, rows, row_phases, phases, stride_h, stride_w, pitch, patch, to):
        is_far = channels * h * w * x.itemsize > FAR_BYTES
        for f in range(phases.size):
            shift = left + phases[f]
            begin = min(max(0, -(shift // stride_w)), pitch)
            end = max(min(pitch, (w - 1 - shift) // stride_w + 1), begin)
            line = to + f * pitch
            for c in range(channels):
                for r in range(rows):
                    for k in range(row_phases.size):
                        row = top + r * stride_h + row_phases[k]
                        if 0 <= row < h:
                            source = at + (c * h + row) * w + begin * stride_w + shift
                            # What is written behind a row is the next one's, which comes later.
                            over = phases.size == 1 and (c + 1 < channels or r + 1 < rows or k + 1 < row_phases.size)
                            zeros_row(patch, line, begin, lanes, over)
                            if is_far:  # then what is copied next: in this plane, or the next one
                                below = stride_h if r + 1 < rows else h - (rows - 1) * stride_h
                                for q in range(0, (end - begin) * stride_w, 64 // x.itemsize):
                                    simd.fetch(x, source + below * w + q)
                            copy_row(x, source, stride_w, patch, line + begin, end - begin, lanes, over)
                            zeros_row(patch, line + end, pitch - end, lanes, over)
                        else:
                            zeros(patch, line, pitch, lanes)
                        line += phases.size * pitch

    return fill_patch


def transposed_address(dtype: np.dtype) -> int:
    """Address of the micro-kernel `transposed`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    return micro.address(transposed, (simd.lanes(dtype),), (row, *[place] * 4, row, place, place))


def transposed(lanes: int) -> Any:
    """A micro-kernel that transposes a matrix: ``transposed(source, at, pitch, rows, columns, target, to,
    target_pitch)`` is ``target[to + c * target_pitch + r] = source[at + r * pitch + c]``."""

    @jit(key=(lanes,))
    def transpose_blocks(source, at, pitch, rows, columns, target, to, target_pitch):
        for r in range(0, rows, lanes):
            for c in range(0, columns, lanes):
                high, wide = min(lanes, rows - r), min(lanes, columns - c)
                begin, goal = at + r * pitch + c, to + c * target_pitch + r
                simd.transpose(source, begin, pitch, high, wide, target, goal, target_pitch)

    return transpose_blocks
