"""The public functions: what they promise. What they check is in `spec`, what they run is in `plan`."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import (
    _forks,  # noqa: F401 # must be there before the first fork, which may come before the first call
    plan,
    spec,
)
from .plan import Plan, algorithms, get_num_threads, set_num_threads

__all__ = [
    "Plan",
    "algorithms",
    "avg_pool2d",
    "conv2d",
    "corr2d",
    "get_num_threads",
    "lp_pool2d",
    "max_pool2d",
    "plan_conv2d",
    "set_num_threads",
]


def corr2d(x: Any, kernel: Any, bias: Any = 0) -> np.ndarray:
    """Valid 2-D cross-correlation of one image with one kernel, plus a scalar.

    Parameters
    ----------
    x : array_like, shape (H, W)
        The image.
    kernel : array_like, shape (KH, KW)
        The kernel, no larger than the image.
    bias : scalar
        Added to every element. A Python int does not change the dtype, a float only that of integers, as in NumPy.

    Returns
    -------
    ndarray, shape (H - KH + 1, W - KW + 1)
        dtype as in `conv2d`.

    Raises
    ------
    ValueError, TypeError
        If a shape or dtype does not fit.

    Notes
    -----
    ``out[i, j] = bias + sum over a, b of kernel[a, b] * x[i + a, j + b]``. A NaN or an infinity reaches just the
    outputs that see it. With kernels from about 9x9 on floats go through a transform, which rounds to 1e-5 of the
    largest output in float32.

    Source: Goodfellow, Bengio and Courville, Deep Learning, chapter 9.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.corr2d(np.arange(9).reshape(3, 3), [[0, 1], [2, 3]])
    array([[19, 25],
           [37, 43]])
    """
    x, kernel = spec.array("x", x), spec.array("kernel", kernel)
    for name, given in (("x", x), ("kernel", kernel)):
        if given.ndim != 2 or not given.size:
            raise ValueError(f"{name} must have two axes of at least one element, got shape {given.shape}")
    scalar = spec.array("bias", bias)
    if scalar.ndim:
        raise ValueError(f"bias must be a scalar, got shape {scalar.shape}")
    # NumPy's rule for Python numbers: an int never changes the dtype, a float only that of integers.
    dtypes = [x.dtype, kernel.dtype]
    if not isinstance(bias, int):
        dtypes.append(np.result_type(*dtypes, bias) if type(bias) is float else scalar.dtype)
    problem = spec.conv_spec((1, *x.shape), (1, 1, *kernel.shape), dtypes, bias_shape=(1,))
    if isinstance(bias, int) and problem.acc_dtype.kind == "i":
        limits = np.iinfo(problem.acc_dtype)
        if not limits.min <= bias <= limits.max:
            raise ValueError(f"bias must fit the result's dtype {problem.acc_dtype}, got {bias}")
    algorithm = plan.choose_filter(problem)
    return Plan(problem, kernel[None, None], scalar.reshape(1), algorithm, "cpu").run(x, None, (x,))[0]


def conv2d(
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
    device: str = "cpu",
    out: np.ndarray | None = None,
) -> np.ndarray:
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
        Zeros around the input: on all sides; (vertical, horizontal); ((top, bottom), (left, right)); none; or as
        many as make the output ``ceil(size / stride)``, the odd one at the end ("same") or start ("same_lower").
    groups : int
        The channels are split into this many independent convolutions.
    activation : {"relu"}, optional
        Applied to the result while it is still in registers: "relu" raises negative values to zero (a NaN stays).
    algorithm : str
        "auto" or one of `algorithms`.
    device : {"cpu"}
        Where it runs.
    out : ndarray, optional
        Where the result goes: C-contiguous, of the result's shape and dtype, sharing no memory with the inputs.

    Returns
    -------
    ndarray, shape (N, C_out, OH, OW) or (C_out, OH, OW)
        Operands of different dtypes promote as in NumPy. float32 and float64 are computed in their own precision,
        float16 in float32; bool, int8 and uint8 add up to int32 and wider integers to int64 (modulo 2**32, 2**64).

    Raises
    ------
    ValueError
        If shapes, values or `out` do not fit, or a forced `algorithm` cannot do the problem.
    TypeError
        If an argument has the wrong type or an array an unsupported dtype.
    MemoryError
        If the result is larger than this machine's memory.

    Notes
    -----
    The index equation is in `fastconv.spec`.

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.stack([np.arange(9.0).reshape(3, 3), np.arange(1.0, 10.0).reshape(3, 3)])
    >>> weight = np.array([[[[0.0, 1.0], [2.0, 3.0]], [[1.0, 2.0], [3.0, 4.0]]]])
    >>> fastconv.conv2d(x, weight)
    array([[[ 56.,  72.],
            [104., 120.]]])
    """
    x, weight = spec.array("x", x), spec.array("weight", weight)
    bias = None if bias is None else spec.array("bias", bias)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    problem = spec.conv_spec(
        x.shape,
        weight.shape,
        [operand.dtype for operand in inputs],
        bias_shape=None if bias is None else bias.shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation=activation,
    )
    return Plan(problem, weight, bias, algorithm, device).run(x, out, inputs)


