"""Rows of sums over few taps, each of which sees a row that begins at a place of its own, and is read in its own dtype.

::

    target[i] = f(sum over t of weight[t] * source[start[row + down[t]] + right[t] + i])          for i < count

What it changes over `tap_tile`: taps are written out, so that their places and weights stay in registers along the row,
and pixels are converted as they are loaded (`converted`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import from_dtype, types

from ..system.building import intrinsic
from . import emit
from .converted import converted, plain_stored, stored_vector
from .elements import near_whole_lanes
from .simd import lanes

DOUBLE = np.dtype(np.float64)
#: Vectors of a tile. (Four are as fast, but for rows of few tiles, one of which is made twice.)
VECTORS = 2
#: Entries of a stage's tables before those of its taps; bytes of a number in the table of weights.
HEAD, SLOT = 4, 8
#: What the first of them are: the factor or divisor of all sums, the bits that are shifted out, the constant outside,
#: and how far a sum is at most from SciPy's.
FACTOR, SHIFT, OUTSIDE, MARGIN = range(HEAD)


class Kind(NamedTuple):
    """What is added up, and how; dtypes by name."""

    source: str
    computed: str
    target: str
    scaled: str
    """As of `vector_writer`."""
    taps: int
    weights: str
    """"ones"; a "difference" has -1 for its second; or "given"."""
    reads_image: bool
    writes_result: bool
    """Whether it reads memory that is not in cache, and writes such: then the next row of it is fetched."""
    order: str = ""
    """One of `tap_tile`'s, "listed", "even" or "odd", or "listed window", whose last tap is last: if sums near a whole
    number are made again, in float64, with weights that lie behind the others; what is stored has no fractions."""
    constant: bool = False
    """Whether some rows lie outside the image: those that begin at -1."""


@lru_cache(maxsize=64)
def tap_row(kind: Kind) -> Any:
    """A function for kernels, ``tap_row(source, base, starts, row, table, weights, first, target, to, count, pitch)``.

    From entry `first` on, `table` has the row and the offset in bytes of each tap, and `weights` its weight, both
    behind the `HEAD`. A row has at least a tile: the last one is moved back. The next row is `pitch` bytes further.
    """
    one, computed, other = map(np.dtype, (kind.source, kind.computed, kind.target))
    count = lanes(computed)
    step = VECTORS * count
    # Two interleaved sums of floats: half the roundings.
    parts = 2 if computed.kind == "f" and kind.weights == "given" and kind.taps > 3 else 1

    def plain(source, base, starts, row, table, weights, first, target, to, count, pitch):
        slots = weights.reshape(-1, SLOT)[first:]
        numbers = slots[:, : computed.itemsize].copy().view(computed)[:, 0]
        signs = np.array([1] + [-1 if kind.weights == "difference" else 1] * kind.taps).astype(computed)

        def pixels(t, dtype):
            entry = 2 * (first + HEAD + t)
            start, place = starts[row + table[entry]], base + table[entry + 1]
            if start < 0:
                return np.full(count, numbers[OUTSIDE]).astype(dtype)
            return source[start + place :][: count * one.itemsize].view(one).astype(dtype)

        total = np.zeros(count, computed)
        for t in range(kind.taps):
            total += pixels(t, computed) * (numbers[HEAD + t] if kind.weights == "given" else signs[t])
        made = plain_stored(total, computed, other, kind.scaled, numbers[FACTOR], numbers[SHIFT])
        if kind.order:
            exact, doubles = np.zeros(count), slots.copy().view(DOUBLE)[HEAD + kind.taps :, 0]
            for t, *pair in _in_order(kind):
                value = pixels(t, DOUBLE)
                for other_one in pair:
                    value = value + pixels(other_one, DOUBLE) * (-1 if kind.order == "odd" else 1)
                exact += value * doubles[t]
            near = np.abs(total - np.rint(total)) <= numbers[MARGIN]
            made = np.where(near, np.trunc(exact), np.trunc(total)).astype(other)
        target[to : to + count * other.itemsize].view(other)[:] = made

    @intrinsic(plain=plain)
    def make_row(typingctx, source, base, starts, row, table, weights, first, target, to, size, pitch):
        def codegen(context, builder, sig, args):
            data, places, offsets, numbers, goal = (
                emit.data_of(context, builder, array, args[at])
                for array, at in ((source, 0), (starts, 2), (table, 4), (weights, 5), (target, 7)))  # fmt: skip
            scalar = context.get_value_type(from_dtype(computed))

            def entry(number):
                return builder.add(args[6], emit.INT(number))

            def number(place):
                at = builder.gep(numbers, [builder.mul(entry(place), emit.INT(SLOT))])
                return emit.splat(builder, builder.load(builder.bitcast(at, scalar.as_pointer())), count)

            factor, shift, outside, margin = (number(place) for place in range(HEAD))
            taps = []
            for t in range(HEAD, HEAD + kind.taps):
                pair = builder.shl(entry(t), emit.INT(1))
                down, right = (builder.load(builder.gep(offsets, [place]))
                               for place in (pair, builder.add(pair, emit.INT(1))))  # fmt: skip
                start = builder.load(builder.gep(places, [builder.add(args[3], down)]))
                there = builder.icmp_signed(">=", start, emit.INT(0))
                if kind.constant:
                    start = builder.select(there, start, emit.INT(0))
                begin = builder.gep(data, [builder.add(builder.add(args[1], start), right)])
                taps.append((begin, there, number(t) if kind.weights == "given" else None))

            # A tile at either end, and between them others whose vectors lie in as few cache lines as there can be.
            goal, last = builder.gep(goal, [args[8]]), builder.sub(args[9], emit.INT(step))
            seen, item = (taps[kind.taps // 2][0], one.itemsize) if kind.reads_image else (goal, other.itemsize)
            beyond = builder.and_(builder.ptrtoint(seen, emit.INT), emit.INT(count * item - 1))
            ahead = builder.udiv(builder.sub(emit.INT(count * item), beyond), emit.INT(item))
            following = builder.load(builder.gep(places, [builder.add(builder.add(args[3], down), emit.INT(1))]))
            following = builder.gep(data, [builder.add(args[1], following)])

            def pixels(tap, at, dtype):
                begin, there, _ = tap
                place = builder.gep(begin, [builder.mul(at, emit.INT(one.itemsize))])
                stored = ir.VectorType(context.get_value_type(from_dtype(one)), count)
                value = builder.load(builder.bitcast(place, stored.as_pointer()))
                value.align = 1
                value = converted(builder, value, one, dtype)
                if kind.constant:
                    other_ = converted(builder, outside, computed, dtype)
                    value = builder.select(there, value, other_)
                return value

            def put(value, at):
                place = builder.gep(goal, [builder.mul(at, emit.INT(other.itemsize))])
                builder.store(value, builder.bitcast(place, value.type.as_pointer())).align = 1

            def exactly(v, carried):
                at, total = builder.add(carried[0], builder.mul(v, emit.INT(count))), None
                for pair in _in_order(kind):
                    values = [pixels(taps[t], at, DOUBLE) for t in pair]
                    value = values[0] if len(pair) == 1 else combine(*values)
                    slot = builder.mul(entry(HEAD + kind.taps + pair[0]), emit.INT(SLOT))
                    weight = builder.load(builder.bitcast(builder.gep(numbers, [slot]), ir.DoubleType().as_pointer()))
                    product = builder.fmul(value, emit.splat(builder, weight, count))
                    total = product if total is None else builder.fadd(total, product)
                put(converted(builder, total, DOUBLE, other), at)
                return carried

            combine = builder.fsub if kind.order == "odd" else builder.fadd

            def tile(number, carried):
                i = builder.select(builder.icmp_signed("<", number, last), number, last)
                i = builder.select(builder.icmp_signed(">", i, emit.INT(0)), i, emit.INT(0))
                if kind.reads_image:
                    ahead_of = builder.gep(following, [builder.mul(i, emit.INT(one.itemsize))])
                    emit.prefetch(builder, ahead_of, 0, step * one.itemsize)
                if kind.writes_result:
                    place = builder.add(args[10], builder.mul(i, emit.INT(other.itemsize)))
                    emit.prefetch(builder, builder.gep(goal, [place]), 0, step * other.itemsize, writes=True)
                near = None
                for v in range(VECTORS):
                    at = builder.add(i, emit.INT(v * count))
                    sums = [ir.Constant(ir.VectorType(scalar, count), None)] * parts
                    for t, tap in enumerate(taps):
                        value, weight, total = pixels(tap, at, computed), tap[2], sums[t % parts]
                        if weight is not None:
                            total = emit.fma(builder, value, weight, total)
                        elif t and kind.weights == "difference":
                            total = builder.sub(total, value)
                        else:
                            total = emit.plus(builder, total, value)
                        sums[t % parts] = total
                    total = sums[0] if parts == 1 else emit.plus(builder, *sums)
                    put(stored_vector(builder, total, computed, other, kind.scaled, factor, shift), at)
                    if kind.order:
                        some = near_whole_lanes(builder, total, margin)
                        near = some if near is None else builder.or_(near, some)
                if near is not None:
                    with builder.if_then(emit.any_lane(builder, near), likely=False):
                        emit.loop(builder, emit.INT(0), emit.INT(VECTORS), emit.INT(1), [i], exactly)
                return []

            begin, end = builder.sub(ahead, emit.INT(step)), builder.add(last, emit.INT(step))
            emit.loop(builder, begin, end, emit.INT(step), [], tile)
            return context.get_dummy_value()

        integer = types.int64
        integers = [integer] * 3
        return types.void(source, integer, starts, integer, table, weights, integer, target, *integers), codegen

    return make_row


def _in_order(kind: Kind) -> list[tuple[int, ...]]:
    """The taps as SciPy adds them up, one by one or in pairs that share a weight."""
    last = kind.taps - 1
    if kind.order in ("even", "odd"):
        return [(kind.taps // 2,), *((t, last - t) for t in range(kind.taps // 2))]
    return [(t,) for t in ([last, *range(last)] if kind.order == "listed" else range(kind.taps))]
