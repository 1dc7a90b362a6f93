"""Blocked direct convolution on the register tile: no unrolled matrix; any kernel, stride, dilation and groups.

::

    out[o, i, j] = bias[o] + sum over t of weight[o, t] * patch[offset[t], i rows and j columns on]        t = (c, a, b)

What it changes over `im2col`: the columns are never built. A task computes a block of output rows and columns of one
image and group: it copies each input element it needs once into a small patch (`patch`: padding written out, every tap
at a fixed distance), then runs panels of output channels, rows, tiles. The patch stays in the second-level cache and a
panel of weights streams through the first. Where there are fewer blocks than threads, tasks share a block's panels.

Tiles: where a group has enough output channels, these lie in the vectors' lanes, and a tile is up to 14 pixels of a row
by 2 vectors of channels. Pixels are broadcast, from any address, so every small image is as fast, and widths of 7, 14,
28, 56, ... leave no remainder; a stride is the distance from one pixel of a tile to the next. Where rows are short a
tile has several: weights are read once for all of them (512 channels, 14x14 to 7x7: 0.93 of the time). Without padding
a tile reads the image where it lies: windows that do not overlap are a matrix product of the image, read in another
order. Where a group has few output channels, pixels lie in the lanes, and a tile is all the group's channels by a few
vectors of a row; a patch has its pixels sorted by their phases.

It wins for kernels that `winograd` cannot do, and for small channel counts.

Source: Georganas et al., Anatomy of high-performance deep learning convolutions on SIMD architectures, SC 2018.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import panels, patch
from ..system import micro
from ..system.kernels import jit, kernel
from ..system.memory import scratch_rows
from ..system.threads import num_threads
from ..tiles import simd
from ..tiles.register_tile import tile_shape

exact = True

#: Bytes of one patch: of 32 KiB to 512 KiB the best for 3x3 layers of 64 to 256 channels, as it shares a second-level
#: cache of 1 MiB with the weights.
PATCH_BYTES = 320 << 10
#: Most bytes of a patch that is a whole image's, where so many bytes of weights come from memory for each block. (From
#: 512 to 512 channels, 14x14 to 7x7, cold caches: 0.9 of the time on one thread, 0.75 on two, on an AMD EPYC of Zen 5.)
WHOLE_BYTES, FAR_WEIGHTS = 640 << 10, 4 << 20
#: Most bytes of what one output sees: beyond that, dilation or padding are so large that nearly all were zeros.
LIMIT_BYTES = 64 << 20


class Blocking(NamedTuple):
    """The blocks of outputs, panels and tiles that a problem is cut into."""

    tiles: panels.Tiles
    panels: int
    """Panels in a group."""
    block_h: int
    block_w: int
    """Output rows and columns of one task."""
    shares: int
    """Tasks that split the panels of one block."""
    step: int
    """Elements of a patch's row, or of the image's, from one pixel of a tile to the next."""
    in_place: bool
    """Whether tiles read the image, and no patch."""
    lines: int
    """Rows of a tile; those that are left over of a block have tiles of their own."""


def supports(spec: ConvSpec) -> str | None:
    if (spec.kh, spec.kw) == (1, 1):
        return "a 1x1 kernel has one tap, which needs no patch: that is 'pointwise'"
    if patch.size(spec, 1, 1) * spec.acc_dtype.itemsize > LIMIT_BYTES:
        return f"what one output sees, padding and dilation counted, would take more than {LIMIT_BYTES >> 20} MiB"
    return None


@lru_cache(maxsize=4096)
def _blocking(spec: ConvSpec, threads: int) -> Blocking:
    """The blocking whose patches fit the cache, with enough blocks for all threads."""
    lanes, channels = simd.lanes(spec.acc_dtype), spec.c_out // spec.groups
    may = spec.ow >= lanes // 2 and (channels < lanes or spec.stride[1] == 1)
    tiles = panels.tiles(spec, spec.ow, pixels_in_lanes=may)
    in_lanes = tiles.x_in_lanes
    count = -(-channels // tiles.panel)
    block_w = _width(spec, tiles, threads)
    step = 1 if in_lanes or spec.stride[1] > max(FARTHEST, spec.kw) else spec.stride[1]
    in_place = not in_lanes and step == spec.stride[1] and not spec.padded and spec.ow >= tiles.pixels
    plan = Blocking(tiles, count, 1, block_w, 1, step, in_place, _lines(spec, tiles))
    rows, down, phases, pitch = patch.shape(*_rectangle(spec, plan))
    row_bytes = spec.c_in // spec.groups * down * phases * pitch * spec.acc_dtype.itemsize
    block_h = max(1, min(PATCH_BYTES // row_bytes - rows + 1, spec.oh))
    far = channels * spec.taps * spec.acc_dtype.itemsize >= FAR_WEIGHTS
    if far and (spec.oh + rows - 1) * row_bytes <= WHOLE_BYTES:
        block_h = spec.oh
    if block_h < spec.oh:
        block_h = max(plan.lines, block_h // plan.lines * plan.lines)
    if threads == 1:
        return plan._replace(block_h=block_h)
    across = max(1, spec.n * spec.groups * -(-spec.ow // block_w))  # an empty batch has a plan, too
    row = panels.row_time(spec, tiles, spec.ow) / count / -(-spec.ow // block_w)
    row *= _rows_time(spec, tiles, plan.lines) / _rows_time(spec, tiles, 1)
    copied = 0 if in_place else row_bytes * COPY
    weights = tiles.panel * spec.taps * spec.acc_dtype.itemsize * READ_WEIGHTS

    def time(option: tuple[int, int]) -> float:
        """Time of the busiest thread: with a share for each it has all blocks, otherwise perhaps a task more."""
        high, shares = option
        several, last = divmod(spec.oh, high)

        def task(high: int) -> float:
            return -(-count // shares) * max(high * row, weights) + (high + rows - 1) * copied

        if shares == threads:
            return across * (several * task(high) + (task(last) if last else 0))
        return -(-across * (several + (last > 0)) * shares // threads) * task(high)

    each = [-(-spec.oh // blocks) for blocks in range(1, min(spec.oh, 4 * threads) + 1)]
    heights = sorted({-(-high // plan.lines) * plan.lines for high in each} | {block_h})
    options = [(high, shares) for high in heights if high <= block_h for shares in {1, min(count, threads)}]
    block_h, shares = min(options, key=time)
    return plan._replace(block_h=block_h, shares=shares)


#: Pixels of a row that a patch has if they are wanted; more of them where it then has so many rows of output, as what
#: is read in long runs is there in time. (3 to 64 channels by 3x3 at 224x224 1.7 times as fast in rows of 224 as of
#: 112, to 16 at 1080x1920 in whole rows 1.5, 64 to 1 at 256x256 1.4: an AMD EPYC of Zen 3.)
LEAST_WIDTH, LEAST_ROWS = 112, 2


def _width(spec: ConvSpec, tiles: panels.Tiles, threads: int) -> int:
    """Output columns of a block, of whole tiles; each thread has several blocks, if only of a single row."""
    rows, down, phases, _ = patch.shape(spec, LEAST_ROWS, 1)
    column_bytes = spec.c_in // spec.groups * rows * down * phases * spec.acc_dtype.itemsize
    most = PATCH_BYTES // column_bytes
    if threads > 1:
        most = min(most, spec.n * spec.groups * spec.oh * spec.ow // (4 * threads))
    most = max(LEAST_WIDTH, most, tiles.pixels) // tiles.pixels
    several = -(-spec.ow // tiles.pixels)
    return -(-several // -(-several // most)) * tiles.pixels


#: Times of a byte that is copied into a patch, and of one of weights from the last-level cache, in units of a
#: multiply-add of vectors.
COPY, READ_WEIGHTS = 0.4, 0.3
#: Most rows of a tile: each takes a register for an address.
MOST_LINES = 4
#: Largest horizontal stride beyond the kernel's width at which a tile steps over columns that nothing sees.
FARTHEST = 4


def _lines(spec: ConvSpec, tiles: panels.Tiles) -> int:
    """Rows of a tile where rows are short: as many as take the least time."""
    if tiles.x_in_lanes or spec.flops < panels.WORTH_COMPILING:
        return 1
    rows, vectors = tile_shape()
    most = min(MOST_LINES, spec.oh, rows * vectors // tiles.vectors // max(1, spec.ow))
    return min(range(1, max(1, most) + 1), key=lambda lines: _rows_time(spec, tiles, lines))


def _rows_time(spec: ConvSpec, tiles: panels.Tiles, lines: int) -> float:
    """Time of the tiles of all rows, one beside the other, in multiply-adds of vectors in each step."""
    several, rest = divmod(spec.oh, lines) if lines > 1 else (0, spec.oh)
    return several * (lines * spec.ow + panels.READ) + rest * (tiles.rows + panels.READ)


def _rectangle(spec: ConvSpec, plan: Blocking) -> tuple[ConvSpec, int, int]:
    """The arguments of `patch.shape` and the others: where tiles step over columns, a patch has them all."""
    if plan.step == 1:
        return spec, plan.block_h, plan.block_w
    return replace(spec, stride=(spec.stride[0], 1)), plan.block_h, (plan.block_w - 1) * plan.step + 1


def _patch_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of a patch, with room behind for a tile to read."""
    return 0 if plan.in_place else patch.size(*_rectangle(spec, plan)) + plan.tiles.pixels * plan.step


