"""Sweeps that read an image in place: sums over taps of rows as they lie, and rows between two passes in cache.

::

    target[r, i] = f(sum over taps t of weight[t] * source[start[r + row[t]] + offset[t] + i])

What it changes over `passes`: no band is loaded and stored beside the passes. A first pass reads the image's own bytes,
a last one writes the result's, and numbers are converted in registers, where they take up 8, 16, 32 or 64 bits as their
range needs. Where a row begins is looked up in a table, so rows outside the image stand for rows inside; of columns
only those within a window of the rim are copied: into a line between two passes, or with their rows into a strip.

A sweep is a list of `Stage`, one for a pass or a copy, over a few rows whose lines stay in the first-level cache. All
are micro-kernels of one signature, so the kernel of `sweep` is compiled once for everything.

Loops: chunks of rows, bands of a few rows, stages, rows, tiles, taps; of running sums strips, and then rows downwards,
each of which adds a row and takes one away, exactly, as integers do.

AMD EPYC 9005, one core, a mean of 5x5 of 512x512 pixels: uint8 26 us (`passes` 107, OpenCV 26), float32 80 (123, 84).
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
from ..tiles.converted import last_of_each, prefix_sums, vector_reader, vector_writer
from ..tiles.elements import at, reader, writer
from ..tiles.line_rows import line_rows
from ..tiles.row_results import HEAD, OUTSIDE, SHIFT, SLOT, Kind
from ..tiles.run_rows import run_rows
from ..tiles.tap_rows import tap_rows
from .running_sums import PART

#: Vectors of a strip of running sums: enough that to find a row takes less time than to add it.
STRIP = 4


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
    size: int
    more: int = 0
    """Rows beyond those of the result."""
    once: bool = False
    """Whether it is for a whole chunk, before its first band."""
    moves: bool = False
    """Whether the rows in scratch that it reads are those of a chunk, not of a band."""


FIELDS = len(Stage._fields)


def address(factory: Any, key: tuple) -> int:
    """The address of the stage ``factory(*key)``: ``(source, base, starts, row, table, weights, first, taps, target,
    to, pitch, rows, count)``."""
    data, place, integers = micro.array(np.uint8), micro.PLACE, micro.array(np.int64)
    arguments = data, place, integers, place, integers, data, place, place, data, place, place, place, place
    return micro.address(factory, key, arguments)


@lru_cache(maxsize=64)
def sums(kind: Kind) -> Any:
    """A stage: sums over taps, as `tap_rows`, `run_rows` or `line_rows` makes them."""
    make_rows = {"": tap_rows, "along": line_rows}.get(kind.layout, run_rows)(kind)

    @jit(key=tuple(kind))
    def sum_up(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        make_rows(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count)

    return sum_up


@lru_cache(maxsize=32)
def begun(source: str, computed: str) -> Any:
    """A stage that begins running sums: of the first rows of a chunk but the last of a window, tile by tile."""
    read, write, number = vector_reader(source, computed), vector_writer(computed, computed), reader(computed)
    lanes, size, wide = simd.lanes(computed), np.dtype(source).itemsize, np.dtype(computed).itemsize
    nothing, step = np.dtype(computed).type(0), STRIP * lanes

    @jit(key=(source, computed))
    def begin(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        outside, zero = simd.splat(number(weights, (first + OUTSIDE) * SLOT)), simd.splat(nothing)
        for tile in range(0, count, step):
            for i in range(0, step, lanes):
                place, total = base + (min(tile, count - step) + i) * size, zero
                for r in range(taps - 1):
                    start, value = at(starts, row + r), outside
                    if start >= 0:
                        value = read(source, place + start)
                    total = total + value
                write(target, to + (tile + i) * wide, total, zero, zero)

    return begin


@lru_cache(maxsize=32)
def running(source: str, computed: str, target: str, scaled: str) -> Any:
    """A stage: sums over `taps` rows, each from the one above it; none of them may be rounded.

    `scaled` is as of `vector_writer`. The first number of `table` is where those sums lie in scratch that `begun` has
    made, or the band before has left. Rows are read in strips, which no processor foresees: those that the next band
    adds are fetched. (3x3 of 1080x1920 uint8 that is not in cache, AMD EPYC 9005: 0.25 ms, without this 0.36.)
    """
    read, write = vector_reader(source, computed), vector_writer(computed, target, scaled)
    number, lanes = reader(computed), simd.lanes(computed)
    load, keep = vector_reader(computed, computed), vector_writer(computed, computed)
    size, wide, whole = (np.dtype(name).itemsize for name in (source, target, computed))
    step = STRIP * lanes
    one, two, three = (k * lanes * size for k in (1, 2, 3))
    second, third, fourth = (k * lanes * wide for k in (1, 2, 3))

    @jit(key=(source, computed, target, scaled))
    def sum_up(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        head, sums = first * SLOT, at(table, 2 * first)
        factor, shift = simd.splat(number(weights, head)), simd.splat(number(weights, head + SHIFT * SLOT))
        outside = simd.splat(number(weights, head + OUTSIDE * SLOT))
        for tile in range(0, count, step):
            i, place = min(tile, count - step), sums + tile * whole
            begin = base + i * size
            a, b = load(target, place), load(target, place + lanes * whole)
            c, d = load(target, place + 2 * lanes * whole), load(target, place + 3 * lanes * whole)
            for r in range(rows):
                ahead = begin + at(starts, row + r + rows + taps - 1)  # a row of the next band
                for k in range(0, step * size, 64):
                    simd.fetch(source, ahead + k)
                start = at(starts, row + r + taps - 1)
                e = f = g = h = outside
                if start >= 0:
                    e, f = read(source, begin + start), read(source, begin + start + one)
                    g, h = read(source, begin + start + two), read(source, begin + start + three)
                a, b, c, d = a + e, b + f, c + g, d + h
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
            keep(target, place, a, factor, shift)
            keep(target, place + lanes * whole, b, factor, shift)
            keep(target, place + 2 * lanes * whole, c, factor, shift)
            keep(target, place + 3 * lanes * whole, d, factor, shift)

    return sum_up


@lru_cache(maxsize=8)
def blocks(source: str, computed: str) -> Any:
    """A stage: sums over `taps` rows, times the factor, of as many rows at most, as `running_sums` makes them of bands.

    The first number of `table` is where there is room in scratch for the sums of a strip.
    """
    read, write = vector_reader(source, computed), vector_writer(computed, computed)
    number, load, lanes = reader(computed), vector_reader(computed, computed), simd.lanes(computed)
    size, wide = np.dtype(source).itemsize, np.dtype(computed).itemsize
    step, two, three, nothing = STRIP * lanes, 2 * lanes, 3 * lanes, np.dtype(computed).type(0)

    @jit(key=(source, computed))
    def sum_up(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        head, zero, room = first * SLOT, simd.splat(nothing), at(table, 2 * first)
        scale, outside = simd.splat(number(weights, head)), simd.splat(number(weights, head + OUTSIDE * SLOT))
        for tile in range(0, count, step):
            i = min(tile, count - step)
            begin, goal = base + i * size, to + i * wide
            a = b = c = d = zero
            for done in range(0, taps, PART):
                e = f = g = h = zero
                for above in range(done, min(done + PART, taps)):
                    start, place = at(starts, row + taps - 1 - above), room + (taps - 1 - above) * step * wide
                    p = q = r = s = outside
                    if start >= 0:
                        p, q = read(source, begin + start), read(source, begin + start + lanes * size)
                        r, s = read(source, begin + start + two * size), read(source, begin + start + three * size)
                        for line in range(step * size, 2 * step * size, 64):  # of the next strip
                            simd.fetch(source, begin + start + line)
                    e, f = simd.fma(p, scale, e), simd.fma(q, scale, f)
                    g, h = simd.fma(r, scale, g), simd.fma(s, scale, h)
                    write(target, place, a + e, zero, zero)
                    write(target, place + lanes * wide, b + f, zero, zero)
                    write(target, place + two * wide, c + g, zero, zero)
                    write(target, place + three * wide, d + h, zero, zero)
                a, b, c, d = a + e, b + f, c + g, d + h
            write(target, goal, a, zero, zero)
            write(target, goal + lanes * wide, b, zero, zero)
            write(target, goal + two * wide, c, zero, zero)
            write(target, goal + three * wide, d, zero, zero)
            a = b = c = d = zero
            for done in range(1, rows, PART):
                e = f = g = h = zero
                for j in range(done, min(done + PART, rows)):
                    start, place, here = at(starts, row + taps - 1 + j), room + j * step * wide, goal + j * pitch
                    p = q = r = s = outside
                    if start >= 0:
                        p, q = read(source, begin + start), read(source, begin + start + lanes * size)
                        r, s = read(source, begin + start + two * size), read(source, begin + start + three * size)
                        for line in range(step * size, 2 * step * size, 64):
                            simd.fetch(source, begin + start + line)
                    e, f = simd.fma(p, scale, e), simd.fma(q, scale, f)
                    g, h = simd.fma(r, scale, g), simd.fma(s, scale, h)
                    write(target, here, load(target, place) + (a + e), zero, zero)
                    write(target, here + lanes * wide, load(target, place + lanes * wide) + (b + f), zero, zero)
                    write(target, here + two * wide, load(target, place + two * wide) + (c + g), zero, zero)
                    write(target, here + three * wide, load(target, place + three * wide) + (d + h), zero, zero)
                a, b, c, d = a + e, b + f, c + g, d + h

    return sum_up


@lru_cache(maxsize=16)
def prefixes(source: str, computed: str, step: int) -> Any:
    """A stage: the sums of each element and all those that stand a multiple of some steps in front of it in its row.

    They may wrap around: a difference of two, a window's sum, does not. What stands in front of a row are zeros.
    """
    read, write = vector_reader(source, computed), vector_writer(computed, computed)
    add_up, last = prefix_sums(step), last_of_each(step)
    lanes, size, wide = simd.lanes(computed), np.dtype(source).itemsize, np.dtype(computed).itemsize
    nothing, whole = np.dtype(computed).type(0), lanes // step * step

    @jit(key=(source, computed, step))
    def all_sums(source, base, starts, row, table, weights, first, taps, target, to, pitch, rows, count):
        zero = simd.splat(nothing)
        for r in range(rows):
            begin, goal, carried = base + at(starts, row + r), to + r * pitch, zero
            write(target, goal - lanes * wide, zero, zero, zero)
            for i in range(0, count, whole):
                sums = add_up(read(source, begin + i * size))
                write(target, goal + i * wide, sums + carried, zero, zero)
                carried = carried + last(sums)

    return all_sums


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
        for t in range(first + HEAD, first + HEAD + taps):
            there, here = at(table, 2 * t), to + at(table, 2 * t + 1)
            for r in range(rows):
                start = at(starts, row + r)
                for q in range(count):
                    value = outside
                    if start >= 0 and there >= 0:
                        value = read(source, base + start + there + q * size)
                    write(target, here + q * size, value)
                here += pitch

    return copy


# -- the kernel ----------------------------------------------------------------------------------------------

#: Planes, chunks of a plane, rows of a chunk, of a band and of a plane; of image and result the first byte, and bytes
#: from one plane to the next; bytes from one row of the result to the next.
PLANES, CHUNKS, CHUNK, BAND, HEIGHT, BEGIN, STEP, BEGIN_OUT, STEP_OUT, PITCH_OUT = range(10)


@kernel
def sweep(x, out, starts, table, weights, stages, sizes, scratches):
    """Make all stages of each band, a chunk of bands downwards; everything but tables of numbers is bytes."""
    planes, chunks, chunk = at(sizes, PLANES), at(sizes, CHUNKS), at(sizes, CHUNK)
    band, height = at(sizes, BAND), at(sizes, HEIGHT)
    for task in prange(planes * chunks):
        plane, top = task // chunks, task % chunks * chunk
        bottom, scratch = min(top + chunk, height), scratches[numba.get_thread_id()]
        begin = at(sizes, BEGIN) + plane * at(sizes, STEP)
        for row0 in range(top, bottom, band):
            rows = min(band, bottom - row0)
            goal = at(sizes, BEGIN_OUT) + plane * at(sizes, STEP_OUT) + row0 * at(sizes, PITCH_OUT)
            for number in range(0, stages.size, FIELDS):
                if at(stages, number + 11) != 0 and row0 != top:
                    continue
                stage, row, base = at(stages, number), at(stages, number + 2), at(stages, number + 3)
                to, pitch, first = at(stages, number + 5), at(stages, number + 6), at(stages, number + 7)
                taps, count, high = at(stages, number + 8), at(stages, number + 9), rows + at(stages, number + 10)
                if at(stages, number + 11) != 0:
                    high += bottom - top - rows
                if at(stages, number + 12) != 0:
                    row += row0 - top
                if at(stages, number + 1) != 0:
                    base, row = begin + base, row + row0
                    if at(stages, number + 4) != 0:
                        micro.call(stage, x, base, starts, row, table, weights, first, taps, out, goal + to, pitch,
                                   high, count)  # fmt: skip
                    else:
                        micro.call(stage, x, base, starts, row, table, weights, first, taps, scratch, to, pitch,
                                   high, count)  # fmt: skip
                elif at(stages, number + 4) != 0:
                    micro.call(stage, scratch, base, starts, row, table, weights, first, taps, out, goal + to, pitch,
                               high, count)  # fmt: skip
                else:
                    micro.call(stage, scratch, base, starts, row, table, weights, first, taps, scratch, to, pitch,
                               high, count)  # fmt: skip
