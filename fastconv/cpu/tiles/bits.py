"""Instructions for sets kept as bits, and for histograms of 16 counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..system.building import intrinsic
from . import emit


@intrinsic(plain=lambda word: int(word).bit_count())
def ones(typingctx, word):
    """How many bits of a uint64 are set."""

    def codegen(context, builder, sig, args):
        return emit.call(builder, "llvm.ctpop.i64", emit.INT, [args[0]])

    return types.int64(types.uint64), codegen


@intrinsic(plain=lambda word: (int(word) & -int(word)).bit_length() - 1)
def lowest(typingctx, word):
    """The number of the lowest bit that is set in a uint64; one must be."""

    def codegen(context, builder, sig, args):
        return emit.call(builder, "llvm.cttz.i64", emit.INT, [args[0], emit.BIT(1)])

    return types.int64(types.uint64), codegen


#: Counts of a histogram that are added, or looked through, at once.
BINS = 16
_BYTES, _COUNTS = ir.VectorType(ir.IntType(8), BINS), ir.VectorType(ir.IntType(16), BINS)


def _pointer(builder: ir.IRBuilder, data: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _adder(op: str, plain: Any) -> Any:
    @intrinsic(plain=plain)
    def combine(typingctx, counts, at, column, place):
        def codegen(context, builder, sig, args):
            goal = _pointer(builder, emit.data_of(context, builder, counts, args[0]), args[1], _COUNTS)
            some = builder.load(_pointer(builder, emit.data_of(context, builder, column, args[2]), args[3], _BYTES))
            some.align = 1
            before = builder.load(goal)
            before.align = 1
            builder.store(getattr(builder, op)(before, builder.zext(some, _COUNTS)), goal).align = 1
            return context.get_dummy_value()

        return types.void(counts, types.int64, column, types.int64), codegen

    return combine


def _plain_plus(counts, at, column, place):
    counts[at : at + BINS] += column[place : place + BINS]


def _plain_minus(counts, at, column, place):
    counts[at : at + BINS] -= column[place : place + BINS]


#: Functions for kernels, of an array of uint16, a place in it, one of uint8, and a place there: they add to 16 counts,
#: or subtract from them.
plus, minus = _adder("add", _plain_plus), _adder("sub", _plain_minus)


def _plain_find(counts, at, rank, sums):
    sums[0] = 0
    sums[1 : BINS + 1] = np.cumsum(counts[at : at + BINS])
    return int(np.argmax(sums[1 : BINS + 1] > rank))


@intrinsic(plain=_plain_find)
def find(typingctx, counts, at, rank, sums):
    """The bin, of 16 counts, that the element of a rank falls into; ``sums[bin]`` is then the sum of those before it.

    `sums` is memory for 17 numbers of 16 bits, of which the first is 0.
    """

    def codegen(context, builder, sig, args):
        total = builder.load(_pointer(builder, emit.data_of(context, builder, counts, args[0]), args[1], _COUNTS))
        total.align = 1
        zero = ir.Constant(_COUNTS, None)
        for shift in (1, 2, 4, 8):
            order = [lane - shift if lane >= shift else BINS + lane for lane in range(BINS)]
            moved = builder.shuffle_vector(total, zero, ir.Constant(ir.VectorType(emit.I32, BINS), order))
            total = builder.add(total, moved)
        data = emit.data_of(context, builder, sums, args[3])
        builder.store(total, _pointer(builder, data, emit.INT(1), _COUNTS)).align = 1
        rank = emit.splat(builder, builder.trunc(args[2], ir.IntType(16)), BINS)
        above = builder.bitcast(builder.icmp_unsigned(">", total, rank), ir.IntType(BINS))
        found = emit.call(builder, "llvm.cttz.i16", ir.IntType(16), [above, emit.BIT(0)])
        return builder.zext(found, emit.INT)

    return types.int64(counts, types.int64, types.int64, sums), codegen
