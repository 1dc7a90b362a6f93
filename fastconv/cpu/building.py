"""Kernels compiled once, and little: from a Python function whose parallel loop is ``numba.prange`` to machine code.

What Numba does for a parallel function costs more than its code: the loop's body becomes a function of its own by a
transform that looks for parallelism everywhere, and a serial build is compiled beside it; each function that the kernel
calls is optimised and turned into machine code on its own, where nothing calls it, and once more in every caller. Here

- a kernel is lowered as plain serial code in which ``prange(n)`` is one share of the n tasks (`_Shares`), and started
  by a few instructions (`_start`) once, or on Numba's threads: both run the same machine code;
- the functions it calls are typed and lowered, and no more; LLVM sees them first in the kernel's module, where they are
  private, so that it is all optimised together, and once;
- there is one wrapper for Python, that of the launch.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import inspect
import sys
import types as types_
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

import llvmlite.binding as llvm
import numba
from llvmlite import ir as llvmir
from numba import _dynfunc  # type: ignore[attr-defined] # a module in C
from numba.core import cgutils, codegen, compiler, sigutils, typed_passes, types, untyped_passes
from numba.core import ir as numba_ir
from numba.core.callconv import excinfo_ptr_t
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.cpu import CPUContext
from numba.core.environment import Environment
from numba.core.imputils import lower_builtin
from numba.core.registry import CPUDispatcher, CPUTarget
from numba.core.runtime import rtsys
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from . import loops
from .disk_cache import CodeFiles
from .target import processor

#: How the names of functions begin that Python or kernels find by name; all others of a module are its own.
EXPORTED = "_ZN7cpython", "micro."

# -- target ---------------------------------------------------------------------------------------------------


class _Context(CPUContext):
    """Numba's for a processor, of which only what kernels use is loaded: all of it imports SciPy, and takes 0.15 s."""

    def init(self) -> None:
        super().init()
        self._internal_codegen = _Codegen("fastconv")

    def load_additional_registries(self) -> None:
        rtsys.initialize(self)
        from numba.cpython import builtins, iterators, mathimpl, numbers, rangeobj, slicing, tupleobj  # noqa: F401
        from numba.np import arrayobj, npyimpl  # noqa: F401

        self.install_registry(mathimpl.registry)
        self.install_registry(npyimpl.registry)


class _Codegen(codegen.JITCPUCodegen):
    """Numba's, for the processor that kernels are made for."""

    def _get_host_cpu_name(self) -> str:
        return processor().name

    def _get_host_cpu_features(self) -> str:
        return processor().flags


class _Target(CPUTarget):
    @cached_property
    def _toplevel_target_context(self) -> _Context:
        return _Context(self.typing_context, self._target_name)


class _Processor(CPU):
    """The target's name among Numba's: what Numba defines for processors it has, too."""


TARGET = _Target("fastconv")
target_registry["fastconv"] = _Processor

# -- functions made of instructions ---------------------------------------------------------------------------


def intrinsic(definition: Callable) -> Callable:
    """A function for kernels that ``definition(typingctx, *types)`` defines, by its signature and a function that emits
    its code; what `numba.extending.intrinsic` does, which first loads all of Numba's targets."""

    def function(*args: Any) -> Any:
        raise TypeError(f"{definition.__name__} is called by kernels")

    function.__name__, function.__doc__ = definition.__name__, definition.__doc__

    class Intrinsic(AbstractTemplate):
        key = function
        _known: ClassVar[dict[tuple, tuple[Any, Callable]]] = {}

        def generic(self, args: tuple, kws: dict) -> Any:
            if args not in self._known:
                self._known[args] = called, emit = definition(self.context, *args)
                TARGET.target_context.insert_func_defn([(emit, emit, called.args)])
                self._known[called.args] = self._known[args]
            return self._known[args][0]

        def get_impl_key(self, sig: Any) -> Callable:
            return self._known[sig.args][1]

    infer_global(function, types.Function(Intrinsic))
    return function


# -- LLVM modules --------------------------------------------------------------------------------------------


