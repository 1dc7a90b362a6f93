"""Single numbers in memory and registers: read and written at a place in bytes, converted as C does, rounded."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types

from ..system.building import intrinsic
from . import emit


@lru_cache(maxsize=16)
def reader(dtype: str) -> Any:
    """A function for kernels: the number of this dtype at a place in bytes."""
    kind = from_dtype(np.dtype(dtype))

    def plain(data, at):
        return data[at : at + np.dtype(dtype).itemsize].view(dtype)[0]

    @intrinsic(plain=plain)
    def read(typingctx, data, at):
        def codegen(context, builder, sig, args):
            pointer = builder.gep(context.make_array(data)(context, builder, args[0]).data, [args[1]])
            value = builder.load(builder.bitcast(pointer, context.get_value_type(kind).as_pointer()))
            value.align = 1
            return value

        return kind(data, types.int64), codegen

    return read


@lru_cache(maxsize=16)
def writer(dtype: str) -> Any:
    """A function for kernels that writes a number as this dtype at a place in bytes."""
    kind = from_dtype(np.dtype(dtype))

    def plain(data, at, value):
        data[at : at + np.dtype(dtype).itemsize].view(dtype)[0] = value

    @intrinsic(plain=plain)
    def write(typingctx, data, at, value):
        def codegen(context, builder, sig, args):
            pointer = builder.gep(context.make_array(data)(context, builder, args[0]).data, [args[1]])
            builder.store(args[2], builder.bitcast(pointer, context.get_value_type(kind).as_pointer())).align = 1
            return context.get_dummy_value()

        return types.void(data, types.int64, kind), codegen

    return write


@intrinsic(plain=lambda array, index: array[index])
def at(typingctx, array, index):
    """The element at an index that is not negative, of an array of one axis: no test of its sign, and no error."""

    def codegen(context, builder, sig, args):
        return builder.load(builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]]))

    return array.dtype(array, types.int64), codegen


def _plain_put(array, index, value):
    array[index] = value


@intrinsic(plain=_plain_put)
def put(typingctx, array, index, value):
    """Write the element at an index that is not negative, of an array of one axis."""

    def codegen(context, builder, sig, args):
        builder.store(args[2], builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), codegen


@lru_cache(maxsize=64)
def converter(source: str, target: str) -> Any:
    """A function for kernels that makes a number of dtype `source` one of `target`: as C does on x86-64, and SciPy.

    A float loses its fraction. One too large for an integer becomes what the processor makes of it: of up to 32 bits
    the low bits of the smallest int32 (of uint32 those of the smallest int64), so values of less than 2**31 wrap
    around.
    """
    one, other = np.dtype(source), np.dtype(target)
    kind, goal = from_dtype(one), from_dtype(other)

    def plain(value):
        if one.kind != "f" or other.kind == "f":
            return other.type(value)
        bits = 32 if other.itemsize <= 4 and other != np.uint32 else 64
        inside = -(2.0 ** (bits - 1)) <= value < 2.0 ** (bits - 1)
        whole = int(value) if inside else -(2 ** (bits - 1))
        if other == np.uint64 and 2.0**63 <= value < 2.0**64:
            whole = int(value)
        return np.array(whole % 2 ** (8 * other.itemsize), f"u{other.itemsize}").view(other)[()]

    @intrinsic(plain=plain)
    def convert(typingctx, value):
        def codegen(context, builder, sig, args):
            (value,), to = args, context.get_value_type(goal)
            if one.kind == other.kind == "f":
                if one.itemsize == other.itemsize:
                    return value
                return (builder.fpext if one.itemsize < other.itemsize else builder.fptrunc)(value, to)
            if other.kind == "f":
                return (builder.sitofp if one.kind == "i" else builder.uitofp)(value, to)
            if one.kind == "f":
                return _whole(builder, value, other, to)
            if one.itemsize == other.itemsize:
                return value
            if one.itemsize > other.itemsize:
                return builder.trunc(value, to)
            return (builder.sext if one.kind == "i" else builder.zext)(value, to)

        return goal(kind), codegen

    return convert


def _whole(builder: ir.IRBuilder, value: ir.Value, other: np.dtype, to: ir.Type) -> ir.Value:
    """A float as an integer."""
    wide = ir.IntType(32 if other.itemsize <= 4 and other != np.uint32 else 64)
    half = value.type(2.0 ** (wide.width - 1))
    smallest = wide(-(2 ** (wide.width - 1)))

    def signed(number):
        inside = builder.and_(builder.fcmp_ordered(">=", number, number.type(-(2.0 ** (wide.width - 1)))),
                              builder.fcmp_ordered("<", number, half))  # fmt: skip
        zero = number.type(0.0)  # a number that does not fit is undefined in LLVM
        return builder.select(inside, builder.fptosi(builder.select(inside, number, zero), wide), smallest)

    whole = signed(value)
    if other == np.uint64:
        upper = builder.xor(signed(builder.fsub(value, half)), smallest)
        whole = builder.select(builder.fcmp_ordered(">=", value, half), upper, whole)
    return whole if whole.type == to else builder.trunc(whole, to)


@intrinsic(plain=np.rint)
def nearest_even(typingctx, value):
    """The nearest whole number, of two the even one."""

    def codegen(context, builder, sig, args):
        return emit.call(builder, f"llvm.rint.{emit.suffix(args[0].type)}", args[0].type, args)

    return value(value), codegen


@intrinsic(plain=lambda vector, margin: bool((np.abs(vector - np.rint(vector)) <= margin).any()))
def near_whole(typingctx, vector, margin):
    """Whether a number of a vector is no farther than a margin from a whole one."""

    def codegen(context, builder, sig, args):
        margins = emit.splat(builder, args[1], args[0].type.count)
        return emit.any_lane(builder, near_whole_lanes(builder, args[0], margins))

    return types.boolean(vector, margin), codegen


@intrinsic(plain=lambda vector, margin: not (np.abs(vector) > margin).all())
def near_zero(typingctx, vector, margin):
    """Whether a number of a vector is no farther than a margin from zero, or either is NaN."""

    def codegen(context, builder, sig, args):
        margins = emit.splat(builder, args[1], args[0].type.count)
        size = emit.call(builder, f"llvm.fabs.{emit.suffix(args[0].type)}", args[0].type, [args[0]])
        return emit.any_lane(builder, builder.fcmp_unordered("<=", size, margins))

    return types.boolean(vector, margin), codegen


def near_whole_lanes(builder: ir.IRBuilder, value: ir.Value, margin: ir.Value) -> ir.Value:
    """A mask of the numbers of a vector that are no farther than a margin from a whole one."""
    whole = emit.call(builder, f"llvm.rint.{emit.suffix(value.type)}", value.type, [value])
    off = emit.call(builder, f"llvm.fabs.{emit.suffix(value.type)}", value.type, [builder.fsub(value, whole)])
    return builder.fcmp_ordered("<=", off, margin)
