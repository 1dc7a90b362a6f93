"""Blocked direct convolution on the register tile: no unrolled matrix, any kernel, stride, dilation and groups.

::

    out[n, o, i, j] = bias[o] + sum over t of weight[o, t] * patch[i * stride_h, j + offset[t]]      t = (c, a, b)

What it changes over `im2col`: the columns are never built. A block of the input is copied once into a *patch*, padding
written out and the columns of a strided convolution sorted by remainder, after which every tap of every output
is at a fixed distance from the output's own place: a table of offsets turns the triple sum into one flat loop
(indirect convolution), which is what the register tile needs.

Layouts: patch (c_in / groups, rows, stride_w, columns / stride_w); weights (groups, panels, taps, panel) with the output
channels of a panel side by side. Where a group has enough output channels they lie in the vector's lanes and a tile is
14 pixels of a row by 2 vectors; where not, 16 pixels do and a tile is a few channels by a few vectors of pixels.

Loop order: tasks are blocks of output rows and columns of one image and group (and, where these are few, shares of the
panels); a task fills its patch, then runs panels, rows, tiles. The patch stays in the second-level cache; a panel of weights
streams through the first.

Source: Georganas et al., Anatomy of high-performance deep learning convolutions on SIMD architectures, SC 2018;
Dukhan, The indirect convolution algorithm, arXiv:1907.02129. Measured: see README.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ..spec import ConvSpec
from . import simd
from .machine import Machine
from .runtime import kernel

#: Bytes of one patch: a quarter of a 1 MiB second-level cache, which it shares with the weights.
PATCH_BYTES = 256 << 10


class Blocking(NamedTuple):
    """How a problem is cut up."""

    x_in_lanes: bool
    rows: int
    """Rows of a tile: pixels, or output channels if x_in_lanes."""
    vectors: int
    panel: int
    """Output channels computed by one tile."""
    pixels: int
    """Pixels of an output row computed by one tile."""
    panels: int
    """Panels in a group."""
    block_h: int
    block_w: int
    """Output rows and columns of one task."""
    shares: int
    """Tasks that split the panels of one block."""


def supports(spec: ConvSpec) -> str | None:
    if spec.acc_dtype == np.int64:
        return "64-bit integers have no vector multiplication; only float and 8-bit integer operands"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    plan = _blocking(spec, machine.threads)
    lanes = simd.lanes(spec.acc_dtype)
    across = -(-spec.ow // plan.pixels) * plan.pixels
    done = 2 * spec.n * spec.groups * plan.panels * plan.panel * spec.oh * across * spec.taps
    rate = machine.tile_flops * lanes / 16
    return machine.call + (done / rate + 2 * _patches(spec, plan) / machine.bandwidth) / machine.threads


def _patches(spec: ConvSpec, plan: Blocking) -> int:
    """Bytes copied into patches."""
    blocks = -(-spec.oh // plan.block_h) * -(-spec.ow // plan.block_w)
    return spec.n * spec.groups * blocks * plan.shares * _patch_size(spec, plan) * spec.acc_dtype.itemsize


def scratch(spec: ConvSpec) -> int:
    import numba

    threads = numba.get_num_threads()
    return threads * _patch_size(spec, _blocking(spec, threads)) * spec.acc_dtype.itemsize


def _patch_size(spec: ConvSpec, plan: Blocking) -> int:
    rows, pitch = _patch_shape(spec, plan.block_h, plan.block_w)
    return spec.c_in // spec.groups * rows * spec.stride[1] * pitch + plan.pixels


def _patch_shape(spec: ConvSpec, block_h: int, block_w: int) -> tuple[int, int]:
    rows = (block_h - 1) * spec.stride[0] + (spec.kh - 1) * spec.dilation[0] + 1
    return rows, block_w + (spec.kw - 1) * spec.dilation[1] // spec.stride[1]


@lru_cache(maxsize=4096)
def _blocking(spec: ConvSpec, threads: int) -> Blocking:
    lanes = simd.lanes(spec.acc_dtype)
    most, vectors = simd.tile_shape(spec.acc_dtype)
    channels = spec.c_out // spec.groups
    x_in_lanes = channels < lanes and spec.ow >= lanes // 2
    if x_in_lanes:
        rows = channels if channels <= 8 else -(-channels // 2)
        vectors = max(1, min(simd.registers() * 3 // 4 // rows, 6, -(-spec.ow // lanes)))
        panel, pixels = rows, vectors * lanes
    else:
        rows = -(-spec.ow // -(-spec.ow // most))  # the fewest tiles in a row, all about as wide
        if channels <= lanes:
            vectors = 1
        panel, pixels = vectors * lanes, rows
    panels = -(-channels // panel)
    block_w = min(-(-spec.ow // pixels), max(1, 112 // pixels)) * pixels
    element = spec.c_in // spec.groups * spec.stride[1] * spec.acc_dtype.itemsize
    budget = PATCH_BYTES // element // (_patch_shape(spec, 1, block_w)[1])
    block_h = max(1, min(spec.oh, (budget - (spec.kh - 1) * spec.dilation[0] - 1) // spec.stride[0] + 1))
    wide = spec.n * spec.groups * -(-spec.ow // block_w)
    enough = 4 * threads if threads > 1 else 1
    block_h = max(1, min(block_h, -(-spec.oh * wide // enough)))
    tasks = wide * -(-spec.oh // block_h)
    shares = 1 if tasks >= threads else min(panels, -(-threads // tasks))
    return Blocking(x_in_lanes, rows, vectors, panel, pixels, panels, block_h, block_w, shares)


def prepare(spec: ConvSpec, weight: np.ndarray) -> Any:
    import numba

    plan = _blocking(spec, numba.get_num_threads())
    packed = np.zeros((spec.groups, plan.panels, spec.taps, plan.panel), spec.acc_dtype)
    _direct_pack(weight.reshape(spec.groups, -1, spec.taps), packed, simd.lanes(spec.acc_dtype))
    return packed


def run(spec: ConvSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    import numba

    plan = _blocking(spec, numba.get_num_threads())
    rows, pitch = _patch_shape(spec, plan.block_h, plan.block_w)
    c, a, b = np.ogrid[: spec.c_in // spec.groups, : spec.kh, : spec.kw]
    step, column = spec.stride[1], b * spec.dilation[1]
    offsets = ((c * rows + a * spec.dilation[0]) * step + column % step) * pitch + column // step
    biases = np.zeros((spec.groups, plan.panels * plan.panel), spec.acc_dtype)
    biases[:, : spec.c_out // spec.groups] = bias.reshape(spec.groups, -1)
    floor = spec.acc_dtype.type(-np.inf if spec.acc_dtype.kind == "f" else np.iinfo(spec.acc_dtype).min)
    (top, _), (left, _) = spec.padding
    _loops(plan.rows, plan.vectors, plan.x_in_lanes)(
        x, offsets.reshape(-1), packed, biases, floor, out, (rows, pitch, plan.pixels), spec.stride, (top, left),
        (plan.block_h, plan.block_w, plan.shares),
    )


@kernel
def _direct_pack(weight, packed, lanes):
    groups, panels, taps, panel = packed.shape
    channels = weight.shape[1]
    for job in prange(groups * panels):
        group, p = job // panels, job % panels
        for k in range(p * panel, min((p + 1) * panel, channels), lanes):
            for t in range(0, taps, lanes):
                at, to = (group * channels + k) * taps + t, (job * taps + t) * panel + k - p * panel
                rows = min(lanes, min((p + 1) * panel, channels) - k)
                simd.transpose(weight, at, taps, rows, min(lanes, taps - t), packed, to, panel)


@lru_cache(maxsize=64)
def _loops(rows: int, vectors: int, x_in_lanes: bool) -> Any:
    """The kernel for one shape of tile."""
    tile = simd.tile(rows, vectors, x_in_lanes=x_in_lanes, planes=True)

    @kernel(key=(rows, vectors, x_in_lanes))
    def _direct_loops(x, offsets, packed, bias, floor, out, patch_shape, stride, pad, blocks):
        n, c_out, oh, ow = out.shape
        groups, panels, taps, panel = packed.shape
        h, w = x.shape[2:]
        rows_in, pitch, pixels = patch_shape
        block_h, block_w, shares = blocks
        c_group, channels = x.shape[1] // groups, c_out // groups
        high, wide = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        for job in prange(n * groups * high * wide * shares):
            share, block = job % shares, job // shares
            j0, i0 = block % wide * block_w, block // wide % high * block_h
            group, image = block // (wide * high) % groups, block // (wide * high * groups)
            patch = np.empty(c_group * rows_in * stride[1] * pitch + pixels, x.dtype)
            corner = i0 * stride[0] - pad[0], j0 * stride[1] - pad[1]
            for c in range(c_group):
                for r in range(rows_in):
                    row = corner[0] + r
                    for phase in range(stride[1]):
                        at = ((c * rows_in + r) * stride[1] + phase) * pitch
                        target = patch[at : at + pitch]
                        shift = corner[1] + phase
                        first = min(max(0, -(shift // stride[1])), pitch)
                        last = max(min(pitch, (w - 1 - shift) // stride[1] + 1), first)
                        if row < 0 or row >= h:
                            first, last = pitch, pitch
                        target[:first] = 0
                        source = x[image, group * c_group + c, max(0, min(row, h - 1))]
                        if stride[1] == 1:
                            target[first:last] = source[first + shift : last + shift]
                        else:
                            for q in range(first, last):
                                target[q] = source[q * stride[1] + shift]
                        target[last:] = 0
            for p in range(share * panels // shares, (share + 1) * panels // shares):
                plane = group * channels + p * panel
                inside = min(panel, channels - p * panel)
                for i in range(min(block_h, oh - i0)):
                    base = i * stride[0] * stride[1] * pitch
                    for j in range(0, min(block_w, ow - j0), pixels):
                        at = ((image * c_out + plane) * oh + i0 + i) * ow + j0 + j
                        some = min(pixels, ow - j0 - j)
                        tile(
                            patch, base + j, offsets, packed, (group * panels + p) * taps * panel,
                            bias, (group * panels + p) * panel, floor, out, at, oh * ow,
                            inside if x_in_lanes else some, some if x_in_lanes else inside,
                        )  # fmt: skip

    return _direct_loops
