"""Rows of sums over few taps, each of which sees a row that begins at a place of its own, and is read in its own dtype.

::

    target[i] = f(sum over t of weight[t] * source[start[row + down[t]] + right[t] + i])          for i < count

What it changes over `tap_tile`: taps are written out, so that their places and weights stay in registers along the row,
and pixels are converted as they are loaded (`converted`). Maxima and minima of an image's rows are made for two rows at
once, which share those of all rows that both see: of 7 taps 4 loads and 3.5 comparisons instead of 7 and 6. So are sums
of pixels that are converted, which is done once for both rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import from_dtype, types

from ..system.building import intrinsic
from . import emit
from .converted import converted, plain_stored, stored_vector
from .elements import near_whole_lanes
from .simd import lanes

DOUBLE = np.dtype(np.float64)
#: Most taps of one pass; of more `run_tile`, whose rows share what they load, is as fast.
MOST_TAPS = 9
#: Vectors of a tile. (Four are as fast, but for rows of few tiles, one of which is made twice.)
VECTORS = 2
#: Entries of a stage's tables before those of its taps; bytes of a number in the table of weights.
HEAD, SLOT = 4, 8
#: What the first of them are: the factor or divisor of all sums, the bits that are shifted out, the constant outside,
#: and how far a sum is at most from SciPy's.
FACTOR, SHIFT, OUTSIDE, MARGIN = range(HEAD)


def inwards(count: int) -> list[int]:
    """Numbers below a count, the first and the last, the second and the last but one, and so on."""
    return [k // 2 if k % 2 == 0 else count - 1 - k // 2 for k in range(count)]


class Kind(NamedTuple):
    """What is added up, and how; dtypes by name."""

    source: str
    computed: str
    target: str
    scaled: str
    """As of `vector_writer`."""
    taps: int
    weights: str
    """"ones"; a "difference" has -1 for its second; or "given". For "max" and "min" taps are not added up, but the
    largest or smallest pixel is taken, or a NaN."""
    reads_image: bool
    writes_result: bool
    """Whether it reads memory that is not in cache, and writes such: then the next row of it is fetched."""
    order: str = ""
    """One of `tap_tile`'s, "listed", "even" or "odd", or "listed window", whose last tap is last: if sums near a whole
    number are made again, in float64, with weights that lie behind the others; what is stored has no fractions."""
    constant: bool = False
    """Whether some rows lie outside the image: those that begin at -1."""


@lru_cache(maxsize=64)
def tap_rows(kind: Kind) -> Any:
    """A function for kernels, ``tap_rows(source, base, starts, row, table, weights, first, target, to, pitch, rows,
    count)``: makes rows that follow one another, each `pitch` bytes behind the one before.

    From entry `first` on, `table` has the row and the offset in bytes of each tap, and `weights` its weight, both
    behind the `HEAD`. A row has at least a tile: the last one is moved back.
    """

    def plain(source, base, starts, row, table, weights, first, target, to, pitch, rows, count):
        for r in range(rows):
            made = _plain_row(kind, source, base, starts, row + r, table, weights, first, count)
            target[to + r * pitch :][: made.nbytes].view(made.dtype)[:] = made

    @intrinsic(plain=plain)
    def make_rows(typingctx, source, base, starts, row, table, weights, first, target, to, pitch, rows, count):
        def codegen(context, builder, sig, args):
            _Emitter(builder, kind, pointers(context, builder, sig, args)).rows()
            return context.get_dummy_value()

        integer = types.int64
        integers = [integer] * 4
        return types.void(source, integer, starts, integer, table, weights, integer, target, *integers), codegen

    return make_rows


def pointers(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> list[ir.Value]:
    """The operands of a function, of arrays their data."""
    return [emit.data_of(context, builder, kind, arg) if isinstance(kind, types.Array) else arg
            for kind, arg in zip(sig.args, args, strict=True)]  # fmt: skip


def row_start(
    builder: ir.IRBuilder, starts: ir.Value, row: ir.Value, constant: bool
) -> tuple[ir.Value, ir.Value]:  # fmt: skip
    """Where a row begins, and whether it is in the image: if some are not, as `constant` says, those begin at 0."""
    start = builder.load(builder.gep(starts, [row]))
    there = builder.icmp_signed(">=", start, emit.INT(0))
    return builder.select(there, start, emit.INT(0)) if constant else start, there


class _Tap(NamedTuple):
    """What is known of a tap for all rows."""

    down: ir.Value
    right: ir.Value
    weight: ir.Value | None


class _Seen(NamedTuple):
    """Where a tap sees a row begin, and whether that is in the image."""

    begin: ir.Value
    there: ir.Value


class _Emitter:
    """Writes the loops over rows and tiles."""

    def __init__(self, builder: ir.IRBuilder, kind: Kind, args: list[ir.Value]) -> None:
        self.builder, self.kind = builder, kind
        (self.source, self.base, self.starts, self.row, self.table, self.weights, self.first, self.target, self.to,
         self.pitch, self.size, self.elements) = args  # fmt: skip
        self.one, self.computed, self.other = map(np.dtype, kind[:3])
        self.count = lanes(self.computed)
        self.step = VECTORS * self.count
        # Two sums of floats: half the roundings.
        self.parts = 2 if self.computed.kind == "f" and kind.weights == "given" and kind.taps > 3 else 1
        self.factor, self.shift, self.outside, self.margin = (self.number(place) for place in range(HEAD))
        self.taps = [self.tap(number) for number in range(HEAD, HEAD + kind.taps)]

    # -- tables

    def slot(self, place: int) -> ir.Value:
        """A pointer to an entry's number among the weights."""
        entry = self.builder.add(self.first, emit.INT(place))
        return self.builder.gep(self.weights, [self.builder.mul(entry, emit.INT(SLOT))])

    def number(self, place: int, dtype: np.dtype | None = None) -> ir.Value:
        """A vector of an entry's number, of the dtype that is computed in or another."""
        scalar = emit.scalar(dtype or self.computed)
        value = self.builder.load(self.builder.bitcast(self.slot(place), scalar.as_pointer()))
        return emit.splat(self.builder, value, self.count)

    def tap(self, place: int) -> _Tap:
        pair = self.builder.shl(self.builder.add(self.first, emit.INT(place)), emit.INT(1))
        down, right = (self.builder.load(self.builder.gep(self.table, [self.builder.add(pair, emit.INT(k))]))
                       for k in (0, 1))  # fmt: skip
        return _Tap(down, right, self.number(place) if self.kind.weights == "given" else None)

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
        row = builder.add(self.row, r)
        self.seen = [self.see(tap, row) for tap in self.taps]
        self.goals = [builder.gep(self.target, [builder.add(self.to, builder.mul(r, self.pitch))])]
        if high == 2:
            self.seen.append(self.see(self.taps[-1], builder.add(row, emit.INT(1))))
            self.goals.append(builder.gep(self.goals[0], [self.pitch]))
        self.following = []
        for k in range(high):
            after = builder.add(builder.add(row, self.taps[-1].down), emit.INT(high + k))
            start = builder.load(builder.gep(self.starts, [after]))
            self.following.append(builder.gep(self.source, [builder.add(self.base, start)]))
        # A tile at either end, and between them others whose vectors lie in as few cache lines as there can be.
        aligned, item = (self.seen[kind.taps // 2].begin, self.one.itemsize) if kind.reads_image else (
            self.goals[0], self.other.itemsize)  # fmt: skip
        whole = emit.INT(self.count * item)
        beyond = builder.urem(builder.ptrtoint(aligned, emit.INT), whole)
        ahead = builder.udiv(builder.sub(whole, beyond), emit.INT(item))
        self.last = builder.sub(self.elements, emit.INT(self.step))
        begin, end = builder.sub(ahead, emit.INT(self.step)), builder.add(self.last, emit.INT(self.step))
        emit.loop(builder, begin, end, emit.INT(self.step), [], self.tile)
        return []

    def see(self, tap: _Tap, row: ir.Value) -> _Seen:
        builder = self.builder
        start, there = row_start(builder, self.starts, builder.add(row, tap.down), self.kind.constant)
        return _Seen(builder.gep(self.source, [builder.add(builder.add(self.base, start), tap.right)]), there)

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
                args = self.computed, self.other, kind.scaled, self.factor, self.shift
                self.put(stored_vector(builder, total, *args), at, goal)
                if kind.order:
                    some = near_whole_lanes(builder, total, self.margin)
                    near = some if near is None else builder.or_(near, some)
        if near is not None:
            with builder.if_then(emit.any_lane(builder, near), likely=False):
                emit.loop(builder, emit.INT(0), emit.INT(VECTORS), emit.INT(1), [i], self.exactly)
        return carried

    def vector(self, at: ir.Value) -> ir.Value:
        """What is made of all taps of some elements."""
        if self.kind.weights == "given":
            return self.products(at, 1)[0]
        builder, kind = self.builder, self.kind
        total = self.pixels(0, at, self.computed)
        for t in range(1, kind.taps):
            value = self.pixels(t, at, self.computed)
            if kind.weights in _EXTREMES:
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
        first, *both, last = (self.pixels(t, at, self.computed) for t in range(self.kind.taps + 1))
        shared = both[0]
        for value in both[1:]:
            shared = self.beyond(value, shared)
        return [self.beyond(shared, first), self.beyond(last, shared)]

    def products(self, at: ir.Value, rows: int) -> list[ir.Value]:
        """The sums of products of some elements, of so many rows.

        There are two sums, of the first half of the taps and of the other half: both begin at the rim of the window,
        where weights are mostly small, and so are then most sums and their roundings.
        """
        builder, taps, zero = self.builder, self.kind.taps, ir.Constant(self.factor.type, None)
        half = (taps + 1) // 2 if self.parts == 2 else taps
        sums = [[zero] * self.parts for _ in range(rows)]
        for place in inwards(taps + rows - 1) if self.parts == 2 else range(taps + rows - 1):
            value = self.pixels(place, at, self.computed)
            for row, made in enumerate(sums):
                t = place - row
                if 0 <= t < taps:
                    part = int(t >= half)
                    made[part] = emit.fma(builder, value, self.taps[t].weight, made[part])
        return [made[0] if self.parts == 1 else emit.plus(builder, *made) for made in sums]

    def beyond(self, value: ir.Value, total: ir.Value) -> ir.Value:
        """The larger or the smaller pixels, of equal ones the second, or a NaN."""
        order = ">" if self.kind.weights == "max" else "<"
        return emit.larger(self.builder, from_dtype(self.computed), value, total, order)

    def pixels(self, t: int, at: ir.Value, dtype: np.dtype) -> ir.Value:
        """The elements that a tap sees, in some dtype."""
        builder = self.builder
        place = builder.gep(self.seen[t].begin, [builder.mul(at, emit.INT(self.one.itemsize))])
        value = builder.load(builder.bitcast(place, ir.VectorType(emit.scalar(self.one), self.count).as_pointer()))
        value.align = 1
        value = converted(builder, value, self.one, dtype)
        if self.kind.constant:
            value = builder.select(self.seen[t].there, value, converted(builder, self.outside, self.computed, dtype))
        return value

    def put(self, value: ir.Value, at: ir.Value, goal: ir.Value) -> None:
        builder = self.builder
        place = builder.gep(goal, [builder.mul(at, emit.INT(self.other.itemsize))])
        builder.store(value, builder.bitcast(place, value.type.as_pointer())).align = 1

    def exactly(self, v: ir.Value, carried: list) -> list:
        """Write the sums of a vector of a tile, of all its rows, again, as SciPy adds them up."""
        builder = self.builder
        at = builder.add(carried[0], builder.mul(v, emit.INT(self.count)))
        combine = builder.fsub if self.kind.order == "odd" else builder.fadd
        for row, goal in enumerate(self.goals):
            total = None
            for pair in _in_order(self.kind):
                values = [self.pixels(t + row, at, DOUBLE) for t in pair]
                value = values[0] if len(pair) == 1 else combine(*values)
                product = builder.fmul(value, self.number(HEAD + self.kind.taps + pair[0], DOUBLE))
                total = product if total is None else builder.fadd(total, product)
            whole = "whole" if self.other.kind == "f" else ""  # else a cast does it
            self.put(stored_vector(builder, total, DOUBLE, self.other, whole, self.factor, self.shift), at, goal)
        return carried


def _in_pairs(kind: Kind) -> bool:
    """Whether two rows are made at once: their taps are rows that follow one another, and what both see is compared or
    converted once."""
    if not kind.reads_image or kind.taps < 3:
        return False
    return kind.weights in _EXTREMES or (
        kind.weights == "given" and not kind.writes_result and kind.source != kind.computed
    )


_EXTREMES: dict[str, Any] = {"max": np.maximum, "min": np.minimum}


def _plain_row(
    kind: Kind, source: np.ndarray, base: int, starts: np.ndarray, row: int, table: np.ndarray, weights: np.ndarray,
    first: int, count: int,
) -> np.ndarray:  # fmt: skip
    """A row, in Python."""
    one, computed, other = map(np.dtype, kind[:3])
    slots = weights.reshape(-1, SLOT)[first:]
    numbers = slots[:, : computed.itemsize].copy().view(computed)[:, 0]
    signs = np.array([1] + [-1 if kind.weights == "difference" else 1] * kind.taps).astype(computed)

    def pixels(t, dtype):
        entry = 2 * (first + HEAD + t)
        start, place = starts[row + table[entry]], base + table[entry + 1]
        if start < 0:
            return np.full(count, numbers[OUTSIDE]).astype(dtype)
        return source[start + place :][: count * one.itemsize].view(one).astype(dtype)

    total = pixels(0, computed) if kind.weights in _EXTREMES else np.zeros(count, computed)
    for t in range(kind.taps):
        value = pixels(t, computed)
        if kind.weights in _EXTREMES:
            total = _EXTREMES[kind.weights](value, total)
        else:
            total += value * (numbers[HEAD + t] if kind.weights == "given" else signs[t])
    if not kind.order:
        return plain_stored(total, computed, other, kind.scaled, numbers[FACTOR], numbers[SHIFT])
    exact, doubles = np.zeros(count), slots.copy().view(DOUBLE)[HEAD + kind.taps :, 0]
    for t, *pair in _in_order(kind):
        value = pixels(t, DOUBLE)
        for second in pair:
            value = value + pixels(second, DOUBLE) * (-1 if kind.order == "odd" else 1)
        exact += value * doubles[t]
    near = np.abs(total - np.rint(total)) <= numbers[MARGIN]
    return np.where(near, np.trunc(exact), np.trunc(total)).astype(np.int64).astype(other)


def _in_order(kind: Kind) -> list[tuple[int, ...]]:
    """The taps as SciPy adds them up, one by one or in pairs that share a weight."""
    last = kind.taps - 1
    if kind.order in ("even", "odd"):
        return [(kind.taps // 2,), *((t, last - t) for t in range(kind.taps // 2))]
    return [(t,) for t in ([last, *range(last)] if kind.order == "listed" else range(kind.taps))]
