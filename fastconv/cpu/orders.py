"""Order statistics and morphology of images on the CPU: which algorithm, and all that a call of it needs.

Arrays are C-contiguous and of a kernel's dtype here (`specs.arrays.kernel_ready`); a window begins `before` elements
before each element. What is prepared for a problem is kept for the next call.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np

from ..specs import filters
from ..specs.boundary import Boundary
from ..specs.filters import Axis
from ..specs.windows import Windows, separately, windows
from .algorithms import order_columns, order_network, order_ranked, order_running, order_taps
from .in_place import in_place
from .shared.for_threads import ForThreads
from .system.memory import buffer

#: Most rows and columns of windows whose maxima take least time from all pixels, in place, by bytes of an element. (AMD
#: EPYC 9005, 512x512 and 1080x1920: of 9x9 they take 0.86 to 0.94 of the time, of float64 0.95 and 1.14.)
MOST_IN_PLACE = {1: 9, 2: 9, 4: 9, 8: 7}


class Problem(NamedTuple):
    """Windows over an array that has elements."""

    shape: tuple[int, ...]
    dtype: np.dtype
    sizes: tuple[int, ...]
    """The windows' size along each axis."""
    before: tuple[int, ...]
    modes: tuple[Boundary, ...]
    constant: Any
    """What stands outside, of the arrays' dtype, by the constant mode."""
    footprint: bytes | None = None
    """The bools, of `sizes`, of what belongs to a window; None: all."""

    @property
    def members(self) -> np.ndarray:
        """The footprint."""
        if self.footprint is None:
            return np.ones(self.sizes, bool)
        return np.frombuffer(self.footprint, bool).reshape(self.sizes)

    def windows(self) -> tuple[Windows, np.ndarray]:
        """The windows as kernels see them, and the footprint with their axes: taps, rows, pixels."""
        seen = windows(self.shape, self.sizes, self.before, self.modes)
        return seen, self.members.reshape(seen.taps, seen.kh, seen.kw)


#: The shape to give arrays, and what is prepared for them: its `run`, and `direct` if it has one.
Part = tuple[tuple[int, ...], Any]


class Swept:
    """A function of two arrays that makes the "max" or "min" of full windows by a few sweeps."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        last = len(self.parts) - 1
        for number, (shape, sweep) in enumerate(self.parts):
            target = out if number == last else buffer(f"extrema {number % 2}", out.shape, out.dtype)
            sweep.run(x.reshape(shape), target.reshape(shape))
            x = target
        if last < 0:
            out[...] = x


class Ranked:
    """A function of two arrays that makes the elements of a rank. A NaN is the result of all windows that see it."""

    __slots__ = ("_name", "_part", "_problem")

    def __init__(self, problem: Problem, name: str, part: Part) -> None:
        self._problem, self._name, self._part = problem, name, part

    @property
    def parts(self) -> tuple[Part, ...]:
        """All that is run, where no NaN is found."""
        return (self._part,)

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        shape, prepared = self._part
        flat, target = x.reshape(shape), out.reshape(shape)
        if self._name == "columns":
            prepared.run(flat, target)
            return
        found = np.zeros(1, np.uint8)
        prepared.run(flat, target, found)
        if found[0]:
            largest = np.empty_like(out)
            extremum(self._problem, "max", x, largest)
            np.copyto(out, np.nan, where=np.isnan(largest))


@lru_cache(maxsize=512)
def boxes(problem: Problem, name: str) -> tuple[Part, ...]:
    """The sweeps that make, one after the other, the "max" or "min" of full windows: shapes to give arrays, and what
    runs."""
    if (found := _in_place(problem, name)) is not None:
        return ((problem.shape, found),)
    sizes, before = [], []
    for length, size, first in zip(problem.shape, problem.sizes, problem.before, strict=True):
        # Two images on each side have all that a window can see, by any mode.
        front, behind = min(first, 2 * length), min(size - 1 - first, 2 * length)
        sizes.append(front + 1 + behind)
        before.append(front)
    sweeps = separately(problem.shape, tuple(sizes), tuple(before), problem.modes)
    prepared = [order_running.prepared(each, problem.dtype, name, problem.constant) for each in sweeps]
    return tuple((each.shape, one) for each, one in zip(sweeps, prepared, strict=True))


def _in_place(problem: Problem, name: str) -> ForThreads | None:
    """The sweep over an image that is read in place, of windows of few rows and columns; None if there is none."""
    every = zip(range(len(problem.sizes)), problem.sizes, problem.before, problem.modes, strict=True)
    axes = tuple(axis for axis in starmap(Axis, every) if axis.taps > 1)
    if len(axes) != 2 or max(axis.taps for axis in axes) > MOST_IN_PLACE[problem.dtype.itemsize]:
        return None
    strides = tuple(problem.dtype.itemsize * math.prod(problem.shape[axis + 1 :]) for axis in range(len(problem.shape)))
    made = filters.Problem(
        problem.shape, strides, strides, problem.dtype, problem.dtype, problem.dtype, axes,
        tuple(filters.Pass((axis.axis,), (axis.taps,), b"", name) for axis in axes), float(problem.constant),
    )  # fmt: skip
    found = ForThreads(in_place, made)
    return None if found.now() is None else found


@lru_cache(maxsize=256)
def taps(problem: Problem, name: str, heights: bytes | None = None) -> Part:
    """The "max" or "min" of windows of any form, with `heights` of the problem's dtype added."""
    seen, footprint = problem.windows()
    added = None if heights is None else np.frombuffer(heights, problem.dtype).reshape(footprint.shape)
    prepared = order_taps.prepared(seen, footprint, added, problem.dtype, name, problem.constant)
    return seen.shape, prepared


