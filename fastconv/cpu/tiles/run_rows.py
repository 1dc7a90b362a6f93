"""Rows of sums over runs of taps of an image that is read in place: `run_tile`, whose rows begin anywhere.

::

    target[r, i] = f(sum over runs, t of weight[run, t] * source[start[row + r + t] + right[run] + i])     for i < count

What it changes over `run_tile`: no band is loaded and stored beside the sums, which took half of the time of windows of
5x5. What it changes over `tap_rows`: a vector that is loaded, and converted, serves four rows. Products are added up as
in `run_tile`.

Runs of a window are written out, and rows are made side by side, tile by tile. All taps of a pass along columns are one
run, of any length: blocks of tiles follow one another downwards, so that what they share stays in the nearest cache.

AMD EPYC of Zen 3, one core, 1080x1920, beside a band with its passes: 5x5 of float32 takes 0.5 to 0.6 of the time, 7x7
0.7 to 0.75; Gaussians of 17 taps, with `line_rows`, 0.7 to 0.8.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir

from . import emit
from .row_results import HEAD, PART, Kind, Results, rows_maker
from .run_tile import ROWS, VECTORS, Emitter, interleaved
from .simd_pool import put_all_away, totals_of
from .tap_tile import BLOCK

#: Tiles side by side that are made of some rows before the next rows: so many bytes of each row are read in a go as any
#: processor foresees, and all rows of a window of 17 lie in the first-level cache.
TILES = 16


@lru_cache(maxsize=32)
def run_rows(kind: Kind) -> Any:
    """What `rows_maker` says, of taps in "runs" or all "down" in one. The taps of a run are one below the other; of
    "runs" the number of taps that is told is that of runs."""
    return rows_maker(kind, _Down if kind.layout == "down" else _Runs)


class _Rows(Emitter):
    """Writes the loops over rows and tiles, and with `run_tile`'s those over runs."""

    at: ir.Value
    """A tile's first element."""

    def __init__(self, builder: ir.IRBuilder, kind: Kind, args: list[ir.Value]) -> None:
        self.results, self.builder, self.kind, self.taps = Results(builder, kind, args), builder, kind, kind.taps
        self.zero, self.count = self.results.zero, self.results.count
        self.first, self.wide, self.size = emit.INT(0), emit.INT(VECTORS * self.count), self.results.size
        self.latest = builder.sub(self.results.elements, self.wide)
        slots = builder.bitcast(self.results.numbers, emit.INT.as_pointer())
        self.weights = builder.gep(slots, [self.results.entry(emit.INT(HEAD))])

    def clamped(self, number: ir.Value, most: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed("<", number, most), number, most)

    def bytes_of(self, elements: ir.Value) -> ir.Value:
        return self.builder.mul(elements, emit.INT(self.results.one.itemsize))

    def write(self, r: ir.Value, made: list[list[ir.Value]]) -> None:
        """Write the rows that there are of a tile."""
        builder, results = self.builder, self.results
        goal = builder.gep(results.target, [builder.add(results.to, builder.mul(r, results.pitch))])
        left, near = builder.sub(self.size, r), None
        for k, vectors in enumerate(made):
            with builder.if_then(builder.icmp_signed("<", emit.INT(k), left), likely=True):
                line = builder.gep(goal, [builder.mul(results.pitch, emit.INT(k))])
                for v, vector in enumerate(vectors):
                    results.put(vector, line, builder.add(self.at, emit.INT(v * self.count)))
            for vector in vectors:
                near = results.near(vector, near)
        high = self.clamped(left, emit.INT(ROWS))
        results.again(near, builder.add(results.row, r), high, goal, self.at, VECTORS)

    def vectors(self, begin: ir.Value, there: ir.Value) -> list[ir.Value]:
        """The vectors of a tile's row that begins there."""
        return [self.results.pixels(begin, emit.INT(v * self.count), there) for v in range(VECTORS)]

    # -- what `run_tile` asks for

    def weight(self, weights: ir.Value, t: ir.Value) -> ir.Value:
        builder, kind = self.builder, self.zero.type.element
        slot = builder.bitcast(builder.gep(weights, [t]), kind.as_pointer())
        return emit.splat(builder, builder.load(slot), self.count)


