"""Register tiles that add to sums kept elsewhere: what the gradients for a weight are summed with, part by part.

Made of the parts of `simd` and `tile`, and like the tiles there they also exist as plain loops.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .runtime import jit
from .simd import _INT, Vector, _data, _fma, _load, _plus, _splat, _store, register_bytes
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


@lru_cache(maxsize=256)
def outer_sums(rows: int, columns: int) -> Any:
    """All products of `rows` runs of one array with `columns` runs of another, in vectors along the runs.

    The returned function, for kernels, is called as ``outer_sums(left, left_at, left_offsets, right, right_at,
    right_offsets, steps, out, out_at)``, with `rows` and `columns` offsets, and computes, for r < `rows`, s < `columns`
    and l < lanes::

        out[out_at + (r * columns + s) * lanes + l] += sum over i < steps of
                    left[left_at + left_offsets[r] + i * lanes + l] * right[right_at + right_offsets[s] + i * lanes + l]
    """
    if _plain():
        return _plain_outer_sums(rows, columns)

    @intrinsic
    def register_sums(typingctx, left, left_at, left_offsets, right, right_at, right_offsets, steps, out, out_at):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            left_, at, left_table, right_, start, right_table, steps_, out_, to = args

            def runs(array, kind, begin, table, table_kind, number):
                base = builder.gep(_data(context, builder, kind, array), [begin])
                distances = _data(context, builder, table_kind, table)
                return [
                    builder.gep(base, [builder.load(builder.gep(distances, [_INT(run)]))]) for run in range(number)
                ]

            lefts = runs(left_, left, at, left_table, left_offsets, rows)
            rights = runs(right_, right, start, right_table, right_offsets, columns)
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)
            entry, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            i = builder.phi(_INT)
            i.add_incoming(_INT(0), entry)
            sums = [builder.phi(zero.type) for _ in range(rows * columns)]
            place = builder.mul(i, _INT(count))
            tall = [_load(builder, run, place, count) for run in lefts]
            new = []
            for s, run in enumerate(rights):
                value = _load(builder, run, place, count)
                new.append([_fma(builder, tall[r], value, sums[r * columns + s]) for r in range(rows)])
            following = builder.add(i, _INT(1))
            i.add_incoming(following, loop)
            results = [new[s][r] for r in range(rows) for s in range(columns)]
            for phi, value in zip(sums, results, strict=True):
                phi.add_incoming(zero, entry)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, steps_), loop, done)
            builder.position_at_end(done)
            goal = builder.gep(_data(context, builder, out, out_), [to])
            for number, value in enumerate(results):
                before = _load(builder, goal, _INT(number * count), count)
                _store(builder, _plus(builder, before, value), goal, _INT(number * count))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            left, integer, left_offsets, right, integer, right_offsets, integer, out, integer
        ), codegen

    return register_sums


def _plain_outer_sums(rows: int, columns: int) -> Any:
    """The same products as loops over one sum at a time."""
    register_width = register_bytes()

    @jit(key=(rows, columns))
    def plain_sums(left, left_at, left_offsets, right, right_at, right_offsets, steps, out, out_at):
        lanes = register_width // out.itemsize
        for r in range(rows):
            for s in range(columns):
                at, start = left_at + left_offsets[r], right_at + right_offsets[s]
                for q in range(steps * lanes):
                    out[out_at + (r * columns + s) * lanes + q % lanes] += left[at + q] * right[start + q]

    return plain_sums
