"""Instructions that work across the lanes of a vector: its extremes, sums of neighbours, and what of it counts."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from ..system.building import intrinsic
from . import emit
from .simd import Vector


@intrinsic(plain=np.max)
def largest(typingctx, vector):
    """The largest element of a vector of floats; a NaN if there is one."""
    return vector.scalar(vector), lambda context, builder, sig, args: _extreme(builder, vector, args[0], ">")


@intrinsic(plain=np.min)
def smallest(typingctx, vector):
    """The smallest element of a vector of floats; a NaN if there is one."""
    return vector.scalar(vector), lambda context, builder, sig, args: _extreme(builder, vector, args[0], "<")


def _extreme(builder, kind: Vector, value: ir.Value, relation: str) -> ir.Value:
    distance = kind.count // 2
    while distance:
        value = emit.larger(builder, kind.scalar, emit.exchanged(builder, value, distance), value, relation)
        distance //= 2
    return builder.extract_element(value, emit.I32(0))


@intrinsic(plain=lambda vector, valid: np.where(np.arange(vector.size) < valid, vector, np.inf))
def or_infinite(typingctx, vector, valid):
    """The first `valid` elements of a vector of floats, infinities behind them."""

    def codegen(context, builder, sig, args):
        infinities = ir.Constant(args[0].type, [args[0].type.element(np.inf)] * vector.count)
        return builder.select(emit.first_lanes(builder, vector.count, args[1]), args[0], infinities)

    return vector(vector, types.int64), codegen


@intrinsic(plain=lambda vector, doublings: vector.reshape(-1, 1 << doublings).sum(1).repeat(1 << doublings))
def group_sums(typingctx, vector, doublings):
    """Each element replaced by the sum of its group of 2 ** `doublings` neighbours, at most 8 and at most a vector."""

    def codegen(context, builder, sig, args):
        value, distance = args[0], 1
        while distance < min(8, vector.count):
            summed = emit.plus(builder, value, emit.exchanged(builder, value, distance))
            wide = builder.icmp_signed(">", args[1], emit.INT(distance.bit_length() - 1))
            value, distance = builder.select(wide, summed, value), distance * 2
        return value

    return vector(vector, types.int64), codegen


@intrinsic(plain=lambda vector: int(np.isnan(vector).any()))
def with_nan(typingctx, vector):
    """A number that is not 0 if, and only if, an element of a vector of floats is NaN."""

    def codegen(context, builder, sig, args):
        bits = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.zext(builder.bitcast(bits, ir.IntType(vector.count)), emit.INT)

    return types.int64(vector), codegen
