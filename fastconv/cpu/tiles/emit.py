"""Functions that emit one vector instruction, or a few, in LLVM IR: the parts that tiles are made of."""

from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config

from ..system.plain import PLAIN


def is_plain() -> bool:
    """Whether plain loops take the place of register tiles."""
    checked = bool(config.BOUNDSCHECK)  # type: ignore[attr-defined] # Numba sets it from the environment
    return PLAIN or checked or os.environ.get("FASTCONV_SIMD") == "0"


INT = ir.IntType(64)


I32 = ir.IntType(32)


BIT = ir.IntType(1)


def splat(builder: ir.IRBuilder, scalar: ir.Value, count: int) -> ir.Value:
    """A vector whose elements all are `scalar`."""
    kind = ir.VectorType(scalar.type, count)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, count), None))


def call(builder: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def suffix(kind: ir.Type) -> str:
    """LLVM's name of a type in the name of an overloaded intrinsic."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{suffix(kind.element)}"
    return {ir.FloatType(): "f32", ir.DoubleType(): "f64"}.get(kind) or f"i{kind.width}"


def fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c; floats rounded once, where the processor can."""
    if isinstance(a.type.element, ir.IntType):
        return builder.add(builder.mul(a, b), c)
    return call(builder, f"llvm.fmuladd.{suffix(a.type)}", a.type, [a, b, c])


def call_once_emitted(builder: ir.IRBuilder, name: str, args: list[ir.Value], emit: Any) -> None:
    """Call what ``emit(builder, *args)`` emits, as a function that all of a kernel's code shares: it is long."""
    module = builder.module
    if name not in module.globals:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [value.type for value in args]), name)
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        emit(inner, *function.args)
        inner.ret_void()
    builder.call(module.globals[name], args)


