"""The run tile: sums over runs of taps that lie one below the other, for some rows and vectors of them at once.

::

    sum[r, i] = sum over runs, t of weight[run, t] * x[base + offset[run] + (r + t) * pitch + i]

`tap_tile` loads a vector for each product. Here the rows of a tile share theirs: row r sees by its tap t what row r - 1
sees by its tap t + 1, so of a run of n taps n + ROWS - 1 vectors are loaded where n * ROWS are multiplied. A run is a
column of a window, or all of one that moves along columns only. Loops are over the rows that all sums see; those that
only some see, at both ends, are written out.

AMD EPYC 9005, one core: of float32, 31x31, 1080x1920 in 19 ms, where `tap_tile` takes 44.
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
from .simd_pool import put_away_vectors as put_away

#: Vectors of a row of a tile.
VECTORS = 2
#: Most taps whose products are added up in one go, in two interleaved sums; those of more are put away (`tap_tile`).
BLOCK = 32


def rows() -> int:
    """Rows of a tile: as many as leave registers for two sums of each vector, a vector of each, and a weight."""
    return 4 if registers() == 32 else 2


@lru_cache(maxsize=2)
def run_tile(long: bool) -> Any:
    """A function for kernels, ``run_tile(source, base, offsets, weights, first, runs, target, to)``.

    From 2 * `first` on, `offsets` has the pitch, and how many runs make a block of at most `BLOCK` taps; then of each
    run its offset and its taps, whose weights follow each other in `weights` from `first` on. Windows of more than a
    block are `long`. It writes `rows` rows of `VECTORS` vectors, `pitch` elements apart.
    """

    def plain(source, base, offsets, weights, first, runs, target, to):
        count, pitch = lanes(source.dtype) * VECTORS, offsets[2 * first]
        for r in range(rows()):
            total, weight = np.zeros(count, source.dtype), first
            for run in range(runs):
                offset, taps = offsets[2 * (first + run) + 2 : 2 * (first + run) + 4]
                for t in range(taps):
                    total += source[base + offset + (r + t) * pitch :][:count] * weights[weight]
                    weight += 1
            target[to + r * pitch : to + r * pitch + count] = total

    @intrinsic(plain=plain)
    def tile(typingctx, source, base, offsets, weights, first, runs, target, to):
        def codegen(context, builder, sig, args):
            data = [emit.data_of(context, builder, array, args[place])
                    for array, place in ((source, 0), (offsets, 2), (weights, 3), (target, 6))]  # fmt: skip
            made = _Emitter(builder, data[:3], args[1], args[4], Vector(source.dtype).count)
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


class _Emitter:
    """Writes the loops over runs and taps."""

    def __init__(
        self, builder: ir.IRBuilder, data: list[ir.Value], base: ir.Value, first: ir.Value, count: int
    ) -> None:  # fmt: skip
        self.builder, (source, offsets, self.weights), self.count = builder, data, count
        self.source = builder.gep(source, [base])
        self.table = builder.gep(offsets, [builder.shl(first, emit.INT(1))])
        self.pitch, self.per_block = self.number(emit.INT(0)), self.number(emit.INT(1))
        self.zero = ir.Constant(ir.VectorType(source.type.pointee, count), None)
        self.first = first

    def number(self, place: ir.Value) -> ir.Value:
        return self.builder.load(self.builder.gep(self.table, [place]))

    def all_sums(self, runs: ir.Value) -> Lines:
        """The sums over blocks of runs, with an account of what rounding loses."""
        builder, size = self.builder, rows() * VECTORS

        def block(run, carried):
            weight, totals, lost = carried[0], carried[1 : size + 1], carried[size + 1 :]
            end = builder.add(run, self.per_block)
            end = builder.select(builder.icmp_signed("<", end, runs), end, runs)
            lines, weight = self.sums(run, end, weight)
            parts = [vector for line in lines for vector in line]
            pairs = [put_away(builder, *each) for each in zip(totals, lost, parts, strict=True)]
            return [weight] + [pair[0] for pair in pairs] + [pair[1] for pair in pairs]

        begun = [self.first, *[self.zero] * (2 * size)]
        done = emit.loop(self.builder, emit.INT(0), runs, self.per_block, begun, block)
        sums = [builder.fsub(total, away) for total, away in zip(done[1 : size + 1], done[size + 1 :], strict=True)]
        return [sums[r * VECTORS : (r + 1) * VECTORS] for r in range(rows())]

    def sums(self, run: ir.Value, end: ir.Value, weight: ir.Value) -> tuple[Lines, ir.Value]:
        """The sums over some runs, whose weights begin there, and the place of the weight behind them."""
        builder = self.builder
        half = rows() * VECTORS

        def body(run, carried):
            weight, sums = carried[0], carried[1:]
            place = builder.shl(builder.add(run, emit.INT(1)), emit.INT(1))
            taps = self.number(builder.add(place, emit.INT(1)))
            data = builder.gep(self.source, [self.number(place)])
            sums = self.run(data, taps, builder.gep(self.weights, [weight]), sums)
            return [builder.add(weight, taps), *sums]

        done = emit.loop(self.builder, run, end, emit.INT(1), [weight] + [self.zero] * (2 * half), body)
        even, odd = done[1 : half + 1], done[half + 1 :]
        sums = [builder.fadd(one, other) for one, other in zip(even, odd, strict=True)]
        return [sums[r * VECTORS : (r + 1) * VECTORS] for r in range(rows())], done[0]

    def run(self, data: ir.Value, taps: ir.Value, weights: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """The sums with one more run: of 3 taps, of fewer than rows, or of as many or more."""
        builder, high = self.builder, rows()
        three, few, many, done = (builder.append_basic_block(name) for name in ("three", "few", "many", "done"))
        chosen = builder.append_basic_block("more")
        builder.cbranch(builder.icmp_signed("==", taps, emit.INT(3)), three, chosen)
        builder.position_at_end(chosen)
        builder.cbranch(builder.icmp_signed("<", taps, emit.INT(high)), few, many)
        results = []
        for block, made in ((three, self.three), (few, self.few), (many, self.many)):
            builder.position_at_end(block)
            results.append((made(data, taps, weights, list(sums)), builder.block))
            builder.branch(done)
        builder.position_at_end(done)
        merged = []
        for number, one in enumerate(sums):
            phi = builder.phi(one.type)
            for values, block in results:
                phi.add_incoming(values[number], block)
            merged.append(phi)
        return merged

    def three(self, data, taps, weights, sums):
        for j in range(rows() + 2):
            self.step(data, emit.INT(j), weights, [r for r in range(rows()) if 0 <= j - r < 3], sums, j % 2)
        return sums

    def few(self, data, taps, weights, sums):
        def body(t, carried):
            new = list(carried)
            for r in range(rows()):
                vectors = self.row(data, self.builder.add(t, emit.INT(r)))
                self.add(vectors, self.weight(weights, t), r, new, 0)
            return new

        return emit.loop(self.builder, emit.INT(0), taps, emit.INT(1), sums, body)

    def many(self, data, taps, weights, sums):
        builder, high = self.builder, rows()
        for j in range(high - 1):  # rows of the image that the last rows of the tile do not see yet
            self.step(data, emit.INT(j), weights, range(j + 1), sums, j % 2)

        def both(j, carried):
            new = list(carried)
            for k in (0, 1):
                self.step(data, builder.add(j, emit.INT(k)), weights, range(high), new, k)
            return new

        def one(j, carried):
            new = list(carried)
            self.step(data, j, weights, range(high), new, 0)
            return new

        begin = emit.INT(high - 1)
        pairs = builder.and_(builder.sub(taps, begin), emit.INT(-2))
        middle = builder.add(begin, pairs)
        sums = emit.loop(self.builder, begin, middle, emit.INT(2), sums, both)
        sums = emit.loop(self.builder, middle, taps, emit.INT(1), sums, one)
        for k in range(high - 1):  # those that the first rows see no more
            self.step(data, builder.add(taps, emit.INT(k)), weights, range(k + 1, high), sums, k % 2)
        return sums

    def step(self, data, j, weights, seen, sums, which):
        """Add what one row of the image gives to the rows of the tile that see it."""
        vectors = self.row(data, j)
        for r in seen:
            self.add(vectors, self.weight(weights, self.builder.sub(j, emit.INT(r))), r, sums, which)

    def add(self, vectors, weight, r, sums, which):
        for v, vector in enumerate(vectors):
            place = which * rows() * VECTORS + r * VECTORS + v
            sums[place] = emit.fma(self.builder, vector, weight, sums[place])

    def weight(self, weights, t):
        return emit.splat(self.builder, self.builder.load(self.builder.gep(weights, [t])), self.count)

    def row(self, data, j):
        data = self.builder.gep(data, [self.builder.mul(j, self.pitch)])
        return [emit.load(self.builder, data, emit.INT(v * self.count), self.count) for v in range(VECTORS)]
