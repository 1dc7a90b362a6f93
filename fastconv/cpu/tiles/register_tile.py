"""Register tiles: the inner loops of the convolutions, whose sums stay in vector registers from first to last tap.

They are written in LLVM IR, of the parts in `emit`. Both tiles also exist as plain loops, which take their place where
``FASTCONV_SIMD=0`` is set or Numba's bounds checks are on; the results then differ by the order of rounding only.
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
from .simd import Vector, register_bytes, registers


def tile_shape() -> tuple[int, int]:
    """Largest (rows, vectors) of `tile` whose sums, operands and one broadcast stay in registers.

    32 registers hold 14 x 2 sums, 2 vectors and a broadcast; 16 hold 6 x 2 sums. Of the shapes that fit, those with two
    or three vectors a row load least for each multiply-add: 14 x 2 reaches 98% of the ceiling in cache (AMD EPYC 9005),
    as do 9 x 3 and 6 x 4; 7 x 4 spills (83%), one vector a row is bound by loads (80%).
    """
    return (14, 2) if registers() == 32 else (6, 2)


#: Products that a sum takes before it is added to a total and begins anew: rounding errors then grow with the size and
#: number of parts, not with all products (measured: 4,608 products in one sum had 5 times the error). To end the loop,
#: put the sums aside and begin again takes 200 cycles, 3% of the time of a part.
PART = 256


#: Steps of a sum by which weights are fetched ahead. From memory, or a shared cache, the hardware alone brings them
#: late: 1024 to 2048 channels at 7x7 gain 12%, `conv_winograd` of 512 channels at 7x7 9%. 16 to 128 steps are as good.
AHEAD = 48


def reduction(builder, rows, vectors, steps, zero, factors):
    """Emit the reduction loop: sums[r][v] = sum over i < steps of scalar[r] * vector[v]; `factors(i)` is two functions,
    which emit scalar r and vector v, both as vectors.

    ONE flat loop, within one over parts: with nested loops over channels and taps LLVM hoists the broadcasts and spills
    the sums (measured: a third of the speed).
    """
    totals = _memory(builder, zero.type, rows, vectors)
    several = builder.icmp_signed(">", steps, emit.INT(PART))
    entry = builder.block
    names = ("part", "taps", "tested", "folded", "begun", "grown", "whole", "added", "done")
    part, taps, tested, folded, begun, grown, whole, added, done = map(builder.append_basic_block, names)
    builder.branch(part)

    builder.position_at_end(part)
    first = builder.phi(emit.INT)
    first.add_incoming(emit.INT(0), entry)
    end = builder.add(first, emit.INT(PART))
    end = builder.select(builder.icmp_signed("<", end, steps), end, steps)
    builder.branch(taps)

    builder.position_at_end(taps)
    i = builder.phi(emit.INT)
    sums = [[builder.phi(zero.type) for _ in range(vectors)] for _ in range(rows)]
    scalar, vector = factors(i)
    following = builder.add(i, emit.INT(1))
    held = rows < vectors  # those are kept in registers, the others come one by one
    known = [(scalar if held else vector)(k) for k in range(rows if held else vectors)]
    for one in range(vectors if held else rows):
        factor = (vector if held else scalar)(one)
        for other, held_factor in enumerate(known):
            r, v = (other, one) if held else (one, other)
            value = emit.fma(builder, factor, held_factor, sums[r][v])
            sums[r][v].add_incoming(zero, part)
            sums[r][v].add_incoming(value, taps)
            sums[r][v] = value
    i.add_incoming(first, part)
    i.add_incoming(following, taps)
    builder.cbranch(builder.icmp_signed("<", following, end), taps, tested)

    builder.position_at_end(tested)
    builder.cbranch(builder.icmp_signed("<", end, steps), folded, whole)
    builder.position_at_end(folded)
    builder.cbranch(builder.icmp_signed(">", first, emit.INT(0)), grown, begun)
    for block in (begun, grown):
        builder.position_at_end(block)
        for place, value in zip(chain(*totals), chain(*sums), strict=True):
            builder.store(value if block is begun else emit.plus(builder, builder.load(place), value), place)
        builder.branch(part)
        first.add_incoming(end, block)
    builder.position_at_end(whole)
    builder.cbranch(several, added, done)
    builder.position_at_end(added)
    larger = [
        [emit.plus(builder, builder.load(place), value) for place, value in zip(*row, strict=True)]
        for row in zip(totals, sums, strict=True)
    ]
    builder.branch(done)

    builder.position_at_end(done)
    for r in range(rows):
        for v in range(vectors):
            result = builder.phi(zero.type)
            result.add_incoming(sums[r][v], whole)
            result.add_incoming(larger[r][v], added)
            sums[r][v] = result
    return sums


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


def _memory(builder, kind: ir.VectorType, rows: int, vectors: int) -> list[list[ir.Value]]:
    """Places for vectors on the stack.

    LLVM must not take them for variables: it would write zeros to them before the first part, and spill others. So
    their address comes from an instruction that it does not look into.
    """
    with builder.goto_entry_block():
        memory = builder.alloca(ir.ArrayType(kind, rows * vectors))
        memory.align = register_bytes()
    pointer = memory.type
    hidden = builder.asm(ir.FunctionType(pointer, [pointer]), "", "=r,0", [memory], False)
    zero = ir.IntType(32)(0)
    places = [builder.gep(hidden, [zero, ir.IntType(32)(k)]) for k in range(rows * vectors)]
    return [places[r * vectors : (r + 1) * vectors] for r in range(rows)]


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
                    emit.prefetch(builder, there, AHEAD * panel, panel)
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
