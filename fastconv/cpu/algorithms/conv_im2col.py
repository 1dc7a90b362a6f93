"""Convolution as a matrix product: the input unrolled into columns ("im2col"), times the weights.

Every output position p = (i, j) gets a column of the product's right-hand factor::

    columns[(c, a, b), p] = x[n, first + c, i * stride_h - top + a * dilation_h, j * stride_w - left + b * dilation_w]
    out[n, o, p] = weight[o, (c, a, b)] @ columns + bias[o]

What it changes over `naive`: the sum becomes a matrix product, which the register tile does at most of the machine's
peak, for the price of writing every input element kh * kw times. Unrolling the whole image would take kh * kw times its
memory, so the columns are built in blocks of positions that stay in the second-level cache while tiles read them.

Loop order: a task is a block of positions of one image and group. It gathers the rows of its columns, each a run of
copies, then runs panels of output channels (`panels`), and tiles along the positions. Where there are fewer blocks than
threads, tasks share the panels of a block, and each unrolls it.

Measured on one AVX-512 core of an AMD EPYC (Zen 5): 64 to 64 channels at 56x56 by 3x3 take 1.19 ms, of which unrolling
takes a quarter (`direct`, which copies every element once: 0.95).

Source: Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import panels
from ..shared.im2col import gather_address
from ..system import micro
from ..system.kernels import jit, kernel
from ..system.memory import scratch_rows
from ..system.threads import num_threads

exact = True
plain = True

#: Bytes of columns in one block: a third of a 1 MiB second-level cache, which it shares with the weights.
BLOCK_BYTES = 320 << 10
#: Most bytes of columns that a thread may ask for: reached only where the columns of one tile are longer than a block.
LIMIT_BYTES = 32 << 20


class Blocking(NamedTuple):
    """The blocks of positions, panels and tiles that a problem is cut into."""

    tiles: panels.Tiles
    panels: int
    """Panels in a group."""
    positions: int
    """Output positions of one task."""
    shares: int
    """Tasks that split the panels of one block."""


def supports(spec: ConvSpec) -> str | None:
    if _columns_size(spec, _blocking(spec, 1)) * spec.acc_dtype.itemsize > LIMIT_BYTES:
        return f"unrolled columns of {spec.taps} taps are larger than the {LIMIT_BYTES >> 20} MiB that they may take"
    return None


@lru_cache(maxsize=4096)
def _blocking(spec: ConvSpec, threads: int) -> Blocking:
    """The blocking whose columns fit the cache, with enough blocks for all threads."""
    count, channels = spec.oh * spec.ow, spec.c_out // spec.groups
    tiles = panels.tiles(spec, count)
    most = -(-count // tiles.pixels)
    blocks = BLOCK_BYTES // (spec.taps * tiles.pixels * spec.acc_dtype.itemsize)
    if threads > 1:
        blocks = min(blocks, -(-most * spec.n * spec.groups // (4 * threads)))
    blocks = max(1, min(blocks, most))
    tasks = max(1, spec.n * spec.groups * -(-most // blocks))  # an empty batch has a plan, too
    in_panels = -(-channels // tiles.panel)
    shares = 1 if tasks >= threads else min(in_panels, -(-threads // tasks))
    return Blocking(tiles, in_panels, blocks * tiles.pixels, shares)


def _columns_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of the columns of a block, with room behind for a tile to read."""
    return spec.taps * plan.positions + plan.tiles.pixels


