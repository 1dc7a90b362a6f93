"""Medians and other order statistics of windows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.values import shown
from ..functional.device import refuse
from ..specs.arrays import as_array
from ..typing import Boundaries, NanPolicy, Output, PerAxis, RankAlgorithm, like_input
from . import arguments, windowed
from .arguments import ArgumentError
from .repeated import checked, delivered, is_scipys_1d, rank_of, whole

__all__ = ["median_filter", "percentile_filter", "rank_filter"]


#: The algorithms of ranks, by the names that a call may ask for.
ALGORITHMS = ("auto", "network", "columns", "ranked")


def _ranked(
    which: tuple[str, Any], input: Any, size: Any, footprint: Any, output: Any, mode: Any, cval: Any, origin: Any,
    axes: Any, channel_axis: Any, algorithm: str, nan_policy: str = "propagate", mask: Any = None, min_periods: int = 1,
) -> np.ndarray:  # fmt: skip
    """An element of the sorted windows."""
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(map(repr, ALGORITHMS))}, got {shown(algorithm)}")
    if size is not None and footprint is not None:
        warnings.warn("ignoring size because footprint is set", UserWarning, stacklevel=5)
    refuse(f"{which[0]}_filter", input)
    half = np.asarray(input) if isinstance(input, np.ndarray) else as_array("input", input)
    if half.dtype == np.float16 and half.ndim == 1:  # as in SciPy
        result = arguments.result(np.float32 if output is None else output, half.astype(np.float32))
        made = _ranked(which, half.astype(np.float32), size, footprint, result.array, mode, cval, origin, axes,
                       channel_axis, algorithm, nan_policy, mask, min_periods)  # fmt: skip
        return made.astype(np.float16) if output is None else made
    given = checked(input, output, nan_policy, mask, min_periods)
    x = given.image
    over = arguments.axes(axes, x.shape, channel_axis)
    if footprint is None:
        if size is None:
            raise ArgumentError("no footprint or filter size provided")
        members = np.ones(arguments.sizes(size, len(over), whole=True), bool)
    else:
        members = arguments.members("footprint", footprint)
        arguments.fitting("footprint", footprint, members.ndim, over, x.shape)
        if 0 in members.shape:
            raise ArgumentError(f"footprint must have an element, got {shown(footprint)}")
    origins = arguments.per_axis("origin", origin, len(over))
    count = int(members.sum())
    try:
        rank = rank_of(which, count)
    except ArgumentError as error:
        of = f"size {shown(size)}" if footprint is None else "a footprint"
        raise ArgumentError(f"{error}, of {of} along axes {shown(axes)} of input of shape {x.shape}") from None
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


@like_input
def rank_filter(
    input: ArrayLike, rank: int, size: PerAxis | None = None, footprint: ArrayLike | None = None, output: Output = None,
    mode: Boundaries = "reflect", cval: float = 0.0, origin: PerAxis = 0, *, axes: PerAxis | None = None,
    channel_axis: int | None = None, algorithm: RankAlgorithm = "auto",
) -> NDArray[Any]:  # fmt: skip
    """The element of a rank of windows, a drop-in replacement of `scipy.ndimage.rank_filter`.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes, channel_axis
        As in `maximum_filter`; one `mode` only, and `size` for at most 2**22 elements. Of one axis, a footprint counts
        too (SciPy 1.17 takes all of it).
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
    which = "rank", arguments.index("rank", rank)
    return _ranked(which, input, size, footprint, output, mode, cval, origin, axes, channel_axis, algorithm)


@like_input
def percentile_filter(
    input: ArrayLike, percentile: float, size: PerAxis | None = None, footprint: ArrayLike | None = None,
    output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0, origin: PerAxis = 0, *,
    axes: PerAxis | None = None, channel_axis: int | None = None, algorithm: RankAlgorithm = "auto",
) -> NDArray[Any]:  # fmt: skip
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
    number = arguments.number("percentile", percentile)
    percentile = percentile if isinstance(percentile, int | float | np.floating) else number
    return _ranked(("percentile", percentile), input, size, footprint, output, mode, cval, origin, axes, channel_axis,
                   algorithm)  # fmt: skip


@like_input
def median_filter(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None, output: Output = None,
    mode: Boundaries = "reflect", cval: float = 0.0, origin: PerAxis = 0, *, axes: PerAxis | None = None,
    channel_axis: int | None = None, nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None,
    min_periods: int = 1, algorithm: RankAlgorithm = "auto",
) -> NDArray[Any]:  # fmt: skip
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
