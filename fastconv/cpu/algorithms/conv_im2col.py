"""Convolution as a matrix product: the input unrolled into columns ("im2col"), times the weights.

Every output position p = (i, j) gets a column of the product's right-hand factor::

    columns[(c, a, b), p] = x[n, first + c, i * stride_h - top + a * dilation_h, j * stride_w - left + b * dilation_w]
    out[n, o, p] = weight[o, (c, a, b)] @ columns + bias[o]

What it changes over `naive`: the sum becomes a matrix product, which the register tile does at most of the machine's
peak, for the price of writing every input element kh * kw times. Unrolling the whole image would take kh * kw times its
memory, so the columns are built in blocks of positions that stay in the second-level cache while tiles read them.

Layout: columns lie as tiles read them, the pixels of a tile side by side for each tap, a tile behind the other. Sums
are made in parts of 256 taps (`part_tile`): the weights of a part, for a panel of output channels, stay in the
first-level cache while all tiles of a block read them. So a small tile, whose weights are loaded for a few pixels only,
is as fast as a large one: with 16 vector registers this is the fastest way for most 1x1 layers and windows that do not
overlap.

Loop order: a task is a block of positions of one image and group. Either it gathers the rows of its columns, each a run
of copies, then runs panels of output channels (`panels`), parts, and tiles along the positions; or, where there are
fewer channels than taps, it runs parts, gathers the columns of each, then panels and tiles: then sums of all panels are
put aside. Where there are fewer blocks than threads, tasks share the panels of a block, and each unrolls it. In a plain
call with one block a part of a panel is packed when it comes, and stays in the first-level cache. (3x3 of 512 to 1024
channels at 7x7: 1.13 to 1.2 times as fast as packed before. To fetch the next part meanwhile gains nothing.)

Measured on one AVX2 core of an AMD EPYC (Zen 3): 256 to 512 channels at 28x28 by 1x1 reach 78% of the FMA ceiling, 3x3
of 512 channels at 7x7 75% (columns in rows, all taps at once: 52% and 40%). Unrolling takes 0.3 to 1 ns an element.
Where a tap's pixels lie further apart than every second, windows are read as they lie, and transposed (8x8 by 8: 1.5
times as fast in all). Without padding, and of few channels, nothing is unrolled: tiles read the image, by lists of
where windows and taps lie (8x8 by 8: another 1.6 times as fast).

Sources: Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006;
Goto and van de Geijn, as in `panels`.
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
from ..shared.patch import image_offsets
from ..system import micro
from ..system.kernels import jit, kernel
from ..system.memory import scratch_rows
from ..system.threads import num_threads
from ..tiles import simd
from ..tiles.part_tile import part_tile_address
from ..tiles.reductions import PART

exact = True
plain = True

#: Bytes of a block's columns, or of those of a part and of sums: they share a second-level cache with the weights. (An
#: AMD EPYC of Zen 3, which has 512 KiB: 400 KiB take as long, 128 KiB 7% longer.)
BLOCK_BYTES = 256 << 10
#: Most bytes of columns that a thread may ask for: reached only where the columns of one tile are longer than a block.
LIMIT_BYTES = 32 << 20
#: Least pixels of the blocks that threads are dealt, if they have four each: all weights are read for each block. And
#: times as long as an element is unrolled as a weight is read: the dearer of both is not done by all threads.
LEAST, UNROLLED = 48, 3


#: Most channels of a group whose windows are read as they lie, for each column of a window, up to four: each is another
#: cache line for a tile's pixels. And most output channels: for more, what unrolling takes is little beside products,
#: which take a tenth longer where pixels are read by lists. (384 channels, 8x8 by 8: as long; 768, 2x2 by 2: 1.08.) And
#: most pixels of such a tile: each takes a register for an address.
LISTED, LISTED_OUT, LISTED_PIXELS = 192, 320, 8


class Blocking(NamedTuple):
    """The blocks of positions, panels and tiles that a problem is cut into."""

    tiles: panels.Tiles
    panels: int
    """Panels in a group."""
    positions: int
    """Output positions of one task, of whole tiles."""
    shares: int
    """Tasks that split the panels of one block."""
    part: int
    """Taps of a part, of which the last has what is left."""
    parts: int
    """Parts of the taps."""
    parts_first: int
    """Whether all panels are run for a part, before the next, or else all parts for a panel."""
    kind: str
    """See `part_tile`: its columns are unrolled, or what they would hold is listed."""


def supports(spec: ConvSpec) -> str | None:
    if _columns_size(spec, _blocking(spec, 1)) * spec.acc_dtype.itemsize > LIMIT_BYTES:
        return f"unrolled columns of {spec.taps} taps are larger than the {LIMIT_BYTES >> 20} MiB that they may take"
    return None


@lru_cache(maxsize=4096)
def _blocking(spec: ConvSpec, threads: int) -> Blocking:
    """The blocking whose columns fit the cache, with enough blocks for all threads."""
    count, channels = spec.oh * spec.ow, spec.c_out // spec.groups
    tiles = panels.tiles(spec, count)
    most, in_panels = -(-count // tiles.pixels), -(-channels // tiles.panel)
    part = -(-spec.taps // -(-spec.taps // PART))  # alike
    parts = -(-spec.taps // part)
    kept = spec.taps, in_panels * tiles.panel + PART
    blocks = BLOCK_BYTES // (min(kept) * tiles.pixels * spec.acc_dtype.itemsize)
    if threads > 1 and channels <= count * UNROLLED:  # else tasks share the panels
        total = most * spec.n * spec.groups
        each = max(1, min(4, total * tiles.pixels // (threads * LEAST)))  # blocks of a thread
        blocks = min(blocks, -(-total // (threads * each)))
    blocks = max(1, min(blocks, most))
    blocks = max(1, -(-most // max(1, -(-most // blocks))))  # alike
    tasks = max(1, spec.n * spec.groups * -(-most // blocks))  # an empty batch has a plan, too
    shares = 1 if tasks >= threads else min(in_panels, -(-threads // tasks))
    parts_first = int(parts > 1 and kept[1] < kept[0])
    may = not spec.padded and spec.kw > 1 and channels <= LISTED_OUT and tiles.pixels <= LISTED_PIXELS
    may = may and spec.c_in // spec.groups <= LISTED * min(spec.kw, 4)
    kind = "lanes" if tiles.x_in_lanes else "listed" if may else "rows"
    return Blocking(tiles, in_panels, blocks * tiles.pixels, shares, part, parts, parts_first, kind)


def _in_place(spec: ConvSpec) -> bool:
    """Whether a row of the columns is one of the image's pixels as they lie."""
    return (spec.kh, spec.kw) == spec.stride == (1, 1) and not spec.padded


