"""Vector instructions for pooling: rows made one and their columns dealt out by the stride, the largest or smallest and
its place, long sums.

Like the instructions of `simd` they are functions for kernels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..system.building import intrinsic
from . import emit, powers
from .simd import Vector


@intrinsic
def lanes_of(typingctx, array):
    """Elements of an array in a vector, as a constant: so addresses of neighbouring vectors need no arithmetic."""
    count = Vector(array.dtype).count
    return types.int64(array), lambda context, builder, sig, args: emit.INT(count)


@intrinsic
def load_every(typingctx, array, index, stride):
    """A vector of every `stride`-th element from a flat index on, loaded one by one."""
    kind = Vector(array.dtype)

    def codegen(context, builder, sig, args):
        pointer = builder.gep(emit.data_of(context, builder, array, args[0]), [args[1]])
        vector = ir.Constant(ir.VectorType(pointer.type.pointee, kind.count), ir.Undefined)
        for lane in range(kind.count):
            element = builder.load(builder.gep(pointer, [builder.mul(args[2], emit.INT(lane))]))
            vector = builder.insert_element(vector, element, emit.I32(lane))
        return vector

    return kind(array, types.int64, types.int64), codegen


@intrinsic
def load_every_inside(typingctx, array, index, stride, first, last, fill):
    """A vector of every `stride`-th element from a flat index on; of the columns from there on only those from `first`
    to before `last` are read, and the others count as `fill`."""
    kind = Vector(array.dtype)

    def codegen(context, builder, sig, args):
        data, (index, stride, first, last, fill) = emit.data_of(context, builder, array, args[0]), args[1:]
        vector = ir.Constant(ir.VectorType(data.type.pointee, kind.count), ir.Undefined)
        for lane in range(kind.count):
            column = builder.mul(stride, emit.INT(lane))
            inside = builder.and_(builder.icmp_signed(">=", column, first), builder.icmp_signed("<", column, last))
            there = builder.select(inside, column, first)  # some column is there
            element = builder.load(builder.gep(data, [builder.add(index, there)]))
            vector = builder.insert_element(vector, builder.select(inside, element, fill), emit.I32(lane))
        return vector

    return kind(array, *[types.int64] * 4, array.dtype), codegen


@intrinsic
def load_beside(typingctx, array, index, vector):
    """A vector of the elements at a flat index, as many as `vector` has lanes."""
    kind = Vector(array.dtype, vector.count)

    def codegen(context, builder, sig, args):
        return emit.load(builder, emit.data_of(context, builder, array, args[0]), args[1], kind.count)

    return kind(array, types.int64, vector), codegen


@intrinsic
def splat_beside(typingctx, scalar, vector):
    """A vector of `scalar` in as many lanes as `vector` has."""
    kind = Vector(scalar, vector.count)
    return kind(scalar, vector), lambda context, builder, sig, args: emit.splat(builder, args[0], kind.count)


@intrinsic
def store_places(typingctx, array, index, vector, first, step, valid):
    """Write ``first + lane * step + vector[lane]`` for the first `valid` lanes, widened to the array's int64."""

    def codegen(context, builder, sig, args):
        data, count = emit.data_of(context, builder, array, args[0]), vector.count
        value = args[2] if vector.scalar.bitwidth == 64 else builder.sext(args[2], ir.VectorType(emit.INT, count))
        numbers = ir.Constant(ir.VectorType(emit.INT, count), list(range(count)))
        value = builder.add(value, builder.mul(numbers, emit.splat(builder, args[4], count)))
        value = builder.add(value, emit.splat(builder, args[3], count))
        emit.store_valid(builder, [value], [args[1]], [0], data, args[5])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector, types.int64, types.int64, types.int64), codegen


#: Which of two elements a maximum or a minimum is.
ORDER = {"max": ">", "min": "<"}


@lru_cache(maxsize=2)
def where(op: str) -> Any:
    """A function for kernels, ``where(a, b, x, y)``: `x` where `a` is larger than `b` (smaller for "min") or NaN, else
    `y`; x and y of as many lanes."""

    @intrinsic
    def where_wins(typingctx, a, b, x, y):
        def codegen(context, builder, sig, args):
            return builder.select(emit.wins(builder, a.scalar, *args[:2], ORDER[op]), *args[2:])

        return x(a, b, x, y), codegen

    return where_wins


#: Ways to make one value of several: the elementwise maximum or minimum, the sum.
_COMBINE = {
    "max": emit.larger,
    "min": lambda builder, scalar, a, b: emit.larger(builder, scalar, a, b, ORDER["min"]),
    "sum": lambda builder, scalar, a, b: emit.plus(builder, a, b),
}


