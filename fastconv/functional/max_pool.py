"""Max poolings of signals (one spatial axis), images and volumes (three), and unpooling of images.

An argument with a number for each axis takes one number for a signal and (depth, vertical, horizontal) for a volume.
Padding with a number for each side is ``((left, right),)`` or ``((front, back), (top, bottom), (left, right))``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..specs.arguments import flag
from ..specs.axes import FORMATS, NCDHW, NCHW, NCW, is_last
from ..specs.dtypes import native
from ..specs.pool import pool_spec
from ..specs.unpool import check_places, unpool_spec
from ..typing import (
    DataFormat1d,
    DataFormat2d,
    DataFormat3d,
    Device,
    OutArray,
    Padding,
    PerAxis,
    PoolAlgorithm,
    like_x,
    picks1d,
    picks2d,
    picks3d,
)  # fmt: skip
from .channels_last import pooled
from .crop import cropped
from .device import backend

__all__ = ["max_pool1d", "max_pool2d", "max_pool3d", "max_unpool2d"]


@picks2d
def max_pool2d(
    x: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: DataFormat2d = NCHW,
    algorithm: PoolAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Maximum over windows, each channel on its own, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W), (C, H, W) or (H, W)
        The input, of any real dtype. Any strides and byte order; it is never changed.
    kernel_size : int or (int, int)
        The window, vertical first.
    stride : int or (int, int), optional
        Step of the window; by default the size of the window.
    padding
        Padding in the forms of `conv2d`, filled with minus infinity; less than the window on each side, so that every
        window touches the input.
    dilation : int or (int, int)
        Spacing of the window's taps.
    ceil_mode : bool
        Keep a last window that reaches beyond the end.
    return_indices : bool
        Return the pair (values, indices); an index (int64) counts the elements of the H * W plane.
    data_format : {"NCHW", "NHWC"}
        The layout of input and output; with channels last their shapes are (N, H, W, C) or (H, W, C).
    algorithm, device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape (..., OH, OW), or two of them
        The dtype is that of `x`. A NaN in a window is its maximum.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    Source: Scherer, Müller and Behnke, Evaluation of pooling operations in convolutional architectures, 2010.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.max_pool2d(np.arange(9).reshape(3, 3), 2, stride=1)
    array([[4, 5],
           [7, 8]])
    """
    return pick_pool("max", 2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm, device,
                     out, data_format)  # fmt: skip


@picks1d
def max_pool1d(
    x: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: DataFormat1d = NCW,
    algorithm: PoolAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Maximum over windows of signals: `max_pool2d` with one spatial axis, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, W), (C, W) or (W)
        The input, of any real dtype.
    kernel_size, stride, dilation : int
        Window, step (the window by default) and spacing of its taps.
    padding, ceil_mode, algorithm, device, out
        As in `max_pool2d`.
    return_indices : bool
        Return the pair (values, indices); an index (int64) counts the elements of the signal.
    data_format : {"NCW", "NWC"}
        The layout of input and output; with channels last their shapes are (N, W, C) or (W, C).

    Returns
    -------
    ndarray, shape (..., OW), or two of them
        The dtype is that of `x`. A NaN in a window is its maximum.

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
    return pick_pool("max", 1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm, device,
                     out, data_format)  # fmt: skip


@picks3d
def max_pool3d(
    x: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: DataFormat3d = NCDHW,
    algorithm: PoolAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Maximum over windows of volumes: `max_pool2d` with three spatial axes, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, D, H, W), (C, D, H, W) or (D, H, W)
        The input, of any real dtype.
    kernel_size, stride, dilation : int or (int, int, int)
        Window, step (the window by default) and spacing of its taps.
    padding, ceil_mode, algorithm, device, out
        As in `max_pool2d`.
    return_indices : bool
        Return the pair (values, indices); an index (int64) counts the elements of the D * H * W volume.
    data_format : {"NCDHW", "NDHWC"}
        The layout of input and output; with channels last their shapes are (N, D, H, W, C) or (D, H, W, C).

    Returns
    -------
    ndarray, shape (..., OD, OH, OW), or two of them
        The dtype is that of `x`. A NaN in a window is its maximum.

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
    return pick_pool("max", 3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm, device,
                     out, data_format)  # fmt: skip


@like_x
def max_unpool2d(
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    *,
    output_size: PerAxis | None = None,
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Maxima put back where `max_pool2d` found them, with zeros elsewhere, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, OH, OW), (C, OH, OW) or (OH, OW)
        The maxima.
    indices : array_like of int, shape of `x`
        Their indices in the H * W plane. If several values have one index, the last is kept; on a GPU, any of them.
    kernel_size, stride, padding : int or (int, int)
        The arguments of the pooling. They give the size, ``(OH - 1) * stride - 2 * padding + kernel_size``.
    output_size : (int, int), optional
        Another size, which differs from that one by less than the stride.
    device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape (..., H, W)
        The dtype is that of `x`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        If an argument does not fit, or an index is outside the plane. (On a GPU the indices are not checked beforehand,
        and values whose index is outside are left out.)

    Notes
    -----
    Source: Zeiler and Fergus, Visualizing and understanding convolutional networks, arXiv:1311.2901.

    Examples
    --------
    >>> import fastconv
    >>> values, indices = fastconv.max_pool2d([[1.0, 2.0, 5.0, 4.0]], (1, 2), return_indices=True)
    >>> fastconv.max_unpool2d(values, indices, (1, 2))
    array([[0., 2., 5., 0.]])
    """
    calls = backend(device, x)
    x, places = calls.operand("x", x), calls.operand("indices", indices)
    spec = unpool_spec(x, places, kernel_size, stride, padding, output_size)
    if isinstance(places, np.ndarray) and places.size:
        check_places(places, spec.output_shape)
    return calls.unpool(spec, x, places, out)


def pick_pool(
    op: str,
    axes: int,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
    algorithm: str,
    device: str | None,
    out: Any,
    data_format: str,
) -> Any:
    """Pick the largest or the smallest of each window, along so many spatial axes."""
    if data_format is not FORMATS[axes][0] and is_last(data_format, axes):
        return pooled(pick_pool, locals())
    calls = backend(device, x)
    cut = None
    if type(padding) is not int:
        x, padding, cut = cropped(x, padding, axes)
    x = calls.operand("x", x)
    if type(return_indices) is not bool:
        return_indices = flag("return_indices", return_indices)
    if cut and return_indices and not isinstance(x, np.ndarray):
        raise ValueError("return_indices with negative padding is for NumPy arrays: cut pixels off x instead")
    spec = pool_spec(op, x.shape, native("x", x.dtype), kernel_size, stride, padding, dilation, axes=axes,
                     ceil_mode=ceil_mode)  # fmt: skip
    made = calls.pool(spec, x, return_indices, algorithm, out)
    return (made[0], cut.places(made[1])) if cut and return_indices else made
