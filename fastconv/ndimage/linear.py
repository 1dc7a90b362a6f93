"""Correlation and convolution with any weights: `correlate`, `convolve`, and along one axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.values import shown
from ..functional.device import refuse, sent
from ..specs.arrays import as_array
from ..specs.filters import Axis
from ..typing import Boundary, Device, FilterPrecision, NanPolicy, Output, PerAxis, like_input
from . import arguments
from .arguments import ArgumentError
from .missing import Given, given
from .sweeps import Line, Settings, counted, dense, separable

__all__ = ["convolve", "convolve1d", "correlate", "correlate1d"]

#: How float32 is computed.
_PRECISIONS = {None: False, "single": False, "double": True}
_EPS = float(np.finfo(np.float64).eps)


def settings(cval: Any, saturate: Any, precision: Any, periods: int = 0) -> Settings:
    """What filters are told beside their windows."""
    if not (precision is None or isinstance(precision, str)) or precision not in _PRECISIONS:
        raise ValueError(f"precision must be None, 'single' or 'double', got {shown(precision)}")
    if saturate is not False and saturate is not True:
        raise TypeError(f"saturate must be True or False, got {shown(saturate)}")
    if type(cval) is not float:
        cval = arguments.fill_value(cval)
    return Settings(cval, "saturate" if saturate else "cast", _PRECISIONS[precision], periods)


@like_input
def correlate1d(
    input: ArrayLike, weights: ArrayLike, axis: int = -1, output: Output = None, mode: Boundary = "reflect",
    cval: float = 0.0, origin: int = 0, *, channel_axis: int | None = None, saturate: bool = False,
    precision: FilterPrecision | None = None, nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None,
    min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Correlation along one axis, a drop-in replacement of `scipy.ndimage.correlate1d`.

    Parameters
    ----------
    input : array_like, any shape
        The image: bool, integers, float32, float64 or complex numbers; any strides and byte order. It is never changed.
    weights : array_like, shape (K,)
        The window, of any size.
    axis : int
        The axis that it moves along.
    output : array or dtype, optional
        Where the result goes, which may overlap `input`; or its dtype, by default that of `input`.
    mode : str
        What lies outside: "reflect" (or "grid-mirror"), "constant" ("grid-constant"), "nearest", "mirror" or "wrap"
        ("grid-wrap"), for windows of any size.
    cval : float
        The value outside for "constant".
    origin : int
        Shifts the window: by 1, each output sees one element more before it.
    channel_axis : int, optional
        The axis of the channels, without which `axis` is counted.
    saturate : bool
        Whether an integer result is rounded, half to even, and cut off at the limits of its dtype. Otherwise its
        fraction is cut off, and it wraps around, as in SciPy.
    precision : {None, "single", "double"}
        "double" computes float32 in float64, as SciPy does.
    nan_policy : {"propagate", "omit", "raise"}
        Whether a NaN makes all results NaN that see it, is left out, or is refused. What is left out has no weight: the
        sum is multiplied by that of all weights, and divided by that of those left.
    mask : array_like of bool, optional
        Elements that are left out are True; a masked array has a mask of its own.
    min_periods : int
        A result is NaN if its window has fewer elements that are there and have a weight.
    device : {None, "cpu", "cuda"}
        "cuda" takes a NumPy array to a GPU and back. None: where `input` is.

    Returns
    -------
    ndarray
        As large as `input`, of its dtype unless `output` says otherwise; float64 if elements of integers are left out.

    Raises
    ------
    ValueError, TypeError
        If an argument is none of those above. Where SciPy raises a RuntimeError, it is one, too.

    Notes
    -----
    Integers equal SciPy's; those of 64 bits are exact where weights are whole numbers, modulo 2**64, also beyond 2**53,
    where SciPy's are rounded. float32 is computed in float32, or in float64 by transforms: a result is within 2 units
    in the last place of the window's sum of ``abs(weight * element)``, a mean within 2.5. float64 is rounded in another
    order than SciPy's. A NaN touches those outputs that see it. Of a window more than four times as long as its axis,
    weights of one element are added up first; of integers, or of weights whose signs differ, only if it has more than
    4096: then a fraction may be cut off on the other side of a whole number than in SciPy.

    Source: the documentation of `scipy.ndimage.correlate1d`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    told = {
        "axis": axis, "mode": mode, "origin": origin, "channel_axis": channel_axis, "saturate": saturate,
        "precision": precision, "nan_policy": nan_policy, "mask": mask, "min_periods": min_periods,
    }  # fmt: skip
    return _along(correlate1d, sent(input, device), given_weights(weights, 1), output, cval, told)


@like_input
def convolve1d(
    input: ArrayLike, weights: ArrayLike, axis: int = -1, output: Output = None, mode: Boundary = "reflect",
    cval: float = 0.0, origin: int = 0, *, channel_axis: int | None = None, saturate: bool = False,
    precision: FilterPrecision | None = None, nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None,
    min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Convolution along one axis, a drop-in replacement of `scipy.ndimage.convolve1d`.

    Parameters
    ----------
    input, weights, axis, output, mode, cval, origin, channel_axis, saturate, precision, nan_policy, mask,
    min_periods, device
        As in `correlate1d`; the window is turned round, and `origin` shifts it the other way.

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
    >>> ndimage.convolve1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    """
    weights = given_weights(weights, 1)[::-1]
    if weights.dtype.kind == "c":
        weights = weights.conj()
    arguments.before(weights.size, origin, turned=True)
    origin = arguments.mirrored(weights.size, origin)
    told = {
        "axis": axis, "mode": mode, "origin": origin, "channel_axis": channel_axis, "saturate": saturate,
        "precision": precision, "nan_policy": nan_policy, "mask": mask, "min_periods": min_periods,
    }  # fmt: skip
    return _along(correlate1d, sent(input, device), weights, output, cval, told)


