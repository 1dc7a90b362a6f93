"""Register tiles of the gradients for a weight: they add to sums in memory, part by part.

They are made of the parts of `emit` and `reductions`, and also exist as plain loops.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..system import micro
from ..system.building import intrinsic
from ..system.kernels import jit
from . import emit
from .reductions import reduction, turns
from .simd import Vector, register_bytes


def added_product_address(rows: int, vectors: int, dtype: np.dtype) -> int:
    """Address of the micro-kernel `added_product`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    types_ = row, place, micro.array(np.int64), place, row, place, place, row, place
    return micro.address(added_product, (rows, vectors), types_)


def added_product(rows: int, vectors: int) -> Any:
    """A micro-kernel for a matrix product of `rows` x (`vectors` * lanes) sums, part 0 or added to the parts before.

    It is called as ``added_product(x, at, offsets, steps, packed, packed_at, part, out, out_at)`` and computes, for
    r < `rows` and l < `vectors` * lanes::

        out[out_at + r * vectors * lanes + l] = (its value before if part > 0 else 0) + sum over i < steps of
                    x[at + offsets[i] + r] * packed[packed_at + i * vectors * lanes + l]
    """
    if emit.is_plain():
        return _plain_product(rows, vectors)

    @intrinsic
    def register_product(typingctx, x, at, offsets, steps, packed, packed_at, part, out, out_at):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, table, steps_, packed_, begin, part_, out_, to = args
            left = builder.gep(emit.data_of(context, builder, x, x_), [start])
            right = builder.gep(emit.data_of(context, builder, packed, packed_), [begin])
            distances = emit.data_of(context, builder, offsets, table)
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)

            def factors(i):
                here = builder.gep(left, [builder.load(builder.gep(distances, [i]))])
                there = builder.gep(right, [builder.mul(i, emit.INT(vectors * count))])
                return (
                    lambda r: emit.splat(builder, builder.load(builder.gep(here, [emit.INT(r)])), count),
                    lambda v: emit.load(builder, there, emit.INT(v * count), count),
                )

            sums = reduction(builder, rows, vectors, steps_, zero, factors)
            goal = builder.gep(emit.data_of(context, builder, out, out_), [to])
            places = [emit.INT(number * count) for number in range(rows * vectors)]
            with builder.if_else(builder.icmp_signed("==", part_, emit.INT(0))) as (fresh, added):
                with fresh:
                    for place, value in zip(places, chain(*sums), strict=True):
                        emit.store(builder, value, goal, place)
                with added:
                    for place, value in zip(places, chain(*sums), strict=True):
                        emit.store(
                            builder, emit.plus(builder, emit.load(builder, goal, place, count), value), goal, place
                        )
            return context.get_dummy_value()

        integer = types.int64
        return types.void(x, integer, offsets, integer, packed, integer, integer, out, integer), codegen

    return register_product


def _plain_product(rows: int, vectors: int) -> Any:
    """The twin in plain loops, one sum at a time."""
    register_width = register_bytes()

    @jit(key=(rows, vectors))
    def plain_product(x, at, offsets, steps, packed, packed_at, part, out, out_at):
        width = vectors * (register_width // out.itemsize)
        for r in range(rows):
            for lane in range(width):
                total = out.dtype.type(0)
                for i in range(steps):
                    total += x[at + offsets[i] + r] * packed[packed_at + i * width + lane]
                place = out_at + r * width + lane
                out[place] = out[place] + total if part > 0 else total

    return plain_product


def outer_sums_address(rows: int, columns: int, dtype: np.dtype) -> int:
    """Address of the micro-kernel `outer_sums`, for kernels that call it."""
    row, place, table = micro.array(dtype), micro.PLACE, micro.array(np.int64)
    return micro.address(outer_sums, (rows, columns), (row, place, table, row, place, table, place, row, place))


def outer_sums(rows: int, columns: int) -> Any:
    """A micro-kernel for the products of `rows` runs of one array with `columns` of another, in vectors along the runs.

    It is called as ``outer_sums(left, left_at, left_offsets, right, right_at, right_offsets, steps, out, out_at)``,
    with `rows` and `columns` offsets, and computes, for r < `rows`, s < `columns` and l < lanes::

        out[out_at + (r * columns + s) * lanes + l] += sum over i < steps of
                    left[left_at + left_offsets[r] + i * lanes + l] * right[right_at + right_offsets[s] + i * lanes + l]
    """
    if emit.is_plain():
        return _plain_outer_sums(rows, columns)

    @intrinsic
    def register_sums(typingctx, left, left_at, left_offsets, right, right_at, right_offsets, steps, out, out_at):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            left_, at, left_table, right_, start, right_table, steps_, out_, to = args

            def runs(array, kind, begin, table, table_kind, number):
                base = builder.gep(emit.data_of(context, builder, kind, array), [begin])
                distances = emit.data_of(context, builder, table_kind, table)
                return [
                    builder.gep(base, [builder.load(builder.gep(distances, [emit.INT(run)]))]) for run in range(number)
                ]

            lefts = runs(left_, left, at, left_table, left_offsets, rows)
            rights = runs(right_, right, start, right_table, right_offsets, columns)
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)

            def step(i, sums):
                place = builder.mul(i, emit.INT(count))
                tall = [emit.load(builder, run, place, count) for run in lefts]
                for s, run in enumerate(rights):
                    value = emit.load(builder, run, place, count)
                    for r in range(rows):
                        sums[r * columns + s] = emit.fma(builder, tall[r], value, sums[r * columns + s])
                return sums

            results = turns(builder, emit.INT(0), steps_, [zero] * (rows * columns), step)
            goal = builder.gep(emit.data_of(context, builder, out, out_), [to])
            for number, value in enumerate(results):
                before = emit.load(builder, goal, emit.INT(number * count), count)
                emit.store(builder, emit.plus(builder, before, value), goal, emit.INT(number * count))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            left, integer, left_offsets, right, integer, right_offsets, integer, out, integer
        ), codegen

    return register_sums


def _plain_outer_sums(rows: int, columns: int) -> Any:
    """The twin in plain loops, one sum at a time."""
    register_width = register_bytes()

    @jit(key=(rows, columns))
    def plain_sums(left, left_at, left_offsets, right, right_at, right_offsets, steps, out, out_at):
        lanes = register_width // out.itemsize
        for r in range(rows):
            for s in range(columns):
                at, start = left_at + left_offsets[r], right_at + right_offsets[s]
                for q in range(steps * lanes):
                    out[out_at + (r * columns + s) * lanes + q % lanes] += left[at + q] * right[start + q]

    return plain_sums

