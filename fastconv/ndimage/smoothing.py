"""Gaussian and uniform filters, one pass along each axis."""

from __future__ import annotations

import numbers
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.values import shown
from ..functional.device import sent
from ..typing import Boundaries, Boundary, Device, FilterPrecision, NanPolicy, Numbers, Output, PerAxis, like_input
from . import arguments
from .linear import by_parts, filtered, remembered, settings
from .missing import Given, given
from .sweeps import Line

__all__ = ["gaussian_filter", "gaussian_filter1d", "uniform_filter", "uniform_filter1d"]

#: Smaller standard deviations leave an axis as it is, as in SciPy.
_SMALLEST_SIGMA = 1e-15
#: Limits that no window reaches that has a meaning: polynomials of a higher order leave a float's range, and windows of
#: more elements on each side, times the order, take longer to make than most filters.
_MOST_ORDER, _MOST_REACH = 100, 1 << 20


@lru_cache(maxsize=64)
def gaussian_weights(sigma: float, order: int, radius: int) -> bytes:
    """The window of a Gaussian, or of its derivative of some order: float64, for a correlation.

    A derivative is a polynomial times the Gaussian: q' + q * p' of the derivative before, p' being -x / sigma**2.
    """
    x = np.arange(-radius, radius + 1)
    variance = sigma * sigma
    window = np.exp(-0.5 / variance * x**2)
    window = window / window.sum()
    if order:
        powers = np.arange(order + 1)
        polynomial = np.zeros(order + 1)
        polynomial[0] = 1
        step = np.diag(powers[1:], 1) + np.diag(np.ones(order) / -variance, -1)
        for _ in range(order):
            polynomial = step.dot(polynomial)
        window = (x[:, None] ** powers).dot(polynomial) * window
    return window[::-1].tobytes()


def _gaussian(sigma: Any, order: Any, truncate: Any, radius: Any) -> bytes:
    """The window of one axis, from arguments that are not checked yet."""
    try:
        deviation, order = float(sigma), int(order)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"sigma and order must be numbers, got {shown(sigma)} and {shown(order)}") from None
    if not 0 <= order <= _MOST_ORDER:
        raise ValueError(f"order must be non-negative, and at most {_MOST_ORDER}, got {shown(order)}")
    reach = radius
    if radius is None:
        try:
            reach = int(truncate * deviation + 0.5)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"sigma and truncate must be finite, got {shown(sigma)} and {shown(truncate)}") from None
    if not isinstance(reach, numbers.Integral) or reach < 0:
        raise ValueError("Radius must be a nonnegative integer: radius, or truncate * sigma, must not be negative, got "
                         f"radius {shown(radius)}, truncate {shown(truncate)}, sigma {shown(sigma)}")  # fmt: skip
    if int(reach) * max(order, 1) > _MOST_REACH:
        told = f"radius {shown(radius)}, truncate {shown(truncate)}, sigma {shown(sigma)}, order {order}"
        raise ValueError(f"radius, or truncate * sigma, times order must be at most {_MOST_REACH}, got {told}")
    if deviation == 0:
        raise ValueError(f"sigma must not be zero along a single axis, got {shown(sigma)}")
    return gaussian_weights(deviation, order, int(reach))


