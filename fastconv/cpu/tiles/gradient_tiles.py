"""More register tiles: those that add to sums kept elsewhere, which the gradients for a weight are summed with, part by
part; and one of scalar products, for `conv_dense`.

Made of the parts of `simd` and `register_tile`, and like the tiles there they also exist as plain loops.
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
from .register_tile import _plain, _raised, _reduction
from .simd import (
    _I32,
    _INT,
    Vector,
    _call,
    _convert,
    _data,
    _fma,
    _load,
    _load_masked,
    _mask,
    _plus,
    _splat,
    _store,
    _suffix,
    register_bytes,
)


def added_product_address(rows: int, vectors: int, dtype: np.dtype) -> int:
    """That of `added_product`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    types_ = row, place, micro.array(np.int64), place, row, place, place, row, place
    return micro.address(added_product, (rows, vectors), types_)


def added_product(rows: int, vectors: int) -> Any:
    """A matrix product of `rows` x (`vectors` * lanes) sums kept in registers, added to what there is, or the first.

    It is called as ``added_product(x, at, offsets, steps, packed, packed_at, part, out, out_at)`` and computes, for
    r < `rows` and l < `vectors` * lanes::

        out[out_at + r * vectors * lanes + l] = (out[the same] if part > 0 else 0) + sum over i < steps of
                    x[at + offsets[i] + r] * packed[packed_at + i * vectors * lanes + l]
    """
    if _plain():
        return _plain_product(rows, vectors)

    @intrinsic
    def register_product(typingctx, x, at, offsets, steps, packed, packed_at, part, out, out_at):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, table, steps_, packed_, begin, part_, out_, to = args
            left = builder.gep(_data(context, builder, x, x_), [start])
            right = builder.gep(_data(context, builder, packed, packed_), [begin])
            distances = _data(context, builder, offsets, table)
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)

            def factors(i):
                here = builder.gep(left, [builder.load(builder.gep(distances, [i]))])
                there = builder.gep(right, [builder.mul(i, _INT(vectors * count))])
                return (
                    lambda r: _splat(builder, builder.load(builder.gep(here, [_INT(r)])), count),
                    lambda v: _load(builder, there, _INT(v * count), count),
                )

            sums = _reduction(builder, rows, vectors, steps_, zero, factors)
            goal = builder.gep(_data(context, builder, out, out_), [to])
            places = [_INT(number * count) for number in range(rows * vectors)]
            with builder.if_else(builder.icmp_signed("==", part_, _INT(0))) as (fresh, added):
                with fresh:
                    for place, value in zip(places, chain(*sums), strict=True):
                        _store(builder, value, goal, place)
                with added:
                    for place, value in zip(places, chain(*sums), strict=True):
                        _store(builder, _plus(builder, _load(builder, goal, place, count), value), goal, place)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(x, integer, offsets, integer, packed, integer, integer, out, integer), codegen

    return register_product


def _plain_product(rows: int, vectors: int) -> Any:
    """The same product as loops over one sum at a time."""
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
    """That of `outer_sums`, for kernels that call it."""
    row, place, table = micro.array(dtype), micro.PLACE, micro.array(np.int64)
    return micro.address(outer_sums, (rows, columns), (row, place, table, row, place, table, place, row, place))


def outer_sums(rows: int, columns: int) -> Any:
    """All products of `rows` runs of one array with `columns` runs of another, in vectors along the runs.

    It is called as ``outer_sums(left, left_at, left_offsets, right, right_at,
    right_offsets, steps, out, out_at)``, with `rows` and `columns` offsets, and computes, for r < `rows`, s < `columns`
    and l < lanes::

        out[out_at + (r * columns + s) * lanes + l] += sum over i < steps of
                    left[left_at + left_offsets[r] + i * lanes + l] * right[right_at + right_offsets[s] + i * lanes + l]
    """
    if _plain():
        return _plain_outer_sums(rows, columns)

    @intrinsic
    def register_sums(typingctx, left, left_at, left_offsets, right, right_at, right_offsets, steps, out, out_at):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            left_, at, left_table, right_, start, right_table, steps_, out_, to = args

            def runs(array, kind, begin, table, table_kind, number):
                base = builder.gep(_data(context, builder, kind, array), [begin])
                distances = _data(context, builder, table_kind, table)
                return [
                    builder.gep(base, [builder.load(builder.gep(distances, [_INT(run)]))]) for run in range(number)
                ]

            lefts = runs(left_, left, at, left_table, left_offsets, rows)
            rights = runs(right_, right, start, right_table, right_offsets, columns)
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)
            entry, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            i = builder.phi(_INT)
            i.add_incoming(_INT(0), entry)
            sums = [builder.phi(zero.type) for _ in range(rows * columns)]
            place = builder.mul(i, _INT(count))
            tall = [_load(builder, run, place, count) for run in lefts]
            new = []
            for s, run in enumerate(rights):
                value = _load(builder, run, place, count)
                new.append([_fma(builder, tall[r], value, sums[r * columns + s]) for r in range(rows)])
            following = builder.add(i, _INT(1))
            i.add_incoming(following, loop)
            results = [new[s][r] for r in range(rows) for s in range(columns)]
            for phi, value in zip(sums, results, strict=True):
                phi.add_incoming(zero, entry)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, steps_), loop, done)
            builder.position_at_end(done)
            goal = builder.gep(_data(context, builder, out, out_), [to])
            for number, value in enumerate(results):
                before = _load(builder, goal, _INT(number * count), count)
                _store(builder, _plus(builder, before, value), goal, _INT(number * count))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            left, integer, left_offsets, right, integer, right_offsets, integer, out, integer
        ), codegen

    return register_sums


