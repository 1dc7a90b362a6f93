"""Filters by large windows, by fast Fourier transforms in float64: of whole numbers exactly what sums in SciPy's order
give, of float32 as near as those.

::

    sum[i, j] = sum over a, b of weight[a, b] * band[i + a, j + b]           by `conv_fft2d`, in float64
    out[i, j] = the sum, as the image's dtype has it; where an error may show, it is first made again, by sums

A transform's error is at most `GROWTH` roundings for each of its steps, of the largest number times the root of how
many there are: of 16 bits a millionth. An integer's fraction is cut off, so sums near a whole number are made again, in
SciPy's order. Hardly one is, but where an image is even: all sums of zeros are near a whole number, and are made a
vector at a time.

A float32 may be off by a unit in the last place of its window's sum of |weight * pixel|, which is no smaller than the
sum: so sums are made again that are small beside the transform's error, as of dark windows near bright pixels, and all
where that is not finite.

What it changes over `filters.Sweep`: a window of 31x31 takes 961 multiply-adds a pixel there, and here some 60 vector
instructions for 8 pixels, whatever its size. Bands are as high as the best transform is, and as wide as the image.

AMD EPYC 9005, one core: uint16, 512x512 by 31x31 in 0.56 ms (by sums 5.4, OpenCV 3.2), by 15x15 in 0.50 (1.3, 3.2).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange

from ..specs.arrays import check_memory
from ..specs.conv import ConvSpec, conv_spec
from ..specs.filters import DOUBLE, SINGLE, Problem, magnitude
from .algorithms import conv_fft2d
from .shared import bands, layout, passes
from .shared.layout import Line
from .system import micro
from .system.kernels import jit, kernel
from .system.memory import buffer
from .system.plain import PLAIN
from .tiles import simd
from .tiles.elements import at, near_whole, near_zero, put
from .tiles.tap_tile import WIDTH, tap_tile

#: Roundings of a halving step, of all three transforms together, relative to the root of the sum of squares: 7 each
#: (Higham, Accuracy and Stability of Numerical Algorithms, theorem 24.2), and some of the product.
GROWTH = 24
#: The largest distance from a whole number within which sums are made again: twice as large a share of random ones.
MOST_MARGIN = 2.0**-7
#: Most bytes of a band: what stays in a third-level cache beside the transforms.
BAND_BYTES = 4 << 20
#: The transform's largest error in units of the one that all errors of a block together allow, if they spread evenly,
#: as they do: theirs are the roundings of all numbers. (Of images with one bright pixel and of noise they are 100 times
#: smaller.) And the share of a float32's last place that an error may have.
PEAK, MOST_SHARE = 5.0, 2.0**-2
#: Vector instructions of a sum's multiply-add in float64, and in float32; of `run_tile`'s; of a pixel that is loaded
#: and stored; and of a call. (AMD EPYC 9005, one core, windows of 5x5 to 31x31, 64x64 to 1080x1920, one channel or
#: three: both take as long at 1.1 to 2.5, and at 0.65 to 1.3.)
PRODUCT, HALF_PRODUCT, RUN_PRODUCT, PIXEL, CALL = 1.5, 0.85, 0.45, 3.0, 1e5


def transformed(problem: Problem) -> Transformed | None:
    """The filter of a problem that transforms make in less time; None if there is none."""
    if PLAIN or len(problem.passes) != 1 or problem.periods:
        return None  # the transforms are machine code
    one = problem.passes[0]
    floats = one.order == "window" and problem.dtype == problem.out_dtype == problem.computed == SINGLE
    if not (floats or one.order == "checked listed window"):
        return None
    leads, rows, columns, inner = layout.arranged(problem)
    if set(one.axes) != {rows.axis, columns.axis} or any(line.axis >= 0 for line in leads):
        return None
    window = one.array() if one.axes == (rows.axis, columns.axis) else one.array().T
    window = np.where(np.abs(window) > np.finfo(np.float64).eps, window, 0.0)
    found = _best(rows, columns, inner.size, math.prod(line.size for line in leads), window)
    if found is None:
        return None
    spec, work = found
    product = PRODUCT if problem.computed == DOUBLE else RUN_PRODUCT if floats else HALF_PRODUCT
    if work > math.prod(problem.shape) / simd.lanes(DOUBLE) * product * np.count_nonzero(window):
        return None
    size = math.prod(conv_fft2d.block(spec))
    growth = GROWTH * 2.0**-53 * math.log2(size) * float(np.abs(window).sum())
    if floats:  # of an image whose energy is one
        margin = PEAK * growth / math.sqrt(2 * size) / (MOST_SHARE * 2.0**-23)
        return Transformed(problem, spec, window, margin) if math.isfinite(margin) else None
    largest = max(magnitude(problem.dtype), abs(problem.cval))
    margin = one.margin(DOUBLE) + growth * math.sqrt(2 * size) * largest
    return Transformed(problem, spec, window, margin) if margin <= MOST_MARGIN else None


def _best(
    rows: Line, columns: Line, inner: int, planes: int, window: np.ndarray
) -> tuple[ConvSpec, float] | None:  # fmt: skip
    """The convolution of a band that takes the fewest vector instructions for all of them, and how many."""
    tile = WIDTH * simd.lanes(DOUBLE)
    wide, across = -(-columns.size * inner // tile) * tile, (columns.taps - 1) * inner + 1
    if max(rows.taps, across) > conv_fft2d.SIZES[-1] // 2:
        return None
    best, least = None, math.inf
    for band in sorted({min(rows.size, size - rows.taps + 1) for size in conv_fft2d.SIZES if size >= rows.taps}):
        shape = 1, 1, band + rows.taps - 1, wide + across - 1
        if band > 1 and math.prod(shape) * DOUBLE.itemsize > BAND_BYTES:
            break
        spec = conv_spec(shape, (1, 1, rows.taps, across), (DOUBLE, DOUBLE))
        if conv_fft2d.supports(spec) is None:
            work = conv_fft2d.instructions(spec) + PIXEL * band * wide
            work *= planes * -(-rows.size // band)
            if work < least:
                best, least = spec, work
    return None if best is None else (best, least + CALL)


class Transformed:
    """All that a call needs beside its arrays."""

    __slots__ = ("_arguments", "_bias", "_leads", "_packed", "_spec", "problem")

    def __init__(self, problem: Problem, spec: ConvSpec, window: np.ndarray, margin: float) -> None:
        self.problem, self._spec = problem, spec
        leads, rows, columns, inner = layout.arranged(problem)
        # Channels lie between columns: to the transform a row is one of all of them, and taps are as far apart.
        spread = np.zeros((rows.taps, spec.kw))
        spread[:, :: inner.size] = window
        check_memory(2 * math.prod(spec.x_shape) * DOUBLE.itemsize, "scratch for transforms")
        self._packed, self._bias = conv_fft2d.prepare(spec, spread[None, None]), np.zeros(1)
        self._leads = leads
        numbers = [0] * bands.AXES
        numbers[bands.PITCH], numbers[bands.INNER] = spec.w, inner.size
        numbers[bands.COLUMNS], numbers[bands.COLUMN_TAPS] = columns.size, columns.taps
        numbers[bands.COLUMN_BEFORE], numbers[bands.COLUMN_STEP] = columns.before, columns.step
        numbers[bands.COLUMN_OUT] = columns.out
        numbers[bands.INNER_STEP] = inner.step or problem.dtype.itemsize
        numbers[bands.INNER_OUT] = inner.out or problem.out_dtype.itemsize
        table = rows.table if rows.axis >= 0 else np.arange(rows.size)
        places = np.argwhere(window).tolist()
        offsets = [a * spec.w + b * inner.size for a, b in places]
        self._arguments = (
            columns.table if columns.axis >= 0 else np.arange(columns.size),
            table,
            np.array(numbers, np.int64),
            bands.loader(problem.dtype, DOUBLE),
            passes.address(_again, ("listed", problem.dtype.kind != "f"), DOUBLE),  # as SciPy adds up windows
            bands.storer(DOUBLE, problem.out_dtype),
            np.repeat(np.array([0, *offsets]), 2),
            np.array([margin, *window[window != 0]]),
            len(offsets),
            problem.cval,
            (rows.step, rows.out),
        )

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """Filter; both arrays have the layout that the problem says."""
        problem, spec = self.problem, self._spec
        seen, made = spec.h * spec.w, spec.oh * spec.ow
        # A vector beyond each end: some are read past a row.
        memory = buffer("transformed", (seen + made + 2 * simd.lanes(DOUBLE),), DOUBLE)
        band, sums = memory[:seen].reshape(spec.x_shape), memory[seen : seen + made].reshape(1, 1, spec.oh, spec.ow)
        source, target = layout.bytes_of(x), layout.bytes_of(out)
        begin = [layout.first_byte(problem.shape, one) for one in (problem.strides, problem.out_strides)]
        tables, places, geometry, load, again, store, offsets, weights, taps, outside, steps = self._arguments
        share = weights[0]  # of the margin, in an image whose energy is one
        rows = places.size - spec.kh + 1
        floats, lanes = problem.dtype.kind == "f", simd.lanes(DOUBLE)
        energies = buffer("energies", (spec.h * lanes if floats else 0,), DOUBLE)
        for place in np.ndindex(*(line.size for line in self._leads)):
            first, goal = begin
            for number, line in zip(place, self._leads, strict=True):
                first, goal = first + number * line.step, goal + number * line.out
            for turn in range(0, rows, spec.oh):
                top = min(turn, rows - spec.oh)  # what two bands have is the same
                _load.sized(8.0 * seen)(
                    load, source, first, steps[0], places, top, tables, geometry, outside, band.reshape(-1), energies,
                    lanes,
                )  # fmt: skip
                if floats:
                    norm = math.sqrt(energies.sum())
                    weights = weights.copy()
                    weights[0] = share * norm if norm else -1.0  # of zeros nothing is to be made again
                conv_fft2d.transformed(spec, band, self._packed, self._bias, sums)
                _settle.sized(8.0 * made)(
                    again, store, memory, seen, spec.oh, spec.ow, offsets, weights, taps, geometry, target,
                    goal + top * steps[1], steps[1],
                )  # fmt: skip


@kernel
def _load(load, x, first, step, places, top, tables, geometry, outside, band, energies, lanes):
    """Fill a band with rows of an image, extended beyond the rims, and with zeros behind each; add up each row's
    squares, where there is room for such sums."""
    pitch, inner = at(geometry, bands.PITCH), at(geometry, bands.INNER)
    count = at(geometry, bands.COLUMNS) + at(geometry, bands.COLUMN_TAPS) - 1
    for r in prange(band.size // pitch):
        row = at(places, top + r)
        begin = first + row * step if row >= 0 else -1
        micro.call(load, x, begin, tables, geometry, 0, count, outside, band, r * pitch, 0)
        for i in range(count * inner, pitch):
            put(band, r * pitch + i, 0.0)
        if energies.size:
            total = simd.splat(0.0)
            for i in range(0, pitch, lanes):
                value = simd.load(band, r * pitch + min(i, pitch - lanes))
                total = simd.fma(value, value, total)
            simd.store(energies, r * lanes, total)


@lru_cache(maxsize=2)
def _again(order: str, whole: bool) -> Any:
    """A pass over a row of sums: those near a `whole` number, or near zero, are made again, tile by tile, in an order
    of `tap_tile`.

    The margin stands before the first weight.
    """
    tile, lanes, near = tap_tile(order), simd.lanes(DOUBLE), near_whole if whole else near_zero
    step = WIDTH * lanes

    @jit(key=(order, whole))
    def again(band, place, offsets, weights, first, taps, to, count):
        margin = at(weights, first - 1)
        for i in range(0, count, step):
            some = False
            for j in range(i, min(i + step, count), lanes):
                some = some or near(simd.load(band, to + j), margin)
            if some:
                tile(band, place + i, offsets, weights, first, taps, band, to + i)

    return again


@kernel
def _settle(again, store, memory, place, rows, pitch, offsets, weights, taps, geometry, out, goal, step):
    """Make again the sums that may be off, and store all."""
    seen, columns, inner = at(geometry, bands.PITCH), at(geometry, bands.COLUMNS), at(geometry, bands.INNER)
    for r in prange(rows):
        sums = place + r * pitch
        micro.call(again, memory, r * seen, offsets, weights, 1, taps, sums, columns * inner)
        micro.call(store, memory, sums, geometry, columns, out, goal + r * step)