def _along(function: Any, value: Any, weights: np.ndarray, output: Any, cval: Any, told: dict[str, Any]) -> np.ndarray:
    """`correlate1d`; of complex numbers by parts."""
    this = given(value, output, told["nan_policy"], told["mask"], told["min_periods"])
    image = this.image
    if image.dtype.kind == "c" or weights.dtype.kind == "c":
        if weights.dtype.kind == "c":
            weights = weights.conj().astype(np.complex128, copy=False)
        return by_parts(function, image, weights, output, cval, told)
    window = window_of(weights)
    line = Line(
        arguments.one_axis(told["axis"], image.shape, told["channel_axis"]),
        arguments.before(window.size, told["origin"]),
        arguments.mode(told["mode"]),
        window.tobytes(),
    )
    return filtered(this, (line,), settings(cval, told["saturate"], told["precision"], this.periods))


def filtered(this: Given, lines: tuple[Line, ...], told: Settings) -> np.ndarray:
    """Passes along axes, of what is there of an image."""
    found = separable(this.image, arguments.result(this.output, this.image), lines, told)
    if this.propagating is None:
        return found

    def counts(ones: np.ndarray) -> np.ndarray:
        return separable(ones, arguments.result(None, ones), tuple(map(counted, lines)), Settings())

    return this.spread(found, counts)


def given_weights(weights: Any, ndim: int | None = None) -> np.ndarray:
    """Weights as an array of numbers, which are not on a GPU, of an element at least, and with so many axes."""
    refuse("weights of a filter", weights, "weights")
    array = as_array("weights", weights)
    if array.dtype.kind not in "biufc":
        try:
            if array.dtype.kind != "O":
                raise TypeError(f"their dtype is {array.dtype}")
            array = array.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"weights must be real numbers or complex ones: {error}, got {shown(weights)}") from None
    if not array.size or ndim not in (None, array.ndim):
        axes = "" if ndim is None else f", and have {ndim} axis"
        raise ArgumentError(f"no filter weights given: weights must not be empty{axes}, got {shown(weights)}")
    return array


def window_of(weights: np.ndarray) -> np.ndarray:
    """Weights as a contiguous array of float64."""
    if weights.dtype.kind == "c":
        raise TypeError(f"weights must be real numbers, got {shown(weights)}")
    return np.ascontiguousarray(weights, np.float64) if weights.ndim else weights.astype(np.float64)


