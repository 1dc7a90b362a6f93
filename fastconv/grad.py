"""Gradients of convolution and pooling, with the names and arguments of `torch.nn.grad`.

Each function takes the gradient of a number with respect to a layer's output and returns the gradient with respect to
its input or its weight. (The gradient for the bias is a sum: ``grad_output.sum(axis=(0, 2, 3))``.) Arrays on a GPU are
used in place, and the result is an array of their kind; with ``device="cuda"`` NumPy arrays are copied there and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base.values import shown
from .functional.channels_last import around, as_first, in_library, shape_first
from .functional.crop import cropped, cropped_shape
from .functional.device import backend
from .specs.arguments import shape
from .specs.axes import NCHW, is_last
from .specs.conv import conv_spec
from .specs.conv_transpose import transposed
from .specs.dtypes import gradient_dtype, native
from .specs.pool import pool_spec
from .typing import (
    DataFormat2d,
    Device,
    OutArray,
    Padding,
    PaddingMode,
    PerAxis,
    Shape,
    TransposeAlgorithm,
    WeightAlgorithm,
    like_grad_output,
    like_input,
)  # fmt: skip

__all__ = ["avg_pool2d", "conv2d_input", "conv2d_weight", "max_pool2d", "min_pool2d"]


@like_grad_output
def conv2d_input(
    input_size: Shape,
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    data_format: DataFormat2d = NCHW,
    algorithm: TransposeAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Gradient of `conv2d` with respect to its input.

    Parameters
    ----------
    input_size : sequence of int
        Shape of the input, (N, C, H, W) or (C, H, W).
    weight : array_like, shape (C_out, C / groups, KH, KW)
        The kernels.
    grad_output : array_like, shape (N, C_out, OH, OW) or (C_out, OH, OW)
        Gradient with respect to the layer's output.
    stride, padding, dilation, groups, padding_mode, data_format
        As in `conv2d`; the weight always has channels first.
    algorithm : str
        "auto" or one of ``algorithms("conv2d_input")``, which are the algorithms of `conv_transpose2d`.
    device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape `input_size`
        dtype as in `conv2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`, and if `grad_output` does not have the shape of the output.

    Notes
    -----
    The result is a convolution of `grad_output` with the flipped kernels, their channels exchanged: a transposed
    convolution, see `fastconv.specs.conv_transpose`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import grad
    >>> grad.conv2d_input((1, 1, 3), [[[[1.0, -1.0]]]], [[[1.0, 1.0]]])
    array([[[ 1.,  0., -1.]]])

    What comes to padding goes to the pixels that it repeats:

    >>> signal = [[[1.0, 1.0, 1.0, 1.0]]]
    >>> grad.conv2d_input((1, 1, 3), [[[[1.0, 2.0]]]], signal, padding=(0, 1), padding_mode="replicate")
    array([[[4., 3., 5.]]])
    """
    if data_format is not NCHW and is_last(data_format, 2):
        if (answer := in_library(grad_output, device, conv2d_input, locals())) is not None:
            return answer
        size, given = shape("input_size", input_size), as_first("grad_output", grad_output, 2)
        first = shape_first(size, 2)
        return around(
            2, lambda device: conv2d_input(first, weight, given, stride, padding, dilation, groups, algorithm=algorithm,
                                           padding_mode=padding_mode, device=device),
            device, out, (grad_output, weight), size,
        )  # fmt: skip
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options["padding_mode"] = padding_mode
    calls = backend(device, grad_output, "grad_output")
    kernels, above = calls.operand("weight", weight), calls.operand("grad_output", grad_output)
    size, options["padding"], cut = cropped_shape(shape("input_size", input_size), padding, 2)
    spec = conv_spec(size, kernels.shape, (kernels.dtype, above.dtype), **options, names="input_size, weight")
    _check_shape(above, spec.output_shape, "input_size, weight", (size, kernels), options)
    if cut is None:
        return calls.input_gradient(transposed(spec), kernels, above, algorithm, out)
    _check_place(above)
    part = calls.input_gradient(transposed(spec), kernels, above, algorithm, None)
    return cut.put_back(part, out, (kernels, above))


