"""Transposed depthwise convolution with a stride: bilinear upsampling, the decoders and gradients of depthwise layers.

::

    out[n, c, u, v] = bias[c] + sum over (a, i), (b, j) of weight[c, a, b] * y[n, c // multiplier, i, j]
                      with i * stride_h + a * dilation_h = u + top, and b, j and v alike

The columns v of one remainder by the stride, a phase, see the same taps: lane l of a vector is column v + l * stride_w,
and what it sees lies in y side by side. A register tile has a vector for each phase of a few rows that see the same
taps, too: a weight is loaded once for all of them. The phases are interleaved while they are in registers, so that the
output is written once and never read.

What it changes over a convolution for each phase (`transpose_phases`): those convolutions write their results to
memory, and another loop interleaves them, which takes longer than the sums. Here nothing but the output is written,
weights are read as they lie, and no tap is multiplied that the definition does not have: a NaN in y reaches just the
outputs that see it.

Loop order: tasks are blocks of rows of a plane. In each, the part of y that it sees is copied into a patch with zeros
around; then come the phases of rows, groups of rows, tiles along them. The last tile and group are moved back to end
where the output ends.

Source: Shi et al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009, for the phases.
Measured: 64 channels of 28 x 28, 4x4, stride 2, one core of an AMD EPYC 9004: 63 us, of which writing the output takes
15 (140 with phases that are interleaved afterwards; 67 with AVX2's registers).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.arguments import Pair
from ...specs.arrays import kernel_ready
from ...specs.conv import ConvSpec
from ...specs.conv_transpose import TransposeSpec
from ..machine import Machine
from ..shared.patch import copy_run
from ..system import micro
from ..system.kernels import Launch, kernel
from ..system.memory import scratch_rows
from ..tiles import simd
from ..tiles.phase_tile import phase_tile_address
from ..tiles.simd import registers

#: Horizontal strides up to this have a tile: the sums of all phases stay in registers.
MOST_PHASES = 8
#: Bytes of a patch: it stays in the first-level cache, or nearly.
PATCH_BYTES = 32 << 10
#: Most bytes of a patch: in a larger one, dilation would be so large that nearly all of it were zeros.
LIMIT_BYTES = 8 << 20
#: Cycles of a vector that is loaded and multiplied (most cross a cache line), of a tap's other loads and its loop, of a
#: vector interleaved and written, whole or under a mask, and to begin and end a tile (fitted on an AMD EPYC 9004).
PRODUCT, TAP, WRITE, MASKED, TILE = 1.7, 3, 4, 12, 20


class Blocking(NamedTuple):
    """The blocks of rows and the tiles that a problem is cut into, and the patch of a block."""

    rows: int
    vectors: int
    """Rows and vectors of a tile, for each phase."""
    tall: int
    """Rows of the output that a task makes."""
    pitch: int
    """Elements of a row of the patch."""
    left: int
    """Column of y at which the patch begins, perhaps before the first."""
    seen: int
    """Rows of the patch."""


def supports(spec: TransposeSpec) -> str | None:
    problem = spec.convolution
    if spec.axes == 3:
        return "it is for images"
    if problem.c_out != problem.groups:
        return f"it needs as many groups as there are channels in, {problem.c_out}, not {problem.groups}"
    if max(problem.stride) == 1:
        return "without a stride there are no phases"
    if problem.stride[1] > MOST_PHASES:
        return f"the stride is {problem.stride[1]} columns, more than the {MOST_PHASES} phases of a register tile"
    if scratch_bytes(problem) > LIMIT_BYTES:
        return f"its patch of the input would take more than {LIMIT_BYTES >> 10} KiB"
    return None


def _reach(spec: ConvSpec) -> Pair:
    """How many rows and columns before its own place in y an element of a phase sees."""
    down, across = ((taps - 1) * gap // step for taps, gap, step in zip((spec.kh, spec.kw), spec.dilation, spec.stride,
                                                                         strict=True))  # fmt: skip
    return down, across


@lru_cache(maxsize=1024)
def blocking(spec: ConvSpec) -> Blocking:
    """The blocking with the tile that takes least time, and with patches that fit a cache."""
    unit = 4
    while unit > 1 and unit * spec.stride[1] * 4 > registers() * 3:
        unit //= 2
    options = [(unit, 1), (1, unit), (1, 1)] if spec.h // spec.stride[0] >= unit else [(1, unit), (1, 1)]
    rows, vectors = min(options, key=lambda option: _cycles(spec, *option))
    lanes, (down, across), step = simd.lanes(spec.acc_dtype), _reach(spec), spec.stride[1]
    pad = spec.padding[1][0]
    left = pad // step - across
    last = max((spec.w - 1 + pad) // step, (step - 1 + pad) // step + vectors * lanes - 1)
    pitch = -(-(last - left + 1) // lanes) * lanes
    tall = max(PATCH_BYTES // (pitch * spec.acc_dtype.itemsize) - down - 1, 2 * rows) * spec.stride[0]
    return Blocking(rows, vectors, min(tall, spec.h), pitch, left, tall // spec.stride[0] + down + 2)


def _cycles(spec: ConvSpec, rows: int, vectors: int) -> float:
    """Estimated cycles for one plane, on a core that begins a vector multiply-add in each."""
    lanes, (down, across) = simd.lanes(spec.acc_dtype), spec.stride
    tiles = min(down, spec.h) * -(-spec.h // (down * rows)) * -(-spec.w // (across * vectors * lanes))
    taps = -(-spec.kh // down) * spec.kw
    write = WRITE if spec.w >= across * vectors * lanes else MASKED
    return tiles * (taps * (TAP + PRODUCT * rows * vectors) + across * rows * vectors * write + TILE)


def cost(spec: TransposeSpec, machine: Machine) -> float:
    problem = spec.convolution
    plan = blocking(problem)
    cycles = problem.n * problem.c_in * _cycles(problem, plan.rows, plan.vectors)
    return machine.call + cycles * 32 / machine.row_tile_flops


def scratch(spec: TransposeSpec) -> int:
    """Bytes of a thread's patch, and of `x` in the dtype that is added up in."""
    converted = 0 if spec.x_dtype == spec.acc_dtype else math.prod(spec.x_shape) * spec.acc_dtype.itemsize
    return scratch_bytes(spec.convolution) + converted


