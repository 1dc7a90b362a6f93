"""The blocked loop nest around the register tile, which `conv_direct` and `conv_pointwise` share.

::

    out[o, i, j] = bias[o] + sum over t of weight[o, t] * patch[offset[t], i rows and j columns on]        t = (c, a, b)

A task computes a block of output rows and columns of one image and group: it fills a patch (`patch`: padding written
out, every tap at a fixed distance), then runs panels of output channels, rows, tiles. The patch stays in the
second-level cache and a panel of weights streams through the first. Where there are fewer blocks than threads, tasks
share the panels of a block.

Source: Georganas et al., Anatomy of high-performance deep learning convolutions on SIMD architectures, SC 2018.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ..spec import ConvSpec, Pair
from . import patch, simd
from .machine import Machine
from .runtime import jit, kernel, num_threads
from .runtime import scratch as runtime_scratch
from .tile import tile, tile_shape

#: Bytes of one patch: of 32 KiB to 512 KiB the best for 3x3 layers of 64 to 256 channels, as it shares a second-level
#: cache of 1 MiB with the weights.
PATCH_BYTES = 320 << 10


#: What packing one weight costs, in the operations that `Kernel.sized` counts.
PACK_OPERATIONS = 16


class Tiles(NamedTuple):
    """The shape of a tile."""

    x_in_lanes: bool
    """Whether a vector holds pixels of a row (and a tile's rows are output channels), or output channels (pixels)."""
    rows: int
    vectors: int
    panel: int
    """Output channels of a tile."""
    pixels: int
    """Pixels of a tile, along a row of output."""


class Blocking(NamedTuple):
    """How a problem is cut up."""

    tiles: Tiles
    panels: int
    """Panels in a group."""
    block_h: int
    block_w: int
    """Output rows and columns of one task."""
    shares: int
    """Tasks that split the panels of one block."""


def blocking(spec: ConvSpec, tiles: Tiles, threads: int) -> Blocking:
    """Blocks whose patch fits the cache, enough of them to go round."""
    panels = -(-(spec.c_out // spec.groups) // tiles.panel)
    block_w = min(-(-spec.ow // tiles.pixels), max(1, 112 // tiles.pixels)) * tiles.pixels
    rows, down, phases, pitch = patch.shape(spec, 1, block_w)
    row_bytes = spec.c_in // spec.groups * down * phases * pitch * spec.acc_dtype.itemsize
    block_h = PATCH_BYTES // row_bytes - rows + 1
    across = spec.n * spec.groups * -(-spec.ow // block_w)
    if threads > 1:
        block_h = min(block_h, -(-spec.oh * across // (4 * threads)))
    block_h = max(1, min(block_h, spec.oh))
    tasks = max(1, across * -(-spec.oh // block_h))  # an empty batch has a plan, too
    shares = 1 if tasks >= threads else min(panels, -(-threads // tasks))
    return Blocking(tiles, panels, block_h, block_w, shares)


#: Below this many operations a tile of the exact width is not worth compiling: one of two widths is taken, with idle
#: rows.
SMALL = 2e7


def channel_tiles(spec: ConvSpec) -> Tiles:
    """Output channels in lanes, and a row's pixels in the fewest tiles, all about as wide."""
    most = tile_shape()[0]
    pixels = -(-spec.ow // -(-spec.ow // most))
    if spec.flops < SMALL or pixels < most // 2:
        pixels = most // 2 if spec.ow <= most // 2 else most
    vectors = 1 if spec.c_out // spec.groups <= simd.lanes(spec.acc_dtype) else tile_shape()[1]
    return Tiles(False, pixels, vectors, vectors * simd.lanes(spec.acc_dtype), pixels)


def pixel_tiles(spec: ConvSpec) -> Tiles:
    """Pixels in lanes: 4 or 8 channels by as many vectors of a row as registers allow, or by one for short rows."""
    lanes, channels = simd.lanes(spec.acc_dtype), spec.c_out // spec.groups
    rows = 4 if channels <= 4 else 8
    vectors = 1 if spec.ow <= lanes else min(simd.registers() * 3 // 4 // rows, 6)
    return Tiles(True, rows, vectors, rows, vectors * lanes)


def _patch_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of a patch, with room behind for a tile to read."""
    return patch.size(spec, plan.block_h, plan.block_w) + plan.tiles.pixels


def _blocks(spec: ConvSpec, plan: Blocking) -> int:
    return spec.n * spec.groups * -(-spec.oh // plan.block_h) * -(-spec.ow // plan.block_w)


def scratch(spec: ConvSpec, plan: Blocking) -> int:
    """Bytes of the patches of all threads."""
    return num_threads() * _patch_size(spec, plan) * spec.x_dtype.itemsize

#: Time of integers in that of floats: they take a multiplication and an addition (measured on an AMD EPYC 9004).
INTEGERS = 1.45


def cost(spec: ConvSpec, plan: Blocking, machine: Machine) -> float:
    """Estimated seconds: the tiles' multiply-adds, whole tiles counted, and the copying into patches."""
    tiles = plan.tiles
    pixels = spec.oh * -(-spec.ow // tiles.pixels) * tiles.pixels
    products = spec.n * spec.groups * plan.panels * tiles.panel * pixels * spec.taps
    epilogues = spec.n * spec.groups * plan.panels * pixels * tiles.panel / simd.lanes(spec.acc_dtype)
    copied = _blocks(spec, plan) * plan.shares * _patch_size(spec, plan) * spec.acc_dtype.itemsize
    rate = machine.tile_flops * simd.lanes(spec.acc_dtype) / 16
    if spec.acc_dtype.kind != "f":
        rate /= INTEGERS
    seconds = 2 * products / rate + epilogues * machine.tile_row + copied / machine.patch_bandwidth
    return machine.call + seconds / machine.threads


class Packed(NamedTuple):
    """A problem made ready to run: all that does not depend on the input."""

    loops: Any
    tasks: int
    weight: np.ndarray
    """(groups, panels, taps, panel): what a tile reads lies side by side; zeros fill the last panel."""
    offsets: np.ndarray
    row_phases: np.ndarray
    phases: np.ndarray
    floor: np.generic
    stride: Pair
    pad: Pair
    sizes: tuple[int, ...]
    patch_size: int


def pack(spec: ConvSpec, plan: Blocking, weight: np.ndarray) -> Packed:
    """Everything `run` needs; `weight` is (c_out, c_in / groups, kh, kw) of this very spec."""
    packed = np.zeros((spec.groups, plan.panels, spec.taps, plan.tiles.panel), spec.acc_dtype)
    order = _blocked_pack.sized(packed.size * PACK_OPERATIONS)
    order(weight.reshape(spec.groups, -1, spec.taps), packed, simd.lanes(spec.acc_dtype))
    return _unpacked(spec, plan)._replace(weight=packed)


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, plan: Blocking) -> Packed:
    """All but the weights; kept, because a plain `conv2d` call packs every time."""
    tiles = plan.tiles
    rows, *_, pitch = patch.shape(spec, plan.block_h, plan.block_w)
    return Packed(
        loops=_loops(tiles.rows, tiles.vectors, tiles.x_in_lanes).sized(spec.flops),
        tasks=_blocks(spec, plan) * plan.shares,
        weight=np.empty(0, spec.acc_dtype),
        offsets=patch.offsets(spec, plan.block_h, plan.block_w),
        row_phases=patch.phases(spec.kh, spec.dilation[0], spec.stride[0]),
        phases=patch.phases(spec.kw, spec.dilation[1], spec.stride[1]),
        floor=spec.floor,
        stride=spec.stride,
        pad=(spec.padding[0][0], spec.padding[1][0]),
        sizes=(
            plan.block_h,
            plan.block_w,
            plan.shares,
            rows,
            pitch,
            tiles.pixels,
            spec.c_in // spec.groups,
            simd.lanes(spec.x_dtype),
        ),
        patch_size=_patch_size(spec, plan),
    )


def run(packed: Packed, x: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Convolve."""
    padded = panel_biases(packed.weight, bias)
    patches = runtime_scratch(packed.patch_size, x.dtype)
    packed.loops(
        packed.tasks,
        x,
        packed.offsets,
        packed.weight,
        padded,
        packed.floor,
        out,
        patches,
        packed.row_phases,
        packed.phases,
        packed.stride,
        packed.pad,
        packed.sizes,
    )


def panel_biases(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The biases of whole panels, zeros in those that nothing fills; `weight` is (groups, panels, ..., panel)."""
    groups, panels, *_, panel = weight.shape
    padded = np.zeros((groups, panels * panel), bias.dtype)
    padded[:, : bias.size // groups] = bias.reshape(groups, -1)
    return padded


@kernel
def _blocked_pack(weight, packed, lanes):
    groups, panels, taps, panel = packed.shape
    channels = weight.shape[1]
    for job in prange(groups * panels):
        group, p = job // panels, job % panels
        for k in range(p * panel, min((p + 1) * panel, channels), lanes):
            rows = min(lanes, min((p + 1) * panel, channels) - k)
            for t in range(0, taps, lanes):
                at, to = (group * channels + k) * taps + t, (job * taps + t) * panel + k - p * panel
                simd.transpose(weight, at, taps, rows, min(lanes, taps - t), packed, to, panel)


@lru_cache(maxsize=64)
def _loops(tile_rows: int, vectors: int, x_in_lanes: bool) -> Any:
    """The kernel for one shape of tile."""
    sums = tile(tile_rows, vectors, x_in_lanes=x_in_lanes)
    fill = patch.fill

    @jit(key=(tile_rows, vectors, x_in_lanes))
    def _blocked_task(job, x, offsets, packed, bias, floor, out, seen, row_phases, phases, stride, pad, sizes):
        c_out, oh, ow = out.shape[1:]
        groups, panels, taps, panel = packed.shape
        block_h, block_w, shares, rows, pitch, pixels, c_group, lanes = sizes
        high, wide = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        share, block = job % shares, job // shares
        j0, i0 = block % wide * block_w, block // wide % high * block_h
        group, image = block // (wide * high) % groups, block // (wide * high * groups)
        corner = i0 * stride[0] - pad[0], j0 * stride[1] - pad[1]
        fill(x, image, group * c_group, corner, c_group, rows, row_phases, phases, stride, pitch, seen, lanes)
        channels = c_out // groups
        for p in range(share * panels // shares, (share + 1) * panels // shares):
            plane = group * channels + p * panel
            inside = min(panel, channels - p * panel)
            weights = (group * panels + p) * panel
            for i in range(min(block_h, oh - i0)):
                base = i * row_phases.size * phases.size * pitch
                for j in range(0, min(block_w, ow - j0), pixels):
                    to = ((image * c_out + plane) * oh + i0 + i) * ow + j0 + j
                    some = min(pixels, ow - j0 - j)
                    valid_rows, valid_lanes = (inside, some) if x_in_lanes else (some, inside)
                    sums(
                        seen,
                        base + j,
                        offsets,
                        packed,
                        weights * taps,
                        bias,
                        weights,
                        floor,
                        out,
                        to,
                        oh * ow,
                        valid_rows,
                        valid_lanes,
                    )

    @kernel(key=(tile_rows, vectors, x_in_lanes))
    def _blocked_loops(tasks, x, offsets, packed, bias, floor, out, patches, row_phases, phases, stride, pad, sizes):
        for job in prange(tasks):
            seen = patches[numba.get_thread_id()]
            # The index of a parallel loop is unsigned; the cast saves compiling the task for both types.
            _blocked_task(
                np.int64(job), x, offsets, packed, bias, floor, out, seen, row_phases, phases, stride, pad, sizes
            )

    return _blocked_loops
