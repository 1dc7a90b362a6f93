"""Kernels made callable from Python: shares of their tasks, their start on Numba's threads, and their code on disk.

A kernel is written with ``numba.prange`` and ``numba.get_thread_id()``, as Numba would compile it by itself, and
lowered as serial code with two more arguments, ``share`` and ``shares``: its loop runs over that share of the tasks.
`_start` calls it once, or hands it to Numba's threads, from the same machine code; so a problem that is too small for
threads waits for no second build, and a result does not depend on how many there are.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import types as types_
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import _dynfunc  # type: ignore[attr-defined] # a module in C
from numba.core import cgutils, itanium_mangler, sigutils, types
from numba.core import ir as numba_ir
from numba.core.callconv import excinfo_ptr_t
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.environment import Environment
from numba.core.registry import CPUDispatcher

from . import loops, wrappers
from .building import OPTIONS, TARGET, Function, Library, Pipeline, compiling, intrinsic
from .disk_cache import CodeFiles
from .plain import PLAIN, Plain

# -- shares --------------------------------------------------------------------------------------------------


@register_pass(mutates_CFG=False, analysis_only=False)
class _Shares(FunctionPass):
    """Gives a kernel two more arguments, ``share`` and ``shares``, and its ``prange(n)`` that share of the n tasks.

    ``numba.get_thread_id()`` becomes the share: each runs on one thread, and no two at once have the same number.
    """

    _name = "fastconv_shares"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        function = state.func_ir
        first = function.blocks[min(function.blocks)]
        names = "share", "shares"
        extra = []
        for number, name in enumerate(names):
            variable = numba_ir.Var(first.scope, f"${name}", function.loc)
            value = numba_ir.Arg(f"${name}", function.arg_count + number, function.loc)
            extra.append(numba_ir.Assign(value, variable, function.loc))
        variables = [statement.target for statement in extra]
        ranges = set()
        for block in function.blocks.values():
            for statement in block.find_insts(numba_ir.Assign):
                value = statement.value
                if isinstance(value, (numba_ir.Global, numba_ir.FreeVar)) and value.value is numba.prange:
                    statement.value = numba_ir.Global("share_of", _share_of, value.loc)
                    ranges.add(statement.target.name)
        calls = 0
        for block in function.blocks.values():
            for statement in block.find_insts(numba_ir.Assign):
                value = statement.value
                if not (isinstance(value, numba_ir.Expr) and value.op == "call"):
                    continue
                if value.func.name in ranges:
                    value.args = [*value.args, *variables]
                    calls += 1
                elif _called(function, value) is numba.get_thread_id:
                    statement.value = variables[0]
        if calls != 1:
            raise TypeError(f"{state.func_id.func_qualname} has {calls} parallel loops, not one")
        first.body[:0] = extra
        function.arg_names = [*function.arg_names, *(f"${name}" for name in names)]
        function.arg_count += 2
        state.nargs = function.arg_count
        for statement in extra:
            function._definitions[statement.target.name] = [statement.value]
        return True


def _called(function: Any, call: Any) -> Any:
    """The Python object that a call expression calls, if it is a global or an attribute of one."""
    definition = function._definitions.get(call.func.name, [None])[0]
    if isinstance(definition, numba_ir.Expr) and definition.op == "getattr":
        owner = function._definitions[definition.value.name][0]
        return getattr(getattr(owner, "value", None), definition.attr, None)
    return getattr(definition, "value", None)


class _KernelPipeline(Pipeline):
    def untyped(self) -> tuple[Any, ...]:
        first, fixup, *others = super().untyped()
        return (first, _Shares, fixup, *others)


@intrinsic
def _share_of(typingctx, tasks, share, shares):
    kind = loops.Range(types.int64, True)

    def codegen(context, builder, sig, args):
        count, number, parts = args
        first, last = (
            builder.sdiv(builder.mul(count, at), parts) for at in (number, builder.add(number, number.type(1)))
        )
        return loops.range_value(context, builder, kind, first, last, number.type(1))

    return kind(types.int64, types.int64, types.int64), codegen


# -- start ---------------------------------------------------------------------------------------------------


_BYTES, _SIZE, _CODE = cgutils.voidptr_t, cgutils.intp_t, cgutils.int32_t


@intrinsic
def _start(typingctx, kernel, team, threads, arguments):
    """Run a kernel in `threads` shares: by `team`, the address of ``numba_parallel_for``; a single share runs here.

    Of no shares nothing runs: the arguments are written to the address `team` as `wrappers.direct` takes them, of -1
    how many bytes these are.
    """
    integer = types.int64
    argtypes = (*arguments, integer, integer)
    kernel.dispatcher.compile(argtypes)
    compiled = kernel.dispatcher.overloads[argtypes]

    def codegen(context, builder, sig, args):
        _, runner, shares, values = args
        descriptor = compiled.fndesc
        context.active_code_library.add_linking_library(compiled.library)
        kinds = [context.get_value_type(kind) for kind in arguments]
        data_type = wrappers.record(*kinds, _SIZE, _CODE, _BYTES)
        share = _share_function(context, builder.module, descriptor, data_type, argtypes)
        data = cgutils.alloca_once(builder, data_type)
        unpacked = cgutils.unpack_tuple(builder, values, len(arguments))
        status_at = len(kinds) + 1
        for number, value in enumerate([*unpacked, shares, _CODE(0), _BYTES(None)]):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, number))
        first = cgutils.alloca_once_value(builder, _BYTES(None))
        count = cgutils.alloca_once_value(builder, shares)
        step = cgutils.alloca_once_value(builder, _SIZE(1))
        alone = builder.icmp_signed("<=", shares, _SIZE(1))
        pointers = [builder.bitcast(first, _BYTES.as_pointer()), count, step, builder.bitcast(data, _BYTES)]
        direct = _direct_name(itanium_mangler.prepend_namespace(builder.function.name, ns="cpython"))
        both = [kind for kind in (*arguments,)[:2] if isinstance(kind, types.Array)]
        if len(both) == 2:
            wrappers.direct(context, builder.module, direct, share, data_type, both)
        with builder.if_else(alone) as (on_one, on_many):
            with on_one, builder.if_else(builder.icmp_signed(">", shares, _SIZE(0))) as (runs, asked):
                with runs:
                    builder.call(share, pointers)
                with asked:
                    wrappers.tell(builder, runner, data, builder.icmp_signed("<", shares, _SIZE(0)))
            with on_many:
                api = context.get_python_api(builder)
                python = api.gil_ensure()
                thread = api.save_thread()
                kind = wrappers.signature(*[_BYTES] * 5, *[_SIZE] * 3)
                parallel_for = builder.inttoptr(runner, kind.as_pointer())
                handed = [builder.bitcast(share, _BYTES), *(builder.bitcast(each, _BYTES) for each in pointers)]
                builder.call(parallel_for, [*handed, _SIZE(0), _SIZE(1), shares])
                api.restore_thread(thread)
                api.gil_release(python)
        code = builder.load(cgutils.gep_inbounds(builder, data, 0, status_at))
        exception = builder.load(cgutils.gep_inbounds(builder, data, 0, status_at + 1))
        failed = builder.icmp_signed("!=", code, code.type(0))
        with builder.if_then(failed, likely=False):
            pointer = builder.bitcast(exception, excinfo_ptr_t)
            status = context.call_conv._get_return_status(builder, code, pointer)
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(kernel, integer, integer, arguments), codegen


def _share_function(context, module, descriptor, data_type, argtypes):
    """The function that Numba's threads call: it runs the tasks of one share, or of several."""
    kind = wrappers.signature(_BYTES.as_pointer(), _SIZE.as_pointer(), _SIZE.as_pointer(), _BYTES)
    function, builder = wrappers.define(module, kind, f"{descriptor.mangled_name}.share")
    function.linkage = "internal"
    task = context.declare_function(module, descriptor)
    data = builder.bitcast(function.args[3], data_type.as_pointer())
    count = len(argtypes) - 2
    values = [builder.load(cgutils.gep_inbounds(builder, data, 0, number)) for number in range(count + 1)]
    begin = builder.ptrtoint(builder.load(function.args[0]), _SIZE)
    end = builder.add(begin, builder.load(function.args[1]))
    with cgutils.for_range_slice(builder, begin, end, _SIZE(1), _SIZE) as (share, _):
        handed = [*values[:-1], share, values[-1]]
        status, _ = context.call_conv.call_function(builder, task, types.none, argtypes, handed)
        with builder.if_then(status.is_error, likely=False):
            builder.store(builder.bitcast(status.excinfoptr, _BYTES), cgutils.gep_inbounds(builder, data, 0, count + 2))
            builder.store(status.code, cgutils.gep_inbounds(builder, data, 0, count + 1))
    builder.ret_void()
    return function


