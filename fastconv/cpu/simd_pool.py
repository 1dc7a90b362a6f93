"""Vector instructions for pooling: rows made one and their columns dealt out by the stride, the largest and its place.

The same parts as `simd`, and like those for kernels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import (
    _I32,
    _INT,
    Vector,
    _data,
    _larger,
    _load,
    _load_masked,
    _mask,
    _plus,
    _splat,
    _store,
    _store_masked,
    _wins,
)


@intrinsic
def load_every(typingctx, array, index, stride):
    """The elements at a flat index and every `stride` behind it, one by one."""
    kind = Vector(array.dtype)

    def codegen(context, builder, sig, args):
        pointer = builder.gep(_data(context, builder, array, args[0]), [args[1]])
        vector = ir.Constant(ir.VectorType(pointer.type.pointee, kind.count), ir.Undefined)
        for lane in range(kind.count):
            element = builder.load(builder.gep(pointer, [builder.mul(args[2], _INT(lane))]))
            vector = builder.insert_element(vector, element, _I32(lane))
        return vector

    return kind(array, types.int64, types.int64), codegen


@intrinsic
def load_beside(typingctx, array, index, vector):
    """As many elements at a flat index as `vector` has lanes."""
    kind = Vector(array.dtype, vector.count)

    def codegen(context, builder, sig, args):
        return _load(builder, _data(context, builder, array, args[0]), args[1], kind.count)

    return kind(array, types.int64, vector), codegen


@intrinsic
def splat_beside(typingctx, scalar, vector):
    """`scalar` in as many lanes as `vector` has."""
    kind = Vector(scalar, vector.count)
    return kind(scalar, vector), lambda context, builder, sig, args: _splat(builder, args[0], kind.count)


@intrinsic
def store_places(typingctx, array, index, vector, first, step, valid):
    """Write ``first + lane * step + vector[lane]`` for the first `valid` lanes, widened to the array's int64."""

    def codegen(context, builder, sig, args):
        data, count = _data(context, builder, array, args[0]), vector.count
        value = args[2] if vector.scalar.bitwidth == 64 else builder.sext(args[2], ir.VectorType(_INT, count))
        numbers = ir.Constant(ir.VectorType(_INT, count), list(range(count)))
        value = builder.add(value, builder.mul(numbers, _splat(builder, args[4], count)))
        value = builder.add(value, _splat(builder, args[3], count))
        whole = builder.icmp_signed(">=", args[5], _INT(count))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                _store(builder, value, data, args[1])
            with otherwise:
                _store_masked(builder, value, data, args[1], _mask(builder, count, args[5]))
        return context.get_dummy_value()

    return types.void(array, types.int64, vector, types.int64, types.int64, types.int64), codegen


@intrinsic
def where_larger(typingctx, a, b, x, y):
    """`x` where `a` is larger than `b` or NaN, else `y`; x and y of as many lanes."""

    def codegen(context, builder, sig, args):
        return builder.select(_wins(builder, a.scalar, *args[:2]), *args[2:])

    return x(a, b, x, y), codegen


#: Ways to make one value of several: the elementwise maximum, the sum.
_COMBINE = {"max": _larger, "sum": lambda builder, scalar, a, b: _plus(builder, a, b)}


@lru_cache(maxsize=8)
def fold(op: str) -> Any:
    """A function for kernels, ``fold(vector)``: the "max" or "sum" of a vector's elements, halving it until one is
    left."""
    combine = _COMBINE[op]

    @intrinsic
    def fold_lanes(typingctx, vector):
        def codegen(context, builder, sig, args):
            (value,), size = args, vector.count
            while size > 1:
                size //= 2
                halves = [ir.Constant(ir.VectorType(_I32, size), list(range(at, at + size))) for at in (0, size)]
                value = combine(builder, vector.scalar, *(builder.shuffle_vector(value, value, h) for h in halves))
            return builder.extract_element(value, _I32(0))

        return vector.scalar(vector), codegen

    return fold_lanes