def _apart(spec: ConvSpec, plan: Blocking) -> int:
    """Elements from one tile's columns to the next's: whole vectors are written."""
    taps = plan.part if plan.parts_first else spec.taps
    return taps * plan.tiles.pixels + simd.lanes(spec.x_dtype)


def _columns_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of the columns of a block, and of the rows that are gathered at a time."""
    if plan.kind == "listed":
        return 0
    return plan.positions // plan.tiles.pixels * _apart(spec, plan) + _lines(spec) * _row_size(spec, plan)


def _lines(spec: ConvSpec) -> int:
    """Rows of the columns that are gathered at a time: those of a row of taps, in whole vectors, where pixels that one
    tap sees lie so far apart that windows are read as they lie; else one."""
    if spec.kw == 1 or spec.stride[1] <= 2 or spec.dilation[1] > 1 or spec.x_dtype.itemsize < 4:
        return 1
    return -(-spec.kw // simd.lanes(spec.x_dtype)) * simd.lanes(spec.x_dtype)


def _row_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of such a row, with room behind for whole vectors and a tile."""
    return plan.positions + plan.tiles.pixels + simd.lanes(spec.x_dtype)


def _sums_size(plan: Blocking) -> int:
    """Elements of the sums that are put aside."""
    if plan.parts == 1:
        return plan.tiles.panel * plan.tiles.pixels  # that are read, and not used
    return plan.positions * plan.tiles.panel * (plan.panels if plan.parts_first else 1)


def scratch(spec: ConvSpec) -> int:
    """Bytes of the columns and sums of all threads."""
    threads = num_threads()
    plan = _blocking(spec, threads)
    columns = _columns_size(spec, plan) * spec.x_dtype.itemsize
    return threads * (columns + _sums_size(plan) * spec.acc_dtype.itemsize + _places(plan) * 8)