# -- on disk -------------------------------------------------------------------------------------------------


class Compiled(CPUDispatcher):
    """A function that Python calls: for each signature it is loaded from the disk, or built and kept there."""

    targetdescr = TARGET

    def __init__(self, py_func: Callable, files: CodeFiles, **options: Any) -> None:
        super().__init__(py_func, targetoptions={**OPTIONS, **options}, pipeline_class=Pipeline)
        self._files = files
        self._entries: dict[tuple, Callable] = {}
        self._code: dict[tuple, tuple[Library, str]] = {}

    def _compilation_chain_init_hook(self) -> None:
        """Do not load what packages add to Numba, which kernels do not use: it would take time, and locks in an order
        in which another thread's compilation may wait for them."""

    def compile(self, sig: Any) -> Callable:
        args, _ = sigutils.normalize_signature(sig)
        with global_compiler_lock:
            entry = self._entries.get(args)
            if entry is None:
                entry = self._entries[args] = self._loaded(args) or self._built(args)
                self._insert([kind._code for kind in args], entry, False)  # type: ignore[attr-defined] # in C
        return entry

    def _built(self, args: tuple) -> Callable:
        with compiling():
            made: Any = self._compiler.compile(args, None)  # type: ignore[attr-defined] # Numba's Dispatcher has it
        symbol = made.fndesc.llvm_cpython_wrapper_name
        keep(self._files, args, made.library, symbol, made.environment.env_name)
        self._code[args] = made.library, symbol
        return made.entry_point

    def _loaded(self, args: tuple) -> Callable | None:
        found = load(self._files, args)
        if found is None:
            return None
        library, symbol, address, environment = found
        self._code[args] = library, symbol
        return self._function(address, environment, library)

    def _function(self, address: int, environment: Environment, library: Library) -> Callable:
        """Code that takes Python's arguments, as a function of Python's."""
        function = self.py_func
        names = sys.modules[function.__module__], function.__name__, ""
        return _dynfunc.make_function(*names, address, environment, (library,))

    def direct(self, args: tuple) -> Callable[[np.ndarray, np.ndarray, np.ndarray], bool]:
        """The function `wrappers.direct` of a kernel that is compiled for these types."""
        library, symbol = self._code[args]
        address = library.codegen._engine.get_function_address(_direct_name(symbol))
        return self._function(address, Environment({}), library)


