"""Functions written in LLVM IR by hand, for the wrappers around kernels: Numba makes functions of Python's code only.

It is the one file outside `tiles` that imports `llvmlite.ir`.

What Python hands to a kernel takes longer than a small problem's kernel: ten arrays are looked at, each of them an
object somewhere in memory. Where a call is repeated, `direct` takes all but two of them from one piece of memory.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

#: Where objects of CPython and NumPy have what is read here, in bytes: a tuple its first element, behind the head that
#: all objects have and a number; an array its data, and its flags behind five pointers and a number.
_HEAD = object.__basicsize__
_ITEMS, _DATA, _FLAGS = _HEAD + 8, _HEAD, _HEAD + 48
#: The flag of arrays whose elements lie at multiples of their size.
_ALIGNED = 0x100


def reads_objects() -> bool:
    """Whether objects lie as `direct` reads them, and are read by one thread at a time."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    one = np.zeros(3)
    there = {place: ctypes.c_void_p.from_address(id(one) + place).value for place in (_DATA, _FLAGS)}
    flags = (there[_FLAGS] or 0) & 0xFFFFFFFF
    pair = (one,)
    held = ctypes.c_void_p.from_address(id(pair) + _ITEMS).value
    return there[_DATA] == one.ctypes.data and flags == one.flags.num and held == id(one)


def record(*kinds: ir.Type) -> ir.Type:
    """The type of a structure of these."""
    return ir.LiteralStructType(kinds)


def signature(*kinds: ir.Type) -> ir.FunctionType:
    """The type of a function of these arguments that returns nothing."""
    return ir.FunctionType(ir.VoidType(), kinds)


def define(module: ir.Module, kind: ir.FunctionType, name: str) -> tuple[Any, ir.IRBuilder]:
    """A new function, and the builder at its beginning."""
    function = ir.Function(module, kind, name)
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def tell(builder: ir.IRBuilder, place: ir.Value, data: ir.Value, only_size: ir.Value) -> None:
    """Write the size in bytes of what `data` points to at an address, or what lies there."""
    size = cgutils.sizeof(builder, data.type)
    with builder.if_else(only_size) as (ask, copy):
        with ask:
            builder.store(size, builder.inttoptr(place, size.type.as_pointer()))
        with copy:
            cgutils.raw_memcpy(builder, builder.inttoptr(place, data.type), data, size, 1)


def direct(context: Any, module: ir.Module, name: str, share: Any, data_type: ir.Type, arrays: Any) -> None:
    """Define a function for Python, ``direct(record, x, out)``, that runs a kernel as one share, on the calling thread.

    `record` is an array that holds all arguments of `share`, as `tell` has written them; in place of the data of the
    first two it takes those of `x` and `out`, of which nothing else is looked at. So they must lie as those two did.
    The answer is False if nothing was done, because an array is not aligned, or if the kernel failed.
    """
    pointer, size, code = cgutils.voidptr_t, cgutils.intp_t, cgutils.int32_t
    function, builder = define(module, ir.FunctionType(pointer, [pointer] * 3), name)

    def field(of: ir.Value, place: int, kind: ir.Type) -> ir.Value:
        return builder.load(builder.bitcast(builder.gep(of, [size(place)]), kind.as_pointer()))

    given, x, out = (field(function.args[1], _ITEMS + 8 * number, pointer) for number in range(3))
    data = cgutils.alloca_once(builder, data_type)
    both = builder.and_(field(x, _FLAGS, code), field(out, _FLAGS, code))
    failed = cgutils.alloca_once_value(builder, code(1))
    with builder.if_then(builder.icmp_signed("!=", builder.and_(both, code(_ALIGNED)), code(0)), likely=True):
        record = builder.bitcast(field(given, _DATA, pointer), data.type)
        cgutils.raw_memcpy(builder, data, record, cgutils.sizeof(builder, data.type), 1)
        for number, (kind, array) in enumerate(zip(arrays, (x, out), strict=True)):
            place = cgutils.gep_inbounds(builder, data, 0, number)
            made = context.make_array(kind)(context, builder, ref=place)
            made.data = builder.bitcast(field(array, _DATA, pointer), made.data.type)
        last = len(data_type.elements)
        first, one = cgutils.alloca_once_value(builder, pointer(None)), cgutils.alloca_once_value(builder, size(1))
        for number, value in enumerate((size(1), code(0), pointer(None))):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, last - 3 + number))
        builder.call(share, [builder.bitcast(first, pointer.as_pointer()), one, one, builder.bitcast(data, pointer)])
        builder.store(builder.load(cgutils.gep_inbounds(builder, data, 0, last - 2)), failed)
    done = builder.icmp_signed("==", builder.load(failed), code(0))
    builder.ret(context.get_python_api(builder).bool_from_bool(done))

