"""Passes over a band in scratch: what filters are made of, as micro-kernels of one signature, and the kernel that runs
them.

::

    target[to + i] = f(source[place + offset[t] + i] for some taps t)                 for i < count

All pixels of a band see a tap at the same distance (`bands`), so a pass along rows, along columns, or with all taps of
a window at once is the same loop over one long row. A filter is a list of passes, `Step` by `Step`; the kernel of
`sweep` loads a band, makes the passes and stores the result, and is compiled once for each dtype that is computed in.

Source: SciPy 1.17, whose order of additions decides how whole numbers are cut off.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ..system import micro
from ..system.kernels import jit, kernel
from ..tiles import simd
from ..tiles.elements import at, converter, near_whole, put
from ..tiles.run_tile import ROWS, VECTORS, run_tile
from ..tiles.tap_tile import WIDTH, exact_tile, tap_tile
from . import bands
from .bands import settler

# -- passes --------------------------------------------------------------------------------------------------


def address(factory: Any, key: tuple, dtype: np.dtype) -> int:
    """The address of the pass ``factory(*key)``: ``(band, place, offsets, weights, first, taps, to, count)``, places in
    a band that is computed in `dtype`."""
    place, integers, numbers = micro.PLACE, micro.array(np.int64), micro.array(dtype)
    arguments = numbers, place, integers, numbers, place, place, place, place
    return micro.address(factory, key, arguments)


@lru_cache(maxsize=16)
def sums(order: str, dtype: str) -> Any:
    """A pass: sums of products in one of the orders of `tap_tile`.

    In front of its offsets are how many elements are made before those below them. Where taps lie below each other that
    is a row: what tiles share stays in the first-level cache. Else all are one row.
    """
    tile, step = tap_tile(order), WIDTH * simd.lanes(dtype)

    @jit(key=(order, dtype))
    def sums_of_products(band, place, offsets, weights, first, taps, to, count):
        pitch = at(offsets, 2 * first - 1)
        for begin in range(0, min(pitch, count), step):
            for i in range(begin, count, pitch):
                tile(band, place + i, offsets, weights, first, taps, band, to + i)

    return sums_of_products


@lru_cache(maxsize=16)
def sums_of_runs(long: bool, length: int, dtype: str) -> Any:
    """A pass: sums of products over runs of `length` taps, or any if that is 0, as `run_tile` has them in its tables.

    In front of them is how many elements of each row are made: what is behind them nobody needs.
    """
    tile, step = run_tile(long, length), VECTORS * simd.lanes(dtype)

    @jit(key=(long, length, dtype))
    def all_runs(band, place, offsets, weights, first, taps, to, count):
        wide, pitch = at(offsets, 2 * first - 1), at(offsets, 2 * first)
        for begin in range(0, wide, step):  # downwards: the rows that tiles share stay in the first-level cache
            for i in range(begin, count, ROWS * pitch):
                tile(band, place + i, offsets, weights, first, taps, band, to + i)

    return all_runs


@lru_cache(maxsize=8)
def checked(order: str, dtype: str) -> Any:
    """A pass over sums whose fractions are to be cut off: those near a whole number are made again as SciPy makes them.

    The first weight is the margin; the tables of `exact_tile` are at ``2 * first`` in `offsets`.
    """
    tile, lanes = exact_tile(order), simd.lanes(dtype)

    @jit(key=(order, dtype))
    def check(band, place, offsets, weights, first, taps, to, count):
        margin = at(weights, first)
        for i in range(0, count, lanes):
            if near_whole(simd.load(band, to + i), margin):
                tile(band, place + i, offsets, 2 * first, taps, band, to + i)

    return check


@lru_cache(maxsize=32)
def settled(source: str, target: str, divides: bool) -> Any:
    """A pass in place: products with the first weight, as they are read again after they were stored as `target`.

    If it `divides`, they are quotients, which take ten cycles a vector.
    """
    name = "uint8" if target == "bool" else target
    settle, back = settler(source, target, "cast"), converter(name, source)

    @jit(key=(source, target, divides))
    def settle_all(band, place, offsets, weights, first, taps, to, count):
        factor = at(weights, first)
        for i in range(count):
            value = at(band, to + i)
            value = value / factor if divides else value * factor
            put(band, to + i, back(settle(value)))

    return settle_all


@lru_cache(maxsize=4)
def quotients(dtype: str) -> Any:
    """A pass in place: sums divided by those of the weights of what was there, at `place`; times all weights.

    What lies at the first offset counts the elements that were there: NaN where there are fewer than the second weight.
    """
    nothing = np.dtype(dtype).type(np.nan)

    @jit(key=(dtype,))
    def all_quotients(band, place, offsets, weights, first, taps, to, count):
        counts, total, least = at(offsets, 2 * first), at(weights, first), at(weights, first + 1)
        for i in range(count):
            value = at(band, to + i) / at(band, place + i) * total
            put(band, to + i, nothing if at(band, counts + i) < least else value)

    return all_quotients


# -- the kernel ----------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One pass over a band."""

    address: int
    """Of the pass; or `FILL_COLUMNS` or `FILL_ROWS`, which put the constant where those lie outside the image."""
    source: int
    """Where in scratch it reads."""
    target: int
    """Where it writes: elsewhere, or in place if a number depends on itself alone."""
    first: int = 0
    """Its first tap in the tables of offsets and weights, and how many there are."""
    taps: int = 0
    rows: int = 0
    """Rows beyond those of the band that it makes, for a later pass along rows."""


