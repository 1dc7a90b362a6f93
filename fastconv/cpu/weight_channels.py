"""The gradient for the weight on the register tile, channels of the output in vector lanes.

::

    out[o, c, a, b] = sum over n, i, j of grad[n, o, i, j] * x[n, first + c, row, col]       (see `weight_naive`)

is a matrix product whose sum runs over pixels. What it changes over `naive`: both factors are packed such that each
step of the sum reads its operands side by side. A block of pixels of `grad` becomes panels [pixel][o]; what these see
of `x` becomes a patch [row][column][c], with the padding written out. At every pixel (i, j) the run of ``kw * c``
values for all columns b and channels c of a kernel's row a lies in one piece, in row ``i * stride_h + a * dilation_h``
from column ``j * stride_w`` on (with a horizontal dilation only the c of each b). So a tile takes up to 14 of a run by
2 vectors of o, and finds its pixels by a table of offsets, whatever the stride.

Loop order: the blocks of a few MiB of the batch are packed, all of them first, so that tasks can share them; then each
task takes a panel of o and all of the runs' tiles, or some where panels are few, and goes through the blocks in order:
a sum's order does not depend on the number of threads. The sums lie as the tile writes them, [run][o], and are put in
order at the end: those of a panel by their own task, which still has them in its second-level cache. The zeros of the
padding would spread a NaN or an infinity to taps that do not see it: such sums are made again without them.

It wins where a group has several output channels. Measured on one core of an AMD EPYC (Zen 4): 102 GFLOP/s, 88% of
the FMA ceiling, for 3x3 kernels of 256 to 256 channels on 56x56.

Source: Georganas et al., Anatomy of high-performance deep learning convolutions on SIMD architectures, SC 2018.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ..spec import ConvSpec
from . import simd
from .machine import Machine
from .patch import zeros
from .product import added_product
from .runtime import jit, kernel, masked_threads
from .runtime import scratch as runtime_scratch
from .sums import make_again, put_in_order
from .tile import tile_shape

#: Pixels of a block, and the most columns of one: a panel of them and what they see stay in the second-level cache.
PIXELS, COLUMNS = 512, 64
#: Bytes of a patch that the tiles of a run read, where channels are so many that fewer pixels must do.
PATCH_BYTES = 384 << 10
#: Bytes that are packed at a time, unless one block has more.
PACKED_BYTES = 6 << 20
#: Largest patch: beyond, dilation or padding are so large that nearly all of it were zeros.
LIMIT_BYTES = 64 << 20
#: Below this many operations one of two heights of tile is taken, with idle rows: others are not worth compiling.
SMALL = 2e7
#: A stride beyond this and the window: only the columns that are seen are packed.
FAR = 8


class Blocking(NamedTuple):
    """How a problem is cut up."""

    rows: int
    """Of a tile: elements of a run."""
    vectors: int
    """Of a tile, and of a panel of o."""
    run: int
    """Elements of x that a tap, or all taps of a kernel's row, find in one piece."""
    runs: int
    """Of them, in a kernel."""
    block_h: int
    block_w: int
    """Output rows and columns of a block."""
    step: tuple[int, int]
    """Rows and columns of a patch between neighbouring outputs."""
    patch: tuple[int, int]
    """Rows and columns of a patch."""