def scratch(spec: ConvSpec) -> int:
    """Bytes of the columns of all threads."""
    threads = num_threads()
    return threads * _columns_size(spec, _blocking(spec, threads)) * spec.x_dtype.itemsize


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: the tiles' multiply-adds, whole tiles counted, writing them, and unrolling."""
    plan, count = _blocking(spec, machine.threads), spec.oh * spec.ow
    tiles = plan.tiles
    computed = spec.n * spec.groups * plan.panels * tiles.panel * -(-count // tiles.pixels) * tiles.pixels
    seconds = 2 * computed * spec.taps / panels.rate(spec, machine)
    seconds += panels.write_cost(spec, tiles, computed, seconds, machine)
    unrolled = spec.n * spec.groups * spec.taps * count * plan.shares * spec.acc_dtype.itemsize
    seconds += unrolled / machine.patch_bandwidth
    return CALL * machine.call + seconds / machine.threads


#: Fixed cost of a call, in units of `machine.call`: tables and room for columns are set up.
CALL = 1.8

prepare_cost = panels.prepare_cost


class Packed(NamedTuple):
    """Weights made ready, and all else of a call that does not depend on its input."""

    loops: Any
    micro: tuple[int, int, int]
    """Addresses of `im2col.gather`, `panels.pack_panel` and the register tile."""
    tasks: int
    weight: np.ndarray
    raw: np.ndarray
    """See `panels.pack`."""
    offsets: np.ndarray
    """Elements from the first row of the columns to each."""
    sizes: tuple[int, ...]
    room: int


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    plan = _blocking(spec, num_threads())
    packed, raw = panels.pack(spec, plan.tiles, weight, _blocks(spec, plan) // spec.groups)
    return _unpacked(spec, plan)._replace(weight=packed, raw=raw)


def _blocks(spec: ConvSpec, plan: Blocking) -> int:
    return spec.n * spec.groups * -(-spec.oh * spec.ow // plan.positions)


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, plan: Blocking) -> Packed:
    """`Packed` without weights; cached, because a plain `conv2d` call packs every time."""
    window = spec.kh, spec.kw, *spec.stride, spec.padding[0][0], spec.padding[1][0], *spec.dilation
    return Packed(
        loops=_im2col_loops.sized(spec.flops),
        micro=(
            gather_address(spec.x_dtype),
            panels.pack_address(spec.acc_dtype),
            panels.tile_address(spec, plan.tiles),
        ),
        tasks=_blocks(spec, plan) * plan.shares,
        weight=np.empty(0),
        raw=np.empty(0),
        offsets=np.arange(spec.taps) * plan.positions,
        sizes=(spec.groups, plan.panels, plan.positions, plan.shares, *window),
        room=_columns_size(spec, plan),
    )


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    biases = panels.panel_biases(spec, packed.weight.shape[-1], bias)
    columns = scratch_rows(packed.room, x.dtype)
    weights = packed.weight, packed.raw
    loops, tasks = packed.loops, packed.tasks
    loops(tasks, packed.micro, x, packed.offsets, *weights, biases, spec.floor, out, columns, packed.sizes)


@jit
def _im2col_task(job, slot, addresses, x, offsets, packed, raw, bias, floor, out, columns, sizes):
    groups, in_group, block, shares, kh, kw = sizes[:6]
    stride, pad, dilation, (gather, pack, tile) = sizes[6:8], sizes[8:10], sizes[10:], addresses
    h, w = x.shape[2:]
    c_out, oh, ow = out.shape[1:]
    taps, panel = packed.shape[2:]
    count, channels = oh * ow, c_out // groups
    wide = (count + block - 1) // block
    share, index = job % shares, job // shares
    begin = index % wide * block
    width = min(block, count - begin)
    group, image = index // wide % groups, index // (wide * groups)

    for tap in range(taps):
        c, a, b = tap // (kh * kw), tap // kw % kh, tap % kw
        plane = ((image * groups + group) * (taps // (kh * kw)) + c) * h * w
        top, left = pad[0] - a * dilation[0], pad[1] - b * dilation[1]
        micro.call(
            gather, x, plane, h, w, begin, begin + width, ow, stride[0], stride[1], top, left, columns, tap * block
        )

    for p in range(share * in_group // shares, (share + 1) * in_group // shares):
        first = group * channels + p * panel
        inside = min(panel, channels - p * panel)
        number = group * in_group + p
        weights = number * taps * panel
        if raw.size:
            weights = slot * packed.shape[1] * taps * panel
            micro.call(pack, raw, first, inside, packed, weights, taps, panel)
        to = (image * c_out + first) * count + begin
        micro.call(
            tile, columns, 0, offsets, packed, weights, bias, number * panel, floor, out, to, count, inside, width,
            width, 0, 1, 0, width,
        )  # fmt: skip


@kernel
def _im2col_loops(tasks, addresses, x, offsets, packed, raw, bias, floor, out, columns, sizes):
    for job in prange(tasks):
        slot = numba.get_thread_id()
        _im2col_task(job, slot, addresses, x, offsets, packed, raw, bias, floor, out, columns[slot], sizes)
