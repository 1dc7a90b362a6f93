"""The public poolings: what they promise. What they check is in `spec`, what they run is in `plan`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.devices import place
from ..planner.plan import recipe
from ..specs.arguments import array, check_dtype, flag
from ..specs.pool import pool_spec

__all__ = ["avg_pool2d", "lp_pool2d", "max_pool2d"]


def max_pool2d(
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
    """Maximum over windows, each channel on its own, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W), (C, H, W) or (H, W)
        The input, of any real dtype. Any strides and byte order; it is never changed.
    kernel_size : int or (int, int)
        The window, vertical first.
    stride : int or (int, int), optional
        Step of the window; the window itself by default.
    padding
        The forms of `conv2d`, with minus infinity; on each side less than the window, so that every window touches
        the input.
    dilation : int or (int, int)
        Spacing of the window's taps.
    ceil_mode : bool
        Keep a last window that hangs over the end.
    return_indices : bool
        Return the pair (values, indices); an index is flat in the H * W plane, int64.
    algorithm, device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape (..., OH, OW), or two of them
        Of the dtype of `x`. A NaN in the window is its maximum.

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
    window = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool(2, x, *window, return_indices, algorithm, device, out)


def max_pool(
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
) -> Any:
    """What `max_pool2d` does, along so many spatial axes."""
    if (device is not None or type(x) is not np.ndarray) and place(device, x) == "cuda":
        from ..cuda import calls

        options = {"axes": axes, "kernel_size": kernel_size, "stride": stride, "padding": padding,
                   "dilation": dilation, "ceil_mode": ceil_mode}  # fmt: skip
        return calls.pool2d("max", x, options, return_indices, algorithm, out)
    x = array("x", x)
    return_indices = flag("return_indices", return_indices)
    window = kernel_size, stride, padding, dilation
    problem = pool_spec("max", x.shape, check_dtype("x", x.dtype), *window, axes=axes, ceil_mode=ceil_mode)
    return recipe(problem, algorithm).run(x, return_indices, out)


def avg_pool2d(
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
    """Mean over windows, each channel on its own, as in PyTorch and, with dilation, in ONNX.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, algorithm, device, out
        As in `max_pool2d`, but the padding is of zeros.
    count_include_pad : bool
        Whether zeros of the padding count as elements of the window.
    divisor_override : int, optional
        Divide every sum by this instead of by the number of elements.

    Returns
    -------
    ndarray, shape (..., OH, OW)
        Of the dtype of `x`; float64 for integers and bool.

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
    return sum_pool("avg", 2, x, 1.0, *window, count_include_pad, divisor_override, algorithm, device, out)


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
) -> Any:
    """What `avg_pool2d` or `lp_pool2d` does, along so many spatial axes."""
    if (device is not None or type(x) is not np.ndarray) and place(device, x) == "cuda":
        from ..cuda import calls

        options = {"axes": axes, "kernel_size": kernel_size, "stride": stride, "padding": padding,
                   "dilation": dilation, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad,
                   "divisor_override": divisor_override, "norm_type": norm_type}  # fmt: skip
        return calls.pool2d(op, x, options, False, algorithm, out)
    x = array("x", x)
    problem = pool_spec(
        op,
        x.shape,
        check_dtype("x", x.dtype),
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
    return recipe(problem, algorithm).run(x, False, out)


def lp_pool2d(
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
    """Power mean times window size over windows: ``(sum of x ** p) ** (1 / p)``, as in PyTorch.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override, algorithm, device, out
        As in `avg_pool2d`, of whose result for ``x ** p`` this is the p-th root after multiplying by the window's
        ``KH * KW`` elements. Where the divisor is that number, as it is by default in every window that `ceil_mode`
        does not let hang over the end, this is the sum.
    norm_type : float
        The power p, positive: 1 gives the sum, 2 the Euclidean norm.

    Returns
    -------
    ndarray, shape (..., OH, OW)
        Of the dtype of `x`; float64 for integers and bool. NaN where a sum of odd powers is negative and has no root.
        Powers are made in that dtype (of float16 in float32), as in PyTorch: those of float32 beyond 3e38 are infinite.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    Source: Sermanet, Chintala and LeCun, Convolutional neural networks applied to house numbers digit
    classification, arXiv:1204.3968.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.lp_pool2d([[3.0, 4.0]], 2, (1, 2))
    array([[5.]])
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return sum_pool("lp", 2, x, norm_type, *window, count_include_pad, divisor_override, algorithm, device, out)
