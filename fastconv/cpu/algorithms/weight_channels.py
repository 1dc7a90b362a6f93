"""The gradient for the weight on the register tile, channels of the output in vector lanes.

::

    out[o, c, a, b] = sum over n, i, j of grad[n, o, i, j] * x[n, first + c, row, col]       (see `weight_naive`)

is a matrix product whose sum runs over pixels. What it changes over `naive`: both factors are packed such that each
step of the sum reads its operands side by side. A block of pixels of `grad` becomes panels [pixel][o]; what these see
of `x` becomes a patch [row][column][c], with the padding written out. At every pixel (i, j) the run of ``kw * c``
values for all columns b and channels c of a kernel's row a lies in one piece, in row ``i * stride_h + a * dilation_h``
from column ``j * stride_w`` on (with a horizontal dilation only the c of each b). So a tile takes up to 14 elements of
a run by 2 vectors of o, and finds its pixels by a table of offsets, whatever the stride.

Loop order: the blocks of a few MiB of the batch are packed, all of them first, so that tasks can share them; then each
task takes a panel of o and all tiles of the runs, or some tiles where panels are few, and goes through the blocks in
order: a sum's order does not depend on the number of threads. The sums lie as the tile writes them, [run][o], and are
put in order at the end: a panel's by their own task, while they are in its second-level cache. The zeros of the padding
would spread a NaN or an infinity to taps that do not see it, so sums that are not finite are made again without them.

It wins where a group has several output channels. Measured on one core of an AMD EPYC (Zen 4): 102 GFLOP/s, 88% of
the FMA ceiling, for 3x3 kernels of 256 to 256 channels on 56x56.

Source: Georganas et al., Anatomy of high-performance deep learning convolutions on SIMD architectures, SC 2018.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, chain
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.channel_blocking import (
    Blocking,
    block_count,
    block_sizes,
    blocking_of,
    panel_count,
    panel_size,
    patch_size,
    pixel_offsets,
    rows_that_see,
    run_starts,
    seen_extent,
    tap_places,
    task_shares,
)
from ..shared.patch import transposed_address, zeros
from ..system import micro
from ..system.kernels import Launch, jit, kernel
from ..system.memory import GAP_BYTES, scratch_rows
from ..system.threads import masked_threads
from ..tiles import simd
from ..tiles.gradient_tiles import added_product_address
from . import weight_naive

#: Most bytes of a patch: in a larger one, dilation or padding would be so large that nearly all of it were zeros.
LIMIT_BYTES = 64 << 20


def supports(spec: ConvSpec) -> str | None:
    plan = blocking_of(spec)
    size = spec.groups * patch_size(spec, plan) * spec.acc_dtype.itemsize
    if size > LIMIT_BYTES:
        return f"what a block of outputs sees would take {size >> 20} MiB, padding and dilation counted, more than " \
               f"{LIMIT_BYTES >> 20} MiB"
    if spec.x_dtype != spec.acc_dtype:
        return f"dtype {spec.dtype} is added up as {spec.acc_dtype}"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    plan, size = blocking_of(spec), spec.acc_dtype.itemsize
    patches, panels, _, sums = block_sizes(spec, plan)
    blocks, sums = block_count(spec, plan), sums * spec.groups * panel_count(spec, plan)
    seen = _seen_share(spec)
    pixels = blocks * plan.block_h * plan.block_w * seen
    rate = machine.tile_flops * simd.lanes(spec.acc_dtype) / 16
    loads = max(1.0, (plan.rows + plan.vectors) / (plan.rows * plan.vectors))  # one of them a cycle
    tiles = 2 * pixels * sums * loads / rate + blocks * sums / simd.lanes(spec.acc_dtype) * machine.tile_row
    packing = blocks * (patches + panels) * size / machine.patch_bandwidth + 2 * sums * size / machine.bandwidth
    return 2 * machine.call + (tiles + packing) / machine.threads


#: Most taps of an axis that `_seen_share` looks at; in larger kernels these are equally far apart.
LOOKED_AT = 8


def _seen_share(spec: ConvSpec) -> float:
    """Share of the output rows for which a tap sees the image, on average; see `rows_that_see`."""
    taps = range(spec.kh) if spec.kh <= LOOKED_AT else [k * (spec.kh - 1) // (LOOKED_AT - 1) for k in range(LOOKED_AT)]
    (stride, _), (dilation, _), (top, _), seen = spec.stride, spec.dilation, spec.padding[0], 0
    for tap in taps:
        down = tap * dilation - top
        first = min(max(-(down // stride), 0), spec.oh)
        seen += min(max((spec.h - 1 - down) // stride + 1, first), spec.oh) - first
    return seen / (len(taps) * spec.oh)


def scratch(spec: ConvSpec) -> int:
    plan, threads = blocking_of(spec), masked_threads()
    return _edges(spec, plan, threads)[-1] * spec.acc_dtype.itemsize


def _edges(spec: ConvSpec, plan: Blocking, threads: int) -> tuple[int, ...]:
    """The ends of the patches, panels, sums, and lines (each thread has its own) in the scratch."""
    patches, panels, together, sums = block_sizes(spec, plan)
    kept, size = task_shares(spec, plan, threads)[1], spec.acc_dtype.itemsize
    lines = threads * (simd.lanes(spec.acc_dtype) ** 2 + GAP_BYTES // size)
    return tuple(accumulate((patches * together, panels * together, sums * kept, lines)))


class Prepared(NamedTuple):
    """All that a call needs beside its arrays."""

    pack: Launch
    multiply: Launch
    transposed: int
    product: int
    """Addresses of the micro-kernels."""
    row: int
    """Elements of a thread's row of scratch; the threads use all rows together."""
    edges: tuple[int, ...]
    """The ends of the parts of the scratch."""
    tables: tuple[np.ndarray, ...]
    """Offsets of the pixels, starts of the runs, rows that they see, places of the taps."""
    tasks: int
    turns: tuple[tuple[int, ...], ...]
    """The numbers the loops take, for each part of the blocks that is packed at a time; where several tasks share a
    panel, once more without blocks, to put the sums in order."""
    spread: bool
    """Whether zeros of padding or gaps are multiplied."""


