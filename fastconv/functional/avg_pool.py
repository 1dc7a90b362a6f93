"""Average poolings of signals, images and volumes; arguments have the forms of `max_pool`'s."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from ..specs.axes import FORMATS, NCDHW, NCHW, NCW, is_last
from ..specs.dtypes import native
from ..specs.pool import pool_spec
from ..typing import DataFormat1d, DataFormat2d, DataFormat3d, Device, OutArray, Padding, PerAxis, PoolAlgorithm, like_x
from .channels_last import pooled
from .crop import cropped
from .device import backend

__all__ = ["avg_pool1d", "avg_pool2d", "avg_pool3d"]


@like_x
def avg_pool2d(
    x: ArrayLike,
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
    """Mean over windows, each channel on its own, as in PyTorch and, with dilation, in ONNX.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, data_format, algorithm, device, out
        As in `max_pool2d`, but the padding is of zeros.
    count_include_pad : bool
        Whether zeros of the padding count as elements of the window.
    divisor_override : int, optional
        Divide every sum by this instead of by the number of elements.

    Returns
    -------
    ndarray, shape (..., OH, OW)
        The dtype is that of `x`; float64 for integers and bool.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    Source: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.avg_pool2d(np.arange(9).reshape(3, 3), 2, stride=1)
    array([[2., 3.],
           [5., 6.]])
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return sum_pool("avg", 2, x, 1.0, *window, count_include_pad, divisor_override, algorithm, device, out,
                    data_format)  # fmt: skip


@like_x
def avg_pool1d(
    x: ArrayLike,
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
    """Mean over windows of signals: `avg_pool2d` with one spatial axis, as in PyTorch.

    Parameters
    ----------
    x, kernel_size, stride, dilation, data_format
        As in `max_pool1d`.
    padding, ceil_mode, count_include_pad, divisor_override, algorithm, device, out
        As in `avg_pool2d`.

    Returns
    -------
    ndarray, shape (..., OW)
        The dtype is that of `x`; float64 for integers and bool.

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
    return sum_pool("avg", 1, x, 1.0, *window, count_include_pad, divisor_override, algorithm, device, out,
                    data_format)  # fmt: skip


@like_x
def avg_pool3d(
    x: ArrayLike,
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
    """Mean over windows of volumes: `avg_pool2d` with three spatial axes, as in PyTorch.

    Parameters
    ----------
    x, kernel_size, stride, dilation, data_format
        As in `max_pool3d`.
    padding, ceil_mode, count_include_pad, divisor_override, algorithm, device, out
        As in `avg_pool2d`.

    Returns
    -------
    ndarray, shape (..., OD, OH, OW)
        The dtype is that of `x`; float64 for integers and bool.

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
    return sum_pool("avg", 3, x, 1.0, *window, count_include_pad, divisor_override, algorithm, device, out,
                    data_format)  # fmt: skip


def sum_pool(
    op: str,
    axes: int,
    x: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    algorithm: str,
    device: str | None,
    out: Any,
    data_format: str,
) -> Any:
    """Average or Lp pooling along `axes` spatial axes; the arguments are those of `avg_pool2d` or `lp_pool2d`."""
    if data_format is not FORMATS[axes][0] and is_last(data_format, axes):
        return pooled(sum_pool, locals())
    calls = backend(device, x)
    if type(padding) is not int:
        x, padding, _ = cropped(x, padding, axes)
    x = calls.operand("x", x)
    spec = pool_spec(
        op,
        x.shape,
        native("x", x.dtype),
        kernel_size,
        stride,
        padding,
        dilation,
        axes=axes,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        norm_type=norm_type,
    )
    return calls.pool(spec, x, False, algorithm, out)
