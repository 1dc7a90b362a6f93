"""Maxima, minima, medians and other order statistics of windows."""

from __future__ import annotations

import operator
import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from ..base.values import shown
from ..functional.device import orders, refuse, sent
from . import arguments, missing, windowed
from .arguments import ArgumentError
from .missing import Given
from .windowed import Window

__all__ = [
    "maximum_filter",
    "maximum_filter1d",
    "median_filter",
    "minimum_filter",
    "minimum_filter1d",
    "percentile_filter",
    "rank_filter",
]


# -- calls that are repeated ---------------------------------------------------------------------------------


class _Repeated:
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
def _repeated(
    name: str, shape: tuple[int, ...], dtype: np.dtype, size: Any, mode: Any, cval: Any, origin: Any, axes: Any,
    channel_axis: Any, rank: Any,
) -> _Repeated | None:  # fmt: skip
    """The filter of these arguments; None where they need more care, or are wrong."""
    if dtype.char not in arguments.REAL or not dtype.isnative or 0 in shape or len(shape) > arguments.MOST_AXES:
        return None
    ndim = len(shape)
    over = arguments.axes(axes, ndim, channel_axis)
    if name == "rank" and list(over) != sorted(over):
        return None
    given = arguments.per_axis("size", size, len(over))
    sizes = [int(one) if one > 1 else 1 for one in given]
    if name == "rank" and not all(isinstance(one, int) and one > 0 for one in given):
        return None
    modes = [arguments.one_mode(mode)] * len(over) if name == "rank" else arguments.modes(mode, len(over))
    origins = arguments.per_axis("origin", origin, len(over))
    before = [arguments.before(one, at) if one > 1 else 0 for one, at in zip(sizes, origins, strict=True)]
    spread = _window(ndim, over, sizes, before, modes)[:3]
    is_bool = dtype == np.bool_
    whole = name == "rank" and not _scipys_1d(ndim, shape, sizes, origins)
    what = windowed.problem(shape, dtype, *spread, float(cval), whole)
    number = 0
    if what is None or (is_bool and what.constant > 1):
        return None
    if name == "rank":
        count = orders().elements(what)
        number = _rank(rank, count)
        if number in (0, count - 1):
            name = "max" if number else "min"
            what = windowed.problem(shape, dtype, *spread, float(cval), False)
            if what is None:
                return None
    if name != "rank" and max(sizes, default=1) == 1:
        return None
    return _Repeated(what, name, number, is_bool)


def _again(
    name: str, input: Any, size: Any, mode: Any, cval: Any, origin: Any, axes: Any, channel_axis: Any, rank: Any = None
) -> np.ndarray | None:  # fmt: skip
    """The result of a call without arrays beside the image, whose arguments are looked up; None if that is not
    possible."""
    if type(input) is not np.ndarray or not input.flags.carray or type(origin) is bool:
        return None
    try:
        found = _repeated(name, input.shape, input.dtype, size, mode, cval, origin, axes, channel_axis, rank)
    except (TypeError, ValueError, RuntimeError):  # said by the checks that follow, in their order
        return None
    return None if found is None else found(input)


# -- maxima and minima ---------------------------------------------------------------------------------------


def _given(input: Any, output: Any, nan_policy: Any, mask: Any, min_periods: Any) -> Given:
    """The image, of real numbers, and what is left out of it."""
    found = missing.given(input, output, nan_policy, mask, min_periods)
    if found.image.dtype.kind == "c":
        raise TypeError(f"Complex type not supported: input has dtype {found.image.dtype}")
    return found


def _delivered(made: np.ndarray, given: Given, window: Window, result: Any) -> np.ndarray:
    """The result of a filter that leaves elements out."""
    given.spread(made, windowed.seen(window))
    windowed.cast(made, result.target)
    return result.deliver()