class Library(codegen.JITCodeLibrary):
    """The LLVM code of one function as it was lowered; that of a launch, of all that it calls, and then optimised."""

    is_whole = False

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def add_linking_library(self, library: Any) -> None:
        self._linking_libraries.append(library)

    def finalize(self) -> None:
        if not self.is_whole:
            self._finalized = True
            return
        self._linking_libraries = list(dict.fromkeys(_libraries(self)))
        super().finalize()

    def _optimize_final_module(self) -> None:
        module = self._final_module
        for function in module.functions:
            if not function.is_declaration and not function.name.startswith(EXPORTED):
                function.linkage = llvm.Linkage.internal
        _optimize(self._codegen, module)


def _libraries(library: Any) -> Iterator[Any]:
    for linked in library._linking_libraries:
        yield linked
        if isinstance(linked, Library):
            yield from _libraries(linked)


def _optimize(generator: Any, module: Any) -> None:
    """Run LLVM's passes of level 2, once.

    Numba runs some of them on each function, level 0 on the module, and then level 3 with vectors made of straight
    code: half as long again, and no kernel is faster for it.
    """
    passes, builder = generator._module_pass_manager(opt=2, slp_vectorize=False)
    passes.run(module, builder)


# -- functions -----------------------------------------------------------------------------------------------


@register_pass(mutates_CFG=False, analysis_only=False)
class _Lowering(typed_passes.NativeLowering):
    """Lowers a function into a `Library`; to machine code only where Python is to call it."""

    _name = "fastconv_lowering"

    def run_pass(self, state: Any) -> bool:
        name = state.func_id.func_qualname
        state.library = library = Library(state.targetctx.codegen(), name)
        library.enable_object_caching()
        library.is_whole = not state.flags.no_cpython_wrapper
        state.flags.no_compile = not library.is_whole
        return super().run_pass(state)


class _Pipeline(compiler.CompilerBase):
    """Numba's passes, without those that look for what kernels do not have."""

    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("fastconv")
        for each in self.untyped():
            passes.add_pass(each, each._name)
        for each in (
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.InlineOverloads,
            typed_passes.NoPythonSupportedFeatureValidation,
            typed_passes.IRLegalization,
            typed_passes.AnnotateTypes,
            _Lowering,
            typed_passes.NoPythonBackend,
        ):
            passes.add_pass(each, each._name)
        passes.finalize()
        return [passes]

    def untyped(self) -> tuple[Any, ...]:
        return (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            _Replacements,
            untyped_passes.RewriteSemanticConstants,
            untyped_passes.DeadBranchPrune,
            untyped_passes.GenericRewrites,
            untyped_passes.RewriteDynamicRaises,
            untyped_passes.ReconstructSSA,
        )


class _WholePipeline(compiler.Compiler):
    """All of Numba's passes, but for the last."""

    def define_pipelines(self) -> list[PassManager]:
        (passes,) = super().define_pipelines()
        last = typed_passes.NativeLowering
        passes.passes = [(_Lowering if each is last else each, why) for each, why in passes.passes]
        passes.finalize()
        return [passes]


@register_pass(mutates_CFG=False, analysis_only=False)
class _Replacements(FunctionPass):
    """Replaces ``range`` (see `loops`), ``min`` and ``max``, for which Numba would compile functions, 20 ms each."""

    _name = "fastconv_replacements"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        for block in state.func_ir.blocks.values():
            for statement in block.find_insts(numba_ir.Assign):
                value = statement.value
                if isinstance(value, numba_ir.Global) and value.value in _REPLACED:
                    instruction = _REPLACED[value.value]
                    statement.value = numba_ir.Global(instruction.__name__, instruction, value.loc)
        return True


def _smallest(*numbers: int) -> int:
    """``min`` of integers."""
    return min(numbers)


def _largest(*numbers: int) -> int:
    """``max`` of integers."""
    return max(numbers)


@infer_global(_smallest)
@infer_global(_largest)
class _OfIntegers(AbstractTemplate):
    def generic(self, args, kws):
        kind = self.context.unify_types(*map(types.unliteral, args))
        return signature(kind, *[kind] * len(args)) if isinstance(kind, types.Integer) else None


def _define(function: Callable, sign: str) -> None:
    @lower_builtin(function, types.VarArg(types.Any))
    def lower(context, builder, sig, args):
        compare = builder.icmp_signed if sig.return_type.signed else builder.icmp_unsigned
        return functools.reduce(lambda one, other: builder.select(compare(sign, one, other), one, other), args)


_define(_smallest, "<")
_define(_largest, ">")
_REPLACED = {min: _smallest, max: _largest, range: loops.numbers}


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
        function._definitions.update({})
        for statement in extra:
            function._definitions[statement.target.name] = [statement.value]
        return True


