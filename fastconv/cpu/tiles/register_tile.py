"""Register tiles: the inner loops of the convolutions, whose sums stay in vector registers from first to last tap.

They are written in LLVM IR, of the parts in `emit`. Both tiles also exist as plain loops, which take their place where
``FASTCONV_SIMD=0`` is set or Numba's bounds checks are on; the results then differ by the order of rounding only.
"""

from __future__ import annotations

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
from .simd import Vector, register_bytes, registers


def tile_shape() -> tuple[int, int]:
    """Largest (rows, vectors) of `tile` whose sums, operands and one broadcast stay in registers.

    32 registers hold 14 x 2 sums, 2 vectors and a broadcast; 16 hold 6 x 2 sums. Of the shapes that fit, those with two
    or three vectors a row load least for each multiply-add: 14 x 2 reaches 98% of the ceiling in cache (AMD EPYC 9005),
    as do 9 x 3 and 6 x 4; 7 x 4 spills (83%), one vector a row is bound by loads (80%).
    """
    return (14, 2) if registers() == 32 else (6, 2)


def finish(
    builder, made: list[list[ir.Value]], biases: ir.Value, least: ir.Value, goal: ir.Value, pitch: ir.Value,
    valid: tuple[ir.Value, ir.Value], x_in_lanes: bool,
) -> None:  # fmt: skip
    """Emit what follows a tile's sums: bias and activation, and writing as many channels and pixels as are valid, from
    `goal` on; channels `pitch` apart."""
    count, zero = least.type.count, ir.Constant(least.type, None)
    for r in range(len(made)):
        for v in range(len(made[r])):
            if x_in_lanes:
                added = emit.splat(builder, builder.load(builder.gep(biases, [emit.INT(r)])), count)
            else:
                added = emit.load(builder, biases, emit.INT(v * count), count)
            made[r][v] = emit.clamped(builder, emit.plus(builder, made[r][v], added), least)
    for v, column in enumerate(map(list, zip(*made, strict=True))):
        if x_in_lanes:
            emit.write(builder, column, goal, pitch, (0, v * count), valid)
            continue
        for r in range(0, len(column), count):
            block = (column + [zero] * count)[r : r + count]
            emit.write(builder, emit.transposed(builder, block), goal, pitch, (v * count, r), valid)


def table_size(context, builder, table_type, table):
    return builder.extract_value(context.make_array(table_type)(context, builder, table).shape, 0)


def tile_address(
    rows: int, vectors: int, x_in_lanes: bool, ahead: bool, step: int, lines: int, x: np.dtype, acc: np.dtype
) -> int:
    """Address of the micro-kernel `tile`, for kernels that call it."""
    row, place = micro.array(acc), micro.PLACE
    types_ = micro.array(x), place, micro.array(np.intp), row, place, row, place, micro.scalar(acc), row, *[place] * 9
    return micro.address(tile, (rows, vectors, x_in_lanes, ahead, step, lines), types_)