class _Runs(_Rows):
    """Of runs that are written out, rows side by side."""

    def rows(self) -> None:
        self.per_block = emit.INT(max(1, BLOCK // self.taps))
        emit.loop(self.builder, emit.INT(0), self.size, emit.INT(ROWS), [], self.some_rows)

    def some_rows(self, r: ir.Value, carried: list) -> list:
        """Make the rows of a tile, or those that are left of them."""
        builder, results, high = self.builder, self.results, self.taps + ROWS - 1
        top = builder.add(results.row, r)
        seen = [results.see(builder.add(top, emit.INT(j)), emit.INT(0)) for j in range(high + ROWS)]
        following = [line for line, _ in seen[high:]]
        size = VECTORS * self.count * results.one.itemsize

        def one_tile(number, carried):
            self.at = self.clamped(number, self.latest)
            place = self.bytes_of(self.at)
            self.lines = [(builder.gep(line, [place]), there) for line, there in seen[:high]]
            for line in following:
                emit.prefetch(builder, builder.gep(line, [place]), 0, size)
            runs = results.taps
            self.write(r, self.all_sums(runs) if self.kind.long else self.sums(self.first, runs, self.first)[0])
            return carried

        return emit.loop(builder, emit.INT(0), self.results.elements, self.wide, carried, one_tile)

    def begin(self, run):
        return self.results.place(self.builder.mul(run, emit.INT(self.taps)))[1], emit.INT(self.taps)

    def row(self, data, j):
        line, there = self.lines[j.constant]
        return self.vectors(self.builder.gep(line, [data]), there)


class _Down(_Rows):
    """Of one run of any length, blocks of tiles one below the other.

    As in `line_rows`, sums begin at both rims in turns: downwards from the first tap, and upwards from the last one.
    """

    def rows(self) -> None:
        builder, taps, results = self.builder, self.results.taps, self.results
        self.begun = builder.gep(results.source, [builder.add(results.base, results.place(emit.INT(0))[1])])
        self.behind = builder.lshr(taps, emit.INT(1))
        self.before = builder.sub(taps, self.behind)
        self.parts, self.part = emit.INT(1), self.before
        if self.kind.long:
            self.parts = builder.udiv(builder.add(taps, emit.INT(PART - 1)), emit.INT(PART))
            self.part = builder.udiv(builder.add(self.before, builder.sub(self.parts, emit.INT(1))), self.parts)
        block = builder.mul(self.wide, emit.INT(TILES))

        def columns(begin, carried):
            end = self.clamped(builder.add(begin, block), results.elements)

            def some_rows(r, carried):
                top = builder.gep(results.starts, [builder.add(results.row, r)])

                def one_tile(number, carried):
                    self.at = self.clamped(number, self.latest)
                    self.line = builder.gep(self.begun, [self.bytes_of(self.at)])
                    self.write(r, self.from_rims(top))
                    return carried

                return emit.loop(builder, begin, end, self.wide, carried, one_tile)

            return emit.loop(builder, emit.INT(0), self.size, emit.INT(ROWS), carried, some_rows)

        emit.loop(builder, emit.INT(0), results.elements, block, [], columns)

    def from_rims(self, top: ir.Value) -> list[list[ir.Value]]:
        """The sums of a tile whose first row sees the rows of the image from the entry `top` on."""
        builder, size = self.builder, ROWS * VECTORS
        begins = [self.zero] * (2 * size if interleaved() else size)

        def one(number, carried):
            back = builder.and_(number, emit.INT(1))
            done = builder.mul(builder.lshr(number, emit.INT(1)), self.part)
            upwards = builder.icmp_signed("!=", back, emit.INT(0))
            self.sign = builder.select(upwards, emit.INT(-1), emit.INT(1))
            first = builder.select(upwards, builder.sub(builder.sub(self.results.taps, emit.INT(1)), done), done)
            there = builder.select(upwards, self.behind, self.before)
            count = self.clamped(self.part, builder.sub(there, done))
            row = builder.add(first, builder.mul(back, emit.INT(ROWS - 1)))
            entry, weights = builder.gep(top, [row]), builder.gep(self.weights, [first])
            sums = self.run(entry, count, weights, begins)
            if interleaved():
                sums = [builder.fadd(even, odd) for even, odd in zip(sums[:size], sums[size:], strict=True)]
            if self.kind.long:
                away = put_all_away(builder, carried, sums)
                return upside_down(away[:size]) + upside_down(away[size:])
            return upside_down([builder.fadd(total, one) for total, one in zip(carried, sums, strict=True)])

        begun = [self.zero] * (2 * size if self.kind.long else size)
        sums = emit.loop(builder, emit.INT(0), builder.shl(self.parts, emit.INT(1)), emit.INT(1), begun, one)
        if self.kind.long:
            sums = totals_of(builder, sums)
        return [sums[r * VECTORS : (r + 1) * VECTORS] for r in range(ROWS)]

    def weight(self, weights, t):
        return super().weight(weights, self.builder.mul(self.sign, t))

    def row(self, data, j):
        entry = self.builder.gep(data, [self.builder.mul(self.sign, j)])
        return self.vectors(*self.results.row_at(self.line, entry))


def upside_down(sums: list[ir.Value]) -> list[ir.Value]:
    """A tile's sums in the order of its rows from the last one: in which the other direction has them."""
    return [vector for r in reversed(range(ROWS)) for vector in sums[r * VECTORS : (r + 1) * VECTORS]]
