"""How far filters see: each tells it here when it is called, while somebody listens.

So whoever cuts an image into blocks gets the windows of any filter from the function that reads its arguments, and has
no second set of rules about sizes, origins, footprints and axes. Filters of an image without elements tell, too, and
compute nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..specs.boundary import Boundary


class Side(NamedTuple):
    """What a filter sees along one axis, beside the place of its output."""

    axis: int
    before: int
    behind: int
    boundary: Boundary | None
    """None: of several filters, which disagree about a periodic one."""


#: Threads that listen now; filters tell only if there are any.
listening = 0
_counting = threading.Lock()


class _Told(threading.local):
    """What the filters of this thread have told since it began to listen; None if it does not."""

    sides: list[list[Side]] | None = None


_told = _Told()


def of(call: Callable[[], Any]) -> tuple[Any, list[list[Side]]]:
    """What a call returns, and what each filter in it sees."""
    global listening
    with _counting:
        listening += 1
    before, _told.sides = _told.sides, []
    try:
        return call(), _told.sides
    finally:
        _told.sides = before
        with _counting:
            listening -= 1


def tell(sides: Iterable[tuple[int, int, int, Boundary | None]]) -> None:
    """Tell what one filter sees: for some axes the elements before and behind each output, and what lies outside."""
    if _told.sides is not None:
        _told.sides.append([Side(*side) for side in sides])


def windows(axes: Iterable[Any]) -> None:
    """Tell of a filter with windows that are like `specs.filters.Axis`."""
    tell((one.axis, one.before, one.taps - 1 - one.before, one.boundary) for one in axes)


def box(sizes: Iterable[int], before: Iterable[int], boundaries: Iterable[Boundary], times: int = 1) -> None:
    """Tell of a filter with a window over all axes, that is applied so many times."""
    every = zip(sizes, before, boundaries, strict=True)
    tell((axis, times * first, times * (size - 1 - first), mode) for axis, (size, first, mode) in enumerate(every))
