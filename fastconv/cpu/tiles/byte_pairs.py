"""Products of 8-bit numbers two by two: exact, at twice the rate of floats.

A lane of 32 bits holds two numbers of 16 bits, wide enough for any 8-bit number, signed or not. One x86 instruction
multiplies both by two others and adds the products, at most 2 * 255 * 255, to a sum of 32 bits; with VNNI, LLVM makes
one instruction of it and the addition that follows. (Multiplying lanes of 32 bits takes many processors two steps, for
one product.) Other processors gain nothing: they multiply as many numbers of 32 bits at a time as of 16.
"""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from ..system.target import features
from . import emit
from .simd import register_bytes

#: LLVM's names of the x86 instruction, by lanes of 32 bits.
_PAIR_PRODUCTS = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}


def pairs_pay() -> bool:
    """Whether the host has the instruction, and register tiles are on."""
    x86 = llvm.get_process_triple().startswith(("x86_64", "amd64", "i686"))
    whole = register_bytes() < 64 or "avx512bw" in features()
    return x86 and whole and not emit.is_plain()


def pairs(weight: np.ndarray) -> np.ndarray:
    """Weights of 8 bits, kept in 32, of which every second one also holds the next of its row in the upper half."""
    packed, following = weight & np.int32(0xFFFF), weight[..., 1::2]
    packed[..., : 2 * following.shape[-1] : 2] |= following << np.int32(16)
    return packed


def joined(builder, low: ir.Value, high: ir.Value, signed: bool) -> ir.Value:
    """Two vectors of 8-bit numbers, kept in 32, as one of pairs."""
    half, shift = (ir.Constant(low.type, [value] * low.type.count) for value in (0xFFFF, 16))
    return builder.or_(builder.and_(low, half) if signed else low, builder.shl(high, shift))


def pair_products(builder, a: ir.Value, b: ir.Value) -> ir.Value:
    """A vector with, in every lane, the product of the lower halves plus that of the upper halves."""
    kind = ir.VectorType(ir.IntType(16), 2 * a.type.count)
    halves = [builder.bitcast(value, kind) for value in (a, b)]
    return emit.call(builder, f"llvm.x86.{_PAIR_PRODUCTS[a.type.count]}", a.type, halves)
