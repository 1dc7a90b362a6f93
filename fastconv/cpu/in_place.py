"""Filters of images that are read in place: which stages (`shared.in_place`) make a problem's passes, in which dtype.

They take the least dtype that holds all sums: of bytes int16 or uint16 in most filters, twice as many in a register as
of float32. They make passes over rows and columns, in that order, with lines between them; or one pass along an axis,
of few taps, or of a window of floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..specs.filters import Pass, Problem
from .shared import in_place as stages
from .shared import layout, narrow
from .shared.in_place import Stage
from .shared.pass_stages import checked_pass, form_of, order_of, some_outside, sums_address, window
from .shared.steps import parts_of, radix
from .system.kernels import Direct, Launch
from .system.memory import lone_row, scratch_rows
from .system.threads import num_threads
from .tiles import simd
from .tiles.line_rows import WIDTH
from .tiles.row_results import HEAD, SLOT, is_long
from .tiles.run_rows import ROWS
from .tiles.tap_rows import MOST_TAPS, VECTORS

#: The dtypes that images are read in, and results written.
READ = "uint8", "int8", "uint16", "int16", "float32", "float64"
WRITTEN = (*READ, "int32")
#: The orders that passes may all have, but for those that are checked.
KNOWN = {"products", "window", "mean", "box", "max", "min"}
#: Bytes of the lines of a band: a quarter of a first-level cache. (From 12 to 96 KiB all are within a tenth.)
BAND_BYTES = 12 << 10
#: And where a pass over rows has many taps: a quarter of a second-level cache, as each band reads all rows of a window.
DOWN_BYTES = 128 << 10
#: Rows of a band without lines: so many that its strips take no time.
STRIP_ROWS = 32
#: The places of as many rows behind all others: tiles of rows that are not all there see them.
BEYOND = np.zeros(ROWS, np.int64)
#: Taps of a window of equal weights that are added up at once, along columns, and of floats along rows.
AT_ONCE = 6
#: Taps along columns from which on maxima are made of those of three neighbours. (Of 7x7 0.92 to 0.95 of the time, of
#: 9x9 0.9; same machine, 512x512.)
THREES = 7
#: Most taps along columns in front of and behind which columns are copied for each row; most bytes of scratch, of a few
#: second-level caches. A sweep by bands and blocks of columns does what is larger.
MOST_COLUMNS, MOST_BYTES = 512, 4 << 20
#: Most parts that a longer one is made of at the end.
MOST_PARTS = 16


def in_place(problem: Problem) -> InPlace | None:
    """The filter of a problem whose image can be read in place; None if another sweep has to do it."""
    if problem.periods or problem.rule != "cast" or not 1 <= len(problem.passes) <= 2 or not all(problem.shape):
        return None
    if problem.dtype.name not in READ or problem.out_dtype.name not in WRITTEN:
        return None
    orders = {one.order for one in problem.passes}
    if not orders <= KNOWN and not all(one.startswith("checked ") for one in orders):
        return None
    try:
        return InPlace(problem)
    except _OtherwiseError:
        return None


class _OtherwiseError(Exception):
    """A problem has to be done otherwise."""


def _need(true: bool) -> None:
    if not true:
        raise _OtherwiseError


class InPlace:
    """All that a call needs beside its arrays."""

    __slots__ = (
        "_arguments", "_chosen", "_chunked", "_launch", "_numbers", "_scratch", "_stages", "_starts", "_table",
        "problem",
    )  # fmt: skip

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        leads, rows, columns, inner = layout.arranged(problem)
        _need(len(leads) <= 1 and all(line.axis < 0 for line in leads))
        item, out_item = problem.dtype.itemsize, problem.out_dtype.itemsize
        for line, size, step, out in ((inner, inner.size, item, out_item),
                                      (columns, columns.size, item * inner.size, out_item * inner.size)):
            _need(size == 1 or (line.step, line.out) == (step, out))
        over_rows, over_columns = (next((one for one in problem.passes if one.axes == (line.axis,)), None)
                                   for line in (rows, columns))  # fmt: skip
        order = problem.passes
        if len(order) == 2:
            _need(over_rows is not None and over_columns is not None)
            assert over_rows
            assert over_columns
            order = over_rows, over_columns
        found = narrow.chosen(problem, order)
        _need(found is not None)
        assert found
        self._chosen, tile = found, VECTORS * simd.lanes(found.computed)
        self._stages: list[Stage] = []
        self._table: list[tuple[int, int]] = []
        self._numbers: list[bytes] = []
        table = rows.table if rows.axis >= 0 else np.arange(rows.size)
        _need(rows.step >= 0)
        self._starts = [np.where(table < 0, -1, table * rows.step), BEYOND]
        self._scratch = self._chunked = 0  # of a chunk of as many rows as a block's
        if len(order) == 2:
            _need(columns.size * inner.size >= tile and columns.taps <= MOST_COLUMNS)
            band = self._two(order[0], order[1], rows, columns, inner.size)
        else:
            band = self._one(order[0], rows, columns, inner.size)
        _need(self._scratch <= MOST_BYTES)
        planes = leads[0] if leads else layout.Line(1, 1, table, 0, 0, -1)
        begin = [layout.first_byte(problem.shape, one) for one in (problem.strides, problem.out_strides)]
        chunk = self._chunk(rows, planes.size, band)
        numbers = [planes.size, -(-rows.size // chunk), chunk, band, rows.size]
        numbers += [begin[0], planes.step, begin[1], planes.out, rows.out]
        self._arguments = (
            np.concatenate([*self._starts, np.zeros(band + 2, np.int64)]),  # some more: the next rows are looked up
            np.array(self._table, np.int64).reshape(-1),
            np.frombuffer(b"".join(self._numbers), np.uint8).copy(),
            np.array(self._stages, np.int64).reshape(-1),
            np.array(numbers, np.int64),
        )
        work = math.prod(problem.shape) * (4.0 + 2.0 * sum(math.prod(one.shape) for one in problem.passes))
        self._launch = Launch(stages.sweep, work)

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """Filter; both arrays have the layout that the problem says."""
        scratch = scratch_rows(self._scratch, np.dtype(np.uint8))
        self._launch.call(layout.bytes_of(x), layout.bytes_of(out), *self._arguments, scratch)

    def direct(self, x: np.ndarray, out: np.ndarray) -> Direct | None:
        """What does the same for arrays that lie as these two, on the calling thread."""
        scratch = lone_row(self._scratch, np.dtype(np.uint8))
        return self._launch.direct(layout.bytes_of(x), layout.bytes_of(out), *self._arguments, scratch)

    # -- tables

    def _room(self, size: int) -> int:
        """A new buffer's place in scratch."""
        place = self._scratch
        self._scratch = place + -(-size // 64) * 64
        return place

    def _lines(self, pitch: int, count: int, turns: int = 0) -> int:
        """Where the table of rows' places has those of so many rows in scratch, again and again for so many `turns`."""
        place = sum(map(len, self._starts))
        self._starts += [np.arange(max(count, turns)) % count * pitch, BEYOND]
        return place

    def _entries(
        self, taps: Sequence[tuple[int, int]], weights: Sequence[float] = (), factor: float = 1, shift: int = 0,
        outside: float = 0, dtype: np.dtype | None = None, checked: Pass | None = None,
    ) -> int:  # fmt: skip
        """Add a stage's tables; where they begin."""
        place, dtype = len(self._table), dtype or self._chosen.computed
        self._table += [(0, 0)] * HEAD + list(taps)
        numbers = [factor, shift, outside, checked.margin(dtype) if checked else 0, *(weights or [1] * len(taps))]
        with np.errstate(over="ignore"):
            self._numbers += [np.array(one).astype(dtype).tobytes().ljust(SLOT, b"\0") for one in numbers]
        if checked:
            self._table += [(0, 0)] * len(taps)
            self._numbers += [np.array(one, np.float64).tobytes() for one in weights]
        return place

    def _copies(
        self, table: np.ndarray, positions: range, to: int, dtype: np.dtype, inner: int, outside: float
    ) -> tuple[int, int, int]:  # fmt: skip
        """Address and tables of a stage that copies these positions of a row, as the table of columns has them."""
        size = dtype.itemsize
        pixel = inner * size
        taps = [(int(table[p]) * pixel if table[p] >= 0 else -1, to + k * pixel) for k, p in enumerate(positions)]
        first = self._entries(taps, outside=outside, dtype=dtype)
        return stages.address(stages.copies, (size,)), first, len(taps)

    def _scaling(self, divisor: float, stored: np.dtype) -> tuple[str, float, int]:
        """How sums become what is stored."""
        found = narrow.scaling(divisor, self.problem, self._chosen.computed, stored)
        _need(found is not None)
        assert found
        return found

    # -- passes

    def _band(self, rows: layout.Line, pitch: int, room: int = BAND_BYTES) -> int:
        """Rows of a band whose lines take so many bytes each."""
        return min(rows.size, max(1, room // pitch if pitch else STRIP_ROWS))

    def _chunk(self, rows: layout.Line, planes: int, band: int) -> int:
        """Rows that are made one after the other: a block's, or all, or as many as leave some work for each thread."""
        threads = num_threads()
        if self._chunked or threads == 1 or planes >= 4 * threads:
            return self._chunked or rows.size
        least = -(-rows.size // (4 * threads))
        return -(-max(least, 2 * rows.taps) // band) * band

    def _two(self, first: Pass, second: Pass, rows: layout.Line, columns: layout.Line, inner: int) -> int:
        """Add the stages of a pass over rows and one over columns; how many rows a band has."""
        problem, (computed, between, cut) = self.problem, self._chosen
        means, exact = first.order == "mean", problem.dtype.kind != "f"
        running = means and exact
        by_blocks = not exact and first.order in ("mean", "box") and rows.taps > AT_ONCE
        down = not running and not by_blocks and rows.taps > MOST_TAPS
        parts = columns.taps > AT_ONCE and second.order in ("mean", "box")
        along = not parts and columns.taps > MOST_TAPS
        if down or along:
            _need(computed.kind == "f" and form_of(first) == form_of(second) == "given")
        prefix = parts and exact and computed.kind != "f" and second.scale == 1 and inner <= simd.lanes(computed)
        levels = parts and not prefix
        line = computed if levels else between
        before, count = columns.before * inner * line.itemsize, columns.size * inner
        _need(not along or count >= WIDTH * simd.lanes(computed))
        origin = -(-before // 64) * 64
        pitch = -(-(origin - before + (columns.size + columns.taps - 1) * inner * line.itemsize) // 64) * 64
        band = self._band(rows, pitch, DOWN_BYTES if down else BAND_BYTES)
        band += -band % (ROWS if down else 2)  # rows are made so many at a time
        high = min(rows.taps, rows.size) if by_blocks else band
        lines = self._room(high * pitch + 64)  # whole vectors are read
        _need(self._scratch <= MOST_BYTES)  # before anything is compiled
        places = self._lines(pitch, high)
        # The first pass, into lines.
        outside_rows = some_outside(rows)
        divisor, waits = 1.0, not exact
        if means:
            divisor = first.shape[0] * first.scale
        scaled, factor, shift = ("whole", 1.0, 0) if cut else self._scaling(1.0 if waits else divisor, line)
        weights = problem.weights(first).tolist()
        taps = [(r, 0) for r in range(rows.taps)]
        if by_blocks:
            factor, taps, weights = first.scale, [], []
        outside = problem.cval if outside_rows else 0
        told = self._entries(taps, weights, factor, shift, outside, checked=checked_pass(first))
        names = problem.dtype.name, computed.name, line.name, scaled
        strip = stages.STRIP * simd.lanes(computed)
        if running or by_blocks:
            _need(count >= strip)
            sums = self._room(max(-(-count // strip), rows.taps if by_blocks else 0) * strip * computed.itemsize)
            self._table[told] = (sums, 0)
        if running:
            at = stages.address(stages.begun, names[:2])
            self._stages.append(Stage(at, True, 0, 0, False, sums, 0, told, rows.taps, count, once=True))
            at = stages.address(stages.running, names)
        elif by_blocks:
            _need(line == computed)
            at = stages.address(stages.blocks, names[:2])
            self._chunked = rows.taps
        else:
            layout = ("down", is_long(rows.taps, computed)) if down else ()
            kind: tuple = *names, 0 if down else rows.taps, form_of(first), True, False, order_of(first), outside_rows
            at = sums_address(*kind, *layout)
        self._stages.append(Stage(at, True, 0, 0, False, lines + origin, pitch, told, rows.taps, count, 0, by_blocks))
        # The columns beyond the rims.
        outside = problem.cval
        if problem.factors:
            outside *= float(first.array().sum())
        elif waits:
            outside *= divisor
        self._rims(columns, inner, line, lines + origin, pitch, places, outside, by_blocks)
        # The second pass, into the result.
        divisor = divisor if waits else 1.0
        if second.order == "mean":
            divisor *= second.shape[0] * second.scale
        scaled, factor, shift = self._scaling(divisor, problem.out_dtype)
        start, size = lines + origin - before, inner * line.itemsize
        taps = [(0, t * size) for t in range(columns.taps)]
        if prefix:
            places, taps, start = self._prefixes(line, columns, inner, start, pitch, places, band)
            line = computed
        elif levels:
            places, taps = self._levels(columns.taps, inner, count, start, pitch, places, band, by_blocks)
        elif second.order in ("max", "min") and columns.taps >= THREES:
            length, form, target = count + (columns.taps - 3) * inner, form_of(second), self._room(band * pitch)
            at, told = sums_address(*[line.name] * 3, "", 3, form, False, False), self._entries(taps[:3])
            self._stages.append(Stage(at, False, places, start, False, target, pitch, told, 3, length))
            places, taps, start = self._lines(pitch, band), [taps[0], taps[3], taps[-3]], target
        weights = problem.weights(second).tolist() if second.weights else [second.scale] * len(taps)
        _need(along or len(taps) <= MOST_PARTS)
        told = self._entries(taps, weights, factor, shift, checked=checked_pass(second))
        names = line.name, computed.name, problem.out_dtype.name, scaled
        layout = ("along", is_long(columns.taps, computed)) if along else ()
        kind = *names, 0 if along else len(taps), "difference" if prefix else form_of(second), False, True
        at = sums_address(*kind, order_of(second), False, *layout)
        self._stages.append(Stage(at, False, places, start, True, 0, rows.out, told, len(taps), count, moves=by_blocks))
        return band

    def _rims(
        self, columns: layout.Line, inner: int, line: np.dtype, begin: int, pitch: int, places: int, outside: float,
        once: bool,
    ) -> None:  # fmt: skip
        """Add a stage that copies what columns beyond the rims stand for, in lines whose columns begin at some byte."""
        pixel = inner * line.itemsize
        ends = [*range(columns.before), *range(columns.before + columns.size, columns.size + columns.taps - 1)]
        taps = [(int(columns.table[p]) * pixel if columns.table[p] >= 0 else -1, (p - columns.before) * pixel)
                for p in ends]  # fmt: skip
        if taps:
            told = self._entries(taps, outside=outside if columns.table.min() < 0 else 0, dtype=line)
            at = stages.address(stages.copies, (line.itemsize,))
            args = False, places, begin, False, begin, pitch, told, len(taps), inner
            self._stages.append(Stage(at, *args, once=once))

    def _prefixes(
        self, line: np.dtype, columns: layout.Line, inner: int, source: int, pitch: int, places: int, band: int
    ) -> tuple[int, list[tuple[int, int]], int]:  # fmt: skip
        """Add a stage of sums from the beginning of each line; where their rows begin, the two that differ by a window,
        and the first byte."""
        computed = self._chosen.computed
        elements, vector = (columns.size + columns.taps - 1) * inner, simd.register_bytes()
        wide = -(-elements * computed.itemsize // vector) * vector + 2 * vector
        target = self._room(band * wide) + vector
        told = self._entries([])
        at = stages.address(stages.prefixes, (line.name, computed.name, inner))
        self._stages.append(Stage(at, False, places, source, False, target, wide, told, 0, elements))
        item = inner * computed.itemsize
        return self._lines(wide, band), [(0, (columns.taps - 1) * item), (0, -item)], target

    def _levels(
        self, taps: int, inner: int, count: int, begin: int, pitch: int, places: int, band: int, moves: bool
    ) -> tuple[int, list[tuple[int, int]]]:  # fmt: skip
        """Add stages that sum up neighbours, again and again; where their rows begin, and the parts of a window."""
        computed = self._chosen.computed
        item = inner * computed.itemsize
        lanes = simd.lanes(computed)
        base = radix(taps, inner % lanes, lanes)
        size, levels, source, begins = 1, [begin], begin, places
        while base and size * base <= taps:
            target = self._room(band * pitch)
            told = self._entries([(0, k * size * item) for k in range(base)])
            at = sums_address(computed.name, computed.name, computed.name, "", base, "ones", False, False)
            length = count + (taps - size * base) * inner
            self._stages.append(Stage(at, False, begins, source, False, target, pitch, told, base, length, moves=moves))
            levels.append(target)
            if size == 1:
                begins = self._lines(pitch, band, self._chunked)
            source, size = target, size * base
        parts = [
            (0 if power else places - begins, levels[power] - begin + place * item)
            for power, place in parts_of(taps, base)
        ]
        return begins, parts

    def _one(self, one: Pass, rows: layout.Line, columns: layout.Line, inner: int) -> int:
        """Add the stages of one pass: over the image where all columns are inside, and over strips at its rims."""
        problem, computed = self.problem, self._chosen.computed
        _need(one.order not in ("mean", "box", "max", "min") and columns.taps <= MOST_COLUMNS)
        size, out_size = problem.dtype.itemsize * inner, problem.out_dtype.itemsize * inner
        band, outside_rows = self._band(rows, 0), some_outside(rows)
        found = window(problem, one, rows, columns, inner, computed)
        _need(found is not None)
        assert found
        places, weights, at, taps, tile = found
        outside: float = problem.cval if outside_rows else 0
        offsets = [(r, c * size) for r, c in places]
        told = self._entries(offsets, weights, outside=outside, checked=checked_pass(one))
        before, behind, inside = columns.before, columns.taps - 1 - columns.before, columns.size - columns.taps + 1
        self._stages.append(Stage(at, True, 0, 0, True, before * out_size, rows.out, told, taps, inside * inner))
        for wide, first in ((before, 0), (behind, columns.size - behind)):
            if not wide:
                continue
            made = -(-wide * inner // tile) * tile
            pitch = -(-(made + (columns.taps - 1) * inner) * problem.dtype.itemsize // 64) * 64
            strip, done = self._room((band + rows.taps - 1) * pitch), self._room(band * made * out_size // inner)
            outside = problem.cval if outside_rows or columns.table.min() < 0 else 0
            seen = range(first, first + wide + columns.taps - 1)
            address, copy, count = self._copies(columns.table, seen, 0, problem.dtype, inner, outside)
            self._stages.append(Stage(address, True, 0, 0, False, strip, pitch, copy, count, inner, rows.taps - 1))
            lines = self._lines(pitch, band + rows.taps - 1)
            line = made * out_size // inner
            self._stages.append(Stage(at, False, lines, strip, False, done, line, told, taps, made))
            place = first * out_size
            address, copy, count = self._copies(np.arange(wide), range(wide), place, problem.out_dtype, inner, 0)
            lines = self._lines(line, band)
            self._stages.append(Stage(address, False, lines, done, True, 0, rows.out, copy, count, inner))
        return band
