"""`correlate2d` and `convolve2d` with the arguments and results of `scipy.signal`, computed by this package's kernels.

Both are one correlation of an extended image::

    out[i, j] = sum over a, b of kernel[a, b] * image[i - top + a, j - left + b]

`convolve2d` flips the kernel; `correlate2d` conjugates it. The mode says by how much the image is extended before
and after each axis, for k rows or columns of the kernel:

======== ============== ==================== ===================
mode     output         correlate2d          convolve2d
======== ============== ==================== ===================
valid    size - k + 1   0, 0                 0, 0
same     size           (k - 1) // 2, k // 2 k // 2, (k - 1) // 2
full     size + k - 1   k - 1, k - 1         k - 1, k - 1
======== ============== ==================== ===================

An extension with zeros is the padding of the kernels, which copies nothing; any other boundary is laid around the image
first. Complex numbers are two planes, (re, im), and their product is a convolution with two channels in and two out.

SciPy itself computes what the kernels cannot do exactly as it does: extended precision, sums of complex numbers that
are not finite (C repairs some NaN of complex products), and errors for a dtype or fill value that it refuses. Its own
functions do so, also where ours have taken their names: ``scipy.signal.convolve2d = fastconv.signal.convolve2d``.
"""

from __future__ import annotations

import cmath
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base.libraries import check_alike, foreign, is_dask
from .base.values import shown
from .functional.device import cpu
from .specs.arguments import Pads, Pair
from .specs.arrays import as_array
from .typing import Extent, Surroundings, like_in1

__all__ = ["convolve2d", "correlate2d"]

#: SciPy's names for boundaries, as modes of `numpy.pad`.
_BOUNDARIES = {
    "fill": "constant",
    "pad": "constant",
    "wrap": "wrap",
    "circular": "wrap",
    "symm": "symmetric",
    "symmetric": "symmetric",
}
_MODES = {"full": "full", "same": "same", "valid": "valid"}
#: Type codes of the results that the kernels compute; SciPy has no sums of bool and float16.
_COMPUTED = "bBhHiIlLqQfdFD"


@like_in1
def correlate2d(
    in1: ArrayLike, in2: ArrayLike, mode: Extent = "full", boundary: Surroundings = "fill", fillvalue: ArrayLike = 0,
) -> NDArray[Any]:  # fmt: skip
    """2-D cross-correlation, a drop-in replacement of `scipy.signal.correlate2d`.

    Parameters
    ----------
    in1 : array_like, shape (H, W)
        The image. Any strides and byte order; it is never changed.
    in2 : array_like, shape (KH, KW)
        The kernel, of any size.
    mode : {"full", "same", "valid"}
        The positions that count: "full", all where the two overlap; "same", as many as `in1` has, around the centre of
        "full"; "valid", only those where one input, which may be either, lies inside the other.
    boundary : {"fill", "wrap", "symm"}
        The surroundings of `in1`: `fillvalue`, its copies, or its mirror images. "pad", "circular" and "symmetric" are
        other names of the three.
    fillvalue : scalar
        The value around `in1` for ``boundary="fill"``.

    Returns
    -------
    ndarray, C-contiguous
        The dtype is the promoted one, in which integers add up modulo ``2**bits``.

    Raises
    ------
    ValueError
        If an argument is none of those above, if in "valid" mode neither input fits inside the other, or if the
        promoted dtype is bool, float16 or no number. (Where an empty `in1` has nothing to wrap, SciPy crashes.)
    TypeError
        If `in2` has no conjugate, as in SciPy, or a name cannot be looked up.

    Notes
    -----
    Integers equal SciPy's; floats equal them up to the rounding of another order of additions. A kernel that is an
    outer product may be applied in two passes, which round no more.

    Source: the documentation of `scipy.signal.correlate2d`, and the results of SciPy 1.17 where it says nothing.

    Examples
    --------
    >>> from fastconv.signal import correlate2d
    >>> correlate2d([[1, 2, 3], [4, 5, 6]], [[1, 10]], mode="same")
    array([[21, 32,  3],
           [54, 65,  6]])
    >>> correlate2d([[1, 2, 3]], [[1, 10, 100]], boundary="wrap")
    array([[132, 213, 321, 132, 213]])
    """
    return _sums("correlate2d", in1, in2, mode, boundary, fillvalue)