@lru_cache(maxsize=4096)
def _blocking(spec: ConvSpec) -> Blocking:
    lanes, (most, wide) = simd.lanes(spec.acc_dtype), tile_shape()
    vectors = 1 if spec.c_out // spec.groups <= lanes else wide
    c_group = spec.c_in // spec.groups
    together = spec.dilation[1] == 1 or spec.kw == 1
    run, runs = (spec.kw * c_group, spec.kh) if together else (c_group, spec.kh * spec.kw)
    rows = -(-run // -(-run // most))
    if spec.flops < SMALL:
        rows = most // 2 if run <= most // 2 else most
    window = [(k - 1) * d + 1 for k, d in zip((spec.kh, spec.kw), spec.dilation, strict=True)]
    step = (min(spec.stride[0], window[0]), spec.stride[1] if spec.stride[1] <= max(window[1], FAR) else window[1])

    def patch(block_h: int, block_w: int) -> tuple[int, int]:
        return (block_h - 1) * step[0] + window[0], (block_w - 1) * step[1] + window[1]

    block_w = _even(spec.ow, COLUMNS)
    block_h = _even(spec.oh, max(1, PIXELS // block_w))
    line = ((block_w - 1) * step[1] * c_group + run) * spec.acc_dtype.itemsize
    block_h = _even(spec.oh, max(1, min(block_h, (PATCH_BYTES // line - 1) // step[0] + 1)))
    return Blocking(rows, vectors, run, runs, block_h, block_w, step, patch(block_h, block_w))


def _even(size: int, most: int) -> int:
    """The size of the fewest parts of at most so many, all about as large."""
    return -(-size // -(-size // most))


def _patch_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of a patch of one group, with room behind for a tile to read."""
    return math.prod(plan.patch) * (spec.c_in // spec.groups) + plan.rows


def _panel(spec: ConvSpec, plan: Blocking) -> int:
    """Channels of a panel."""
    return plan.vectors * simd.lanes(spec.acc_dtype)


def _panels(spec: ConvSpec, plan: Blocking) -> int:
    """Panels of a group."""
    return -(-(spec.c_out // spec.groups) // _panel(spec, plan))


def _blocks(spec: ConvSpec, plan: Blocking) -> int:
    return spec.n * -(-spec.oh // plan.block_h) * -(-spec.ow // plan.block_w)


def _sizes(spec: ConvSpec, plan: Blocking) -> tuple[int, int, int, int]:
    """Elements of the patches and of the panels of one block, blocks packed at a time, and sums of a panel."""
    patches = spec.groups * _patch_size(spec, plan)
    panels = spec.groups * _panels(spec, plan) * plan.block_h * plan.block_w * _panel(spec, plan)
    together = max(1, min(_blocks(spec, plan), PACKED_BYTES // ((patches + panels) * spec.acc_dtype.itemsize)))
    return patches, panels, together, plan.runs * _pitch(plan) * _panel(spec, plan)


def _pitch(plan: Blocking) -> int:
    """From run to run in the sums."""
    return -(-plan.run // plan.rows) * plan.rows


def _shares(spec: ConvSpec, plan: Blocking, threads: int) -> tuple[int, int]:
    """Tasks of a panel, and panels whose sums are kept: of all, or of those at work if each is done at once."""
    panels, (_, _, together, _) = spec.groups * _panels(spec, plan), _sizes(spec, plan)
    shares = min(plan.runs * _pitch(plan) // plan.rows, -(-4 * threads // panels)) if threads > 1 else 1
    at_once = shares == 1 and _blocks(spec, plan) <= together
    return shares, min(threads, panels) if at_once else panels


def supports(spec: ConvSpec) -> str | None:
    plan = _blocking(spec)
    size = spec.groups * _patch_size(spec, plan) * spec.acc_dtype.itemsize
    if size > LIMIT_BYTES:
        return f"what a block of outputs sees would take {size >> 20} MiB, padding and dilation counted, more than " \
               f"{LIMIT_BYTES >> 20} MiB"
    if spec.x_dtype != spec.acc_dtype:
        return f"dtype {spec.dtype} is added up as {spec.acc_dtype}"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    plan, size = _blocking(spec), spec.acc_dtype.itemsize
    patches, panels, _, sums = _sizes(spec, plan)
    blocks, sums = _blocks(spec, plan), sums * spec.groups * _panels(spec, plan)
    seen = _seen_share(spec)
    pixels = blocks * plan.block_h * plan.block_w * seen
    rate = machine.tile_flops * simd.lanes(spec.acc_dtype) / 16
    loads = max(1.0, (plan.rows + plan.vectors) / (plan.rows * plan.vectors))  # of which one a cycle
    tiles = 2 * pixels * sums * loads / rate + blocks * sums / simd.lanes(spec.acc_dtype) * machine.tile_row
    packing = blocks * (patches + panels) * size / machine.patch_bandwidth + 2 * sums * size / machine.bandwidth
    return 2 * machine.call + (tiles + packing) / machine.threads


#: Taps of an axis that `_seen_share` looks at: of larger kernels so many, equally far apart.
LOOKED_AT = 8


def _seen_share(spec: ConvSpec) -> float:
    """The share of the output rows of which a tap sees the image, on average; see `_seen_rows`."""
    taps = range(spec.kh) if spec.kh <= LOOKED_AT else [k * (spec.kh - 1) // (LOOKED_AT - 1) for k in range(LOOKED_AT)]
    (stride, _), (dilation, _), (top, _), seen = spec.stride, spec.dilation, spec.padding[0], 0
    for tap in taps:
        down = tap * dilation - top
        first = min(max(-(down // stride), 0), spec.oh)
        seen += min(max((spec.h - 1 - down) // stride + 1, first), spec.oh) - first
    return seen / (len(taps) * spec.oh)


def scratch(spec: ConvSpec) -> int:
    plan, threads = _blocking(spec), masked_threads()
    return _edges(spec, plan, threads)[-1] * spec.acc_dtype.itemsize


def _edges(spec: ConvSpec, plan: Blocking, threads: int) -> tuple[int, ...]:
    """Where in the scratch patches, panels, sums and lines (of each thread its own) end."""
    patches, panels, together, sums = _sizes(spec, plan)
    kept, lines = _shares(spec, plan, threads)[1], threads * simd.lanes(spec.acc_dtype) ** 2
    return tuple(accumulate((patches * together, panels * together, sums * kept, lines)))


class Prepared(NamedTuple):
    """All that a call needs beside its arrays."""

    pack: Any
    multiply: Any
    order: Any
    """None where the jobs that multiply also put in order."""
    row: int
    """Elements of scratch of each thread, for what follows, which all threads see."""
    edges: tuple[int, ...]
    """Of the parts of the scratch."""
    tables: tuple[np.ndarray, ...]
    """Offsets of the pixels, starts of the runs, rows that they see, places of the taps."""
    turns: tuple[np.ndarray, ...]
    """The numbers the loops take, for each part of the blocks that is packed at a time."""


@lru_cache(maxsize=1024)
def _prepared(spec: ConvSpec, threads: int) -> Prepared:
    plan, lanes, blocks = _blocking(spec), simd.lanes(spec.acc_dtype), _blocks(spec, _blocking(spec))
    together, edges = _sizes(spec, plan)[2], _edges(spec, plan, threads)
    shares, kept = _shares(spec, plan, threads)
    spread = any(chain(*spec.padding)) or spec.ow % plan.block_w > 0  # zeros are multiplied
    own = kept < spec.groups * _panels(spec, plan)
    pads = spec.padding[0][0], spec.padding[1][0]
    blocking = (shares, spec.groups, plan.block_h, plan.block_w, *spec.stride, *plan.step, *pads, *plan.patch)
    pack, multiply, order = (loops.sized(spec.flops) for loops in _loops(plan.rows, plan.vectors))
    numbers = (*blocking, *_seen(spec), plan.run, lanes, *spec.dilation, own, spread)
    return Prepared(
        pack=pack,
        multiply=multiply,
        order=order if shares > 1 else None,
        row=-(-edges[-1] // threads),
        edges=edges,
        tables=(_offsets(spec, plan), _starts(spec, plan), _seen_rows(spec, plan), _places(spec, plan)),
        turns=tuple(
            np.array((first, min(together, blocks - first), *numbers, first + together >= blocks))
            for first in range(0, blocks, together)
        ),
    )


def run(spec: ConvSpec, x: np.ndarray, grad: np.ndarray, out: np.ndarray) -> None:
    threads = masked_threads()
    this = _prepared(spec, threads)
    memory = runtime_scratch(this.row, spec.acc_dtype).reshape(-1)
    first, second, third, end = this.edges
    packed_x, packed_grad, totals = memory[:first], memory[first:second], memory[second:third]
    lines = memory[third:end].reshape(threads, -1)
    if not this.turns:  # an empty batch
        out[...] = 0
    for numbers in this.turns:
        this.pack(x, grad, packed_x, packed_grad, numbers)
        this.multiply(x, grad, packed_x, packed_grad, totals, lines, out, *this.tables, numbers)
    if this.turns and this.order is not None:
        _, starts, _, places = this.tables
        this.order(x, grad, totals, lines, out, starts, places, this.turns[-1])


def _seen(spec: ConvSpec) -> tuple[int, int]:
    """Rows and columns of the padded input that some output sees."""
    return tuple(
        (count - 1) * stride + (k - 1) * d + 1
        for count, stride, k, d in zip((spec.oh, spec.ow), spec.stride, (spec.kh, spec.kw), spec.dilation, strict=True)
    )  # type: ignore[return-value] # two of them


def _offsets(spec: ConvSpec, plan: Blocking) -> np.ndarray:
    """Distance of each pixel of a block from the first, in a patch."""
    i, j = np.ogrid[: plan.block_h, : plan.block_w]
    return ((i * plan.step[0] * plan.patch[1] + j * plan.step[1]) * (spec.c_in // spec.groups)).reshape(-1)


def _starts(spec: ConvSpec, plan: Blocking) -> np.ndarray:
    """Where each run begins in a patch."""
    a, b = np.ogrid[: spec.kh, : plan.runs // spec.kh]
    return ((a * spec.dilation[0] * plan.patch[1] + b * spec.dilation[1]) * (spec.c_in // spec.groups)).reshape(-1)


def _seen_rows(spec: ConvSpec, plan: Blocking) -> np.ndarray:
    """(runs, 2): the first and the end of the output rows of which a run sees the image, not just padding above or
    below: the others are not multiplied."""
    down = np.repeat(np.arange(spec.kh) * spec.dilation[0], plan.runs // spec.kh) - spec.padding[0][0]
    first = np.clip(-(down // spec.stride[0]), 0, spec.oh)
    return np.stack([first, np.clip((spec.h - 1 - down) // spec.stride[0] + 1, first, spec.oh)], axis=1)


def _places(spec: ConvSpec, plan: Blocking) -> np.ndarray:
    """Where in a panel's sums each tap's channels begin."""
    a, b = np.divmod(np.arange(spec.kh * spec.kw), spec.kw)
    within = plan.runs == spec.kh  # the taps of a kernel's row are one run
    return a * _pitch(plan) + b * (spec.c_in // spec.groups) if within else (a * spec.kw + b) * _pitch(plan)


@jit
def _pack_columns(x, at, channels, count, target, to, lanes):
    """target[to + q * channels + c] = x[at + c * h * w + q] for q < count, as flat indices."""
    plane = x.shape[2] * x.shape[3]
    for c in range(0, channels, lanes):
        for q in range(0, count, lanes):
            here, there = at + c * plane + q, to + q * channels + c
            simd.transpose(x, here, plane, min(lanes, channels - c), min(lanes, count - q), target, there, channels)


@jit
def _pack_x(x, image, group, corner, rows, stride, step, patch, seen, channels, target, to, lanes):
    """Fill a patch: `rows` rows of it, whose first is row corner[0] of the padded input less the padding."""
    h, w = x.shape[2:]
    if corner[1] == 0 and patch[1] == w <= seen[1] and step[0] == stride[0] == step[1] == stride[1] == 1:
        # The rows lie one after the other, here and there: they are one.
        first, last = min(max(0, -corner[0]), rows), max(min(rows, h - corner[0]), 0)
        line, at = w * channels, ((image * x.shape[1] + group * channels) * h + corner[0] + first) * w
        zeros(target, to, first * line, lanes)
        _pack_columns(x, at, channels, (last - first) * w, target, to + first * line, lanes)
        zeros(target, to + last * line, (rows - last) * line, lanes)
        return
    for r in range(rows):
        row = corner[0] + r // step[0] * stride[0] + r % step[0]
        at, line = ((image * x.shape[1] + group * channels) * h + row) * w, to + r * patch[1] * channels
        end = min(w, seen[1])
        if not (0 <= row < h):
            zeros(target, line, patch[1] * channels, lanes)
        elif step[1] == stride[1]:
            first = min(max(0, -corner[1]), patch[1])
            last = max(min(patch[1], end - corner[1]), first)
            zeros(target, line, first * channels, lanes)
            _pack_columns(x, at + corner[1] + first, channels, last - first, target, line + first * channels, lanes)
            zeros(target, line + last * channels, (patch[1] - last) * channels, lanes)
        else:
            for q in range(patch[1]):
                col = corner[1] + q // step[1] * stride[1] + q % step[1]
                for c in range(channels):
                    inside = 0 <= col < end
                    target[line + q * channels + c] = x[image, group * channels + c, row, col] if inside else 0


@jit
def _pack_grad(grad, image, channel, channels, i0, j0, high, wide, block_w, target, to, panel, lanes):
    """Fill a panel: [pixel][o] of `high` x `wide` pixels, rows of `block_w`, from channel `channel` on."""
    oh, ow = grad.shape[2:]
    for i in range(high):
        if wide < block_w:
            zeros(target, to + (i * block_w + wide) * panel, (block_w - wide) * panel, lanes)
        for o in range(0, channels, lanes):
            for j in range(0, wide, lanes):
                at = ((image * grad.shape[1] + channel + o) * oh + i0 + i) * ow + j0 + j
                here = to + (i * block_w + j) * panel + o
                simd.transpose(grad, at, oh * ow, min(lanes, channels - o), min(lanes, wide - j), target, here, panel)


@lru_cache(maxsize=64)
def _loops(tile_rows: int, vectors: int) -> Any:
    """The kernel for one shape of tile."""
    product = added_product(tile_rows, vectors)

    @jit(key=(tile_rows, vectors))
    def _pack_job(job, x, grad, packed_x, packed_grad, sizes):
        first, groups, block_h, block_w = sizes[0], sizes[3], sizes[4], sizes[5]
        stride, step, pad = (sizes[6], sizes[7]), (sizes[8], sizes[9]), (sizes[10], sizes[11])
        patch, seen, lanes = (sizes[12], sizes[13]), (sizes[14], sizes[15]), sizes[17]
        c_out, oh, ow = grad.shape[1:]
        channels, c_group, panel = c_out // groups, x.shape[1] // groups, vectors * lanes
        panels = (channels + panel - 1) // panel
        blocks_h, blocks_w = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        # A job packs the patch of a group, or one of its panels.
        place, part, group = job // (groups * (1 + panels)), job // groups % (1 + panels), job % groups
        block = first + place
        j0, i0 = block % blocks_w * block_w, block // blocks_w % blocks_h * block_h
        image, high = block // (blocks_w * blocks_h), min(block_h, oh - i0)
        if part == 0:
            size = patch[0] * patch[1] * c_group + tile_rows
            corner = i0 * stride[0] - pad[0], j0 * stride[1] - pad[1]
            rows = patch[0] - (block_h - high) * step[0]
            edge = seen[0] - pad[0], seen[1] - pad[1]
            to = (place * groups + group) * size
            _pack_x(x, image, group, corner, rows, stride, step, patch, edge, c_group, packed_x, to, lanes)
            zeros(packed_x, to + size - tile_rows, tile_rows, lanes)
        else:
            channel = group * channels + (part - 1) * panel
            some, wide = min(panel, channels - (part - 1) * panel), min(block_w, ow - j0)
            to = ((place * groups + group) * panels + part - 1) * block_h * block_w * panel
            if block_w == ow:  # the rows lie one after the other: they are one
                high, wide, block_w, i0, j0 = 1, high * ow, high * ow, 0, i0 * ow
            _pack_grad(grad, image, channel, some, i0, j0, high, wide, block_w, packed_grad, to, panel, lanes)

    @jit(key=(tile_rows, vectors))
    def _sum_job(job, x, grad, packed_x, packed_grad, totals, slot, offsets, starts, rows, sizes):
        first, count, shares, groups, block_h, block_w = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        run, lanes = sizes[16], sizes[17]
        oh, ow = grad.shape[2:]
        channels, c_group, panel = grad.shape[1] // groups, x.shape[1] // groups, vectors * lanes
        panels = (channels + panel - 1) // panel
        blocks_h, blocks_w = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
        high = (run + tile_rows - 1) // tile_rows
        tiles = high * starts.size
        share, p, group = job % shares, job // shares % panels, job // (shares * panels)
        size = sizes[12] * sizes[13] * c_group + tile_rows
        for place in range(count):
            i0 = (first + place) // blocks_w % blocks_h * block_h
            end = min(block_h, oh - i0)
            left = (place * groups + group) * size
            right = ((place * groups + group) * panels + p) * block_h * block_w * panel
            for t in range(share * tiles // shares, (share + 1) * tiles // shares):
                at = left + starts[t // high] + t % high * tile_rows
                to = (slot * tiles + t) * tile_rows * panel
                upper, lower = max(rows[t // high, 0] - i0, 0), min(rows[t // high, 1] - i0, end)
                if upper >= lower:  # a product has a factor at least: zeros of the padding
                    upper, lower = 0, 1
                pixels = offsets[upper * block_w : lower * block_w]
                begin = right + upper * block_w * panel
                product(packed_x, at, pixels, pixels.size, packed_grad, begin, first + place == 0, totals, to)

    @jit(key=(tile_rows, vectors))
    def _order_job(job, parts, x, grad, totals, slot, line, out, starts, places, sizes):
        groups, run, lanes = sizes[3], sizes[16], sizes[17]
        channels, panel = grad.shape[1] // groups, vectors * lanes
        panels = (channels + panel - 1) // panel
        part, p, group = job % parts, job // parts % panels, job // (parts * panels)
        base = slot * starts.size * ((run + tile_rows - 1) // tile_rows * tile_rows) * panel
        o, some = group * channels + p * panel, min(panel, channels - p * panel)
        strips = (out[0].size + lanes - 1) // lanes
        begin, end = part * strips // parts * lanes, min((part + 1) * strips // parts * lanes, out[0].size)
        finite = put_in_order(totals, base, places, panel, out, o, some, begin, end, line, lanes)
        if sizes[21] and not finite:
            pad, dilation = (sizes[10], sizes[11]), (sizes[18], sizes[19])
            make_again(x, grad, out, groups, o, some, begin, end, (sizes[6], sizes[7]), pad, dilation)

    @kernel(key=(tile_rows, vectors))
    def _weight_channels_pack(x, grad, packed_x, packed_grad, sizes):
        count, groups, panel = sizes[1], sizes[3], vectors * sizes[17]
        panels = (grad.shape[1] // groups + panel - 1) // panel
        for job in prange(count * groups * (1 + panels)):
            _pack_job(job, x, grad, packed_x, packed_grad, sizes)

    @kernel(key=(tile_rows, vectors))
    def _weight_channels(x, grad, packed_x, packed_grad, totals, lines, out, offsets, starts, rows, places, sizes):
        shares, groups, own, last, panel = sizes[2], sizes[3], sizes[20], sizes[22], vectors * sizes[17]
        panels = (grad.shape[1] // groups + panel - 1) // panel
        for job in prange(groups * panels * shares):
            thread = numba.get_thread_id()
            slot = thread if own else job // shares
            _sum_job(job, x, grad, packed_x, packed_grad, totals, slot, offsets, starts, rows, sizes)
            if last and shares == 1:
                _order_job(job, 1, x, grad, totals, slot, lines[thread], out, starts, places, sizes)

    @kernel(key=(tile_rows, vectors))
    def _weight_channels_order(x, grad, totals, lines, out, starts, places, sizes):
        shares, groups, panel = sizes[2], sizes[3], vectors * sizes[17]
        panels = (grad.shape[1] // groups + panel - 1) // panel
        for job in prange(groups * panels * shares):
            line = lines[numba.get_thread_id()]
            _order_job(job, shares, x, grad, totals, job // shares, line, out, starts, places, sizes)

    return _weight_channels_pack, _weight_channels, _weight_channels_order
