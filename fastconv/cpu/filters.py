"""Filters of images on the CPU: a `Problem` says what is to be summed up, a `Sweep` is all that a call of it needs.

A sweep reads an image once, a band at a time (`shared.bands`), makes one or two passes over the band while it lies in
cache (`shared.passes`), and stores the result: no copy of the image is made, extended or not. Most filters of images
with few taps need no such band: `in_place` has them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ..specs.arrays import check_memory
from ..specs.filters import Pass, Problem
from .in_place import InPlace, in_place
from .shared import bands, layout, passes, running_sums
from .shared.for_threads import ForThreads
from .shared.layout import Line
from .shared.steps import Cut, Steps
from .system.kernels import Direct, Launch
from .system.memory import buffer, lone_row, scratch_rows
from .system.threads import num_threads
from .tiles import simd
from .tiles.tap_tile import WIDTH
from .transformed import Transformed, transformed

#: Bytes of a band with all that is made of it: most of a 1 MiB second-level cache. (AMD EPYC 9005: small windows are
#: equally fast from 192 KiB on; a Gaussian of 65 taps takes half as long again with 384, which loads more twice.)
BAND_BYTES = 768 << 10
#: Bytes of a band in a third-level cache, and how many times as long it takes: of long windows, above all with
#: channels, a smaller one is mostly loaded twice. (Gaussians of 65 taps, 1080x1920 and 512x512, float64, same machine:
#: 0.65 to 0.75 of the time, of three channels 0.55.)
FAR_BYTES, FAR = 3 << 20, 1.25
#: Most rows of a band, but for windows that need more.
MOST_ROWS = 256
#: Elements that could be made in the time that it takes to begin with a row.
ROW_START = 24


def fits(problem: Problem) -> bool:
    """Whether a sweep can read the image and write the result as they lie.

    What lies behind the last axis of a window must be evenly spaced; and two passes must be along rows and columns.
    """
    lines = layout.lines(problem)
    last = max((number for number, line in enumerate(lines) if line.axis >= 0), default=len(lines))
    if len(lines) - 1 - last > 1:
        return False
    if len(problem.passes) < 2:
        return True
    _, rows, columns, _ = layout.arranged(problem)
    return {rows.axis, columns.axis} == {axis for one in problem.passes for axis in one.axes}


class Sweep:
    """All that a call needs beside its arrays."""

    __slots__ = ("_arguments", "_first", "_launch", "_scratch", "problem")

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        leads, rows, columns, inner = layout.arranged(problem)
        lanes, item = simd.lanes(problem.computed), problem.computed.itemsize
        lead_taps = math.prod(line.taps for line in leads)
        planes = 2 if problem.periods else 1
        unit = rows.taps if any(_runs(one, rows) for one in problem.passes) else 4
        band, block = _cut(planes * lead_taps, rows, columns, inner, item, planes * len(problem.passes), unit)
        pitch = _pitch((block + columns.taps - 1) * inner.size, lanes)
        tables: list[np.ndarray] = []
        places: list[int] = []
        for line in (columns, rows, *reversed(leads)):
            places.append(sum(table.size for table in tables))
            tables.append(np.arange(line.size, dtype=np.int64) if line.axis < 0 else line.table)
        numbers = [band, -(-rows.size // band), block, -(-columns.size // block), pitch, len(leads)]
        numbers += [inner.size, columns.size, columns.taps, columns.before, places[0], columns.step, columns.out]
        numbers += [inner.step or problem.dtype.itemsize, inner.out or problem.out_dtype.itemsize]
        numbers += [layout.first_byte(problem.shape, one) for one in (problem.strides, problem.out_strides)]
        for line, place in zip((rows, *reversed(leads)), places[1:], strict=True):
            numbers += [line.size, line.taps, place, line.step, line.out]
        plane = (band + rows.taps - 1) * pitch
        distances = {columns.axis: inner.size, rows.axis: pitch}
        for line in reversed(leads):
            distances[line.axis], plane = plane, plane * line.taps
        shapes = ", ".join(f"({one.taps},)" for one in problem.axes)
        what = f"scratch for windows (size), or weights, of shapes {shapes}"
        check_memory(planes * plane * item, what)
        wide = (block + columns.taps - 1) * inner.size, block * inner.size
        cut = Cut(distances, band, pitch, *wide, plane, rows.taps, rows.axis, columns.axis, lead_taps)
        made = Steps(problem, cut)
        kind = problem.computed.type
        self._arguments = (
            np.concatenate(tables),
            np.array(numbers, np.int64),
            bands.loader(problem.dtype, problem.computed, problem.periods > 0),
            bands.storer(problem.computed, problem.out_dtype, problem.rule),
            np.array(made.steps, np.int64).reshape(-1),
            np.array(made.offsets or [0], np.int64),
            np.array(made.weights or [0], problem.computed),
            (kind(problem.cval), kind(made.constant)),
            made.result,
            made.apart,
        )
        self._scratch = made.size + WIDTH * lanes + made.reach
        check_memory(self._scratch * item, what)
        work = math.prod(problem.shape) * (4.0 + made.work)
        self._launch = Launch(passes.sweep, work)

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """Filter; both arrays have the layout that the problem says."""
        scratch = scratch_rows(self._scratch, self.problem.computed)
        self._launch.call(layout.bytes_of(x), layout.bytes_of(out), *self._arguments, scratch)

    def direct(self, x: np.ndarray, out: np.ndarray) -> Direct | None:
        """What does the same for arrays that lie as these two, on the calling thread."""
        scratch = lone_row(self._scratch, self.problem.computed)
        return self._launch.direct(layout.bytes_of(x), layout.bytes_of(out), *self._arguments, scratch)


def _runs(one: Pass, rows: Line) -> bool:
    """Whether a pass is made by `running_sums`, whose blocks begin with a band, and so at multiples of their size."""
    return one.order in ("box", "mean") and one.axes == (rows.axis,) and rows.taps >= running_sums.FEWEST


def _cut(
    lead_taps: int, rows: Line, columns: Line, inner: Line, item: int, count: int, unit: int
) -> tuple[int, int]:  # fmt: skip
    """Rows of a band, a multiple of some unit, and columns of a block: those with least to load, and to make, twice."""
    best, least = (1, 1), math.inf
    for goal, longer in ((BAND_BYTES, 1.0), (FAR_BYTES, FAR)):
        for times in range(1, MOST_ROWS // unit + 2):
            band = min(rows.size, times * unit)
            lines = (lead_taps + count) * (band + rows.taps - 1)
            block = goal // item // lines // inner.size - (columns.taps - 1)
            block = min(columns.size, max(block, 64 // inner.size + 1))
            # A whole number of blocks of about the same size.
            block = -(-columns.size // -(-columns.size // block)) if columns.size else 1
            size = lines * (block + columns.taps - 1) * inner.size * item
            waste = longer * (1 + (rows.taps - 1) / max(band, 1))
            waste *= (1 + (columns.taps - 1 + ROW_START / inner.size) / block) * max(1.0, size / goal)
            if waste < least:
                best, least = (band, block), waste
            if band == rows.size:
                break
    band, block = best
    threads = num_threads()
    if threads > 1 and rows.size * -(-columns.size // block) > 4 * threads:
        most = max(8, rows.taps, -(-rows.size // (4 * threads)))
        band = min(band, -(-most // unit) * unit)
    return max(1, band), max(1, block)


def _pitch(size: int, lanes: int) -> int:
    """Elements from a row to the next: an odd number of cache lines, so that a tile's rows lie in different sets."""
    return max(-(-size // lanes) | 1, running_sums.STRIP) * lanes


@lru_cache(maxsize=1024)
def prepared(problem: Problem) -> ForThreads:
    """What filters images of this layout."""
    return ForThreads(_made, problem)


def _made(problem: Problem) -> InPlace | Transformed | Sweep:
    """In place where that is possible, by transforms where they take less time."""
    return in_place(problem) or transformed(problem) or Sweep(problem)


def between(number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array for an image between two sweeps, in memory that this thread keeps; there are two, by number."""
    return buffer(f"filter {number}", shape, dtype)
