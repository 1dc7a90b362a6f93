"""Sweeps that read an image in place: sums over taps of rows as they lie, and rows between two passes in cache.

::

    target[r, i] = f(sum over taps t of weight[t] * source[start[r + row[t]] + offset[t] + i])

What it changes over `passes`: no band is loaded and stored beside the passes. A first pass reads the image's own bytes,
a last one writes the result's, and numbers are converted in registers, where they take up 8, 16, 32 or 64 bits as their
range needs. Where a row begins is looked up in a table, so rows outside the image stand for rows inside; of columns
only those within a window of the rim are copied: into a line between two passes, or with their rows into a strip.

A sweep is a list of `Stage`, one for a pass or a copy, over a few rows whose lines stay in the first-level cache. All
are micro-kernels of one signature, so the kernel of `sweep` is compiled once for everything.

Loops: rows, tiles, taps; of running sums tiles of `VECTORS` vectors, and then rows downwards, each of which adds a row
and takes one away, exactly, as integers do.
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
from ..tiles.converted import vector_reader, vector_writer
from ..tiles.elements import at, reader, writer
from ..tiles.tap_rows import HEAD, OUTSIDE, SHIFT, SLOT, VECTORS, Kind, tap_row


class Stage(NamedTuple):
    """A pass or a copy, of a few rows."""

    address: int
    reads_image: bool
    """Whether it reads the image, and else scratch; and where in the table its rows' places begin."""
    starts: int
    source: int
    """The first byte of a row's first element, counted from the row's place."""
    writes_result: bool
    """Whether it writes the result, and else scratch, at which byte, and how many further the next row."""
    target: int
    pitch: int
    first: int
    """Where its tables begin; how many taps it has, or positions to copy; and elements of a row, or of a position."""
    taps: int
    count: int
    more: int = 0
    """Rows beyond those of the result."""


FIELDS = len(Stage._fields)


def address(factory: Any, key: tuple) -> int:
    """The address of the stage ``factory(*key)``: ``(source, base, starts, row, table, weights, first, taps, target,
    to, pitch, rows, count)``."""
    data, place, integers = micro.array(np.uint8), micro.PLACE, micro.array(np.int64)
    arguments = data, place, integers, place, integers, data, place, place, data, place, place, place, place
    return micro.address(factory, key, arguments)


