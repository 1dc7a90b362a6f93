"""Plans: convolutions that are checked and packed once, with a chosen algorithm, to be called again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..planner.plan import Plan
from ..specs.arguments import flag, shape
from ..specs.arrays import array
from ..specs.axes import is_last
from ..specs.conv import ConvSpec, conv_spec
from ..specs.conv_transpose import TransposeSpec
from ..typing import (
    Activation,
    ConvAlgorithm,
    DataFormat1d,
    DataFormat2d,
    DataFormat3d,
    Device,
    Padding,
    PaddingMode,
    PerAxis,
    Precision,
    Shape,
)  # fmt: skip
from .crop import Cut, cropped_shape
from .device import backend

__all__ = [
    "plan_conv1d",
    "plan_conv2d",
    "plan_conv3d",
]


def plan_conv2d(
    x_shape: Shape,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    activation: Activation | None = None,
    precision: Precision = "float32",
    data_format: DataFormat2d = "NCHW",
    algorithm: ConvAlgorithm = "auto",
    device: Device | None = None,
    measure: bool = False,
) -> Plan:
    """Check and pack a `conv2d` once and choose its algorithm, to call it many times.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come, (N, C, H, W) or (C, H, W), or as `data_format` says.
    weight, bias, stride, padding, dilation, groups, padding_mode, activation, precision, data_format, algorithm, device
        As in `conv2d`; the default device is the one that holds `weight`. Weight and bias are copied: changing them
        later does not change the plan.
    dtype : dtype, optional
        The dtype of the inputs to come; the weight's by default.
    measure : bool
        Whether to time the algorithms, each compiled if need be, instead of estimating which is the fastest. The winner
        for this problem, dtype and number of threads is remembered on disk (`fastconv.wisdom`): ``algorithm="auto"``
        takes it from then on, and measuring again costs nothing.

    Returns
    -------
    Plan
        Call it as ``plan(x)`` or ``plan(x, out=out)``, from as many threads as you like. It has the attributes
        ``algorithm``, ``flops``, ``scratch_bytes`` and ``output_shape``.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Notes
    -----
    Source: Frigo and Johnson, The design and implementation of FFTW3, 2005, for planning separately from running.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> plan = fastconv.plan_conv2d((1, 3, 8, 8), np.ones((4, 3, 3, 3), np.float32), padding="same")
    >>> plan.output_shape, plan.flops
    ((1, 4, 8, 8), 13824)
    >>> plan(np.ones((1, 3, 8, 8), np.float32))[0, 0, 0]
    array([12., 18., 18., 18., 18., 18., 18., 12.], dtype=float32)
    """
    options = stride, padding, dilation, groups, padding_mode, activation, precision, data_format, algorithm, device
    return _plan_convolution(2, x_shape, weight, bias, dtype, *options, measure)


def _plan_convolution(
    axes: int,
    x_shape: Any,
    weight: Any,
    bias: Any,
    dtype: Any,
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
    measure: bool,
) -> Plan:
    """Plan a convolution along `axes` spatial axes; the arguments are those of `plan_conv2d`."""
    last = is_last(data_format, axes)
    x_shape, padding, cut = cropped_shape(shape("x_shape", x_shape), padding, axes, last)

    def spec(x_shape: tuple[int, ...], x_dtype: np.dtype, weight: Any, bias: Any) -> ConvSpec:
        return conv_spec(
            x_shape,
            weight.shape,
            (x_dtype, weight.dtype) if bias is None else (x_dtype, weight.dtype, bias.dtype),
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
            names="x_shape, weight",
        )

    plan = planned(spec, x_shape, weight, bias, dtype, algorithm, device, measure)
    return PlanOfPart(plan, cut) if cut else plan


class PlanOfPart(Plan):
    """A plan of inputs of which negative padding leaves a part: that for the part."""

    def __init__(self, plan: Plan, cut: Cut) -> None:
        super().__init__(plan.problem)
        self._plan, self._cut = plan, cut

    def __reduce__(self) -> tuple[Any, ...]:
        return PlanOfPart, (self._plan, self._cut)

    def __repr__(self) -> str:
        left = ", ".join(f"{part.start}:{part.stop}" for part in self._cut.parts)
        return f"<of x[..., {left}]: {self._plan!r}>"

    @property
    def algorithm(self) -> str:
        """Name of the algorithm that runs."""
        return self._plan.algorithm

    @property
    def scratch_bytes(self) -> int:
        """Memory a call needs beside input and output, in bytes."""
        return self._plan.scratch_bytes

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return self._cut.shape

    def __call__(self, x: Any, out: Any = None) -> Any:
        """The result for `x`, as of the plan for the part."""
        x = x if hasattr(x, "shape") else array("x", x)
        if tuple(x.shape) != self.x_shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, but the plan is for {self.x_shape}")
        return self._plan(self._cut.of(x), out)


def plan_conv1d(
    x_shape: Shape,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    activation: Activation | None = None,
    data_format: DataFormat1d = "NCW",
    algorithm: ConvAlgorithm = "auto",
    device: Device | None = None,
    measure: bool = False,
) -> Plan:
    """Check and pack a `conv1d` once and choose its algorithm, to call it many times.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come, (N, C, W) or (C, W).
    weight, bias, stride, padding, dilation, groups, padding_mode, activation, data_format, algorithm, device
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
    options = (stride, padding, dilation, groups, padding_mode, activation, "float32", data_format, algorithm, device)
    return _plan_convolution(1, x_shape, weight, bias, dtype, *options, measure)


def plan_conv3d(
    x_shape: Shape,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    activation: Activation | None = None,
    data_format: DataFormat3d = "NCDHW",
    algorithm: ConvAlgorithm = "auto",
    device: Device | None = None,
    measure: bool = False,
) -> Plan:
    """Check and pack a `conv3d` once and choose its algorithm, to call it many times.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come, (N, C, D, H, W) or (C, D, H, W).
    weight, bias, stride, padding, dilation, groups, padding_mode, activation, data_format, algorithm, device
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
    options = (stride, padding, dilation, groups, padding_mode, activation, "float32", data_format, algorithm, device)
    return _plan_convolution(3, x_shape, weight, bias, dtype, *options, measure)


def planned(
    spec: Callable[..., ConvSpec | TransposeSpec],
    x_shape: Any,
    weight: Any,
    bias: Any,
    dtype: Any,
    algorithm: str,
    device: str | None,
    measure: bool,
) -> Any:
    """Plan the problem that the function `spec` makes from the input's shape and dtype, the weight and the bias."""
    calls = backend(device, weight if device is None else None)
    weight = calls.operand("weight", weight)
    bias = None if bias is None else calls.operand("bias", bias)
    x_dtype = weight.dtype if dtype is None else calls.planned_dtype(dtype)
    problem = spec(shape("x_shape", x_shape), x_dtype, weight, bias)
    return calls.plan(problem, weight, bias, algorithm, flag("measure", measure))
