"""Windows of order statistics as arguments give them, and calls that are repeated: what they need is made once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..base.values import shown
from ..functional.device import orders
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


# -- calls that are repeated ---------------------------------------------------------------------------------


class Repeated:
    """A filter of C-contiguous images of one shape and dtype, without any other array: made once."""

    __slots__ = ("_is_bool", "_rank", "_sweeps")

    def __init__(self, what: Any, name: str, rank: int, is_bool: bool) -> None:
        self._is_bool, self._rank = is_bool, None
        self._sweeps: Any = ()
        if name == "rank":
            self._rank = what, rank
        else:
            self._sweeps = orders().boxes(what, name)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        out = np.empty(x.shape, x.dtype)
        made = out
        if self._is_bool:
            x, made = x.view(np.uint8), out.view(np.uint8)
        if self._rank is not None:
            orders().ranked(*self._rank, x, made)
            return out
        last = len(self._sweeps) - 1
        for number, (shape, run) in enumerate(self._sweeps):
            target = made if number == last else np.empty_like(made)
            run(x.reshape(shape), target.reshape(shape))
            x = target
        return out


@lru_cache(maxsize=1024)
def repeated(
    name: str, shape: tuple[int, ...], dtype: np.dtype, size: Any, mode: Any, cval: Any, origin: Any, axes: Any,
    channel_axis: Any, rank: Any,
) -> Repeated | None:  # fmt: skip
    """The filter of these arguments; None where they need more care, or are wrong."""
    if dtype.char not in arguments.REAL or not dtype.isnative or 0 in shape or len(shape) > arguments.MOST_AXES:
        return None
    ndim = len(shape)
    over = arguments.axes(axes, shape, channel_axis)
    if name == "rank" and list(over) != sorted(over):
        return None
    sizes = arguments.sizes(size, len(over), whole=name == "rank")
    modes = [arguments.one_mode(mode)] * len(over) if name == "rank" else arguments.modes(mode, len(over))
    origins = arguments.per_axis("origin", origin, len(over))
    before = [arguments.before(one, at) if one > 1 else 0 for one, at in zip(sizes, origins, strict=True)]
    spread = box(ndim, over, sizes, before, modes)[:3]
    is_bool = dtype == np.bool_
    is_whole = name == "rank" and not is_scipys_1d(ndim, shape, sizes, origins)
    what = windowed.problem(shape, dtype, *spread, float(cval), is_whole)
    number = 0
    if what is None or (is_bool and what.constant > 1):
        return None
    if name == "rank":
        count = orders().elements(what)
        number = rank_of(rank, count)
        if number in (0, count - 1):
            name = "max" if number else "min"
            what = windowed.problem(shape, dtype, *spread, float(cval), False)
            if what is None:
                return None
    if name != "rank" and max(sizes, default=1) == 1:
        return None
    return Repeated(what, name, number, is_bool)


def again(
    name: str, input: Any, size: Any, mode: Any, cval: Any, origin: Any, axes: Any, channel_axis: Any, rank: Any = None
) -> np.ndarray | None:  # fmt: skip
    """The result of a call without arrays beside the image, whose arguments are looked up; None if that is not
    possible."""
    if type(input) is not np.ndarray or not input.flags.carray or type(origin) is bool:
        return None
    try:
        found = repeated(name, input.shape, input.dtype, size, mode, cval, origin, axes, channel_axis, rank)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # said by the checks that follow, in their order
        return None
    return None if found is None else found(input)
