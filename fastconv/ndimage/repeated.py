"""Windows of order statistics as arguments give them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.values import shown
from . import arguments, missing, windowed
from .arguments import ArgumentError
from .missing import Given
from .windowed import Window

# -- what is given, and what comes back ----------------------------------------------------------------------


def checked(input: Any, output: Any, nan_policy: Any, mask: Any, min_periods: Any) -> Given:
    """The image, of real numbers, and what is left out of it."""
    return missing.given(input, output, nan_policy, mask, min_periods, complex_too=False)


def delivered(made: np.ndarray, given: Given, window: Window, result: Any) -> np.ndarray:
    """The result of a filter that leaves elements out."""
    given.spread(made, windowed.seen(window))
    windowed.cast(made, result.target)
    return result.deliver()


# -- windows -------------------------------------------------------------------------------------------------


def box(ndim: int, over: tuple[int, ...], sizes: Any, before: Any, modes: Any) -> Window:
    """A full window over some axes as one over all of an image's."""
    outside = arguments.mode("constant")
    along = windowed.along
    what = along(ndim, over, sizes, 1), along(ndim, over, before, 0), along(ndim, over, modes, outside)
    return Window(*what, order=over)


def whole(
    ndim: int, over: tuple[int, ...], members: np.ndarray, origins: list[Any], modes: list[Any],
    heights: np.ndarray | None = None, origin: Any = None,
) -> Window:  # fmt: skip
    """A window that is taken whole, over some axes, as one over all of an image's.

    As in SciPy its axes are those of the image in their order, whatever the order of `over`; origins have the order of
    `over`, unless it names all axes. `origin` is what the caller gave, if `origins` are turned around.
    """
    inner = sorted(over)
    sizes = windowed.along(ndim, inner, members.shape, 1)
    at = windowed.along(ndim, over if len(over) < ndim else inner, origins, 0)
    before = tuple(arguments.before(size, one, origin) for size, one in zip(sizes, at, strict=True))
    every = modes * len(over) if len(modes) == 1 else modes
    boundaries = windowed.along(ndim, inner, every, arguments.mode("constant"))
    footprint = None if members.all() else members.reshape(sizes)
    return Window(sizes, before, boundaries, footprint, None if heights is None else heights.reshape(sizes), True,
                  tuple(range(ndim)))  # fmt: skip


def is_scipys_1d(ndim: int, shape: tuple[int, ...], sizes: Any, origins: Any) -> bool:
    """Whether SciPy ranks by an algorithm of its own for one axis, in which the constant is an int64 or a float."""
    return ndim == 1 and (shape[0] == 1 or shape[0] - ((sizes[0] - 1) // 2 - origins[0]) >= 0)


def rank_of(which: tuple[str, Any], count: int) -> int:
    """The rank, of so many elements, that an operation asks for."""
    operation, given = which
    rank = given
    if operation == "median":
        rank = count // 2
    elif operation == "percentile":
        percentile = given + 100.0 if given < 0.0 else given
        if not 0 <= percentile <= 100:
            raise ArgumentError(f"invalid percentile: it must be from -100 to 100, got {shown(given)}")
        rank = count - 1 if percentile == 100.0 else int(float(count) * percentile / 100.0)
    if rank < 0:
        rank += count
    if not 0 <= rank < count:
        raise ArgumentError(f"rank not within filter footprint size: it must be at least {-count} and below {count}, "
                            f"got {shown(given)}")  # fmt: skip
    return int(rank)
