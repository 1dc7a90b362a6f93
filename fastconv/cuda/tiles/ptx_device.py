"""Instructions that CUDA Python lacks, each emitted as LLVM IR or as one line of PTX.

`ptx_simulated` has the same names and says what each is for; kernels import either from `ptx`.
"""

from __future__ import annotations

from functools import cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from ..system.kernels import cuda, target

#: Shapes and types of `mma.sync`, by what a word holds. Sums are in float32 or int32.
MMA = {"tf32": "m16n8k8.row.col.f32.tf32.tf32.f32", "f16": "m16n8k16.row.col.f32.f16.f16.f32",
       "bf16": "m16n8k16.row.col.f32.bf16.bf16.f32", "s8": "m16n8k32.row.col.s32.s8.s8.s32",
       "u8": "m16n8k32.row.col.s32.u8.u8.s32"}

int32, int64 = types.int32, types.int64  # in a kernel's code, casts
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
