"""Windows over an array of any axes, as kernels see them: planes of rows of pixels, and where each tap lies.

::

    out[o, i, j] = reduction over t, a, b of x[plane(o, t), row(i + a), pixel(j + b)]       t < taps, a < kh, b < kw

The last filtered axis is a row's pixels, the axis before it the rows, all others are planes, of which a window sees
several. Axes behind the last filtered one are the elements of a pixel (channels last), or, where they are many, the
row. `plane`, `row` and `pixel` are tables that hold the boundary mode: each tells what stands at a place of the
extended axis, or -1 for the constant.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .boundary import Boundary, sources

#: Elements behind the last filtered axis that count as one pixel; more of them are a row of their own. A row of pixels
#: is filtered by vectors that begin a pixel apart; both ways are as fast for 16 channels (float32, AMD EPYC 9005).
MOST_CHANNELS = 16


class Windows(NamedTuple):
    """The windows of one problem."""

    shape: tuple[int, int, int]
    """Planes, rows, and elements of a row."""
    step: int
    """Elements of a pixel."""
    kh: int
    kw: int
    left: int
    """Elements of the extended row before its first."""
    planes: np.ndarray
    """For each plane, those that the window's taps lie in; int64, planes by taps."""
    rows: np.ndarray
    """The row at each place of the extended axis; int64."""
    columns: np.ndarray
    """The element of a row at each place of the extended one; int64."""

    @property
    def taps(self) -> int:
        """Planes that a window sees."""
        return self.planes.shape[1]


@lru_cache(maxsize=256)
def windows(
    shape: tuple[int, ...], sizes: tuple[int, ...], before: tuple[int, ...], modes: tuple[Boundary, ...]
) -> Windows:
    """The windows of `sizes` that begin `before` elements before each element of an array with elements."""
    filtered = [axis for axis, size in enumerate(sizes) if size > 1]
    last = filtered[-1] if filtered else len(shape) - 1
    channels = math.prod(shape[last + 1 :])
    tables = [
        sources(mode, length, first, size - 1 - first)
        for length, size, first, mode in zip(shape, sizes, before, modes, strict=True)
    ]
    if channels <= MOST_CHANNELS:
        row, step, w, kw, left, pixels = last - 1, channels, shape[last], sizes[last], before[last], tables[last]
    else:
        row, step, w, kw, left, pixels = last, 1, channels, 1, 0, np.arange(channels)
    if row >= 0:
        h, kh, rows = shape[row], sizes[row], tables[row]
    else:
        h, kh, rows = 1, 1, np.zeros(1, np.int64)
    outer = range(max(row, 0))
    planes = _planes([(shape[axis], sizes[axis], tables[axis]) for axis in outer])
    columns = np.where(pixels[:, None] < 0, -1, pixels[:, None] * step + np.arange(step)).reshape(-1)
    return Windows((planes.shape[0], h, w * step), step, kh, kw, left * step, planes, rows, columns)


def _planes(axes: list[tuple[int, int, np.ndarray]]) -> np.ndarray:
    """For each of the planes that the axes count, those that each tap of a window sees."""
    planes = np.zeros((1, 1), np.int64)
    for length, size, table in axes:
        seen = table[np.arange(length)[:, None] + np.arange(size)]
        joined = planes[:, None, :, None] * length + seen[None, :, None, :]
        joined[(planes < 0)[:, None, :, None] | (seen < 0)[None, :, None, :]] = -1
        planes = joined.reshape(planes.shape[0] * length, planes.shape[1] * size)
    return np.ascontiguousarray(planes)


def separately(
    shape: tuple[int, ...], sizes: tuple[int, ...], before: tuple[int, ...], modes: tuple[Boundary, ...]
) -> list[Windows]:
    """The windows of a separable filter's sweeps: each filters two neighbouring axes, or one."""
    left = [axis for axis, size in enumerate(sizes) if size > 1]
    sweeps = []
    while left:
        here = {left.pop()}
        if left and min(here) - 1 == left[-1] and (
            math.prod(shape[max(here) + 1 :]) <= MOST_CHANNELS
        ):
            here.add(left.pop())
        taken = (tuple(given if axis in here else one for axis, given in enumerate(every))
                 for every, one in ((sizes, 1), (before, 0)))  # fmt: skip
        sweeps.append(windows(shape, *taken, modes))
    return sweeps


def runs(footprint: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The runs of a footprint of planes, rows and columns: (plane, row, first column, number of columns)."""
    found = []
    for plane, row in itertools.product(*map(range, footprint.shape[:2])):
        line = np.concatenate(([0], footprint[plane, row].astype(np.int8), [0]))
        steps = np.diff(line)
        for first, end in zip(np.flatnonzero(steps > 0), np.flatnonzero(steps < 0), strict=True):
            found.append((plane, row, int(first), int(end - first)))
    return found