def _places(plan: Blocking) -> int:
    """Pixels whose windows' places are listed: those of a block."""
    return plan.positions if plan.kind == "listed" else 0


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: the tiles' multiply-adds, whole tiles counted, writing them, and unrolling."""
    plan, count = _blocking(spec, machine.threads), spec.oh * spec.ow
    tiles = plan.tiles
    computed = spec.n * spec.groups * plan.panels * tiles.panel * -(-count // tiles.pixels) * tiles.pixels
    by = LISTED_SLOWED if plan.kind == "listed" else SLOWED
    seconds = 2 * computed * spec.taps / panels.rate(spec, machine) * panels.slowed(spec, tiles, by)
    seconds += panels.write_cost(spec, tiles, computed, seconds, machine)
    if plan.kind == "listed":
        return CALL * machine.call + seconds / machine.threads
    unrolled = spec.n * spec.groups * spec.taps * count * plan.shares
    each = DEAL / tiles.pixels
    if not _in_place(spec):
        far = WINDOWS if _lines(spec) > 1 else STEP
        each += spec.acc_dtype.itemsize / machine.patch_bandwidth + (far if spec.stride[1] > 2 else 0)
    seconds += unrolled * each
    return CALL * machine.call + seconds / machine.threads


#: See `panels.slowed`: of a part weights are always near. (An AMD EPYC of Zen 3: 85% of the FMA ceiling.)
SLOWED = 1.1, 1.1, 1.1
#: The same where windows are read as they lie.
LISTED_SLOWED = 1.05, 1.12, 1.12
#: Seconds to copy the pixels of one tile, for one tap, from a row to their place; and those to copy a pixel to a row if
#: pixels lie further apart than every second, one by one and by windows. (An AMD EPYC of Zen 3.)
DEAL, STEP, WINDOWS = 2e-9, 1e-9, 0.45e-9
#: Fixed cost of a call, in units of `machine.call`: tables and room for columns are set up.
CALL = 1.8


def prepare_cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds of packing: less if each part of a panel is packed when it is needed."""
    alone = _blocks(spec, _blocking(spec, 1)) == spec.groups  # on one thread: the choice must not depend on the number
    return panels.prepare_cost(spec, machine) / (IN_PARTS if alone else 1)


#: How many times as fast weights are packed a part at a time. (3x3 of 512 and 1024 channels at 7x7, an EPYC of Zen 3.)
IN_PARTS = 2.0


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
    """Where taps lie, if that is listed."""
    sizes: tuple[int, ...]
    room: int
    sums: int
    """Elements of the sums that are put aside."""
    places: int
    """Windows whose places are listed."""


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    plan = _blocking(spec, num_threads())
    packed, raw = panels.pack(spec, plan.tiles, weight, _blocks(spec, plan) // spec.groups, plan.part)
    return _unpacked(spec, plan)._replace(weight=packed, raw=raw)


def _blocks(spec: ConvSpec, plan: Blocking) -> int:
    return spec.n * spec.groups * -(-spec.oh * spec.ow // plan.positions)


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, plan: Blocking) -> Packed:
    """`Packed` without weights; cached, because a plain `conv2d` call packs every time."""
    window, tiles = (spec.kh, spec.kw, *spec.stride, spec.padding[0][0], spec.padding[1][0], *spec.dilation), plan.tiles
    cut = spec.groups, plan.panels, plan.positions, plan.shares, tiles.pixels, plan.part, plan.parts
    row = simd.lanes(spec.x_dtype), _row_size(spec, plan) if _lines(spec) > 1 else 0
    return Packed(
        loops=_im2col_loops.sized(spec.flops),
        micro=(
            gather_address(spec.x_dtype, _lines(spec) > 1),
            panels.pack_address(spec.acc_dtype),
            part_tile_address(tiles.rows, tiles.vectors, plan.kind, spec.x_dtype, spec.acc_dtype),
        ),
        tasks=_blocks(spec, plan) * plan.shares,
        weight=np.empty(0),
        raw=np.empty(0),
        offsets=image_offsets(spec) if plan.kind == "listed" else np.empty(0, np.int64),
        sizes=(*cut, plan.parts_first, _apart(spec, plan), int(_in_place(spec)), *window, *row),
        room=_columns_size(spec, plan),
        sums=_sums_size(plan),
        places=_places(plan),
    )


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    biases = panels.panel_biases(spec, packed.weight.shape[-1], bias)
    columns, sums = scratch_rows(packed.room, x.dtype), scratch_rows(packed.sums, out.dtype, "sums")
    places = scratch_rows(packed.places, np.dtype(np.int64), "places")
    packed.loops(
        packed.tasks, packed.micro, x, packed.weight, packed.raw, biases, spec.floor, out, columns, sums, places,
        packed.offsets, packed.sizes,
    )  # fmt: skip


@jit
def _im2col_task(job, slot, addresses, x, packed, raw, bias, floor, out, columns, sums, places, offsets, sizes):
    groups, in_group, block, shares, pixels, part, parts, parts_first, apart, in_place, kh, kw = sizes[:12]
    stride, pad, dilation, (lanes, pitch), (gather, pack, tile) = (
        sizes[12:14], sizes[14:16], sizes[16:18], sizes[18:], addresses)  # fmt: skip
    h, w = x.shape[2:]
    c_out, oh, ow = out.shape[1:]
    taps, panel = x.shape[1] // groups * kh * kw, packed.shape[3]
    count, channels = oh * ow, c_out // groups
    wide = (count + block - 1) // block
    share, index = job % shares, job // shares
    begin = index % wide * block
    width = min(block, count - begin)
    group, image = index // wide % groups, index // (wide * groups)
    images, row = simd.flat(x), block // pixels * apart
    source, origin = columns, 0
    if offsets.size:
        source, origin = images, (image * groups + group) * (x.shape[1] // groups) * h * w
        _list(places, begin, width, pixels, ow, stride, w)
    low = share * in_group // shares
    mine = (share + 1) * in_group // shares - low

    for number in range(parts * mine):
        which, p = (number // mine, number % mine) if parts_first else (number % parts, number // parts)
        first, last = which * part, min((which + 1) * part, taps)
        if p == 0 and offsets.size == 0 and (parts_first or which == 0):
            c, a, b = first // (kh * kw), first // kw % kh, first % kw  # counted, as divisions take long
            plane = ((image * groups + group) * (taps // (kh * kw)) + c) * h * w
            for to in range(0, ((last if parts_first else taps) - first) * pixels, pixels):
                top, left = pad[0] - a * dilation[0], pad[1] - b * dilation[1]
                if in_place and plane + begin + width + pixels + lanes <= images.size:
                    _deal(images, plane + begin, width, columns, to, pixels, apart, lanes)
                elif pitch:
                    if b == 0 or to == 0:
                        micro.call(gather, x, plane, h, w, begin, begin + width, ow, stride[0], stride[1], top, pad[1],
                                   kw, pitch, columns, row)  # fmt: skip
                    _deal(columns, row + b * pitch, width, columns, to, pixels, apart, lanes)
                else:
                    micro.call(gather, x, plane, h, w, begin, begin + width, ow, stride[0], stride[1], top, left,
                               columns, row)  # fmt: skip
                    _deal(columns, row, width, columns, to, pixels, apart, lanes)
                b += 1
                if b == kw:
                    a, b = a + 1, 0
                    if a == kh:
                        a, plane = 0, plane + h * w
        p += low
        channel = group * channels + p * panel
        inside = min(panel, channels - p * panel)
        weights = ((group * in_group + p) * taps + first) * panel
        if raw.size:
            weights = slot * packed.shape[1] * part * panel
            micro.call(pack, raw, channel * taps + first, taps, inside, packed, weights, last - first, panel)
        kept = (p - low) * block * panel if parts_first else 0
        to = (image * c_out + channel) * count + begin
        micro.call(
            tile, source, origin if parts_first or offsets.size else first * pixels, apart, places, offsets, first,
            last - first, packed, weights, sums, kept, 1 if which == 0 else 0, 1 if which == parts - 1 else 0, bias,
            (group * in_group + p) * panel, floor, out, to, count, inside, width,
        )  # fmt: skip


@jit
def _list(places, begin, width, pixels, ow, stride, w):
    """List where the windows of the outputs from `begin` on lie in a plane; the last tile's beyond `width` are its
    last one's."""
    i, j = begin // ow, begin % ow
    for q in range(width):
        places[q] = i * stride[0] * w + j * stride[1]
        j += 1
        if j == ow:
            i, j = i + 1, 0
    for q in range(width, (width + pixels - 1) // pixels * pixels):
        places[q] = places[width - 1]


@jit(forceinline=True)
def _deal(line, at, width, columns, to, pixels, apart, lanes):
    """Copy the pixels of each tile to its place; whole vectors, whose ends are written again, or are not read."""
    vectors = (pixels + lanes - 1) // lanes
    for _ in range((width + pixels - 1) // pixels):
        for q in range(vectors):
            simd.store(columns, to + q * lanes, simd.load(line, at + q * lanes))
        at += pixels
        to += apart


@kernel
def _im2col_loops(tasks, addresses, x, packed, raw, bias, floor, out, columns, sums, places, offsets, sizes):
    for job in prange(tasks):
        slot = numba.get_thread_id()
        mine = columns[slot], sums[slot], places[slot]
        _im2col_task(job, slot, addresses, x, packed, raw, bias, floor, out, *mine, offsets, sizes)