def plus(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.add(a, b) if isinstance(a.type.element, ir.IntType) else builder.fadd(a, b)


def data_of(context, builder, array_type, array) -> ir.Value:
    """A pointer to the first element of an array."""
    return context.make_array(array_type)(context, builder, array).data


def vector_pointer(builder, data, index, count):
    return builder.bitcast(builder.gep(data, [index]), ir.VectorType(data.type.pointee, count).as_pointer())


def load(builder, data, index, count):
    result = builder.load(vector_pointer(builder, data, index, count))
    result.align = 1
    return result


def store(builder, value, data, index):
    builder.store(value, vector_pointer(builder, data, index, value.type.count)).align = 1


def loop(builder: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: ir.Value, carried: list, body: Any) -> list:
    """``for t in range(start, stop, step): carried = body(t, carried)``, of values; the last ones are returned."""
    before, head = builder.block, builder.append_basic_block("head")
    builder.branch(head)
    builder.position_at_end(head)
    t = builder.phi(INT)
    held = [builder.phi(value.type) for value in carried]
    turn, done = builder.append_basic_block("turn"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", t, stop), turn, done)
    builder.position_at_end(turn)
    new = body(t, list(held))
    following, end = builder.add(t, step), builder.block
    builder.branch(head)
    for phi, one, other in zip([t, *held], [start, *carried], [following, *new], strict=True):
        phi.add_incoming(one, before)
        phi.add_incoming(other, end)
    builder.position_at_end(done)
    return held


def first_lanes(builder, count, valid):
    """A mask of the first `valid` of `count` lanes."""
    numbers = ir.Constant(ir.VectorType(I32, count), list(range(count)))
    return builder.icmp_signed("<", numbers, splat(builder, builder.trunc(valid, I32), count))


def load_masked(builder, data, index, mask, others=None):
    """A vector of which only the lanes in `mask` are read; the other lanes are those of `others`, by default zeros."""
    kind = ir.VectorType(data.type.pointee, mask.type.count)
    pointer = vector_pointer(builder, data, index, kind.count)
    arguments = [pointer, I32(1), mask, others or ir.Constant(kind, None)]
    return call(builder, f"llvm.masked.load.{suffix(kind)}.p0", kind, arguments)


def store_masked(builder, value, data, index, mask):
    pointer = vector_pointer(builder, data, index, value.type.count)
    call(builder, f"llvm.masked.store.{suffix(value.type)}.p0", ir.VoidType(), [value, pointer, I32(1), mask])


def prefetch(builder, data, first, count, level=3):
    """Fetch `count` elements from `first` on, which need not exist, into the caches (level 2: not into the first)."""
    for at in range(first, first + count, 64 * 8 // bits_of(data.type.pointee)):
        place = builder.bitcast(builder.gep(data, [INT(at)]), ir.IntType(8).as_pointer())
        call(builder, "llvm.prefetch.p0", ir.VoidType(), [place, I32(0), I32(level), I32(1)])


def bits_of(kind: ir.Type) -> int:
    return {ir.FloatType(): 32, ir.DoubleType(): 64}.get(kind) or kind.width


def convert(builder, value, source: Any, target: Any, count: int):
    """`value`, a scalar or vector of Numba type `source`, as `target`: integers only grow, floats stay."""
    if source == target:
        return value
    element = ir.IntType(target.bitwidth)
    kind = ir.VectorType(element, count) if isinstance(value.type, ir.VectorType) else element
    return builder.sext(value, kind) if source.signed else builder.zext(value, kind)


def wins(builder, scalar: Any, a: ir.Value, b: ir.Value, order: str = ">") -> ir.Value:
    """A mask of the lanes where `a` is larger than `b` (smaller for the order "<"), or NaN."""
    if isinstance(scalar, types.Float):
        return builder.or_(builder.fcmp_ordered(order, a, b), builder.fcmp_unordered("uno", a, a))
    compare = builder.icmp_signed if scalar.signed else builder.icmp_unsigned
    return compare(order, a, b)


def larger(builder, scalar: Any, a: ir.Value, b: ir.Value, order: str = ">") -> ir.Value:
    """The one of `a` and `b` that `wins`."""
    if not isinstance(scalar, types.Float):
        return builder.select(wins(builder, scalar, a, b, order), a, b)
    # NEON has this in one instruction. x86 takes `b` for its maximum if either is NaN, so only NaNs in `a` are looked
    # for, beside a maximum that waits for `b`. Without "nsz" it would also tell zeros by their signs.
    kind = ir.FunctionType(a.type, [a.type, a.type])
    name = f"llvm.{'maximum' if order == '>' else 'minimum'}.{suffix(a.type)}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b], fastmath=("nsz",))


def steps(builder: ir.IRBuilder, first: ir.Value, step: ir.Value, count: int) -> list[ir.Value]:
    """first, first + step, ...: by additions, as multiplications would take half the time of a transpose."""
    places = [first]
    while len(places) < count:
        places.append(builder.add(places[-1], step))
    return places


def transposed(builder, vectors: list[ir.Value]) -> list[ir.Value]:
    """A square block transposed in log2(size) rounds: each swaps the off-diagonal quarters of blocks half as large."""
    size = len(vectors)
    half = size // 2
    while half:
        done = list(vectors)
        low = [lane if not lane & half else size + lane - half for lane in range(size)]
        high = [lane + half if not lane & half else size + lane for lane in range(size)]
        for row in range(size):
            if not row & half:
                a, b = vectors[row], vectors[row + half]
                for at, order in ((row, low), (row + half, high)):
                    lanes_ = ir.Constant(ir.VectorType(I32, size), order)
                    done[at] = builder.shuffle_vector(a, b, lanes_)
        vectors, half = done, half // 2
    return vectors


def exchanged(builder, vector, distance):
    """A vector whose element l is the element l ^ distance of another, for a power of two."""
    lanes = ir.Constant(ir.VectorType(I32, vector.type.count), [lane ^ distance for lane in range(vector.type.count)])
    return builder.shuffle_vector(vector, vector, lanes)


def add_squares(builder, vectors, data, index):
    """Add the squares of vectors of floats to the vector that lies at an index."""
    before = load(builder, data, index, vectors[0].type.count)
    sums = [builder.fmul(vector, vector) for vector in vectors[:4]]  # four, not to wait for one
    for number, vector in enumerate(vectors[4:]):
        sums[number % 4] = fma(builder, vector, vector, sums[number % 4])
    while len(sums) > 1:
        sums = [builder.fadd(*pair) for pair in zip(sums[::2], sums[1::2], strict=True)]
    store(builder, builder.fadd(before, sums[0]), data, index)  # last, for the next call waits for it


def clamped(builder, value, lowest):
    """The larger of two scalars or vectors; a NaN stays."""
    is_int = isinstance(getattr(value.type, "element", value.type), ir.IntType)
    below = builder.icmp_signed("<", value, lowest) if is_int else builder.fcmp_ordered("<", value, lowest)
    return builder.select(below, lowest, value)


def store_valid(builder, vectors, places, columns, goal, valid, likely=None):
    """Store vectors at flat places; of each, which begins at its of the `columns`, only the lanes before `valid`."""
    end = max(column + vector.type.count for column, vector in zip(columns, vectors, strict=True))
    with builder.if_else(builder.icmp_signed(">=", valid, INT(end)), likely=likely) as (whole, part):
        with whole:  # masks cost, also where all their bits are set
            for vector, place in zip(vectors, places, strict=True):
                store(builder, vector, goal, place)
        with part:
            masks: dict = {}
            for vector, place, column in zip(vectors, places, columns, strict=True):
                if column not in masks:
                    masks[column] = first_lanes(builder, vector.type.count, builder.sub(valid, INT(column)))
                store_masked(builder, vector, goal, place, masks[column])


def write(builder, vectors, goal, pitch, origin, valid):
    """Store vector k at row origin[0] + k, column origin[1] of a matrix, as far as it lies in valid[0] x valid[1]."""
    count = vectors[0].type.count
    ends = INT(origin[0] + len(vectors)), INT(origin[1] + count)
    places = [builder.add(builder.mul(INT(origin[0] + k), pitch), INT(origin[1])) for k in range(len(vectors))]
    inside = [builder.icmp_signed(">=", size, end) for size, end in zip(valid, ends, strict=True)]
    with builder.if_else(builder.and_(*inside), likely=True) as (whole, part):
        with whole:  # masks cost, also where all their bits are set
            for place, vector in zip(places, vectors, strict=True):
                store(builder, vector, goal, place)
        with part:
            mask = first_lanes(builder, count, builder.sub(valid[1], INT(origin[1])))
            for k, (place, vector) in enumerate(zip(places, vectors, strict=True)):
                with builder.if_then(builder.icmp_signed("<", INT(origin[0] + k), valid[0]), likely=True):
                    store_masked(builder, vector, goal, place, mask)
