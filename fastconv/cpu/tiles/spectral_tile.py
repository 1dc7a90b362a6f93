"""Register tiles of `conv_fft` and `conv_dft`: sums of products of complex numbers, several rows of a spectrum at a
time; and rows times a matrix, which transforms short rows.

::

    out[r, f] = sum over taps t of weight[t, f] * x[r * row_step + offsets[t], f]

for a vector of frequencies f. Complex numbers lie as in NumPy, each real part followed by its imaginary part. A complex
product would swap parts at every tap; here two real sums are kept, one of x times the real part of the weight and one
of x times the imaginary part, and put together at the end. So a tap takes one vector of weights, whose parts are spread
over neighbouring lanes, and for each row one vector of x and two multiply-adds.
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
from .reductions import reduction
from .simd import Vector, registers


def spectral_rows() -> int:
    """Most rows of a tile whose registers hold two sums and a vector of x for each row, and two parts of a weight."""
    return 8 if registers() == 32 else 4


def spectral_tile_address(rows: int, dtype: np.dtype) -> int:
    """Address of the micro-kernel `spectral_tile`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    types_ = row, place, place, micro.array(np.int64), row, place, place, row, *[place] * 6
    return micro.address(spectral_tile, (rows,), types_)


def spectral_tile(rows: int) -> Any:
    """A micro-kernel for `rows` lines of `size` numbers, half as many frequencies; positions and steps count numbers.

    It is called as ``tile(x, at, row_step, offsets, weight, weight_at, weight_step, out, out_at, pitch, size, count,
    hop, leap)``. For each vector of frequencies it makes `count` tiles of one x, as for so many output channels: from
    one to the next, weights lie `hop` and sums `leap` further. `x` and `out` need room for all `rows`.
    """
    if emit.is_plain():
        return _plain_tile(rows)

    @intrinsic
    def register_tile(
        typingctx, x, at, row_step, offsets, weight, weight_at, weight_step, out, out_at, pitch, size, count, hop, leap
    ):
        lanes = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, step, offsets_, weight_, first, apart, out_, to, pitch_, size_, count_, hop_, leap_ = args
            table = emit.data_of(context, builder, offsets, offsets_)
            total = builder.extract_value(context.make_array(offsets)(context, builder, offsets_).shape, 0)
            with (
                cgutils.for_range_slice(builder, emit.INT(0), size_, emit.INT(lanes)) as (f, _),
                cgutils.for_range(builder, count_) as loop,
            ):
                begins = start, builder.add(first, builder.mul(loop.index, hop_)), builder.add(
                    to, builder.mul(loop.index, leap_)
                )
                here, weights, goal = (
                    builder.gep(emit.data_of(context, builder, kind, array), [builder.add(begin, f)])
                    for kind, array, begin in zip((x, weight, out), (x_, weight_, out_), begins, strict=True)
                )
                sums = _spectral_sums(builder, rows, lanes, here, step, (table, total), weights, apart)
                for r, value in enumerate(sums):
                    emit.store(builder, value, goal, builder.mul(pitch_, emit.INT(r)))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            x, integer, integer, offsets, weight, integer, integer, out, *[integer] * 6
        ), codegen

    return register_tile


def _spectral_sums(builder, rows, lanes, here, step, taps, weights, apart):
    """Emit the loop over taps, their offsets and their number: a vector of sums for each row."""
    table, total = taps
    places = [builder.mul(step, emit.INT(r)) for r in range(rows)]
    zero = ir.Constant(ir.VectorType(here.type.pointee, lanes), None)
    pairs = list(range(0, lanes, 2))
    real, imaginary, swapped = (
        ir.Constant(ir.VectorType(emit.I32, lanes), [lane + shift for lane in pairs for shift in shifts])
        for shifts in ((0, 0), (1, 1), (1, 0))
    )

    def step(i, sums):
        line = builder.gep(here, [builder.load(builder.gep(table, [i]))])
        both = emit.load(builder, weights, builder.mul(i, apart), lanes)
        parts = [builder.shuffle_vector(both, both, order) for order in (real, imaginary)]
        for r in range(rows):
            value = emit.load(builder, line, places[r], lanes)
            for k, part in enumerate(parts):
                sums[2 * r + k] = emit.fma(builder, part, value, sums[2 * r + k])
        return sums

    sums = emit.loop(builder, emit.INT(0), total, emit.INT(1), [zero] * (2 * rows), step)
    sign = ir.Constant(zero.type, [zero.type.element(value) for _ in pairs for value in (-1.0, 1.0)])
    return [
        emit.fma(builder, builder.shuffle_vector(turned, turned, swapped), sign, straight)
        for straight, turned in zip(sums[::2], sums[1::2], strict=True)
    ]