def tile(rows: int, vectors: int, x_in_lanes: bool, ahead: bool, step: int, lines: int) -> Any:
    """A micro-kernel for rows of tiles: matrix products of `rows` x (`vectors` * lanes) sums, bias and activation.

    It is called as ``tile(x, at, offsets, packed, packed_at, bias, bias_at, floor, out, out_at, pitch, channels, width,
    room, back, height, x_line, out_line)``, for `height` rows of `width` pixels, `x_line`
    apart in x and `out_line` in out. Tiles are `pixels` wide, `vectors` * lanes if x_in_lanes, else `rows`, and follow
    each other at the pixels j = 0, pixels, 2 * pixels, ... < width. Each computes, r counting rows and l lanes of all
    vectors::

        x_in_lanes:   sum[r, l] = sum over i of packed[packed_at + i * rows + r] * x[at + offsets[i] + j * step + l]
        otherwise:    sum[r, l] = sum over i of
                              x[at + offsets[i] + (j + r) * step] * packed[packed_at + i * vectors * lanes + l]

    then adds the bias of the output channel (r if x_in_lanes, else l), raises what is below `floor` to it and writes

        x_in_lanes:   out[out_at + r * pitch + j + l]
        otherwise:    out[out_at + l * pitch + j + r]      (transposed in registers)

    for the first `channels` output channels and the pixels of the row. Channels and pixels beyond are computed from
    whatever lies there, so `x` needs room for a tile's pixels behind it. With `back` the last tile ends with the row
    and begins earlier: it computes some pixels twice, and if the row is shorter than a tile, some in front of it.

    A tile of several `lines` (not x_in_lanes) has the pixels of so many whole rows: `width` is `rows` / `lines`, and
    `out_line` too, and `height` a multiple of `lines`. It reads weights once where a tile of one short row reads them
    for each.

    Transposed tiles write whole vectors, which is faster than parts of them: where rows follow each other without a gap
    (`out_line` is `width`), arbitrary values overwrite what lies behind a tile, up to `room` pixels from the first. A
    caller that allows more than it asks for computes those pixels afterwards.

    With `ahead` (and x_in_lanes) the elements behind each vector of x, which the next tile reads, are fetched into the
    first-level cache: no hardware foresees reads of an x in place, from as many pages as there are channels.
    """
    if emit.is_plain():
        return _plain_tile(rows, vectors, x_in_lanes, step, lines)
    across = rows // lines

    @intrinsic
    def register_tile(
        typingctx, x, at, offsets, packed, packed_at, bias, bias_at, floor, out, out_at, pitch, channels, width, room,
        back, height, x_line, out_line,
    ):  # fmt: skip
        kind = Vector(out.dtype)
        count = kind.count
        pixels = vectors * count if x_in_lanes else rows

        def one_tile(context, builder, operands, images, goal, valid):
            """Emit the tile whose lines begin at `images`, and whose pixels at `goal`."""
            packed_, first, distances, steps, biases, least, pitch_ = operands
            zero = ir.Constant(least.type, None)
            panel = rows if x_in_lanes else vectors * count
            apart = 1 if x_in_lanes else step
            weights = builder.gep(packed_, [first])

            def factors(i):
                distance = builder.load(builder.gep(distances, [i]))
                here = [builder.gep(image, [distance]) for image in images]
                there = builder.gep(weights, [builder.mul(i, emit.INT(panel))])
                in_lanes, in_rows = (here[0], [there]) if x_in_lanes else (there, here)
                lane_type, row_type = (x, packed) if x_in_lanes else (packed, x)

                if not x_in_lanes:
                    fetch_ahead(builder, there, panel)
                elif ahead:
                    emit.prefetch(builder, here[0], vectors * count, vectors * count)

                def scalar(r):
                    value = builder.load(builder.gep(in_rows[r // across], [emit.INT(r % across * apart)]))
                    return emit.splat(builder, emit.convert(builder, value, row_type.dtype, out.dtype, count), count)

                def vector(v):
                    value = emit.load(builder, in_lanes, emit.INT(v * count), count)
                    return emit.convert(builder, value, lane_type.dtype, out.dtype, count)

                return scalar, vector

            made = reduction(builder, rows, vectors, steps, zero, factors)
            finish(builder, made, biases, least, goal, pitch_, valid, x_in_lanes)

        def codegen(context, builder, sig, args):
            x_, start, table, packed_, first, bias_, shift, lowest, out_, to, pitch_, high, wide, stop, last = args[:15]
            rows_, line, drop = args[15:]
            image = builder.gep(emit.data_of(context, builder, x, x_), [start])
            goal = builder.gep(emit.data_of(context, builder, out, out_), [to])
            biases = builder.gep(emit.data_of(context, builder, bias, bias_), [shift])
            distances, steps = (
                emit.data_of(context, builder, offsets, table),
                table_size(context, builder, offsets, table),
            )
            least = emit.splat(builder, lowest, count)
            operands = emit.data_of(context, builder, packed, packed_), first, distances, steps, biases, least, pitch_
            latest = builder.sub(wide, emit.INT(pixels))
            in_one = builder.icmp_signed("==", wide, drop)
            goes_back = builder.icmp_signed("!=", last, emit.INT(0))
            with (
                cgutils.for_range_slice(builder, emit.INT(0), rows_, emit.INT(lines), emit.INT) as (top, _),
                cgutils.for_range_slice(builder, emit.INT(0), wide, emit.INT(pixels), emit.INT) as (left, _),
            ):
                behind = builder.and_(goes_back, builder.icmp_signed(">", left, latest))
                j = builder.select(behind, latest, left)
                here = builder.add(builder.mul(top, line), builder.mul(j, emit.INT(step)))
                there = builder.add(builder.mul(top, drop), j)
                starts = [builder.add(here, builder.mul(line, emit.INT(k))) for k in range(lines)]
                images = [builder.gep(image, [place]) for place in starts]
                left_over = builder.sub(wide, j)
                if not x_in_lanes:
                    left_over = builder.select(in_one, builder.sub(stop, there), left_over)
                one_tile(context, builder, operands, images, builder.gep(goal, [there]), (high, left_over))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            x, integer, offsets, packed, integer, bias, integer, out.dtype, out, *[integer] * 9
        ), codegen

    return register_tile


def _plain_tile(rows: int, vectors: int, x_in_lanes: bool, step: int, lines: int) -> Any:
    """The twin in plain loops, one sum at a time."""
    register_width = register_bytes()

    @jit(key=(rows, vectors, x_in_lanes, step, lines))
    def plain_tile(
        x, at, offsets, packed, packed_at, bias, bias_at, floor, out, out_at, pitch, channels, width, room, back,
        height, x_line, out_line,
    ):  # fmt: skip
        lanes = vectors * (register_width // out.itemsize)
        pixels, panel = (lanes, rows) if x_in_lanes else (rows // lines, lanes)
        for top in range(height):
            for left in range(0, width, pixels):
                first = min(left, width - pixels) if back else left
                end = width if x_in_lanes or width != out_line else room - top * out_line
                for o in range(min(panel, channels)):
                    for j in range(first, min(first + pixels, end)):
                        total = out.dtype.type(0)
                        for i in range(offsets.size):
                            total += x[at + offsets[i] + top * x_line + j * step] * packed[packed_at + i * panel + o]
                        total += bias[bias_at + o]
                        out[out_at + o * pitch + top * out_line + j] = floor if total < floor else total

    return plain_tile