@like_in1
def convolve2d(
    in1: ArrayLike, in2: ArrayLike, mode: Extent = "full", boundary: Surroundings = "fill", fillvalue: ArrayLike = 0,
) -> NDArray[Any]:  # fmt: skip
    """2-D convolution, a drop-in replacement of `scipy.signal.convolve2d`.

    Parameters
    ----------
    in1, in2, mode, boundary, fillvalue
        As in `correlate2d`.

    Returns
    -------
    ndarray, C-contiguous
        The result, as from `correlate2d`.

    Raises
    ------
    ValueError, TypeError
        As `correlate2d`.

    Notes
    -----
    Source: the documentation of `scipy.signal.convolve2d`.

    Examples
    --------
    >>> from fastconv.signal import convolve2d
    >>> convolve2d([[1, 1], [1, 1]], [[1, 2], [3, 4]])
    array([[ 1,  3,  2],
           [ 4, 10,  6],
           [ 3,  7,  4]])
    """
    return _sums("convolve2d", in1, in2, mode, boundary, fillvalue)


def _sums(function: str, in1: Any, in2: Any, mode: Any, boundary: Any, fillvalue: Any) -> np.ndarray:
    """Check a call, lay the boundary around the image, and sum."""
    if type(in1) is not np.ndarray:
        if is_dask(in1):
            return _lazily(function, in1, in2, mode, boundary, fillvalue)
        if (given := foreign(in1, "in1")) is not None:
            return given.call(_sums, function=function, in1=in1, in2=in2, mode=mode, boundary=boundary,
                              fillvalue=fillvalue)  # fmt: skip
    check_alike(in2=in2)
    image, kernel = as_array("in1", in1), as_array("in2", in2)
    for operand, given, array in (("in1", in1, image), ("in2", in2, kernel)):
        if array.ndim != 2:
            raise ValueError(f"{operand} must have two axes, got {shown(given)}")
    extent, extension = _choice("mode", mode, _MODES), _choice("boundary", boundary, _BOUNDARIES)
    convolve = function == "convolve2d"
    case = _case(image.shape, kernel.shape, image.dtype, kernel.dtype, extent, convolve)
    fill: Any = case.zero
    if fill is not None and extension == "constant" and not (type(fillvalue) is int and fillvalue == 0):
        try:
            fill = _fill(fillvalue, case.dtype)
        except (TypeError, ValueError, OverflowError):
            fill = None
    if fill is None:
        return _scipy(function, in1, in2, mode, boundary, fillvalue)
    if case.empty:
        return np.zeros(case.shape, case.dtype)

    if case.swapped:
        image, kernel = kernel, image
    if image.dtype != case.dtype:
        image = image.astype(case.dtype if image.dtype.kind == "c" or fill.imag else case.real, copy=False)
    if kernel.dtype != case.dtype:
        kernel = kernel.astype(case.dtype if kernel.dtype.kind == "c" else case.real, copy=False)
    if convolve:
        kernel = kernel[::-1, ::-1]
    elif kernel.dtype.kind == "c":
        kernel = kernel.conj()
    pads = case.pads
    if pads is not None:
        # The kernels skip the padding. SciPy multiplies its zeros, too, which shows where a weight is not finite.
        skips = extension == "constant" and (fill is case.zero or not fill) and image.size > 0 and _finite(kernel)
        if not skips:
            image, pads = _extend(image, pads, extension, fill), None

    result = _correlate(image, kernel, pads)
    if case.dtype.kind == "c" and not np.isfinite(result).all():
        return _scipy(function, in1, in2, mode, boundary, fillvalue)
    if case.swapped and not convolve:
        result = np.ascontiguousarray(result[::-1, ::-1])
    return result if result.dtype == case.dtype else result.astype(case.dtype)