@lru_cache(maxsize=512)
def swept(problem: Problem, name: str) -> Swept:
    """The function of two arrays that makes the "max" or "min" of full windows."""
    return Swept(boxes(problem, name))


def extremum(problem: Problem, name: str, x: np.ndarray, out: np.ndarray, heights: bytes | None = None) -> None:
    """Write the "max" or "min" of windows to `out`. A NaN is the result of all windows that see it."""
    if problem.footprint is None and heights is None:
        swept(problem, name)(x, out)
        return
    shape, prepared = taps(problem, name, heights)
    prepared.run(x.reshape(shape), out.reshape(shape))


@lru_cache(maxsize=256)
def ranks(problem: Problem, rank: int, algorithm: str = "auto") -> tuple[tuple[int, int, int], str, Any]:
    """The algorithm for the elements of a rank: the shape to give arrays, its name, and what is prepared.

    ValueError if the algorithm of this name cannot do it.
    """
    seen, members = problem.windows()
    footprint, dtype = None if problem.footprint is None else members, problem.dtype
    able = {
        "network": order_network.supports(seen, footprint, rank),
        "columns": footprint is None and order_columns.supports(seen, dtype),
        "ranked": True,
    }
    name = next(name for name, can in able.items() if can) if algorithm == "auto" else algorithm
    if not able[name]:
        raise ValueError(f"algorithm {name!r} cannot do this: it is not for {elements(problem)} elements of {dtype}")
    if name == "network":
        return seen.shape, name, order_network.Prepared(seen, footprint, dtype, rank, problem.constant)
    if name == "columns":
        return seen.shape, name, order_columns.Prepared(seen, dtype, rank, problem.constant)
    return seen.shape, name, order_ranked.Prepared(seen, members, dtype, rank, problem.constant, 1)


def ranked(problem: Problem, rank: int, algorithm: str = "auto") -> Ranked:
    """The function of two arrays that writes the element of a rank of each window."""
    shape, name, prepared = ranks(problem, rank, algorithm)
    return Ranked(problem, name, (shape, prepared))


@lru_cache(maxsize=256)
def _medians(problem: Problem, least: int) -> tuple[tuple[int, int, int], order_ranked.Prepared]:
    seen, members = problem.windows()
    return seen.shape, order_ranked.Prepared(seen, members, problem.dtype, -1, problem.constant, least)


def median_of_present(problem: Problem, least: int, x: np.ndarray, out: np.ndarray) -> None:
    """Write the median of what is no NaN to `out`; NaN for windows that have fewer than `least` such elements."""
    shape, prepared = _medians(problem, least)
    prepared.run(x.reshape(shape), out.reshape(shape), np.zeros(1, np.uint8), omit=True)


def elements(problem: Problem) -> int:
    """Elements of a window."""
    return math.prod(problem.sizes) if problem.footprint is None else int(problem.members.sum())