def _plain_tile(rows: int) -> Any:
    """The twin in plain loops, one sum at a time."""

    @jit(key=(rows,))
    def plain_tile(
        x, at, row_step, offsets, weight, weight_at, weight_step, out, out_at, pitch, size, count, hop, leap
    ):
        for k in range(count):
            for r in range(rows):
                for f in range(0, size, 2):
                    real = imaginary = out.dtype.type(0)
                    for t in range(offsets.size):
                        a, b = at + r * row_step + offsets[t] + f, weight_at + k * hop + t * weight_step + f
                        real += weight[b] * x[a] - weight[b + 1] * x[a + 1]
                        imaginary += weight[b] * x[a + 1] + weight[b + 1] * x[a]
                    to = out_at + k * leap + r * pitch + f
                    out[to], out[to + 1] = real, imaginary

    return plain_tile


def row_product_address(rows: int, vectors: int, dtype: np.dtype) -> int:
    """Address of the micro-kernel `row_product`, for kernels that call it."""
    row, place, number = micro.array(dtype), micro.PLACE, micro.scalar(dtype)
    types_ = row, *[place] * 3, row, place, place, number, number, row, *[place] * 4
    return micro.address(row_product, (rows, vectors), types_)


def row_product(rows: int, vectors: int) -> Any:
    """A micro-kernel that multiplies rows of an array by a matrix, with `rows` x (`vectors` * lanes) sums in registers.

    It is called as ``row_product(x, at, row_step, steps, matrix, matrix_at, matrix_step, shift, floor, out, out_at,
    pitch, valid_rows, valid_lanes)`` and computes, for r < valid_rows, at most `rows`, and l < valid_lanes::

        out[out_at + r * pitch + l] = the larger of `floor` and shift + sum over i < steps of
                    x[at + r * row_step + i] * matrix[matrix_at + i * matrix_step + l]

    All arrays are flat, all positions and steps count numbers, and `steps` is at least one. `x` and `matrix` must be
    readable for all rows and whole tiles.
    """
    if emit.is_plain():
        return _plain_rows(rows, vectors)

    @intrinsic
    def register_rows(
        typingctx, x, at, row_step, steps, matrix, matrix_at, matrix_step, shift, floor, out, out_at, pitch,
        valid_rows, valid_lanes,
    ):  # fmt: skip
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, hop, steps_, matrix_, first, step, more, lowest, out_, to, pitch_, high, wide = args
            here = builder.gep(emit.data_of(context, builder, x, x_), [start])
            lines = [builder.gep(here, [builder.mul(hop, emit.INT(r))]) for r in range(rows)]
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)
            added, least = (emit.splat(builder, scalar, count) for scalar in (more, lowest))
            with cgutils.for_range_slice(builder, emit.INT(0), wide, emit.INT(vectors * count)) as (across, _):
                factor, goal = (
                    builder.gep(emit.data_of(context, builder, kind, array), [builder.add(begin, across)])
                    for kind, array, begin in ((matrix, matrix_, first), (out, out_, to))
                )

                def factors(i):
                    there = builder.gep(factor, [builder.mul(i, step)])
                    return (
                        lambda r: emit.splat(builder, builder.load(builder.gep(lines[r], [i])), count),
                        lambda v: emit.load(builder, there, emit.INT(v * count), count),
                    )

                sums = reduction(builder, rows, vectors, steps_, zero, factors)
                for v in range(vectors):
                    column = [emit.clamped(builder, emit.plus(builder, sums[r][v], added), least) for r in range(rows)]
                    emit.write(builder, column, goal, pitch_, (0, v * count), (high, builder.sub(wide, across)))
            return context.get_dummy_value()

        integer, number = types.int64, out.dtype
        return types.void(
            x, *[integer] * 3, matrix, integer, integer, number, number, out, *[integer] * 4
        ), codegen

    return register_rows


def _plain_rows(rows: int, vectors: int) -> Any:
    """The twin in plain loops, one sum at a time."""

    @jit(key=(rows, vectors))
    def plain_rows(
        x, at, row_step, steps, matrix, matrix_at, matrix_step, shift, floor, out, out_at, pitch, valid_rows,
        valid_lanes,
    ):  # fmt: skip
        for r in range(min(rows, valid_rows)):
            for lane in range(valid_lanes):
                total = out.dtype.type(0)
                for i in range(steps):
                    total += x[at + r * row_step + i] * matrix[matrix_at + i * matrix_step + lane]
                total += shift
                out[out_at + r * pitch + lane] = floor if total < floor else total

    return plain_rows
