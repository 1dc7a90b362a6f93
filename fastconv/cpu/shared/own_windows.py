"""Outputs that a transform would spoil are found, and made again by sums.

A transform rounds all outputs of a tile, a row or a block by what is largest there, whether they see it or not: beside
a fill value of 1e20 nothing would be left of an output that sees numbers of 1. The algorithms that transform promise an
error that belongs to an output's own window, as sums do::

    |error of out[n, o, i, j]| <= ROUNDINGS * eps * largest |weight[o]| * sum of |x| over its pixels and channels

(of a window that hangs over the edge by more than half, over as many of the nearest pixels as half a window has).

First, while a task has its input at hand, the energies there are looked at: sums of squares over the channels of a
pixel or, where there are few channels, of a cell of pixels that every window has one of. Where they differ by no more
than `RANGE`, as of nearly all images, and none is zero, as squares of less than 1e-22 are, that is all. Otherwise
`finish` makes each window's sum of |x|: outputs whose sum is small beside what the largest pixels would make are made
again. If there are many, or something is not finite or so large that a transform may overflow, that is the whole image.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..system.kernels import jit, kernel
from ..system.memory import scratch_rows
from ..tiles import across_lanes, simd
from . import row_filter

#: The most roundings of its own window's sum that an output may be wrong by. Seen are a hundredth of it (`tests/fuzz`).
ROUNDINGS = 2**15
#: Energies may differ by this factor, so numbers by 2**8, of which the 24 bits of float32 leave 16.
RANGE = 2.0**16
#: Outputs are made again whose window's sum of |x| is less than this share of what it were, were all pixels as large as
#: the largest: a little less than `RANGE` lets pass.
LEAST_SHARE = 2.0**-10
#: At most this share of an image's outputs is made one by one: each takes some ten times as long as in a row.
FEW = 1 / 32
#: The largest energy, and numbers, of which no transform overflows in float32, beside weights as large. (Those of
#: float64 may be larger, but hardly ever are.)
LARGEST_ENERGY, LARGEST = 1e28, 1e14
#: 8 columns of a cell are enough for dark pixels to be no rarity.
MOST_DOUBLINGS = 3


class Cell(NamedTuple):
    """Pixels whose energies are added up: `high` rows of 2 ** `doublings` columns."""

    high: int
    doublings: int
    """At most so many that a vector has one."""


@lru_cache(maxsize=1024)
def cell_of(spec: ConvSpec) -> Cell:
    """The largest cell that every window has one of, but for windows that hang over the edge by more than half.

    Rows of cells begin and end with the image: what is left of a window at its edge has a cell as high, if at least a
    half is left. Columns of cells begin anywhere.
    """
    if max(spec.dilation) > 1:
        return Cell(1, 0)
    seen, wide = _least_seen(spec)
    high = min(seen, (spec.kh + 1) // 2) if max(spec.padding[0]) <= spec.kh // 2 else (seen + 1) // 2
    doublings = ((wide + 1) // 2).bit_length() - 1
    return Cell(high, min(doublings, MOST_DOUBLINGS, simd.lanes(spec.acc_dtype).bit_length() - 1))


def _least_seen(spec: ConvSpec) -> tuple[int, int]:
    """The fewest rows and columns of the image that a window sees, or half of its own."""
    axes = zip((spec.kh, spec.kw), spec.padding, (spec.h, spec.w), strict=True)
    down, across = (min(max(taps - max(sides), (taps + 1) // 2), size) for taps, sides, size in axes)
    return down, across


# -- looking -------------------------------------------------------------------------------------------------


def room(shape: tuple[int, int], cell: Cell, lanes: int) -> int:
    """Elements of memory for the energies of a rectangle of up to that shape."""
    return -(-shape[0] // cell.high) * (shape[1] + lanes)


@jit
def add_energies(data, origin, pitch, shape, high, memory, start, lanes, first):
    """Add up the energies of a rectangle of one channel, of bands of `high` rows, in `memory` from `start` on; the
    `first` channel's are written over what was there.

    The rectangle begins at `origin`, its rows are `pitch` apart. `memory` has `room`; its rows are whole vectors.
    """
    flat, (height, count) = simd.flat(data), shape
    rows, to = min(high, height), start
    for top in range(0, height, high):
        begin = origin + min(top, height - rows) * pitch
        for i in range(0, count, 2 * lanes):
            one, other = _energies(flat, begin + i, pitch, rows, count - i, lanes)
            simd.store(memory, to + i, one if first else one + simd.load(memory, to + i))
            if count - i > lanes:
                at = to + i + lanes
                simd.store(memory, at, other if first else other + simd.load(memory, at))
        to += (count + lanes - 1) // lanes * lanes


@jit
def _energies(flat, at, pitch, rows, valid, lanes):
    """The energies of two vectors of columns, of which `valid` are read."""
    zero = simd.splat(flat.dtype.type(0))
    energies, others = zero, zero
    if valid >= 2 * lanes:
        for _ in range(rows):
            one, other = simd.load(flat, at), simd.load(flat, at + lanes)
            energies, others = simd.fma(one, one, energies), simd.fma(other, other, others)
            at += pitch
    else:
        for _ in range(rows):
            one, other = simd.load_part(flat, at, valid), simd.load_part(flat, at + lanes, valid - lanes)
            energies, others = simd.fma(one, one, energies), simd.fma(other, other, others)
            at += pitch
    return energies, others


@jit
def none_seen(data):
    """The extremes of no energies: the lowest ones, and the largest ones."""
    return simd.splat(data.dtype.type(np.inf)), simd.splat(data.dtype.type(0))


@jit
def _seen_with(extremes, energies, valid, doublings):
    """The extremes of those seen and of the energies of a vector's first `valid` columns, where these fill a cell."""
    lowest, largest = extremes
    total = across_lanes.group_sums(energies, doublings)
    lower = across_lanes.or_infinite(total, valid >> doublings << doublings)
    return simd.smaller(lower, lowest), simd.larger(total, largest)