def plan_conv2d(
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
    device: str = "cpu",
) -> Plan:
    """Check, decide and pack a `conv2d` once, to call it many times.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come, (N, C, H, W) or (C, H, W).
    weight, bias, stride, padding, dilation, groups, activation, algorithm, device
        As in `conv2d`. Weight and bias are copied: changing them later does not change the plan.
    dtype : dtype, optional
        Of the inputs to come; the weight's by default.

    Returns
    -------
    Plan
        Call it as ``plan(x)`` or ``plan(x, out=out)``, from as many threads as you like. It tells its ``algorithm``,
        ``flops``, ``scratch_bytes`` and ``output_shape``.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    Source: Frigo and Johnson, The design and implementation of FFTW3, 2005, for planning apart from running.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> plan = fastconv.plan_conv2d((1, 3, 8, 8), np.ones((4, 3, 3, 3), np.float32), padding="same")
    >>> plan.output_shape, plan.flops
    ((1, 4, 8, 8), 13824)
    >>> plan(np.ones((1, 3, 8, 8), np.float32))[0, 0, 0]
    array([12., 18., 18., 18., 18., 18., 18., 12.], dtype=float32)
    """
    weight = spec.array("weight", weight).copy()
    bias = None if bias is None else spec.array("bias", bias).copy()
    try:
        x_dtype = weight.dtype if dtype is None else spec.check_dtype("dtype", np.dtype(dtype))
    except TypeError as error:
        raise TypeError(f"dtype must name a supported dtype, got {dtype!r}: {error}") from None
    problem = spec.conv_spec(
        spec.shape("x_shape", x_shape),
        weight.shape,
        [x_dtype, weight.dtype] if bias is None else [x_dtype, weight.dtype, bias.dtype],
        bias_shape=None if bias is None else bias.shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation=activation,
    )
    return Plan(problem, weight, bias, algorithm, device)


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
    device: str = "cpu",
    out: np.ndarray | None = None,
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
    x = spec.array("x", x)
    return_indices = spec.flag("return_indices", return_indices)
    dtype = spec.check_dtype("x", x.dtype)
    problem = spec.pool_spec("max", x.shape, dtype, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    return plan.pool2d(problem, x, return_indices, algorithm, device, out)


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
    device: str = "cpu",
    out: np.ndarray | None = None,
) -> np.ndarray:
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
    x = spec.array("x", x)
    problem = spec.pool_spec(
        "avg",
        x.shape,
        spec.check_dtype("x", x.dtype),
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )
    return plan.pool2d(problem, x, False, algorithm, device, out)


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
    device: str = "cpu",
    out: np.ndarray | None = None,
) -> np.ndarray:
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
    x = spec.array("x", x)
    problem = spec.pool_spec(
        "lp",
        x.shape,
        spec.check_dtype("x", x.dtype),
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        norm_type=norm_type,
    )
    return plan.pool2d(problem, x, False, algorithm, device, out)