@like_input
def gaussian_filter1d(
    input: ArrayLike, sigma: float, axis: int = -1, order: int = 0, output: Output = None, mode: Boundary = "reflect",
    cval: float = 0.0, truncate: float = 4.0, *, radius: int | None = None, channel_axis: int | None = None,
    saturate: bool = False, precision: FilterPrecision | None = None, nan_policy: NanPolicy = "propagate",
    mask: ArrayLike | None = None, min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Gaussian smoothing along one axis, a drop-in replacement of `scipy.ndimage.gaussian_filter1d`.

    Parameters
    ----------
    input, axis, output, mode, cval, channel_axis, saturate, precision, nan_policy, mask, min_periods, device
        As in `correlate1d`.
    sigma : float
        Standard deviation, in elements.
    order : int
        0 smooths; 1, 2, ... correlate with that derivative of a Gaussian.
    truncate : float
        The window ends so many standard deviations from its middle, rounded.
    radius : int, optional
        The window's elements on each side of its middle, in place of `truncate`; at most 2**20, divided by `order`.

    Returns
    -------
    ndarray
        As from `correlate1d`.

    Raises
    ------
    ValueError, TypeError
        As `correlate1d`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.gaussian_filter1d([1.0, 2.0, 3.0, 4.0, 5.0], 1).round(4)
    array([1.427 , 2.0678, 3.    , 3.9322, 4.573 ])
    """
    this = given(sent(input, device), output, nan_policy, mask, min_periods)
    along = (arguments.one_axis(axis, this.image.shape, channel_axis),)
    lines = remembered(_gaussians, along, sigma, order, mode, radius, truncate, True)
    return _passes(this, lines, cval, saturate, precision)


@like_input
def gaussian_filter(
    input: ArrayLike, sigma: Numbers, order: PerAxis = 0, output: Output = None, mode: Boundaries = "reflect",
    cval: float = 0.0, truncate: float = 4.0, *, radius: PerAxis | None = None, axes: PerAxis | None = None,
    channel_axis: int | None = None, saturate: bool = False, precision: FilterPrecision | None = None,
    nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None, min_periods: int = 1,
    device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Gaussian smoothing, a drop-in replacement of `scipy.ndimage.gaussian_filter`.

    Parameters
    ----------
    input, output, cval, saturate, precision, nan_policy, mask, min_periods, device
        As in `correlate1d`.
    sigma, order, mode, radius : one value, or a sequence of one for each axis
        As in `gaussian_filter1d`. An axis whose `sigma` is 0 is left as it is.
    truncate : float
        As in `gaussian_filter1d`.
    axes : tuple of ints, optional
        The axes that are smoothed, in this order, by default all.
    channel_axis : int, optional
        The one axis that is not.

    Returns
    -------
    ndarray
        As from `correlate1d`. An integer result is stored as such after each pass, as in SciPy, but with `saturate`.

    Raises
    ------
    ValueError, TypeError
        As `correlate1d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> image = np.zeros((3, 3)); image[1, 1] = 1
    >>> ndimage.gaussian_filter(image, 0.5, mode="constant").round(3)
    array([[0.011, 0.084, 0.011],
           [0.084, 0.619, 0.084],
           [0.011, 0.084, 0.011]])
    """
    this = given(sent(input, device), output, nan_policy, mask, min_periods)
    along = arguments.axes(axes, this.image.shape, channel_axis)
    lines = remembered(_gaussians, along, sigma, order, mode, radius, truncate, False)
    return _passes(this, lines, cval, saturate, precision)


@lru_cache(maxsize=1024, typed=True)
def _gaussians(
    axes: tuple[int, ...], sigma: Any, order: Any, mode: Any, radius: Any, truncate: Any, every: bool
) -> tuple[Line, ...]:  # fmt: skip
    """The passes along every axis, or those whose `sigma` is not 0."""
    sigmas, *others = (arguments.per_axis(name, value, len(axes)) for name, value in (
        ("sigma", sigma), ("order", order), ("mode", mode), ("radius", radius)))  # fmt: skip
    lines = []
    for axis, one, order, mode, radius in zip(axes, sigmas, *others, strict=True):
        if every or arguments.number("sigma", one) > _SMALLEST_SIGMA:
            weights = _gaussian(one, order, truncate, radius)
            lines.append(Line(axis, len(weights) // 16, arguments.mode(mode), weights))
    return tuple(lines)


def _passes(this: Given, lines: tuple[Line, ...], cval: Any, saturate: Any, precision: Any) -> np.ndarray:
    """The passes of real numbers, or of the parts of complex ones."""
    if this.image.dtype.kind != "c":
        return filtered(this, lines, settings(cval, saturate, precision, this.periods))

    def of_real(part: Any, weights: Any, output: Any, cval: Any) -> np.ndarray:
        return filtered(Given(part, 0, output), lines, settings(cval, saturate, precision))

    return by_parts(of_real, this.image, np.ones(0), this.output, cval, {})


@like_input
def uniform_filter1d(
    input: ArrayLike, size: int, axis: int = -1, output: Output = None, mode: Boundary = "reflect", cval: float = 0.0,
    origin: int = 0, *, channel_axis: int | None = None, saturate: bool = False,
    precision: FilterPrecision | None = None, nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None,
    min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Means of a window along one axis, a drop-in replacement of `scipy.ndimage.uniform_filter1d`.

    Parameters
    ----------
    input, axis, output, mode, cval, origin, channel_axis, saturate, precision, nan_policy, mask, min_periods, device
        As in `correlate1d`.
    size : int
        Elements of the window.

    Returns
    -------
    ndarray
        As from `correlate1d`.

    Raises
    ------
    ValueError, TypeError
        As `correlate1d`.

    Notes
    -----
    Sums of parts of a window are shared by all windows that have the part; nothing is subtracted, so that neither a NaN
    nor a rounding error reaches windows that do not see its element.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    this = given(sent(input, device), output, nan_policy, mask, min_periods)
    along = (arguments.one_axis(axis, this.image.shape, channel_axis),)
    lines = remembered(_uniforms, along, size, origin, mode, True)
    return _passes(this, lines, cval, saturate, precision)


@like_input
def uniform_filter(
    input: ArrayLike, size: PerAxis = 3, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None, saturate: bool = False,
    precision: FilterPrecision | None = None, nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None,
    min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Means of windows, a drop-in replacement of `scipy.ndimage.uniform_filter`.

    Parameters
    ----------
    input, output, cval, saturate, precision, nan_policy, mask, min_periods, device
        As in `correlate1d`.
    size, mode, origin : one value, or a sequence of one for each axis
        As in `uniform_filter1d`.
    axes : tuple of ints, optional
        The axes that the window moves along, in this order, by default all.
    channel_axis : int, optional
        The one axis that it does not move along.

    Returns
    -------
    ndarray
        As from `correlate1d`. An integer result is stored as such after each pass, as in SciPy, but with `saturate`.

    Raises
    ------
    ValueError, TypeError
        As `correlate1d`.

    Notes
    -----
    As `uniform_filter1d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.uniform_filter(np.array([[0, 0, 0], [0, 9, 0], [0, 0, 0]]), mode="constant")
    array([[1, 1, 1],
           [1, 1, 1],
           [1, 1, 1]])
    """
    this = given(sent(input, device), output, nan_policy, mask, min_periods)
    along = arguments.axes(axes, this.image.shape, channel_axis)
    lines = remembered(_uniforms, along, size, origin, mode, False)
    return _passes(this, lines, cval, saturate, precision)


@lru_cache(maxsize=1024, typed=True)
def _uniforms(axes: tuple[int, ...], size: Any, origin: Any, mode: Any, every: bool) -> tuple[Line, ...]:
    """The passes along every axis, or those whose windows have more than one element."""
    sizes, *others = (arguments.per_axis(name, value, len(axes))
                      for name, value in (("size", size), ("origin", origin), ("mode", mode)))  # fmt: skip
    lines = []
    for axis, taps, origin, mode in zip(axes, sizes, *others, strict=True):
        if every or arguments.number("size", taps) > 1:
            number = arguments.window_size(taps)
            lines.append(Line(axis, arguments.before(number, origin), arguments.mode(mode), b"", number))
    return tuple(lines)
