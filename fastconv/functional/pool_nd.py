"""Poolings of signals (one spatial axis) and volumes (three), with the arguments, rules and errors of those of images.

Arguments that have a number for each axis take one for a signal and (depth, vertical, horizontal) for a volume; padding
by side is ``((left, right),)`` and ``((front, back), (top, bottom), (left, right))``.
"""

from __future__ import annotations

from typing import Any

from .pool import max_pool, sum_pool

__all__ = ["avg_pool1d", "avg_pool3d", "lp_pool1d", "lp_pool3d", "max_pool1d", "max_pool3d"]


def max_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
    algorithm: str = "auto",
    device: str | None = None,
    out: Any = None,
) -> Any:
    """Maximum over windows of signals: `max_pool2d` along one axis, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, W), (C, W) or (W)
        The input, of any real dtype.
    kernel_size, stride, dilation : int
        Window, step (the window by default) and spacing of its taps.
    padding, ceil_mode, algorithm, device, out
        As in `max_pool2d`.
    return_indices : bool
        Return the pair (values, indices); an index is flat in the signal, int64.

    Returns
    -------
    ndarray, shape (..., OW), or two of them
        Of the dtype of `x`. A NaN in the window is its maximum.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.max_pool1d([3, 1, 4, 1, 5], 3, stride=1)
    array([4, 4, 5])
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool(1, x, *window, return_indices, algorithm, device, out)


def max_pool3d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
    algorithm: str = "auto",
    device: str | None = None,
    out: Any = None,
) -> Any:
    """Maximum over windows of volumes: `max_pool2d` along three axes, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, D, H, W), (C, D, H, W) or (D, H, W)
        The input, of any real dtype.
    kernel_size, stride, dilation : int or (int, int, int)
        Window, step (the window by default) and spacing of its taps.
    padding, ceil_mode, algorithm, device, out
        As in `max_pool2d`.
    return_indices : bool
        Return the pair (values, indices); an index is flat in the D * H * W volume, int64.

    Returns
    -------
    ndarray, shape (..., OD, OH, OW), or two of them
        Of the dtype of `x`. A NaN in the window is its maximum.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> values, indices = fastconv.max_pool3d(np.arange(8).reshape(2, 2, 2), 2, return_indices=True)
    >>> values, indices
    (array([[[7]]]), array([[[7]]]))
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool(3, x, *window, return_indices, algorithm, device, out)


def avg_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    algorithm: str = "auto",
    device: str | None = None,
    out: Any = None,
) -> Any:
    """Mean over windows of signals: `avg_pool2d` along one axis, as in PyTorch.

    Parameters
    ----------
    x, kernel_size, stride, dilation
        As in `max_pool1d`.
    padding, ceil_mode, count_include_pad, divisor_override, algorithm, device, out
        As in `avg_pool2d`.

    Returns
    -------
    ndarray, shape (..., OW)
        Of the dtype of `x`; float64 for integers and bool.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `avg_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.avg_pool1d([3, 1, 4, 2], 2)
    array([2., 3.])
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return sum_pool("avg", 1, x, 1.0, *window, count_include_pad, divisor_override, algorithm, device, out)


def avg_pool3d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    algorithm: str = "auto",
    device: str | None = None,
    out: Any = None,
) -> Any:
    """Mean over windows of volumes: `avg_pool2d` along three axes, as in PyTorch.

    Parameters
    ----------
    x, kernel_size, stride, dilation
        As in `max_pool3d`.
    padding, ceil_mode, count_include_pad, divisor_override, algorithm, device, out
        As in `avg_pool2d`.

    Returns
    -------
    ndarray, shape (..., OD, OH, OW)
        Of the dtype of `x`; float64 for integers and bool.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `avg_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.avg_pool3d(np.arange(8).reshape(2, 2, 2), (2, 1, 2))
    array([[[2.5],
            [4.5]]])
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return sum_pool("avg", 3, x, 1.0, *window, count_include_pad, divisor_override, algorithm, device, out)


def lp_pool1d(
    x: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    algorithm: str = "auto",
    device: str | None = None,
    out: Any = None,
) -> Any:
    """Power mean times window size over windows of signals: `lp_pool2d` along one axis, as in PyTorch.

    Parameters
    ----------
    x, kernel_size, stride, dilation
        As in `max_pool1d`.
    norm_type, padding, ceil_mode, count_include_pad, divisor_override, algorithm, device, out
        As in `lp_pool2d`.

    Returns
    -------
    ndarray, shape (..., OW)
        Of the dtype of `x`; float64 for integers and bool.

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
    return sum_pool("lp", 1, x, norm_type, *window, count_include_pad, divisor_override, algorithm, device, out)


def lp_pool3d(
    x: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    algorithm: str = "auto",
    device: str | None = None,
    out: Any = None,
) -> Any:
    """Power mean times window size over windows of volumes: `lp_pool2d` along three axes, as in PyTorch.

    Parameters
    ----------
    x, kernel_size, stride, dilation
        As in `max_pool3d`.
    norm_type, padding, ceil_mode, count_include_pad, divisor_override, algorithm, device, out
        As in `lp_pool2d`.

    Returns
    -------
    ndarray, shape (..., OD, OH, OW)
        Of the dtype of `x`; float64 for integers and bool.

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
    return sum_pool("lp", 3, x, norm_type, *window, count_include_pad, divisor_override, algorithm, device, out)
