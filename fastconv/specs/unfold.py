"""Specs of unfolding and folding: the convolution whose windows are the columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.values import shown
from .arguments import pair
from .conv import ConvSpec, conv_spec


def unfold_spec(
    x_shape: tuple[int, ...], dtype: np.dtype, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    name: str = "x", channels_last: bool = False,
) -> ConvSpec:  # fmt: skip
    """A convolution with these windows; ValueError or TypeError if an argument does not fit. `name` is what the
    caller's argument with the input's size is called."""
    channels = x_shape[-1 if channels_last else -3] if len(x_shape) in (3, 4) else 1
    weight = (1, max(channels, 1), *pair("kernel_size", kernel_size, 1))
    names = f"{name}, kernel_size as a weight"
    options = {"stride": stride, "padding": padding, "dilation": dilation, "channels_last": channels_last}
    return conv_spec(x_shape, weight, (dtype,), **options, names=names)


def fold_spec(
    given: tuple[int, ...], dtype: np.dtype, output_size: Any, kernel_size: Any, stride: Any, padding: Any,
    dilation: Any, channels_last: bool = False,
) -> ConvSpec:
    """The convolution whose windows are columns, or rows if channels are last, of shape `given`; ValueError or
    TypeError if an argument is wrong."""
    kernel, axis = pair("kernel_size", kernel_size, 1), -1 if channels_last else -2
    if len(given) not in (2, 3) or not given[axis] or given[axis] % (kernel[0] * kernel[1]):
        layout = "L, KH * KW * C" if channels_last else "C * KH * KW, L"
        raise ValueError(f"columns must have shape (N, {layout}) or ({layout}) with kernel_size {kernel}, got {given}")
    channels, size = given[axis] // (kernel[0] * kernel[1]), pair("output_size", output_size, 1)
    shape = (*given[:-2], *size, channels) if channels_last else (*given[:-2], channels, *size)
    problem = unfold_spec(shape, dtype, kernel, stride, padding, dilation, "output_size", channels_last)
    if given != columns_shape(problem):
        raise ValueError(f"columns has shape {given}, but windows at {problem.oh}x{problem.ow} positions make "
                         f"{columns_shape(problem)}: output_size {size}, kernel_size {kernel}, stride "
                         f"{shown(stride)}, padding {shown(padding)}, dilation {shown(dilation)}")
    return problem


def columns_shape(problem: ConvSpec) -> tuple[int, ...]:
    """Shape of the caller's columns, or rows if channels are last: without the axis of images if the images have
    none."""
    windows = problem.taps, problem.oh * problem.ow
    return (problem.n, *windows[:: -1 if problem.channels_last else 1])[0 if problem.batched else 1 :]
