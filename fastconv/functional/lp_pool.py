"""Lp poolings: the p-norm of windows of signals, images and volumes; arguments have the forms of `max_pool`'s."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from ..specs.axes import NCDHW, NCHW, NCW
from ..typing import DataFormat1d, DataFormat2d, DataFormat3d, Device, OutArray, Padding, PerAxis, PoolAlgorithm, like_x
from .avg_pool import sum_pool

__all__ = ["lp_pool1d", "lp_pool2d", "lp_pool3d"]


@like_x
def lp_pool2d(
    x: ArrayLike,
    norm_type: float,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    data_format: DataFormat2d = NCHW,
    algorithm: PoolAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """The p-norm of each window, ``(sum of |x| ** p) ** (1 / p)``, as in ONNX.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override
    data_format, algorithm, device, out
        As in `avg_pool2d`, of whose result for ``|x| ** p`` this is the p-th root after multiplying by the window's
        ``KH * KW`` elements. Where the divisor is that number, as it is by default in every window that `ceil_mode`
        does not let hang over the end, this is the sum.
    norm_type : float
        The power p, positive: 1 gives the sum of absolute values, 2 the Euclidean norm, infinity the largest absolute
        value, whatever the divisor.

    Returns
    -------
    ndarray, shape (..., OH, OW)
        Of the dtype of `x`; float64 for integers and bool. Powers are made in that dtype (of float16 in float32), as in
        PyTorch: those of float32 beyond 3e38 are infinite.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    PyTorch takes powers of `x` itself: where p is neither even nor infinite, its result for negative elements is
    another, mostly NaN.

    Source: Sermanet, Chintala and LeCun, Convolutional neural networks applied to house numbers digit
    classification, arXiv:1204.3968.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.lp_pool2d([[3.0, -4.0]], 2, (1, 2))
    array([[5.]])
    >>> fastconv.lp_pool2d([[3.0, -4.0]], float("inf"), (1, 2))
    array([[4.]])
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return sum_pool("lp", 2, x, norm_type, *window, count_include_pad, divisor_override, algorithm, device, out,
                    data_format)  # fmt: skip


@like_x
def lp_pool1d(
    x: ArrayLike,
    norm_type: float,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    data_format: DataFormat1d = NCW,
    algorithm: PoolAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """The p-norm of each window of signals: `lp_pool2d` along one axis.

    Parameters
    ----------
    x, kernel_size, stride, dilation, data_format
        As in `max_pool1d`.
    norm_type, padding, ceil_mode, count_include_pad, divisor_override, algorithm, device, out
        As in `lp_pool2d`.

    Returns
    -------
    ndarray, shape (..., OW)
        The dtype is that of `x`; float64 for integers and bool.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `lp_pool2d`.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.lp_pool1d([3.0, 4.0], 2, 2)
    array([5.])
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return sum_pool("lp", 1, x, norm_type, *window, count_include_pad, divisor_override, algorithm, device, out,
                    data_format)  # fmt: skip


@like_x
def lp_pool3d(
    x: ArrayLike,
    norm_type: float,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    data_format: DataFormat3d = NCDHW,
    algorithm: PoolAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """The p-norm of each window of volumes: `lp_pool2d` along three axes.

    Parameters
    ----------
    x, kernel_size, stride, dilation, data_format
        As in `max_pool3d`.
    norm_type, padding, ceil_mode, count_include_pad, divisor_override, algorithm, device, out
        As in `lp_pool2d`.

    Returns
    -------
    ndarray, shape (..., OD, OH, OW)
        The dtype is that of `x`; float64 for integers and bool.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `lp_pool2d`.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.lp_pool3d([[[2.0, 4.0]], [[5.0, 6.0]]], 2, (2, 1, 2))
    array([[[9.]]])
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return sum_pool("lp", 3, x, norm_type, *window, count_include_pad, divisor_override, algorithm, device, out,
                    data_format)  # fmt: skip
