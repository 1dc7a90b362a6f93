"""Rows of sums over any number of taps along a row, evenly apart.

::

    target[i] = f(sum over t of weight[t] * source[start[row] + right + t * step + i])          for i < count

What it changes over `tap_rows`: taps are a loop, and a tile has more vectors, each of two sums, of the first half of
the taps and of the second. Both begin at the rim of the window, where weights are mostly small, and so are then most
sums and their roundings; those of more taps are made in parts, which are put away with an account of what rounding
loses.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir

from . import emit
from .row_results import PART, Kind, Results, rows_maker
from .simd_pool import put_all_away, totals_of

#: Vectors of a tile: as many sums as hide that an addition waits for the one before.
WIDTH = 4


@lru_cache(maxsize=32)
def line_rows(kind: Kind) -> Any:
    """What `rows_maker` says, of taps "along" a row."""
    return rows_maker(kind, _Emitter)


class _Emitter(Results):
    """Writes the loops over rows, tiles and taps."""

    def __init__(self, builder: ir.IRBuilder, kind: Kind, args: list[ir.Value]) -> None:
        super().__init__(builder, kind, args)
        (_, self.right), (_, second) = (self.place(emit.INT(t)) for t in (0, 1))
        self.apart = builder.sub(second, self.right)
        self.final = builder.sub(self.taps, emit.INT(1))
        self.pairs = builder.lshr(self.taps, emit.INT(1))

    def rows(self) -> None:
        builder, step = self.builder, emit.INT(WIDTH * self.count)
        last = builder.sub(self.elements, step)

        def one_row(r: ir.Value, carried: list) -> list:
            row = builder.add(self.row, r)
            line, there = self.see(row, self.right)
            goal = builder.gep(self.target, [builder.add(self.to, builder.mul(r, self.pitch))])

            def tile(number: ir.Value, carried: list) -> list:
                i = builder.select(builder.icmp_signed("<", number, last), number, last)
                places = [builder.add(i, emit.INT(v * self.count)) for v in range(WIDTH)]

                def tap(t: ir.Value) -> tuple[list[ir.Value], ir.Value]:
                    begin = builder.gep(line, [builder.mul(t, self.apart)])
                    return [self.pixels(begin, place, there) for place in places], self.weight(t)

                near = None
                for total, place in zip(self.sums(tap), places, strict=True):
                    self.put(total, goal, place)
                    near = self.near(total, near)
                self.again(near, row, emit.INT(1), goal, i, WIDTH)
                return carried

            return emit.loop(builder, emit.INT(0), self.elements, step, carried, tile)

        emit.loop(builder, emit.INT(0), self.size, emit.INT(1), [], one_row)

    def sums(self, tap: Any) -> list[ir.Value]:
        """The sums of a tile, of whose taps vectors and weight are given."""
        builder, zeros = self.builder, [self.zero] * WIDTH

        def added(t: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            vectors, weight = tap(t)
            return [emit.fma(builder, vector, weight, total) for vector, total in zip(vectors, sums, strict=True)]

        def added_middle(sums: list[ir.Value]) -> list[ir.Value]:
            middle = builder.sub(self.taps, self.pairs)  # there is one, or none
            return emit.loop(builder, self.pairs, middle, emit.INT(1), sums, added)

        def both_sums(begin: ir.Value, end: ir.Value) -> list[ir.Value]:
            def both(t: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                return added(t, sums[:WIDTH]) + added(builder.sub(self.final, t), sums[WIDTH:])

            return emit.loop(builder, begin, end, emit.INT(1), zeros + zeros, both)

        def added_up(one: list[ir.Value], other: list[ir.Value]) -> list[ir.Value]:
            return [builder.fadd(*pair) for pair in zip(one, other, strict=True)]

        def part(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            after = builder.add(number, emit.INT(1))
            places = [builder.udiv(builder.mul(self.pairs, each), parts) for each in (number, after)]
            made = both_sums(places[0], places[1])
            return put_all_away(builder, carried, added_up(made[:WIDTH], made[WIDTH:]))

        if not self.kind.long:
            made = both_sums(emit.INT(0), self.pairs)
            return added_up(added_middle(made[:WIDTH]), made[WIDTH:])
        parts = builder.udiv(builder.add(self.taps, emit.INT(PART - 1)), emit.INT(PART))
        carried = emit.loop(builder, emit.INT(0), parts, emit.INT(1), added_middle(zeros) + zeros, part)
        return totals_of(builder, carried)
