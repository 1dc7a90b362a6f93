"""Min poolings of signals, images and volumes; arguments are as those of `max_pool`."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from ..specs.axes import NCDHW, NCHW, NCW
from ..typing import (
    DataFormat1d,
    DataFormat2d,
    DataFormat3d,
    Device,
    OutArray,
    Padding,
    PerAxis,
    PoolAlgorithm,
    picks1d,
    picks2d,
    picks3d,
)  # fmt: skip
from .max_pool import pick_pool

__all__ = ["min_pool1d", "min_pool2d", "min_pool3d"]


@picks2d
def min_pool2d(
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
    """Minimum over windows, each channel on its own.

    Parameters
    ----------
    x, kernel_size, stride, dilation, ceil_mode, return_indices, data_format, algorithm, device, out
        As in `max_pool2d`.
    padding
        The forms of `max_pool2d`, with infinity.

    Returns
    -------
    ndarray, shape (..., OH, OW), or two of them
        Of the dtype of `x`. A NaN in the window is its minimum; its index is that of the last NaN,
        or else of the first of equal minima.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `max_pool2d`.

    Notes
    -----
    Of flat windows it is the erosion of an image, as `max_pool2d` is its dilation.

    Source: Serra, Image analysis and mathematical morphology, 1982.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.min_pool2d(np.arange(9).reshape(3, 3), 2, stride=1)
    array([[0, 1],
           [3, 4]])
    """
    return pick_pool("min", 2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm, device,
                     out, data_format)  # fmt: skip


@picks1d
def min_pool1d(
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
    """Minimum over windows of signals: `min_pool2d` along one axis.

    Parameters
    ----------
    x, kernel_size, stride, dilation, return_indices, data_format
        As in `max_pool1d`.
    padding, ceil_mode, algorithm, device, out
        As in `min_pool2d`.

    Returns
    -------
    ndarray, shape (..., OW), or two of them
        Of the dtype of `x`. A NaN in the window is its minimum.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `min_pool2d`.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.min_pool1d([3, 1, 4, 1, 5], 3, stride=1)
    array([1, 1, 1])
    """
    return pick_pool("min", 1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm, device,
                     out, data_format)  # fmt: skip


@picks3d
def min_pool3d(
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
    """Minimum over windows of volumes: `min_pool2d` along three axes.

    Parameters
    ----------
    x, kernel_size, stride, dilation, return_indices, data_format
        As in `max_pool3d`.
    padding, ceil_mode, algorithm, device, out
        As in `min_pool2d`.

    Returns
    -------
    ndarray, shape (..., OD, OH, OW), or two of them
        Of the dtype of `x`. A NaN in the window is its minimum.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `min_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> values, indices = fastconv.min_pool3d(np.arange(8).reshape(2, 2, 2), 2, return_indices=True)
    >>> values, indices
    (array([[[0]]]), array([[[0]]]))
    """
    return pick_pool("min", 3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm, device,
                     out, data_format)  # fmt: skip