@lru_cache(maxsize=1024)
def _prepared(spec: ConvSpec, threads: int) -> Prepared:
    plan, lanes, blocks = blocking_of(spec), simd.lanes(spec.acc_dtype), block_count(spec, blocking_of(spec))
    together, edges = block_sizes(spec, plan)[2], _edges(spec, plan, threads)
    (shares, kept), panels = task_shares(spec, plan, threads), spec.groups * panel_count(spec, plan)
    pads = spec.padding[0][0], spec.padding[1][0]
    blocking = (shares, spec.groups, plan.block_h, plan.block_w, *spec.stride, *plan.step, *pads, *plan.patch)
    numbers = (*blocking, *seen_extent(spec), plan.run, plan.rows, panel_size(spec, plan), lanes, int(kept < panels))
    turns = [(first, min(together, blocks - first), *numbers, int(shares == 1 and first + together >= blocks))
             for first in range(0, blocks, together)]  # fmt: skip
    if blocks and shares > 1:
        turns.append((blocks, 0, *numbers, 1))
    return Prepared(
        pack=Launch(_weight_channels_pack, spec.flops),
        multiply=Launch(_weight_channels, spec.flops),
        transposed=transposed_address(spec.acc_dtype),
        product=added_product_address(plan.rows, plan.vectors, spec.acc_dtype),
        row=-(-edges[-1] // threads),
        edges=edges,
        tables=(pixel_offsets(spec, plan), run_starts(spec, plan), rows_that_see(spec, plan), tap_places(spec, plan)),
        tasks=panels * shares,
        turns=tuple(turns),
        spread=any(chain(*spec.padding)) or spec.ow % plan.block_w > 0,
    )


def run(spec: ConvSpec, x: np.ndarray, grad: np.ndarray, out: np.ndarray) -> None:
    threads = masked_threads()
    this = _prepared(spec, threads)
    memory = scratch_rows(this.row, spec.acc_dtype).reshape(-1)
    first, second, third, end = this.edges
    packed_x, packed_grad, totals = memory[:first], memory[first:second], memory[second:third]
    lines = memory[third:end].reshape(threads, -1)
    finite = np.empty(this.tasks, np.bool_)
    if not this.turns:  # an empty batch
        out[...] = 0
        return
    for numbers in this.turns:
        if numbers[1]:
            this.pack.call(this.transposed, x, grad, packed_x, packed_grad, numbers)
        this.multiply.call(this.product, grad, packed_x, packed_grad, totals, lines, out, finite, *this.tables, numbers)
    if this.spread and not finite.all():
        weight_naive.make_again(spec, x, grad, out)


@jit
def _pack_x(transposed, x, image, group, corner, rows, stride, step, patch, seen, channels, target, to, lanes):
    """Fill a patch: `rows` rows of it, whose first is row corner[0] of the padded input less the padding."""
    h, w = x.shape[2:]
    plane = (image * x.shape[1] + group * channels) * h * w
    end, wide, even = min(w, seen[1]), patch[1], step[1] == stride[1]
    # Rows that lie one after the other, in x and in the patch, are handled as one.
    one = corner[1] == 0 and wide == w == end and even and step[0] == stride[0] == step[1] == 1
    for r in range(1 if one else rows):
        if one:
            wide, origin = rows * w, corner[0] * w
            first, last = min(max(0, -corner[0]), rows) * w, max(min(rows, h - corner[0]), 0) * w
        else:
            row = corner[0] + r // step[0] * stride[0] + r % step[0]
            origin, inside = row * w + corner[1], 0 <= row < h
            first = min(max(0, -corner[1]), wide) if inside else wide
            last = max(min(wide, end - corner[1]), first)
        line = to + r * wide * channels
        if even or first == wide:
            goal = line + first * channels
            zeros(target, line, first * channels, lanes)
            micro.call(transposed, x, plane + origin + first, h * w, channels, last - first, target, goal, channels)
            zeros(target, line + last * channels, (wide - last) * channels, lanes)
        else:
            for q in range(wide):
                col = corner[1] + q // step[1] * stride[1] + q % step[1]
                for c in range(channels):
                    inside = 0 <= col < end
                    target[line + q * channels + c] = x[image, group * channels + c, row, col] if inside else 0


@jit
def _pack_job(job, transposed, x, grad, packed_x, packed_grad, sizes):
    """Pack the patch of a group of a block, or one of its panels."""
    first, _, _, groups, block_h, block_w = sizes[:6]
    stride, step, pad, patch, seen = sizes[6:8], sizes[8:10], sizes[10:12], sizes[12:14], sizes[14:16]
    tile_rows, panel, lanes = sizes[17:20]
    c_out, oh, ow = grad.shape[1:]
    channels, c_group = c_out // groups, x.shape[1] // groups
    panels = (channels + panel - 1) // panel
    blocks_h, blocks_w = (oh + block_h - 1) // block_h, (ow + block_w - 1) // block_w
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
        _pack_x(transposed, x, image, group, corner, rows, stride, step, patch, edge, c_group, packed_x, to,
                lanes)  # fmt: skip
        zeros(packed_x, to + size - tile_rows, tile_rows, lanes)
    else:
        channel = group * channels + (part - 1) * panel
        some, wide = min(panel, channels - (part - 1) * panel), min(block_w, ow - j0)
        to = ((place * groups + group) * panels + part - 1) * block_h * block_w * panel
        begin = ((image * c_out + channel) * oh + i0) * ow + j0
        if block_w == ow:  # the rows lie one after the other: handled as one
            high, wide, block_w = 1, high * ow, high * ow
        for i in range(high):
            line = to + i * block_w * panel
            zeros(packed_grad, line + wide * panel, (block_w - wide) * panel, lanes)
            micro.call(transposed, grad, begin + i * ow, oh * ow, some, wide, packed_grad, line, panel)


@kernel
def _weight_channels_pack(transposed, x, grad, packed_x, packed_grad, sizes):
    count, groups, panel = sizes[1], sizes[3], sizes[18]
    panels = (grad.shape[1] // groups + panel - 1) // panel
    for job in prange(count * groups * (1 + panels)):
        _pack_job(job, transposed, x, grad, packed_x, packed_grad, sizes)


@jit
def _sum_job(job, product, c_group, grad, packed_x, packed_grad, totals, slot, offsets, starts, rows, sizes):
    """Add the products of all blocks that are packed to the sums of a share of a panel's tiles."""
    first, count, shares, groups, block_h, block_w = sizes[:6]
    run, tile_rows, panel = sizes[16:19]
    oh, ow = grad.shape[2:]
    panels = (grad.shape[1] // groups + panel - 1) // panel
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
            if upper >= lower:  # a product takes at least one row: zeros of the padding
                upper, lower = 0, 1
            pixels = offsets[upper * block_w : lower * block_w]
            begin = right + upper * block_w * panel
            micro.call(product, packed_x, at, pixels, pixels.size, packed_grad, begin, first + place, totals, to)


@jit
def _order_job(job, totals, slot, line, out, starts, places, sizes):
    """Put a share of a panel's sums in order, from [run][o] to [o][c, a, b]; True if all are finite."""
    parts, groups = sizes[2], sizes[3]
    run, tile_rows, panel, lanes = sizes[16:20]
    channels, size, taps = out.shape[0] // groups, out[0].size, places.size
    panels = (channels + panel - 1) // panel
    part, p, group = job % parts, job // parts % panels, job // (parts * panels)
    base = slot * starts.size * ((run + tile_rows - 1) // tile_rows * tile_rows) * panel
    o, some = group * channels + p * panel, min(panel, channels - p * panel)
    strips = (size + lanes - 1) // lanes
    begin, end = part * strips // parts * lanes, min((part + 1) * strips // parts * lanes, size)
    zero = simd.splat(totals.dtype.type(0))
    spoiled = zero  # zero times the sums: NaN where one is not finite
    for lane in range(0, some, lanes):
        for first in range(begin, end, lanes):
            many, c, t = min(lanes, end - first), first // taps, first % taps
            for q in range(many):
                total = simd.load(totals, base + (places[t] + c) * panel + lane)
                spoiled = simd.fma(total, zero, spoiled)
                simd.store(line, q * lanes, total)
                t += 1
                if t == taps:
                    c, t = c + 1, 0
            simd.transpose(line, 0, lanes, many, min(lanes, some - lane), out, (o + lane) * size + first, size)
    simd.store(line, 0, spoiled)
    finite = True
    for q in range(lanes):
        finite &= line[q] == 0
    return finite


@kernel
def _weight_channels(
    product, grad, packed_x, packed_grad, totals, lines, out, finite, offsets, starts, rows, places, sizes
):
    own, order = sizes[20:]
    for job in prange(finite.size):
        thread = numba.get_thread_id()
        slot = thread if own else job // sizes[2]
        _sum_job(job, product, out.shape[1], grad, packed_x, packed_grad, totals, slot, offsets, starts, rows, sizes)
        if order:
            finite[job] = _order_job(job, totals, slot, lines[thread], out, starts, places, sizes)
