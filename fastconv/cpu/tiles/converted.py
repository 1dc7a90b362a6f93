"""Vectors that lie in memory in one dtype and are computed in another: read and written at a place in bytes.

A vector has as many elements as a register has of the dtype that is computed in. Numbers fit: whoever chose the dtypes
has seen to it that no integer is too large for the next one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import from_dtype, types

from ..system.building import intrinsic
from ..system.target import features
from . import emit
from .simd import Vector, lanes


@lru_cache(maxsize=64)
def vector_reader(stored: str, computed: str) -> Any:
    """A function for kernels: the vector of dtype `computed` of what lies at a place in bytes as `stored`."""
    one, other, count = np.dtype(stored), np.dtype(computed), lanes(computed)

    def plain(data, at):
        return data[at : at + count * one.itemsize].view(one).astype(other)

    @intrinsic(plain=plain)
    def read(typingctx, data, at):
        def codegen(context, builder, sig, args):
            kind = ir.VectorType(emit.scalar(one), count)
            value = builder.load(_pointer(context, builder, data, args, kind))
            value.align = 1
            return converted(builder, value, one, other)

        return Vector(from_dtype(other))(data, types.int64), codegen

    return read


@lru_cache(maxsize=64)
def vector_writer(computed: str, stored: str, scaled: str = "") -> Any:
    """A function for kernels, ``write(data, at, vector, factor, shift)``: writes a vector as `stored`.

    If it is `scaled` by "times" or "over", it is the product with a vector of factors, or the quotient; by "whole
    times" or "whole over" without its fraction, by "whole" the number itself without its. Of uint16 the product is that
    of 32 bits, of which as many are left out as a uint16 has and `shift` says. Of int32 it is that of the numbers as
    float32, whose bits the factors are.
    """
    one, other, count = np.dtype(computed), np.dtype(stored), lanes(computed)

    def plain(data, at, vector, factor, shift):
        data[at : at + count * other.itemsize].view(other)[:] = plain_stored(vector, one, other, scaled, factor, shift)

    @intrinsic(plain=plain)
    def write(typingctx, data, at, vector, factor, shift):
        def codegen(context, builder, sig, args):
            value = stored_vector(builder, args[2], one, other, scaled, args[3], args[4])
            builder.store(value, _pointer(context, builder, data, args, value.type)).align = 1
            return context.get_dummy_value()

        return types.void(data, types.int64, vector, factor, shift), codegen

    return write


def stored_vector(
    builder: ir.IRBuilder, value: ir.Value, one: np.dtype, other: np.dtype, scaled: str, factors: ir.Value,
    shift: ir.Value,
) -> ir.Value:  # fmt: skip
    """What `vector_writer` writes."""
    if scaled and one.kind == "f":
        if scaled != "whole":
            value = (builder.fmul if "times" in scaled else builder.fdiv)(value, factors)
        if "whole" in scaled:
            value = emit.call(builder, f"llvm.trunc.{emit.suffix(value.type)}", value.type, [value])
    elif scaled and one.itemsize == 2:
        value = builder.lshr(_upper_half(builder, value, factors), shift)
    elif scaled:
        floats = ir.VectorType(ir.FloatType(), value.type.count)
        product = builder.fmul(builder.sitofp(value, floats), builder.bitcast(factors, floats))
        value = builder.fptosi(product, value.type)
    return converted(builder, value, one, other)


def plain_stored(vector: Any, one: np.dtype, other: np.dtype, scaled: str, factor: Any, shift: Any) -> Any:
    """What `vector_writer` writes, in Python."""
    if scaled and one.kind == "f":
        vector = vector * factor if "times" in scaled else vector / factor if "over" in scaled else vector
        vector = np.trunc(vector) if "whole" in scaled else vector
    elif scaled and one.itemsize == 2:
        vector = (vector.astype(np.uint32) * factor >> np.uint32(16)) >> shift
    elif scaled:
        vector = vector.astype(np.float32) * factor.view(np.float32)
    return vector.astype(other)


def _upper_half(builder: ir.IRBuilder, one: ir.Value, other: ir.Value) -> ir.Value:
    """The upper halves of the products of 16-bit integers."""
    count = one.type.count
    name = {32: "llvm.x86.avx512.pmulhu.w.512", 16: "llvm.x86.avx2.pmulhu.w", 8: "llvm.x86.sse2.pmulhu.w"}.get(count)
    if name and llvm.get_process_triple().startswith("x86_64") and (count < 32 or "avx512bw" in features()):
        return emit.call(builder, name, one.type, [one, other])  # LLVM finds it only where it sees both are 16 bits
    wide = ir.VectorType(emit.I32, count)
    product = builder.mul(builder.zext(one, wide), builder.zext(other, wide))
    return builder.trunc(builder.lshr(product, ir.Constant(wide, [16] * count)), one.type)


def _pointer(context: Any, builder: ir.IRBuilder, data: Any, args: Any, kind: ir.Type) -> ir.Value:
    """The place in bytes, of a vector of this type."""
    return builder.bitcast(builder.gep(emit.data_of(context, builder, data, args[0]), [args[1]]), kind.as_pointer())


def converted(builder: ir.IRBuilder, value: ir.Value, one: np.dtype, other: np.dtype) -> ir.Value:
    """A vector of another dtype; integers of at most 32 bits."""
    if one == other:
        return value
    count = value.type.count

    def resized(value: ir.Value, bits: int) -> ir.Value:
        kind = ir.VectorType(ir.IntType(bits), count)
        if bits <= value.type.element.width:
            return value if bits == value.type.element.width else builder.trunc(value, kind)
        return (builder.sext if one.kind == "i" else builder.zext)(value, kind)

    if one.kind != "f" and other.kind != "f":
        return resized(value, 8 * other.itemsize)
    kind = ir.VectorType(emit.scalar(other), count)
    if one.kind != "f":
        return builder.sitofp(resized(value, 32), kind)
    if other.kind != "f":
        return resized(builder.fptosi(value, ir.VectorType(emit.I32, count)), 8 * other.itemsize)
    return (builder.fpext if one.itemsize < other.itemsize else builder.fptrunc)(value, kind)


@lru_cache(maxsize=16)
def prefix_sums(step: int) -> Any:
    """A function for kernels: a vector's sums of each element, and of those some steps in front of it."""

    def plain(vector):
        total = vector.copy()
        for first in range(min(step, total.size)):
            total[first::step] = np.cumsum(total[first::step], dtype=total.dtype)
        return total

    @intrinsic(plain=plain)
    def sums(typingctx, vector):
        def codegen(context, builder, sig, args):
            (value,), distance = args, step
            while distance < vector.count:
                places = [lane - distance for lane in range(vector.count)]
                value = emit.plus(builder, value, _moved(builder, value, places))
                distance *= 2
            return value

        return vector(vector), codegen

    return sums


@lru_cache(maxsize=16)
def last_of_each(step: int) -> Any:
    """A function for kernels: each element's last one of a vector, some steps in front of it, of as many whole steps as
    there are."""

    def places(count):
        return [count // step * step - step + lane % step for lane in range(count)]

    def plain(vector):
        return vector[places(vector.size)]

    @intrinsic(plain=plain)
    def last(typingctx, vector):
        def codegen(context, builder, sig, args):
            return _moved(builder, args[0], places(vector.count))

        return vector(vector), codegen

    return last


def _moved(builder: ir.IRBuilder, value: ir.Value, places: list[int]) -> ir.Value:
    """The elements at some places of a vector; zeros for those that are negative."""
    count = value.type.count
    order = ir.Constant(ir.VectorType(emit.I32, count), [place if place >= 0 else count for place in places])
    return builder.shuffle_vector(value, ir.Constant(value.type, None), order)
