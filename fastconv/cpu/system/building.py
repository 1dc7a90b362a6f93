"""The compiler that makes kernels machine code: once, and with as little work as was found to do.

A plan and a call of each of ResNet-50's 23 different layers, with an empty cache, in CPU seconds (two cores of an Intel
Xeon with AMX, November 2026):

==== =========================================================================================================
41.5 Numba's way: each kernel twice, for threads through a transform that looks for parallelism everywhere, and serial;
     the functions it calls optimised and made machine code on their own, where nothing calls them, and again in it
6.2  one build, in which ``prange`` is a share of the tasks (`launching`); what kernels call is lowered, and LLVM first
     sees it in the kernel's module, as its own; register tiles and transforms by address (`micro`), so that a kernel
     is compiled once for a dtype and a shape adds 10 to 40 ms
5.1  a target that loads a third of Numba, and no SciPy (0.15 s); ``min`` and ``max`` as instructions, not as functions
     (20 ms for each pair of types); division without Python's exceptions
4.7  ranges that LLVM knows at once (`loops`); one round of its passes (`_optimize`); no garbage collection meanwhile
4.0  functions not compiled again for each constant they are called with; weights packed by address; calls typed once
3.8  loops as they are: unrolled by LLVM, few rounds of long bodies begin with many addresses (poolings 3% faster than
     before, 3x3 at stride 1 by 10%, Winograd's transforms 1%; no layer is slower)
==== =========================================================================================================

A new process that finds all code on disk takes 0.35 s, in place of 0.75: it loads object code and nothing to inline.

What did not help: LLVM's passes of level 1 (4% sooner, and pooling 3% slower) or 3 (as fast, 5% later); vectors made
of straight code (SLP: no kernel gains); inner loops of less than some 50 ns by address (row tiles: a call would take a
tenth of that, so each shape of them costs 0.3 s instead); transposes by address (0.03 s of two), which are emitted once
in a module instead.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

import llvmlite.binding as llvm
from numba.core import codegen, compiler, typed_passes, types, typing, untyped_passes
from numba.core import ir as numba_ir
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.cpu import CPUContext
from numba.core.imputils import lower_builtin
from numba.core.registry import CPUDispatcher, CPUTarget
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from . import loops
from .notice import noticed
from .passes import Lower, NoVersions, Passes, Versions
from .plain import PLAIN, refused
from .target import processor

#: Beginnings of the names of functions that Python or kernels find by name; a module's other functions are internal.
EXPORTED = "_ZN7cpython", "micro."

# -- target ---------------------------------------------------------------------------------------------------


class _Context(CPUContext):
    """Numba's target context, of which only what kernels use is loaded: all of it imports SciPy, and takes 0.15 s."""

    def init(self) -> None:
        super().init()
        self._internal_codegen = _Codegen("fastconv")
        self._found: dict[tuple, Any] = {}

    def load_additional_registries(self) -> None:
        from numba.cpython import builtins, iterators, mathimpl, numbers, rangeobj, slicing, tupleobj  # noqa: F401
        from numba.np import arrayobj, npyimpl  # noqa: F401

        self.install_registry(mathimpl.registry)
        self.install_registry(npyimpl.registry)

    def get_function(self, fn: Any, sig: Any, _firstcall: bool = True) -> Any:
        if not isinstance(fn, types.Function):
            return super().get_function(fn, sig, _firstcall)
        if (fn, sig) not in self._found:
            self._found[fn, sig] = super().get_function(fn, sig, _firstcall)
        return self._found[fn, sig]

    def post_lowering(self, module: Any, library: Any) -> None:
        """Do not link Numba's runtime, which allocates."""


class _Codegen(codegen.JITCPUCodegen):
    """Numba's code generator, for the processor that kernels are made for."""

    def _get_host_cpu_name(self) -> str:
        return processor().name

    def _get_host_cpu_features(self) -> str:
        return processor().flags


class _TypingContext(typing.Context):
    """Numba's typing context, which remembers how it typed calls: most calls have few functions and types."""

    def __init__(self) -> None:
        super().__init__()
        self._typed: dict[tuple, Any] = {}

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if kws or not isinstance(func, types.Function):
            return super().resolve_function_type(func, args, kws)
        call = func, tuple(args)
        if call not in self._typed:
            found = super().resolve_function_type(func, args, kws)
            if found is None:
                return None
            self._typed[call] = found
        return self._typed[call]


class _Target(CPUTarget):
    @cached_property
    def _toplevel_typing_context(self) -> _TypingContext:
        return _TypingContext()

    @cached_property
    def _toplevel_target_context(self) -> _Context:
        return _Context(self.typing_context, self._target_name)


class _Processor(CPU):
    """The target's entry in Numba's registry: it inherits what Numba defines for processors."""