def _lazily(function: str, image: Any, in2: Any, mode: Any, boundary: Any, fillvalue: Any) -> Any:
    """The lazy sums of a Dask array."""
    from .dask.signals import summed
    from .specs.boundary import Boundary

    kernel = in2 if is_dask(in2) else as_array("in2", in2)
    for operand, array in (("in1", image), ("in2", kernel)):
        if array.ndim != 2:
            raise ValueError(f"{operand} must have two axes, got {shown(array)}")
    extent, extension = _choice("mode", mode, _MODES), _choice("boundary", boundary, _BOUNDARIES)
    case = _case(image.shape, kernel.shape, image.dtype, kernel.dtype, extent, function == "convolve2d")
    if case.zero is None or case.empty or case.swapped or (extension != "constant" and not all(image.shape)):
        raise ValueError(f"in1, a Dask array, must be of numbers and at least as large as in2, and neither empty, "
                         f"got {image.dtype} {image.shape} and {kernel.dtype} {kernel.shape}")  # fmt: skip
    pads = case.pads or ((0, 0), (0, 0))
    outside = {"constant": Boundary.CONSTANT, "wrap": Boundary.WRAP, "symmetric": Boundary.REFLECT}[extension]
    ours = convolve2d if function == "convolve2d" else correlate2d
    return summed(ours, image, kernel, (pads[0][0], pads[1][0]), case.shape, outside, _fill(fillvalue, case.dtype))


class _Case(NamedTuple):
    """Everything about a call that follows from its shapes and dtypes."""

    swapped: bool
    """Whether `in2` is the image."""
    shape: Pair
    """Shape of the result."""
    empty: bool
    """Whether there is nothing to sum."""
    pads: Pads | None
    """Rows and columns by which the image grows on each side; None if it does not grow."""
    dtype: np.dtype
    """The dtype of the result."""
    real: np.dtype
    """The dtype of the result's real part."""
    zero: np.ndarray | None
    """A zero of the result's dtype; None if the kernels do not compute that dtype."""


@lru_cache(maxsize=1024)
def _case(
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    image_dtype: np.dtype,
    kernel_dtype: np.dtype,
    mode: str,
    convolve: bool,
) -> _Case:
    """Check the shapes of a call, and derive its `_Case`."""
    swapped = mode == "valid" and not _fits(kernel, image)
    if swapped:
        if not _fits(image, kernel):
            raise ValueError(
                "in mode 'valid' one input must be at least as large as the other on both axes, "
                f"got shapes {image} and {kernel}"
            )
        image, kernel = kernel, image
    rows, cols = (_pads(mode, taps, convolve) for taps in kernel)
    shape = (image[0] + sum(rows) - kernel[0] + 1, image[1] + sum(cols) - kernel[1] + 1)
    pads = (rows, cols) if any(rows + cols) else None
    try:
        dtype = np.result_type(image_dtype, kernel_dtype)
    except TypeError:
        dtype = image_dtype
        return _Case(swapped, shape, False, pads, dtype, dtype, None)
    zero = np.zeros((), dtype) if dtype.char in _COMPUTED else None
    real = dtype if zero is None else np.real(zero).dtype
    return _Case(swapped, shape, 0 in kernel or 0 in shape, pads, dtype, real, zero)


