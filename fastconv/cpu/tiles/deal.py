"""Functions that deal rows out to phases, and interleave phases to rows, by whole vectors."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..system.building import intrinsic
from . import emit
from .simd import Vector


@lru_cache(maxsize=8)
def split_row(phases: int) -> Any:
    """A function for kernels that takes `phases` * lanes elements apart, every `phases`-th into one vector::

        y[to + i * stride + q] = x[at + q * phases + i]        q a lane

    It is called as ``f(x, at, y, to, stride)``; `phases` is a power of two.
    """

    @intrinsic
    def split(typingctx, x, at, y, to, stride):
        count = Vector(x.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, y_, begin, apart = args
            data, goal = emit.data_of(context, builder, x, x_), emit.data_of(context, builder, y, y_)
            vectors = [emit.load(builder, data, builder.add(start, emit.INT(v * count)), count) for v in range(phases)]
            for i, value in enumerate(_split(builder, vectors)):
                emit.store(builder, value, goal, builder.add(begin, builder.mul(apart, emit.INT(i))))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(x, integer, y, integer, integer), codegen

    return split


@lru_cache(maxsize=16)
def join_row(phases: int, whole: bool) -> Any:
    """A function for kernels that joins phases to a row, adds a shift, and raises what is below a floor to it::

        out[to + q * phases + i] = max(floor, shift + x[at + i * step + q])

    It is called as ``f(x, at, step, out, to, valid, shift, floor)``, `shift` and `floor` being vectors, and writes
    `phases` * lanes elements if `whole`, else the first `valid` of them.
    """

    @intrinsic
    def join(typingctx, x, at, step, out, to, valid, shift, floor):
        count = Vector(x.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, apart, out_, begin, valid_, added, least = args
            data, goal = emit.data_of(context, builder, x, x_), emit.data_of(context, builder, out, out_)
            vectors = [
                emit.load(builder, data, builder.add(start, builder.mul(apart, emit.INT(i))), count)
                for i in range(phases)
            ]
            for v, value in enumerate(join_vectors(builder, vectors)):
                result, place = (
                    emit.clamped(builder, builder.fadd(value, added), least),
                    builder.add(begin, emit.INT(v * count)),
                )
                if whole:
                    emit.store(builder, result, goal, place)
                else:
                    mask = emit.first_lanes(builder, count, builder.sub(valid_, emit.INT(v * count)))
                    emit.store_masked(builder, result, goal, place, mask)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(x, integer, integer, out, integer, integer, shift, floor), codegen

    return join


def _shuffle(builder, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
    """The elements of two vectors, laid end to end, that `order` tells."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(emit.I32, len(order)), order))


def _split(builder, vectors: list[ir.Value]) -> list[ir.Value]:
    """The phases of a row of vectors: of its even elements and of its odd ones, alternately."""
    if len(vectors) == 1:
        return vectors
    count, pairs = vectors[0].type.count, list(zip(vectors[::2], vectors[1::2], strict=True))
    even, odd = (
        _split(builder, [_shuffle(builder, a, b, list(range(first, 2 * count, 2))) for a, b in pairs])
        for first in (0, 1)
    )
    return [phase for pair in zip(even, odd, strict=True) for phase in pair]


def join_vectors(builder, phases: list[ir.Value]) -> list[ir.Value]:
    """The row of vectors that phases make: the inverse of `_split`, for any number of phases."""
    many, count = len(phases), phases[0].type.count
    row = []
    if many % 2:
        for first in range(0, many * count, count):
            value = phases[0]
            for number in range(1, many):  # one phase after the other is put in its places
                turns = [divmod(first + lane, many) for lane in range(count)]
                kept = [lane if number > 1 else at for lane, (at, _) in enumerate(turns)]
                order = [count + at if of == number else old for (at, of), old in zip(turns, kept, strict=True)]
                value = _shuffle(builder, value, phases[number], order)
            row.append(value)
        return row
    for even, odd in zip(join_vectors(builder, phases[::2]), join_vectors(builder, phases[1::2]), strict=True):
        for first in (0, count // 2):
            order = [lane for pair in range(first, first + count // 2) for lane in (pair, count + pair)]
            row.append(_shuffle(builder, even, odd, order))
    return row


@intrinsic
def split(typingctx, source, at, target, to, other):
    """Split two vectors of elements from a flat index on: even ones go to the flat index `to`, odd ones to `other`."""
    count = Vector(source.dtype).count

    def codegen(context, builder, sig, args):
        data, goal = emit.data_of(context, builder, source, args[0]), emit.data_of(context, builder, target, args[2])
        near, far = (emit.load(builder, data, builder.add(args[1], emit.INT(first)), count) for first in (0, count))
        for first, place in enumerate(args[3:]):
            turns = ir.Constant(ir.VectorType(emit.I32, count), list(range(first, 2 * count, 2)))
            emit.store(builder, builder.shuffle_vector(near, far, turns), goal, place)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64, types.int64), codegen


def _in_turns(second: int) -> Any:
    """A function for kernels that interleaves the elements of two vectors: the result's first half, or its second."""

    @intrinsic(plain=lambda even, odd: np.stack([even, odd], 1).reshape(2, -1)[second])
    def in_turns(typingctx: Any, even: Any, odd: Any) -> Any:
        lanes = range(second * even.count // 2, (second + 1) * even.count // 2)
        order = [lane for k in lanes for lane in (k, even.count + k)]

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.shuffle_vector(*args, ir.Constant(ir.VectorType(emit.I32, even.count), order))

        return even(even, even), codegen

    return in_turns


def _lines(taps: int) -> Any:
    """A function for kernels that interleaves the elements of `taps` rows of a block, in a given order::

        target[to + l * taps + t] = block[order[begin + t] * lanes + l]

    It writes whole vectors; a transpose of the block would write such short lines under masks.
    """

    def plain_lines(block, order, begin, target, to, lanes):
        target[to : to + taps * lanes] = block.reshape(-1, lanes)[order[begin : begin + taps]].T.reshape(-1)

    @intrinsic(plain=plain_lines)
    def lines(typingctx: Any, block: Any, order: Any, begin: Any, target: Any, to: Any, lanes: Any) -> Any:
        count = Vector(block.dtype).count

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            source, numbers, goal = (emit.data_of(context, builder, sig.args[k], args[k]) for k in (0, 1, 3))
            rows = [builder.load(builder.gep(numbers, [builder.add(args[2], emit.INT(t))])) for t in range(taps)]
            vectors = [emit.load(builder, source, builder.mul(row, emit.INT(count)), count) for row in rows]
            for k, vector in enumerate(join_vectors(builder, vectors)):
                emit.store(builder, vector, goal, builder.add(args[4], emit.INT(k * count)))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(block, order, integer, target, integer, integer), codegen

    return lines


first_half, second_half = _in_turns(0), _in_turns(1)


first_half, second_half = _in_turns(0), _in_turns(1)


one_line, two_lines, four_lines, eight_lines = (_lines(taps) for taps in (1, 2, 4, 8))


one_line, two_lines, four_lines, eight_lines = (_lines(taps) for taps in (1, 2, 4, 8))


one_line, two_lines, four_lines, eight_lines = (_lines(taps) for taps in (1, 2, 4, 8))


one_line, two_lines, four_lines, eight_lines = (_lines(taps) for taps in (1, 2, 4, 8))
