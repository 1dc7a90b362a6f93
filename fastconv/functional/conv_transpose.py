"""Transposed convolutions of signals, images and volumes: the public functions."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from ..specs.conv_transpose import Geometry, transpose_spec
from ..typing import Device, OutArray, Padding, PerAxis, TransposeAlgorithm, like_x
from .device import backend

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


@like_x
def conv_transpose2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    output_size: PerAxis | None = None,
    algorithm: TransposeAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """2-D transposed convolution layer, as in PyTorch: each element of `x` times the kernels is added to the output.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        The input.
    weight : array_like, shape (C, C_out / groups, KH, KW)
        The kernels.
    bias : array_like, shape (C_out,), optional
        Added to every element of its output channel.
    stride, dilation : int or (int, int)
        Distance in the output between what neighbouring elements of `x` add, and between neighbouring taps.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        How much is cut off the sides of the output; "same" cuts it to ``H * stride``, the odd one at the end ("same")
        or start ("same_lower"); where the kernels do not reach so far, zeros follow.
    output_padding : int or (int, int)
        Added to the output's size at the end; less than the stride or the dilation. With "same" and "same_lower", as in
        ONNX, it is added before half of what is too much is cut off each side, and the size stays ``H * stride``.
    groups : int
        The channels are split into this many independent operations.
    output_size : int or (int, int), optional
        Height and width of the output, instead of `output_padding`, which follows from it (as in PyTorch's layer). If
        it is smaller than all that the kernels reach, the padding follows from it, too, instead of from `padding` (as
        in ONNX): half on each side, the odd one at the start, or at the end with "same".
    algorithm : str
        "auto" or one of ``algorithms("conv_transpose2d")``. An algorithm of `conv2d` computes all phases by itself.
    device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape (N, C_out, OH, OW) or (C_out, OH, OW)
        dtype as in `conv2d`. Per axis ``OH = (H - 1) * stride + window + output_padding`` less the padding of both
        sides, where ``window = dilation * (KH - 1) + 1``.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    The index equation is in `fastconv.specs.conv_transpose`. The operation is the gradient of a convolution for its
    input. An output's error is bounded as in `conv2d`; a NaN or an infinity in `x` reaches only the outputs that the
    kernels reach from there.

    Source: Zeiler et al., Deconvolutional networks, 2010; Dumoulin and Visin, arXiv:1603.07285, chapter 4.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.conv_transpose2d([[[1.0, 2.0, 3.0]]], [[[[1.0, 10.0]]]])
    array([[[ 1., 12., 23., 30.]]])
    >>> fastconv.conv_transpose2d([[[1.0, 2.0, 3.0]]], [[[[1.0, 10.0]]]], stride=(1, 2))
    array([[[ 1., 10.,  2., 20.,  3., 30.]]])
    """
    geometry = stride, padding, output_padding, dilation, output_size
    return _transpose(2, x, weight, bias, geometry, groups, algorithm, device, out)


@like_x
def conv_transpose1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    output_size: PerAxis | None = None,
    algorithm: TransposeAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """1-D transposed convolution layer: `conv_transpose2d` for signals, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, W) or (C, W)
        The input.
    weight : array_like, shape (C, C_out / groups, KW)
        The kernels.
    bias, stride, padding, output_padding, groups, dilation, output_size, algorithm, device, out
        As in `conv_transpose2d`, with one axis.

    Returns
    -------
    ndarray, shape (N, C_out, OW) or (C_out, OW)
        dtype as in `conv2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_transpose2d`.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.conv_transpose1d([[1.0, 2.0, 3.0]], [[[1.0, 10.0]]], stride=2)
    array([[ 1., 10.,  2., 20.,  3., 30.]])
    """
    geometry = stride, padding, output_padding, dilation, output_size
    return _transpose(1, x, weight, bias, geometry, groups, algorithm, device, out)


@like_x
def conv_transpose3d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    output_size: PerAxis | None = None,
    algorithm: TransposeAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """3-D transposed convolution layer: `conv_transpose2d` for volumes, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, D, H, W) or (C, D, H, W)
        The input.
    weight : array_like, shape (C, C_out / groups, KD, KH, KW)
        The kernels.
    bias, stride, padding, output_padding, groups, dilation, output_size, algorithm, device, out
        As in `conv_transpose2d`, with three axes.

    Returns
    -------
    ndarray, shape (N, C_out, OD, OH, OW) or (C_out, OD, OH, OW)
        dtype as in `conv2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_transpose2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv_transpose3d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 1, 2)))
    array([[[[1., 2., 1.],
             [1., 2., 1.]],
    <BLANKLINE>
            [[1., 2., 1.],
             [1., 2., 1.]]]])
    """
    geometry = stride, padding, output_padding, dilation, output_size
    return _transpose(3, x, weight, bias, geometry, groups, algorithm, device, out)


def _transpose(
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    geometry: Geometry,
    groups: Any,
    algorithm: str,
    device: str | None,
    out: Any,
) -> Any:
    """Apply a transposed convolution along `axes` spatial axes; the arguments are those of `conv_transpose2d`."""
    calls = backend(device, x)
    x, weight = calls.operand("x", x), calls.operand("weight", weight)
    bias = None if bias is None else calls.operand("bias", bias)
    spec = transpose_spec(axes, x.shape, x.dtype, weight, bias, geometry, groups)
    return calls.conv(spec, x, weight, bias, algorithm, out)
