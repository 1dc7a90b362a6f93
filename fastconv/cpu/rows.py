"""The loop nest around the row tile, which `conv_image` and `conv_depthwise` share.

::

    out[o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * patch[offset[c, a, b], i rows and j columns on]

A task computes a block of rows and columns of one output channel: it fills a patch (`patch`) and runs rows, tiles. With
one output channel at a time there is no second one to share a loaded vector with, so neighbouring rows of the output
share it: a tile is a few rows by a few vectors of pixels.
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
from .row_tile import row_tile
from .runtime import kernel, num_threads
from .runtime import scratch as runtime_scratch

#: Bytes of one patch: a quarter of a 1 MiB second-level cache.
PATCH_BYTES = 256 << 10


class Blocking(NamedTuple):
    """How a problem is cut up."""

    down: int
    """Rows of a tile."""
    vectors: int
    block_h: int
    block_w: int
    """Output rows and columns of one task."""


@lru_cache(maxsize=4096)
def blocking(spec: ConvSpec, threads: int) -> Blocking:
    """Tiles that fill the registers, blocks whose patch fits the cache, enough of them to go round."""
    lanes = simd.lanes(spec.acc_dtype)
    # Rows share loads only where they are one tap apart; more than four measured no faster.
    down = 4 if spec.kh >= 4 and spec.oh >= 4 else min(2, spec.kh, spec.oh)
    if spec.stride[0] != 1 or spec.dilation[0] != 1:
        down = 1
    vectors = 1 if spec.ow <= lanes else min(simd.registers() * 3 // 4 // down, 6)
    block_w = min(-(-spec.ow // lanes) * lanes, max(vectors * lanes, 512))
    rows, phases_h, phases_w, pitch = patch.shape(spec, 1, block_w)
    row_bytes = spec.c_in // spec.groups * phases_h * phases_w * pitch * spec.x_dtype.itemsize
    block_h = PATCH_BYTES // row_bytes - rows + 1
    across = spec.n * spec.c_out * -(-spec.ow // block_w)
    if threads > 1:
        block_h = min(block_h, -(-spec.oh * across // (4 * threads)))
    block_h = max(1, min(-(-block_h // down) * down, spec.oh))
    return Blocking(down, vectors, block_h, block_w)


def _patch_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of a patch, with room behind for a tile to read: its rows below the block and its vectors."""
    pitch = patch.shape(spec, 1, plan.block_w)[3]
    room = plan.down * pitch + plan.vectors * simd.lanes(spec.acc_dtype)
    return patch.size(spec, plan.block_h, plan.block_w) + room


def scratch(spec: ConvSpec) -> int:
    """Bytes of the patches of all threads."""
    threads = num_threads()
    return threads * _patch_size(spec, blocking(spec, threads)) * spec.x_dtype.itemsize


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: multiply-adds of whole vectors, the copying into patches, and setting up tasks and tiles."""
    plan = blocking(spec, machine.threads)
    lanes = simd.lanes(spec.acc_dtype)
    lines = spec.n * spec.c_out * spec.oh
    products = lines * -(-spec.ow // lanes) * lanes * spec.taps
    tiles = lines / plan.down * -(-spec.ow // (plan.vectors * lanes))
    blocks = spec.n * spec.c_out * -(-spec.oh // plan.block_h) * -(-spec.ow // plan.block_w)
    copied = blocks * _patch_size(spec, plan) * spec.x_dtype.itemsize
    sums = min(1.0, plan.down * plan.vectors / 8)  # fewer wait for each other
    rate = machine.row_tile_flops * lanes / 16 * sums * (1 if plan.down > 1 else 0.6)
    seconds = 2 * products / rate + tiles * machine.tile + copied / machine.patch_bandwidth
    return machine.call + seconds / machine.threads


class Packed(NamedTuple):
    """A problem made ready to run: all that does not depend on the input."""

    loops: Any
    weight: np.ndarray
    offsets: np.ndarray
    row_phases: np.ndarray
    phases: np.ndarray
    floor: np.generic
    stride: Pair
    pad: Pair
    sizes: tuple[int, ...]
    patch_size: int


def pack(spec: ConvSpec, weight: np.ndarray) -> Packed:
    """Everything `run` needs."""
    return _unpacked(spec, blocking(spec, num_threads()))._replace(weight=weight)


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, plan: Blocking) -> Packed:
    """All but the weights; kept, because a plain `conv2d` call packs every time."""
    rows, _, phases_w, pitch = patch.shape(spec, plan.block_h, plan.block_w)
    offsets = patch.offsets(spec, plan.block_h, plan.block_w)[: spec.kh * spec.kw]
    for _ in range(plan.down - 1):
        offsets = np.append(offsets, offsets[-spec.kw :] + pitch * phases_w)
    return Packed(
        loops=_loops(plan.down, plan.vectors).sized(spec.flops),
        weight=np.empty(0, spec.acc_dtype),
        offsets=offsets,
        row_phases=patch.phases(spec.kh, spec.dilation[0], spec.stride[0]),
        phases=patch.phases(spec.kw, spec.dilation[1], spec.stride[1]),
        floor=spec.floor,
        stride=spec.stride,
        pad=(spec.padding[0][0], spec.padding[1][0]),
        sizes=(
            plan.block_h,
            plan.block_w,
            rows,
            pitch,
            spec.groups,
            plan.vectors * simd.lanes(spec.acc_dtype),
            simd.lanes(spec.x_dtype),
        ),
        patch_size=_patch_size(spec, plan),
    )


def run(packed: Packed, x: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Convolve."""
    patches = runtime_scratch(packed.patch_size, x.dtype)
    packed.loops(
        x,
        packed.offsets,
        packed.weight,
        bias,
        packed.floor,
        out,
        patches,
        packed.row_phases,
        packed.phases,
        packed.stride,
        packed.pad,
        packed.sizes,
    )


@lru_cache(maxsize=64)
def _loops(down: int, vectors: int) -> Any:
    """The kernel for one shape of tile."""
    sums, fill = row_tile(down, vectors), patch.fill

    @kernel(key=(down, vectors))
    def _row_loops(x, offsets, weight, bias, floor, out, patches, row_phases, phases, stride, pad, sizes):
        n, c_out, oh, ow = out.shape
        c_group, kh, kw = weight.shape[1:]
        block_h, block_w, rows, pitch, groups, pixels, lanes = sizes
        high, wide = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        line = row_phases.size * phases.size * pitch
        for job in prange(n * c_out * high * wide):
            j0, i0 = job % wide * block_w, job // wide % high * block_h
            o, image = job // (wide * high) % c_out, job // (wide * high * c_out)
            seen = patches[numba.get_thread_id()]
            corner = i0 * stride[0] - pad[0], j0 * stride[1] - pad[1]
            first = o // (c_out // groups) * c_group
            fill(x, image, first, corner, c_group, rows, row_phases, phases, stride, pitch, seen, lanes)
            for i in range(0, min(block_h, oh - i0), down):
                for j in range(0, min(block_w, ow - j0), pixels):
                    sums(
                        seen,
                        i * line + j,
                        offsets,
                        kw,
                        c_group,
                        rows * line,
                        weight,
                        o * c_group * kh * kw,
                        bias[o],
                        floor,
                        out,
                        ((image * c_out + o) * oh + i0 + i) * ow + j0 + j,
                        ow,
                        min(down, min(block_h, oh - i0) - i),
                        min(pixels, min(block_w, ow - j0) - j),
                    )

    return _row_loops