def _called(function: Any, call: Any) -> Any:
    """The Python object that is called, where it is a global or an attribute of one."""
    definition = function._definitions.get(call.func.name, [None])[0]
    if isinstance(definition, numba_ir.Expr) and definition.op == "getattr":
        owner = function._definitions[definition.value.name][0]
        return getattr(getattr(owner, "value", None), definition.attr, None)
    return getattr(definition, "value", None)


class _KernelPipeline(_Pipeline):
    def untyped(self) -> tuple[Any, ...]:
        first, fixup, *others = super().untyped()
        return (first, _Shares, fixup, *others)


#: Of all functions. Python's division by zero, which raises, would cost each division a branch and an exception.
_OPTIONS = {"nopython": True, "no_cfunc_wrapper": True, "error_model": "numpy"}


class Function(CPUDispatcher):
    """A function that compiled code calls: typed and lowered for each signature, and neither optimised nor run."""

    targetdescr = TARGET

    def __init__(self, py_func: Callable, pipeline: type = _Pipeline, **options: Any) -> None:
        options = {**_OPTIONS, "no_cpython_wrapper": True, **options}
        super().__init__(py_func, targetoptions=options, pipeline_class=pipeline)

    def get_call_template(self, args: Sequence[types.Type], kws: Any) -> Any:
        # Numba would compile the function once more for each constant that it is called with.
        return super().get_call_template(tuple(map(types.unliteral, args)), kws)

    def add_overload(self, cres: Any) -> None:
        # The entry point is what callers' code is found by.
        cres = cres._replace(entry_point=_Entry())
        self.targetctx.insert_user_function(cres.entry_point, cres.fndesc, [cres.library])
        self.overloads[tuple(cres.signature.args)] = cres


class _NumbasOwn(Function):
    """What Numba defines in Python; it may depend on constants."""

    get_call_template = CPUDispatcher.get_call_template


def _numbas_own(**options: Any) -> Callable:
    """How Numba's definitions of functions in Python are compiled for this target."""
    return lambda py_func: _NumbasOwn(py_func, pipeline=_WholePipeline)


dispatcher_registry[_Processor] = Function
jit_registry[_Processor] = _numbas_own


class _Entry:
    """What stands for a function that Python cannot call."""


# -- launch --------------------------------------------------------------------------------------------------


@intrinsic
def _share_of(typingctx, tasks, share, shares):
    kind = loops.Range(types.int64, "up")

    def codegen(context, builder, sig, args):
        count, number, parts = args
        first, last = (
            builder.sdiv(builder.mul(count, at), parts) for at in (number, builder.add(number, number.type(1)))
        )
        return loops.range_value(context, builder, kind, first, last, number.type(1))

    return kind(types.int64, types.int64, types.int64), codegen


_BYTES = llvmir.IntType(8).as_pointer()
_SIZE = llvmir.IntType(64)


@intrinsic
def _start(typingctx, kernel, team, threads, arguments):
    """Run a kernel in so many shares: by `team`, the address of ``numba_parallel_for``, or here where there is one."""
    integer = types.int64
    argtypes = (*arguments, integer, integer)
    kernel.dispatcher.compile(argtypes)
    compiled = kernel.dispatcher.overloads[argtypes]

    def codegen(context, builder, sig, args):
        _, runner, shares, values = args
        descriptor = compiled.fndesc
        context.active_code_library.add_linking_library(compiled.library)
        kinds = [context.get_value_type(kind) for kind in arguments]
        data_type = llvmir.LiteralStructType([*kinds, _SIZE, llvmir.IntType(32), _BYTES])
        share = _share_function(context, builder.module, descriptor, data_type, argtypes)
        data = cgutils.alloca_once(builder, data_type)
        unpacked = cgutils.unpack_tuple(builder, values, len(arguments))
        status_at = len(kinds) + 1
        for number, value in enumerate([*unpacked, shares, llvmir.IntType(32)(0), llvmir.Constant(_BYTES, None)]):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, number))
        first = cgutils.alloca_once_value(builder, llvmir.Constant(_BYTES, None))
        count = cgutils.alloca_once_value(builder, shares)
        step = cgutils.alloca_once_value(builder, _SIZE(1))
        alone = builder.icmp_signed("<=", shares, _SIZE(1))
        pointers = [builder.bitcast(first, _BYTES.as_pointer()), count, step, builder.bitcast(data, _BYTES)]
        with builder.if_else(alone) as (on_one, on_many):
            with on_one:
                builder.call(share, pointers)
            with on_many:
                api = context.get_python_api(builder)
                python = api.gil_ensure()
                thread = api.save_thread()
                kind = llvmir.FunctionType(llvmir.VoidType(), [_BYTES] * 5 + [_SIZE] * 3)
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
    """What the threads call: the tasks of one share, or of several."""
    kind = llvmir.FunctionType(llvmir.VoidType(), [_BYTES.as_pointer(), _SIZE.as_pointer(), _SIZE.as_pointer(), _BYTES])
    function = llvmir.Function(module, kind, name=f"{descriptor.mangled_name}.share")
    function.linkage = "internal"
    builder = llvmir.IRBuilder(function.append_basic_block("entry"))
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