def extremum(
    name: str, input: Any, size: Any, footprint: Any, structure: Any, output: Any, mode: Any, cval: Any, origin: Any,
    axes: Any, channel_axis: Any = None, nan_policy: str = "propagate", mask: Any = None, min_periods: int = 1,
) -> np.ndarray:  # fmt: skip
    """The "max" or "min" of windows, of a non-flat structuring element if `structure` is given: heights that are added,
    or for a minimum subtracted."""
    plain = footprint is None and structure is None and size is not None and output is None and mask is None
    if plain and nan_policy == "propagate" and type(min_periods) is int and min_periods == 1:
        found = _again(name, input, size, mode, cval, origin, axes, channel_axis)
        if found is not None:
            return found
    if size is not None and footprint is not None:
        warnings.warn("ignoring size because footprint is set", UserWarning, stacklevel=4)
    heights = members = None
    if structure is not None:
        heights = np.asarray(structure, np.float64)
        members = np.ones(heights.shape, bool) if footprint is None else np.asarray(footprint, bool)
    elif footprint is not None:
        refuse("footprint of a filter", footprint, "footprint")
        members = np.asarray(footprint, bool)
        if not members.any():
            raise ValueError("All-zero footprint is not supported: footprint must have an element")
    elif size is None:
        raise ArgumentError("no footprint provided: size or footprint must be given")
    given = _given(input, output, nan_policy, mask, min_periods)
    x = given.image
    result = arguments.result(given.output, x)
    over = arguments.axes(axes, x.ndim, channel_axis)
    if members is not None and heights is None and members.ndim == len(over) and members.all():
        size, members = members.shape, None
    if members is None:
        sizes = [int(one) if one > 1 else 1 for one in arguments.per_axis("size", size, len(over))]
        origins = arguments.per_axis("origin", origin, len(over))
        modes = arguments.modes(mode, len(over))
    else:
        if members.ndim != len(over) or 0 in members.shape:
            raise ArgumentError(f"footprint.ndim ({members.ndim}) must match len(axes) ({len(over)})")
        if heights is not None and heights.shape != members.shape:
            raise ArgumentError("structure array has incorrect shape: structure and footprint must have one shape, got "
                                f"{heights.shape} and {members.shape}")  # fmt: skip
        origins, modes = arguments.per_axis("origin", origin, len(over)), [arguments.one_mode(mode)]
    heights = heights if name == "max" else _negative(heights)
    if members is None:
        before = [arguments.before(one, at) if one > 1 else 0 for one, at in zip(sizes, origins, strict=True)]
        window = _window(x.ndim, over, sizes, before, modes)
    else:
        window = _whole(x.ndim, over, members, origins, modes[:1], heights)
    value = arguments.fill_value(cval)
    if given.periods:
        made = windowed.extremum_of_present(x, window, value, name, given.periods)
        return _delivered(made, given, window, result)
    return windowed.extremum(x, result, window, value, name)


def _negative(heights: np.ndarray | None) -> np.ndarray | None:
    return None if heights is None else -heights


def _window(ndim: int, over: tuple[int, ...], sizes: Any, before: Any, modes: Any) -> Window:
    """A full window over some axes as one over all of an image's."""
    outside = arguments.mode("constant")
    along = windowed.along
    what = along(ndim, over, sizes, 1), along(ndim, over, before, 0), along(ndim, over, modes, outside)
    return Window(*what, order=over)


def _whole(
    ndim: int, over: tuple[int, ...], members: np.ndarray, origins: list[Any], modes: list[Any],
    heights: np.ndarray | None = None,
) -> Window:  # fmt: skip
    """A window that is taken whole, over some axes, as one over all of an image's.

    As in SciPy its axes are those of the image in their order, whatever the order of `over`; origins have the order of
    `over`, unless it names all axes.
    """
    inner = sorted(over)
    sizes = windowed.along(ndim, inner, members.shape, 1)
    at = windowed.along(ndim, over if len(over) < ndim else inner, origins, 0)
    before = tuple(arguments.before(one, origin) for one, origin in zip(sizes, at, strict=True))
    every = modes * len(over) if len(modes) == 1 else modes
    boundaries = windowed.along(ndim, inner, every, arguments.mode("constant"))
    footprint = None if members.all() else members.reshape(sizes)
    return Window(sizes, before, boundaries, footprint, None if heights is None else heights.reshape(sizes), True,
                  tuple(range(ndim)))  # fmt: skip