@like_input
def correlate(
    input: ArrayLike, weights: ArrayLike, output: Output = None, mode: Boundary = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None, saturate: bool = False,
    precision: FilterPrecision | None = None, nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None,
    min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Correlation along several axes, a drop-in replacement of `scipy.ndimage.correlate`.

    Parameters
    ----------
    input, output, mode, cval, saturate, precision, nan_policy, mask, min_periods, device
        As in `correlate1d`.
    weights : array_like
        The window, with as many axes as it moves along.
    origin : int or sequence of ints
        As in `correlate1d`, for all axes or each.
    axes : tuple of ints, optional
        The axes that the window moves along, by default all.
    channel_axis : int, optional
        The one axis that it does not move along.

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
    A window that is an outer product is applied in two passes where that keeps the promise of `correlate1d`. As in
    SciPy, weights of at most 2**-52 are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.correlate(np.eye(3, dtype=np.uint8), [[1, 1, 1], [1, 0, 1], [1, 1, 1]], mode="constant")
    array([[1, 2, 1],
           [2, 2, 2],
           [1, 2, 1]], dtype=uint8)
    """
    told = {
        "mode": mode, "origin": origin, "axes": axes, "channel_axis": channel_axis, "saturate": saturate,
        "precision": precision, "nan_policy": nan_policy, "mask": mask, "min_periods": min_periods,
    }  # fmt: skip
    return _over(correlate, sent(input, device), weights, output, cval, told, False)


@like_input
def convolve(
    input: ArrayLike, weights: ArrayLike, output: Output = None, mode: Boundary = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None, saturate: bool = False,
    precision: FilterPrecision | None = None, nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None,
    min_periods: int = 1, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Convolution along several axes, a drop-in replacement of `scipy.ndimage.convolve`.

    Parameters
    ----------
    input, weights, output, mode, cval, origin, axes, channel_axis, saturate, precision, nan_policy, mask,
    min_periods, device
        As in `correlate`; the window is turned round, and `origin` shifts it the other way.

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
    >>> ndimage.convolve([[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    array([[1, 2, 3],
           [4, 5, 6],
           [7, 8, 9]])
    """
    told = {
        "mode": mode, "origin": origin, "axes": axes, "channel_axis": channel_axis, "saturate": saturate,
        "precision": precision, "nan_policy": nan_policy, "mask": mask, "min_periods": min_periods,
    }  # fmt: skip
    return _over(convolve, sent(input, device), weights, output, cval, told, True)


def _over(
    function: Any, value: Any, given_: Any, output: Any, cval: Any, told: dict[str, Any], turned: bool
) -> np.ndarray:  # fmt: skip
    weights = given_weights(given_)
    this = given(value, output, told["nan_policy"], told["mask"], told["min_periods"])
    image = this.image
    axes = arguments.axes(told["axes"], image.shape, told["channel_axis"])
    if weights.ndim != len(axes):
        raise ArgumentError(f"weights.ndim ({weights.ndim}) must match len(axes) ({len(axes)}), got {shown(given_)}, "
                            f"input of shape {image.shape}, axes={shown(told['axes'])}, "
                            f"channel_axis={shown(told['channel_axis'])}")  # fmt: skip
    if image.dtype.kind == "c" or weights.dtype.kind == "c":
        weights = weights.conj() if weights.dtype.kind == "c" and not turned else weights
        return by_parts(function, image, weights, output, cval, told)
    window = window_of(weights)
    if turned:
        window = np.ascontiguousarray(window[(slice(None, None, -1),) * window.ndim])
    windows = remembered(_windows, image.ndim, axes, window.shape, told["origin"], told["mode"], turned)
    result, values = arguments.result(this.output, image), window.tobytes()
    told_ = settings(cval, told["saturate"], told["precision"], this.periods)
    if not _has_weight(values):
        result.zeros()
        return result.deliver()
    found = dense(image, result, windows, values, told_)
    if this.propagating is None:
        return found
    some = (np.abs(window) > _EPS).astype(np.float64).tobytes()
    return this.spread(found, lambda ones: dense(ones, arguments.result(None, ones), windows, some, Settings()))


@lru_cache(maxsize=1024, typed=True)
def _windows(
    ndim: int, axes: tuple[int, ...], shape: tuple[int, ...], origin: Any, mode: Any, turned: bool
) -> tuple[Axis, ...]:  # fmt: skip
    """The window's extent along each axis, in the image's order."""
    origins = arguments.per_axis("origin", origin, len(axes))
    if len(axes) < ndim:  # as SciPy: of a window along some axes its own are in the image's order, always
        origins = [origin for _, origin in sorted(zip(axes, origins, strict=True))]
    boundary = arguments.one_mode(mode)
    sizes = zip(sorted(axes), shape, origins, strict=True)
    return tuple(
        Axis(axis, size, arguments.before(size, one, origin, turned=turned), boundary) for axis, size, one in sizes
    )


@lru_cache(maxsize=1024)
def _has_weight(weights: bytes) -> bool:
    return bool((np.abs(np.frombuffer(weights)) > _EPS).any())


def remembered(function: Any, *told: Any) -> Any:
    """What a cached function makes of what a call was told, once for all calls that are told the same."""
    try:
        return function(*told)
    except TypeError:  # lists and arrays have no hash
        return function.__wrapped__(*told)


def by_parts(
    function: Callable[..., Any], image: Any, weights: Any, output: Any, cval: Any, told: dict[str, Any]
) -> np.ndarray:  # fmt: skip
    """A filter of complex numbers, from filters of real ones, as SciPy does it."""
    result = arguments.result(output, image, complex_result=True)
    out = result.target
    real, imaginary = image.real, image.imag if image.dtype.kind == "c" else None
    if imaginary is None:
        arguments.fill_value(cval)
    if weights.dtype.kind != "c":
        function(real, weights, output=out.real, cval=np.real(cval), **told)
        function(imaginary, weights, output=out.imag, cval=np.imag(cval), **told)
        return result.deliver()
    function(real, weights.real, output=out.real, cval=np.real(cval), **told)
    function(real, weights.imag, output=out.imag, cval=np.real(cval), **told)
    if imaginary is not None:
        out.real -= function(imaginary, weights.imag, output=None, cval=np.imag(cval), **told)
        out.imag += function(imaginary, weights.real, output=None, cval=np.imag(cval), **told)
    return result.deliver()
