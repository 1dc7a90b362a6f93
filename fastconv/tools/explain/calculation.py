"""The numbers behind an explanation: which elements of the input each output is made of, and what they add to it.

Where a window lies follows from the call's spec, and what the operation's own function returns is the output; only the
products between both are made here, in the dtype that the kernels add up in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ...specs.arguments import Pair, Sizes, window_size
from ...specs.conv import ConvSpec
from ...specs.conv_transpose import TransposeSpec
from ...specs.pool import PoolSpec

Spec = ConvSpec | TransposeSpec | PoolSpec

#: Most cells (elements of input and output, padding counted) of a page: two images of 64x64 with some padding, which
#: Chromium 150 lays out in 1.5 s of one core's time (AMD EPYC), and steps through in 45 ms.
MOST_CELLS = 10_000
#: Most terms that the sums of a page have, all outputs together: each is a text of some 4 bytes, so that a page stays
#: below 1 MB.
MOST_TERMS = 65536
#: NumPy's names of the values that padding stands for.
_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Windows(NamedTuple):
    """The cells of the input grid, which has the padding around the input, and those that each output is made of.

    Cells, and outputs of one channel, are numbered row by row.
    """

    source: np.ndarray
    """The element of the input's channel that each cell of the grid shows; -1 where that is a zero of the padding."""
    outside: np.ndarray
    """Whether each cell is padding."""
    first: Pair
    """Row and column, as the input counts them, of the grid's first cell: negative where there is padding."""
    cells: list[np.ndarray]
    """The cells of each output's terms."""
    taps: list[np.ndarray]
    """The taps of the kernel that these cells are multiplied by."""
    nearest: np.ndarray
    """The output whose window has its centre nearest to each cell."""
    starts: np.ndarray
    """The cells of the windows' first taps; none of a transposed convolution."""
    ends: np.ndarray
    """The cells of their last taps."""


@dataclass(frozen=True, eq=False)
class Calculation:
    """One call: its operands and output with all axes (channels, rows, columns), and what each output is made of."""

    spec: Spec
    x: np.ndarray
    kernels: np.ndarray | None
    """For each output channel the taps of each input channel of its group, as (C_out, C_in / groups, taps)."""
    bias: np.ndarray | None
    output: np.ndarray

    @cached_property
    def geometry(self) -> ConvSpec | PoolSpec:
        """The spec with the sizes: of a transposed convolution that of the one that is transposed."""
        return self.spec.convolution if isinstance(self.spec, TransposeSpec) else self.spec

    @cached_property
    def kind(self) -> str:
        """How an output comes from its terms: "conv", "transpose", or a pooling's "max", "min" or "avg"."""
        if isinstance(self.spec, PoolSpec):
            return self.spec.op
        return "transpose" if isinstance(self.spec, TransposeSpec) else "conv"

    @cached_property
    def windows(self) -> Windows:
        """Where the windows lie."""
        if isinstance(self.spec, PoolSpec):
            return _pool_windows(self.spec)
        return _transposed(self.spec) if isinstance(self.spec, TransposeSpec) else _conv_windows(self.spec)

    @cached_property
    def channels(self) -> int:
        """Channels of the input that an output sees."""
        return 1 if self.kernels is None else self.kernels.shape[1]

    def first_channel(self, channel: int) -> int:
        """The first channel of the input that an output channel sees."""
        return channel // (len(self.output) * self.channels // len(self.x)) * self.channels

    @cached_property
    def grid(self) -> np.ndarray:
        """The values of the input grid's cells, as (channels, cells), in the dtype that they are multiplied in."""
        values = self.x.reshape(len(self.x), -1)
        if not isinstance(self.spec, PoolSpec):
            values = values.astype(self.spec.acc_dtype)
        source = self.windows.source.reshape(-1)
        grid: np.ndarray = np.where(source < 0, values.dtype.type(0), values[:, source])
        return grid

    def terms(self, channel: int, place: int) -> np.ndarray:
        """The terms of an output, a row for each channel of the input that it sees."""
        first, cells = self.first_channel(channel), self.windows.cells[place]
        terms: np.ndarray = self.grid[first : first + self.channels, cells]
        if self.kernels is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                terms = terms * self.kernels[channel][:, self.windows.taps[place]]
        return terms

    def divisor(self, place: int) -> int:
        """What a mean is the sum divided by."""
        if not isinstance(self.spec, PoolSpec):
            raise TypeError("only poolings divide")
        row, column = divmod(place, self.spec.ow)
        return int(self.spec.divisors(1)[row] * self.spec.divisors(2)[column])

    def matrix(self, channel: int) -> np.ndarray:
        """The matrix of one output channel: times the channels that it sees, as one column, it gives the sums."""
        if self.kernels is None:
            raise TypeError("a pooling is no matrix of weights")
        size, source = self.x[0].size, self.windows.source.reshape(-1)
        places = len(self.windows.cells)
        matrix = np.zeros((places, self.channels, size), self.kernels.dtype)
        for place, (cells, taps) in enumerate(zip(self.windows.cells, self.windows.taps, strict=True)):
            inside = source[cells] >= 0
            for number, kernel in enumerate(self.kernels[channel]):
                np.add.at(matrix[place, number], source[cells][inside], kernel[taps][inside])
        return matrix.reshape(places, -1)


