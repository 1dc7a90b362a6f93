"""Vector instructions for kernels: the only file that emits LLVM IR.

Numba compiles scalar loops and leaves vectors to LLVM's vectoriser. Where that is not enough, a kernel calls one of
the intrinsics below, which are written directly in LLVM's vector types; LLVM maps these to the host's registers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_INT = ir.IntType(64)


@lru_cache(maxsize=1)
def register_bytes() -> int:
    """Width of the host's vector registers: 64 with AVX-512, 32 with AVX2, 16 otherwise (SSE, NEON)."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


def lanes(dtype: Any) -> int:
    """Elements of `dtype` in one vector register."""
    return register_bytes() // np.dtype(dtype).itemsize


# -- building blocks of the intrinsics -------------------------------------------------------------------------


def _vector(scalar: types.Type) -> ir.VectorType:
    element = ir.DoubleType() if scalar == types.float64 else ir.FloatType()
    return ir.VectorType(element, register_bytes() // (8 if scalar == types.float64 else 4))


def _fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c, rounded once."""
    kind = a.type
    name = f"llvm.fma.v{kind.count}{'f64' if isinstance(kind.element, ir.DoubleType) else 'f32'}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c])


def _splat(builder: ir.IRBuilder, scalar: ir.Value, kind: ir.VectorType) -> ir.Value:
    """A vector whose elements all are `scalar`."""
    undefined = ir.Constant(kind, ir.Undefined)
    zero = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, zero)


# -- the machine's ceiling ------------------------------------------------------------------------------------

#: Independent sums in `fma_chains`: more than latency times throughput of any current core, fewer than its registers.
CEILING_CHAINS = 12


@intrinsic
def fma_chains(typingctx, steps, scalar):
    """`steps` rounds of CEILING_CHAINS vector multiply-adds that do not wait for each other; returns a scalar."""

    def codegen(context, builder, signature, args):
        kind = _vector(signature.args[1])
        factor = _splat(builder, args[1], kind)
        entry, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(_INT)
        step.add_incoming(_INT(0), entry)
        sums = [builder.phi(kind) for _ in range(CEILING_CHAINS)]
        for number, value in enumerate(sums):
            value.add_incoming(ir.Constant(kind, [kind.element(float(number))] * kind.count), entry)
        for value in sums:
            value.add_incoming(_fma(builder, value, factor, factor), loop)
        following = builder.add(step, _INT(1))
        step.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, done)
        builder.position_at_end(done)
        total = sums[0]
        for value in sums[1:]:
            total = builder.fadd(total, value)
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.Type.__call__(scalar, types.int64, scalar), codegen