@lru_cache(maxsize=8)
def fold(op: str) -> Any:
    """A function for kernels, ``fold(vector)``: the "max", "min" or "sum" of a vector's elements, halving it until one
    is left."""
    combine = _COMBINE[op]

    @intrinsic
    def fold_lanes(typingctx, vector):
        def codegen(context, builder, sig, args):
            (value,), size = args, vector.count
            while size > 1:
                size //= 2
                halves = [ir.Constant(ir.VectorType(emit.I32, size), list(range(at, at + size))) for at in (0, size)]
                value = combine(builder, vector.scalar, *(builder.shuffle_vector(value, value, h) for h in halves))
            return builder.extract_element(value, emit.I32(0))

        return vector.scalar(vector), codegen

    return fold_lanes


@intrinsic
def put_lane(typingctx, vector, lane, scalar):
    """The vector with another element in one lane."""

    def codegen(context, builder, sig, args):
        before, lane, scalar = args
        numbers = ir.Constant(ir.VectorType(emit.I32, vector.count), list(range(vector.count)))
        here = builder.icmp_signed("==", numbers, emit.splat(builder, builder.trunc(lane, emit.I32), vector.count))
        return builder.select(
            here, emit.splat(builder, scalar, vector.count), before
        )  # an insertion goes through memory

    return vector(vector, types.int64, vector.scalar), codegen


#: Additions that a sum takes before it is put away and begins anew, as in `reductions`: in float32 the mean of equal
#: numbers is off by less than 3e-6 then, however many they are. One by one 10**4 are off by 1e-4, 10**6 by 1e-2.
PART = 256


def put_away_vectors(builder, total: ir.Value, lost: ir.Value, part: ir.Value) -> list[ir.Value]:
    """A total and what rounding took from it, after one more part; nothing is lost of what is not finite."""
    part = builder.fsub(part, lost)
    grown = builder.fadd(total, part)
    lost = builder.fsub(builder.fsub(grown, total), part)
    finite = builder.fcmp_ordered("==", builder.fsub(lost, lost), ir.Constant(lost.type, None))
    return [grown, builder.select(finite, lost, ir.Constant(lost.type, None))]


def put_all_away(builder, away: list[ir.Value], parts: list[ir.Value]) -> list[ir.Value]:
    """Totals, and behind them what rounding took from each, after one more part of each."""
    size = len(parts)
    pairs = [put_away_vectors(builder, *each) for each in zip(away[:size], away[size:], parts, strict=True)]
    return [pair[0] for pair in pairs] + [pair[1] for pair in pairs]


def totals_of(builder, away: list[ir.Value]) -> list[ir.Value]:
    """The totals, less what they have too much."""
    size = len(away) // 2
    return [builder.fsub(total, lost) for total, lost in zip(away[:size], away[size:], strict=True)]


@intrinsic
def put_away(typingctx, away, part):
    """The pair of a total and what rounding took from it, after one more part is added: of numbers or vectors.

    Source: Kahan, Further remarks on reducing truncation errors, 1965.
    """

    def codegen(context, builder, sig, args):
        total, lost = cgutils.unpack_tuple(builder, args[0], 2)
        return context.make_tuple(builder, away, put_away_vectors(builder, total, lost, args[1]))

    return away(away, part), codegen