def check_size(spec: Spec) -> None:
    """ValueError, before anything is computed, if a page cannot show so much."""
    geometry = spec.convolution if isinstance(spec, TransposeSpec) else spec
    (top, bottom), (left, right) = geometry.padding
    padded = (geometry.h + top + bottom) * (geometry.w + left + right)
    small = geometry.oh * geometry.ow
    if isinstance(geometry, PoolSpec):
        cells, terms = geometry.planes * (padded + small), geometry.planes * small * geometry.kh * geometry.kw
    else:
        cells, terms = geometry.c_in * padded + geometry.c_out * small, geometry.c_out * small * geometry.taps
    limits = (cells, MOST_CELLS, "elements of input and output"), (terms, MOST_TERMS, "terms to add")
    for number, most, what in limits:
        if number > most:
            raise ValueError(f"x is too large to look at: the call has {number:,} {what}, and explain shows at most "
                             f"{most:,}; cut a part out of x ({spec})")


# -- windows -------------------------------------------------------------------------------------------------


def _padded(spec: ConvSpec | PoolSpec, behind: Pair = (0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """`Windows.source` and `Windows.outside`, with so many more rows and columns behind the padding."""
    sides = [(before, after + more) for (before, after), more in zip(spec.padding, behind, strict=True)]
    pixels = np.arange(spec.h * spec.w).reshape(spec.h, spec.w)
    outside = np.pad(np.zeros(pixels.shape, bool), sides, constant_values=True)
    mode = "zeros" if isinstance(spec, PoolSpec) else spec.padding_mode
    if mode == "zeros":
        return np.pad(pixels, sides, constant_values=-1), outside
    padded: np.ndarray = np.pad(pixels, sides, mode=_PAD_MODES[mode])  # type: ignore[call-overload] # one of three
    return padded, outside


def window(spec: ConvSpec | PoolSpec) -> Sizes:
    """Rows and columns that a window covers."""
    return window_size((spec.kh, spec.kw), spec.dilation)


def _seen(spec: ConvSpec | PoolSpec, shape: tuple[int, ...]) -> np.ndarray:
    """The cells of a grid of this shape that each window sees, as (windows, taps)."""
    cells = np.arange(math.prod(shape)).reshape(shape)
    (down, across), (apart, aside) = spec.stride, spec.dilation
    views = np.lib.stride_tricks.sliding_window_view(cells, window(spec))
    return views[::down, ::across, ::apart, ::aside][: spec.oh, : spec.ow].reshape(spec.oh * spec.ow, -1)


def _centres(spec: ConvSpec | PoolSpec) -> list[np.ndarray]:
    """The centre of each window along both axes, counted in cells of the padded grid."""
    numbers = zip((spec.oh, spec.ow), spec.stride, window(spec), strict=True)
    return [np.arange(count) * step + (reach - 1) / 2 for count, step, reach in numbers]


def _nearest(centres: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = (np.abs(np.arange(size)[:, None] - centre).argmin(1)
                     for size, centre in zip(shape, centres, strict=True))  # fmt: skip
    numbers: np.ndarray = (rows[:, None] * len(centres[1]) + columns).reshape(-1)
    return numbers


def _conv_windows(spec: ConvSpec) -> Windows:
    source, outside = _padded(spec)
    seen = _seen(spec, source.shape)
    taps = [np.arange(seen.shape[1])] * len(seen)
    nearest = _nearest(_centres(spec), source.shape)
    return Windows(source, outside, _first(spec), list(seen), taps, nearest, seen[:, 0], seen[:, -1])


def _pool_windows(spec: PoolSpec) -> Windows:
    """Windows without what does not count: padding, but for a mean that counts it; what `ceil_mode` adds behind it."""
    reach, size = window(spec), (spec.h, spec.w)
    axes = zip((spec.oh, spec.ow), spec.stride, reach, size, spec.padding, strict=True)
    rows, columns = (max(0, (count - 1) * step + wide - pixels - sum(pads)) for count, step, wide, pixels, pads in axes)
    source, outside = _padded(spec, (rows, columns))
    counts = ~outside
    if spec.op == "avg":
        (top, _), (left, _) = spec.padding
        _, (above, end), (before, stop) = spec.counted
        counts = np.zeros_like(outside)
        counts[top - above : top + end, left - before : left + stop] = True
    seen, counted = _seen(spec, source.shape), counts.reshape(-1)
    cells = [window[counted[window]] for window in seen]
    taps = [np.flatnonzero(counted[window]) for window in seen]
    nearest = _nearest(_centres(spec), source.shape)
    return Windows(source, outside, _first(spec), cells, taps, nearest, seen[:, 0], seen[:, -1])


def _transposed(spec: TransposeSpec) -> Windows:
    """Windows of a transposed convolution: for each output the elements of the input that the kernel brings there."""
    forward = spec.convolution
    reached, _ = _padded(forward)  # cells of the output with what is cut off
    targets = reached.reshape(-1)[_seen(forward, reached.shape)]  # the output that each element reaches by each tap
    elements, taps = np.nonzero(targets >= 0)
    order = np.argsort(targets[elements, taps], kind="stable")
    bounds = np.searchsorted(targets[elements, taps][order], np.arange(1, forward.h * forward.w))
    cells, used = np.split(elements[order], bounds), np.split(taps[order], bounds)
    source = np.arange(forward.oh * forward.ow).reshape(forward.oh, forward.ow)
    (top, _), (left, _) = forward.padding
    down, across = _centres(forward)
    rows = np.clip(np.floor(down - top), 0, forward.h - 1).astype(np.int64)
    columns = np.clip(np.floor(across - left), 0, forward.w - 1).astype(np.int64)
    nearest = (rows[:, None] * forward.w + columns).reshape(-1)
    return Windows(source, np.zeros(source.shape, bool), (0, 0), cells, used, nearest, elements[:0], elements[:0])


def _first(spec: ConvSpec | PoolSpec) -> Pair:
    return -spec.padding[0][0], -spec.padding[1][0]


def kernels_of(spec: Spec, weight: np.ndarray) -> np.ndarray | None:
    """The weight as `Calculation.kernels` has it, in the dtype that it is multiplied in."""
    if isinstance(spec, PoolSpec):
        return None
    weight = weight.astype(spec.acc_dtype)
    if isinstance(spec, TransposeSpec):  # (C, C_out / groups, ...), a group of C channels after the other
        groups, (channels, outputs) = spec.convolution.groups, weight.shape[:2]
        weight = weight.reshape(groups, channels // groups, outputs, -1).swapaxes(1, 2)
        return weight.reshape(groups * outputs, channels // groups, -1)
    return weight.reshape(*weight.shape[:2], -1)