@lru_cache(maxsize=64)
def sums(kind: Kind) -> Any:
    """A stage: sums over few taps, as `tap_row` has them."""
    make_row = tap_row(kind)

    @jit(key=tuple(kind))
    def sum_up(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        for r in range(rows):
            make_row(source, base, starts, row + r, table, weights, first, target, to + r * pitch, count, pitch)

    return sum_up


@lru_cache(maxsize=32)
def running(source: str, computed: str, target: str, scaled: str) -> Any:
    """A stage: sums over `taps` rows, each from the one above it; none of them may be rounded.

    `scaled` is as of `vector_writer`.
    """
    read, write = vector_reader(source, computed), vector_writer(computed, target, scaled)
    number, lanes = reader(computed), simd.lanes(computed)
    size, wide, step = np.dtype(source).itemsize, np.dtype(target).itemsize, VECTORS * lanes
    one, two, three = (k * lanes * size for k in (1, 2, 3))
    second, third, fourth = (k * lanes * wide for k in (1, 2, 3))
    nothing = np.dtype(computed).type(0)

    @jit(key=(source, computed, target, scaled))
    def sum_up(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        head = first * SLOT
        factor, shift = simd.splat(number(weights, head)), simd.splat(number(weights, head + SHIFT * SLOT))
        outside, zero = simd.splat(number(weights, head + OUTSIDE * SLOT)), simd.splat(nothing)
        for tile in range(0, count, step):
            i = min(tile, count - step)
            begin = base + i * size
            a = b = c = d = zero
            for r in range(1 - taps, rows):
                start = at(starts, row + r + taps - 1)
                e = f = g = h = outside
                if start >= 0:
                    e, f = read(source, begin + start), read(source, begin + start + one)
                    g, h = read(source, begin + start + two), read(source, begin + start + three)
                a, b, c, d = a + e, b + f, c + g, d + h
                if r >= 0:
                    goal = to + r * pitch + i * wide
                    write(target, goal, a, factor, shift)
                    write(target, goal + second, b, factor, shift)
                    write(target, goal + third, c, factor, shift)
                    write(target, goal + fourth, d, factor, shift)
                    start = at(starts, row + r)
                    e = f = g = h = outside
                    if start >= 0:
                        e, f = read(source, begin + start), read(source, begin + start + one)
                        g, h = read(source, begin + start + two), read(source, begin + start + three)
                    a, b, c, d = a - e, b - f, c - g, d - h

    return sum_up


@lru_cache(maxsize=4)
def copies(size: int) -> Any:
    """A stage that copies positions of `count` elements each, of so many bytes.

    `table` has where each lies in a row and where it goes, in bytes; what lies at -1 is the constant outside.
    """
    kind = f"uint{8 * size}"
    read, write = reader(kind), writer(kind)

    @jit(key=(size,))
    def copy(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        outside = read(weights, (first + OUTSIDE) * SLOT)
        for r in range(rows):
            start, goal = at(starts, row + r), to + r * pitch
            for t in range(first + HEAD, first + HEAD + taps):
                there, here = at(table, 2 * t), goal + at(table, 2 * t + 1)
                if start >= 0 and there >= 0:
                    for q in range(count):
                        write(target, here + q * size, read(source, base + start + there + q * size))
                else:
                    for q in range(count):
                        write(target, here + q * size, outside)

    return copy


# -- the kernel ----------------------------------------------------------------------------------------------

#: Planes, bands of a plane, rows of a band and of a plane; then of image and result the first byte, and bytes
#: from one plane to the next; bytes from one row of the result to the next.
PLANES, BANDS, BAND, HEIGHT, BEGIN, STEP, BEGIN_OUT, STEP_OUT, PITCH_OUT = range(9)


@kernel
def sweep(x, out, starts, table, weights, stages, sizes, scratches):
    """Make all stages of each band; everything but tables of numbers is bytes."""
    planes, bands, band, height = at(sizes, PLANES), at(sizes, BANDS), at(sizes, BAND), at(sizes, HEIGHT)
    for task in prange(planes * bands):
        plane, row0 = task // bands, task % bands * band
        rows, scratch = min(band, height - row0), scratches[numba.get_thread_id()]
        begin = at(sizes, BEGIN) + plane * at(sizes, STEP)
        goal = at(sizes, BEGIN_OUT) + plane * at(sizes, STEP_OUT) + row0 * at(sizes, PITCH_OUT)
        for number in range(0, stages.size, FIELDS):
            address, starts_at, source = at(stages, number), at(stages, number + 2), at(stages, number + 3)
            target, pitch, first = at(stages, number + 5), at(stages, number + 6), at(stages, number + 7)
            taps, count, high = at(stages, number + 8), at(stages, number + 9), rows + at(stages, number + 10)
            if at(stages, number + 1) != 0:
                base, row = begin + source, starts_at + row0
                if at(stages, number + 4) != 0:
                    micro.call(address, x, base, starts, row, table, weights, first, taps, out, goal + target, pitch,
                               high, count)  # fmt: skip
                else:
                    micro.call(address, x, base, starts, row, table, weights, first, taps, scratch, target, pitch,
                               high, count)  # fmt: skip
            elif at(stages, number + 4) != 0:
                micro.call(address, scratch, source, starts, starts_at, table, weights, first, taps, out, goal + target,
                           pitch, high, count)  # fmt: skip
            else:
                micro.call(address, scratch, source, starts, starts_at, table, weights, first, taps, scratch, target,
                           pitch, high, count)  # fmt: skip
