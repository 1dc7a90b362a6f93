"""Adaptive poolings: the caller gives the size of the output instead of the window."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from ..specs.arguments import flag
from ..specs.axes import NCHW, is_last
from ..specs.dtypes import native
from ..specs.pool import adaptive_spec
from ..typing import DataFormat2d, Device, OutArray, OutputSize, like_x, picks_adaptive
from .channels_last import around, as_first, in_library
from .device import backend

__all__ = ["adaptive_avg_pool2d", "adaptive_max_pool2d"]


@like_x
def adaptive_avg_pool2d(
    x: ArrayLike, output_size: OutputSize, *,
    data_format: DataFormat2d = NCHW, device: Device | None = None, out: OutArray | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Mean over windows that are chosen to give an output of this size, as in PyTorch; size 1 is global pooling.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W), (C, H, W) or (H, W)
        The input.
    output_size : int or (int, int)
        Rows and columns of the output; None leaves an axis as it is.
    data_format, device, out
        As in `avg_pool2d`.

    Returns
    -------
    ndarray, shape (..., OH, OW)
        The dtype is that of `x`; float64 for integers and bool.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `avg_pool2d`.

    Notes
    -----
    Along an axis of n elements, window i of m goes from ``floor(i * n / m)`` to ``ceil((i + 1) * n / m)``. Where all
    windows are equal, the result is that of `avg_pool2d`.

    Source: He et al., Spatial pyramid pooling in deep convolutional networks, arXiv:1406.4729.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.adaptive_avg_pool2d(np.arange(12.0).reshape(3, 4), 1)
    array([[5.5]])
    >>> fastconv.adaptive_avg_pool2d(np.arange(12.0).reshape(3, 4), (2, None))
    array([[2., 3., 4., 5.],
           [6., 7., 8., 9.]])
    """
    return _adaptive_pool("avg", x, output_size, False, device, out, data_format)


@picks_adaptive
def adaptive_max_pool2d(
    x: ArrayLike, output_size: OutputSize, *, return_indices: bool = False,
    data_format: DataFormat2d = NCHW, device: Device | None = None, out: OutArray | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Maximum over windows that are chosen to give an output of this size, as in PyTorch.

    Parameters
    ----------
    x, output_size
        As in `adaptive_avg_pool2d`, which defines the windows.
    return_indices, data_format, device, out
        As in `max_pool2d`.

    Returns
    -------
    ndarray, shape (..., OH, OW), or two of them
        The dtype is that of `x`. A NaN in a window is its maximum.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.adaptive_max_pool2d(np.arange(12).reshape(3, 4), 2)
    array([[ 5,  7],
           [ 9, 11]])
    """
    return _adaptive_pool("max", x, output_size, return_indices, device, out, data_format)


def _adaptive_pool(
    op: str, x: Any, output_size: Any, return_indices: bool, device: Any, out: Any, data_format: str
) -> Any:  # fmt: skip
    if data_format is not NCHW and is_last(data_format, 2):
        if (answer := in_library(x, device, _adaptive_pool, locals())) is not None:
            return answer
        given = as_first("x", x, 2)
        return around(2, lambda device: _adaptive_pool(op, given, output_size, return_indices, device, None, NCHW),
                      device, out, (x,))  # fmt: skip
    calls = backend(device, x)
    x = calls.operand("x", x)
    spec = adaptive_spec(op, x.shape, native("x", x.dtype), output_size)
    return calls.pool(spec, x, flag("return_indices", return_indices), "auto", out)
