"""Register tiles of `conv_fft` and `conv_dft`: sums of products of complex numbers, several rows of a spectrum at a
time; and rows times a matrix, which transforms short rows.

::

    out[r, f] = sum over taps t of weight[t, f] * x[r * row_step + offsets[t], f]

for a vector of frequencies f. Complex numbers lie as NumPy has them, real and imaginary parts in turns. A product of
those would need its parts swapped; here two real sums are kept, one of x times the real part of the weight and one of x
times the imaginary part, and put together at the end. So a tap takes one vector of weights, whose parts are spread over
neighbouring lanes, and for each row one vector of x and two multiply-adds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types

from .building import intrinsic
from .runtime import jit
from .simd import _I32, _INT, Vector, _data, _fma, _load, _plus, _splat, _store, register_bytes, registers
from .tile import _plain, _raised, _reduction, _write


def spectral_rows() -> int:
    """Rows whose two sums and vector of x each, and the two parts of the weight, stay in registers."""
    return 8 if registers() == 32 else 4


@lru_cache(maxsize=8)
def spectral_tile(rows: int) -> Any:
    """The tile, for kernels; all arrays are flat and of real numbers, all positions and steps count these.

    It is called as ``tile(x, at, row_step, offsets, weight, weight_at, weight_step, out, out_at, pitch, lanes)`` for
    one vector of `lanes` numbers, half as many frequencies. `x` and `out` have room for all `rows`.
    """
    if _plain():
        return _plain_tile(rows)

    @intrinsic
    def register_tile(typingctx, x, at, row_step, offsets, weight, weight_at, weight_step, out, out_at, pitch, lanes):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, step, offsets_, weight_, first, hop, out_, to, apart, _ = args
            table = _data(context, builder, offsets, offsets_)
            total = builder.extract_value(context.make_array(offsets)(context, builder, offsets_).shape, 0)
            here = builder.gep(_data(context, builder, x, x_), [start])
            weights = builder.gep(_data(context, builder, weight, weight_), [first])
            places = [builder.mul(step, _INT(r)) for r in range(rows)]
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)
            pairs = list(range(0, count, 2))
            real, imaginary, swapped = (
                ir.Constant(ir.VectorType(_I32, count), [lane + shift for lane in pairs for shift in shifts])
                for shifts in ((0, 0), (1, 1), (1, 0))
            )

            entry, loop, done = builder.block, builder.append_basic_block("taps"), builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            i = builder.phi(_INT)
            sums = [[builder.phi(zero.type) for _ in range(2)] for _ in range(rows)]
            line = builder.gep(here, [builder.load(builder.gep(table, [i]))])
            both = _load(builder, weights, builder.mul(i, hop), count)
            parts = [builder.shuffle_vector(both, both, order) for order in (real, imaginary)]
            for r in range(rows):
                value = _load(builder, line, places[r], count)
                for k, part in enumerate(parts):
                    sums[r][k].add_incoming(zero, entry)
                    following = _fma(builder, part, value, sums[r][k])
                    sums[r][k].add_incoming(following, loop)
                    sums[r][k] = following
            i.add_incoming(_INT(0), entry)
            next_i = builder.add(i, _INT(1))
            i.add_incoming(next_i, loop)
            builder.cbranch(builder.icmp_signed("<", next_i, total), loop, done)

            builder.position_at_end(done)
            goal = builder.gep(_data(context, builder, out, out_), [to])
            sign = ir.Constant(zero.type, [zero.type.element(value) for _ in pairs for value in (-1.0, 1.0)])
            for r in range(rows):
                turned = builder.shuffle_vector(sums[r][1], sums[r][1], swapped)
                _store(builder, _fma(builder, turned, sign, sums[r][0]), goal, builder.mul(apart, _INT(r)))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            x, integer, integer, offsets, weight, integer, integer, out, integer, integer, integer
        ), codegen

    return register_tile


def _plain_tile(rows: int) -> Any:
    """The same sums, one at a time."""

    @jit(key=(rows,))
    def plain_tile(x, at, row_step, offsets, weight, weight_at, weight_step, out, out_at, pitch, lanes):
        zero = out.dtype.type(0)
        for r in range(rows):
            for lane in range(0, lanes, 2):
                real, imaginary = zero, zero
                for t in range(offsets.size):
                    a, b = at + r * row_step + offsets[t] + lane, weight_at + t * weight_step + lane
                    real += weight[b] * x[a] - weight[b + 1] * x[a + 1]
                    imaginary += weight[b] * x[a + 1] + weight[b + 1] * x[a]
                out[out_at + r * pitch + lane], out[out_at + r * pitch + lane + 1] = real, imaginary

    return plain_tile


@lru_cache(maxsize=16)
def row_product(rows: int, vectors: int) -> Any:
    """Some rows of an array times a matrix: its `rows` x (`vectors` * lanes) sums stay in registers.

    It is called as ``row_product(x, at, row_step, steps, matrix, matrix_at, matrix_step, shift, floor, out, out_at,
    pitch, valid_rows, valid_lanes)`` and computes, for r < valid_rows and l < valid_lanes::

        out[out_at + r * pitch + l] = the larger of `floor` and shift + sum over i < steps of
                    x[at + r * row_step + i] * matrix[matrix_at + i * matrix_step + l]

    All arrays are flat, all positions and steps count numbers, and `steps` is at least one. What it reads must be there
    for all rows and lanes.
    """
    if _plain():
        return _plain_rows(rows, vectors)

    @intrinsic
    def register_rows(
        typingctx, x, at, row_step, steps, matrix, matrix_at, matrix_step, shift, floor, out, out_at, pitch,
        valid_rows, valid_lanes,
    ):  # fmt: skip
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, hop, steps_, matrix_, first, step, more, lowest, out_, to, pitch_, high, wide = args
            here = builder.gep(_data(context, builder, x, x_), [start])
            lines = [builder.gep(here, [builder.mul(hop, _INT(r))]) for r in range(rows)]
            factor = builder.gep(_data(context, builder, matrix, matrix_), [first])
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)

            def factors(i):
                there = builder.gep(factor, [builder.mul(i, step)])
                return (
                    lambda r: _splat(builder, builder.load(builder.gep(lines[r], [i])), count),
                    lambda v: _load(builder, there, _INT(v * count), count),
                )

            sums = _reduction(builder, rows, vectors, steps_, zero, factors)
            added, least = (_splat(builder, scalar, count) for scalar in (more, lowest))
            goal = builder.gep(_data(context, builder, out, out_), [to])
            for v in range(vectors):
                column = [_raised(builder, _plus(builder, sums[r][v], added), least) for r in range(rows)]
                _write(builder, column, goal, pitch_, (0, v * count), (high, wide))
            return context.get_dummy_value()

        integer, number = types.int64, out.dtype
        return types.void(
            x, *[integer] * 3, matrix, integer, integer, number, number, out, *[integer] * 4
        ), codegen

    return register_rows


def _plain_rows(rows: int, vectors: int) -> Any:
    """The same sums, one at a time."""
    register_width = register_bytes()

    @jit(key=(rows, vectors))
    def plain_rows(
        x, at, row_step, steps, matrix, matrix_at, matrix_step, shift, floor, out, out_at, pitch, valid_rows,
        valid_lanes,
    ):  # fmt: skip
        for r in range(min(rows, valid_rows)):
            for lane in range(min(vectors * (register_width // out.itemsize), valid_lanes)):
                total = out.dtype.type(0)
                for i in range(steps):
                    total += x[at + r * row_step + i] * matrix[matrix_at + i * matrix_step + lane]
                total += shift
                out[out_at + r * pitch + lane] = floor if total < floor else total

    return plain_rows
