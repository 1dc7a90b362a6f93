"""Register tiles for a part of the taps: sums are put aside after one part, and taken up again for the next.

A part of a panel of weights stays in the first-level cache while all tiles of a block read it. That needs pixels that
lie in the order in which tiles read them, too: each tile's are one piece. (An AMD EPYC of Zen 3, whose 16 registers
hold tiles of 6 pixels by 2 vectors, so that weights are loaded for every 6 pixels: 94% of the FMA ceiling; 512 taps at
once, 32 KiB of weights for each tile, 62%; pixels that lie in rows of the image 52%.) Of windows that do not overlap
much that order costs more than it gains: a tile finds each by the places of its pixels and taps, which are listed.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..system import micro
from ..system.building import intrinsic
from ..system.kernels import jit
from . import emit
from .reductions import fetch_ahead, reduction
from .register_tile import finish
from .simd import Vector, register_bytes


def part_tile_address(rows: int, vectors: int, kind: str, x: np.dtype, acc: np.dtype) -> int:
    """Address of the micro-kernel `part_tile`, for kernels that call it."""
    row, place, table = micro.array(acc), micro.PLACE, micro.array(np.int64)
    weights, sums, biases = (row, place), (row, *[place] * 3), (row, place)
    seen, results = (micro.array(x), place, place, table, table, place, place), (micro.scalar(acc), row, *[place] * 4)
    return micro.address(part_tile, (rows, vectors, kind), (*seen, *weights, *sums, *biases, *results))


def part_tile(rows: int, vectors: int, kind: str) -> Any:
    """A micro-kernel for a row of tiles: matrix products of `rows` x (`vectors` * lanes) sums, over some taps.

    It is called as ``part(x, at, apart, places, offsets, first, taps, packed, packed_at, sums, sums_at, begins, ends,
    bias, bias_at, floor, out, out_at, pitch, channels, width)`` for tiles t of `pixels` (`vectors` * lanes if its kind
    is "lanes", else `rows`) until there are `width`. Each computes, r counting rows and l lanes of all vectors::

        "lanes":              sum[r, l] = sum over i < taps of packed[packed_at + i * rows + r] * seen[i, l]
        "rows", "listed":     sum[r, l] = sum over i < taps of seen[i, r] * packed[packed_at + i * panel + l]

    where panel = vectors * lanes, and a pixel p is seen in columns that lie as tiles read them, or by two tables::

        "lanes", "rows":      seen[i, p] = x[at + t * apart + i * pixels + p]
        "listed":             seen[i, p] = x[at + places[t * pixels + p] + offsets[first + i]]

    and adds, unless it `begins`, what it has put into `sums` before. If it `ends`, it does what `register_tile.tile`
    does with sums; else it puts them there. What is written of a tile may go on behind its pixels, up to `width`.
    """
    if emit.is_plain():
        return _plain_part(rows, vectors, kind)
    x_in_lanes, is_listed = kind == "lanes", kind == "listed"

    @intrinsic
    def sum_part(
        typingctx, x, at, apart, places, offsets, first, taps, packed, packed_at, sums, sums_at, begins, ends, bias,
        bias_at, floor, out, out_at, pitch, channels, width,
    ):  # fmt: skip
        count = Vector(out.dtype).count
        panel, pixels = (rows, vectors * count) if x_in_lanes else (vectors * count, rows)

        def codegen(context, builder, sig, args):
            x_, start, distance, places_, offsets_, first_tap, steps = args[:7]
            packed_, begin, sums_, place, fresh, last, bias_, shift, lowest, out_, to, pitch_, high, wide = args[7:]
            image = builder.gep(emit.data_of(context, builder, x, x_), [start])
            weights = builder.gep(emit.data_of(context, builder, packed, packed_), [begin])
            memory = builder.gep(emit.data_of(context, builder, sums, sums_), [place])
            biases = builder.gep(emit.data_of(context, builder, bias, bias_), [shift])
            goal = builder.gep(emit.data_of(context, builder, out, out_), [to])
            least = emit.splat(builder, lowest, count)
            zero = ir.Constant(least.type, None)
            from_here, is_last = (builder.icmp_signed("!=", value, emit.INT(0)) for value in (fresh, last))
            tiles = builder.sdiv(builder.add(wide, emit.INT(pixels - 1)), emit.INT(pixels))
            lane_type, row_type = (x, packed) if x_in_lanes else (packed, x)
            spots = emit.data_of(context, builder, places, places_)
            distances = builder.gep(emit.data_of(context, builder, offsets, offsets_), [first_tap])
            with cgutils.for_range(builder, tiles) as loop:
                seen = builder.gep(image, [builder.mul(loop.index, distance)])
                mine = builder.gep(spots, [builder.mul(loop.index, emit.INT(pixels))])
                spot = [builder.load(builder.gep(mine, [emit.INT(r)])) for r in range(rows if is_listed else 0)]
                windows = [builder.gep(image, [place]) for place in spot]

                def pixel_of(i):
                    """A function of a pixel, which emits where step i sees it."""
                    if is_listed:
                        distance = builder.load(builder.gep(distances, [i]))
                        return lambda p: builder.gep(windows[p], [distance])
                    here = builder.gep(seen, [builder.mul(i, emit.INT(pixels))])
                    return lambda p: builder.gep(here, [emit.INT(p)])

                def factors(i):
                    there = builder.gep(weights, [builder.mul(i, emit.INT(panel))])
                    pixel, weight = pixel_of(i), lambda k: builder.gep(there, [emit.INT(k)])
                    in_lanes, in_rows = (pixel, weight) if x_in_lanes else (weight, pixel)
                    fetch_ahead(builder, there, panel)

                    def scalar(r):
                        value = builder.load(in_rows(r))
                        value = emit.convert(builder, value, row_type.dtype, out.dtype, count)
                        return emit.splat(builder, value, count)

                    def vector(v):
                        value = emit.load(builder, in_lanes(v * count), emit.INT(0), count)
                        return emit.convert(builder, value, lane_type.dtype, out.dtype, count)

                    return scalar, vector

                made = reduction(builder, rows, vectors, steps, zero, factors)
                kept = builder.mul(loop.index, emit.INT(rows * vectors * count))
                kept_places = emit.steps(builder, kept, emit.INT(count), rows * vectors)
                numbers = iter(kept_places)
                for row in made:
                    for v, value in enumerate(row):
                        more = emit.plus(builder, emit.load(builder, memory, next(numbers), count), value)
                        row[v] = builder.select(from_here, value, more)
                with builder.if_else(is_last) as (ending, going_on):
                    with going_on:
                        for value, place in zip(chain(*made), kept_places, strict=True):
                            emit.store(builder, value, memory, place)
                    with ending:
                        done = builder.mul(loop.index, emit.INT(pixels))
                        valid = high, builder.sub(wide, done)
                        finish(builder, made, biases, least, builder.gep(goal, [done]), pitch_, valid, x_in_lanes)
            return context.get_dummy_value()

        integer = types.int64
        weights, kept = (packed, integer), (sums, *[integer] * 3)
        seen, results = (x, integer, integer, places, offsets, integer, integer), (out.dtype, out, *[integer] * 4)
        return types.void(*seen, *weights, *kept, bias, integer, *results), codegen

    return sum_part


def _plain_part(rows: int, vectors: int, kind: str) -> Any:
    """The twin in plain loops, one sum at a time."""
    register_width, x_in_lanes, is_listed = register_bytes(), kind == "lanes", kind == "listed"

    @jit(key=(rows, vectors, kind))
    def plain_part(
        x, at, apart, places, offsets, first, taps, packed, packed_at, sums, sums_at, begins, ends, bias, bias_at,
        floor, out, out_at, pitch, channels, width,
    ):  # fmt: skip
        lanes = vectors * (register_width // out.itemsize)
        pixels, panel = (lanes, rows) if x_in_lanes else (rows, lanes)
        for j in range(width):
            seen = at + (places[j] if is_listed else j // pixels * apart + j % pixels)
            for o in range(min(panel, channels)):
                total, kept = out.dtype.type(0), sums_at + j * panel + o
                for i in range(taps):
                    tap = offsets[first + i] if is_listed else i * pixels
                    total += x[seen + tap] * packed[packed_at + i * panel + o]
                if begins == 0:
                    total = sums[kept] + total
                if ends == 0:
                    sums[kept] = total
                else:
                    total += bias[bias_at + o]
                    out[out_at + o * pitch + j] = floor if total < floor else total

    return plain_part