def keep(files: CodeFiles, args: tuple, library: Library, symbol: str, environment: str = "") -> None:
    """Save new code for other processes, with its symbol and the name of its environment, as Numba calls it."""
    code = library._compiled_object
    if code is None:  # an interrupt came while LLVM handed it over, where Python cannot raise: it is compiled again
        raise KeyboardInterrupt
    names = "\n".join((library.name, symbol, environment, "")).encode()
    files.save(args, names + code)


def _direct_name(symbol: str) -> str:
    """The symbol of the function `wrappers.direct` beside a kernel's own."""
    return f"{symbol}.direct"


def load(files: CodeFiles, args: tuple) -> tuple[Library, str, int, Environment] | None:
    """Saved code, its symbol and the address of that, and its environment; None where nothing is saved, or it is
    damaged."""
    data = files.load(args)
    if data is None:
        return None
    context = TARGET.target_context
    try:
        *names, code = data.split(b"\n", 3)
        name, symbol, told = (one.decode() for one in names)
        library = Library(context.codegen(), name)
        library.enable_object_caching()
        library._set_compiled_object(code)
        library._finalize_final_module()
        address = library.codegen._engine.get_function_address(symbol)
        environment = Environment({})  # Python's wrapper wants one, though nothing is looked up in it
        if told:
            library.codegen.set_env(told, environment)
    except Exception:  # whatever is wrong with a cache's file, compiling mends it
        return None
    return library, symbol, address, environment


def compiled(py_func: Callable, key: tuple, options: dict[str, Any]) -> Compiled | Plain:
    """A function without parallel loops, made callable from Python."""
    if PLAIN:
        return Plain(py_func)
    function = types_.FunctionType(py_func.__code__, py_func.__globals__, py_func.__name__, None, py_func.__closure__)
    return Compiled(_named(function, py_func, key, options), CodeFiles(py_func, key, options), **options)


def launcher(py_func: Callable, key: tuple, options: dict[str, Any]) -> Compiled | Plain:
    """A kernel made callable from Python: ``launch(team, threads, *arguments)`` runs it on threads; see `_start`."""
    if PLAIN:
        return Plain(lambda team, threads, *args: py_func(*args))
    kernel = Function(py_func, pipeline=_KernelPipeline, **options)
    names = ", ".join(inspect.signature(py_func).parameters)
    scope = {"_start": _start, "kernel": kernel}
    exec(f"def launch(team, threads, {names}):\n    _start(kernel, team, threads, ({names},))", scope)
    return Compiled(_named(scope["launch"], py_func, key, options), CodeFiles(py_func, key, options))


def _named(function: Any, py_func: Callable, key: tuple, options: dict[str, Any]) -> Callable:
    """`function` with the name of `py_func`, to which a hash of key and options is added.

    Compiled code is found by name, to which Numba adds a count of the process that compiles it. Two functions of one
    factory, compiled by two processes, could get one name: in a third that loads both, one would run as the other.
    """
    told = hashlib.sha256(repr((key, sorted(options.items()))).encode()).hexdigest()[:16]
    function.__module__, function.__name__ = py_func.__module__, py_func.__name__
    function.__qualname__ = f"{py_func.__qualname__}.{told}"
    return function
