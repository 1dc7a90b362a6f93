"""What CUDA Python has no words for: 128-bit loads and stores, rounding to TF32, and the tensor cores' `mma.sync`.

Each is an intrinsic that emits LLVM IR or one line of PTX. Numba's simulator has neither; there (`runtime.SIMULATED`) plain
Python of the same name, arguments and rounding takes their place, down to which lane of a warp holds what.

Source: NVIDIA, PTX ISA, the sections on ld, cvt and mma.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from .runtime import SIMULATED, cuda

if SIMULATED:
    #: Index arithmetic in 32 bits, where the default is 64. (The simulator has Python's integers.)
    int32 = int64 = int

    def inlined(function: Any) -> Any:
        """A function that kernels call, and that leaves no call behind."""
        return function

    def within(value: Any, size: Any) -> Any:
        """``0 <= value < size`` in one comparison."""
        return 0 <= value < size

    def opaque(value: Any) -> Any:
        """The value, of which the compiler knows nothing: what is derived from it is not kept, but computed here."""
        return value

    def advance(pointer: Any, offset: Any) -> Any:
        """Pointer to ``pointer[offset]``."""
        return type(pointer)(pointer.array, pointer.start + int(offset))

    def load4(array: Any, index: Any) -> Any:
        """``array[index : index + 4]`` in one load; the first lies on a boundary of 16 bytes, or 4 elements if less."""
        return array[index], array[index + 1], array[index + 2], array[index + 3]

    def store4(array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> None:
        """``array[index : index + 4] = a, b, c, d`` in one store, aligned like `load4`."""
        array[index], array[index + 1], array[index + 2], array[index + 3] = a, b, c, d

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    int32, int64 = types.int32, types.int64
    inlined = cuda.jit(device=True, forceinline=True)

    @inlined
    def within(value, size):
        return types.uint32(value) < types.uint32(size)

    @intrinsic
    def opaque(typingctx, value):
        def emit(context, builder, signature, args):
            word = ir.IntType(32)
            asm = ir.InlineAsm(ir.FunctionType(word, [word]), "mov.b32 $0, $1;", "=r,r", side_effect=True)
            return builder.call(asm, args)

        return types.int32(types.int32), emit

    @intrinsic
    def advance(typingctx, pointer, offset):
        def emit(context, builder, signature, args):
            return builder.gep(args[0], [context.cast(builder, args[1], offset, types.int64)])

        return pointer(pointer, offset), emit

    def _four(context, builder, kind, array, index, place):
        """Pointer to four elements, and its alignment."""
        data = array if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, array).data
        at = builder.gep(data, [context.cast(builder, place, index, types.int64)])
        vector = ir.VectorType(context.get_data_type(kind.dtype), 4)
        return builder.bitcast(at, vector.as_pointer()), vector, min(16, 4 * kind.dtype.bitwidth // 8)

    @intrinsic
    def load4(typingctx, array, index):
        def emit(context, builder, signature, args):
            pointer, _, align = _four(context, builder, array, args[0], index, args[1])
            loaded = builder.load(pointer, align=align)
            lanes = [builder.extract_element(loaded, ir.Constant(ir.IntType(32), lane)) for lane in range(4)]
            return context.make_tuple(builder, signature.return_type, lanes)

        return types.UniTuple(array.dtype, 4)(array, index), emit

    @intrinsic
    def store4(typingctx, array, index, a, b, c, d):
        def emit(context, builder, signature, args):
            pointer, vector, align = _four(context, builder, array, args[0], index, args[1])
            value = ir.Constant(vector, ir.Undefined)
            for lane, part in enumerate(args[2:]):
                cast = context.cast(builder, part, signature.args[2 + lane], array.dtype)
                value = builder.insert_element(value, cast, ir.Constant(ir.IntType(32), lane))
            builder.store(value, pointer, align=align)
            return context.get_dummy_value()

        return types.void(array, index, a, b, c, d), emit