def _scipys_1d(ndim: int, shape: tuple[int, ...], sizes: Any, origins: Any) -> bool:
    """Whether SciPy ranks by an algorithm of its own for one axis, in which the constant is an int64 or a float."""
    return ndim == 1 and (shape[0] == 1 or shape[0] - ((sizes[0] - 1) // 2 - origins[0]) >= 0)


def _extremum1d(
    name: str, input: Any, size: Any, axis: Any, output: Any, mode: Any, cval: Any, origin: Any, channel_axis: Any,
    nan_policy: str, mask: Any, min_periods: int,
) -> np.ndarray:  # fmt: skip
    number = arguments.one_axis(axis, np.ndim(input), channel_axis)
    length = arguments.window_size(size)
    arguments.before(length, origin)
    if length == 1 and output is not None:  # not the copy of `maximum_filter`: numbers are converted as elsewhere
        x = _given(input, output, nan_policy, mask, min_periods).image
        result = arguments.result(output, x)
        windowed.convert(x, result)
        return result.deliver()
    return extremum(name, input, length, None, None, output, mode, cval, origin, (number,), None, nan_policy, mask,
                    min_periods)  # fmt: skip


def maximum_filter1d(
    input: Any, size: int, axis: int = -1, output: Any = None, mode: str = "reflect", cval: float = 0.0,
    origin: int = 0, *, channel_axis: int | None = None, nan_policy: str = "propagate", mask: Any = None,
    min_periods: int = 1, device: str | None = None,
) -> np.ndarray:  # fmt: skip
    """The maximum of windows along one axis, a drop-in replacement of `scipy.ndimage.maximum_filter1d`.

    Parameters
    ----------
    input : array_like
        Image of any number of axes up to 8, of bool, integers, float32 or float64.
    size : int
        Elements of the window.
    axis : int
        The axis.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype, by default that of `input`.
    mode : str
        What lies outside: "reflect", "constant", "nearest", "mirror", "wrap", or their "grid-" names.
    cval : float
        The constant of mode "constant".
    origin : int
        Elements by which the window is shifted to the left.
    channel_axis : int, optional
        An axis that `axis` does not count.
    nan_policy : str
        "propagate": a NaN is the result of each window that sees it, and of no other; "omit": NaN are left out;
        "raise": a NaN is a ValueError.
    mask : array_like of bool, optional
        True where an element is left out; a masked array carries its own. The result of integers then is float64,
        if `output` does not say otherwise.
    min_periods : int
        A window with fewer elements that are not left out gives NaN.
    device : {None, "cpu", "cuda"}
        "cuda" takes a NumPy array to a GPU and back. None: where `input` is.

    Returns
    -------
    ndarray
        Array of the input's shape.

    Raises
    ------
    ValueError, TypeError
        If an argument is none of these; errors that are RuntimeErrors in SciPy are both.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.maximum_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([8, 8, 8, 4, 9, 9, 9, 9])
    """
    return _extremum1d("max", sent(input, device), size, axis, output, mode, cval, origin, channel_axis, nan_policy,
                       mask, min_periods)  # fmt: skip


def minimum_filter1d(
    input: Any, size: int, axis: int = -1, output: Any = None, mode: str = "reflect", cval: float = 0.0,
    origin: int = 0, *, channel_axis: int | None = None, nan_policy: str = "propagate", mask: Any = None,
    min_periods: int = 1, device: str | None = None,
) -> np.ndarray:  # fmt: skip
    """The minimum of windows along one axis, a drop-in replacement of `scipy.ndimage.minimum_filter1d`.

    Parameters, result and errors are those of `maximum_filter1d`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.minimum_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([2, 0, 0, 0, 1, 1, 0, 0])
    """
    return _extremum1d("min", sent(input, device), size, axis, output, mode, cval, origin, channel_axis, nan_policy,
                       mask, min_periods)  # fmt: skip


def maximum_filter(
    input: Any, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect", cval: float = 0.0,
    origin: Any = 0, *, axes: Any = None, channel_axis: int | None = None, nan_policy: str = "propagate",
    mask: Any = None, min_periods: int = 1, device: str | None = None,
) -> np.ndarray:  # fmt: skip
    """The maximum of windows, a drop-in replacement of `scipy.ndimage.maximum_filter`.

    Parameters
    ----------
    input, output, cval, nan_policy, mask, min_periods, device
        As in `maximum_filter1d`.
    size : int or sequence of ints
        The window's size along each axis. This or `footprint` must be given.
    footprint : array_like of bool, optional
        Which elements belong to the window.
    mode, origin : one value, or a sequence of one for each axis
        As in `maximum_filter1d`; one mode only where the footprint is not full.
    axes : tuple of ints, optional
        The axes that the window runs along, by default all.
    channel_axis : int, optional
        The one axis that it does not.

    Returns
    -------
    ndarray
        As from `maximum_filter1d`.

    Raises
    ------
    ValueError, TypeError
        As `maximum_filter1d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.maximum_filter(np.arange(9).reshape(3, 3), size=3)
    array([[4, 5, 5],
           [7, 8, 8],
           [7, 8, 8]])
    """
    return extremum("max", sent(input, device), size, footprint, None, output, mode, cval, origin, axes, channel_axis,
                    nan_policy, mask, min_periods)  # fmt: skip


def minimum_filter(
    input: Any, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect", cval: float = 0.0,
    origin: Any = 0, *, axes: Any = None, channel_axis: int | None = None, nan_policy: str = "propagate",
    mask: Any = None, min_periods: int = 1, device: str | None = None,
) -> np.ndarray:  # fmt: skip
    """The minimum of windows, a drop-in replacement of `scipy.ndimage.minimum_filter`.

    Parameters, result and errors are those of `maximum_filter`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.minimum_filter(np.arange(9).reshape(3, 3), size=3)
    array([[0, 0, 1],
           [0, 0, 1],
           [3, 3, 4]])
    """
    return extremum("min", sent(input, device), size, footprint, None, output, mode, cval, origin, axes, channel_axis,
                    nan_policy, mask, min_periods)  # fmt: skip


# -- ranks ---------------------------------------------------------------------------------------------------


def _rank(which: tuple[str, Any], count: int) -> int:
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


def _ranked(
    which: tuple[str, Any], input: Any, size: Any, footprint: Any, output: Any, mode: Any, cval: Any, origin: Any,
    axes: Any, channel_axis: Any, nan_policy: str = "propagate", mask: Any = None, min_periods: int = 1,
) -> np.ndarray:  # fmt: skip
    """An element of the sorted windows."""
    plain = footprint is None and size is not None and output is None and mask is None
    if plain and nan_policy == "propagate" and type(min_periods) is int and min_periods == 1:
        found = _again("rank", input, size, mode, cval, origin, axes, channel_axis, which)
        if found is not None:
            return found
    if size is not None and footprint is not None:
        warnings.warn("ignoring size because footprint is set", UserWarning, stacklevel=4)
    refuse(f"{which[0]}_filter", input)
    half = np.asarray(input)
    if half.dtype == np.float16 and half.ndim == 1:  # as in SciPy
        result = arguments.result(np.float32 if output is None else output, half.astype(np.float32))
        made = _ranked(which, half.astype(np.float32), size, footprint, result.array, mode, cval, origin, axes,
                       channel_axis, nan_policy, mask, min_periods)  # fmt: skip
        return made.astype(np.float16) if output is None else made
    given = _given(input, output, nan_policy, mask, min_periods)
    x = given.image
    over = arguments.axes(axes, x.ndim, channel_axis)
    if footprint is None:
        if size is None:
            raise ArgumentError("no footprint or filter size provided")
        members = np.ones(arguments.per_axis("size", size, len(over)), bool)
    else:
        members = np.asarray(footprint, bool)
    if members.ndim != len(over) or 0 in members.shape:
        raise ArgumentError(f"footprint.ndim ({members.ndim}) must match len(axes) ({len(over)})")
    origins = arguments.per_axis("origin", origin, len(over))
    count = int(members.sum())
    rank = _rank(which, count)
    value = arguments.fill_value(cval)
    is_end = not given.periods and rank in (0, count - 1)
    modes = arguments.modes(mode, len(over)) if is_end and members.all() else [arguments.one_mode(mode)] * len(over)
    result = arguments.result(given.output, x)
    window = _whole(x.ndim, over, members, origins, modes)
    if given.periods:
        made = windowed.median_of_present(x, window, value, given.periods)
        return _delivered(made, given, window, result)
    if is_end:
        window = window._replace(whole=not members.all())
        return windowed.extremum(x, result, window, value, "max" if rank else "min")
    if _scipys_1d(x.ndim, x.shape, members.shape, origins):
        window = window._replace(whole=False)
        value = value if x.dtype.kind == "f" else float(np.trunc(value))
    return windowed.rank(x, result, window, value, rank)


def rank_filter(
    input: Any, rank: int, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect",
    cval: float = 0.0, origin: Any = 0, *, axes: Any = None, channel_axis: int | None = None,
) -> np.ndarray:  # fmt: skip
    """The element of a rank of windows, a drop-in replacement of `scipy.ndimage.rank_filter`.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes, channel_axis
        As in `maximum_filter`; one `mode` only. Of one axis, a footprint counts too (SciPy 1.17 takes all of it).
    rank : int
        0 for the smallest element, -1 for the largest.

    Returns
    -------
    ndarray
        As from `maximum_filter`. A NaN is the result of each window that sees it.

    Raises
    ------
    ValueError, TypeError
        As `maximum_filter`; if the window has no element of that rank.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.rank_filter([2, 8, 0, 4, 1, 9, 9, 0], rank=-2, size=3)
    array([2, 2, 4, 1, 4, 9, 9, 0])
    """
    try:
        number = operator.index(rank)
    except TypeError:
        raise TypeError(f"rank must be an integer, got {shown(rank)}") from None
    return _ranked(("rank", number), input, size, footprint, output, mode, cval, origin, axes, channel_axis)


def percentile_filter(
    input: Any, percentile: float, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect",
    cval: float = 0.0, origin: Any = 0, *, axes: Any = None, channel_axis: int | None = None,
) -> np.ndarray:  # fmt: skip
    """A percentile of windows, a drop-in replacement of `scipy.ndimage.percentile_filter`.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes, channel_axis
        As in `rank_filter`.
    percentile : float
        From 0 to 100, or below 0 counted from 100. There is no interpolation.

    Returns
    -------
    ndarray
        As from `rank_filter`.

    Raises
    ------
    ValueError, TypeError
        As `rank_filter`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.percentile_filter([2, 8, 0, 4, 1, 9, 9, 0], percentile=20, size=5)
    array([2, 2, 1, 1, 1, 1, 0, 0])
    """
    if not np.isscalar(percentile) or isinstance(percentile, str):
        raise TypeError(f"percentile must be a number, got {shown(percentile)}")
    return _ranked(("percentile", percentile), input, size, footprint, output, mode, cval, origin, axes, channel_axis)


def median_filter(
    input: Any, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect", cval: float = 0.0,
    origin: Any = 0, *, axes: Any = None, channel_axis: int | None = None, nan_policy: str = "propagate",
    mask: Any = None, min_periods: int = 1,
) -> np.ndarray:  # fmt: skip
    """The median of windows, a drop-in replacement of `scipy.ndimage.median_filter`.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes, channel_axis
        As in `rank_filter`.
    nan_policy, mask, min_periods
        As in `maximum_filter1d`.

    Returns
    -------
    ndarray
        As from `rank_filter`. Of an even number of elements it is the upper one of the two in the middle.

    Raises
    ------
    ValueError, TypeError
        As `rank_filter`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.median_filter([2, 80, 6, 3], size=3)
    array([2, 6, 6, 3])
    """
    return _ranked(("median", 0), input, size, footprint, output, mode, cval, origin, axes, channel_axis, nan_policy,
                   mask, min_periods)  # fmt: skip
