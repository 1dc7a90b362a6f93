"""Which part of an input an interval of outputs needs, along one axis, for each way in which operations use an axis.

`reads` gives runs of input positions, in the order in which they are laid one behind the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..specs.boundary import OUTSIDE, Boundary, places

#: Positions from the first to before the last.
Interval = tuple[int, int]


@dataclass(frozen=True)
class Along:
    """An axis along which each output needs the input at its own place."""

    size: int
    """Elements of the input."""

    @property
    def halo(self) -> int:
        """Inputs that an interval sees beyond its own."""
        return 0

    @property
    def pace(self) -> int:
        """Inputs from one output's place to the next one's."""
        return 1

    def reads(self, first: int, last: int) -> tuple[Interval, ...]:
        """The runs that the outputs from `first` to before `last` need."""
        return ((first, last),)


@dataclass(frozen=True)
class Whole(Along):
    """An axis all of which each output needs, or which is not to be cut."""

    def reads(self, first: int, last: int) -> tuple[Interval, ...]:
        return ((0, self.size),)


@dataclass(frozen=True)
class Filtered(Along):
    """An axis of a filter whose results are as many as its elements. What lies outside is the filter's to know: a block
    that ends where the axis does, ends in the filter's own boundary. Only a periodic one is made of parts of the axis.
    """

    before: int
    behind: int
    wraps: bool = False

    @property
    def halo(self) -> int:
        return self.before + self.behind

    def reads(self, first: int, last: int) -> tuple[Interval, ...]:
        start, stop = first - self.before, last + self.behind
        if stop - start >= self.size:
            return ((0, self.size),)
        if self.wraps:
            return wrapped(self.size, start, stop)
        # A boundary repeats elements that lie as far inside as it reaches outside.
        least = min(self.size, self.halo + 1)
        low, high = max(0, start), min(self.size, stop)
        return ((min(low, self.size - least) if stop > self.size else low, max(high, least) if start < 0 else high),)

    def offset(self, first: int, last: int) -> int:
        """The place of the first output in what `reads` gives."""
        runs = self.reads(first, last)
        if runs == ((0, self.size),):
            return first
        return self.before if self.wraps else first - runs[0][0]


@dataclass(frozen=True)
class _Stepped(Along):
    """An axis of windows that move by steps."""

    step: int
    window: int
    before: int
    """Padding before the first element."""

    @property
    def halo(self) -> int:
        return max(0, self.window - self.step)

    @property
    def pace(self) -> int:
        return self.step

    def _ends(self, first: int, last: int) -> Interval:
        """Where the first window begins and the last ends."""
        return first * self.step - self.before, (last - 1) * self.step - self.before + self.window


@dataclass(frozen=True)
class Windows(_Stepped):
    """An axis of windows whose padding belongs to the input: all elements of a window are there, or made."""

    boundary: Boundary = Boundary.CONSTANT

    def reads(self, first: int, last: int) -> tuple[Interval, ...]:
        start, stop = self._ends(first, last)
        if start >= 0 and stop <= self.size:
            return ((start, stop),)
        if self.boundary is Boundary.WRAP:
            return wrapped(self.size, start, stop)
        inside = _sources(self.boundary, self.size, start, stop)
        inside = inside[inside != OUTSIDE]
        return ((int(inside.min()), int(inside.max()) + 1),) if inside.size else ((0, 1),)

    def sources(self, first: int, last: int) -> np.ndarray | None:
        """The place of each element of the windows in what `reads` gives, or `OUTSIDE`; None if it is its own."""
        start, stop = self._ends(first, last)
        if (start >= 0 and stop <= self.size) or self.boundary is Boundary.WRAP:
            return None
        found = _sources(self.boundary, self.size, start, stop)
        return np.where(found == OUTSIDE, OUTSIDE, found - self.reads(first, last)[0][0])


@lru_cache(maxsize=64)
def _sources(boundary: Boundary, size: int, start: int, stop: int) -> np.ndarray:
    return places(boundary, size, start, stop)


@dataclass(frozen=True)
class Pooled(_Stepped):
    """An axis of windows that know their padding, whose elements do not count."""

    behind: int
    """Padding behind the last element; a last window may reach beyond it."""

    def part(self, first: int, last: int) -> tuple[int, Interval, Interval, bool]:
        """The first window that is computed, the elements that are seen, the padding on both sides of these, and
        whether the last window reaches beyond it.

        The window before `first` is computed, too, if what is left of the others is not as large as a window.
        """
        start, stop = self._ends(first, last)
        low, high = max(0, start), min(self.size, stop)
        beyond = stop > self.size + self.behind
        sides = max(0, -start), min(self.behind, max(0, stop - self.size))
        if first and beyond and high - low + sum(sides) < self.window:
            return self.part(first - 1, last)
        return first, (low, high), sides, beyond

    def reads(self, first: int, last: int) -> tuple[Interval, ...]:
        return (self.part(first, last)[1],)


@dataclass(frozen=True)
class Spread(Along):
    """An axis of a transposed convolution: input i is added to the outputs ``i * pitch - before + a * dilation``."""

    pitch: int
    taps: int
    dilation: int
    before: int

    @property
    def halo(self) -> int:
        return (self.taps - 1) * self.dilation

    def reads(self, first: int, last: int) -> tuple[Interval, ...]:
        start = -(-(first + self.before - (self.taps - 1) * self.dilation) // self.pitch)
        # Not beyond the first output, which may lie between the outputs that are added to.
        start = min(max(0, min(start, (first + self.before) // self.pitch)), self.size - 1)
        return ((start, max(start + 1, min(self.size, (last - 1 + self.before) // self.pitch + 1))),)


def wrapped(size: int, start: int, stop: int) -> tuple[Interval, ...]:
    """The positions from `start` to before `stop` of an axis that goes on with itself."""
    runs = []
    while start < stop:
        low = start % size
        high = min(size, low + stop - start)
        runs.append((low, high))
        start += high - low
    return tuple(runs)
