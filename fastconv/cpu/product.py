"""A register tile that adds to sums kept elsewhere: for sums that come in parts.

Made of the reduction loop of `tile`, and like its tiles it also exists as plain loops.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .runtime import jit
from .simd import _INT, Vector, _data, _load, _plus, _splat, _store, register_bytes
from .tile import _plain, _reduction


@lru_cache(maxsize=256)
def added_product(rows: int, vectors: int) -> Any:
    """A matrix product of `rows` x (`vectors` * lanes) sums kept in registers, added to what there is.

    The returned function, for kernels, is called as ``added_product(x, at, offsets, steps, packed, packed_at, out,
    out_at)`` and computes, for r < `rows` and l < `vectors` * lanes::

        out[out_at + r * vectors * lanes + l] += sum over i < steps of
                    x[at + offsets[i] + r] * packed[packed_at + i * vectors * lanes + l]
    """
    if _plain():
        return _plain_product(rows, vectors)

    @intrinsic
    def register_product(typingctx, x, at, offsets, steps, packed, packed_at, out, out_at):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, table, steps_, packed_, first, out_, to = args
            left = builder.gep(_data(context, builder, x, x_), [start])
            right = builder.gep(_data(context, builder, packed, packed_), [first])
            distances = _data(context, builder, offsets, table)
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)

            def factors(i):
                here = builder.gep(left, [builder.load(builder.gep(distances, [i]))])
                there = builder.gep(right, [builder.mul(i, _INT(vectors * count))])
                return (
                    lambda r: _splat(builder, builder.load(builder.gep(here, [_INT(r)])), count),
                    lambda v: _load(builder, there, _INT(v * count), count),
                )

            sums = _reduction(builder, rows, vectors, steps_, zero, factors)
            goal = builder.gep(_data(context, builder, out, out_), [to])
            for number, value in enumerate(chain(*sums)):
                before = _load(builder, goal, _INT(number * count), count)
                _store(builder, _plus(builder, before, value), goal, _INT(number * count))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(x, integer, offsets, integer, packed, integer, out, integer), codegen

    return register_product


def _plain_product(rows: int, vectors: int) -> Any:
    """The same product as loops over one sum at a time."""
    register_width = register_bytes()

    @jit(key=(rows, vectors))
    def plain_product(x, at, offsets, steps, packed, packed_at, out, out_at):
        flat_x, flat_packed, flat_out = x.reshape(-1), packed.reshape(-1), out.reshape(-1)
        width = vectors * (register_width // out.itemsize)
        for r in range(rows):
            for lane in range(width):
                total = out.dtype.type(0)
                for i in range(steps):
                    total += flat_x[at + offsets[i] + r] * flat_packed[packed_at + i * width + lane]
                flat_out[out_at + r * width + lane] += total

    return plain_product