def prepare(spec: TransposeSpec, weight: np.ndarray) -> np.ndarray:
    return weight


def run(spec: TransposeSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    _prepared(spec).run(kernel_ready(x, spec.acc_dtype), packed, bias, out)


def scratch_bytes(spec: ConvSpec) -> int:
    """Bytes of one thread's patch."""
    plan = blocking(spec)
    return (plan.pitch * plan.seen + simd.lanes(spec.acc_dtype)) * spec.acc_dtype.itemsize


class Prepared:
    """All that a call needs beside its arrays."""

    def __init__(self, spec: ConvSpec) -> None:
        plan, (down, _) = blocking(spec), _reach(spec)
        self._patch, self._dtype = scratch_bytes(spec) // spec.acc_dtype.itemsize, spec.acc_dtype
        self._tables = _tables(spec, plan.pitch)
        blocks = -(-spec.h // plan.tall)
        pads = spec.padding[0][0], spec.padding[1][0]
        geometry = blocks, spec.stride[0], *pads, down, plan.left, plan.pitch
        self._sizes = *geometry, spec.stride[1], simd.lanes(spec.acc_dtype)
        self._tile = phase_tile_address(spec.stride[1], plan.rows, plan.vectors, spec.acc_dtype)
        operations = 32 * spec.n * spec.c_in * _cycles(spec, plan.rows, plan.vectors)  # a core's in that time
        self._launch = Launch(_transposed_depthwise, operations)

    def run(self, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
        """`y`, `weight` and `out` have the shapes of the convolution's output, weight and input."""
        patches = scratch_rows(self._patch, self._dtype)
        self._launch.call(self._tile, y, weight, bias, out, patches, *self._tables, self._sizes)


@lru_cache(maxsize=1024)
def _prepared(spec: TransposeSpec) -> Prepared:
    return Prepared(spec.convolution)


def _tables(spec: ConvSpec, pitch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The taps of each phase: distances in the patch; numbers in the kernel; where each phase begins, by row phases.

    A tap a of the rows of remainder r sees row m - (a * dilation - r) / stride of y, m being the quotient.
    """
    axes = zip((spec.kh, spec.kw), spec.stride, spec.dilation, strict=True)
    rows, columns = ([[(tap, (tap * gap - r) // step) for tap in range(taps) if (tap * gap - r) % step == 0]
                      for r in range(step)] for taps, step, gap in axes)  # fmt: skip
    offsets, order, starts = [], [], [0]
    for row in rows:
        for column in columns:
            offsets += [-(up * pitch + back) for _, up in row for _, back in column]
            order += [a * spec.kw + b for a, _ in row for b, _ in column]
            starts.append(len(order))
    return np.array(offsets, np.int64), np.array(order, np.int64), np.array(starts, np.int64)


@kernel
def _transposed_depthwise(tile, y, weight, bias, out, patches, offsets, order, starts, sizes):
    n, channels, h, w = out.shape
    seen, high, wide = y.shape[1:]
    blocks, step, top, side, reach, left, pitch, phases, lanes = sizes
    taps = weight.shape[2] * weight.shape[3]
    begin = min(max(0, -left), pitch)
    count = max(0, min(wide - left, pitch) - begin)
    zero = simd.splat(out.dtype.type(0))
    for job in prange(n * channels * blocks):
        plane, block = job // blocks, job % blocks
        c = plane % channels
        source = (plane // channels * seen + c // (channels // seen)) * high
        patch = patches[numba.get_thread_id()]
        first, stop = h * block // blocks, h * (block + 1) // blocks
        lowest = (first + top) // step - reach
        rows_seen = (stop - 1 + top) // step - lowest + 1
        for q in range(0, rows_seen * pitch, lanes):
            simd.store(patch, q, zero)
        for i in range(max(0, -lowest), min(rows_seen, high - lowest)):
            at = (source + lowest + i) * wide + begin + left
            copy_run(y, at, patch, i * pitch + begin, count, lanes)
        for u in range(first, min(first + step, stop)):
            phase, row = (u + top) % step * phases, (u + top) // step - lowest
            several, to = (stop - u + step - 1) // step, (plane * h + u) * w
            micro.call(tile, patch, row * pitch - left, pitch, weight, c * taps, offsets, order, starts, phase, side,
                       bias[c], out, to, step * w, several, w)  # fmt: skip

