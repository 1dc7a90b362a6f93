"""The blocked loop nest around the register tile, which `conv_direct` and `conv_pointwise` share.

A task computes a block of output rows and columns of one image and group. It copies what the block sees of the input into
a *patch*: padding written out, and the columns of a strided convolution sorted by remainder, so that the taps of every
output lie at fixed distances from the output's own place. A table of these distances turns the sum over channels and taps
into one flat loop (indirect convolution), which is what the register tile needs::

    patch[c, r, phase_h, phase_w, q] = x[n, first + c, corner_h + r * stride_h + phase_h, corner_w + q * stride_w + phase_w]
    out[o, i, j] = bias[o] + sum over t of weight[o, t] * patch[offset[t], i rows and j columns on]

with zeros outside the image, and only the phases (remainders by the stride) that some tap falls on.

Loop order: tasks; in a task the patch, then panels of output channels, rows, tiles. The patch stays in the second-level cache and
a panel of weights streams through the first. Where there are fewer blocks than threads, tasks share the panels of a block.

Source: Georganas et al., Anatomy of high-performance deep learning convolutions on SIMD architectures, SC 2018;
Dukhan, The indirect convolution algorithm, arXiv:1907.02129.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ..spec import ConvSpec, Pair
from . import simd
from .machine import Machine
from .runtime import jit, kernel
from .runtime import scratch as runtime_scratch

#: Bytes of one patch: of 32 KiB to 512 KiB the best for 3x3 layers of 64 to 256 channels, as it shares a second-level
#: cache of 1 MiB with the weights.
PATCH_BYTES = 320 << 10


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
    down: int = 1
    """Output rows of a tile: more than one only for single output channels, whose tile rows these are."""


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
    rows, down, phases, pitch = _patch_shape(spec, 1, block_w)
    row_bytes = spec.c_in // spec.groups * down * phases * pitch * spec.acc_dtype.itemsize
    block_h = PATCH_BYTES // row_bytes - rows + 1
    across = spec.n * spec.groups * -(-spec.ow // block_w)
    if threads > 1:
        block_h = min(block_h, -(-spec.oh * across // (4 * threads)))
    block_h = max(1, min(block_h, spec.oh))
    tasks = max(1, across * -(-spec.oh // block_h))  # an empty batch has a plan, too
    shares = 1 if tasks >= threads else min(panels, -(-threads // tasks))
    return Blocking(tiles, panels, block_h, block_w, shares)


def channel_tiles(spec: ConvSpec) -> Tiles:
    """Output channels in lanes, and a row's pixels in the fewest tiles, all about as wide."""
    most, vectors = simd.tile_shape(spec.acc_dtype)
    lanes = simd.lanes(spec.acc_dtype)
    pixels = -(-spec.ow // -(-spec.ow // most))
    vectors = 1 if spec.c_out // spec.groups <= lanes else vectors
    return Tiles(False, pixels, vectors, vectors * lanes, pixels)


def pixel_tiles(spec: ConvSpec) -> Tiles:
    """Pixels in lanes: up to 8 channels by as many vectors of a row as registers allow."""
    lanes, channels = simd.lanes(spec.acc_dtype), spec.c_out // spec.groups
    rows = -(-channels // -(-channels // 8))
    vectors = max(1, min(simd.registers() * 3 // 4 // rows, 6, -(-spec.ow // lanes)))
    return Tiles(True, rows, vectors, rows, vectors * lanes)


def stacked(spec: ConvSpec, down: int) -> ConvSpec:
    """The problem of single output channels with `down` rows of output as if these were channels.

    The kernel of row r is the given one moved down by r strides, with zeros around. All these kernels read one window, so
    that a vector loaded once serves several rows.
    """
    window = (spec.kh - 1) * spec.dilation[0] + (down - 1) * spec.stride[0] + 1
    return replace(
        spec,
        groups=spec.c_out,
        c_in=spec.c_in // spec.groups * spec.c_out,
        c_out=spec.c_out * down,
        kh=window,
        oh=-(-spec.oh // down),
        stride=(spec.stride[0] * down, spec.stride[1]),
        dilation=(1, spec.dilation[1]),
    )


def stacked_weight(spec: ConvSpec, down: int, weight: np.ndarray) -> np.ndarray:
    """The weights of `stacked`."""
    tall = stacked(spec, down)
    moved = np.zeros((spec.c_out, down, spec.c_in // spec.groups, tall.kh, spec.kw), spec.acc_dtype)
    for r in range(down):
        start = r * spec.stride[0]
        moved[:, r, :, start : start + (spec.kh - 1) * spec.dilation[0] + 1 : spec.dilation[0]] = weight
    return moved


def row_tiles(spec: ConvSpec, down: int) -> Tiles:
    """Pixels in lanes, and the rows of the tile are `down` rows of one channel's output."""
    lanes = simd.lanes(spec.acc_dtype)
    vectors = max(1, min(simd.registers() * 3 // 4 // down, 8, -(-spec.ow // lanes)))
    return Tiles(True, down, vectors, down, vectors * lanes, down)


def _phases(kernel: int, dilation: int, stride: int) -> np.ndarray:
    """Remainders by the stride that some tap of an axis falls on."""
    return np.unique(np.arange(kernel) * dilation % stride)


def _patch_shape(spec: ConvSpec, block_h: int, block_w: int) -> tuple[int, int, int, int]:
    """Rows, row phases, column phases and columns that a block of outputs needs of each channel."""
    rows = block_h + (spec.kh - 1) * spec.dilation[0] // spec.stride[0]
    pitch = block_w + (spec.kw - 1) * spec.dilation[1] // spec.stride[1]
    down = _phases(spec.kh, spec.dilation[0], spec.stride[0]).size
    return rows, down, _phases(spec.kw, spec.dilation[1], spec.stride[1]).size, pitch


def _patch_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of a patch, with room behind for a tile to read."""
    shape = _patch_shape(spec, plan.block_h, plan.block_w)
    return spec.c_in // spec.groups * math.prod(shape) + plan.tiles.pixels


def _offsets(spec: ConvSpec, plan: Blocking) -> np.ndarray:
    """Distance of each tap (c, a, b) from its output's own place in the patch."""
    rows, down, across, pitch = _patch_shape(spec, plan.block_h, plan.block_w)
    c, a, b = np.ogrid[: spec.c_in // spec.groups, : spec.kh, : spec.kw]
    row, column = a * spec.dilation[0], b * spec.dilation[1]
    row_phase = np.searchsorted(_phases(spec.kh, spec.dilation[0], spec.stride[0]), row % spec.stride[0])
    column_phase = np.searchsorted(_phases(spec.kw, spec.dilation[1], spec.stride[1]), column % spec.stride[1])
    line = ((c * rows + row // spec.stride[0]) * down + row_phase) * across + column_phase
    return (line * pitch + column // spec.stride[1]).reshape(-1)


def scratch(spec: ConvSpec, plan: Blocking) -> int:
    """Bytes of the patches of all threads."""
    return numba.get_num_threads() * _patch_size(spec, plan) * spec.acc_dtype.itemsize


def cost(spec: ConvSpec, plan: Blocking, machine: Machine) -> float:
    """Estimated seconds: the tiles' multiply-adds, whole tiles counted, and the copying into patches."""
    tiles = plan.tiles
    pixels = spec.oh * -(-spec.ow // tiles.pixels) * tiles.pixels
    products = spec.n * spec.groups * plan.panels * tiles.panel * pixels * spec.taps
    epilogues = spec.n * spec.groups * plan.panels * pixels * tiles.panel / simd.lanes(spec.acc_dtype)
    blocks = spec.n * spec.groups * -(-spec.oh // plan.block_h) * -(-spec.ow // plan.block_w) * plan.shares
    copied = blocks * _patch_size(spec, plan) * spec.acc_dtype.itemsize
    rate = machine.tile_flops * simd.lanes(spec.acc_dtype) / 16
    seconds = 2 * products / rate + epilogues * machine.tile_row + copied / machine.patch_bandwidth
    return machine.call + seconds / machine.threads


class Packed(NamedTuple):
    """A problem made ready to run: all that does not depend on the input."""

    loops: Any
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
    down: int


def pack(spec: ConvSpec, plan: Blocking, weight: np.ndarray) -> Packed:
    """Everything `run` needs; `weight` is (c_out, c_in / groups, kh, kw) of this very spec."""
    tiles, dtype, x_dtype = plan.tiles, spec.acc_dtype, spec.x_dtype
    packed = np.zeros((spec.groups, plan.panels, spec.taps, tiles.panel), dtype)
    _blocked_pack(weight.reshape(spec.groups, -1, spec.taps), packed, simd.lanes(dtype))
    rows, *_, pitch = _patch_shape(spec, plan.block_h, plan.block_w)
    return Packed(
        loops=_loops(tiles.rows, tiles.vectors, tiles.x_in_lanes),
        weight=packed,
        offsets=_offsets(spec, plan),
        row_phases=_phases(spec.kh, spec.dilation[0], spec.stride[0]),
        phases=_phases(spec.kw, spec.dilation[1], spec.stride[1]),
        floor=dtype.type(-np.inf if dtype.kind == "f" else np.iinfo(dtype).min),
        stride=spec.stride,
        pad=(spec.padding[0][0], spec.padding[1][0]),
        sizes=(
            plan.block_h, plan.block_w, plan.shares, rows, pitch, tiles.pixels, tiles.down,
            spec.c_in // spec.groups, simd.lanes(x_dtype),
        ),  # fmt: skip
        patch_size=_patch_size(spec, plan),
        down=tiles.down,
    )


def run(packed: Packed, x: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Convolve."""
    groups, panels, _, panel = packed.weight.shape
    padded = np.zeros((groups, panels * panel), bias.dtype)
    if packed.down > 1:
        padded[:] = bias[:, None]
    else:
        padded[:, : bias.size // groups] = bias.reshape(groups, -1)
    patches = runtime_scratch(packed.patch_size, x.dtype)
    packed.loops(
        x, packed.offsets, packed.weight, padded, packed.floor, out, patches, packed.row_phases, packed.phases,
        packed.stride, packed.pad, packed.sizes,
    )  # fmt: skip


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


@jit
def _copy_row(source, at, stride, target, to, count, lanes):
    """target[to + q] = source[at + q * stride] for q < count, as flat indices."""
    if stride == 1:
        for q in range(0, count - lanes + 1, lanes):
            simd.store(target, to + q, simd.load(source, at + q))
        q = count // lanes * lanes
        if q < count:
            simd.store_part(target, to + q, simd.load_part(source, at + q, count - q), count - q)
    elif stride == 2:
        for q in range(0, count, lanes):
            simd.store_part(target, to + q, simd.load_even(source, at + 2 * q, count - q), count - q)
    else:
        values, result = source.reshape(-1), target[to : to + count]
        for q in range(count):
            result[q] = values[at + q * stride]


@jit
def _fill_patch(x, image, first, corner, channels, rows, row_phases, phases, stride, pitch, patch, lanes):
    """Copy what a block sees of these channels; see the module's equation."""
    c_in, h, w = x.shape[1:]
    for f in range(phases.size):
        shift = corner[1] + phases[f]
        begin = min(max(0, -(shift // stride[1])), pitch)
        end = max(min(pitch, (w - 1 - shift) // stride[1] + 1), begin)
        for c in range(channels):
            for r in range(rows * row_phases.size):
                row = corner[0] + r // row_phases.size * stride[0] + row_phases[r % row_phases.size]
                to = ((c * rows * row_phases.size + r) * phases.size + f) * pitch
                inside = 0 <= row < h
                for q in range(to, to + (begin if inside else pitch)):
                    patch[q] = 0
                if inside:
                    at = ((image * c_in + first + c) * h + row) * w + begin * stride[1] + shift
                    _copy_row(x, at, stride[1], patch, to + begin, end - begin, lanes)
                    for q in range(to + end, to + pitch):
                        patch[q] = 0


@lru_cache(maxsize=64)
def _loops(tile_rows: int, vectors: int, x_in_lanes: bool) -> Any:
    """The kernel for one shape of tile."""
    tile = simd.tile(tile_rows, vectors, x_in_lanes=x_in_lanes, planes=True)

    @kernel(key=(tile_rows, vectors, x_in_lanes))
    def _blocked_loops(x, offsets, packed, bias, floor, out, patches, row_phases, phases, stride, pad, sizes):
        n, c_out, oh, ow = out.shape
        groups, panels, taps, panel = packed.shape
        block_h, block_w, shares, rows, pitch, pixels, down, c_group, lanes = sizes
        channels = c_out // groups
        # Where rows are stacked each output channel is a group, and several may read the same input channels.
        sharing = groups // (x.shape[1] // c_group)
        high, wide = ((oh + down - 1) // down + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        apart = ow if down > 1 else oh * ow
        for job in prange(n * groups * high * wide * shares):
            share, block = job % shares, job // shares
            j0, i0 = block % wide * block_w, block // wide % high * block_h
            group, image = block // (wide * high) % groups, block // (wide * high * groups)
            patch = patches[numba.get_thread_id()]
            corner = i0 * stride[0] - pad[0], j0 * stride[1] - pad[1]
            first = group // sharing * c_group
            _fill_patch(x, image, first, corner, c_group, rows, row_phases, phases, stride, pitch, patch, lanes)
            for p in range(share * panels // shares, (share + 1) * panels // shares):
                plane = group * channels + (p * panel if down == 1 else 0)
                weights = (group * panels + p) * panel
                for i in range(i0, min(i0 + block_h, (oh + down - 1) // down)):
                    base = (i - i0) * row_phases.size * phases.size * pitch
                    inside = min(panel, channels - p * panel) if down == 1 else min(down, oh - i * down)
                    for j in range(0, min(block_w, ow - j0), pixels):
                        to = ((image * c_out + plane) * oh + i * down) * ow + j0 + j
                        some = min(pixels, ow - j0 - j)
                        valid_rows, valid_lanes = (inside, some) if x_in_lanes else (some, inside)
                        tile(
                            patch, base + j, offsets, packed, weights * taps, bias, weights, floor,
                            out, to, apart, valid_rows, valid_lanes,
                        )  # fmt: skip

    return _blocked_loops
