"""The row tile: sums of one output channel, a few rows by a few vectors of pixels, that stay in vector registers.

It also exists as plain loops, which take its place where ``FASTCONV_SIMD=0`` is set or Numba's bounds checks are on.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from numba import types
from numba.extending import intrinsic

from .runtime import jit
from .simd import _INT, Vector, _convert, _data, _fma, _load, _splat, register_bytes
from .tile import _plain, _raised, _write


@lru_cache(maxsize=64)
def row_tile(rows: int, vectors: int) -> Any:
    """Sums of `rows` rows by `vectors` vectors of pixels of ONE output channel, with no multiplication by padding rows.

    The returned function, for kernels, is called as ``row_tile(x, at, offsets, kw, channels, channel_step, weight,
    weight_at, bias, floor, out, out_at, pitch, valid_rows, valid_lanes)``. `offsets` has the distances of the taps (y,
    b) of kh + rows - 1 input rows; `weight` has (channels, kh, kw) from `weight_at` on, kh >= rows. Computed is::

        sum[r, l] = bias + sum over c, a, b of weight[c, a, b] * x[at + c * channel_step + offsets[r + a, b] + l]

    A vector of x is loaded once for all rows that use it: first the input rows that only the upper rows see, then those
    that all see, then those of the lower ones. Each of these is a flat loop over taps i = (y, b), row r taking weight i
    - r * kw. `x` needs `vectors` * lanes elements of room behind.
    """
    if _plain():
        return _plain_row_tile(rows, vectors)

    @intrinsic
    def register_row_tile(
        typingctx,
        x,
        at,
        offsets,
        kw,
        channels,
        channel_step,
        weight,
        weight_at,
        bias,
        floor,
        out,
        out_at,
        pitch,
        valid_rows,
        valid_lanes,
    ):
        count = Vector(out.dtype).count

        def codegen(context, builder, sig, args):
            x_, start, table_, width, depth, step, weight_, first, shift, lowest, out_, to, pitch_, high, wide = args
            table = _data(context, builder, offsets, table_)
            total = builder.extract_value(context.make_array(offsets)(context, builder, table_).shape, 0)
            each = builder.sub(total, builder.mul(width, _INT(rows - 1)))  # taps of one channel's kernel
            image = builder.gep(_data(context, builder, x, x_), [start])
            weights = builder.gep(_data(context, builder, weight, weight_), [first])

            initial = _splat(builder, shift, count)
            begin, over = builder.block, builder.append_basic_block("channels")
            builder.branch(over)
            builder.position_at_end(over)
            c = builder.phi(_INT)
            c.add_incoming(_INT(0), begin)
            heads = [[builder.phi(initial.type) for _ in range(vectors)] for _ in range(rows)]
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
                held = {(r, v): builder.phi(initial.type) for r in range(top, bottom + 1) for v in range(vectors)}
                place = builder.gep(here, [builder.load(builder.gep(table, [i]))])
                wide_x = [
                    _convert(builder, _load(builder, place, _INT(v * count), count), x.dtype, out.dtype, count)
                    for v in range(vectors)
                ]
                following = builder.add(i, _INT(1))
                for r in range(top, bottom + 1):
                    scalar = builder.load(builder.gep(there, [builder.sub(i, builder.mul(width, _INT(r)))]))
                    one = _splat(builder, scalar, count)
                    for v in range(vectors):
                        held[r, v].add_incoming(sums[r][v], before)
                        sums[r][v] = _fma(builder, one, wide_x[v], held[r, v])
                        held[r, v].add_incoming(sums[r][v], loop)
                i.add_incoming(following, loop)
                builder.cbranch(builder.icmp_signed("<", following, bounds[number + 1]), loop, after)
                builder.position_at_end(after)
            end = builder.block
            next_c = builder.add(c, _INT(1))
            c.add_incoming(next_c, end)
            for r in range(rows):
                for v in range(vectors):
                    heads[r][v].add_incoming(initial, begin)
                    heads[r][v].add_incoming(sums[r][v], end)
            done = builder.append_basic_block("written")
            builder.cbranch(builder.icmp_signed("<", next_c, depth), over, done)
            builder.position_at_end(done)
            goal = builder.gep(_data(context, builder, out, out_), [to])
            least = _splat(builder, lowest, count)
            for v in range(vectors):
                column = [_raised(builder, sums[r][v], least) for r in range(rows)]
                _write(builder, column, goal, pitch_, (0, v * count), (high, wide))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(
            x,
            integer,
            offsets,
            integer,
            integer,
            integer,
            weight,
            integer,
            out.dtype,
            out.dtype,
            out,
            *[integer] * 4,
        ), codegen

    return register_row_tile


def _plain_row_tile(rows: int, vectors: int) -> Any:
    """The same sums, one at a time."""
    register_width = register_bytes()

    @jit(key=(rows, vectors))
    def plain_row_tile(
        x,
        at,
        offsets,
        kw,
        channels,
        channel_step,
        weight,
        weight_at,
        bias,
        floor,
        out,
        out_at,
        pitch,
        valid_rows,
        valid_lanes,
    ):
        flat_x, flat_weight, flat_out = x.reshape(-1), weight.reshape(-1), out.reshape(-1)
        each = offsets.size - kw * (rows - 1)
        for r in range(min(rows, valid_rows)):
            for lane in range(min(vectors * (register_width // out.itemsize), valid_lanes)):
                total = bias
                for c in range(channels):
                    for i in range(each):
                        value = flat_x[at + c * channel_step + offsets[i + r * kw] + lane]
                        total += flat_weight[weight_at + c * each + i] * value
                flat_out[out_at + r * pitch + lane] = floor if total < floor else total

    return plain_row_tile
