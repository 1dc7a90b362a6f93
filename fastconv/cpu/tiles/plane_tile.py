"""The register tile of `conv_polyphase`: a small correlation of planes in which all padding is already written out.

::

    out[r, l] = sum over c, a of weight[c, a] * x[c, r + a, l]

for a few rows by a few vectors of l. A vector of x is loaded once for all rows that use it: first the input rows that
only upper rows of the tile see, then, in a flat loop, those that all see, then those that only lower rows see.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..system import micro
from ..system.building import intrinsic
from ..system.kernels import jit
from . import emit
from .simd import Vector, register_bytes, registers


def tile_vectors(wide: int) -> int:
    """Vectors of a tile of up to four rows that fits the registers and leaves little over in rows of `wide` vectors."""
    most = registers() // 5
    return min((most, most * 2 // 3, most // 3), key=lambda count: -(-wide // count) * (2 * count + 1))


def plane_tile_address(rows: int, vectors: int, dtype: np.dtype) -> int:
    """Address of the micro-kernel `plane_tile`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    types_ = row, place, micro.array(np.int64), place, place, row, place, row, *[place] * 3
    return micro.address(plane_tile, (rows, vectors), types_)


def plane_tile(rows: int, vectors: int) -> Any:
    """A micro-kernel that computes `count` tiles side by side; arrays are flat.

    It is called as ``tile(x, at, offsets, channels, channel_step, weight, weight_at, out, out_at, pitch, count)``.
    `offsets` has the distances of the rows of x that a tile sees, `rows` - 1 more than there are taps; there are at
    least `rows` taps. `weight` has (channels, taps) from `weight_at` on. `out` needs room for whole tiles.
    """
    if emit.is_plain():
        return _plain_plane_tile(rows, vectors)

    @intrinsic
    def register_tile(typingctx, x, at, offsets, channels, channel_step, weight, weight_at, out, out_at, pitch, count):
        lanes = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, table_, depth, step, weight_, first, out_, to, pitch_, count_ = args
            table = emit.data_of(context, builder, offsets, table_)
            total = builder.extract_value(context.make_array(offsets)(context, builder, table_).shape, 0)
            taps = builder.sub(total, emit.INT(rows - 1))
            weights = builder.gep(emit.data_of(context, builder, weight, weight_), [first])
            with cgutils.for_range(builder, count_) as tiles:
                across = builder.mul(tiles.index, emit.INT(vectors * lanes))
                image = builder.gep(emit.data_of(context, builder, x, x_), [builder.add(start, across)])
                sums = _tile_sums(builder, (rows, vectors), lanes, image, table, (depth, step), weights, taps)
                goal = builder.gep(emit.data_of(context, builder, out, out_), [builder.add(to, across)])
                for r in range(rows):
                    for v in range(vectors):
                        emit.store(
                            builder,
                            sums[r][v],
                            goal,
                            builder.add(builder.mul(pitch_, emit.INT(r)), emit.INT(v * lanes)),
                        )
            return context.get_dummy_value()

        integer = types.int64
        return types.void(x, integer, offsets, integer, integer, weight, integer, out, *[integer] * 3), codegen

    return register_tile


def _tile_sums(builder, shape, lanes, image, table, channels, weights, taps):
    """Emit the loops over channels (their number and distance) and taps that make the sums of one tile."""
    (rows, vectors), (depth, step) = shape, channels
    zero = ir.Constant(ir.VectorType(weights.type.pointee, lanes), None)
    begin, over = builder.block, builder.append_basic_block("channels")
    builder.branch(over)
    builder.position_at_end(over)
    c = builder.phi(emit.INT)
    c.add_incoming(emit.INT(0), begin)
    heads = [[builder.phi(zero.type) for _ in range(vectors)] for _ in range(rows)]
    sums = [list(row) for row in heads]
    here, there = builder.gep(image, [builder.mul(c, step)]), builder.gep(weights, [builder.mul(c, taps)])
    # The rows first..last of the tile that see the input rows from one bound to the next.
    bounds = [emit.INT(y) for y in range(rows)] + [builder.add(taps, emit.INT(y)) for y in range(rows)]
    seen = [(0, y) for y in range(rows)] + [(y, rows - 1) for y in range(1, rows)]
    for number, (top, bottom) in enumerate(seen):
        before, loop = builder.block, builder.append_basic_block("taps")
        after = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(emit.INT)
        i.add_incoming(bounds[number], before)
        held = {(r, v): builder.phi(zero.type) for r in range(top, bottom + 1) for v in range(vectors)}
        place = builder.gep(here, [builder.load(builder.gep(table, [i]))])
        wide = [emit.load(builder, place, emit.INT(v * lanes), lanes) for v in range(vectors)]
        following = builder.add(i, emit.INT(1))
        for r in range(top, bottom + 1):
            scalar = builder.load(builder.gep(there, [builder.sub(i, emit.INT(r))]))
            one = emit.splat(builder, scalar, lanes)
            for v in range(vectors):
                held[r, v].add_incoming(sums[r][v], before)
                sums[r][v] = emit.fma(builder, one, wide[v], held[r, v])
                held[r, v].add_incoming(sums[r][v], loop)
        i.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, bounds[number + 1]), loop, after)
        builder.position_at_end(after)
    next_c = builder.add(c, emit.INT(1))
    c.add_incoming(next_c, builder.block)
    for r in range(rows):
        for v in range(vectors):
            heads[r][v].add_incoming(zero, begin)
            heads[r][v].add_incoming(sums[r][v], builder.block)
    done = builder.append_basic_block("written")
    builder.cbranch(builder.icmp_signed("<", next_c, depth), over, done)
    builder.position_at_end(done)
    return sums


def _plain_plane_tile(rows: int, vectors: int) -> Any:
    """The twin in plain loops, one sum at a time."""
    width = vectors * register_bytes()

    @jit(key=(rows, vectors))
    def plain_tile(x, at, offsets, channels, channel_step, weight, weight_at, out, out_at, pitch, count):
        taps = offsets.size - (rows - 1)
        for r in range(rows):
            for lane in range(count * (width // out.itemsize)):
                total = out.dtype.type(0)
                for c in range(channels):
                    for i in range(taps):
                        total += weight[weight_at + c * taps + i] * x[at + c * channel_step + offsets[i + r] + lane]
                out[out_at + r * pitch + lane] = total

    return plain_tile

