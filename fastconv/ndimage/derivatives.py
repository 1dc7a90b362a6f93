"""Derivatives of images: gradients, their magnitude, and sums of second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.values import shown
from ..functional.device import elsewhere, sent
from ..specs.filters import Axis
from ..typing import Boundaries, Device, FilterPrecision, GaussianOptions, Numbers, Output, PerAxis, like_input
from . import arguments
from .linear import by_parts, correlate1d, settings
from .smoothing import gaussian_filter
from .sweeps import Line, dense, separable

__all__ = [
    "gaussian_gradient_magnitude", "gaussian_laplace", "generic_gradient_magnitude", "generic_laplace", "laplace",
    "prewitt", "sobel",
]  # fmt: skip

_DIFFERENCE = np.array([-1.0, 0, 1]).tobytes()
_SMOOTH = {"prewitt": np.ones(3).tobytes(), "sobel": np.array([1.0, 2, 1]).tobytes()}


@like_input
def sobel(
    input: ArrayLike, axis: int = -1, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0, *,
    axes: PerAxis | None = None, channel_axis: int | None = None, saturate: bool = False,
    precision: FilterPrecision | None = None, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The Sobel gradient along one axis, a drop-in replacement of `scipy.ndimage.sobel`.

    Parameters
    ----------
    input, output, mode, cval, channel_axis, saturate, precision, device
        As in `correlate1d`; `mode` also one for each axis.
    axis : int
        The axis of the difference [-1, 0, 1]; along the others the window is [1, 2, 1].
    axes : tuple of ints, optional
        All axes that there is a pass along, `axis` among them; by default all.

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
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.sobel(np.array([[0, 0, 1, 1], [0, 0, 1, 1]]))
    array([[0, 4, 4, 0],
           [0, 4, 4, 0]])
    """
    return _gradient("sobel", sent(input, device), axis, output, mode, cval, axes, channel_axis, saturate, precision)