FILL_COLUMNS, FILL_ROWS = -2, -1


@kernel
def sweep(x, out, tables, geometry, load, store, steps, offsets, weights, fill, result, apart, scratches):
    """Load each band of an image, make the passes over it, and store what then lies in scratch at `result`.

    `x` and `out` are bytes, `steps` the numbers of each `Step`. Two constants are in `fill`: the image's, outside, and
    the one that steps fill with.
    """
    count, bands_, blocks = at(geometry, bands.BAND), at(geometry, bands.BANDS), at(geometry, bands.BLOCKS)
    block, pitch, inner = at(geometry, bands.BLOCK), at(geometry, bands.PITCH), at(geometry, bands.INNER)
    columns, column_taps = at(geometry, bands.COLUMNS), at(geometry, bands.COLUMN_TAPS)
    column_table, height = at(geometry, bands.COLUMN_TABLE), at(geometry, bands.AXES + bands.AXIS_SIZE)
    row_table = at(geometry, bands.AXES + bands.AXIS_TABLE)
    leads, passes = 1, steps.size // 6
    for number in range(1, at(geometry, bands.LEADS) + 1):
        leads *= at(geometry, bands.AXES + number * bands.AXIS_NUMBERS + bands.AXIS_SIZE)
    outside, constant = fill
    for task in prange(leads * bands_ * blocks):
        lead, band = task // (bands_ * blocks), task // blocks % bands_
        row0, col0 = band * count, task % blocks * block
        rows, width_ = min(count, height - row0), min(block, columns - col0)
        scratch = scratches[numba.get_thread_id()]
        bands.load_band(load, x, tables, geometry, lead, row0, rows, col0, width_, outside, scratch, 0, apart)
        for number in range(0, 6 * passes, 6):
            address, source, target = at(steps, number), at(steps, number + 1), at(steps, number + 2)
            size = (rows + at(steps, number + 5)) * pitch
            if address >= 0:
                micro.call(
                    address, scratch, source, offsets, weights, at(steps, number + 3), at(steps, number + 4), target,
                    size
                )
            elif address == FILL_ROWS:
                for r in range(rows + at(steps, number + 5)):
                    if at(tables, row_table + row0 + r) < 0:
                        for i in range(pitch):
                            put(scratch, target + r * pitch + i, constant)
            else:
                for p in range(width_ + column_taps - 1):
                    if at(tables, column_table + col0 + p) < 0:
                        for r in range(rows + at(steps, number + 5)):
                            for q in range(inner):
                                put(scratch, target + r * pitch + p * inner + q, constant)
        bands.store_band(store, scratch, result, geometry, lead, row0, rows, col0, width_, out)
