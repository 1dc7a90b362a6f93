"""Rows of sums over few taps, each of which sees a row that begins at a place of its own, and is read in its own dtype.

::

    target[i] = f(sum over t of weight[t] * source[start[row + down[t]] + right[t] + i])          for i < count

What it changes over `tap_tile`: taps are written out, so that their places and weights stay in registers along the row,
and pixels are converted as they are loaded (`converted`). Maxima and minima of an image's rows are made for two rows at
once, which share those of all rows that both see: of 7 taps 4 loads and 3.5 comparisons instead of 7 and 6. So are sums
of pixels that are converted, which is done once for both rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import from_dtype

from . import emit
from .row_results import EXTREMES, Kind, Results, rows_maker

#: Most taps of one pass.
MOST_TAPS = 9
#: Vectors of a tile. (Four are as fast, but for rows of few tiles, one of which is made twice.)
VECTORS = 2


def inwards(count: int) -> list[int]:
    """Numbers below a count, the first and the last, the second and the last but one, and so on."""
    return [k // 2 if k % 2 == 0 else count - 1 - k // 2 for k in range(count)]


@lru_cache(maxsize=64)
def tap_rows(kind: Kind) -> Any:
    """What `rows_maker` says, of few taps anywhere."""
    return rows_maker(kind, _Emitter)


class _Emitter(Results):
    """Writes the loops over rows and tiles."""

    def __init__(self, builder: ir.IRBuilder, kind: Kind, args: list[ir.Value]) -> None:
        super().__init__(builder, kind, args)
        self.taps, self.step = emit.INT(kind.taps), VECTORS * self.count
        # Two sums of floats: half the roundings.
        self.parts = 2 if self.computed.kind == "f" and kind.weights == "given" and kind.taps > 3 else 1
        numbers = [emit.INT(t) for t in range(kind.taps)]
        self.places = [self.place(t) for t in numbers]
        self.weights = [self.weight(t) for t in numbers] if kind.weights == "given" else []

    # -- rows

    def rows(self) -> None:
        builder, begin = self.builder, emit.INT(0)
        if _in_pairs(self.kind):
            begin = builder.and_(self.size, emit.INT(-2))
            emit.loop(builder, emit.INT(0), begin, emit.INT(2), [], lambda r, _: self.some_rows(r, 2))
        emit.loop(builder, begin, self.size, emit.INT(1), [], lambda r, _: self.some_rows(r, 1))

    def some_rows(self, r: ir.Value, high: int) -> list:
        """Make one row, or two."""
        builder, kind = self.builder, self.kind
        self.first = builder.add(self.row, r)
        last, right = self.places[-1]
        self.seen = [self.see(builder.add(self.first, down), beyond) for down, beyond in self.places]
        self.goals = [builder.gep(self.target, [builder.add(self.to, builder.mul(r, self.pitch))])]
        if high == 2:
            self.seen.append(self.see(builder.add(builder.add(self.first, emit.INT(1)), last), right))
            self.goals.append(builder.gep(self.goals[0], [self.pitch]))
        self.following = []
        for k in range(high):
            after = builder.add(builder.add(self.first, last), emit.INT(high + k))
            start = builder.load(builder.gep(self.starts, [after]))
            self.following.append(builder.gep(self.source, [builder.add(self.base, start)]))
        # A tile at either end, and between them others whose vectors lie in as few cache lines as there can be.
        aligned, item = (self.seen[kind.taps // 2][0], self.one.itemsize) if kind.reads_image else (
            self.goals[0], self.other.itemsize)  # fmt: skip
        whole = emit.INT(self.count * item)
        beyond = builder.urem(builder.ptrtoint(aligned, emit.INT), whole)
        ahead = builder.udiv(builder.sub(whole, beyond), emit.INT(item))
        self.last = builder.sub(self.elements, emit.INT(self.step))
        begin, end = builder.sub(ahead, emit.INT(self.step)), builder.add(self.last, emit.INT(self.step))
        emit.loop(builder, begin, end, emit.INT(self.step), [], self.tile)
        return []

    def tile(self, number: ir.Value, carried: list) -> list:
        builder, kind = self.builder, self.kind
        i = builder.select(builder.icmp_signed("<", number, self.last), number, self.last)
        i = builder.select(builder.icmp_signed(">", i, emit.INT(0)), i, emit.INT(0))
        if kind.reads_image:
            for line in self.following:
                place = builder.gep(line, [builder.mul(i, emit.INT(self.one.itemsize))])
                emit.prefetch(builder, place, 0, self.step * self.one.itemsize)
        if kind.writes_result:
            place = builder.add(self.pitch, builder.mul(i, emit.INT(self.other.itemsize)))
            emit.prefetch(builder, builder.gep(self.goals[0], [place]), 0, self.step * self.other.itemsize, writes=True)
        near = None
        for v in range(VECTORS):
            at = builder.add(i, emit.INT(v * self.count))
            totals = [self.vector(at)] if len(self.goals) == 1 else self.two(at)
            for total, goal in zip(totals, self.goals, strict=True):
                self.put(total, goal, at)
                near = self.near(total, near)
        self.again(near, self.first, emit.INT(len(self.goals)), self.goals[0], i, VECTORS)
        return carried

    def vector(self, at: ir.Value) -> ir.Value:
        """What is made of all taps of some elements."""
        if self.kind.weights == "given":
            return self.products(at, 1)[0]
        builder, kind = self.builder, self.kind
        total = self.tap(0, at)
        for t in range(1, kind.taps):
            value = self.tap(t, at)
            if kind.weights in EXTREMES:
                total = self.beyond(value, total)
            elif kind.weights == "difference":
                total = builder.sub(total, value)
            else:
                total = emit.plus(builder, total, value)
        return total

    def two(self, at: ir.Value) -> list[ir.Value]:
        """What is made of all taps of some elements of two rows."""
        if self.kind.weights == "given":
            return self.products(at, 2)
        # The largest or smallest pixels: of equal ones that of the first tap, as in one row.
        first, *both, last = (self.tap(t, at) for t in range(self.kind.taps + 1))
        shared = both[0]
        for value in both[1:]:
            shared = self.beyond(value, shared)
        return [self.beyond(shared, first), self.beyond(last, shared)]

    def products(self, at: ir.Value, rows: int) -> list[ir.Value]:
        """The sums of products of some elements, of so many rows.

        There are two sums, of the first half of the taps and of the other half: both begin at the rim of the window,
        where weights are mostly small, and so are then most sums and their roundings.
        """
        builder, taps = self.builder, self.kind.taps
        half = (taps + 1) // 2 if self.parts == 2 else taps
        sums = [[self.zero] * self.parts for _ in range(rows)]
        for place in inwards(taps + rows - 1) if self.parts == 2 else range(taps + rows - 1):
            value = self.tap(place, at)
            for row, made in enumerate(sums):
                t = place - row
                if 0 <= t < taps:
                    part = int(t >= half)
                    made[part] = emit.fma(builder, value, self.weights[t], made[part])
        return [made[0] if self.parts == 1 else emit.plus(builder, *made) for made in sums]

    def beyond(self, value: ir.Value, total: ir.Value) -> ir.Value:
        """The larger or the smaller pixels, of equal ones the second, or a NaN."""
        order = ">" if self.kind.weights == "max" else "<"
        return emit.larger(self.builder, from_dtype(self.computed), value, total, order)

    def tap(self, t: int, at: ir.Value) -> ir.Value:
        """The elements that a tap sees."""
        begin, there = self.seen[t]
        return self.pixels(begin, at, there)


def _in_pairs(kind: Kind) -> bool:
    """Whether two rows are made at once: their taps are rows that follow one another, and what both see is compared or
    converted once."""
    if not kind.reads_image or kind.taps < 3:
        return False
    return kind.weights in EXTREMES or (
        kind.weights == "given" and not kind.writes_result and kind.source != kind.computed
    )
