"""Vector instructions for kernels.

Numba compiles scalar loops and leaves vectors to LLVM's vectoriser. Where that is not enough a kernel uses vectors: a
Numba type as wide as the host's registers, with ``load``, ``store``, ``splat``, ``+ - *``, ``fma``, ``larger``;
``load_part`` and ``store_part`` for the ragged end of a row; and ``transpose`` for a square block. The inner loops of
the convolutions, which keep many vectors in registers, are in `register_tile`.

LLVM maps the vector types to the host's registers, so the same code runs with AVX-512, AVX2, SSE and NEON.
"""

from __future__ import annotations

import operator
from functools import cache, lru_cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model

from ..system.building import intrinsic
from ..system.target import features
from . import emit


@lru_cache(maxsize=1)
def register_bytes() -> int:
    """Width of the processor's vector registers: 64 with AVX-512, 32 with AVX2, 16 otherwise (SSE, NEON)."""
    if "avx512f" in features():
        return 64
    return 32 if "avx2" in features() else 16


@lru_cache(maxsize=1)
def registers() -> int:
    """Number of the processor's vector registers: 32 with AVX-512 and NEON, 16 otherwise."""
    return 32 if register_bytes() == 64 or llvm.get_process_triple().startswith(("aarch64", "arm64")) else 16


def shifts_pay() -> bool:
    """Whether a vector is sooner shifted from two others than loaded where it crosses a cache line: with AVX-512 on
    AMD's processors (known by an instruction set of theirs), which shuffle beside multiplying; Intel's do not."""
    return register_bytes() == 64 and "sse4a" in features()


def lanes(dtype: Any) -> int:
    """Elements of `dtype` in one vector register."""
    return register_bytes() // np.dtype(dtype).itemsize


# -- vectors as a Numba type -----------------------------------------------------------------------------------


class Vector(types.Type):
    """The type of one register full of scalars; or of `count` scalars, to match the lanes of another vector."""

    def __init__(self, scalar: Any, count: int | None = None) -> None:
        self.scalar = scalar
        self.count = count or register_bytes() // (scalar.bitwidth // 8)
        super().__init__(name=f"vector({scalar} x {self.count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.scalar).get_value_type(), kind.count))


class _VectorOperator(AbstractTemplate):
    """An operator of two vectors, or of a vector and a scalar that becomes one."""

    def generic(self, args, kws):
        if len(args) == 2 and any(isinstance(arg, Vector) for arg in args):
            kind = args[0] if isinstance(args[0], Vector) else args[1]
            return signature(kind, kind, kind)
        return None


def _define_operator(function: Any, floats: str, integers: str) -> None:
    infer_global(function)(type(f"_Vector{floats}", (_VectorOperator,), {}))

    def lower(context, builder, sig, args):
        is_float = isinstance(sig.return_type.scalar, types.Float)
        return getattr(builder, floats if is_float else integers)(*args)

    lower_builtin(function, Vector, Vector)(lower)


_define_operator(operator.add, "fadd", "add")
_define_operator(operator.sub, "fsub", "sub")
_define_operator(operator.mul, "fmul", "mul")
_define_operator(operator.truediv, "fdiv", "sdiv")


@intrinsic(plain=lambda array: array.reshape(-1))
def flat(typingctx, array):
    """A C-contiguous array as one row: ``array.reshape(-1)``, but without the 0.08 s that Numba compiles for that."""
    row = types.Array(array.dtype, 1, "C")

    def codegen(context, builder, sig, args):
        whole, made = context.make_array(array)(context, builder, args[0]), context.make_array(row)(context, builder)
        made.data, made.nitems, made.itemsize = whole.data, whole.nitems, whole.itemsize
        made.shape, made.strides = (cgutils.pack_array(builder, [size]) for size in (whole.nitems, whole.itemsize))
        made.meminfo, made.parent = (ir.Constant(part.type, None) for part in (made.meminfo, made.parent))
        return made._getvalue()

    return row(array), codegen


def _plain_load(array, index, valid=None, step=1):
    count = lanes(array.dtype)
    there = array.reshape(-1)[index::step][: count if valid is None else max(0, min(valid, count))]
    return np.pad(there, (0, count - there.size))


def _plain_store(array, index, vector, valid=None):
    some = vector if valid is None else vector[: max(0, valid)]
    array.reshape(-1)[index : index + some.size] = some


def _plain_transpose(source, at, pitch, rows, columns, target, to, target_pitch):
    for r, c in np.ndindex(rows, columns):
        target.reshape(-1)[to + c * target_pitch + r] = source.reshape(-1)[at + r * pitch + c]


@intrinsic(plain=_plain_load)
def load(typingctx, array, index):
    """The vector at a flat index of a C-contiguous array."""
    kind = Vector(array.dtype)

    def codegen(context, builder, sig, args):
        return emit.load(builder, emit.data_of(context, builder, array, args[0]), args[1], kind.count)

    return kind(array, types.int64), codegen


@intrinsic(plain=_plain_load)
def load_part(typingctx, array, index, valid):
    """The first `valid` elements at a flat index, zeros behind them; nothing else is read."""
    kind = Vector(array.dtype)

    def codegen(context, builder, sig, args):
        mask = emit.first_lanes(builder, kind.count, args[2])
        return emit.load_masked(builder, emit.data_of(context, builder, array, args[0]), args[1], mask)

    return kind(array, types.int64, types.int64), codegen


@intrinsic(plain=_plain_store)
def store(typingctx, array, index, vector):
    """Write a vector at a flat index of a C-contiguous array."""

    def codegen(context, builder, sig, args):
        emit.store(builder, args[2], emit.data_of(context, builder, array, args[0]), args[1])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), codegen


