"""Bands of an image, extended beyond its rims in a thread's scratch: how every filter of `fastconv.ndimage` reads.

::

    band[t, r, p, q] = x[lead(t), rows[row0 + r], columns[col0 + p], q]    for each tap t of the leading axes

An image of any number of axes is seen as ``[leading axes ...][rows][columns][inner]``: rows and columns are the axes
that windows move along in cache, `inner` what lies between two columns (the channels of a colour image, channels last),
and the leading axes those further out, along which a window may have taps, too. What a position outside stands for is
looked up in a table for each axis (`specs.boundary.sources`), so no loop knows a boundary mode, and a window may be
larger than the image. Only a band is ever made: a few rows, of a block of columns, that fit in the second-level cache.

Pixels are read as bytes, with any strides, and converted on the way. `loader` and `storer` are micro-kernels: a kernel
that is handed their addresses is compiled once for the dtype that it computes in, and 0.05 s more for each dtype of
images. In scratch a row begins `pitch` elements after the one before, and a window's tap is at the same distance from
every pixel: passes run over all rows of a band as one long row, and what they make of the columns behind its end is not
used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types

from ..system import micro
from ..system.building import intrinsic
from ..system.kernels import jit
from ..tiles import emit

# -- the geometry of a problem, as int64 numbers ---------------------------------------------------------------

#: Rows of a band, bands, columns of a block, blocks; elements from a row to the next in scratch; number of leading
#: axes.
BAND, BANDS, BLOCK, BLOCKS, PITCH, LEADS = range(6)
#: Columns: elements between two; how many; taps; positions in front in the table; the table's place; bytes from one to
#: the next in the image and in the result.
INNER, COLUMNS, COLUMN_TAPS, COLUMN_BEFORE, COLUMN_TABLE, COLUMN_STEP, COLUMN_OUT = range(6, 13)
#: Bytes from one inner element to the next, in both.
INNER_STEP, INNER_OUT = range(13, 15)
#: The first byte of the image and of the result.
START, START_OUT = range(15, 17)
#: All axes from the rows outwards, so many numbers each from `AXES` on: size, taps, the table's place, bytes from one
#: to the next in the image and in the result.
AXES = 17
AXIS_SIZE, AXIS_TAPS, AXIS_TABLE, AXIS_STEP, AXIS_OUT, AXIS_NUMBERS = range(6)


# -- elements ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _reader(dtype: str) -> Any:
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
def _writer(dtype: str) -> Any:
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


# -- micro-kernels -------------------------------------------------------------------------------------------


def stored(dtype: np.dtype) -> str:
    """The name of the dtype that images of `dtype` are read and written as: bools are bytes."""
    return np.dtype(np.uint8 if dtype == np.bool_ else dtype).name


@lru_cache(maxsize=64)
def row_loader(source: str, target: str, present: bool) -> Any:
    """A function for kernels that loads a block of a row, extended; its arguments are those of `loader`."""
    read, convert = _reader(source), converter(source, target)
    size = np.dtype(source).itemsize
    zero, one = np.dtype(target).type(0), np.dtype(target).type(1)

    @jit(key=(source, target, present))
    def load_row(x, start, tables, geometry, first, count, fill, row, to, apart):
        inner, before, columns = at(geometry, INNER), at(geometry, COLUMN_BEFORE), at(geometry, COLUMNS)
        step, inner_step = at(geometry, COLUMN_STEP), at(geometry, INNER_STEP)
        if start < 0:
            there = fill == fill
            for k in range(count * inner):
                if present:
                    put(row, to + apart + k, one if there else zero)
                    put(row, to + k, fill if there else zero)
                else:
                    put(row, to + k, fill)
            return
        low = min(max(before - first, 0), count)
        high = max(low, min(before + columns - first, count))
        origin = start + (first + low - before) * step
        if inner_step == size and (step == inner * size or high - low == 1):
            for k in range((high - low) * inner):
                value, place = convert(read(x, origin + k * size)), to + low * inner + k
                if present:
                    there = value == value
                    put(row, place + apart, one if there else zero)
                    value = value if there else zero
                put(row, place, value)
        elif inner == 1:
            for k in range(high - low):
                value, place = convert(read(x, origin + k * step)), to + low + k
                if present:
                    there = value == value
                    put(row, place + apart, one if there else zero)
                    value = value if there else zero
                put(row, place, value)
        else:
            for p in range(high - low):
                for q in range(inner):
                    value, place = convert(read(x, origin + p * step + q * inner_step)), to + (low + p) * inner + q
                    if present:
                        there = value == value
                        put(row, place + apart, one if there else zero)
                        value = value if there else zero
                    put(row, place, value)
        table = at(geometry, COLUMN_TABLE) + first
        for k in range(low + count - high):
            p = k if k < low else high + k - low
            column = at(tables, table + p)
            for q in range(inner):
                value, place = fill, to + p * inner + q
                if column >= 0:
                    value = convert(read(x, start + column * step + q * inner_step))
                if present:
                    there = value == value
                    put(row, place + apart, one if there else zero)
                    value = value if there else zero
                put(row, place, value)

    return load_row


def loader(source: np.dtype, target: np.dtype, present: bool = False) -> int:
    """The address of the micro-kernel that loads a block of a row of an image, extended beyond the rims.

    It is called as ``(x, start, tables, geometry, first, count, fill, row, to, apart)``: from the row's first byte (-1:
    a row outside, of `fill`), so many positions from `first` on, as the columns' table counts them, into ``row[to:]``.
    With `present`, NaN become zeros, and ``row[to + apart:]`` tells with ones and zeros what was none.
    """
    number = micro.scalar(target)
    integers, row = micro.array(np.int64), micro.array(target)
    place = micro.PLACE
    arguments = micro.array(np.uint8), place, integers, integers, place, place, number, row, place, place
    return micro.address(row_loader, (stored(source), np.dtype(target).name, present), arguments)


@lru_cache(maxsize=64)
def row_storer(source: str, target: str, rule: str) -> Any:
    """A function for kernels that stores a block of a row; its arguments are those of `storer`."""
    other = np.dtype("u1" if target == "bool" else target)
    write, size, settle = _writer(other.name), other.itemsize, settler(source, target, rule)

    @jit(key=(source, target, rule))
    def store_row(row, place, geometry, count, out, start):
        inner, step, inner_step = at(geometry, INNER), at(geometry, COLUMN_OUT), at(geometry, INNER_OUT)
        if inner_step == size and (step == inner * size or count == 1):
            for k in range(count * inner):
                write(out, start + k * size, settle(at(row, place + k)))
        elif inner == 1:
            for k in range(count):
                write(out, start + k * step, settle(at(row, place + k)))
        else:
            for p in range(count):
                for q in range(inner):
                    write(out, start + p * step + q * inner_step, settle(at(row, place + p * inner + q)))

    return store_row


def storer(source: np.dtype, target: np.dtype, rule: str = "cast") -> int:
    """The address of the micro-kernel that stores a block of a row of a result: ``(row, place, geometry, count, out,
    start)``.

    `rule` says how numbers become the result's: "cast", as `converter` says; "saturate", rounded half to even, and the
    nearest that there is.
    """
    row, place = micro.array(source), micro.PLACE
    arguments = row, place, micro.array(np.int64), place, micro.array(np.uint8), place
    name = "bool" if target == np.bool_ else np.dtype(target).name
    return micro.address(row_storer, (np.dtype(source).name, name, rule), arguments)


@lru_cache(maxsize=64)
def settler(source: str, target: str, rule: str) -> Any:
    """A function for kernels: the number of dtype `target` for one of `source`, by a `rule` of `storer`."""
    other = np.dtype("u1" if target == "bool" else target)
    convert, is_bool = converter(source, other.name), target == "bool"
    saturates = rule == "saturate" and np.dtype(source).kind == "f" and other.kind in "iu"
    if not saturates:

        @jit(key=(source, target, rule))
        def cast(value):
            number = convert(value)
            if is_bool:
                number = other.type(1) if number != 0 else other.type(0)
            return number

        return cast

    kind, limits = np.dtype(source).type, np.iinfo(other)
    lowest, highest = limits.min, limits.max
    # The largest float that is no larger than the largest integer: 2**63 does not fit, and rounds to it.
    top = kind(highest) if int(kind(highest)) <= highest else np.nextafter(kind(highest), kind(0))
    bottom, most, least = kind(lowest), other.type(highest), other.type(lowest)
    nothing = other.type(0)

    @jit(key=(source, target, rule))
    def saturated(value):
        whole = _nearest_even(value)
        if whole != whole:
            return nothing
        if whole > top:
            return most
        if whole < bottom:
            return least
        return convert(whole)

    return saturated


@intrinsic(plain=np.rint)
def _nearest_even(typingctx, value):
    """The nearest whole number, of two the even one."""
    return value(value), lambda context, builder, sig, args: _rint(builder, args[0])


def _rint(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return emit.call(builder, f"llvm.rint.{emit.suffix(value.type)}", value.type, [value])


# -- bands ---------------------------------------------------------------------------------------------------


@jit
def load_band(load, x, tables, geometry, lead, row0, rows, col0, columns, fill, scratch, to, apart):
    """Load the rows and columns that windows at `rows` x `columns` places see, for all taps of the leading axes.

    `lead` numbers the place on the leading axes. A tap's rows follow the ones of the tap before, as if there were a
    whole band of them.
    """
    leads, pitch = at(geometry, LEADS), at(geometry, PITCH)
    row_taps, row_table, row_step = (at(geometry, AXES + AXIS_TAPS), at(geometry, AXES + AXIS_TABLE),
                                     at(geometry, AXES + AXIS_STEP))  # fmt: skip
    plane, seen = (at(geometry, BAND) + row_taps - 1) * pitch, columns + at(geometry, COLUMN_TAPS) - 1
    taps = 1
    for number in range(1, leads + 1):
        taps *= at(geometry, AXES + number * AXIS_NUMBERS + AXIS_TAPS)
    for tap in range(taps):
        place, turn, start = lead, tap, at(geometry, START)
        for number in range(1, leads + 1):
            axis = AXES + number * AXIS_NUMBERS
            size, count = at(geometry, axis + AXIS_SIZE), at(geometry, axis + AXIS_TAPS)
            source = at(tables, at(geometry, axis + AXIS_TABLE) + place % size + turn % count)
            place, turn = place // size, turn // count
            if source < 0:
                start = -1
            elif start >= 0:
                start += source * at(geometry, axis + AXIS_STEP)
        for r in range(rows + row_taps - 1):
            source = at(tables, row_table + row0 + r)
            begin = start + source * row_step if start >= 0 and source >= 0 else -1
            goal = to + tap * plane + r * pitch
            micro.call(load, x, begin, tables, geometry, col0, seen, fill, scratch, goal, apart)


@jit
def store_band(store, scratch, place, geometry, lead, row0, rows, col0, columns, out):
    """Store a band of results, which lies in scratch from `place` on."""
    start = at(geometry, START_OUT) + row0 * at(geometry, AXES + AXIS_OUT) + col0 * at(geometry, COLUMN_OUT)
    for number in range(1, at(geometry, LEADS) + 1):
        axis = AXES + number * AXIS_NUMBERS
        size = at(geometry, axis + AXIS_SIZE)
        start += lead % size * at(geometry, axis + AXIS_OUT)
        lead = lead // size
    for r in range(rows):
        micro.call(
            store, scratch, place + r * at(geometry, PITCH), geometry, columns, out, start + r * at(geometry, AXES +
            AXIS_OUT)
        )