def _correlate(image: np.ndarray, kernel: np.ndarray, pads: Pads | None) -> np.ndarray:
    """Correlate the planes of both operands, as the module's equation says."""
    x, weight = _planes(image), _planes(kernel)
    if len(x) == len(weight) == 2:
        re, im = weight[:, 0]
        x, weight = x.swapaxes(0, 1), np.array([[re, -im], [im, re]])
    # If one operand is real and one complex, the complex one's planes are two images, or two output channels.
    this = cpu().filter_recipe(x.shape, weight.shape, (x.dtype,), 0 if pads is None else pads, exact=True)
    planes = this.run(x, this.pack(weight, None), None, ())
    if len(x) == len(weight) == 1:
        return planes[0, 0]
    planes = planes.reshape(2, *planes.shape[2:])
    result = np.empty(planes.shape[1:], np.result_type(planes, np.complex64))
    result.real, result.imag = planes
    return result


def _choice(argument: str, value: Any, known: Mapping[str, str]) -> Any:
    """The meaning of `value`; ValueError if it is unknown, TypeError if it is not even hashable."""
    try:
        return known[value]
    except (KeyError, TypeError) as error:
        kind = ValueError if isinstance(error, KeyError) else TypeError
        raise kind(f"{argument} must be one of {', '.join(map(repr, known))}, got {shown(value)}") from None


def _fits(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    return small[0] <= large[0] and small[1] <= large[1]


def _pads(mode: str, taps: int, convolve: bool) -> Pair:
    """Rows or columns by which the image grows before and after one axis, from the module's table."""
    if mode == "valid":
        return 0, 0
    if mode == "full":
        return taps - 1, taps - 1
    before, after = (taps - 1) // 2, taps // 2
    return (after, before) if convolve else (before, after)


def _fill(value: Any, dtype: np.dtype) -> np.ndarray:
    """`value` as a 0-d array by SciPy's rules: a scalar or list is assigned, an array must be safe to cast."""
    if isinstance(value, np.ndarray):
        return value.astype(dtype, casting="safe").reshape(())
    return np.array(value, dtype).reshape(())


def _finite(kernel: np.ndarray) -> bool:
    """Whether all weights are finite; also False if the sum of their squares is too large for the dtype."""
    return kernel.dtype.kind not in "fc" or cmath.isfinite(np.vdot(kernel, kernel))


def _extend(image: np.ndarray, pads: Pads, extension: Any, fill: Any) -> np.ndarray:
    if extension != "constant":
        return np.pad(image, pads, extension)
    return np.pad(image, pads, constant_values=fill if image.dtype.kind == "c" else fill.real)


def _planes(array: Any) -> np.ndarray:
    """The real part and, of complex numbers, the imaginary part, as planes of one channel."""
    return np.stack([array.real, array.imag])[:, None] if array.dtype.kind == "c" else array[None, None]


def _scipy(function: str, in1: Any, in2: Any, mode: Any, boundary: Any, fillvalue: Any) -> np.ndarray:
    try:
        return np.ascontiguousarray(_scipys_own(function)(in1, in2, mode, boundary, fillvalue))
    except (TypeError, ValueError, OverflowError) as error:
        kind = next(kind for kind in (TypeError, ValueError, OverflowError) if isinstance(error, kind))
        told = f"in1 {shown(in1)}, in2 {shown(in2)}, fillvalue {shown(fillvalue)}"
        raise (ValueError if kind is OverflowError else kind)(f"{error} ({told})") from None


@lru_cache(maxsize=8)
def _scipys_own(function: str) -> Callable[..., Any]:
    """SciPy's function of a name, from the module that defines it. By the name itself ours may be found, which whoever
    speeds up somebody else's code has put there, and which would ask for SciPy's without end."""
    import scipy.signal  # noqa: F401 # late, because it takes longer to load than all of this package

    for name, module in list(sys.modules.items()):
        defined = vars(module) if module is not None and name.partition(".")[0] == "scipy" else {}
        found: Any = inspect.unwrap(defined.get(function))  # type: ignore[arg-type] # it takes None, too
        if getattr(found, "__globals__", None) is defined:
            return found
    raise RuntimeError(
        f"SciPy's {function} was replaced in the module that defines it: what fastconv leaves to SciPy's own cannot be "
        "done; replace the name in scipy.signal only"
    )
