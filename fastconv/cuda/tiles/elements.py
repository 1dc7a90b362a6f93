"""Elements as kernels load and store them: halves are widened to float32 and rounded back, other dtypes stay.

float16 and bfloat16 are read as their 16 bits. float16 is LLVM's `half`, whose conversions are one instruction.
bfloat16 is the upper half of a float32: a shift widens it; an addition and a shift round to it, to nearest even.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import types

from ...specs.dtypes import BFLOAT16
from ..system.kernels import SIMULATED, device_function

if SIMULATED:

    def _half_to_float(bits):
        return np.float32(np.uint16(bits).view(np.float16))

    def _float_to_half(value):
        with np.errstate(over="ignore"):
            return np.float16(value).view(np.uint16)

    def _float_bits(value):
        return int(np.float32(value).view(np.uint32))

    def _bits_float(bits):
        return np.uint32(bits).view(np.float32)

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    _HALF, _FLOAT, _I16, _I32 = ir.HalfType(), ir.FloatType(), ir.IntType(16), ir.IntType(32)

    @intrinsic
    def _half_to_float(_, bits):
        def emit(context, builder, signature, args):
            return builder.fpext(builder.bitcast(args[0], _HALF), _FLOAT)

        return types.float32(types.uint16), emit

    @intrinsic
    def _float_to_half(_, value):
        def emit(context, builder, signature, args):
            return builder.bitcast(builder.fptrunc(args[0], _HALF), _I16)

        return types.uint16(types.float32), emit

    @intrinsic
    def _float_bits(_, value):
        def emit(context, builder, signature, args):
            return builder.bitcast(args[0], _I32)

        return types.uint32(types.float32), emit

    @intrinsic
    def _bits_float(_, bits):
        def emit(context, builder, signature, args):
            return builder.bitcast(args[0], _FLOAT)

        return types.float32(types.uint32), emit


@device_function
def _widen_half(bits):
    return _half_to_float(np.uint16(bits))


@device_function
def _narrow_half(value):
    return _float_to_half(np.float32(value))


@device_function
def _widen_bfloat16(bits):
    return _bits_float(np.uint32(np.uint32(bits) << np.uint32(16)))


@device_function
def _narrow_bfloat16(value):
    if value != value:
        return np.uint16(0x7FC0)
    bits = np.int64(_float_bits(np.float32(value)))
    return np.uint16((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)


@cache
def widen(dtype: np.dtype, target: np.dtype) -> Any:
    """Make the function that converts what a pointer to `dtype` reads to the dtype `target`, which is computed in."""
    number = np.dtype(target).type
    if dtype == np.float16 or dtype == BFLOAT16:
        half = _widen_half if dtype == np.float16 else _widen_bfloat16

        @device_function
        def widened(bits):
            return number(half(bits))

    else:

        @device_function
        def widened(value):
            return number(value)

    return widened


@cache
def narrow(dtype: np.dtype) -> Any:
    """Make the function that converts a number to what is stored through a pointer to `dtype`."""
    if dtype == np.float16:
        return _narrow_half
    if dtype == BFLOAT16:
        return _narrow_bfloat16
    number = np.uint8 if dtype == np.bool_ else dtype.type

    @device_function
    def narrowed(value):
        return number(value)

    return narrowed
