"""The register tile of `conv_dense`: scalar products of runs of two arrays, in vectors along the runs."""

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
from .simd import Vector

#: Vectors by which each run of weights is fetched ahead.
FETCH = 48


def scalar_products_address(rows: int, columns: int, x: np.dtype, acc: np.dtype) -> int:
    """Address of the micro-kernel `scalar_products`, for kernels that call it."""
    row, place = micro.array(acc), micro.PLACE
    types_ = micro.array(x), place, place, row, place, place, row, place, micro.scalar(acc), row, *[place] * 4
    return micro.address(scalar_products, (rows, columns), types_)


def scalar_products(rows: int, columns: int) -> Any:
    """A micro-kernel for the scalar products of `rows` runs of one array with `columns` runs of another.

    It is called as ``scalar_products(x, at, pitch, weight, weight_at, taps, bias, bias_at, floor, out, out_at,
    out_pitch, valid_rows, valid_columns)`` and computes, for r < `valid_rows` and s < `valid_columns` (at least 1 each,
    `taps` at least a vector)::

        sum[r, s] = sum over t < taps of x[at + r * pitch + t] * weight[weight_at + s * taps + t]

    adds ``bias[bias_at + s]``, raises what is below `floor` to it and writes ``out[out_at + r * out_pitch + s]``.
    Nothing else is read or written: in place of runs that are not valid the last valid one is read.
    """
    if emit.is_plain():
        return _plain_scalar_products()

    @intrinsic
    def register_products(
        typingctx, x, at, pitch, weight, weight_at, taps, bias, bias_at, floor, out, out_at, out_pitch, high, wide
    ):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, pitch_, weight_, first, taps_, bias_, shift, lowest, out_, to, out_pitch_, high_, wide_ = args

            def runs(array, begin, distance, number, valid):
                last = builder.sub(valid, emit.INT(1))
                for run in range(number):
                    inside = builder.icmp_signed("<", emit.INT(run), last)
                    index = builder.select(inside, emit.INT(run), last)
                    yield builder.gep(array, [builder.add(begin, builder.mul(index, distance))])

            lefts = list(runs(emit.data_of(context, builder, x, x_), start, pitch_, rows, high_))
            rights = list(runs(emit.data_of(context, builder, weight, weight_), first, taps_, columns, wide_))
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)

            def factors(i):
                place = builder.mul(i, emit.INT(count))

                def left(r):
                    return emit.convert(builder, emit.load(builder, lefts[r], place, count), x.dtype, out.dtype, count)

                return left, lambda s: emit.load(builder, rights[s], place, count)

            whole = builder.sdiv(taps_, emit.INT(count))
            done = builder.mul(whole, emit.INT(count))
            mask = emit.first_lanes(builder, count, builder.sub(taps_, done))
            sums = reduction(builder, rows, columns, whole, zero, factors)
            ends = [
                emit.convert(builder, emit.load_masked(builder, run, done, mask), x.dtype, out.dtype, count)
                for run in lefts
            ]
            others = [emit.load_masked(builder, run, done, mask) for run in rights]
            biases = builder.gep(emit.data_of(context, builder, bias, bias_), [shift])
            goal = builder.gep(emit.data_of(context, builder, out, out_), [to])
            for r in range(rows):
                with builder.if_then(builder.icmp_signed("<", emit.INT(r), high_), likely=True):
                    for s in range(columns):
                        with builder.if_then(builder.icmp_signed("<", emit.INT(s), wide_), likely=True):
                            value = emit.fma(builder, ends[r], others[s], sums[r][s])
                            total = _total(builder, value, builder.load(builder.gep(biases, [emit.INT(s)])))
                            place = builder.add(builder.mul(emit.INT(r), out_pitch_), emit.INT(s))
                            builder.store(emit.clamped(builder, total, lowest), builder.gep(goal, [place]))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            x, integer, integer, weight, integer, integer, bias, integer, out.dtype, out, *[integer] * 4
        ), codegen

    return register_products


def _total(builder, vector, start):
    """The sum of a vector's elements and `start`."""
    element = vector.type.element
    if isinstance(element, ir.IntType):
        reduced = emit.call(builder, f"llvm.vector.reduce.add.{emit.suffix(vector.type)}", element, [vector])
        return builder.add(reduced, start)
    kind = ir.FunctionType(element, [element, vector.type])
    name = f"llvm.vector.reduce.fadd.{emit.suffix(vector.type)}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [start, vector], fastmath=("reassoc",))  # in any order: halves are added up


def _plain_scalar_products() -> Any:
    """The twin in plain loops, one sum at a time."""

    @jit
    def plain_products(
        x, at, pitch, weight, weight_at, taps, bias, bias_at, floor, out, out_at, out_pitch, high, wide
    ):
        for r in range(high):
            for s in range(wide):
                total = out.dtype.type(0)
                for t in range(taps):
                    total += x[at + r * pitch + t] * weight[weight_at + s * taps + t]
                total += bias[bias_at + s]
                out[out_at + r * out_pitch + s] = floor if total < floor else total

    return plain_products