def _blocks(spec: ConvSpec, plan: Blocking) -> int:
    return spec.n * spec.groups * -(-spec.oh // plan.block_h) * -(-spec.ow // plan.block_w)


def scratch(spec: ConvSpec) -> int:
    """Bytes of the patches of all threads."""
    threads = num_threads()
    return threads * _patch_size(spec, _blocking(spec, threads)) * spec.x_dtype.itemsize


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: the tiles' multiply-adds, whole tiles counted, and the copying into patches."""
    plan = _blocking(spec, machine.threads)
    tiles = plan.tiles
    several = spec.oh // plan.lines * plan.lines if plan.lines > 1 else 0
    pixels = several * spec.ow + (spec.oh - several) * -(-spec.ow // tiles.pixels) * tiles.pixels
    computed = spec.n * spec.groups * plan.panels * tiles.panel * pixels
    copied = _blocks(spec, plan) * plan.shares * _patch_size(spec, plan) * spec.acc_dtype.itemsize
    seconds = 2 * computed * spec.taps / panels.rate(spec, machine)
    seconds *= panels.slowed(spec, tiles, (IN_LANES,) * 3 if tiles.x_in_lanes else SLOWED)
    seconds += panels.write_cost(spec, tiles, computed, seconds, machine)
    seconds += copied / machine.patch_bandwidth
    return CALL * machine.call + seconds / machine.threads


#: See `panels.slowed`. (An AMD EPYC of Zen 3: 86% of the FMA ceiling with 147 taps, 70% with 3x3 of 64 to 256 channels,
#: 45% with 3x3 of 512.)
SLOWED = 1.1, 1.2, 1.5
#: The same where pixels are in lanes. (64 channels to 1, 2, 3 and 4 by 3x3: 1.4 to 2.5.)
IN_LANES = 1.4
#: Fixed cost of a call, in units of `machine.call`: tables and a patch are set up.
CALL = 1.8

prepare_cost = panels.prepare_cost


class Packed(NamedTuple):
    """Weights made ready, and all else of a call that does not depend on its input."""

    loops: Any
    micro: tuple[int, int, int, int]
    """Addresses of `patch.fill`, if there is a patch, `panels.pack_panel`, and the tiles of one row and of several."""
    tasks: int
    weight: np.ndarray
    raw: np.ndarray
    """See `panels.pack`."""
    offsets: np.ndarray
    row_phases: np.ndarray
    phases: np.ndarray
    floor: np.generic
    sizes: tuple[int, ...]
    patch_size: int


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    plan = _blocking(spec, num_threads())
    packed, raw = panels.pack(spec, plan.tiles, weight, _blocks(spec, plan) // spec.groups)
    return _unpacked(spec, plan)._replace(weight=packed, raw=raw)


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, plan: Blocking) -> Packed:
    """`Packed` without weights; cached, because a plain `conv2d` call packs every time."""
    tiles, rectangle = plan.tiles, _rectangle(spec, plan)
    rows, *_, pitch = patch.shape(*rectangle)
    row_phases = patch.phases(spec.kh, spec.dilation[0], spec.stride[0])
    phases = patch.phases(spec.kw, spec.dilation[1], rectangle[0].stride[1])
    if plan.in_place:
        offsets, line = patch.image_offsets(spec), spec.stride[0] * spec.w
    else:
        offsets, line = patch.offsets(*rectangle), row_phases.size * phases.size * pitch
    tile = partial(panels.tile_address, spec, tiles, step=plan.step)
    return Packed(
        loops=_direct_loops.sized(spec.flops),
        micro=(
            0 if plan.in_place else patch.fill_address(spec.x_dtype),
            panels.pack_address(spec.acc_dtype),
            tile(lines=1),
            tile(lines=plan.lines) if plan.lines > 1 else 0,
        ),
        tasks=_blocks(spec, plan) * plan.shares,
        weight=np.empty(0),
        raw=np.empty(0),
        offsets=offsets,
        row_phases=row_phases,
        phases=phases,
        floor=spec.floor,
        sizes=(
            spec.groups,
            plan.panels,
            plan.block_h,
            plan.block_w,
            plan.shares,
            rows,
            pitch,
            line,
            spec.c_in // spec.groups,
            plan.step,
            plan.in_place,
            plan.lines,
            *spec.stride,
            spec.padding[0][0],
            spec.padding[1][0],
        ),
        patch_size=_patch_size(spec, plan),
    )


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    biases = panels.panel_biases(spec, packed.weight.shape[-1], bias)
    patches = scratch_rows(packed.patch_size, x.dtype)
    packed.loops(
        packed.tasks,
        packed.micro,
        x,
        packed.offsets,
        packed.weight,
        packed.raw,
        biases,
        packed.floor,
        out,
        patches,
        packed.row_phases,
        packed.phases,
        packed.sizes,
    )


@jit
def _direct_task(job, slot, addresses, x, offsets, packed, raw, bias, floor, out, seen, row_phases, phases, sizes):
    h, w = x.shape[2:]
    c_out, oh, ow = out.shape[1:]
    taps, panel = packed.shape[2:]
    groups, in_group, block_h, block_w, shares, rows, pitch, line, c_group, step, in_place, lines = sizes[:12]
    stride, pad = sizes[12:14], sizes[14:]
    high, wide = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
    blocks = x.shape[0] * groups * high * wide
    share, block = job // blocks, job % blocks  # a thread's tasks have the same weights
    j0, i0 = block % wide * block_w, block // wide % high * block_h
    group, image = block // (wide * high) % groups, block // (wide * high * groups)
    first, top, left = (image * groups + group) * c_group * h * w, i0 * stride[0] - pad[0], j0 * stride[1] - pad[1]
    fill, pack, tile, tall = addresses
    source, origin = simd.flat(x), first + top * w + left
    if not in_place:
        columns = stride[1] // step  # from one of a patch's columns to the next, of each phase
        micro.call(
            fill, x, first, h, w, top, left, c_group, rows, row_phases, phases, stride[0], columns, pitch, seen, 0
        )
        source, origin = seen, 0
    channels = c_out // groups
    count, width = min(block_h, oh - i0), min(block_w, ow - j0)
    several = count // lines * lines if lines > 1 else 0
    for p in range(share * in_group // shares, (share + 1) * in_group // shares):
        plane = group * channels + p * panel
        inside = min(panel, channels - p * panel)
        number = group * in_group + p
        weights = number * taps * panel
        if raw.size:
            weights = slot * packed.shape[1] * taps * panel
            micro.call(pack, raw, plane * taps, taps, inside, packed, weights, taps, panel)
        to = ((image * c_out + plane) * oh + i0) * ow + j0
        if several:
            micro.call(
                tall, source, origin, offsets, packed, weights, bias, number * panel, floor, out, to, oh * ow, inside,
                ow, count * ow, 0, several, line, ow,
            )  # fmt: skip
        if several < count:  # In place, the last tile is moved back: it would read beyond x.
            micro.call(
                tile, source, origin + several * line, offsets, packed, weights, bias, number * panel, floor, out,
                to + several * ow, oh * ow, inside, width, (count - several) * ow, 1 if in_place else 0,
                count - several, line, ow,
            )  # fmt: skip


@kernel
def _direct_loops(tasks, addresses, x, offsets, packed, raw, bias, floor, out, patches, row_phases, phases, sizes):
    for job in prange(tasks):
        slot = numba.get_thread_id()
        seen = patches[slot]
        _direct_task(job, slot, addresses, x, offsets, packed, raw, bias, floor, out, seen, row_phases, phases, sizes)
