"""Plans of transposed convolutions: checked, decided and packed once, to be called again and again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..planner.plan import Plan
from ..specs.conv_transpose import Geometry, TransposeSpec, transpose_spec
from ..typing import Device, Padding, PerAxis, Shape, TransposeAlgorithm
from .plans import planned

__all__ = ["plan_conv_transpose1d", "plan_conv_transpose2d", "plan_conv_transpose3d"]


def plan_conv_transpose2d(
    x_shape: Shape,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    output_size: PerAxis | None = None,
    algorithm: TransposeAlgorithm = "auto",
    device: Device | None = None,
    measure: bool = False,
) -> Plan:
    """Check and pack a `conv_transpose2d` once and choose its algorithm, to call it many times.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come, (N, C, H, W) or (C, H, W).
    weight, bias, stride, padding, output_padding, groups, dilation, output_size, algorithm
        As in `conv_transpose2d`. Weight and bias are copied: changing them later does not change the plan.
    dtype : dtype, optional
        The dtype of the inputs to come; the weight's by default.
    device : {"cpu", "cuda"}, optional
        The device to compute on; by default the one that holds `weight`.
    measure : bool
        As in `plan_conv2d`. The convolutions that some algorithms consist of are measured first.

    Returns
    -------
    Plan
        Call it as ``plan(x)`` or ``plan(x, out=out)``, from as many threads as you like. It has the attributes
        ``spec``, ``algorithm``, ``flops``, ``scratch_bytes`` and ``output_shape``.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_transpose2d`.

    Notes
    -----
    Source: Frigo and Johnson, The design and implementation of FFTW3, 2005, for planning separately from running.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> plan = fastconv.plan_conv_transpose2d((1, 1, 2), [[[[1.0, 10.0]]]], stride=(1, 2))
    >>> plan.output_shape, plan.flops
    ((1, 1, 4), 8)
    >>> plan([[[1.0, 2.0]]])
    array([[[ 1., 10.,  2., 20.]]])
    """
    geometry = stride, padding, output_padding, dilation, output_size
    return _plan_transpose(2, x_shape, weight, bias, dtype, geometry, groups, algorithm, device, measure)


def plan_conv_transpose1d(
    x_shape: Shape,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    output_size: PerAxis | None = None,
    algorithm: TransposeAlgorithm = "auto",
    device: Device | None = None,
    measure: bool = False,
) -> Plan:
    """Check and pack a `conv_transpose1d` once and choose its algorithm, to call it many times.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come, (N, C, W) or (C, W).
    weight, bias, stride, padding, output_padding, groups, dilation, output_size, algorithm
        As in `conv_transpose1d`.
    dtype, device, measure
        As in `plan_conv_transpose2d`.

    Returns
    -------
    Plan
        As `plan_conv_transpose2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_transpose1d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.plan_conv_transpose1d((1, 80, 100), np.ones((80, 8, 4), np.float32), stride=2).output_shape
    (1, 8, 202)
    """
    geometry = stride, padding, output_padding, dilation, output_size
    return _plan_transpose(1, x_shape, weight, bias, dtype, geometry, groups, algorithm, device, measure)


def plan_conv_transpose3d(
    x_shape: Shape,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
    output_size: PerAxis | None = None,
    algorithm: TransposeAlgorithm = "auto",
    device: Device | None = None,
    measure: bool = False,
) -> Plan:
    """Check and pack a `conv_transpose3d` once and choose its algorithm, to call it many times.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come, (N, C, D, H, W) or (C, D, H, W).
    weight, bias, stride, padding, output_padding, groups, dilation, output_size, algorithm
        As in `conv_transpose3d`.
    dtype, device, measure
        As in `plan_conv_transpose2d`.

    Returns
    -------
    Plan
        As `plan_conv_transpose2d`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_transpose3d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.plan_conv_transpose3d((1, 8, 4, 5, 6), np.ones((8, 3, 2, 2, 2), np.float32), stride=2).output_shape
    (1, 3, 8, 10, 12)
    """
    geometry = stride, padding, output_padding, dilation, output_size
    return _plan_transpose(3, x_shape, weight, bias, dtype, geometry, groups, algorithm, device, measure)


def _plan_transpose(
    axes: int,
    x_shape: Any,
    weight: Any,
    bias: Any,
    dtype: Any,
    geometry: Geometry,
    groups: Any,
    algorithm: str,
    device: str | None,
    measure: bool,
) -> Any:
    """Plan a transposed convolution along `axes` spatial axes; the arguments are those of `plan_conv_transpose2d`."""

    def spec(x_shape: tuple[int, ...], x_dtype: np.dtype, weight: Any, bias: Any) -> TransposeSpec:
        return transpose_spec(axes, x_shape, x_dtype, weight, bias, geometry, groups, "x_shape")

    return planned(spec, x_shape, weight, bias, dtype, algorithm, device, measure)
