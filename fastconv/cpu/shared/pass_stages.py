"""How a pass of a filter becomes a stage of `in_place`: which sums its taps are, and in which order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...specs.filters import Pass, Problem
from ..tiles import simd
from ..tiles.line_rows import WIDTH
from ..tiles.row_results import Kind, is_long
from ..tiles.tap_rows import MOST_TAPS, VECTORS
from ..tiles.tap_tile import in_blocks
from . import in_place as stages
from .layout import Line
from .steps import WRITTEN_OUT

#: Least bytes of an image whose windows of more than `MOST_TAPS` are made in place: less lies near anyhow, and strips
#: take their time; and least tiles of a row. (256x256 float32 takes 1.05 times as long, 512x512 0.9 of the time.)
WORTH_BYTES, WORTH_TILES = 512 << 10, 8
#: Least rows of an image that passes of more taps are made of in place: threads share rows.
LEAST_ROWS = 32
#: Rows whole pages apart have all lines of a column in one set of the first-level cache, which has room for fewer than
#: such a window's rows. (7x7 of 512x512 float64 in place: 1.3 times as long.)
PAGE = 4096


class Window(NamedTuple):
    """The sums of a window of any taps."""

    places: list[tuple[int, int]]
    """Row and column of each tap, in the order of their weights."""
    weights: list[float]
    address: int
    """Of the stage, and how many taps, or runs, that is told of."""
    taps: int
    tile: int
    """Least elements of a row."""


def window(problem: Problem, one: Pass, rows: Line, columns: Line, inner: int, computed: np.dtype) -> Window | None:
    """The sums of the only pass: each tap by itself if they are few, or in a run or some of equal length; else None."""
    array = np.moveaxis(problem.weights(one), range(len(one.axes)), np.argsort(np.argsort(one.axes)))
    array = array.reshape(rows.taps, columns.taps)
    kept = np.abs(array) > np.finfo(np.float64).eps if "window" in one.order else np.ones(array.shape, bool)
    places, few = np.argwhere(kept), np.count_nonzero(kept) <= MOST_TAPS
    layout = "" if few else "along" if rows.taps == 1 else "down" if columns.taps == 1 else "runs"
    tile = (WIDTH if layout == "along" else VECTORS) * simd.lanes(computed)
    inside = (columns.size - columns.taps + 1) * inner // tile
    if inside < 1 or not (few or (kept.all() and computed.kind == "f" and rows.size >= LEAST_ROWS)):
        return None
    if layout == "runs":
        is_far = rows.size * columns.size * inner * computed.itemsize >= WORTH_BYTES and rows.step % PAGE != 0
        same = problem.dtype == computed == problem.out_dtype and not checked_pass(one)
        if not (same and 3 <= rows.taps <= WRITTEN_OUT and is_far and inside >= WORTH_TILES):
            return None
        places = np.argwhere(kept.T)[:, ::-1]
    count = len(places)
    written_out, taps = {"": (count, count), "runs": (rows.taps, columns.taps)}.get(layout, (0, count))
    long = not few and (in_blocks if layout == "runs" else is_long)(count, computed)
    names = problem.dtype.name, computed.name, problem.out_dtype.name, ""
    told = order_of(one), some_outside(rows), layout, long
    at = sums_address(*names, written_out, "given", True, True, *told)
    return Window([(r, c) for r, c in places.tolist()], array[tuple(places.T)].tolist(), at, taps, tile)


def some_outside(rows: Line) -> bool:
    """Whether some rows lie outside the image."""
    return rows.axis >= 0 and bool((rows.table < 0).any())


def checked_pass(one: Pass) -> Pass | None:
    """The pass, if its sums are made again where SciPy's order decides."""
    return one if one.order.startswith("checked ") else None


def order_of(one: Pass) -> str:
    """SciPy's order, if it can decide."""
    return one.order.removeprefix("checked ") if checked_pass(one) else ""


def form_of(one: Pass) -> str:
    """What a pass does with its taps, as a `Kind` has it."""
    if one.order in ("max", "min"):
        return one.order
    return "ones" if not one.weights and one.scale == 1 else "given"


def sums_address(*kind: Any) -> int:
    """The address of a stage of sums of a `Kind`."""
    return stages.address(stages.sums, (Kind(*kind),))
