"""Convolutions of signals (one spatial axis) and volumes (three), with the arguments, rules and errors of `conv2d`.

Arguments that have a number for each axis take one for a signal and (depth, vertical, horizontal) for a volume; padding
by side is ``((left, right),)`` and ``((front, back), (top, bottom), (left, right))``.
"""

from __future__ import annotations

from typing import Any

from .conv import Plan, convolve, plan_convolution

__all__ = ["conv1d", "conv3d", "plan_conv1d", "plan_conv3d"]


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    algorithm: str = "auto",
    device: str | None = None,
    out: Any = None,
) -> Any:
    """1-D convolution layer: `conv2d` on signals, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, W) or (C, W)
        The input. Any strides and byte order; it is never changed.
    weight : array_like, shape (C_out, C / groups, KW)
        The kernels.
    bias, groups, activation, device, out
        As in `conv2d`.
    stride, dilation : int
        Step of the window and spacing of its taps.
    padding : int, ((int, int),), "valid", "same" or "same_lower"
        Zeros around the input, as in `conv2d`.
    algorithm : str
        "auto" or one of ``algorithms("conv1d")``.

    Returns
    -------
    ndarray, shape (N, C_out, OW) or (C_out, OW)
        dtype as in `conv2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    Source: van den Oord et al., WaveNet, arXiv:1609.03499, for dilated ones.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv1d([[1.0, 2.0, 4.0, 8.0]], [[[-1.0, 1.0]]])
    array([[1., 2., 4.]])
    """
    options = stride, padding, dilation, groups, activation, "float32", algorithm, device, out
    return convolve(1, x, weight, bias, *options)


def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    algorithm: str = "auto",
    device: str | None = None,
    out: Any = None,
) -> Any:
    """3-D convolution layer: `conv2d` on volumes, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, D, H, W) or (C, D, H, W)
        The input. Any strides and byte order; it is never changed.
    weight : array_like, shape (C_out, C / groups, KD, KH, KW)
        The kernels.
    bias, groups, activation, device, out
        As in `conv2d`.
    stride, dilation : int or (int, int, int)
        Step of the window and spacing of its taps.
    padding : int, (int, int, int), three pairs, "valid", "same" or "same_lower"
        Zeros around the input, as in `conv2d`.
    algorithm : str
        "auto" or one of ``algorithms("conv3d")``.

    Returns
    -------
    ndarray, shape (N, C_out, OD, OH, OW) or (C_out, OD, OH, OW)
        dtype as in `conv2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    The index equation is in `fastconv.cpu.shared.volumes`.

    Source: Tran et al., Learning spatiotemporal features with 3D convolutional networks, arXiv:1412.0767.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> fastconv.conv3d(x, np.ones((1, 1, 2, 2, 1)))
    array([[[[12., 16.]]]])
    """
    options = stride, padding, dilation, groups, activation, "float32", algorithm, device, out
    return convolve(3, x, weight, bias, *options)


def plan_conv1d(
    x_shape: Any,
    weight: Any,
    bias: Any = None,
    *,
    dtype: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    algorithm: str = "auto",
    device: str | None = None,
    measure: bool = False,
) -> Plan:
    """Check, decide and pack a `conv1d` once, to call it many times.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come, (N, C, W) or (C, W).
    weight, bias, stride, padding, dilation, groups, activation, algorithm, device
        As in `conv1d`.
    dtype, measure
        As in `plan_conv2d`.

    Returns
    -------
    Plan
        As `plan_conv2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv1d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.plan_conv1d((1, 80, 100), np.ones((8, 80, 3), np.float32), padding="same").output_shape
    (1, 8, 100)
    """
    options = (stride, padding, dilation, groups, activation, "float32", algorithm, device, measure)
    return plan_convolution(1, x_shape, weight, bias, dtype, *options)


def plan_conv3d(
    x_shape: Any,
    weight: Any,
    bias: Any = None,
    *,
    dtype: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    algorithm: str = "auto",
    device: str | None = None,
    measure: bool = False,
) -> Plan:
    """Check, decide and pack a `conv3d` once, to call it many times.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come, (N, C, D, H, W) or (C, D, H, W).
    weight, bias, stride, padding, dilation, groups, activation, algorithm, device
        As in `conv3d`.
    dtype, measure
        As in `plan_conv2d`.

    Returns
    -------
    Plan
        As `plan_conv2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv3d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.plan_conv3d((1, 3, 8, 9, 10), np.ones((4, 3, 3, 3, 3), np.float32), padding="same").output_shape
    (1, 4, 8, 9, 10)
    """
    options = (stride, padding, dilation, groups, activation, "float32", algorithm, device, measure)
    return plan_convolution(3, x_shape, weight, bias, dtype, *options)
