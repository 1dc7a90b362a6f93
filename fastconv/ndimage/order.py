"""Maxima, minima, medians and other order statistics of windows."""

from __future__ import annotations

import operator
import warnings
from typing import Any

import numpy as np

from ..base.values import shown
from ..functional.device import refuse, sent
from . import arguments, windowed
from .arguments import ArgumentError
from .repeated import again, box, checked, delivered, is_scipys_1d, rank_of, whole

__all__ = [
    "maximum_filter",
    "maximum_filter1d",
    "median_filter",
    "minimum_filter",
    "minimum_filter1d",
    "percentile_filter",
    "rank_filter",
]


#: The algorithms of ranks, by the names that a call may ask for.
ALGORITHMS = ("auto", "network", "columns", "ranked")

# -- maxima and minima ---------------------------------------------------------------------------------------


def extremum(
    name: str, input: Any, size: Any, footprint: Any, structure: Any, output: Any, mode: Any, cval: Any, origin: Any,
    axes: Any, channel_axis: Any = None, nan_policy: str = "propagate", mask: Any = None, min_periods: int = 1,
) -> np.ndarray:  # fmt: skip
    """The "max" or "min" of windows, of a non-flat structuring element if `structure` is given: heights that are added,
    or for a minimum subtracted."""
    plain = footprint is None and structure is None and size is not None and output is None and mask is None
    if plain and nan_policy == "propagate" and type(min_periods) is int and min_periods == 1:
        found = again(name, input, size, mode, cval, origin, axes, channel_axis)
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
    given = checked(input, output, nan_policy, mask, min_periods)
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
        window = box(x.ndim, over, sizes, before, modes)
    else:
        window = whole(x.ndim, over, members, origins, modes[:1], heights)
    value = arguments.fill_value(cval)
    if given.periods:
        made = windowed.extremum_of_present(x, window, value, name, given.periods)
        return delivered(made, given, window, result)
    return windowed.extremum(x, result, window, value, name)


def _negative(heights: np.ndarray | None) -> np.ndarray | None:
    return None if heights is None else -heights


def _extremum1d(
    name: str, input: Any, size: Any, axis: Any, output: Any, mode: Any, cval: Any, origin: Any, channel_axis: Any,
    nan_policy: str, mask: Any, min_periods: int,
) -> np.ndarray:  # fmt: skip
    number = arguments.one_axis(axis, np.ndim(input), channel_axis)
    length = arguments.window_size(size)
    arguments.before(length, origin)
    if length == 1 and output is not None:  # not the copy of `maximum_filter`: numbers are converted as elsewhere
        x = checked(input, output, nan_policy, mask, min_periods).image
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


def _ranked(
    which: tuple[str, Any], input: Any, size: Any, footprint: Any, output: Any, mode: Any, cval: Any, origin: Any,
    axes: Any, channel_axis: Any, algorithm: str, nan_policy: str = "propagate", mask: Any = None, min_periods: int = 1,
) -> np.ndarray:  # fmt: skip
    """An element of the sorted windows."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(map(repr, ALGORITHMS))}, got {shown(algorithm)}")
    plain = footprint is None and size is not None and output is None and mask is None and algorithm == "auto"
    if plain and nan_policy == "propagate" and type(min_periods) is int and min_periods == 1:
        found = again("rank", input, size, mode, cval, origin, axes, channel_axis, which)
        if found is not None:
            return found
    if size is not None and footprint is not None:
        warnings.warn("ignoring size because footprint is set", UserWarning, stacklevel=4)
    refuse(f"{which[0]}_filter", input)
    half = np.asarray(input)
    if half.dtype == np.float16 and half.ndim == 1:  # as in SciPy
        result = arguments.result(np.float32 if output is None else output, half.astype(np.float32))
        made = _ranked(which, half.astype(np.float32), size, footprint, result.array, mode, cval, origin, axes,
                       channel_axis, algorithm, nan_policy, mask, min_periods)  # fmt: skip
        return made.astype(np.float16) if output is None else made
    given = checked(input, output, nan_policy, mask, min_periods)
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
    rank = rank_of(which, count)
    value = arguments.fill_value(cval)
    is_end = not given.periods and rank in (0, count - 1) and algorithm == "auto"
    modes = arguments.modes(mode, len(over)) if is_end and members.all() else [arguments.one_mode(mode)] * len(over)
    result = arguments.result(given.output, x)
    window = whole(x.ndim, over, members, origins, modes)
    if given.periods and algorithm not in ("auto", "ranked"):
        raise ValueError(f"algorithm {algorithm!r} cannot do this: only 'ranked' leaves elements out")
    if given.periods:
        made = windowed.median_of_present(x, window, value, given.periods)
        return delivered(made, given, window, result)
    if is_end:
        window = window._replace(whole=not members.all())
        return windowed.extremum(x, result, window, value, "max" if rank else "min")
    if is_scipys_1d(x.ndim, x.shape, members.shape, origins):
        window = window._replace(whole=False)
        value = value if x.dtype.kind == "f" else float(np.trunc(value))
    return windowed.rank(x, result, window, value, rank, algorithm)


def rank_filter(
    input: Any, rank: int, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect",
    cval: float = 0.0, origin: Any = 0, *, axes: Any = None, channel_axis: int | None = None,
    algorithm: str = "auto",
) -> np.ndarray:  # fmt: skip
    """The element of a rank of windows, a drop-in replacement of `scipy.ndimage.rank_filter`.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes, channel_axis
        As in `maximum_filter`; one `mode` only. Of one axis, a footprint counts too (SciPy 1.17 takes all of it).
    rank : int
        0 for the smallest element, -1 for the largest.
    algorithm : {"auto", "network", "columns", "ranked"}
        The fastest; or a selection network in vector registers, for small windows; histograms of columns, for bytes;
        a sliding set of places in the sorted image, for all.

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
    return _ranked(("rank", number), input, size, footprint, output, mode, cval, origin, axes, channel_axis,
                   algorithm)  # fmt: skip


def percentile_filter(
    input: Any, percentile: float, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect",
    cval: float = 0.0, origin: Any = 0, *, axes: Any = None, channel_axis: int | None = None,
    algorithm: str = "auto",
) -> np.ndarray:  # fmt: skip
    """A percentile of windows, a drop-in replacement of `scipy.ndimage.percentile_filter`.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes, channel_axis
        As in `rank_filter`.
    percentile : float
        From 0 to 100, or below 0 counted from 100. There is no interpolation.
    algorithm
        As in `rank_filter`.

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
    return _ranked(("percentile", percentile), input, size, footprint, output, mode, cval, origin, axes, channel_axis,
                   algorithm)  # fmt: skip


def median_filter(
    input: Any, size: Any = None, footprint: Any = None, output: Any = None, mode: Any = "reflect", cval: float = 0.0,
    origin: Any = 0, *, axes: Any = None, channel_axis: int | None = None, nan_policy: str = "propagate",
    mask: Any = None, min_periods: int = 1, algorithm: str = "auto",
) -> np.ndarray:  # fmt: skip
    """The median of windows, a drop-in replacement of `scipy.ndimage.median_filter`.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes, channel_axis
        As in `rank_filter`.
    nan_policy, mask, min_periods
        As in `maximum_filter1d`.
    algorithm
        As in `rank_filter`; elements are left out by "ranked" only.

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
    return _ranked(("median", 0), input, size, footprint, output, mode, cval, origin, axes, channel_axis, algorithm,
                   nan_policy, mask, min_periods)  # fmt: skip
