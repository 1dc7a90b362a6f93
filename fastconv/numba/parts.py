"""The compiler of what functions inside a caller's ``@njit`` are made of: parts of the caller's code.

Numba optimises each function, with all that it calls inside it, makes machine code of it, and does so again with every
function that calls it: of four that call one another the innermost is compiled four times. Parts are typed and lowered
only; what they call is linked to them as it is, and LLVM sees all of it once, in the caller. (First use of `corr2d` in
a process, one core of an AMD EPYC 9005: 3.8 s of CPU by Numba's way, 2.1 so.)

What is made is the caller's own code, without an address of this process: Numba's ``cache=True`` can keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import codegen, compiler, typed_passes, types, untyped_passes
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.registry import CPUDispatcher


class _Library(codegen.JITCodeLibrary):
    """The LLVM code of a part, as it was lowered, with that of all it calls."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


def _entry() -> Any:
    """What takes the place of the entry point of a function that Python cannot call: Numba wants a function in C, each
    another one. This one refuses arguments, of which every part has some."""
    return object().__reduce__


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(typed_passes.NativeLowering):
    """Lowers a function into a `_Library`, and to no machine code."""

    _name = "fastconv_part"

    def run_pass(self, state: Any) -> bool:
        state.library = library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered, entry = state["cr"], _entry()
        state.targetctx.insert_user_function(entry, lowered.fndesc, [library])
        state.reload_init.extend(library._reload_init)
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class _Pipeline(compiler.CompilerBase):
    """Numba's passes, without the ones for features that parts do not use, and with `_Lowering` for its last."""

    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("fastconv_part")
        for each in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.RewriteSemanticConstants,
            untyped_passes.DeadBranchPrune,
            untyped_passes.GenericRewrites,
            untyped_passes.RewriteDynamicRaises,
            untyped_passes.ReconstructSSA,
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


#: Numba's options of a part: no Python exception for a division, and nothing that Python itself would call.
OPTIONS: Any = {
    "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _Pipeline,
}  # fmt: skip


class _Part(CPUDispatcher):
    """A function that is a part of others."""

    def __init__(self, py_func: Callable, **options: Any) -> None:
        told = {**OPTIONS, "nopython": True, **options}
        super().__init__(py_func, targetoptions=told, pipeline_class=told.pop("pipeline_class"))

    def get_call_template(self, args: Sequence[Any], kws: Any) -> Any:
        # Numba would compile the function once more for each constant that it is called with.
        return super().get_call_template(tuple(map(types.unliteral, args)), kws)


def part(py_func: Callable) -> _Part:
    """Decorator that makes a part of a function."""
    return _Part(py_func)


def fused_part(py_func: Callable) -> _Part:
    """Decorator for sums of floats in any order: products may be added without being rounded first (fused
    multiply-add)."""
    return _Part(py_func, fastmath={"contract"})
