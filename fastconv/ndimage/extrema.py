"""Maxima and minima of windows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.values import shown
from ..functional.device import sent
from ..typing import Boundaries, Boundary, Device, NanPolicy, Output, PerAxis, like_input
from . import arguments, windowed
from .arguments import ArgumentError
from .repeated import box, checked, delivered, whole

__all__ = ["maximum_filter", "maximum_filter1d", "minimum_filter", "minimum_filter1d"]


def extremum(
    name: str, input: Any, size: Any, footprint: Any, structure: Any, output: Any, mode: Any, cval: Any, origin: Any,
    axes: Any, channel_axis: Any = None, nan_policy: str = "propagate", mask: Any = None, min_periods: int = 1,
    given_origin: Any = None,
) -> np.ndarray:  # fmt: skip
    """The "max" or "min" of windows, of a non-flat structuring element if `structure` is given: heights that are added,
    or for a minimum subtracted. `given_origin` is what the caller gave, if `origin` is turned around."""
    if size is not None and footprint is not None:
        warnings.warn("ignoring size because footprint is set", UserWarning, stacklevel=5)
    heights = members = None
    called, window_given = ("structure", structure) if footprint is None else ("footprint", footprint)
    if structure is not None:
        heights = arguments.heights("structure", structure)
        members = np.ones(heights.shape, bool) if footprint is None else arguments.members("footprint", footprint)
    elif footprint is not None:
        members = arguments.members("footprint", footprint)
        if not members.any():
            raise ValueError("All-zero footprint is not supported: footprint must have an element, got "
                             f"{shown(footprint)}")  # fmt: skip
    elif size is None:
        raise ArgumentError("no footprint provided: size or footprint must be given")
    given = checked(input, output, nan_policy, mask, min_periods)
    x = given.image
    result = arguments.result(given.output, x)
    over = arguments.axes(axes, x.shape, channel_axis)
    if members is not None and heights is None and members.ndim == len(over) and members.all():
        size, members = members.shape, None
    sizes: list[int] = []
    if members is None:
        sizes = arguments.sizes(size, len(over))
        origins = arguments.per_axis("origin", origin, len(over))
        modes = arguments.modes(mode, len(over))
    else:
        arguments.fitting(called, window_given, members.ndim, over, x.shape)
        if 0 in members.shape:
            raise ArgumentError(f"{called} must have an element, got {shown(window_given)}")
        if heights is not None and heights.shape != members.shape:
            raise ArgumentError("structure array has incorrect shape: structure and footprint must have one shape, got "
                                f"{heights.shape} and {members.shape}")  # fmt: skip
        origins, modes = arguments.per_axis("origin", origin, len(over)), [arguments.one_mode(mode)]
    heights = heights if name == "max" else _negative(heights)
    if members is None:
        told = zip(sizes, origins, strict=True)
        before = [arguments.before(one, at, given_origin) if one > 1 else 0 for one, at in told]
        window = box(x.ndim, over, sizes, before, modes)
    else:
        window = whole(x.ndim, over, members, origins, modes[:1], heights, given_origin)
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
    number = arguments.one_axis(axis, arguments.shape(input), channel_axis)
    length = arguments.window_size(size)
    arguments.before(length, origin)
    if length == 1 and output is not None:  # not the copy of `maximum_filter`: numbers are converted as elsewhere
        x = checked(input, output, nan_policy, mask, min_periods).image
        result = arguments.result(output, x)
        windowed.convert(x, result)
        return result.deliver()
    return extremum(name, input, length, None, None, output, mode, cval, origin, (number,), None, nan_policy, mask,
                    min_periods)  # fmt: skip


@like_input
def maximum_filter1d(
    input: ArrayLike, size: int, axis: int = -1, output: Output = None, mode: Boundary = "reflect", cval: float = 0.0,
    origin: int = 0, *, channel_axis: int | None = None, nan_policy: NanPolicy = "propagate",
    mask: ArrayLike | None = None, min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
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


@like_input
def minimum_filter1d(
    input: ArrayLike, size: int, axis: int = -1, output: Output = None, mode: Boundary = "reflect", cval: float = 0.0,
    origin: int = 0, *, channel_axis: int | None = None, nan_policy: NanPolicy = "propagate",
    mask: ArrayLike | None = None, min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
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


@like_input
def maximum_filter(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None, output: Output = None,
    mode: Boundaries = "reflect", cval: float = 0.0, origin: PerAxis = 0, *, axes: PerAxis | None = None,
    channel_axis: int | None = None, nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None,
    min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
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


@like_input
def minimum_filter(
    input: ArrayLike, size: PerAxis | None = None, footprint: ArrayLike | None = None, output: Output = None,
    mode: Boundaries = "reflect", cval: float = 0.0, origin: PerAxis = 0, *, axes: PerAxis | None = None,
    channel_axis: int | None = None, nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None,
    min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
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