TARGET = _Target("fastconv")
target_registry["fastconv"] = _Processor

# -- functions made of instructions ---------------------------------------------------------------------------


def intrinsic(definition: Any = None, *, plain: Callable | None = None) -> Any:
    """A function for kernels that ``definition(typingctx, *types)`` defines, by its signature and a function that emits
    its code; what `numba.extending.intrinsic` does, which first loads all of Numba's targets. `plain` does the same in
    Python."""
    if definition is None:
        return functools.partial(intrinsic, plain=plain)
    if PLAIN and plain:
        return plain

    def function(*args: Any) -> Any:
        raise refused(definition.__name__) if PLAIN else TypeError(f"{definition.__name__} is called by kernels")

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
    """The LLVM code of one function as it was lowered; if it `is_whole`, with that of all it calls, and optimised."""

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
    """Run LLVM's passes of level 2, once, but for its unrolling of loops.

    Numba runs some of them on each function, level 0 on the module, and then level 3 with vectors made of straight
    code: half as long again, and no kernel is faster for it. What should be straight code, a kernel emits as such.
    """
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization, options.slp_vectorization, options.loop_unrolling = True, False, False
    builder = llvm.create_pass_builder(generator._tm, options)
    builder.getModulePassManager().run(module, builder)


# -- functions -----------------------------------------------------------------------------------------------


@register_pass(mutates_CFG=False, analysis_only=False)
class _Lowering(typed_passes.NativeLowering):
    """Lowers a function into a `Library`; to machine code only where Python is to call it."""

    _name = "fastconv_lowering"
    lowering_class = Lower

    def run_pass(self, state: Any) -> bool:
        name = state.func_id.func_qualname
        state.library = library = Library(state.targetctx.codegen(), name)
        library.enable_object_caching()
        library.is_whole = not state.flags.no_cpython_wrapper
        state.flags.no_compile = not library.is_whole
        return super().run_pass(state)


class Pipeline(compiler.CompilerBase):
    """Numba's passes, without the ones for features that kernels do not use."""

    def define_pipelines(self) -> list[PassManager]:
        passes = Passes("fastconv")
        for each in self.untyped():
            passes.add_pass(each, each._name)
        for each in (
            typed_passes.NopythonTypeInference,
            NoVersions,
            typed_passes.InlineOverloads,
            typed_passes.NoPythonSupportedFeatureValidation,
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
            Versions,
        )


class _WholePipeline(compiler.Compiler):
    """All of Numba's passes, with `_Lowering` in place of the last."""

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


#: Numba's options for all functions. Python's division by zero, which raises, would cost each division a branch and an
#: exception. Counting references is a tenth of what is lowered (0.07 s of a pooling's 0.7); without it functions must
#: not allocate: no new arrays, and no ``a[:] = b`` of two arrays, for which Numba allocates a copy.
OPTIONS = {"nopython": True, "no_cfunc_wrapper": True, "error_model": "numpy", "_nrt": False}


class Function(CPUDispatcher):
    """A function that compiled code calls: typed and lowered for each signature, but neither optimised nor run."""

    targetdescr = TARGET

    def __init__(self, py_func: Callable, pipeline: type = Pipeline, **options: Any) -> None:
        options = {**OPTIONS, "no_cpython_wrapper": True, **options}
        super().__init__(py_func, targetoptions=options, pipeline_class=pipeline)

    def get_call_template(self, args: Sequence[Any], kws: Any) -> Any:
        # Numba would compile the function once more for each constant that it is called with.
        return super().get_call_template(tuple(map(types.unliteral, args)), kws)

    def add_overload(self, cres: Any) -> None:
        # Callers find the code by its entry point.
        cres = cres._replace(entry_point=_Entry())
        self.targetctx.insert_user_function(cres.entry_point, cres.fndesc, [cres.library])
        self.overloads[tuple(cres.signature.args)] = cres


class _NumbasOwn(Function):
    """A function that Numba itself defines in Python; its code may depend on constants."""

    get_call_template = CPUDispatcher.get_call_template


def _numbas_own(**options: Any) -> Callable:
    """The decorator that compiles, for this target, functions that Numba defines in Python."""
    return lambda py_func: _NumbasOwn(py_func, pipeline=_WholePipeline)


dispatcher_registry[_Processor] = Function
jit_registry[_Processor] = _numbas_own


class _Entry:
    """Takes the place of the entry point of a function that Python cannot call."""


@contextmanager
def compiling() -> Iterator[None]:
    """A block that compiles: for this package's target, and without garbage collection, which takes a tenth longer."""
    collects = gc.isenabled()
    gc.disable()
    try:
        with target_override("fastconv"), noticed():
            yield
    finally:
        if collects:
            gc.enable()