@jit
def seen_copied(extremes, data, origin, pitch, shape, cell, memory, start, stride, lanes):
    """The extremes of those seen and of a rectangle's cells; of one channel, which is copied meanwhile.

    It begins at `origin` in `data`; in `memory` it begins at `start`, its rows are `stride` apart, and zeros make them
    whole vectors. A look at what was copied would take 2 to 4% of a transform's time: it comes from the second-level
    cache. Two vectors of a row at a time are copied sooner than one.
    """
    (height, count), flat, zero = shape, simd.flat(data), simd.splat(data.dtype.type(0))
    rows, pairs = min(cell.high, height), count // (2 * lanes) * (2 * lanes)
    for top in range(0, height, cell.high):
        row = min(top, height - rows)
        for i in range(0, pairs, 2 * lanes):
            at, to, energies, others = origin + row * pitch + i, start + row * stride + i, zero, zero
            for _ in range(rows):
                one, other = simd.load(flat, at), simd.load(flat, at + lanes)
                simd.store(memory, to, one)
                simd.store(memory, to + lanes, other)
                energies, others = simd.fma(one, one, energies), simd.fma(other, other, others)
                at, to = at + pitch, to + stride
            extremes = _seen_with(extremes, energies, lanes, cell.doublings)
            extremes = _seen_with(extremes, others, lanes, cell.doublings)
        for i in range(pairs, count, lanes):
            at, to, energies, valid = origin + row * pitch + i, start + row * stride + i, zero, min(lanes, count - i)
            for _ in range(rows):
                one = simd.load_part(flat, at, valid)
                simd.store(memory, to, one)
                energies = simd.fma(one, one, energies)
                at, to = at + pitch, to + stride
            extremes = _seen_with(extremes, energies, valid, cell.doublings)
    return extremes


@jit
def channel_is_even(data, origin, pitch, shape, cell, lanes):
    """Whether the energies of a rectangle's cells differ by no more than `RANGE`; of one channel."""
    (height, count), flat, extremes = shape, simd.flat(data), none_seen(data)
    rows = min(cell.high, height)
    for top in range(0, height, cell.high):
        begin = origin + min(top, height - rows) * pitch
        for i in range(0, count, 2 * lanes):
            one, other = _energies(flat, begin + i, pitch, rows, count - i, lanes)
            extremes = _seen_with(extremes, one, min(lanes, count - i), cell.doublings)
            if count - i > lanes:
                extremes = _seen_with(extremes, other, min(lanes, count - i - lanes), cell.doublings)
    return are_close(extremes)


