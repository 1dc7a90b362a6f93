"""The public transposed convolutions. What they compute, and how, is in `transposed`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from . import (
    _forks,  # noqa: F401 # must be there before the first fork, which may come before the first call
    transposed,
)
from .checks import Pair, Sizes, array, frozen_padding, integer, paddings, per_axis
from .spec import ConvSpec, conv_spec

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    output_size: Any = None,
    algorithm: str = "auto",
    device: str = "cpu",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """2-D transposed convolution layer, as in PyTorch: every element of `x` adds the kernels times itself.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        The input.
    weight : array_like, shape (C, C_out / groups, KH, KW)
        The kernels.
    bias : array_like, shape (C_out,), optional
        Added to every element of its output channel.
    stride, dilation : int or (int, int)
        Distance in the output of what neighbouring elements of `x` add, and of what neighbouring taps do.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        As much is cut off the sides of the output; "same" cuts it to ``H * stride``, the odd one at the end ("same") or
        start ("same_lower").
    output_padding : int or (int, int)
        Added to the output's size at the end; less than the stride or the dilation.
    groups : int
        The channels are split into this many independent operations.
    output_size : int or (int, int), optional
        Of the output, instead of `output_padding`, which it then tells (as in PyTorch's layer). Where it is smaller
        than all that the kernels reach, it tells the padding instead of `padding` (as in ONNX): half of it on each
        side, the odd one at the start, or at the end with "same".
    algorithm, device, out
        As in `conv2d`, whose algorithms do the work.

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
    The index equation is in `fastconv.transposed`. It is the gradient of a convolution for its input.

    Source: Zeiler et al., Deconvolutional networks, 2010; Dumoulin and Visin, arXiv:1603.07285, chapter 4.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.conv_transpose2d([[[1.0, 2.0, 3.0]]], [[[[1.0, 10.0]]]])
    array([[[ 1., 12., 23., 30.]]])
    >>> fastconv.conv_transpose2d([[[1.0, 2.0, 3.0]]], [[[[1.0, 10.0]]]], stride=(1, 2))
    array([[[ 1., 10.,  2., 20.,  3., 30.]]])
    """
    sizes = stride, padding, output_padding, dilation, output_size
    return _transpose(2, x, weight, bias, *sizes, groups, algorithm, device, out)


def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    output_size: Any = None,
    algorithm: str = "auto",
    device: str = "cpu",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """1-D transposed convolution layer: `conv_transpose2d` of signals, as in PyTorch.

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
    sizes = stride, padding, output_padding, dilation, output_size
    return _transpose(1, x, weight, bias, *sizes, groups, algorithm, device, out)


def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    output_size: Any = None,
    algorithm: str = "auto",
    device: str = "cpu",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """3-D transposed convolution layer: `conv_transpose2d` of volumes, as in PyTorch.

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
    sizes = stride, padding, output_padding, dilation, output_size
    return _transpose(3, x, weight, bias, *sizes, groups, algorithm, device, out)


def _transpose(
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    output_size: Any,
    groups: Any,
    algorithm: str,
    device: str,
    out: np.ndarray | None,
) -> np.ndarray:
    """`conv_transpose2d` along so many axes."""
    if device == "cuda":
        raise ValueError("device must be 'cpu' for transposed convolutions: a GPU does not compute them, so far")
    x, weight = array("x", x), array("weight", weight)
    bias = None if bias is None else array("bias", bias)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    problem = _problem(
        axes,
        x.shape,
        weight.shape,
        None if bias is None else bias.shape,
        tuple([operand.dtype for operand in inputs]),
        per_axis("stride", stride, 1, axes),
        frozen_padding(padding, axes),
        per_axis("output_padding", output_padding, 0, axes),
        per_axis("dilation", dilation, 1, axes),
        None if output_size is None else per_axis("output_size", output_size, 1, axes),
        integer("groups", groups, 1),
    )
    return transposed.transposed_recipe(problem, algorithm, device).run(weight, x, bias, out)


@lru_cache(maxsize=1024)
def _problem(
    axes: int,
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    dtypes: tuple[np.dtype, ...],
    stride: Sizes,
    padding: Any,
    extra: Sizes,
    dilation: Sizes,
    wanted: Sizes | None,
    groups: int,
) -> ConvSpec:
    """The convolution that is transposed; ValueError if the arguments do not fit together."""
    if len(x_shape) not in (axes + 1, axes + 2) or min(x_shape[-axes - 1 :]) < 1:
        raise ValueError(f"x must have {axes} spatial axes, channels and perhaps a batch, none but that empty; got "
                         f"shape {x_shape}")
    if len(weight_shape) != axes + 2 or min(weight_shape) < 1:
        raise ValueError(f"weight must have shape (C, C_out / groups, kernel) with {axes} axes of a kernel, none "
                         f"empty; got {weight_shape}")
    channels, c_group, *kernel = weight_shape
    if x_shape[-axes - 1] != channels:
        raise ValueError(f"x has {x_shape[-axes - 1]} channels, but weight of shape {weight_shape} needs {channels}")
    if channels % groups:
        raise ValueError(f"groups must divide the channels: got groups={groups} for {channels} channels in")
    if bias_shape is not None and bias_shape != (c_group * groups,):
        raise ValueError(f"bias must have shape ({c_group * groups},), one value an output channel, got {bias_shape}")
    if wanted is not None and any(extra):
        raise ValueError(f"output_padding {extra} and output_size {wanted} exclude each other")
    for number, step, gap in zip(extra, stride, dilation, strict=True):
        if number >= max(step, gap):
            raise ValueError(f"output_padding must be less than the stride or the dilation, got {number} with stride "
                             f"{step} and dilation {gap}")
    size = x_shape[-axes:]
    window = tuple([gap * (taps - 1) + 1 for taps, gap in zip(kernel, dilation, strict=True)])
    reach = tuple([(count - 1) * step + wide for count, step, wide in zip(size, stride, window, strict=True)])
    outputs, pads = _outputs(size, reach, stride, dilation, padding, extra, wanted)
    problem = conv_spec(
        (*x_shape[: -axes - 1], c_group * groups, *outputs),
        weight_shape,
        dtypes,
        axes=axes,
        stride=stride,
        padding=pads,
        dilation=dilation,
        groups=groups,
    )
    # An output padding beyond the stride could give the convolution a larger output than `x`.
    d, h, w = (*(1,) * (3 - axes), *size)
    return replace(problem, oh=h, ow=w, depth=problem.depth._replace(od=d))


def _outputs(
    size: Sizes, reach: Sizes, stride: Sizes, dilation: Sizes, padding: Any, extra: Sizes, wanted: Sizes | None
) -> tuple[Sizes, tuple[Pair, ...]]:
    """Sizes of the output, and what is cut off the sides of all that the kernels reach."""
    named = padding in ("same", "same_lower")
    if named and wanted is None:
        wanted = tuple([count * step + more for count, step, more in zip(size, stride, extra, strict=True)])
    pads = paddings("valid" if named else padding, size, size, stride)
    if wanted is None:
        outputs = tuple([full + more - sum(cut) for full, more, cut in zip(reach, extra, pads, strict=True)])
        if min(outputs) < 1:
            raise ValueError(f"padding {padding!r} cuts off all of an output of {reach} (plus output_padding {extra})")
        return outputs, pads
    cuts = []
    for goal, full, step, gap, cut in zip(wanted, reach, stride, dilation, pads, strict=True):
        if not any(cut):  # none is given, or it is to be found
            less = max(0, full - goal)
            cut = (less // 2, less - less // 2) if padding == "same" else (less - less // 2, less // 2)
        if not 0 <= goal - full + sum(cut) < max(step, gap):
            least = full - sum(cut) if any(cut) else 1
            most = full - sum(cut) + max(step, gap) - 1
            raise ValueError(f"output_size must be from {least} to {most} on an axis of stride {step}, dilation {gap}, "
                             f"padding {cut}, got {goal}")
        cuts.append(cut)
    return wanted, tuple(cuts)