@intrinsic(plain=_plain_store)
def store_part(typingctx, array, index, vector, valid):
    """Write the first `valid` elements of a vector; nothing else is touched."""

    def codegen(context, builder, sig, args):
        mask = emit.first_lanes(builder, vector.count, args[3])
        emit.store_masked(builder, args[2], emit.data_of(context, builder, array, args[0]), args[1], mask)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector, types.int64), codegen


@cache
def add_part(share: int) -> Any:
    """The function ``add(source, at, target, to, valid)``, which adds the first `valid` elements at one flat index to
    those at another, at most lanes / `share` of them; nothing else is touched."""

    def plain(source, at, target, to, valid):
        target.reshape(-1)[to : to + valid] += source.reshape(-1)[at : at + valid]

    @intrinsic(plain=plain)
    def add(typingctx, source, at, target, to, valid):
        count = max(1, Vector(target.dtype).count // share)

        def codegen(context, builder, sig, args):
            source_, at_, target_, to_, valid_ = args
            here = emit.data_of(context, builder, source, source_), at_, emit.first_lanes(builder, count, valid_)
            there = emit.data_of(context, builder, target, target_), to_, here[2]
            total = emit.plus(builder, emit.load_masked(builder, *there), emit.load_masked(builder, *here))
            emit.store_masked(builder, total, *there)
            return context.get_dummy_value()

        return types.void(source, types.int64, target, types.int64, types.int64), codegen

    return add


@intrinsic(plain=lambda array, index, valid: _plain_load(array, index, valid, 2))
def load_even(typingctx, array, index, valid):
    """Every second element from a flat index on, as one vector; zeros from the `valid`-th on, and nothing there is
    read."""
    kind = Vector(array.dtype)

    def codegen(context, builder, sig, args):
        data, count = emit.data_of(context, builder, array, args[0]), kind.count
        last = builder.sub(builder.shl(args[2], emit.INT(1)), emit.INT(1))
        near = emit.load_masked(builder, data, args[1], emit.first_lanes(builder, count, last))
        beyond = builder.add(args[1], emit.INT(count))
        far = emit.load_masked(
            builder, data, beyond, emit.first_lanes(builder, count, builder.sub(last, emit.INT(count)))
        )
        even = ir.Constant(ir.VectorType(emit.I32, count), list(range(0, 2 * count, 2)))
        return builder.shuffle_vector(near, far, even)

    return kind(array, types.int64, types.int64), codegen


@intrinsic(plain=lambda array, index: None)
def fetch(typingctx, array, index):
    """Bring the cache line of a flat index, which need not exist, into the second-level cache."""

    def codegen(context, builder, sig, args):
        emit.prefetch(builder, builder.gep(emit.data_of(context, builder, array, args[0]), [args[1]]), 0, 1, level=2)
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@intrinsic(plain=lambda array, index: 0)
def beyond_line(typingctx, array, index):
    """Elements from the last place in memory that is a multiple of a vector's size to a flat index of an array."""

    def codegen(context, builder, sig, args):
        data = emit.data_of(context, builder, array, args[0])
        address = builder.ptrtoint(builder.gep(data, [args[1]]), emit.INT)
        beyond = builder.and_(address, emit.INT(register_bytes() - 1))
        return builder.udiv(beyond, emit.INT(emit.bits_of(data.type.pointee) // 8))

    return types.int64(array, types.int64), codegen


@intrinsic(plain=lambda scalar: np.full(lanes(scalar.dtype), scalar))
def splat(typingctx, scalar):
    """A vector whose elements all are `scalar`."""
    kind = Vector(scalar)
    return kind(scalar), lambda context, builder, sig, args: emit.splat(builder, args[0], kind.count)


@intrinsic(plain=lambda a, b, c: a * b + c)
def fma(typingctx, a, b, c):
    """a * b + c of three vectors; floats rounded once."""
    return a(a, b, c), lambda context, builder, sig, args: emit.fma(builder, *args)


@intrinsic(plain=lambda a, b: np.where((a > b) | (a != a), a, b))
def larger(typingctx, a, b):
    """The elementwise maximum: `a` where it is larger or NaN, else `b`. (A NaN in `b` is not smaller: it is taken.)

    In a chain of maxima the largest so far should be `b`, which is waited for last.
    """
    return a(a, b), lambda context, builder, sig, args: emit.larger(builder, a.scalar, *args)


@intrinsic(plain=lambda a, b: np.where((a < b) | (a != a), a, b))
def smaller(typingctx, a, b):
    """The elementwise minimum: `a` where it is smaller or NaN, else `b`, as `larger`."""
    return a(a, b), lambda context, builder, sig, args: emit.larger(builder, a.scalar, *args, "<")


#: Elements by which a transpose fetches each of its rows ahead: lanes' many rows are too many streams for the
#: prefetchers. (3x3 Winograd of 32 images of 256 channels takes 0.93 of the time, a plain call of 512 channels 0.96;
#: 32, 64 and 128 within 2%. An AMD EPYC of Zen 5.)
AHEAD = 64


def _transposes(source: Any, target: Any, with_squares: bool) -> tuple[Any, Any]:
    """Signature and code of `transpose` and `transpose_squares`."""
    count = Vector(source.dtype).count

    def block(builder, data, start, step, height, width, goal, begin, stride, squares=None, place_of_squares=None):
        places = emit.steps(builder, start, step, count)
        for place in places:
            emit.prefetch(builder, builder.gep(data, [place]), AHEAD, 1)
        full = builder.and_(*(builder.icmp_signed(">=", size, emit.INT(count)) for size in (height, width)))
        with builder.if_else(full, likely=True) as (whole, part):
            with whole:  # masks cost, also where all their bits are set
                square = [emit.load(builder, data, place, count) for place in places]
                if with_squares:
                    emit.add_squares(builder, square, squares, place_of_squares)
                from_whole = builder.block
            with part:
                mask, ragged, place = emit.first_lanes(builder, count, width), [], start
                for row in range(count):  # rows that do not exist read the last one again
                    ragged.append(emit.load_masked(builder, data, place, mask))
                    another = builder.icmp_signed("<", emit.INT(row + 1), height)
                    place = builder.select(another, builder.add(place, step), place)
                if with_squares:
                    zero = ir.Constant(ragged[0].type, None)
                    there = [builder.icmp_signed("<", emit.INT(row), height) for row in range(count)]
                    rows = [builder.select(*pair, zero) for pair in zip(there, ragged, strict=True)]
                    emit.add_squares(builder, rows, squares, place_of_squares)
                from_part = builder.block
        vectors = []
        for one, other in zip(square, ragged, strict=True):
            vector = builder.phi(one.type)
            vector.add_incoming(one, from_whole)
            vector.add_incoming(other, from_part)
            vectors.append(vector)
        done = emit.transposed(builder, vectors)
        places = emit.steps(builder, begin, stride, count)
        with builder.if_else(full, likely=True) as (whole, part):
            with whole:
                for place, vector in zip(places, done, strict=True):
                    emit.store(builder, vector, goal, place)
            with part:
                mask = emit.first_lanes(builder, count, height)
                for column, (place, vector) in enumerate(zip(places, done, strict=True)):
                    inside = builder.icmp_signed("<", emit.INT(column), width)
                    with builder.if_then(inside):
                        emit.store_masked(builder, vector, goal, place, mask)

    def codegen(context, builder, sig, args):
        data, goal = emit.data_of(context, builder, source, args[0]), emit.data_of(context, builder, target, args[5])
        operands = [data, *args[1:5], goal, *args[6:8]]
        if with_squares:
            operands += [emit.data_of(context, builder, target, args[8]), args[9]]
        name = f"fastconv.transpose{'_squares' * with_squares}.{emit.suffix(data.type.pointee)}"
        emit.call_once_emitted(builder, name, operands, block)
        return context.get_dummy_value()

    integers = [types.int64] * 4
    more = [target, types.int64] if with_squares else []
    return types.void(source, *integers, target, types.int64, types.int64, *more), codegen


@intrinsic(plain=_plain_transpose)
def transpose(typingctx, source, at, pitch, rows, columns, target, to, target_pitch):
    """Transpose a block of up to lanes x lanes elements: ``target[to + c * target_pitch + r] = source[at + r * pitch +
    c]``.

    Exactly `rows` x `columns` elements are read and written (both at least 1).
    """
    return _transposes(source, target, False)


@intrinsic
def transpose_squares(typingctx, source, at, pitch, rows, columns, target, to, target_pitch, squares, place):
    """Transpose a block as `transpose` does, and add the squares of each column: ``squares[place + c] += sum over r of
    source[at + r * pitch + c] ** 2``, floats; of a whole vector from `place` on, zeros beyond the block."""
    return _transposes(source, target, True)