@jit
def are_even(memory, start, shape, cell, lanes):
    """Whether the energies of a rectangle's cells, as `add_energies` leaves them, differ by no more than `RANGE`."""
    (height, count), extremes = shape, none_seen(memory)
    line = (count + lanes - 1) // lanes * lanes
    for at in range(start, start + (height + cell.high - 1) // cell.high * line, line):
        for i in range(0, count, lanes):
            extremes = _seen_with(extremes, simd.load(memory, at + i), min(lanes, count - i), cell.doublings)
    return are_close(extremes)


@jit
def pixels_are_even(energies, pitch, corner, shape, size, lanes):
    """Whether the energies of a rectangle's pixels inside an image of that size differ by no more than `RANGE`.

    The rectangle of a shape has its corner there; its energies lie in rows `pitch` apart.
    """
    first, last = min(max(0, -corner[1]), shape[1]), min(shape[1], size[1] - corner[1])
    lowest, largest = none_seen(energies)
    narrow = last - first < lanes
    for i in range(max(0, -corner[0]), min(shape[0], size[0] - corner[0])):
        line = i * pitch
        if narrow:  # a vector is filled up
            for k in range(last, first + lanes):
                energies[line + k] = energies[line + first]
        for j in range(first, last, lanes):
            value = simd.load(energies, line + (j if narrow else min(j, last - lanes)))
            lowest, largest = simd.smaller(value, lowest), simd.larger(value, largest)
    return are_close((lowest, largest))


@jit
def are_close(extremes):
    """Whether the energies seen are finite, none is zero, and they differ by no more than `RANGE`."""
    lowest, largest = extremes
    least, most = across_lanes.smallest(lowest), across_lanes.largest(largest)
    return least > 0 and least * RANGE >= most and most <= LARGEST_ENERGY


@jit
def are_tame(squares, at, lanes):
    """Whether sums of squares, in a vector, are finite, and none of numbers so large that a transform may overflow."""
    tame = True
    for lane in range(at, at + lanes):
        tame = tame and squares[lane] <= squares.dtype.type(LARGEST_ENERGY)
    return tame


@kernel
def _look(x, uneven, groups, cell, memory, lanes):
    n, channels, h, w = x.shape
    depth = channels // groups
    for job in prange(n * groups):
        mine = memory[numba.get_thread_id()]
        if depth == 1:
            even = channel_is_even(x, job * h * w, w, (h, w), cell, lanes)
        else:
            for c in range(job * depth, (job + 1) * depth):
                add_energies(x, c * h * w, w, (h, w), cell.high, mine, 0, lanes, c == job * depth)
            even = are_even(mine, 0, (h, w), cell, lanes)
        if not even:
            uneven[job // groups] = True


def look(spec: ConvSpec, x: np.ndarray, uneven: np.ndarray) -> None:
    """Say of whole images whether they are uneven."""
    lanes = simd.lanes(x.dtype)
    cell = cell_of(spec)
    memory = scratch_rows(room((spec.h, spec.w), cell, lanes), x.dtype)
    _look.sized(x.size)(x, uneven, spec.groups, cell, memory, lanes)


def are_wild(weight: np.ndarray) -> bool:
    """Whether weights are not finite, or so large that a transform may overflow."""
    return not np.abs(weight).max() <= LARGEST


# -- mending -------------------------------------------------------------------------------------------------


def marks(spec: ConvSpec, wild: bool) -> np.ndarray:
    """Of each image whether it is uneven; before a look, whether weights are wild."""
    return (np.ones if wild else np.zeros)(spec.n, np.bool_)  # in a third of the time of `np.full`


def finish(
    spec: ConvSpec, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, out: np.ndarray, uneven: np.ndarray
) -> None:
    """Make again what a transform has spoiled: of uneven images, and of windows that lie in the padding."""
    if any(uneven.tolist()):  # sooner than NumPy's
        _mend(spec, x, weight, bias, out, uneven)
    if (blind := _blind(spec)) is not None and np.isfinite(weight).all():  # zeros times infinities are NaN
        rows, columns = blind
        values = np.maximum(bias, spec.floor)[:, None, None]
        out[:, :, rows] = values
        out[:, :, :, columns] = values


@lru_cache(maxsize=1024)
def _blind(spec: ConvSpec) -> tuple[np.ndarray, np.ndarray] | None:
    """The rows and columns of the output whose windows see nothing of the input; None if there are none."""
    axes = zip((spec.h, spec.w), (spec.oh, spec.ow), (spec.kh, spec.kw), spec.stride, spec.padding, spec.dilation,
               strict=True)  # fmt: skip
    found = []
    for size, outs, taps, stride, (before, after), gap in axes:
        if max(before, after) < gap * (taps - 1) + 1 and gap <= size:
            found.append(np.empty(0, np.int64))
            continue
        start = np.arange(outs) * stride - before
        first = np.maximum(0, -(start // gap))  # the first tap that is not before the input
        found.append(np.flatnonzero((first >= taps) | (start + first * gap >= size)))
    return (found[0], found[1]) if any(map(len, found)) else None


def _mend(
    spec: ConvSpec, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, out: np.ndarray, uneven: np.ndarray
) -> None:
    """Make again what a transform has spoiled of uneven images."""
    one, wild = spec.of_images(1), are_wild(weight)
    for n in np.flatnonzero(uneven):
        image, result = x[n : n + 1], out[n : n + 1]
        if wild or (image.any() and not _mend_some(one, image[0], weight, bias, result[0])):
            row_filter.run(one, image, row_filter.prepare(one, weight), bias, result)


@np.errstate(over="ignore", invalid="ignore")
def _mend_some(spec: ConvSpec, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> bool:
    """Make the spoiled outputs of an image again; False, and nothing, if that takes longer than to make all.

    Its numbers are not all zeros, and weights are not wild.
    """
    magnitudes = np.abs(x).reshape(spec.groups, -1, spec.h, spec.w).sum(1)
    most = magnitudes.max()
    if not most <= LARGEST:
        return False
    spoiled = _window_sums(spec, magnitudes) < LEAST_SHARE * spec.kh * spec.kw * most
    if np.count_nonzero(spoiled) > FEW * spoiled.size:
        return False
    outs, depth = spec.c_out // spec.groups, spec.c_in // spec.groups
    tap_rows, tap_columns = np.arange(spec.kh) * spec.dilation[0], np.arange(spec.kw) * spec.dilation[1]
    for group, i, j in zip(*map(np.ndarray.tolist, np.nonzero(spoiled)), strict=True):
        rows = i * spec.stride[0] - spec.padding[0][0] + tap_rows
        columns = j * spec.stride[1] - spec.padding[1][0] + tap_columns
        down, across = (rows >= 0) & (rows < spec.h), (columns >= 0) & (columns < spec.w)
        seen = x[group * depth : (group + 1) * depth][:, rows[down]][:, :, columns[across]]
        kernels = weight[group * outs : (group + 1) * outs][:, :, down][:, :, :, across]
        sums = kernels.reshape(outs, -1) @ seen.reshape(-1)
        channels = slice(group * outs, (group + 1) * outs)
        out[channels, i, j] = np.maximum(sums + bias[channels], spec.floor)
    return True


def _window_sums(spec: ConvSpec, magnitudes: np.ndarray) -> np.ndarray:
    """The sum of each window of images of one channel each: down, then across."""
    plain = replace(spec, n=len(magnitudes), c_in=1, c_out=1, groups=1, activation=None)
    down = replace(plain, kw=1, stride=(spec.stride[0], 1), padding=(spec.padding[0], (0, 0)), ow=spec.w)
    across = replace(plain, h=spec.oh, kh=1, stride=(1, spec.stride[1]), padding=((0, 0), spec.padding[1]))
    sums = magnitudes[:, None]
    for one in (down, across):
        ones, result = np.ones(one.kernel_shapes[1], sums.dtype), np.empty(one.kernel_shapes[2], sums.dtype)
        row_filter.run(one, sums, row_filter.prepare(one, ones), np.zeros(1, sums.dtype), result)
        sums = result
    return sums[:, 0]
