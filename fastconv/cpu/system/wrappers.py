"""Functions written in LLVM IR by hand, for the wrappers around kernels: Numba makes functions of Python's code only.

It is the one file outside `tiles` that imports `llvmlite.ir`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir


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
