"""Convolutions of images, signals (one spatial axis) and volumes (three): the public functions.

An argument with a number for each axis takes one number for a signal and (depth, vertical, horizontal) for a volume.
Padding with a number for each side is ``((left, right),)`` or ``((front, back), (top, bottom), (left, right))``. The
module `fastconv.specs.conv` checks what a call means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..specs.arguments import frozen_padding
from ..specs.arrays import array
from ..specs.axes import NCDHW, NCHW, NCW, is_last
from ..specs.conv import ConvSpec, check_mode, conv_spec
from ..typing import (
    Activation,
    ConvAlgorithm,
    DataFormat1d,
    DataFormat2d,
    DataFormat3d,
    Device,
    OutArray,
    Padding,
    PaddingMode,
    PerAxis,
    Precision,
    like_x,
)  # fmt: skip
from .crop import cropped
from .device import backend

__all__ = ["conv1d", "conv2d", "conv3d", "corr2d"]


@like_x
def corr2d(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike = 0,
    *,
    padding: Padding = 0,
    padding_mode: PaddingMode = "zeros",
    device: Device | None = None,
) -> NDArray[Any]:
    """2-D cross-correlation of one image with one kernel, plus a scalar; without padding, where the kernel fits.

    Parameters
    ----------
    x : array_like, shape (H, W)
        The image.
    kernel : array_like, shape (KH, KW)
        The kernel, no larger than the padded image.
    bias : scalar
        Added to every element. As in NumPy, a Python int does not change the dtype, and a float only changes integers.
    padding, padding_mode, device
        As in `conv2d`; no side of the padding may be negative.

    Returns
    -------
    ndarray, shape (H + padding - KH + 1, W + padding - KW + 1), with the padding of both sides
        dtype as in `conv2d`.

    Raises
    ------
    ValueError, TypeError
        If a shape or dtype does not fit.

    Notes
    -----
    ``out[i, j] = bias + sum over a, b of kernel[a, b] * x[i + a, j + b]``. A NaN or an infinity reaches only the
    outputs whose window contains it. Kernels from about 9x9 on are applied to floats by a transform, which rounds to
    1e-5 of the largest output in float32.

    Source: Goodfellow, Bengio and Courville, Deep Learning, chapter 9.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.corr2d(np.arange(9).reshape(3, 3), [[0, 1], [2, 3]])
    array([[19, 25],
           [37, 43]])
    >>> fastconv.corr2d([[1, 2, 4]], [[1, 1, 1]], padding=(0, 1), padding_mode="replicate")
    array([[ 4,  7, 10]])
    """
    calls = backend(device, x)
    image, weight = calls.operand("x", x), calls.operand("kernel", kernel)
    plain = type(bias) is int and not bias  # the default, which adds nothing
    dtypes, offset = ((image.dtype, weight.dtype), None) if plain else _filter_operands(image.dtype, weight.dtype, bias)
    if type(padding) is not int or type(padding_mode) is not str:
        padding, padding_mode = frozen_padding(padding), check_mode(padding_mode)
    this = calls.filter_recipe((1, 1, *image.shape), (1, 1, *weight.shape), dtypes, padding, padding_mode)
    if offset is not None:
        _check_bias(bias, this.spec)
    return calls.filtered(this, image, weight, offset)


def _filter_operands(
    x_dtype: np.dtype, kernel_dtype: np.dtype, bias: Any
) -> tuple[tuple[np.dtype, ...], np.ndarray]:
    """The dtypes whose promotion an image filter computes in, and its bias as an array of one element."""
    dtypes: tuple[np.dtype, ...] = x_dtype, kernel_dtype
    offset = array("bias", bias)
    if offset.ndim:
        raise ValueError(f"bias must be a scalar, got shape {offset.shape}")
    # NumPy's rule for Python numbers: an int never changes the dtype, and a float only changes integers.
    if not isinstance(bias, int) and not any(dtype.kind == "V" for dtype in dtypes):
        dtypes += (np.result_type(*dtypes, bias) if type(bias) is float else offset.dtype,)
    return dtypes, offset.reshape(1)


def _check_bias(bias: Any, spec: ConvSpec) -> None:
    """Check that a Python int, which does not change the dtype, fits it; ValueError otherwise."""
    if isinstance(bias, int) and spec.acc_dtype.kind == "i":
        limits = np.iinfo(spec.acc_dtype)
        if not limits.min <= bias <= limits.max:
            raise ValueError(f"bias must fit the result's dtype {spec.acc_dtype}, got {bias}")


@like_x
def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    activation: Activation | None = None,
    precision: Precision = "float32",
    data_format: DataFormat2d = NCHW,
    algorithm: ConvAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """2-D convolution layer: cross-correlation over channels, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        The input. Any strides and byte order; it is never changed.
    weight : array_like, shape (C_out, C / groups, KH, KW)
        The kernels.
    bias : array_like, shape (C_out,), optional
        Added to every element of its output channel.
    stride, dilation : int or (int, int)
        Step of the window and spacing of its taps, vertical first.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        Padding around the input: on all sides; (vertical, horizontal); ((top, bottom), (left, right)); none; or as
        many as make the output ``ceil(size / stride)``, the odd one at the end ("same") or start ("same_lower"). In
        pairs a side may be negative: so many pixels are cut off there, as in JAX.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        The padding's values, by PyTorch's names: zeros; the image mirrored at its outermost pixels, which are not
        repeated; the outermost pixels; or the image again. The padding may be at most the size less one of an axis
        that is reflected, and the size of a circular one. On a GPU zeros only.
    groups : int
        The channels are split into this many independent convolutions.
    activation : {"relu"}, optional
        Applied to the result while it is still in registers: "relu" replaces negative values by zero (a NaN stays).
    data_format : {"NCHW", "NHWC"}
        The layout of input and output. Channels may be last, as images come, on the CPU; then the shapes are
        (N, H, W, C) or (H, W, C), and those of the kernels as always.
    algorithm : str
        "auto" or one of `algorithms`.
    precision : {"float32", "tf32", "tf32x3"}
        How float32 operands are multiplied: in full; or, only on a GPU, by its tensor cores, with 10 bits of each
        factor ("tf32"), or with each factor split in two for nearly all bits at a third of that speed ("tf32x3"; an
        infinity makes NaN of the outputs that see it).
    device : {"cpu", "cuda"}, optional
        The device to compute on; by default the one that holds `x`. Arrays on a GPU (PyTorch, CuPy, Numba, or anything
        with ``__cuda_array_interface__`` or DLPack) are used in place, on their owner's current stream and without
        waiting, in any strides and also in bfloat16. With "cuda" NumPy arrays are copied to the GPU and back.
    out : ndarray, optional
        The array for the result: C-contiguous, of the result's shape and dtype, sharing no memory with the inputs. On
        a GPU its strides may be any.

    Returns
    -------
    ndarray, or an array of the kind of `x` on its GPU, shape (N, C_out, OH, OW) or (C_out, OH, OW)
        Operands of different dtypes promote as in NumPy. float32 and float64 are computed in their own precision,
        float16 in float32; bool, int8 and uint8 add up to int32 and wider integers to int64 (modulo 2**32, 2**64).

    Raises
    ------
    ValueError
        If shapes, values or `out` do not fit, or a forced `algorithm` cannot do the problem.
    TypeError
        If an argument has the wrong type or an array an unsupported dtype.
    MemoryError
        If the result is larger than the memory of this machine, or of its control group (of a container, say).
    RuntimeError
        If the GPU, its driver or the extra ``fastconv[cuda]`` is missing for ``device="cuda"``.

    Notes
    -----
    The index equation is in `fastconv.specs.conv`.

    Every function of this package takes what `numpy.asarray` takes, as plain numbers: a matrix, a memory map or an
    array with units gives up its class and its units, and results are plain arrays. A masked array is refused, because
    its mask would be ignored; only `fastconv.signal` ignores it, as SciPy does. `out` may be a memory map.

    Whichever algorithm runs, the error of an output of floats is at most ``2**15 * eps`` times the sum of ``abs(x)``
    over its own window times the largest ``abs(weight)`` of its kernel; seen are up to some 100, mostly less than 10
    (but of "tf32"). So a fill value of 1e20 spoils no output that does not see it, and a NaN or an infinity reaches
    only those that do. (For a window that hangs over the edge by more than half, the pixels next to it count, too.) The
    padding is zeros, and zero times an infinite weight is NaN.

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.stack([np.arange(9.0).reshape(3, 3), np.arange(1.0, 10.0).reshape(3, 3)])
    >>> weight = np.array([[[[0.0, 1.0], [2.0, 3.0]], [[1.0, 2.0], [3.0, 4.0]]]])
    >>> fastconv.conv2d(x, weight)
    array([[[ 56.,  72.],
            [104., 120.]]])
    >>> fastconv.conv2d([[[1.0, 2.0, 3.0]]], [[[[1.0, 0.0, 0.0]]]], padding=(0, 1), padding_mode="circular")
    array([[[3., 1., 2.]]])
    >>> fastconv.conv2d(np.ones((1, 4, 5, 3)), np.ones((2, 3, 3, 3)), data_format="NHWC").shape
    (1, 2, 3, 2)
    """
    options = stride, padding, dilation, groups, padding_mode, activation, precision, data_format, algorithm, device
    return convolve(2, x, weight, bias, *options, out)


def convolve(
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    activation: str | None,
    precision: str,
    data_format: str,
    algorithm: str,
    device: str | None,
    out: Any,
) -> Any:
    """Convolve along `axes` spatial axes; the arguments are those of `conv2d`."""
    calls = backend(device, x)
    last = data_format is not NCHW and is_last(data_format, axes)
    if type(padding) is not int:
        x, padding, _ = cropped(x, padding, axes, channels_last=last)
    x, weight = calls.operand("x", x), calls.operand("weight", weight)
    bias = None if bias is None else calls.operand("bias", bias)
    spec = conv_spec(
        x.shape,
        weight.shape,
        (x.dtype, weight.dtype) if bias is None else (x.dtype, weight.dtype, bias.dtype),
        axes=axes,
        bias_shape=None if bias is None else bias.shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation=activation,
        precision=precision,
        padding_mode=padding_mode,
        channels_last=last,
    )
    return calls.conv(spec, x, weight, bias, algorithm, out)


@like_x
def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    activation: Activation | None = None,
    data_format: DataFormat1d = NCW,
    algorithm: ConvAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """1-D convolution layer: `conv2d` on signals, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, W) or (C, W)
        The input. Any strides and byte order; it is never changed.
    weight : array_like, shape (C_out, C / groups, KW)
        The kernels.
    bias, groups, padding_mode, activation, device, out
        As in `conv2d`.
    stride, dilation : int
        Step of the window and spacing of its taps.
    padding : int, ((int, int),), "valid", "same" or "same_lower"
        Padding of the input, as in `conv2d`.
    data_format : {"NCW", "NWC"}
        The layout of input and output, as in `conv2d`.
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
    Source: van den Oord et al., WaveNet, arXiv:1609.03499, for dilated convolutions.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv1d([[1.0, 2.0, 4.0, 8.0]], [[[-1.0, 1.0]]])
    array([[1., 2., 4.]])
    """
    options = stride, padding, dilation, groups, padding_mode, activation, "float32", data_format, algorithm, device
    return convolve(1, x, weight, bias, *options, out)


@like_x
def conv3d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    activation: Activation | None = None,
    data_format: DataFormat3d = NCDHW,
    algorithm: ConvAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """3-D convolution layer: `conv2d` on volumes, as in PyTorch.

    Parameters
    ----------
    x : array_like, shape (N, C, D, H, W) or (C, D, H, W)
        The input. Any strides and byte order; it is never changed.
    weight : array_like, shape (C_out, C / groups, KD, KH, KW)
        The kernels.
    bias, groups, padding_mode, activation, device, out
        As in `conv2d`.
    stride, dilation : int or (int, int, int)
        Step of the window and spacing of its taps.
    padding : int, (int, int, int), three pairs, "valid", "same" or "same_lower"
        Padding of the input, as in `conv2d`.
    data_format : {"NCDHW", "NDHWC"}
        The layout of input and output, as in `conv2d`.
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
    options = stride, padding, dilation, groups, padding_mode, activation, "float32", data_format, algorithm, device
    return convolve(3, x, weight, bias, *options, out)