class Compiled(CPUDispatcher):
    """A function that Python calls: for each signature it is loaded from the disk, or built and kept there."""

    targetdescr = TARGET

    def __init__(self, py_func: Callable, files: CodeFiles, **options: Any) -> None:
        super().__init__(py_func, targetoptions={**_OPTIONS, **options}, pipeline_class=_Pipeline)
        self._files = files
        self._entries: dict[tuple, Callable] = {}

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
        keep(self._files, args, made.library, made.fndesc.llvm_cpython_wrapper_name, made.environment.env_name)
        return made.entry_point

    def _loaded(self, args: tuple) -> Callable | None:
        found = load(self._files, args)
        if found is None:
            return None
        library, address, environment = found
        function = self.py_func
        names = sys.modules[function.__module__], function.__name__, ""
        return _dynfunc.make_function(*names, address, environment, (library,))


@contextmanager
def compiling() -> Iterator[None]:
    """Around what is compiled: for this package's target, and without looks for garbage, which take a tenth longer."""
    collects = gc.isenabled()
    gc.disable()
    try:
        with target_override("fastconv"):
            yield
    finally:
        if collects:
            gc.enable()


def keep(files: CodeFiles, args: tuple, library: Library, symbol: str, environment: str = "") -> None:
    """Save new code for other processes, with its symbol, and the name of what Numba calls its environment."""
    names = "\n".join((library.name, symbol, environment, "")).encode()
    files.save(args, names + library._get_compiled_object())


def load(files: CodeFiles, args: tuple) -> tuple[Library, int, Environment] | None:
    """Saved code, the address of its symbol, and its environment; None where nothing is saved, or it is damaged."""
    data = files.load(args)
    if data is None:
        return None
    context = TARGET.target_context
    rtsys.initialize(context)  # what compiled code may call
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
    return library, address, environment


def compiled(py_func: Callable, key: tuple, options: dict[str, Any]) -> Compiled:
    """A function as Python calls it."""
    function = types_.FunctionType(py_func.__code__, py_func.__globals__, py_func.__name__, None, py_func.__closure__)
    return Compiled(_named(function, py_func, key, options), CodeFiles(py_func, key, options), **options)


def launcher(py_func: Callable, key: tuple, options: dict[str, Any]) -> Compiled:
    """A kernel as Python calls it: ``launch(team, threads, *arguments)`` runs it on its threads; see `_start`."""
    kernel = Function(py_func, pipeline=_KernelPipeline, **options)
    names = ", ".join(inspect.signature(py_func).parameters)
    scope = {"_start": _start, "kernel": kernel}
    exec(f"def launch(team, threads, {names}):\n    _start(kernel, team, threads, ({names},))", scope)
    return Compiled(_named(scope["launch"], py_func, key, options), CodeFiles(py_func, key, options))


def _named(function: Any, py_func: Callable, key: tuple, options: dict[str, Any]) -> Callable:
    """A function with the name of another that tells the key and the options.

    Compiled code is found by name, to which Numba adds a count of the process that compiles it. Two functions of one
    factory that two processes compiled could have the same name in a third that loads both: one would run as the other.
    """
    told = hashlib.sha256(repr((key, sorted(options.items()))).encode()).hexdigest()[:16]
    function.__module__, function.__name__ = py_func.__module__, py_func.__name__
    function.__qualname__ = f"{py_func.__qualname__}.{told}"
    return function
