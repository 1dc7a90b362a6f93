"""The gradient for the weight with pixels in vector lanes: for groups of few channels, as in depthwise layers.

::

    out[o, c, a, b] = sum over n, i, j of grad[n, o, i, j] * x[n, first + c, row, col]       (see `weight_naive`)

What it changes over `channels`: a vector holds pixels, so nothing is transposed, and one channel is enough. Rows of
`grad` and of what they see of `x` are copied to one pitch, zeros in the gaps, so that a block of pixels is one run.
To move a tap down by a row, `grad` can be moved up by one. So the taps (a, b) of an image are the products of all runs
of `grad`, moved by a, with all runs of `x`, moved by b: a tile of up to 5 x 5 or 4 x 6 of them loads 10 vectors for 25
products. With several channels the rows of tiles are all (o, a), their columns all (c, b). With a stride, rows and
columns of `x` are dealt to one plane for each phase, and a tap reads the plane of its phase.

Loop order: one task per group, or part of its tiles; images and bands of rows, one after the other: a sum's order does
not depend on the number of threads. A sum is a vector until the end, when its lanes are added up. The zeros in the gaps
would spread a NaN or an infinity to taps that do not see it, so sums that are not finite are made again without them.

It wins for depthwise layers and groups of up to some eight channels. Measured on one core of an AMD EPYC (Zen 4): 42
GFLOP/s for a depthwise 7x7 layer of 96 channels on 56x56, where PyTorch reaches 3; its copies take most of the time of
a 3x3 one.

Source: Georganas et al., SC 2018, as for `channels`, for sums over pixels; the vectors along rows are those of `image`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import patch
from ..shared.pixel_blocking import blocking_of, row_spans, tables_of
from ..system import micro
from ..system.kernels import Launch, jit, kernel
from ..system.memory import scratch_rows
from ..system.threads import masked_threads
from ..tiles import simd, simd_pool
from ..tiles.deal import split
from ..tiles.gradient_tiles import outer_sums_address
from . import weight_naive

#: Most bytes of a block: in a larger one, dilation or padding would be so large that nearly all of it were zeros.
LIMIT_BYTES = 8 << 20


def _sizes(spec: ConvSpec) -> tuple[int, int, int]:
    """Elements of the runs of x and of grad, and of the sums."""
    plan, lanes = blocking_of(spec), simd.lanes(spec.acc_dtype)
    across = patch.phase_count(spec.kw, spec.dilation[1], spec.stride[1])
    planes = spec.c_in // spec.groups * patch.phase_count(spec.kh, spec.dilation[0], spec.stride[0]) * across
    sums = plan.row_blocks * plan.column_blocks * plan.rows * plan.columns * lanes
    # A tile reads to the end of its last vector, of a run that may begin anywhere in a row.
    return planes * plan.plane + plan.pitch + 2 * lanes, spec.c_out // spec.groups * plan.signal, sums


def supports(spec: ConvSpec) -> str | None:
    if spec.x_dtype != spec.acc_dtype:
        return f"dtype {spec.dtype} is added up as {spec.acc_dtype}"
    rows = 1 + (spec.kh - 1) * spec.dilation[0] // spec.stride[0]
    pitch = spec.ow + (spec.kw - 1) * spec.dilation[1] // spec.stride[1]
    size = (spec.c_in // spec.groups * min(spec.kh, spec.stride[0]) * min(spec.kw, spec.stride[1])
            + 3 * spec.c_out // spec.groups) * rows * pitch * spec.acc_dtype.itemsize
    if size > LIMIT_BYTES:
        return f"a row of outputs and what it sees would take {size >> 20} MiB, padding and dilation counted, more " \
               f"than {LIMIT_BYTES >> 20} MiB"
    return None


#: Time of a vector multiply-add, whose operands come from the second-level cache, in units of one in registers; and
#: seconds to add a vector of sums to those in memory and up to one number (fitted to 16 layers, an AMD EPYC of Zen 5).
PRODUCT, SUM = 1.1, 5e-9


def cost(spec: ConvSpec, machine: Machine) -> float:
    plan, lanes = blocking_of(spec), simd.lanes(spec.acc_dtype)
    blocks = spec.n * spec.groups * -(-spec.oh // plan.block_h)
    products = PRODUCT * max(plan.rows * plan.columns, 1.6 * (plan.rows + plan.columns))
    vectors = sum(count * -(-(plan.block_h + span) * plan.pitch // lanes) for count, span in row_spans(spec, plan.rows))
    steps = vectors * plan.column_blocks
    rate = machine.tile_flops * lanes / 16
    tiles = plan.row_blocks * plan.column_blocks
    tiling = blocks * (2 * steps * products * lanes / rate + tiles * (machine.tile + plan.rows * plan.columns * SUM))
    seen, signal, _ = _sizes(spec)
    copied = blocks * (seen + signal) * spec.acc_dtype.itemsize / machine.patch_bandwidth
    return machine.call + (tiling + copied) / machine.threads


def scratch(spec: ConvSpec) -> int:
    return masked_threads() * sum(_sizes(spec)) * spec.acc_dtype.itemsize


def _edges(spec: ConvSpec, phases: np.ndarray, pitch: int) -> np.ndarray:
    """(phases, 2): for each column phase, the first of its columns that lies in the image, and the end of these."""
    shift = phases - spec.padding[1][0]
    begin = np.clip(-(shift // spec.stride[1]), 0, pitch)
    return np.stack([begin, np.clip((spec.w - 1 - shift) // spec.stride[1] + 1, begin, pitch)], axis=1)


class Prepared(NamedTuple):
    """All that a call needs beside its arrays."""

    launch: Launch
    deal: int
    products: int
    """Addresses of the micro-kernels."""
    tasks: int
    scratch: int
    tables: tuple[np.ndarray, ...]
    sizes: tuple[int, ...]


@lru_cache(maxsize=1024)
def _prepared(spec: ConvSpec, threads: int) -> Prepared:
    plan, (seen, signal, sums) = blocking_of(spec), _sizes(spec)
    tiles = plan.row_blocks * plan.column_blocks
    shares = 1 if threads == 1 else max(1, min(tiles, 2 * threads // spec.groups))
    pads, lanes = (spec.padding[0][0], spec.padding[1][0]), simd.lanes(spec.acc_dtype)
    numbers = (spec.groups, shares, plan.block_h, plan.pitch, plan.plane, plan.margin, plan.signal)
    axes = zip((spec.kh, spec.kw), spec.dilation, spec.stride, strict=True)
    down, across = (patch.phases(*axis) for axis in axes)
    edges = _edges(spec, across, plan.pitch)
    return Prepared(
        launch=Launch(_weight_pixels, spec.flops),
        deal=_deal_address(spec.acc_dtype),
        products=outer_sums_address(plan.rows, plan.columns, spec.acc_dtype),
        tasks=spec.groups * shares,
        scratch=seen + signal + sums,
        tables=(*tables_of(spec), down, across, edges),
        sizes=(*numbers, *spec.stride, *pads, seen, signal, lanes),
    )


def run(spec: ConvSpec, x: np.ndarray, grad: np.ndarray, out: np.ndarray) -> None:
    this = _prepared(spec, masked_threads())
    lines, finite = scratch_rows(this.scratch, spec.acc_dtype), np.empty(this.tasks, np.bool_)
    this.launch.call(this.deal, this.products, x, grad, out, finite, lines, *this.tables, this.sizes)
    if np.count_nonzero(finite) < this.tasks:
        weight_naive.make_again(spec, x, grad, out)


@jit
def _clear(target, begin, end, lanes):
    """Write zeros from one flat index to another, and up to a vector further."""
    zero = simd.splat(target.dtype.type(0))
    for q in range(begin, end, lanes):
        simd.store(target, q, zero)


def _deal_address(dtype: np.dtype) -> int:
    """Address of the micro-kernel `_deal`, for kernels that call it."""
    row, place, table = micro.array(dtype), micro.PLACE, micro.array(np.int64)
    types_ = row, *[place] * 6, table, table, table, *[place] * 4, row, place
    return micro.address(_deal, (simd.lanes(dtype),), types_)


def _deal(lanes: int) -> Any:
    """A micro-kernel that copies `rows` rows of each phase of a plane; it is called as ``deal(x, at, h, w, top, left,
    rows, row_phases, phases, edges, stride_h, stride_w, pitch, plane, target, to)``.

    The plane of h rows and w columns begins at `at`; (top, left) is the first row and column, perhaps outside. Rows
    outside become zeros; columns outside, beyond the `edges` of their phase, are left as they are.
    """

    @jit(key=(lanes,), forceinline=True)
    def copy_turns(source, at, target, to, other, count):
        """target[to + q] = source[at + 2 * q], target[other + q] = source[at + 2 * q + 1], for q < count."""
        if count < lanes:
            patch.copy_row(source, at, 2, target, to, count, lanes, False)
            patch.copy_row(source, at + 1, 2, target, other, count, lanes, False)
            return
        for q in range(0, count - lanes, lanes):
            split(source, at + 2 * q, target, to + q, other + q)
        last = count - lanes
        split(source, at + 2 * last, target, to + last, other + last)

    @jit(key=(lanes,))
    def deal_rows(
        x, start, h, w, top, left, rows, row_phases, phases, edges, stride_h, stride_w, pitch, plane, target, to
    ):
        every = phases.size * plane
        for r in range(rows):
            for f in range(row_phases.size):  # rows in the order of memory, which the processor fetches ahead
                row, line = top + r * stride_h + row_phases[f], to + f * every + r * pitch
                at = start + row * w + left
                if not (0 <= row < h):
                    for g in range(phases.size):
                        patch.zeros(target, line + g * plane, pitch, lanes)
                elif stride_w == 2 and phases.size == 2:
                    begin, end = max(edges[0], edges[2]), min(edges[1], edges[3])
                    if begin < end:
                        copy_turns(x, at + 2 * begin, target, line + begin, line + plane + begin, end - begin)
                    for g in range(2):  # the phases differ by one column at most
                        first, last = edges[2 * g], edges[2 * g + 1]
                        if first < min(begin, last):
                            target[line + g * plane + first] = x[at + 2 * first + g]
                        if last > max(end, first):
                            target[line + g * plane + last - 1] = x[at + 2 * last - 2 + g]
                elif stride_w == 1:  # all columns are of one phase
                    patch.copy_run(x, at + edges[0], target, line + edges[0], edges[1] - edges[0], lanes)
                else:
                    for g in range(phases.size):
                        begin, count = edges[2 * g], edges[2 * g + 1] - edges[2 * g]
                        here, there = at + phases[g] + begin * stride_w, line + g * plane + begin
                        patch.copy_row(x, here, stride_w, target, there, count, lanes, False)

    return deal_rows


@jit
def _pixels_task(
    job, deal, products, x, grad, out, line, left, begin, right, left_places, right_places, row_phases, phases, edges,
    sizes,
):  # fmt: skip
    """Compute one task; False if a sum is not finite."""
    groups, shares, block_h, pitch, plane, margin, signal = sizes[:7]
    stride, pad, (seen_size, signals_size, lanes) = sizes[7:9], sizes[9:11], sizes[11:]
    signals, sums = seen_size, seen_size + signals_size
    (n, c_out, oh, ow), (h, w) = grad.shape, x.shape[2:]
    channels, (c_group, kh, kw) = c_out // groups, out.shape[1:]
    group, share = job // shares, job % shares
    tile_rows, tile_columns = left.shape[1], right.shape[1]
    tiles = left.shape[0] * right.shape[0]
    first, last = share * tiles // shares, (share + 1) * tiles // shares
    each_tile, each = tile_rows * tile_columns * lanes, row_phases.size * phases.size * plane
    _clear(line, 0, signals, lanes)
    _clear(line, signals, sums, lanes)
    _clear(line, sums + first * each_tile, sums + last * each_tile, lanes)
    for image in range(n):
        for i0 in range(0, oh, block_h):
            high = min(block_h, oh - i0)
            for c in range(c_group):
                at, to = (image * groups * c_group + group * c_group + c) * h * w, c * each
                rows = plane // pitch - (block_h - high)
                micro.call(deal, x, at, h, w, i0 * stride[0] - pad[0], -pad[1], rows, row_phases, phases, edges,
                           stride[0], stride[1], pitch, plane, line, to)  # fmt: skip
            for o in range(channels):  # rows of one phase: a call of `deal` would take longer than these copies
                at, to = ((image * c_out + group * channels + o) * oh + i0) * ow, signals + o * signal + margin
                for i in range(high):
                    patch.copy_run(grad, at + i * ow, line, to + i * pitch, ow, lanes)
                for i in range(high, block_h):
                    patch.zeros(line, to + i * pitch, ow, lanes)
            for t in range(first, last):
                r, s = t // right.shape[0], t % right.shape[0]
                micro.call(products, line, signals, left[r], line, begin[r, 0], right[s], begin[r, 1], line,
                           sums + t * each_tile)  # fmt: skip
    finite, weights = True, out.reshape(-1)
    for t in range(first, last):
        block = t // right.shape[0]
        tall, wide, at = left_places[block], right_places[t - block * right.shape[0]], sums + t * each_tile
        for r in range(tile_rows):
            goal = group * channels * c_group * kh * kw + tall[r]
            for s in range(tile_columns):
                if tall[r] >= 0 and wide[s] >= 0:
                    total = _total(simd.load(line, at + (r * tile_columns + s) * lanes))
                    finite &= total - total == 0  # else NaN or infinite, perhaps from a zero of a gap or the padding
                    weights[goal + wide[s]] = total
    return finite


_total = simd_pool.fold("sum")


@kernel
def _weight_pixels(
    deal, products, x, grad, out, finite, lines, left, begin, right, left_places, right_places, row_phases, phases,
    edges, sizes,
):  # fmt: skip
    for job in prange(finite.size):
        line = lines[numba.get_thread_id()]
        finite[job] = _pixels_task(
            job, deal, products, x, grad, out, line, left, begin, right, left_places, right_places, row_phases, phases,
            edges, sizes,
        )  # fmt: skip
