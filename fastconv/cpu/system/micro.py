"""Micro-kernels: register tiles and transforms that kernels call by address, each built once for a shape and a dtype.

A kernel that contains its inner loops must be compiled for every shape of them. A kernel that is handed their addresses
is compiled once for a dtype; a shape then adds some 0.05 s, for one straight piece of vector code. A call costs a few
nanoseconds, so a micro-kernel is a loop of some length: a tile's sums, a line of transforms.

    sums = micro.address(register_tile, (rows, vectors), (array(x), PLACE, ..., array(out), PLACE))    # in Python
    micro.call(sums, x, at, ..., out, to)                                                             # in a kernel

Arrays are handed on as the address of their first element and their size, whatever their shape; the micro-kernel sees
them as one row. An address does not tell the types it was built for: the arguments of a call must have just these.

Source: Van Zee and van de Geijn, BLIS: a framework for rapidly instantiating BLAS functionality, 2015.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import from_dtype
from numba.core import cgutils, types
from numba.core.callconv import RETCODE_OK, excinfo_ptr_t
from numba.core.compiler_lock import global_compiler_lock
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from . import wrappers
from .building import TARGET, Library, compiling
from .disk_cache import CodeFiles
from .launching import keep, load
from .plain import PLAIN

#: An index into an array, or a number of elements.
PLACE = types.int64


def array(dtype: Any) -> types.Array:
    """Numba's type of an array argument of a micro-kernel."""
    return types.Array(from_dtype(np.dtype(dtype)), 1, "C")


def scalar(dtype: Any) -> types.Type:
    """Numba's type of a number of a dtype."""
    return from_dtype(np.dtype(dtype))


_addresses: dict[tuple, int] = {}
#: The functions themselves, if kernels run as Python: an address is then a place in this list.
_plain: list[Callable] = []


def address(factory: Callable[..., Any], key: tuple, argtypes: tuple[types.Type, ...]) -> int:
    """Address of the code of ``factory(*key)``, a function for kernels, for arguments of these types."""
    known = factory, key, argtypes
    if known not in _addresses:
        with global_compiler_lock:
            if known not in _addresses:
                _addresses[known] = _address(getattr(factory, "__wrapped__", factory), key, argtypes)
    return _addresses[known]


def _address(factory: Callable[..., Any], key: tuple, argtypes: tuple[types.Type, ...]) -> int:
    """Load the code, or build and save it."""
    if PLAIN:
        _plain.append(factory(*key))
        return len(_plain) - 1
    told = hashlib.sha256(repr((factory.__module__, factory.__qualname__, key, argtypes)).encode()).hexdigest()[:24]
    name, files = f"micro.{factory.__name__}.{told}", CodeFiles(factory, key, {})
    found = load(files, argtypes)
    if found is not None:
        return found[2]
    with compiling():
        library = _built(name, factory(*key), argtypes)
    keep(files, argtypes, library, name)
    return library.get_pointer_to_function(name)


def _built(name: str, function: Any, argtypes: tuple[types.Type, ...]) -> Library:
    typing, context = TARGET.typing_context, TARGET.target_context
    typing.refresh()
    context.refresh()
    library = Library(context.codegen(), name)
    library.is_whole = True
    library.enable_object_caching()
    module = library.create_ir_module(name)
    with context.push_code_library(library):
        kind = typing.resolve_value_type(function)
        called = typing.resolve_function_type(kind, argtypes, {})
        flat = _flat_types(argtypes)
        convention = context.call_conv
        made, builder = wrappers.define(module, convention.get_function_type(types.none, flat), name)
        given = iter(made.args[2:])
        values = [_array(context, builder, one, given) if isinstance(one, types.Array) else next(given)
                  for one in argtypes]  # fmt: skip
        context.get_function(kind, called)(builder, values)
        convention._return_errcode_raw(builder, RETCODE_OK)
    library.add_ir_module(module)
    library.finalize()
    return library


def _flat_types(argtypes: tuple[types.Type, ...]) -> tuple[types.Type, ...]:
    """The types of arguments as they are handed on: an array as pointer and size."""
    flat: list[types.Type] = []
    for kind in argtypes:
        flat += [types.CPointer(kind.dtype), types.int64] if isinstance(kind, types.Array) else [kind]
    return tuple(flat)


def _array(context, builder, kind, given):
    """An array of one row from its pointer and size."""
    data, size = next(given), next(given)
    item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    made = context.make_array(kind)(context, builder)
    made.data, made.nitems, made.itemsize = data, size, item
    made.shape, made.strides = cgutils.pack_array(builder, [size]), cgutils.pack_array(builder, [item])
    made.meminfo, made.parent = (part.type(None) for part in (made.meminfo, made.parent))
    return made._getvalue()


def call(address: int, *args: Any) -> None:
    """Call the micro-kernel at an address, in a kernel. Numbers of 64 bits are handed on as indices."""
    if not PLAIN:
        raise TypeError("micro-kernels are called by kernels")
    _plain[address](*(arg.reshape(-1) if isinstance(arg, np.ndarray) else arg for arg in args))


@infer_global(call)
class _Call(AbstractTemplate):
    def generic(self, args, kws):
        return signature(types.void, types.int64, *map(_exact, args[1:]))


@lower_builtin(call, types.VarArg(types.Any))
def _lower_call(context, builder, sig, args):
    (place, *values), kinds, convention = args, sig.args[1:], context.call_conv
    flat = []
    for value, one in zip(values, kinds, strict=True):
        if isinstance(one, types.Array):
            found = context.make_array(one)(context, builder, value)
            flat += [found.data, found.nitems]
        else:
            flat.append(value)
    kind = convention.get_function_type(types.none, _flat_types(kinds))
    failure = cgutils.alloca_once(builder, excinfo_ptr_t)
    code = builder.call(builder.inttoptr(place, kind.as_pointer()), [kind.args[0](None), failure, *flat])
    with builder.if_then(builder.icmp_signed("!=", code, code.type(0)), likely=False):
        status = convention._get_return_status(builder, code, builder.load(failure))
        convention.return_status_propagate(builder, status)
    return context.get_dummy_value()


def _exact(kind: Any) -> Any:
    kind = types.unliteral(kind)
    return types.int64 if kind in (types.int64, types.uint64) else kind
