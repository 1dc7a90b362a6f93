"""The run tile: sums over runs of taps that lie one below the other, for some rows and vectors of them at once.

::

    sum[r, i] = sum over runs, t of weight[run, t] * x[base + offset[run] + (r + t) * pitch + i]

`tap_tile` loads a vector for each product. Here the rows of a tile share theirs: row r sees by its tap t what row r - 1
sees by its tap t + 1, so of a run of n taps n + ROWS - 1 vectors are loaded where n * ROWS are multiplied. A run is a
column of a window, or all of one that moves along columns only. Loops are over the rows that all sums see; those that
only some see, at both ends, are written out, and short runs of equal length altogether.

AMD EPYC 9005, one core: of float32, 31x31, 1080x1920 in 19 ms, where `tap_tile` takes 44. With 16 registers (Zen 3) a
row has one sum of each vector at a time: tiles of two rows with two sums each take 1.2 times as long.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..system.building import intrinsic
from . import emit
from .simd import Vector, lanes, registers
from .simd_pool import put_all_away, totals_of
from .tap_tile import BLOCK

#: Rows of a tile, and vectors of a row.
ROWS, VECTORS = 4, 2


def interleaved() -> bool:
    """Whether there are registers for two sums of each vector of a tile, one of even taps and one of odd ones."""
    return registers() == 32


def most_taps() -> int:
    """Most taps of a run: half a block, where a tile has one sum of each vector at a time."""
    return BLOCK if interleaved() else BLOCK // 2


@lru_cache(maxsize=16)
def run_tile(long: bool, taps: int) -> Any:
    """A function for kernels, ``run_tile(source, base, offsets, weights, first, runs, target, to)``; of runs of so many
    taps, which are written out, or if that is 0, of any.

    From 2 * `first` on, `offsets` has the pitch, and how many runs make a block of `tap_tile`'s; then of each
    run its offset and its taps, whose weights follow each other in `weights` from `first` on. Windows of more than a
    block are `long`. It writes `ROWS` rows of `VECTORS` vectors, `pitch` elements apart.
    """

    def plain(source, base, offsets, weights, first, runs, target, to):
        count, pitch = lanes(source.dtype) * VECTORS, offsets[2 * first]
        for r in range(ROWS):
            total, weight = np.zeros(count, source.dtype), first
            for run in range(runs):
                offset, size = offsets[2 * (first + run) + 2 : 2 * (first + run) + 4]
                for t in range(size):
                    total += source[base + offset + (r + t) * pitch :][:count] * weights[weight]
                    weight += 1
            target[to + r * pitch : to + r * pitch + count] = total

    @intrinsic(plain=plain)
    def tile(typingctx, source, base, offsets, weights, first, runs, target, to):
        def codegen(context, builder, sig, args):
            data = [emit.data_of(context, builder, array, args[place])
                    for array, place in ((source, 0), (offsets, 2), (weights, 3), (target, 6))]  # fmt: skip
            made = Emitter(builder, data[:3], args[1], args[4], Vector(source.dtype).count, taps)
            for r, line in enumerate(made.all_sums(args[5]) if long else made.sums(emit.INT(0), args[5], args[4])[0]):
                for v, vector in enumerate(line):
                    place = builder.add(builder.mul(emit.INT(r), made.pitch), emit.INT(v * made.count))
                    emit.store(builder, vector, data[3], builder.add(args[7], place))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(source, integer, offsets, weights, integer, integer, target, integer), codegen

    return tile


#: Of each row of a tile its vectors.
Lines = list[list[ir.Value]]


class Emitter:
    """Writes the loops over runs and taps."""

    def __init__(
        self, builder: ir.IRBuilder, data: list[ir.Value], base: ir.Value, first: ir.Value, count: int, taps: int
    ) -> None:  # fmt: skip
        self.builder, (source, offsets, self.weights), self.count, self.taps = builder, data, count, taps
        self.source = builder.gep(source, [base])
        self.table = builder.gep(offsets, [builder.shl(first, emit.INT(1))])
        self.pitch, self.per_block = self.number(emit.INT(0)), self.number(emit.INT(1))
        self.zero = ir.Constant(ir.VectorType(source.type.pointee, count), None)
        self.first = first

    def number(self, place: ir.Value) -> ir.Value:
        return self.builder.load(self.builder.gep(self.table, [place]))

    def begin(self, run: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where the tile's first row sees a run, as `row` wants it, and how many taps it has."""
        place = self.builder.shl(self.builder.add(run, emit.INT(1)), emit.INT(1))
        taps = emit.INT(self.taps) if self.taps else self.number(self.builder.add(place, emit.INT(1)))
        return self.builder.gep(self.source, [self.number(place)]), taps

    def all_sums(self, runs: ir.Value) -> Lines:
        """The sums over blocks of runs, with an account of what rounding loses."""
        builder, size = self.builder, ROWS * VECTORS

        def block(run, carried):
            weight, away = carried[0], carried[1:]
            end = builder.add(run, self.per_block)
            end = builder.select(builder.icmp_signed("<", end, runs), end, runs)
            lines, weight = self.sums(run, end, weight)
            parts = [vector for line in lines for vector in line]
            return [weight, *put_all_away(builder, away, parts)]

        begun = [self.first, *[self.zero] * (2 * size)]
        done = emit.loop(self.builder, emit.INT(0), runs, self.per_block, begun, block)
        sums = totals_of(builder, done[1:])
        return [sums[r * VECTORS : (r + 1) * VECTORS] for r in range(ROWS)]

    def sums(self, run: ir.Value, end: ir.Value, weight: ir.Value) -> tuple[Lines, ir.Value]:
        """The sums over some runs, whose weights begin there, and the place of the weight behind them.

        They are of two parts: even taps and odd ones, or the first half of the runs and the second.
        """
        builder, size = self.builder, ROWS * VECTORS

        def body(run, carried):
            weight, sums = carried[0], carried[1:]
            data, taps = self.begin(run)
            sums = self.run(data, taps, builder.gep(self.weights, [weight]), sums)
            return [builder.add(weight, taps), *sums]

        if interleaved():
            weight, *sums = emit.loop(builder, run, end, emit.INT(1), [weight] + [self.zero] * (2 * size), body)
            sums = [builder.fadd(one, other) for one, other in zip(sums[:size], sums[size:], strict=True)]
        else:
            middle = builder.lshr(builder.add(builder.add(run, end), emit.INT(1)), emit.INT(1))

            def half(number, carried):
                is_first = builder.icmp_signed("==", number, emit.INT(0))
                begin, stop = builder.select(is_first, run, middle), builder.select(is_first, middle, end)
                begun = [carried[0]] + [self.zero] * size
                weight, *sums = emit.loop(builder, begin, stop, emit.INT(1), begun, body)
                return [weight, *(builder.fadd(one, other) for one, other in zip(carried[1:], sums, strict=True))]

            begun = [weight] + [self.zero] * size
            weight, *sums = emit.loop(builder, emit.INT(0), emit.INT(2), emit.INT(1), begun, half)
        return [sums[r * VECTORS : (r + 1) * VECTORS] for r in range(ROWS)], weight

    def run(self, data: ir.Value, taps: ir.Value, weights: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """The sums with one more run, which has fewer taps than the tile has rows, or as many or more."""
        if self.taps:
            for j in range(self.taps + ROWS - 1):
                seen = [r for r in range(ROWS) if 0 <= j - r < self.taps]
                self.step(data, emit.INT(j), weights, seen, sums, j)
            return sums
        builder = self.builder
        few, many, done = (builder.append_basic_block(name) for name in ("few", "many", "done"))
        builder.cbranch(builder.icmp_signed("<", taps, emit.INT(ROWS)), few, many)
        results = []
        for block, made in ((few, self.few), (many, self.many)):
            builder.position_at_end(block)
            results.append((made(data, taps, weights, list(sums)), builder.block))
            builder.branch(done)
        builder.position_at_end(done)
        return self.merged(results)

    def merged(self, results: list[tuple[list[ir.Value], ir.Block]]) -> list[ir.Value]:
        """The values that come from one block or another."""
        found = [self.builder.phi(one.type) for one in results[0][0]]
        for values, block in results:
            for phi, value in zip(found, values, strict=True):
                phi.add_incoming(value, block)
        return found

    def few(self, data, taps, weights, sums):
        def body(t, carried):
            new = list(carried)
            for r in range(ROWS):
                vectors = self.row(data, self.builder.add(t, emit.INT(r)))
                self.add(vectors, self.weight(weights, t), r, new, 0)
            return new

        return emit.loop(self.builder, emit.INT(0), taps, emit.INT(1), sums, body)

    def many(self, data, taps, weights, sums):
        builder, high = self.builder, ROWS
        for j in range(high - 1):  # rows of the image that the last rows of the tile do not see yet
            self.step(data, emit.INT(j), weights, range(j + 1), sums, j)

        def both(j, carried):
            new = list(carried)
            for k in (0, 1):
                self.step(data, builder.add(j, emit.INT(k)), weights, range(high), new, high - 1 + k)
            return new

        def one(j, carried):
            new = list(carried)
            self.step(data, j, weights, range(high), new, high - 1)
            return new

        begin = emit.INT(high - 1)
        pairs = builder.and_(builder.sub(taps, begin), emit.INT(-2))
        middle = builder.add(begin, pairs)
        sums = emit.loop(self.builder, begin, middle, emit.INT(2), sums, both)
        sums = emit.loop(self.builder, middle, taps, emit.INT(1), sums, one)
        even, odd, done = (builder.append_basic_block(name) for name in ("even", "odd", "ended"))
        builder.cbranch(builder.trunc(taps, emit.BIT), odd, even)
        results = []
        for block, parity in ((even, 0), (odd, 1)):
            builder.position_at_end(block)
            new = list(sums)
            for k in range(high - 1):  # rows of the image that the first rows of the tile see no more
                self.step(data, builder.add(taps, emit.INT(k)), weights, range(k + 1, high), new, parity + k)
            results.append((new, builder.block))
            builder.branch(done)
        builder.position_at_end(done)
        return self.merged(results)

    def step(self, data, j, weights, seen, sums, parity):
        """Add what row `j` of the image, which is as even as `parity`, gives to the rows of the tile that see it.

        Which sum a product goes to depends on the tap alone: results are the same wherever bands and tiles begin.
        """
        vectors = self.row(data, j)
        for r in seen:
            self.add(vectors, self.weight(weights, self.builder.sub(j, emit.INT(r))), r, sums, (parity - r) % 2)

    def add(self, vectors, weight, r, sums, which):
        for v, vector in enumerate(vectors):
            place = (which if interleaved() else 0) * ROWS * VECTORS + r * VECTORS + v
            sums[place] = emit.fma(self.builder, vector, weight, sums[place])

    def weight(self, weights, t):
        return emit.splat(self.builder, self.builder.load(self.builder.gep(weights, [t])), self.count)

    def row(self, data, j):
        data = self.builder.gep(data, [self.builder.mul(j, self.pitch)])
        return [emit.load(self.builder, data, emit.INT(v * self.count), self.count) for v in range(VECTORS)]
