"""What becomes of rows of sums: how `tap_rows`, `run_rows` and `line_rows` are told of them, write them in another
dtype, and make again those whose fractions SciPy's order of additions decides.

Taps are in a table: `HEAD` entries, then for each tap how many rows below it sees a row begin, and how many bytes
further. At the same places of another table are numbers, of a `SLOT` each: those of the head, the weights, and where
sums are made again the same weights in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from ..system.building import intrinsic
from . import emit
from .converted import converted, plain_stored, stored_vector
from .elements import near_whole_lanes
from .simd import lanes
from .tap_tile import DOUBLE_BLOCK

DOUBLE = np.dtype(np.float64)
#: Entries of a stage's tables before those of its taps; bytes of a number in the table of weights.
HEAD, SLOT = 4, 8
#: What the first of them are: the factor or divisor of all sums, the bits that are shifted out, the constant outside,
#: and how far a sum is at most from SciPy's.
FACTOR, SHIFT, OUTSIDE, MARGIN = range(HEAD)

#: Most taps of float32 "down" or "along" whose products are added up in one go, by two sums; of more they are put away
#: in parts. (Sums of 25 like weights in one go were off by up to 2.4 units in the last place, 2 are promised.)
PART = 20


def is_long(taps: int, computed: np.dtype) -> bool:
    """Whether the sums of so many taps "down" or "along" are made in parts."""
    return taps > (DOUBLE_BLOCK if computed == DOUBLE else PART)


class Kind(NamedTuple):
    """What is added up, and how; dtypes by name."""

    source: str
    computed: str
    target: str
    scaled: str
    """As of `vector_writer`."""
    taps: int
    """How many there are, or are in a run, which are written out; 0 for any number."""
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
    layout: str = ""
    """Where taps lie: anywhere ("", `tap_rows`), in "runs" of so many, or all "down" in one (`run_rows`), or "along" a
    row, evenly apart (`line_rows`)."""
    long: bool = False
    """Whether sums are made in parts, which are put away with an account of what rounding loses."""


class Results:
    """Writes how sums become results; what all makers of rows have in common."""

    def __init__(self, builder: ir.IRBuilder, kind: Kind, args: list[ir.Value]) -> None:
        self.builder, self.kind = builder, kind
        (self.source, self.base, self.starts, self.row, self.table, self.numbers, self.begin, self.taps, self.target,
         self.to, self.pitch, self.size, self.elements) = args  # fmt: skip
        self.one, self.computed, self.other = map(np.dtype, kind[:3])
        self.count = lanes(self.computed)
        self.zero = ir.Constant(ir.VectorType(emit.scalar(self.computed), self.count), None)
        self.factor, self.shift, self.outside, self.margin = (self.number(emit.INT(place)) for place in range(HEAD))

    # -- tables

    def entry(self, place: ir.Value) -> ir.Value:
        return self.builder.add(self.begin, place)

    def number(self, place: ir.Value, dtype: np.dtype | None = None) -> ir.Value:
        """A vector of an entry's number, of the dtype that is computed in or another."""
        builder, scalar = self.builder, emit.scalar(dtype or self.computed)
        slot = builder.gep(self.numbers, [builder.mul(self.entry(place), emit.INT(SLOT))])
        return emit.splat(builder, builder.load(builder.bitcast(slot, scalar.as_pointer())), self.count)

    def weight(self, tap: ir.Value) -> ir.Value:
        return self.number(self.builder.add(tap, emit.INT(HEAD)))

    def place(self, tap: ir.Value) -> list[ir.Value]:
        """How many rows below and bytes further a tap sees a row begin."""
        builder = self.builder
        pair = builder.shl(self.entry(builder.add(tap, emit.INT(HEAD))), emit.INT(1))
        return [builder.load(builder.gep(self.table, [builder.add(pair, emit.INT(k))])) for k in (0, 1)]

    def see(self, row: ir.Value, right: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where a row is seen to begin, so many bytes further; and whether it is in the image: else it is the first."""
        builder = self.builder
        begin = builder.gep(self.source, [builder.add(self.base, right)])
        return self.row_at(begin, builder.gep(self.starts, [row]))

    def row_at(self, begin: ir.Value, entry: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The same of the row of an entry in the table of rows, and a place in the first row."""
        builder, start = self.builder, self.builder.load(entry)
        there = builder.icmp_signed(">=", start, emit.INT(0))
        if self.kind.constant:
            start = builder.select(there, start, emit.INT(0))
        return builder.gep(begin, [start]), there

    # -- vectors

    def pixels(self, begin: ir.Value, at: ir.Value, there: ir.Value, dtype: np.dtype | None = None) -> ir.Value:
        """The elements `at` and behind of a row that begins there, or the constant outside."""
        builder, dtype = self.builder, dtype or self.computed
        place = builder.gep(begin, [builder.mul(at, emit.INT(self.one.itemsize))])
        value = builder.load(builder.bitcast(place, ir.VectorType(emit.scalar(self.one), self.count).as_pointer()))
        value.align = 1
        value = converted(builder, value, self.one, dtype)
        if self.kind.constant:
            value = builder.select(there, value, converted(builder, self.outside, self.computed, dtype))
        return value

    def store(self, value: ir.Value, goal: ir.Value, at: ir.Value) -> None:
        builder = self.builder
        place = builder.gep(goal, [builder.mul(at, emit.INT(self.other.itemsize))])
        builder.store(value, builder.bitcast(place, value.type.as_pointer())).align = 1

    def put(self, total: ir.Value, goal: ir.Value, at: ir.Value) -> None:
        """Write a vector of sums as the element `at` and those behind of a row that begins at `goal`."""
        args = self.computed, self.other, self.kind.scaled, self.factor, self.shift
        self.store(stored_vector(self.builder, total, *args), goal, at)

    def near(self, total: ir.Value, others: ir.Value | None) -> ir.Value | None:
        """A mask of sums that SciPy's order may decide, and of others."""
        if not self.kind.order:
            return None
        mask = near_whole_lanes(self.builder, total, self.margin)
        return mask if others is None else self.builder.or_(mask, others)

    def again(
        self, near: ir.Value | None, row: ir.Value, high: ir.Value, goal: ir.Value, at: ir.Value, vectors: int
    ) -> None:  # fmt: skip
        """Make a tile's sums again, as SciPy adds them up, if that may decide for any of them: of rows from `row` on,
        the first of which begins at `goal`, so many vectors from `at` on."""
        if near is None:
            return
        nothing, kind = emit.INT(0), self.kind
        told = [self.source, self.base, self.starts, row, self.table, self.numbers, self.begin, self.taps, goal,
                nothing, self.pitch, high, at]  # fmt: skip

        def again(builder: ir.IRBuilder, *args: ir.Value) -> None:
            Results(builder, kind, list(args)).exact_rows(vectors)

        name = "again " + " ".join(map(str, (*kind, vectors)))
        with self.builder.if_then(emit.any_lane(self.builder, near), likely=False):
            # Written here it would take the registers of the loops around it: they took 1.1 times as long.
            emit.call_once_emitted(self.builder, name, told, again)

    def exact_rows(self, vectors: int) -> None:
        """Make so many vectors of each row in SciPy's order, from the element on that is told as their number."""
        builder, whole = self.builder, "whole" if self.other.kind == "f" else ""  # else a cast does it

        def one_row(r: ir.Value, carried: list) -> list:
            row, goal = builder.add(self.row, r), builder.gep(self.target, [builder.mul(self.pitch, r)])

            def one(v: ir.Value, carried: list) -> list:
                at = builder.add(self.elements, builder.mul(v, emit.INT(self.count)))
                total = self.exact_sum(row, at)
                args = DOUBLE, self.other, whole, self.factor, self.shift
                self.store(stored_vector(builder, total, *args), goal, at)
                return carried

            return emit.loop(builder, emit.INT(0), emit.INT(vectors), emit.INT(1), carried, one)

        emit.loop(builder, emit.INT(0), self.size, emit.INT(1), [], one_row)

    def exact_sum(self, row: ir.Value, at: ir.Value) -> ir.Value:
        """A vector of sums in SciPy's order."""
        builder, order = self.builder, self.kind.order
        last = builder.sub(self.taps, emit.INT(1))

        def product(tap: ir.Value, *more: ir.Value) -> ir.Value:
            value = None
            for each in (tap, *more):
                down, right = self.place(each)
                begin, there = self.see(builder.add(row, down), right)
                found = self.pixels(begin, at, there, DOUBLE)
                combine = builder.fsub if order == "odd" else builder.fadd
                value = found if value is None else combine(value, found)
            behind = builder.add(self.taps, emit.INT(HEAD))
            return builder.fmul(value, self.number(builder.add(behind, tap), DOUBLE))

        def added(tap: ir.Value, carried: list) -> list:
            pair = [builder.sub(last, tap)] if order in ("even", "odd") else []
            return [builder.fadd(carried[0], product(tap, *pair))]

        half = builder.lshr(self.taps, emit.INT(1))
        first, begin, end = {
            "listed": (last, emit.INT(0), last),
            "listed window": (emit.INT(0), emit.INT(1), self.taps),
        }.get(order, (half, emit.INT(0), half))
        return emit.loop(builder, begin, end, emit.INT(1), [product(first)], added)[0]


def rows_maker(kind: Kind, emitter: Any) -> Any:
    """A function for kernels, ``make_rows(source, base, starts, row, table, weights, first, taps, target, to, pitch,
    rows, count)``: makes rows that follow one another, each `pitch` bytes behind the one before.

    From entry `first` on are the tables told of above. A row has at least a tile: the last one is moved
    back.
    """

    @intrinsic(plain=plain_rows(kind))
    def make_rows(typingctx, source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        def codegen(context, builder, sig, args):
            data = [emit.data_of(context, builder, told, arg) if isinstance(told, types.Array) else arg
                    for told, arg in zip(sig.args, args, strict=True)]  # fmt: skip
            emitter(builder, kind, data).rows()
            return context.get_dummy_value()

        integer = types.int64
        operands = [source, integer, starts, integer, table, weights, integer, integer, target, *[integer] * 4]
        return types.void(*operands), codegen

    return make_rows


EXTREMES: dict[str, Any] = {"max": np.maximum, "min": np.minimum}


def plain_rows(kind: Kind) -> Any:
    """The twin of all makers of rows, in Python."""

    def plain(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        for r in range(rows):
            number = taps * kind.taps if kind.layout == "runs" else taps
            made = _plain_row(kind, source, base, starts, row + r, table, weights, first, number, count)
            target[to + r * pitch :][: made.nbytes].view(made.dtype)[:] = made

    return plain


def _plain_row(
    kind: Kind, source: np.ndarray, base: int, starts: np.ndarray, row: int, table: np.ndarray, weights: np.ndarray,
    first: int, taps: int, count: int,
) -> np.ndarray:  # fmt: skip
    one, computed, other = map(np.dtype, kind[:3])
    slots = weights.reshape(-1, SLOT)[first:]
    numbers = slots[:, : computed.itemsize].copy().view(computed)[:, 0]
    signs = np.array([1] + [-1 if kind.weights == "difference" else 1] * taps).astype(computed)

    def pixels(t, dtype):
        entry = 2 * (first + HEAD + t)
        start, place = starts[row + table[entry]], base + table[entry + 1]
        if start < 0:
            return np.full(count, numbers[OUTSIDE]).astype(dtype)
        return source[start + place :][: count * one.itemsize].view(one).astype(dtype)

    total = pixels(0, computed) if kind.weights in EXTREMES else np.zeros(count, computed)
    for t in range(taps):
        value = pixels(t, computed)
        if kind.weights in EXTREMES:
            total = EXTREMES[kind.weights](value, total)
        else:
            total += value * (numbers[HEAD + t] if kind.weights == "given" else signs[t])
    if not kind.order:
        return plain_stored(total, computed, other, kind.scaled, numbers[FACTOR], numbers[SHIFT])
    exact, doubles = np.zeros(count), slots.copy().view(DOUBLE)[HEAD + taps :, 0]
    for t, *pair in _in_order(kind, taps):
        value = pixels(t, DOUBLE)
        for second in pair:
            value = value + pixels(second, DOUBLE) * (-1 if kind.order == "odd" else 1)
        exact += value * doubles[t]
    near = np.abs(total - np.rint(total)) <= numbers[MARGIN]
    return np.where(near, np.trunc(exact), np.trunc(total)).astype(np.int64).astype(other)


def _in_order(kind: Kind, taps: int) -> list[tuple[int, ...]]:
    """The taps as SciPy adds them up, one by one or in pairs that share a weight."""
    last = taps - 1
    if kind.order in ("even", "odd"):
        return [(taps // 2,), *((t, last - t) for t in range(taps // 2))]
    return [(t,) for t in ([last, *range(last)] if kind.order == "listed" else range(taps))]
