"""The register tile of `conv_winograd`: a matrix product whose left factor lies in blocks of lanes, and of the result
nothing but sums."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..system import micro
from ..system.building import intrinsic
from ..system.kernels import jit
from . import emit
from .reductions import fetch_ahead, reduction
from .register_tile import table_size
from .simd import Vector, register_bytes

#: What a step fetches of a cache line is counted in such a fraction of an element.
FRACTION = 1 << 16


def matrix_product_address(rows: int, vectors: int, streams: bool, dtype: np.dtype) -> int:
    """Address of the micro-kernel `matrix_product`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    types_ = row, place, micro.array(np.intp), row, place, place, row, place, place
    return micro.address(matrix_product, (rows, vectors, streams), types_)


def matrix_product(rows: int, vectors: int, streams: bool) -> Any:
    """A micro-kernel for the sums of `conv_winograd`: a matrix product whose left factor lies in blocks of lanes.

    It is called as ``matrix_product(x, at, offsets, packed, packed_at, following, out, out_at, count)`` and computes,
    for `count` blocks b, r < `rows` and l < `vectors` * lanes::

        out[out_at + (b * rows + r) * vectors * lanes + l] = sum over i of
                    x[at + offsets[i] + (b * rows + r) * lanes] * packed[packed_at + i * vectors * lanes + l]

    The weights of the next call begin `following` elements behind these. If the tile `streams`, all blocks share in
    fetching those: memory is busy all the time, not just while the first block runs.
    """
    if emit.is_plain():
        return _plain_product(rows, vectors)

    @intrinsic
    def register_product(typingctx, x, at, offsets, packed, packed_at, following, out, out_at, count):
        lanes = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, table, packed_, first, next_, out_, to, blocks = args
            image = builder.gep(emit.data_of(context, builder, x, x_), [start])
            weights = builder.gep(emit.data_of(context, builder, packed, packed_), [first])
            goal = builder.gep(emit.data_of(context, builder, out, out_), [to])
            distances = emit.data_of(context, builder, offsets, table)
            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), lanes), None)
            steps = table_size(context, builder, offsets, table)
            fetch = _fetching(builder, weights, next_, vectors * lanes, blocks, steps) if streams else None
            with cgutils.for_range(builder, blocks) as loop:
                block = builder.gep(image, [builder.mul(loop.index, emit.INT(rows * lanes))])

                def factors(i):
                    here = builder.gep(block, [builder.load(builder.gep(distances, [i]))])
                    there = builder.gep(weights, [builder.mul(i, emit.INT(vectors * lanes))])
                    if not streams:
                        fetch_ahead(builder, there, vectors * lanes)
                    return (
                        lambda r: emit.splat(builder, builder.load(builder.gep(here, [emit.INT(r * lanes)])), lanes),
                        lambda v: emit.load(builder, there, emit.INT(v * lanes), lanes),
                    )

                share = partial(fetch, loop.index) if fetch else None
                sums = reduction(builder, rows, vectors, steps, zero, factors, share)
                place = builder.mul(loop.index, emit.INT(rows * vectors * lanes))
                for number, value in enumerate(chain(*sums)):
                    emit.store(builder, value, goal, builder.add(place, emit.INT(number * lanes)))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(x, integer, offsets, packed, integer, integer, out, integer, integer), codegen

    return register_product


def _plain_product(rows: int, vectors: int) -> Any:
    """The twin in plain loops, one sum at a time."""
    register_width = register_bytes()

    @jit(key=(rows, vectors))
    def plain_product(x, at, offsets, packed, packed_at, following, out, out_at, count):
        lanes = register_width // out.itemsize
        for r in range(count * rows):
            for lane in range(vectors * lanes):
                total = out.dtype.type(0)
                for i in range(offsets.size):
                    total += x[at + offsets[i] + r * lanes] * packed[packed_at + i * vectors * lanes + lane]
                out[out_at + r * vectors * lanes + lane] = total

    return plain_product


def _fetching(builder, weights, following, amount, blocks, steps):
    """A function of a block, a step and a number of steps, which emits what a turn of so many fetches of following
    weights.

    All `blocks` of a call read the same weights, `amount` elements in each of all `steps`. They share in fetching as
    many that begin `following` elements behind those: each turn fetches a line, and where blocks are few its others.
    """
    share = builder.udiv(emit.INT(amount * FRACTION), blocks)
    line = 64 * 8 // emit.bits_of(weights.type.pointee)

    def fetch(block, step, turn):
        done = builder.mul(builder.add(builder.mul(block, steps), step), share)
        place = builder.gep(weights, [builder.add(following, builder.sdiv(done, emit.INT(FRACTION)))])
        emit.prefetch(builder, place, 0, 1, level=2)
        if turn * amount > line:
            with builder.if_then(builder.icmp_signed("<", blocks, emit.INT(turn * amount // line)), likely=False):
                emit.prefetch(builder, place, line, turn * amount - line, level=2)

    return fetch
