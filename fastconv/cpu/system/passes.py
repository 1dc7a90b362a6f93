"""Passes of Numba's that do only what kernels need: numbers, tuples, and arrays that nobody counts references to.

Numba's own do more. They look three times for an implementation with constants before they take an operation's own;
make text of each statement, for a debugger; load each variable's old value to release it, and clear each variable after
its last use; and work out the lives of all variables again after each pass. Without that the same machine code took 5.1
CPU seconds in place of 6.0 (16 poolings and image filters, of which LLVM takes 3; an AMD EPYC 9005).
"""

from __future__ import annotations

import operator
from typing import Any

from numba.core import cgutils, ir, lowering, typed_passes, types, untyped_passes
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.ir_utils import build_definitions
from numba.core.ssa import reconstruct_ssa


class Passes(PassManager):
    """Passes that are neither timed, nor announced, nor followed by a look at all variables' lives."""

    def _runPass(self, index: int, each: Any, state: Any) -> None:
        each.analysis = self._analysis
        each.run_initialization(state)
        each.run_pass(state)
        each.run_finalizer(state)


@register_pass(mutates_CFG=False, analysis_only=False)
class Versions(untyped_passes.ReconstructSSA):
    """Gives a variable a version for each of its assignments (static single assignment)."""

    _name = "fastconv_versions"

    def run_pass(self, state: Any) -> bool:
        state.func_ir = reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class NoVersions(typed_passes.PreLowerStripPhis):
    """Assigns to a variable where versions of another meet (phi nodes), which lowering does not know."""

    _name = "fastconv_no_versions"

    def run_pass(self, state: Any) -> bool:
        state.func_ir = self._strip_phi_nodes(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


class Lower(lowering.Lower):
    """Lowers a function without counting references; with debugging information only where that is asked for."""

    def lower_inst(self, inst: Any) -> None:
        if not isinstance(inst, ir.Assign) or self._disable_sroa_like_opt:
            super().lower_inst(inst)
            return
        name = inst.target.name
        value = self.lower_assign(self.typeof(name), inst)
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        if self._disable_sroa_like_opt:
            return super().alloca_lltype(name, lltype, datamodel)
        return cgutils.alloca_once(self.builder, lltype, name=name)

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
        operands, context, typing = (expr.lhs.name, expr.rhs.name), self.context, self.context.typing_context
        kinds = [self.typeof(name) for name in operands]
        numbers = all(isinstance(types.unliteral(kind), types.Number) for kind in kinds)
        if op in (operator.pow, operator.ipow) or not numbers:  # which Numba has with constants, too
            return super().lower_binop(resty, expr, op)
        wanted = self.fndesc.calltypes[expr]
        values = [context.cast(self.builder, self.loadvar(name), kind, to)
                  for name, kind, to in zip(operands, kinds, wanted.args, strict=True)]  # fmt: skip
        function = typing.resolve_value_type(op)
        called = typing.resolve_function_type(function, wanted.args, {})
        result = context.get_function(function, called)(self.builder, values)
        return context.cast(self.builder, result, wanted.return_type, resty)
