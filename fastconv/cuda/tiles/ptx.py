"""Intrinsics for what CUDA Python lacks: 128-bit loads and stores, asynchronous copies to shared memory (`cp.async`),
rounding to TF32, and the tensor cores' `mma.sync`.

Each emits LLVM IR or one line of PTX. Numba's simulator runs neither; there (`kernels.SIMULATED`) plain Python of equal
name, arguments and rounding takes their place, down to which lane of a warp holds which value.

Source: NVIDIA, PTX ISA, the sections on ld, cp.async, cvt and mma.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import types

from ..system.kernels import SIMULATED, cuda, target

#: Shapes and types of `mma.sync`, by what a word holds. Sums are in float32 or int32.
MMA = {"tf32": "m16n8k8.row.col.f32.tf32.tf32.f32", "f16": "m16n8k16.row.col.f32.f16.f16.f32",
       "bf16": "m16n8k16.row.col.f32.bf16.bf16.f32", "s8": "m16n8k32.row.col.s32.s8.s8.s32",
       "u8": "m16n8k32.row.col.s32.u8.u8.s32"}

if SIMULATED:
    from ..system.simulator import this

    int64 = int

    def int32(value: Any) -> Any:
        """A signed integer of 32 bits: Numba's default has 64, and takes two registers."""
        value = int(value)
        return value if -(1 << 31) <= value < 1 << 31 else _signed(value & 0xFFFFFFFF)

    def inlined(function: Any) -> Any:
        """Decorator of a function that kernels call, to be inlined."""
        return function

    def within(value: Any, size: Any) -> Any:
        """Whether ``0 <= value < size``, in one comparison."""
        return 0 <= value < size

    def opaque(value: Any) -> Any:
        """The value, unknown to the compiler: what is derived from it is computed here and not kept from before."""
        return value

    def advance(pointer: Any, offset: Any) -> Any:
        """Pointer to ``pointer[offset]``."""
        return pointer.moved(offset)

    def _aligned(array: Any, index: Any, size: int) -> None:
        """IndexError where a GPU would stop. (Arrays without an address, in shared memory, begin at a boundary.)"""
        address = array.address(index) if hasattr(array, "address") else int(index) * array.itemsize
        if address % size:
            raise IndexError(f"a kernel takes {size} bytes at once from {address:#x}")

    def load4(array: Any, index: Any) -> Any:
        """Four elements from `index` on, in one load; aligned to 16 bytes, or to 4 elements if that is less."""
        _aligned(array, index, min(16, 4 * (array.array if hasattr(array, "array") else array).itemsize))
        return array[index], array[index + 1], array[index + 2], array[index + 3]

    def store4(array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> None:
        """Store ``array[index : index + 4] = a, b, c, d`` at once, aligned as for `load4`."""
        _aligned(array, index, min(16, 4 * (array.array if hasattr(array, "array") else array).itemsize))
        array[index], array[index + 1], array[index + 2], array[index + 3] = a, b, c, d

    def copier(size: int) -> Any:
        """Make the function that starts to copy `size` bytes, 4, 8 or 16, to shared memory, where they arrive later.

        It takes the shared array and a place there, a pointer and an index, both aligned to `size`, and whether the
        bytes are wanted: if not, nothing is read, and zeros arrive. In the simulator bytes arrive as late as they may.
        """

        def copy(shared: Any, place: Any, pointer: Any, index: Any, wanted: Any) -> None:
            _aligned(shared, place, size)
            if wanted:
                _aligned(pointer, index, size)
            this().copies[-1].append((size, shared, place, pointer, index, wanted))

        return copy

    def commit() -> None:
        """Make a group of the copies that this thread started since the last call."""
        this().copies.append([])

    def arrival(newest: int) -> Any:
        """Make the function that waits until all groups of this thread have arrived but the `newest` ones."""

        def wait() -> None:
            groups = this().copies
            while len(groups) - 1 > newest:
                for size, shared, place, pointer, index, wanted in groups.pop(0):
                    raw = np.zeros(size // pointer.array.itemsize, pointer.array.dtype)
                    if wanted:
                        raw[:] = [pointer[int(index) + i] for i in range(len(raw))]
                    for i, value in enumerate(raw.view(shared.dtype)):
                        shared[int(place) + i] = value

        return wait

    def word(value: Any) -> Any:
        """The bits of a float32, as an integer of 32 bits."""
        return int(np.float32(value).view(np.int32))

    def number(bits: Any) -> Any:
        """The float32 that has these bits."""
        return np.int32(bits).view(np.float32)

    def tf32(value: Any) -> Any:
        """The bits of a float32 rounded to the 10 bits of TF32, halves away from zero (``cvt.rna``)."""
        value = np.float32(value)
        return _signed((int(value.view(np.uint32)) + 0x1000) & 0xFFFFE000) if np.isfinite(value) else word(value)

    def split(bits: Any) -> Any:
        """A float32 as two TF32 numbers: rounded to the first 10 bits, and the rest. All three are given as bits."""
        big = _signed((int(bits) + 0x1000) & 0xFFFFE000)
        with np.errstate(invalid="ignore"):
            return big, word(number(bits) - number(big))

    def mma(kind: str, accumulator: Any) -> Any:
        """Make the function for a step of a warp's matrix product on tensor cores, with factors of a `kind` of `MMA`.

        It takes a lane's words of A (16 rows) and of B (8 columns) and its four sums of C, and returns the sums with
        the products added. A word is one float32, two halves or four bytes along k. Lane 4 g + t holds rows g and g + 8
        of A and column g of B, words t and t + 4 of each; and rows g and g + 8, columns 2t and 2t + 1 of C.
        """

        def step(a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, c0: Any, c1: Any, c2: Any, c3: Any) -> Any:
            thread = this()
            boards, steps = thread.block.boards, thread.steps + 1
            thread.steps = steps
            boards[steps][thread.thread_id] = (a0, a1, a2, a3, b0, b1)
            thread.syncthreads()  # all warps of a block make the same steps
            boards.pop(steps - 1, None)
            lane = thread.thread_id % 32
            words = np.array([boards[steps][thread.thread_id - lane + i] for i in range(32)], np.int64)
            g, t = divmod(lane, 4)
            rows = [_factors(kind, np.concatenate([words[4 * g : 4 * g + 4, i], words[4 * g : 4 * g + 4, i + 2]]))
                    for i in (0, 1)]
            cols = [_factors(kind, np.concatenate([words[4 * o : 4 * o + 4, i] for i in (4, 5)]))
                    for o in (2 * t, 2 * t + 1)]
            sums = zip((c0, c1, c2, c3), [(row, col) for row in rows for col in cols], strict=True)
            with np.errstate(invalid="ignore", over="ignore"):
                return tuple(np.asarray((row * col).sum() + c).astype(accumulator.name)[()] for c, (row, col) in sums)

        return step

    def _factors(kind: str, words: np.ndarray) -> np.ndarray:
        """The factors in words, exact in float64 or in int64."""
        bits = words.astype(np.uint32)
        if kind == "tf32":
            return (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
        if kind == "bf16":
            return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        if kind == "f16":
            return bits.view(np.float16).astype(np.float64)
        return bits.view(np.int8 if kind == "s8" else np.uint8).astype(np.int64)

    def _signed(bits: int) -> int:
        return bits - (1 << 32) if bits >> 31 else bits

else:
    from llvmlite import ir
    from numba.core import cgutils
    from numba.cuda.extending import intrinsic

    int32, int64 = types.int32, types.int64  # type: ignore[assignment] # in a kernel's code, casts
    inlined = cuda.jit(device=True, forceinline=True)  # type: ignore[call-arg] # numba's stubs lack it

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
        """Pointer to four elements as a vector, the vector's type, and the pointer's alignment."""
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

    def _assembly(text, constraints, *kinds):
        """An instruction with effects, across which nothing may be moved."""
        kind = ir.FunctionType(ir.VoidType(), kinds)
        return ir.InlineAsm(kind, text, ",".join([*constraints, "~{memory}"]), side_effect=True)

    @cache
    def copier(size):
        keep = "cg" if size == 16 else "ca"  # only copies of 16 bytes can bypass the first-level cache
        text = f"cp.async.{keep}.shared.global [$0], [$1], {size}, $2;"
        word, long, byte = ir.IntType(32), ir.IntType(64), ir.IntType(8)

        @intrinsic
        def copy(typingctx, shared, place, pointer, index, wanted):
            def emit(context, builder, signature, args):
                data = context.make_array(shared)(context, builder, args[0]).data
                end = builder.gep(data, [context.cast(builder, args[1], place, types.int64)])
                start = builder.gep(args[2], [context.cast(builder, args[3], index, types.int64)])
                if target() >= (8, 0):
                    end = builder.addrspacecast(builder.bitcast(end, byte.as_pointer()), byte.as_pointer(3))
                    start = builder.addrspacecast(builder.bitcast(start, byte.as_pointer()), byte.as_pointer(1))
                    count = builder.select(args[4], ir.Constant(word, size), ir.Constant(word, 0))
                    builder.call(_assembly(text, "rlr", word, long, word),
                                 [builder.ptrtoint(end, word), builder.ptrtoint(start, long), count])
                else:  # the oldest GPUs that Numba compiles for, which copy through a register
                    kind = ir.VectorType(word, size // 4)
                    value = cgutils.alloca_once_value(builder, ir.Constant(kind, [0] * (size // 4)))
                    with builder.if_then(args[4]):
                        builder.store(builder.load(builder.bitcast(start, kind.as_pointer()), align=size), value)
                    builder.store(builder.load(value), builder.bitcast(end, kind.as_pointer()), align=size)
                return context.get_dummy_value()

            return types.void(shared, place, pointer, index, types.boolean), emit

        return copy

    def _instruction(text):
        @intrinsic
        def instruction(typingctx):
            def emit(context, builder, signature, args):
                if target() >= (8, 0):
                    builder.call(_assembly(text, ""), [])
                return context.get_dummy_value()

            return types.void(), emit

        return instruction

    commit = _instruction("cp.async.commit_group;")

    @cache
    def arrival(newest):
        return _instruction(f"cp.async.wait_group {newest};")

    def _bitcast(source, target, kind):
        @intrinsic
        def cast(typingctx, value):
            def emit(context, builder, signature, args):
                return builder.bitcast(args[0], kind)

            return target(source), emit

        return cast

    word = _bitcast(types.float32, types.int32, ir.IntType(32))
    number = _bitcast(types.int32, types.float32, ir.FloatType())

    @intrinsic
    def tf32(typingctx, value):
        def emit(context, builder, signature, args):
            kind = ir.FunctionType(ir.IntType(32), [ir.FloatType()])
            return builder.call(ir.InlineAsm(kind, "cvt.rna.tf32.f32 $0, $1;", "=r,f"), args)

        return types.int32(types.float32), emit

    @inlined
    def split(bits):
        big = types.int32((bits + 0x1000) & -0x2000)
        return big, word(number(bits) - number(big))

    @cache
    def mma(kind, accumulator):
        text = (f"mma.sync.aligned.{MMA[kind]} {{$0, $1, $2, $3}}, {{$4, $5, $6, $7}}, {{$8, $9}}, "
                "{$10, $11, $12, $13};")
        letter = "f" if accumulator == types.float32 else "r"
        constraints = ",".join([f"={letter}"] * 4 + ["r"] * 6 + [letter] * 4)

        @intrinsic
        def step(typingctx, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
            def emit(context, builder, signature, args):
                sum_kind = context.get_data_type(accumulator)
                parts = [sum_kind] * 4
                kind = ir.FunctionType(ir.LiteralStructType(parts), [ir.IntType(32)] * 6 + parts)
                sums = builder.call(ir.InlineAsm(kind, text, constraints), args)
                lanes = [builder.extract_value(sums, lane) for lane in range(4)]
                return context.make_tuple(builder, signature.return_type, lanes)

            arguments = (types.int32,) * 6 + (accumulator,) * 4
            return types.UniTuple(accumulator, 4)(*arguments), emit

        return step
