"""The steps of a sweep: passes over bands (`passes`), with the tables and the scratch that they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...specs.boundary import Boundary
from ...specs.filters import Pass, Problem
from ..tiles import run_tile, simd
from ..tiles.tap_rows import MOST_TAPS, inwards
from ..tiles.tap_tile import BLOCK, DOUBLE_BLOCK, WIDTH, in_blocks
from . import moments, passes, running_sums
from .passes import Step

#: Most taps of runs whose products are written out, if all have as many: filters by 5x5 and 7x7 are 1.1 to 1.2 times as
#: fast (AMD EPYC of Zen 3).
WRITTEN_OUT = 9
#: Most taps of float32 of a run that is a part of the only one, whose sums are put away: it begins in the middle of the
#: window, where weights are large, and so are the roundings of all further sums. (In parts of 16 Gaussians and means
#: along columns were off by up to 2.9 units in the last place, 2 are promised.)
ALONE = 8
#: More elements than a band has.
ONE_ROW = 1 << 40


class Cut(NamedTuple):
    """The bands that a problem is cut into, as far as passes see them."""

    distances: dict[int, int]
    """Elements from one tap to the next along each axis of a window."""
    band: int
    """Rows."""
    pitch: int
    """Elements from one row to the next."""
    seen: int
    made: int
    """Elements of a row that windows see, and of one of the result."""
    loaded: int
    """Elements of a band as it is loaded."""
    row_taps: int
    row_axis: int
    column_axis: int
    """Taps along rows, and the axes that rows and columns are of the image, if windows move along them."""
    lead_taps: int
    """Taps along the axes before those."""


class Steps:
    """The steps of a problem's passes, their tables, and the scratch that they need."""

    def __init__(self, problem: Problem, cut: Cut) -> None:
        self.problem, self.cut = problem, cut
        self.steps: list[Step] = []
        self.offsets: list[int] = []
        self.weights: list[float] = []
        self.size, self.reach, self.work = cut.loaded, 0, 0.0
        self.apart, self.constant = 0, problem.cval
        if problem.passes and problem.passes[0].order == "variance":
            self._variance(problem.passes[0])
            return
        self.result = self._chain(problem.passes, 0)
        if problem.periods:
            self.apart = self._room(cut.loaded)
            self._leave_out(problem.periods)

    def _leave_out(self, periods: int) -> None:
        """Do to what is there, ones and zeros, what is done to the image; and divide by what becomes of it."""
        passes_, sums, name = self.problem.passes, self.result, self.problem.computed.name
        there = self._chain(passes_, self.apart)
        counts = there if periods == 1 else self._chain(tuple(map(_counting, passes_)), self.apart)
        address = passes.address(passes.quotients, (name,), self.problem.computed)
        self.steps.append(Step(address, there, sums, len(self.weights)))
        self.weights += [math.prod(float(one.array().sum()) for one in passes_), periods if periods > 1 else 0.0]
        self.offsets += [counts, 0, 0, 0]
        self.work += 8.0
        self.result = sums

    def _chain(self, chain: tuple[Pass, ...], start: int) -> int:
        """Add the steps of passes over a band that lies at `start`; where their result lies."""
        problem, cut = self.problem, self.cut
        self.result = start
        lanes = WIDTH * simd.lanes(problem.computed)
        room = -(-(cut.band + cut.row_taps + run_tile.ROWS) * cut.pitch // lanes) * lanes + lanes
        by_axis, divisor = {one.axis: one for one in problem.axes}, 1.0
        for number, one in enumerate(chain):
            more = cut.row_taps - 1 if not any(each.axes == (cut.row_axis,) for each in chain[: number + 1]) else 0
            if len(one.axes) > 1:
                more = 0
            if one.order in ("box", "mean"):
                self._box(one, more, room, one.axes == (cut.row_axis,))
            else:
                self._sums(one, more, room)
            last = number + 1 == len(chain)
            divisor *= one.shape[0] * one.scale if one.order == "mean" else 1.0
            waits = not last and not problem.between and problem.computed == np.float32
            if (problem.between and not last) or (divisor != 1 and not waits):
                self._settle((not last and problem.between) or problem.computed.name, divisor, more)
                divisor = 1.0
            if not last and not problem.factors:
                following = by_axis[chain[number + 1].axes[0]]
                if following.boundary is Boundary.CONSTANT:
                    self.constant = problem.cval * divisor
                    fill = passes.FILL_COLUMNS if following.axis == cut.column_axis else passes.FILL_ROWS
                    self.steps.append(Step(fill, self.result, self.result, rows=more))
        return self.result

    def _settle(self, stored: str, divisor: float, more: int) -> None:
        """Add a step that divides, and stores as a dtype."""
        problem, factor = self.problem, reciprocal(divisor, self.problem, stored)
        key = problem.computed.name, stored, factor is None
        address = passes.address(passes.settled, key, problem.computed)
        self.steps.append(Step(address, self.result, self.result, len(self.weights), 1, more))
        self.weights.append(divisor if factor is None else factor)
        self.offsets += [0, 0]

    def _room(self, size: int) -> int:
        """A new buffer's place."""
        place = -(-self.size // 16) * 16
        self.size = place + size
        return place

    def _sums(self, one: Pass, more: int, room: int) -> None:
        if one.order.startswith("checked"):
            source, order = self.result, one.order.removeprefix("checked ")
            self._sums(one._replace(order="window" if "window" in order else "products"), more, room)
            self._check(one._replace(order=order), source, more)
            return
        taps, offsets, order = self._listed(one)
        if one.order in ("products", "window") and self.cut.row_axis in one.axes and len(taps) > MOST_TAPS:
            runs = self._runs(one)
            if runs:
                wide = self.cut.made if self.cut.column_axis in one.axes else self.cut.seen
                self._step_of_runs(runs, wide, self._room(room), more, len(one.axes) == 1)
                return
        self._step(order, taps, offsets, self.result, self._room(room), more, self.cut.row_axis in one.axes)

    def _check(self, one: Pass, source: int, more: int) -> None:
        """Add a step that makes sums again where SciPy's order of additions may decide."""
        taps, offsets, order = self._listed(one)
        offsets = offsets if len(offsets) == 2 * len(taps) else [place for place in offsets for _ in (0, 1)]
        first, size, computed = len(self.weights), -(-3 * len(taps) // 2), self.problem.computed
        self.weights += [one.margin(computed), *[0.0] * (size - 1)]
        self.offsets += [*offsets, *np.array(taps).view(np.int64).tolist(), *[0] * (2 * size - 3 * len(taps))]
        address = passes.address(passes.checked, (order, computed.name), computed)
        self.steps.append(Step(address, source, self.result, first, len(taps), more))

    def _listed(self, one: Pass) -> tuple[list[float], list[int], str]:
        """The weights and offsets of a pass, two for each tap where they are in pairs, and the tile's order."""
        weights = self.problem.weights(one)
        places = np.zeros(one.shape, np.int64)
        for number, axis in enumerate(one.axes):
            index = np.arange(one.shape[number]) * self.cut.distances[axis]
            places += index.reshape(-1, *[1] * (len(one.shape) - number - 1))
        taps, offsets = weights.reshape(-1).tolist(), places.reshape(-1).tolist()
        if one.order in ("even", "odd"):
            middle = len(taps) // 2
            pairs = [(offsets[middle], offsets[middle])]
            pairs += [(offsets[k], offsets[-1 - k]) for k in range(middle)]
            taps, offsets = [taps[middle], *taps[:middle]], [place for pair in pairs for place in pair]
        elif "window" in one.order:  # where weights are zero, it shows if pixels are not finite
            kept = [k for k, weight in enumerate(taps) if abs(weight) > np.finfo(np.float64).eps]
            taps, offsets = [taps[k] for k in kept], [offsets[k] for k in kept]
        elif one.order == "listed":  # the last first, as SciPy does
            taps, offsets = [taps[-1], *taps[:-1]], [offsets[-1], *offsets[:-1]]
        if one.order in ("products", "window"):  # small ones first: most sums are then small, and so their roundings
            order = inwards(len(taps))  # of `tap_rows`, whose results are these
            if len(taps) > MOST_TAPS:  # each block of a long sum has some of the large ones, too
                parts = -(-len(taps) // BLOCK) if in_blocks(len(taps), self.problem.computed) else 1
                order = sorted(order, key=lambda k: abs(taps[k]))
                order = [k for part in reversed(range(parts)) for k in order[part::parts]]
            taps, offsets = [taps[k] for k in order], [offsets[k] for k in order]
        return taps, offsets, {"window": "products", "listed window": "listed"}.get(one.order, one.order)

    def _runs(self, one: Pass) -> list[tuple[int, list[float]]]:
        """The offset and the weights of each run of taps that lie one below the other; none if none has 3."""
        cut, number, weights = self.cut, one.axes.index(self.cut.row_axis), self.problem.weights(one)
        smallest = np.finfo(np.float64).eps if one.order == "window" else -1.0  # see `_listed`
        longest = DOUBLE_BLOCK
        if self.problem.computed != np.float64:
            longest = run_tile.most_taps() if len(one.axes) > 1 else ALONE
        places = np.zeros(1, np.int64)
        for axis, size in zip(one.axes, one.shape, strict=True):
            if axis != cut.row_axis:
                places = (places[:, None] + np.arange(size) * cut.distances[axis]).reshape(-1)
        runs: list[tuple[int, list[float]]] = []
        columns = np.moveaxis(weights, number, -1).reshape(-1, one.shape[number])
        for place, column in zip(places.tolist(), columns, strict=True):
            kept = np.abs(column) > smallest
            edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
            for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                parts = -(-(end - begin) // longest)
                cuts = [begin + (end - begin) * k // parts for k in range(parts + 1)]
                runs += [(place + a * cut.pitch, column[a:b].tolist()) for a, b in pairwise(cuts)]
        return runs if max((len(taps) for _, taps in runs), default=0) >= 3 else []

    def _step_of_runs(
        self, runs: list[tuple[int, list[float]]], wide: int, target: int, more: int, alone: bool
    ) -> None:  # fmt: skip
        """Add a step of sums over runs, for so many elements of each row; `alone` if they are parts of one."""
        self.offsets += [0, wide]
        self.weights.append(0.0)
        first, most, taps = len(self.weights), max(len(one) for _, one in runs), sum(len(one) for _, one in runs)
        long = in_blocks(taps, self.problem.computed) or (alone and len(runs) > 1)
        per_block = 1 if alone else max(1, BLOCK // most) if long else len(runs)
        self.offsets += [self.cut.pitch, per_block, *(number for place, one in runs for number in (place, len(one)))]
        self.weights += [weight for _, one in runs for weight in one]
        self.weights += [0.0] * (len(self.offsets) // 2 - len(self.weights))
        self.offsets += [0] * (2 * len(self.weights) - len(self.offsets))
        length = most if most <= WRITTEN_OUT and most == min(len(one) for _, one in runs) else 0
        key = long, length, self.problem.computed.name
        address = passes.address(passes.sums_of_runs, key, self.problem.computed)
        self.steps.append(Step(address, self.result, target, first, len(runs), more))
        self.reach = max(self.reach, runs[-1][0] + (most + run_tile.ROWS) * self.cut.pitch)
        self.work += float(taps)
        self.result = target

    def _step(
        self, order: str, taps: Sequence[float], offsets: Sequence[int], source: int, target: int, more: int,
        downwards: bool,
    ) -> None:  # fmt: skip
        """Add a step of sums, made row by row or `downwards`; taps that are not in pairs have their offset twice."""
        self.offsets += [0, self.cut.pitch if downwards else ONE_ROW]
        self.weights.append(0.0)
        first = len(self.weights)
        order = "long products" if order == "products" and in_blocks(len(taps), self.problem.computed) else order
        self.weights += taps
        self.offsets += offsets if len(offsets) == 2 * len(taps) else [place for place in offsets for _ in (0, 1)]
        name = self.problem.computed.name
        address = passes.address(passes.sums, (order, name), self.problem.computed)
        self.steps.append(Step(address, source, target, first, len(taps), more))
        self.reach = max(self.reach, *offsets, 0)
        self.work += 2.0 * len(taps)
        self.result = target

    def _box(self, one: Pass, more: int, room: int, along_rows: bool) -> None:
        """A window of equal weights: sums of `radix` neighbours, of `radix` of those, ...; then those that make it."""
        (taps,), (axis,) = one.shape, one.axes
        if along_rows and taps >= running_sums.FEWEST:
            strip = running_sums.STRIP * simd.lanes(self.problem.computed)
            suffixes, first = self._room(taps * strip), len(self.weights)
            address = passes.address(running_sums.windows_of_rows, (self.problem.computed.name,), self.problem.computed)
            self.weights.append(one.scale)
            self.offsets += [self.cut.pitch, suffixes]
            target = self._room(room)
            self.steps.append(Step(address, self.result, target, first, taps, more))
            self.work += 8.0
            self.result = target
            return
        distance = self.cut.distances[axis]
        lanes = simd.lanes(self.problem.computed)
        base = radix(taps, distance % lanes, lanes)
        begin, source, levels, size = self.result, self.result, [self.result], 1
        while base and size * base <= taps:
            target, beyond = self._room(room), taps - size * base if along_rows else 0
            steps = [k * size * distance for k in range(base)]
            self._step("products", [1.0] * base, steps, source, target, more + beyond, along_rows)
            levels.append(target)
            source, size = target, size * base
        offsets = [levels[power] + place * distance - begin for power, place in parts_of(taps, base)]
        self._step("products", [one.scale] * len(offsets), offsets, begin, self._room(room), more, along_rows)


    # -- variances

    def _variance(self, one: Pass) -> None:
        """Parts of a window, twice as large in each step, along one axis after the other, and then the whole window."""
        cut, present, name = self.cut, self.problem.periods > 0, self.problem.computed.name
        lanes = WIDTH * simd.lanes(name)
        apart = -(-cut.loaded // lanes) * lanes + lanes
        self.apart = 2 * apart
        self.size = (3 if present else 2) * apart
        place, size = 0, 1
        high, remaining = cut.band + cut.row_taps - 1, cut.lead_taps
        clear = passes.address(moments.zeros, (name,), self.problem.computed)
        self.steps.append(Step(clear, 0, apart, rows=remaining * high - cut.band))
        for axis, taps in zip(one.axes, one.shape, strict=True):
            distance = cut.distances[axis]
            if axis not in (cut.row_axis, cut.column_axis):
                remaining //= taps
            rows = remaining * high - cut.band if axis != cut.row_axis else 0  # beyond those of the band
            if axis == cut.row_axis:
                high = cut.band
            parts, length = [(place, 1)], 1
            while 2 * length <= taps:
                beyond = (taps - 2 * length) if axis == cut.row_axis else 0
                if axis not in (cut.row_axis, cut.column_axis):
                    beyond = (taps - 2 * length) * distance // cut.pitch
                target = self._moments(place, length * distance, length * size, length * size, rows + beyond, apart)
                place, length = target, 2 * length
                parts.append((place, length))
            at, done = 0, 0
            while done < taps:
                while done + length > taps:
                    length //= 2
                    parts.pop()
                here = parts[-1][0] + done * distance
                at = self._moments(at, here - at, done * size, length * size, rows, apart) if done else here
                done += length
            place, size = at, size * taps
        address = passes.address(moments.spread, (name, one.weights == b"root", present), self.problem.computed)
        self.steps.append(Step(address, place + apart, place, len(self.weights)))
        fewer = one.scale
        self.weights += [float(size), fewer, max(float(self.problem.periods), fewer + 1)]
        self.offsets += [apart, 0, 0, 0, 0, 0]
        self.result = place

    def _moments(self, place: int, offset: int, first: int, second: int, rows: int, apart: int) -> int:
        """Add a step that makes one of two parts of a window, of so many elements."""
        present = self.problem.periods > 0
        target = self._room((3 if present else 2) * apart)
        key = self.problem.computed.name, present
        address = passes.address(moments.merged, key, self.problem.computed)
        self.steps.append(Step(address, place, target, len(self.weights), 2, rows))
        self.weights += [second / (first + second), first * second / (first + second)]
        self.offsets += [offset, apart, 0, 0]
        self.reach = max(self.reach, offset + 2 * apart)
        self.work += 12.0
        return target


def reciprocal(divisor: float, problem: Problem, stored: str) -> float | None:
    """The number that gives by multiplication what is stored of a quotient; None if there is none.

    Of a sum s of whole numbers, whose quotient loses its fraction, it is the least number above 1 / divisor: the
    product is no less than a whole quotient, and less than the next one, which is 1 / divisor away at least, if
    s < 2**21 (of float64 2**50).
    """
    if math.frexp(divisor)[0] == 0.5:
        return 1 / divisor
    last = problem.out_dtype if stored == problem.computed.name else np.dtype(stored)
    kind, most = problem.computed.type, 2.0**21 if problem.computed == np.float32 else 2.0**50
    limits = [np.iinfo(one) for one in (problem.dtype, problem.out_dtype) if one.kind in "iu"]
    largest = max([abs(problem.cval), 255.0, *(float(max(one.max, -one.min)) for one in limits)])
    if problem.dtype.kind == "f" or last.kind == "f" or problem.rule != "cast" or not largest * divisor < most:
        return None
    near = kind(1 / divisor)
    return float(near if float(near) * divisor > 1 else np.nextafter(near, kind(1)))


def _counting(one: Pass) -> Pass:
    """The pass that counts the elements that a pass gives a weight."""
    if not one.weights:
        return one._replace(scale=1.0)
    return one._replace(weights=(one.array() != 0).astype(np.float64).tobytes())


@lru_cache(maxsize=1024)
def radix(taps: int, distance: int, lanes: int) -> int:
    """How many neighbours are summed up to one, again and again, for a window of so many; 0 to sum up all at once.

    The fewest cache lines are touched: two by a vector that lies in both, and as many by a step as by two taps, for
    storing what it makes and loading it again.
    """

    def touched(place: int) -> int:
        return 2 if place * distance % lanes else 1

    best, least = 0, float(sum(map(touched, range(taps))))
    for radix in range(2, 9):
        cost, size = 0.0, 1
        while size * radix <= taps:
            cost += sum(touched(k * size) for k in range(radix)) + 2
            size *= radix
        cost += sum(touched(place) for _, place in parts_of(taps, radix))
        if cost < least:
            best, least = radix, cost
    return best


def parts_of(taps: int, radix: int) -> list[tuple[int, int]]:
    """The largest sums of radix ** power neighbours that make up a window, as (power, first tap); single taps if the
    radix is 0."""
    power, size = 0, 1
    while radix and size * radix <= taps:
        power, size = power + 1, size * radix
    found, place = [], 0
    while place < taps:
        while place + size > taps:
            power, size = power - 1, size // radix
        found.append((power, place))
        place += size
    return found
