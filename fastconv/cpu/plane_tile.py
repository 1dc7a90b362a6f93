"""The register tile of `conv_toom_cook`, and the ways into and out of its planes of phases.

A plane tile is a small correlation of planes with all zeros and edges already there::

    out[r, l] = sum over c, a, b of weight[c, a, b] * x[c, r + a, l + b]

for a few rows by a few vectors of l. A vector of x is loaded once for all rows that use it: first the input rows that
only the upper rows see, then those that all see, then those of the lower ones. Each of these is a flat loop over taps
i = (y, b), row r taking weight i - r * kw.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .runtime import jit
from .simd import _I32, _INT, Vector, _data, _fma, _load, _splat, _store
from .tile import _plain


@lru_cache(maxsize=64)
def plane_tile(rows: int, vectors: int) -> Any:
    """The tile, for kernels; arrays are flat.

    It is called as ``tile(x, at, offsets, kw, channels, channel_step, weight, weight_at, out, out_at, pitch, lanes)``.
    `offsets` has the distances of the taps (y, b) of kh + rows - 1 rows of x, kh >= rows; `weight` has (channels, kh,
    kw) from `weight_at` on. `out` has room for whole tiles.
    """
    if _plain():
        return _plain_plane_tile(rows, vectors)

    @intrinsic
    def register_tile(
        typingctx, x, at, offsets, kw, channels, channel_step, weight, weight_at, out, out_at, pitch, lanes
    ):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, table_, width, depth, step, weight_, first, out_, to, pitch_, _ = args
            table = _data(context, builder, offsets, table_)
            total = builder.extract_value(context.make_array(offsets)(context, builder, table_).shape, 0)
            each = builder.sub(total, builder.mul(width, _INT(rows - 1)))  # taps of one channel's kernel
            image = builder.gep(_data(context, builder, x, x_), [start])
            weights = builder.gep(_data(context, builder, weight, weight_), [first])

            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), count), None)
            begin, over = builder.block, builder.append_basic_block("channels")
            builder.branch(over)
            builder.position_at_end(over)
            c = builder.phi(_INT)
            c.add_incoming(_INT(0), begin)
            heads = [[builder.phi(zero.type) for _ in range(vectors)] for _ in range(rows)]
            sums = [list(row) for row in heads]
            here, there = builder.gep(image, [builder.mul(c, step)]), builder.gep(weights, [builder.mul(c, each)])
            # The rows first..last of the tile that see the input rows from one bound to the next.
            bounds = [builder.mul(width, _INT(y)) for y in range(rows)]
            bounds += [builder.add(each, builder.mul(width, _INT(y))) for y in range(rows)]
            seen = [(0, y) for y in range(rows)] + [(y, rows - 1) for y in range(1, rows)]
            for number, (top, bottom) in enumerate(seen):
                before, loop = builder.block, builder.append_basic_block("taps")
                after = builder.append_basic_block("done")
                builder.branch(loop)
                builder.position_at_end(loop)
                i = builder.phi(_INT)
                i.add_incoming(bounds[number], before)
                held = {(r, v): builder.phi(zero.type) for r in range(top, bottom + 1) for v in range(vectors)}
                place = builder.gep(here, [builder.load(builder.gep(table, [i]))])
                wide = [_load(builder, place, _INT(v * count), count) for v in range(vectors)]
                following = builder.add(i, _INT(1))
                for r in range(top, bottom + 1):
                    scalar = builder.load(builder.gep(there, [builder.sub(i, builder.mul(width, _INT(r)))]))
                    one = _splat(builder, scalar, count)
                    for v in range(vectors):
                        held[r, v].add_incoming(sums[r][v], before)
                        sums[r][v] = _fma(builder, one, wide[v], held[r, v])
                        held[r, v].add_incoming(sums[r][v], loop)
                i.add_incoming(following, loop)
                builder.cbranch(builder.icmp_signed("<", following, bounds[number + 1]), loop, after)
                builder.position_at_end(after)
            next_c = builder.add(c, _INT(1))
            c.add_incoming(next_c, builder.block)
            for r in range(rows):
                for v in range(vectors):
                    heads[r][v].add_incoming(zero, begin)
                    heads[r][v].add_incoming(sums[r][v], builder.block)
            done = builder.append_basic_block("written")
            builder.cbranch(builder.icmp_signed("<", next_c, depth), over, done)
            builder.position_at_end(done)
            goal = builder.gep(_data(context, builder, out, out_), [to])
            for r in range(rows):
                for v in range(vectors):
                    _store(builder, sums[r][v], goal, builder.add(builder.mul(pitch_, _INT(r)), _INT(v * count)))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            x, integer, offsets, integer, integer, integer, weight, integer, out, integer, integer, integer
        ), codegen

    return register_tile


def _plain_plane_tile(rows: int, vectors: int) -> Any:
    """The same sums, one at a time."""

    @jit(key=(rows, vectors))
    def plain_tile(x, at, offsets, kw, channels, channel_step, weight, weight_at, out, out_at, pitch, lanes):
        each = offsets.size - kw * (rows - 1)
        for r in range(rows):
            for lane in range(vectors * lanes):
                total = out.dtype.type(0)
                for c in range(channels):
                    for i in range(each):
                        value = x[at + c * channel_step + offsets[i + r * kw] + lane]
                        total += weight[weight_at + c * each + i] * value
                out[out_at + r * pitch + lane] = total

    return plain_tile


@lru_cache(maxsize=8)
def split(phases: int) -> Any:
    """A function for kernels that takes a row of m * lanes elements apart into its m phases, element k of tile q::

        y[to + k * step + q] = x[at + q * m + k]        for k < 2 * m - 1: the last m - 1 belong to the next tile, too

    It is called as ``split(x, at, y, to, step)`` and writes one vector for each k, those of the next tile one place
    earlier: what lies there, before `to` in the first call of a row, is overwritten.
    """

    @intrinsic
    def split_row(typingctx, x, at, y, to, step):
        count = Vector(x.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, y_, begin, apart = args
            data, goal = _data(context, builder, x, x_), _data(context, builder, y, y_)
            vectors = [_load(builder, data, builder.add(start, _INT(v * count)), count) for v in range(phases)]
            for k in range(phases):
                value = _gathered(builder, vectors, [q * phases + k for q in range(count)])
                _store(builder, value, goal, builder.add(begin, builder.mul(apart, _INT(k))))
                if k < phases - 1:
                    place = builder.add(begin, builder.mul(apart, _INT(phases + k)))
                    _store(builder, value, goal, builder.sub(place, _INT(1)))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(x, integer, y, integer, integer), codegen

    return split_row


@lru_cache(maxsize=8)
def join(phases: int) -> Any:
    """The way back: ``join(x, at, step, y, to)`` writes ``y[to + q * m + k] = x[at + k * step + q]`` for k < m."""

    @intrinsic
    def join_row(typingctx, x, at, step, y, to):
        count = Vector(x.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, apart, y_, begin = args
            data, goal = _data(context, builder, x, x_), _data(context, builder, y, y_)
            vectors = [
                _load(builder, data, builder.add(start, builder.mul(apart, _INT(k))), count) for k in range(phases)
            ]
            for v in range(phases):
                places = [(v * count + lane) % phases * count + (v * count + lane) // phases for lane in range(count)]
                _store(builder, _gathered(builder, vectors, places), goal, builder.add(begin, _INT(v * count)))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(x, integer, integer, y, integer), codegen

    return join_row


def _gathered(builder, vectors: list[ir.Value], places: list[int]) -> ir.Value:
    """The elements of several vectors, laid end to end, at these places."""
    count, result = len(places), vectors[0]
    for v, vector in enumerate(vectors[1:], 1):
        order = []
        for lane, place in enumerate(places):
            if place // count == v:
                order.append(count + place % count)
            elif v == 1 and place < count:  # from the first vector, in the first round
                order.append(place)
            else:
                order.append(lane)
        result = builder.shuffle_vector(result, vector, ir.Constant(ir.VectorType(_I32, count), order))
    return result
