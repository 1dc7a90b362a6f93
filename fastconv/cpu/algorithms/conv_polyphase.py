"""Flat kernels, of up to three rows: every row taken apart into four phases, which share what is loaded.

::

    out[n, o, i, 4q + j] = bias[o] + sum over a, t of weight[o, 0, a, t - j] * X[n, c, i + a, t, q]        j < 4
    X[.., t, q] = x[.., 4q + t] = phase t % 4 of the row, at q + t // 4

What it changes over `image`: in `image` a loaded vector serves the rows of the output that see it; with a kernel of one
row that is one row, and the core waits for its loads. Here a vector serves four phases of the output, whatever the
kernel's height. To take rows apart and to join them costs as much as 20 taps. The sums are those of the definition, so
that a NaN or an infinity reaches just the outputs that see it.

Layouts: a patch of x with zeros around; its rows as four phases each; a row of sums as four phases.

Loop order: tasks are blocks of rows and columns of one output channel; in each the rows are taken apart, then, row by
row of the output, the sums made (`plane_tile`, which takes phases for rows) and joined.

Source: Vaidyanathan, Multirate systems and filter banks, 1993, for polyphase filters.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import patch
from ..system import micro
from ..system.kernels import kernel
from ..system.memory import scratch_rows
from ..system.threads import num_threads
from ..tiles import simd
from ..tiles.deal import join_row, split_row
from ..tiles.plane_tile import plane_tile_address, tile_vectors

exact = True
filters = True

#: Phases of a row: with four, loads are no limit, and a tile of 4x6 vectors fills 32 registers, one of 4x3 fills 16.
PHASES = 4
#: Most rows of a kernel: with four, `image` shares its loads among as many rows of the output.
ROWS = 3
#: Bytes of the patch, and as many of its phases: with a row of sums they fit a 1 MiB second-level cache.
PATCH_BYTES = 256 << 10


class Blocking(NamedTuple):
    """The blocks of rows and columns, and the tiles, that a problem is cut into."""

    vectors: int
    """Vectors of a register tile."""
    tall: int
    columns: int
    """Output rows, and columns of a phase, of one task."""
    pitch: int
    """Elements from one phase of a row to the next."""


def supports(spec: ConvSpec) -> str | None:
    if spec.dtype.kind != "f":
        return "only floats"
    if spec.stride != (1, 1) or spec.dilation != (1, 1):
        return "only stride 1 and dilation 1"
    if spec.c_in != spec.groups:
        return f"each group must have one input channel; here {spec.c_in} in {spec.groups}"
    if spec.kh > ROWS or spec.kw < PHASES:
        return f"the kernel must have up to {ROWS} rows and at least {PHASES} columns; it is {spec.kh}x{spec.kw}"
    if scratch(spec) > num_threads() * 16 * PATCH_BYTES:
        return f"rows of a kernel of {spec.kw} columns do not fit the scratch"
    return None


@lru_cache(maxsize=4096)
def _blocking(spec: ConvSpec, threads: int) -> Blocking:
    lanes = simd.lanes(spec.acc_dtype)
    wide = -(-spec.ow // (PHASES * lanes))
    vectors = tile_vectors(wide)
    across = min(-(-wide // vectors), max(1, 8192 // (PHASES * vectors * lanes)))
    columns = across * vectors * lanes
    pitch = -(-(columns + spec.kw // PHASES + 1) // lanes) * lanes
    tall = max(1, PATCH_BYTES // (PHASES * pitch * spec.acc_dtype.itemsize) - spec.kh + 1)
    if threads > 1:
        tall = min(tall, -(-spec.oh * spec.n * spec.c_out * -(-wide // (across * vectors)) // (4 * threads)))
    return Blocking(vectors, max(1, min(tall, spec.oh)), columns, pitch)


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: multiply-adds of whole vectors, and taking rows apart and joining them."""
    plan, lanes = _blocking(spec, machine.threads), simd.lanes(spec.acc_dtype)
    tiles = spec.n * spec.c_out * spec.oh * -(-spec.ow // (PHASES * plan.vectors * lanes))
    vectors = tiles * PHASES * plan.vectors
    read = vectors * (plan.tall + spec.kh - 1) / plan.tall * plan.pitch / plan.columns
    rate = machine.row_tile_flops / 32  # vector instructions a second
    seconds = (vectors * (spec.kh * spec.kw + 10) + 10 * read) / rate + 2 * tiles * machine.tile
    return machine.call + seconds / machine.threads


def scratch(spec: ConvSpec) -> int:
    threads = num_threads()
    return threads * sum(_buffers(spec, _blocking(spec, threads))) * spec.acc_dtype.itemsize


def _buffers(spec: ConvSpec, plan: Blocking) -> tuple[int, int, int]:
    """Elements of a task's patch, phases and sums."""
    lanes, rows = simd.lanes(spec.acc_dtype), plan.tall + spec.kh - 1
    return rows * PHASES * plan.pitch + lanes, rows * PHASES * plan.pitch, PHASES * plan.columns


def prepare(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    return weight.reshape(-1)


@lru_cache(maxsize=1024)
def _ready(spec: ConvSpec, threads: int) -> tuple[int, tuple]:
    """Elements of a thread's scratch, and the arguments of the kernel beside its arrays."""
    plan, lanes, dtype = _blocking(spec, threads), simd.lanes(spec.acc_dtype), spec.acc_dtype
    sizes, t = _buffers(spec, plan), np.arange(spec.kw + PHASES - 1)
    pieces = plane_tile_address(PHASES, plan.vectors, dtype), patch.fill_address(dtype)
    tables = t % PHASES * plan.pitch + t // PHASES, patch.ONE_PHASE
    pads, extent = (spec.padding[0][0], spec.padding[1][0]), (spec.kh, spec.kw)
    block = plan.vectors * lanes, plan.tall, plan.columns, plan.pitch
    return sum(sizes), (*pieces, *tables, pads, extent, block, sizes, lanes)


def run(spec: ConvSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    size, geometry = _ready(spec, num_threads())
    loops = _polyphase.sized(spec.flops)
    loops(x, packed, bias, spec.floor, out, scratch_rows(size, x.dtype), *geometry)


_take_apart, _put_together, _put_last = split_row(PHASES), join_row(PHASES, True), join_row(PHASES, False)


@kernel
def _polyphase(
    x, weight, bias, floor, out, scratches, products, fill, offsets, one, pads, extent, block, sizes, lanes
):
    n, c_out, oh, ow = out.shape
    h, w = x.shape[2:]
    kh, kw = extent
    tile, tall, columns, pitch = block
    high, wide = (oh + tall - 1) // tall, (ow + PHASES * columns - 1) // (PHASES * columns)
    multiplier, row = c_out // x.shape[1], PHASES * pitch
    least = simd.splat(floor)
    for job in prange(n * c_out * high * wide):
        j0, i0 = job % wide * columns * PHASES, job // wide % high * tall
        plane = job // (wide * high)
        o = plane % c_out
        memory = scratches[numba.get_thread_id()]
        phases, sums = sizes[0], sizes[0] + sizes[1]
        count, rest = min(tall, oh - i0), ow - j0
        seen, at, top, left = count + kh - 1, plane // multiplier * h * w, i0 - pads[0], j0 - pads[1]
        micro.call(fill, x, at, h, w, top, left, 1, seen, one, one, 1, 1, row, memory, 0)
        for i in range(seen):
            for q in range(0, pitch, lanes):
                _take_apart(memory, i * row + q * PHASES, memory, phases + i * row + q, pitch)
        shift = simd.splat(bias[o])
        used = min(columns, (rest + PHASES - 1) // PHASES)
        tiles = (used + tile - 1) // tile
        for i in range(count):
            at, first = phases + i * row, o * kh * kw
            micro.call(products, memory, at, offsets, kh, row, weight, first, memory, sums, columns, tiles)
            to = (plane * oh + i0 + i) * ow + j0
            for j in range(0, used, lanes):
                valid = rest - j * PHASES
                if valid >= PHASES * lanes:
                    _put_together(memory, sums + j, columns, out, to + j * PHASES, valid, shift, least)
                else:
                    _put_last(memory, sums + j, columns, out, to + j * PHASES, valid, shift, least)