@like_input
def conv2d_weight(
    input: ArrayLike,
    weight_size: Shape,
    grad_output: ArrayLike,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: PaddingMode = "zeros",
    data_format: DataFormat2d = NCHW,
    algorithm: WeightAlgorithm = "auto",
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Gradient of `conv2d` with respect to its weight.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W) or (C, H, W)
        The input of the convolution.
    weight_size : sequence of int
        Shape of the weight, (C_out, C / groups, KH, KW).
    grad_output : array_like, shape (N, C_out, OH, OW) or (C_out, OH, OW)
        Gradient with respect to the layer's output.
    stride, padding, dilation, groups, padding_mode, data_format
        As in `conv2d`; the weight always has channels first.
    algorithm : str
        "auto" or one of ``algorithms("conv2d_weight")``.
    device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape `weight_size`
        The sum over the batch; dtype as in `conv2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`, and if `grad_output` does not have the shape of the output.

    Notes
    -----
    ``out[o, c, a, b] = sum over n, i, j of grad_output[n, o, i, j] * input[n, first + c, row, col]``, where tap (a, b)
    of output (i, j) sees that row and column, and ``first`` is the group's first channel: a correlation over the batch.

    Source: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998.

    Examples
    --------
    >>> from fastconv import grad
    >>> grad.conv2d_weight([[[1.0, 2.0, 4.0]]], (1, 1, 1, 2), [[[1.0, 1.0]]])
    array([[[[3., 6.]]]])
    """
    if data_format is not NCHW and is_last(data_format, 2):
        if (answer := in_library(input, device, conv2d_weight, locals())) is not None:
            return answer
        input, grad_output = as_first("input", input, 2), as_first("grad_output", grad_output, 2)
    calls = backend(device, input, "input")
    part, padding, _ = cropped(input, padding, 2, "input")
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options["padding_mode"] = padding_mode
    x, above = calls.operand("input", part), calls.operand("grad_output", grad_output)
    size, dtypes = shape("weight_size", weight_size), (x.dtype, above.dtype)
    spec = conv_spec(x.shape, size, dtypes, **options, names="input, weight_size")
    _check_shape(above, spec.output_shape, "input, weight_size", (x, size), options)
    return calls.weight_gradient(spec, x, above, algorithm, out)


@like_input
def max_pool2d(
    input: ArrayLike,
    grad_output: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    data_format: DataFormat2d = NCHW,
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Gradient of `max_pool2d` with respect to its input.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W), (C, H, W) or (H, W)
        The input of the pooling.
    grad_output : array_like, shape (..., OH, OW)
        Gradient with respect to the layer's output.
    kernel_size, stride, padding, dilation, ceil_mode, data_format
        As in `max_pool2d`.
    device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape of `input`
        The dtype is that of `grad_output`; float64 for integers. Each window's gradient goes to its maximum: the first
        of equal maxima, the last NaN, as in PyTorch.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`, and if `grad_output` does not have the shape of the output.

    Examples
    --------
    >>> from fastconv import grad
    >>> grad.max_pool2d([[1.0, 3.0, 2.0]], [[10.0, 20.0]], (1, 2), stride=1)
    array([[ 0., 30.,  0.]])
    """
    sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    return _pool2d("max", input, grad_output, sizes | {"ceil_mode": ceil_mode}, device, out, data_format)


@like_input
def min_pool2d(
    input: ArrayLike,
    grad_output: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    data_format: DataFormat2d = NCHW,
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Gradient of `min_pool2d` with respect to its input.

    Parameters
    ----------
    input, grad_output, kernel_size, stride, padding, dilation, ceil_mode, data_format, device, out
        As in `grad.max_pool2d`.

    Returns
    -------
    ndarray, shape of `input`
        As of `grad.max_pool2d`; each window's gradient goes to its minimum.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `grad.max_pool2d`.

    Examples
    --------
    >>> from fastconv import grad
    >>> grad.min_pool2d([[1.0, 3.0, 2.0]], [[10.0, 20.0]], (1, 2), stride=1)
    array([[10.,  0., 20.]])
    """
    sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    return _pool2d("min", input, grad_output, sizes | {"ceil_mode": ceil_mode}, device, out, data_format)


@like_input
def avg_pool2d(
    input: ArrayLike,
    grad_output: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    data_format: DataFormat2d = NCHW,
    device: Device | None = None,
    out: OutArray | None = None,
) -> NDArray[Any]:
    """Gradient of `avg_pool2d` with respect to its input.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W), (C, H, W) or (H, W)
        The input of the pooling; only its shape counts.
    grad_output : array_like, shape (..., OH, OW)
        Gradient with respect to the layer's output.
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override, data_format
        As in `avg_pool2d`.
    device, out
        As in `conv2d`.

    Returns
    -------
    ndarray, shape of `input`
        The dtype is that of `grad_output`; float64 for integers.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`, and if `grad_output` does not have the shape of the output.

    Examples
    --------
    >>> from fastconv import grad
    >>> grad.avg_pool2d([[1.0, 3.0, 2.0]], [[10.0, 20.0]], (1, 2), stride=1)
    array([[ 5., 15., 10.]])
    """
    sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    counting = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
    return _pool2d("avg", input, grad_output, sizes | {"ceil_mode": ceil_mode} | counting, device, out, data_format)


def _pool2d(
    op: str, input: Any, grad_output: Any, options: dict[str, Any], device: Any, out: Any, data_format: str
) -> Any:  # fmt: skip
    if data_format is not NCHW and is_last(data_format, 2):
        if (answer := in_library(input, device, _pool2d, locals())) is not None:
            return answer
        first, given = as_first("input", input, 2), as_first("grad_output", grad_output, 2)
        return around(
            2, lambda device: _pool2d(op, first, given, dict(options), device, None, NCHW), device, out,
            (input, grad_output), np.moveaxis(first, -3, -1).shape, gradient_dtype(native("grad_output", given.dtype)),
        )  # fmt: skip
    calls = backend(device, input, "input")
    input, options["padding"], cut = cropped(input, options["padding"], 2, "input")
    input, grad_output = calls.operand("input", input), calls.operand("grad_output", grad_output)
    spec = pool_spec(op, input.shape, native("input", input.dtype), **options, name="input")
    _check_shape(grad_output, spec.output_shape, "input", (input,), options)
    if cut is None:
        return calls.pool_gradient(spec, input, grad_output, out)
    _check_place(grad_output)
    return cut.put_back(calls.pool_gradient(spec, input, grad_output, None), out, (input, grad_output))


def _check_place(grad_output: Any) -> None:
    if not isinstance(grad_output, np.ndarray):
        raise ValueError("gradients with negative padding are of NumPy arrays: cut pixels off the input instead")


def _check_shape(
    grad_output: Any, expected: tuple[int, ...], names: str, operands: tuple[Any, ...], options: dict[str, Any]
) -> None:
    if grad_output.shape != expected:
        given = dict(zip(names.split(", "), operands, strict=True)) | options
        told = ", ".join(f"{name} {shown(value)}" for name, value in given.items())
        raise ValueError(f"grad_output has shape {grad_output.shape}, but the layer's output has shape {expected}: "
                         f"{told}")