@lru_cache(maxsize=32)
def columns(op: str, stride: int, edge: bool) -> Any:
    """A function for kernels: rows made one by "max" or "sum", then dealt out to as many vectors as the stride.

    ``columns(x, at, step, rows)`` is a tuple of vectors, of which the p-th holds at lane l::

        op over r < rows of x[at + r * step + l * stride + p]                (flat indices; rows >= 1)

    With `edge` two more arguments, `first` and `last`, say which of the ``stride * lanes`` columns are there, and a
    third what the others count as; they are not read.
    """
    combine = _COMBINE[op]

    def define(typingctx, x, more):
        kind = Vector(x.dtype)
        count, result = kind.count, types.UniTuple(kind, stride)

        def codegen(context, builder, sig, args):
            data, masks, others = _data(context, builder, x, args[0]), [None] * stride, None
            if edge:
                first, last, fill = args[4:]
                lane = ir.Constant(ir.VectorType(_I32, count), list(range(count)))
                others = _splat(builder, fill, count)
                sides = [builder.trunc(_clamped(builder, side, stride * count), _I32) for side in (first, last)]
                for v in range(stride):
                    low, high = (_splat(builder, builder.sub(side, _I32(v * count)), count) for side in sides)
                    inside = builder.icmp_signed(">=", lane, low), builder.icmp_signed("<", lane, high)
                    masks[v] = builder.and_(*inside)

            def row(at):
                return [
                    _load_masked(builder, data, builder.add(at, _INT(v * count)), mask, others)
                    if edge
                    else _load(builder, data, builder.add(at, _INT(v * count)), count)
                    for v, mask in enumerate(masks)
                ]

            top = row(args[1])
            entry, test = builder.block, builder.append_basic_block("test")
            body, done = builder.append_basic_block("row"), builder.append_basic_block("done")
            builder.branch(test)
            builder.position_at_end(test)
            r, vectors = builder.phi(_INT), [builder.phi(vector.type) for vector in top]
            builder.cbranch(builder.icmp_signed("<", r, args[3]), body, done)
            builder.position_at_end(body)
            here = row(builder.add(args[1], builder.mul(r, args[2])))
            for vector, begin, value in zip(vectors, top, here, strict=True):
                vector.add_incoming(begin, entry)
                vector.add_incoming(combine(builder, x.dtype, value, vector), builder.block)
            r.add_incoming(_INT(1), entry)
            r.add_incoming(builder.add(r, _INT(1)), builder.block)
            builder.branch(test)
            builder.position_at_end(done)
            return context.make_tuple(builder, result, _dealt(builder, vectors))

        return result(x, *[types.int64] * 3, *more), codegen

    if edge:

        @intrinsic
        def edge_columns(typingctx, x, at, step, rows, first, last, fill):
            return define(typingctx, x, [types.int64, types.int64, x.dtype])

        return edge_columns

    @intrinsic
    def inner_columns(typingctx, x, at, step, rows):
        return define(typingctx, x, [])

    return inner_columns


def _clamped(builder, value, most: int):
    """An integer, but at least 0 and at most `most`."""
    value = builder.select(builder.icmp_signed("<", value, _INT(0)), _INT(0), value)
    return builder.select(builder.icmp_signed(">", value, _INT(most)), _INT(most), value)


def _dealt(builder, vectors: list[ir.Value]) -> list[ir.Value]:
    """The elements of consecutive vectors dealt out in turns, as cards are, to as many vectors."""
    hands, count = len(vectors), vectors[0].type.count
    dealt = []
    for hand in range(hands):
        have = 0  # the first lanes of `result` are those already dealt
        result = vectors[0]
        for number, vector in enumerate(vectors):
            end = len(range(hand, (number + 1) * count, hands))
            if number == 0:
                order = [min(hand + lane * hands, count - 1) for lane in range(count)]
            else:
                order = [
                    lane if not have <= lane < end else count + hand + lane * hands - number * count
                    for lane in range(count)
                ]
            result = builder.shuffle_vector(result, vector, ir.Constant(ir.VectorType(_I32, count), order))
            have = end
        dealt.append(result)
    return dealt