def _plain_outer_sums(rows: int, columns: int) -> Any:
    """The same products as loops over one sum at a time."""
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


@intrinsic
def split(typingctx, source, at, target, to, other):
    """Twice as many elements as a vector has, from a flat index on, in turns to the flat indices `to` and `other`."""
    count = Vector(source.dtype).count

    def codegen(context, builder, sig, args):
        data, goal = _data(context, builder, source, args[0]), _data(context, builder, target, args[2])
        near, far = (_load(builder, data, builder.add(args[1], _INT(first)), count) for first in (0, count))
        for first, place in enumerate(args[3:]):
            turns = ir.Constant(ir.VectorType(_I32, count), list(range(first, 2 * count, 2)))
            _store(builder, builder.shuffle_vector(near, far, turns), goal, place)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64, types.int64), codegen


#: Vectors by which each run of weights is fetched ahead.
FETCH = 48


def scalar_products_address(rows: int, columns: int, x: np.dtype, acc: np.dtype) -> int:
    """That of `scalar_products`, for kernels that call it."""
    row, place = micro.array(acc), micro.PLACE
    types_ = micro.array(x), place, place, row, place, place, row, place, micro.scalar(acc), row, *[place] * 4
    return micro.address(scalar_products, (rows, columns), types_)


def scalar_products(rows: int, columns: int) -> Any:
    """The scalar products of `rows` runs of one array with `columns` runs of another, in vectors along the runs.

    It is called as ``scalar_products(x, at, pitch, weight, weight_at, taps, bias,
    bias_at, floor, out, out_at, out_pitch, valid_rows, valid_columns)`` and computes, for r < `valid_rows` and
    s < `valid_columns` (at least 1 each, `taps` at least a vector)::

        sum[r, s] = sum over t < taps of x[at + r * pitch + t] * weight[weight_at + s * taps + t]

    adds ``bias[bias_at + s]``, raises what is below `floor` to it and writes ``out[out_at + r * out_pitch + s]``.
    Nothing else is read or written: in the place of runs that are not valid the last one is read.
    """
    if _plain():
        return _plain_scalar_products()

    @intrinsic
    def register_products(
        typingctx, x, at, pitch, weight, weight_at, taps, bias, bias_at, floor, out, out_at, out_pitch, high, wide
    ):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, pitch_, weight_, first, taps_, bias_, shift, lowest, out_, to, out_pitch_, high_, wide_ = args

            def runs(array, begin, distance, number, valid):
                last = builder.sub(valid, _INT(1))
                for run in range(number):
                    inside = builder.icmp_signed("<", _INT(run), last)
                    index = builder.select(inside, _INT(run), last)
                    yield builder.gep(array, [builder.add(begin, builder.mul(index, distance))])

            lefts = list(runs(_data(context, builder, x, x_), start, pitch_, rows, high_))
            rights = list(runs(_data(context, builder, weight, weight_), first, taps_, columns, wide_))
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)

            def factors(i):
                place = builder.mul(i, _INT(count))

                def left(r):
                    return _convert(builder, _load(builder, lefts[r], place, count), x.dtype, out.dtype, count)

                return left, lambda s: _load(builder, rights[s], place, count)

            whole = builder.sdiv(taps_, _INT(count))
            done = builder.mul(whole, _INT(count))
            mask = _mask(builder, count, builder.sub(taps_, done))
            sums = _reduction(builder, rows, columns, whole, zero, factors)
            ends = [
                _convert(builder, _load_masked(builder, run, done, mask), x.dtype, out.dtype, count) for run in lefts
            ]
            others = [_load_masked(builder, run, done, mask) for run in rights]
            biases = builder.gep(_data(context, builder, bias, bias_), [shift])
            goal = builder.gep(_data(context, builder, out, out_), [to])
            for r in range(rows):
                with builder.if_then(builder.icmp_signed("<", _INT(r), high_), likely=True):
                    for s in range(columns):
                        with builder.if_then(builder.icmp_signed("<", _INT(s), wide_), likely=True):
                            value = _fma(builder, ends[r], others[s], sums[r][s])
                            total = _total(builder, value, builder.load(builder.gep(biases, [_INT(s)])))
                            place = builder.add(builder.mul(_INT(r), out_pitch_), _INT(s))
                            builder.store(_raised(builder, total, lowest), builder.gep(goal, [place]))
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
        reduced = _call(builder, f"llvm.vector.reduce.add.{_suffix(vector.type)}", element, [vector])
        return builder.add(reduced, start)
    kind = ir.FunctionType(element, [element, vector.type])
    name = f"llvm.vector.reduce.fadd.{_suffix(vector.type)}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [start, vector], fastmath=("reassoc",))  # in any order: halves are added up


def _plain_scalar_products() -> Any:
    """The same products as loops over one sum at a time."""

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