@lru_cache(maxsize=32)
def columns(
    op: str, stride: int, edge: bool, power: str = "", along: bool = False, in_parts: bool = False,
    joined: bool = False,
) -> Any:  # fmt: skip
    """A function for kernels: rows made one by "max", "min" or "sum", then dealt out to as many vectors as the
    stride.

    ``columns(x, at, step, rows, norm)`` is a tuple of vectors, of which the p-th holds at lane l::

        op over r < rows of x[at + r * step + l * stride + p]                (flat indices; rows >= 1)

    or, as `power` says, of their absolute values ("magnitude") or squares ("square"), or the `norm`-th powers of
    absolute values ("power"). With `edge` two more arguments, `first` and `last`, say which of the ``stride * lanes``
    columns are there, and a third what the others count as; they are not read. Where the "rows" lie `along` one row,
    each `step` columns behind the one before, that is said of the first, in numbers of 32 bits. Sums of more than
    `PART` rows are to be made `in_parts`. All vectors are made one if they are to be `joined`, the stride being a power
    of two: by halves, which takes a third of the shuffles or less.
    """
    combine, hands = _COMBINE[op], 1 if joined else stride

    def define(typingctx, x, more):
        kind = Vector(x.dtype)
        count, result = kind.count, types.UniTuple(kind, hands)

        def codegen(context, builder, sig, args):
            data, fixed, others = emit.data_of(context, builder, x, args[0]), [None] * stride, None
            if edge:
                others = emit.splat(builder, args[7], count)
                fixed = _between(builder, *args[5:7], count, stride)

            def row(r):
                behind = builder.mul(r, args[2])
                at = builder.add(args[1], behind)
                if edge and along:
                    masks = _within(builder, builder.sub(behind, args[5]), builder.sub(args[6], args[5]), count, stride)
                else:
                    masks = fixed
                vectors = [
                    emit.load_masked(builder, data, builder.add(at, emit.INT(v * count)), mask, others)
                    if edge
                    else emit.load(builder, data, builder.add(at, emit.INT(v * count)), count)
                    for v, mask in enumerate(masks)
                ]
                return powers.EMIT[power](builder, vectors, args[4])

            def part(first, end):
                """Rows from `first` to before `end` made one."""
                top, second = row(first), builder.add(first, emit.INT(1))
                entry, test = builder.block, builder.append_basic_block("test")
                body, done = builder.append_basic_block("row"), builder.append_basic_block("done")
                builder.branch(test)
                builder.position_at_end(test)
                r, vectors = builder.phi(emit.INT), [builder.phi(vector.type) for vector in top]
                builder.cbranch(builder.icmp_signed("<", r, end), body, done)
                builder.position_at_end(body)
                here = row(r)
                for vector, begin, value in zip(vectors, top, here, strict=True):
                    vector.add_incoming(begin, entry)
                    vector.add_incoming(combine(builder, x.dtype, value, vector), builder.block)
                r.add_incoming(second, entry)
                r.add_incoming(builder.add(r, emit.INT(1)), builder.block)
                builder.branch(test)
                builder.position_at_end(done)
                return vectors

            def made(vectors):
                if not joined:
                    return context.make_tuple(builder, result, _dealt(builder, vectors))
                while len(vectors) > 1:
                    pairs = [_dealt(builder, vectors[v : v + 2]) for v in range(0, len(vectors), 2)]
                    vectors = [combine(builder, x.dtype, odd, even) for even, odd in pairs]
                return context.make_tuple(builder, result, vectors)

            if not in_parts:
                return made(part(emit.INT(0), args[3]))
            zero = ir.Constant(ir.VectorType(data.type.pointee, count), None)
            memory = [[cgutils.alloca_once_value(builder, zero) for _ in ("total", "lost")] for _ in range(stride)]
            with cgutils.for_range_slice(builder, emit.INT(0), args[3], emit.INT(PART), emit.INT) as (first, _):
                end = builder.add(first, emit.INT(PART))
                end = builder.select(builder.icmp_signed("<", end, args[3]), end, args[3])
                for places, vector in zip(memory, part(first, end), strict=True):
                    away = put_away_vectors(builder, *map(builder.load, places), vector)
                    for place, value in zip(places, away, strict=True):
                        builder.store(value, place)
            return made([builder.load(total) for total, _ in memory])

        return result(x, *[types.int64] * 3, x.dtype, *more), codegen

    if edge:

        @intrinsic
        def edge_columns(typingctx, x, at, step, rows, norm, first, last, fill):
            return define(typingctx, x, [types.int64, types.int64, x.dtype])

        return edge_columns

    @intrinsic
    def inner_columns(typingctx, x, at, step, rows, norm):
        return define(typingctx, x, [])

    return inner_columns


def _between(builder, first, last, count: int, vectors: int) -> list[ir.Value]:
    """Masks of the lanes from `first` to before `last`, counted through so many vectors."""
    lane = ir.Constant(ir.VectorType(emit.I32, count), list(range(count)))
    sides = [builder.trunc(_clamped(builder, side, vectors * count), emit.I32) for side in (first, last)]
    masks = []
    for v in range(vectors):
        low, high = (emit.splat(builder, builder.sub(side, emit.I32(v * count)), count) for side in sides)
        masks.append(builder.and_(builder.icmp_signed(">=", lane, low), builder.icmp_signed("<", lane, high)))
    return masks


def _within(builder, start, size, count: int, vectors: int) -> list[ir.Value]:
    """Masks of the lanes from 0 to before `size`, counted from `start` on through so many vectors: one comparison of
    unsigned numbers of 32 bits."""
    start, size = (emit.splat(builder, builder.trunc(number, emit.I32), count) for number in (start, size))
    numbers = [
        ir.Constant(ir.VectorType(emit.I32, count), list(range(v * count, (v + 1) * count))) for v in range(vectors)
    ]
    return [builder.icmp_unsigned("<", builder.add(start, number), size) for number in numbers]


def _clamped(builder, value, most: int):
    """An integer, raised to 0 or lowered to `most` if it lies outside."""
    value = builder.select(builder.icmp_signed("<", value, emit.INT(0)), emit.INT(0), value)
    return builder.select(builder.icmp_signed(">", value, emit.INT(most)), emit.INT(most), value)


def _dealt(builder, vectors: list[ir.Value]) -> list[ir.Value]:
    """The elements of consecutive vectors dealt out, as cards are, to as many vectors."""
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
            result = builder.shuffle_vector(result, vector, ir.Constant(ir.VectorType(emit.I32, count), order))
            have = end
        dealt.append(result)
    return dealt