@like_input
def prewitt(
    input: ArrayLike, axis: int = -1, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0, *,
    axes: PerAxis | None = None, channel_axis: int | None = None, saturate: bool = False,
    precision: FilterPrecision | None = None, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The Prewitt gradient along one axis, a drop-in replacement of `scipy.ndimage.prewitt`.

    Parameters
    ----------
    input, axis, output, mode, cval, axes, channel_axis, saturate, precision, device
        As in `sobel`, with the window [1, 1, 1] in place of [1, 2, 1].

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
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.prewitt(np.array([[0, 0, 1, 1], [0, 0, 1, 1]]))
    array([[0, 3, 3, 0],
           [0, 3, 3, 0]])
    """
    return _gradient("prewitt", sent(input, device), axis, output, mode, cval, axes, channel_axis, saturate, precision)


def _gradient(
    name: str, input: Any, axis: Any, output: Any, mode: Any, cval: Any, axes: Any, channel_axis: Any, saturate: Any,
    precision: Any,
) -> np.ndarray:  # fmt: skip
    image = arguments.image(input, complex_too=True)
    if image.dtype.kind == "c":

        def of_real(part: Any, weights: Any, output: Any, cval: Any) -> np.ndarray:
            return _gradient(name, part, axis, output, mode, cval, axes, channel_axis, saturate, precision)

        return by_parts(of_real, image, np.ones(0), output, cval, {})
    along = arguments.axes(axes, image.shape, channel_axis)
    first = arguments.one_axis(axis, image.shape, channel_axis)
    if first not in along:
        raise ValueError(f"axis must be one of axes, got {shown(axis)} and {shown(axes)}, input of shape {image.shape}")
    modes = dict(zip(along, arguments.modes(mode, len(along)), strict=True))
    lines = [Line(first, 1, modes[first], _DIFFERENCE)]
    lines += [Line(other, 1, modes[other], _SMOOTH[name]) for other in along if other != first]
    return separable(image, arguments.result(output, image), tuple(lines), settings(cval, saturate, precision))


@like_input
def laplace(
    input: ArrayLike, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0, *,
    axes: PerAxis | None = None, channel_axis: int | None = None, saturate: bool = False,
    precision: FilterPrecision | None = None, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The sum of second differences along all axes, a drop-in replacement of `scipy.ndimage.laplace`.

    Parameters
    ----------
    input, output, mode, cval, axes, channel_axis, saturate, precision, device
        As in `sobel`.

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
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.laplace(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]))
    array([[ 0,  1,  0],
           [ 1, -4,  1],
           [ 0,  1,  0]])
    """
    image = arguments.image(sent(input, device), complex_too=True)
    along = arguments.axes(axes, image.shape, channel_axis)
    modes = arguments.per_axis("mode", mode, len(along))
    result = None if image.dtype.kind in "bc" else arguments.result(output, image)
    # Integers of SciPy's passes wrap around one by one; all at once gives the same unless a pass leaves what casts
    # keep.
    if result is not None and along and (image.dtype.kind == "f" or image.dtype.itemsize <= 2 or saturate):
        told = settings(cval, saturate, precision)
        if result.target.dtype.kind in "iuf" and not (image.dtype.kind != "f" and told.cval != int(told.cval)):
            order = sorted(range(len(along)), key=along.__getitem__)
            windows = tuple(Axis(along[one], 3, 1, arguments.mode(modes[one])) for one in order)
            weights = np.zeros((3,) * len(along))
            for number in range(len(along)):
                line: list[Any] = [1] * len(along)
                line[number] = slice(None)
                weights[tuple(line)] += [1, -2, 1]
            return dense(image, result, windows, weights.tobytes(), told)

    def second(given: Any, axis: int, output: Any, mode: Any, cval: Any) -> np.ndarray:
        return correlate1d(given, [1, -2, 1], axis, output, mode, cval, saturate=saturate, precision=precision)

    return generic_laplace(image, second, output, modes, cval, axes=along)


@like_input
def gaussian_laplace(
    input: ArrayLike, sigma: Numbers, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0, *,
    axes: PerAxis | None = None, channel_axis: int | None = None, **kwargs: Unpack[GaussianOptions],
) -> NDArray[Any]:  # fmt: skip
    """The sum of second derivatives of a Gaussian, a drop-in replacement of `scipy.ndimage.gaussian_laplace`.

    Parameters
    ----------
    input, sigma, output, mode, cval, axes, channel_axis
        As in `gaussian_filter`.
    **kwargs
        Further arguments of `gaussian_filter`.

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
    Values of `sigma` are those of `axes`, in their order. SciPy 1.17 documents that, but takes them in the image's
    order where all its axes are named in another one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.gaussian_laplace(np.eye(3), 1).round(2)
    array([[-0.38,  0.04,  0.35],
           [ 0.04, -0.07,  0.04],
           [ 0.35,  0.04, -0.38]])
    """
    return _gaussian_derivatives(generic_laplace, 2, input, sigma, output, mode, cval, axes, channel_axis, kwargs)


@like_input
def gaussian_gradient_magnitude(
    input: ArrayLike, sigma: Numbers, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0, *,
    axes: PerAxis | None = None, channel_axis: int | None = None, **kwargs: Unpack[GaussianOptions],
) -> NDArray[Any]:  # fmt: skip
    """The length of a Gaussian's gradient, a drop-in replacement of `scipy.ndimage.gaussian_gradient_magnitude`.

    Parameters
    ----------
    input, sigma, output, mode, cval, axes, channel_axis
        As in `gaussian_filter`.
    **kwargs
        Further arguments of `gaussian_filter`.

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
    Smooths along `axes` only, as SciPy documents; SciPy 1.17 smooths along all.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.gaussian_gradient_magnitude(np.eye(3), 1).round(2)
    array([[0.15, 0.2 , 0.13],
           [0.2 , 0.  , 0.2 ],
           [0.13, 0.2 , 0.15]])
    """
    return _gaussian_derivatives(
        generic_gradient_magnitude, 1, input, sigma, output, mode, cval, axes, channel_axis, kwargs
    )


def _gaussian_derivatives(
    combine: Callable[..., np.ndarray], order: int, input: Any, sigma: Any, output: Any, mode: Any, cval: Any,
    axes: Any, channel_axis: Any, kwargs: GaussianOptions,
) -> np.ndarray:  # fmt: skip
    image = arguments.image(input, complex_too=True)
    along = arguments.axes(axes, image.shape, channel_axis)
    sigmas: list[Any] = [0] * image.ndim
    for axis, one in zip(along, arguments.per_axis("sigma", sigma, len(along)), strict=True):
        sigmas[axis] = one

    def derivative(given: Any, axis: int, output: Any, mode: Any, cval: Any) -> np.ndarray:
        orders = [0] * image.ndim
        orders[axis] = order
        return gaussian_filter(given, sigmas, orders, output, mode, cval, **kwargs)

    return combine(image, derivative, output, mode, cval, axes=along)


@like_input
def generic_laplace(
    input: ArrayLike, derivative2: Callable[..., np.ndarray], output: Output = None, mode: Boundaries = "reflect",
    cval: float = 0.0, extra_arguments: Sequence[Any] = (), extra_keywords: Mapping[str, Any] | None = None, *,
    axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The sum of second derivatives by a function, a drop-in replacement of `scipy.ndimage.generic_laplace`.

    Parameters
    ----------
    input, output, mode, cval, axes, channel_axis
        As in `sobel`.
    derivative2 : callable
        ``derivative2(input, axis, output, mode, cval, *extra_arguments, **extra_keywords)``, where `output` is an array
        or a dtype; what it returns is added to.
    extra_arguments, extra_keywords
        Further arguments of `derivative2`.

    Returns
    -------
    ndarray
        As large as `input`.

    Raises
    ------
    ValueError, TypeError
        As `correlate1d`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> def second(image, axis, output, mode, cval):
    ...     return ndimage.correlate1d(image, [1, -2, 1], axis, output, mode, cval)
    >>> ndimage.generic_laplace([0.0, 0, 1, 0, 0], second)
    array([ 0.,  1., -2.,  1.,  0.])
    """
    return _combined(_added, "derivative2", input, derivative2, output, mode, cval, extra_arguments, extra_keywords,
                     axes, channel_axis)  # fmt: skip


@like_input
def generic_gradient_magnitude(
    input: ArrayLike, derivative: Callable[..., np.ndarray], output: Output = None, mode: Boundaries = "reflect",
    cval: float = 0.0, extra_arguments: Sequence[Any] = (), extra_keywords: Mapping[str, Any] | None = None, *,
    axes: PerAxis | None = None, channel_axis: int | None = None,
) -> NDArray[Any]:  # fmt: skip
    """The length of a gradient by a function, a drop-in replacement of `scipy.ndimage.generic_gradient_magnitude`.

    Parameters
    ----------
    input, output, mode, cval, axes, channel_axis
        As in `sobel`.
    derivative : callable
        As `derivative2` of `generic_laplace`; what it returns is changed.
    extra_arguments, extra_keywords
        Further arguments of `derivative`.

    Returns
    -------
    ndarray
        As large as `input`.

    Raises
    ------
    ValueError, TypeError
        As `correlate1d`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.generic_gradient_magnitude([0.0, 0, 1, 0, 0], ndimage.sobel)
    array([0., 1., 0., 1., 0.])
    """
    return _combined(_squares_added, "derivative", input, derivative, output, mode, cval, extra_arguments,
                     extra_keywords, axes, channel_axis)  # fmt: skip


def _combined(
    combine: Callable[..., None], name: str, input: Any, derivative: Callable[..., np.ndarray], output: Any, mode: Any,
    cval: Any, extra_arguments: Any, extra_keywords: Any, axes: Any, channel_axis: Any,
) -> np.ndarray:  # fmt: skip
    image = arguments.image(input, complex_too=True)
    along = arguments.axes(axes, image.shape, channel_axis)
    if not callable(derivative):
        raise TypeError(f"{name} must be a function, got {shown(derivative)}")
    if not isinstance(extra_arguments, tuple | list):
        raise TypeError(f"extra_arguments must be a tuple, got {shown(extra_arguments)}")
    more = {} if extra_keywords is None else extra_keywords
    if not isinstance(more, dict) or not all(isinstance(one, str) for one in more):
        raise TypeError(f"extra_keywords must be a dict with names, got {shown(extra_keywords)}")
    arguments.modes(mode, len(along))
    result = arguments.result(output, image)
    target = result.target
    modes = arguments.per_axis("mode", mode, len(along))
    if elsewhere(image) is not None:
        each = zip(along, modes, strict=True)
        parts = [derivative(image.array, axis, result.dtype, one, cval, *extra_arguments, **more) for axis, one in each]
        result.combine(parts or [image], bool(parts) and combine is _squares_added)
        return result.deliver()
    if not along:
        target[...] = image
        return result.deliver()
    for number, (axis, one) in enumerate(zip(along, modes, strict=True)):
        goal = target if number == 0 else target.dtype
        combine(target, derivative(image, axis, goal, one, cval, *extra_arguments, **more), number + 1 == len(along))
    return result.deliver()


def _added(target: np.ndarray, part: np.ndarray, last: bool) -> None:
    if part is not target:
        target += part


def _squares_added(target: np.ndarray, part: np.ndarray, last: bool) -> None:
    np.multiply(part, part, part)
    if part is not target:
        target += part
    if last:
        np.sqrt(target, target, casting="unsafe")
