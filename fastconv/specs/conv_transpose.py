"""A transposed convolution is a convolution, as a linear map, read the other way round: it maps the shape of the
convolution's output to the shape of its input. A `TransposeSpec` is one call, checked once::

    out[n, c, u, v] = bias[c] + sum over o, a, b, i, j with i * stride_h - top + a * dilation_h = u  (v alike)
                      of weight[o, c, a, b] * x[n, o, i, j]

It is also the gradient of a convolution for its input.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ..base.values import shown
from .arguments import Pair, Sizes, frozen_padding, integer, paddings, per_axis, window_size
from .conv import ConvSpec, HashedOnce, conv_spec

#: The arguments stride, padding, output_padding, dilation and output_size of a call.
Geometry = tuple[Any, Any, Any, Any, Any]


@dataclass(frozen=True)
class TransposeSpec(HashedOnce):
    """One transposed convolution: `convolution` is the one that is transposed, with all checks passed.

    Properties have the names and meanings of `ConvSpec`'s. The input is the convolution's output, the output its input.
    """

    convolution: ConvSpec

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        """The text of the convolution behind "transpose of"; two problems never have equal texts."""
        return f"transpose of {self.convolution}"

    def as_batch(self) -> TransposeSpec:
        """This transposed convolution with an axis of images."""
        return TransposeSpec(self.convolution.as_batch())

    def of_images(self, n: int) -> TransposeSpec:
        """This transposed convolution for another number of images."""
        return TransposeSpec(self.convolution.of_images(n))

    @cached_property
    def extended(self) -> TransposeSpec:
        """The transposed convolution that algorithms compute: the gradient for an input that has its padding."""
        convolution = self.convolution.extended
        return self if convolution is self.convolution else TransposeSpec(convolution)

    @cached_property
    def axes(self) -> int:
        """The number of spatial axes."""
        return self.convolution.axes

    @cached_property
    def dtype(self) -> np.dtype:
        """The promoted dtype of the operands."""
        return self.convolution.dtype

    @cached_property
    def x_dtype(self) -> np.dtype:
        """The dtype that the kernels read `x` as."""
        return self.convolution.x_dtype

    @cached_property
    def acc_dtype(self) -> np.dtype:
        """The dtype that the kernels add up in, and that they read weights as."""
        return self.convolution.acc_dtype

    @cached_property
    def out_dtype(self) -> np.dtype:
        """The dtype of the caller's result."""
        return self.convolution.out_dtype

    @cached_property
    def precision(self) -> str:
        """How float32 operands are multiplied."""
        return self.convolution.precision

    @cached_property
    def n(self) -> int:
        """Number of images."""
        return self.convolution.n

    @cached_property
    def c_out(self) -> int:
        """Channels of the output."""
        return self.convolution.c_in

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input as the caller gave it."""
        return self.convolution.output_shape

    @cached_property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as the caller gave it."""
        return self.convolution.weight_shape

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output as the caller gets it."""
        return self.convolution.x_shape

    @cached_property
    def kernel_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shapes of input, weight and output as algorithms take them."""
        output, weight, x = self.convolution.kernel_shapes
        return x, weight, output

    @cached_property
    def flops(self) -> int:
        """Multiplications and additions of the definition."""
        return self.convolution.flops


#: The transposed convolution of a `ConvSpec`, the same object each time: tables find it without comparing its fields.
transposed = lru_cache(maxsize=4096)(TransposeSpec)


def transpose_spec(
    axes: int,
    x_shape: tuple[int, ...],
    x_dtype: np.dtype,
    weight: Any,
    bias: Any,
    geometry: Geometry,
    groups: Any,
    name: str = "x",
) -> TransposeSpec:
    """Check a transposed convolution; ValueError or TypeError if an argument, or all together, do not fit. `name` is
    what the caller's argument with the input's shape is called."""
    stride, padding, output_padding, dilation, output_size = geometry
    return _problem(
        axes,
        x_shape,
        weight.shape,
        None if bias is None else bias.shape,
        (x_dtype, weight.dtype) if bias is None else (x_dtype, weight.dtype, bias.dtype),
        per_axis("stride", stride, 1, axes),
        frozen_padding(padding, axes),
        per_axis("output_padding", output_padding, 0, axes),
        per_axis("dilation", dilation, 1, axes),
        None if output_size is None else per_axis("output_size", output_size, 1, axes),
        integer("groups", groups, 1),
        name,
    )


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
    x: str,
) -> TransposeSpec:
    """Check that arguments, each of which is valid, fit together; ValueError otherwise."""
    if len(x_shape) not in (axes + 1, axes + 2) or min(x_shape[-axes - 1 :]) < 1:
        raise ValueError(f"{x} must have {axes} spatial axes, channels and perhaps a batch, none but that empty; got "
                         f"shape {shown(x_shape)}")
    if len(weight_shape) != axes + 2 or min(weight_shape) < 1:
        raise ValueError(f"weight must have shape (C, C_out / groups, kernel) with {axes} axes of a kernel, none "
                         f"empty; got {weight_shape}")
    channels, c_group, *kernel = weight_shape
    if x_shape[-axes - 1] != channels:
        raise ValueError(f"{x} has {x_shape[-axes - 1]} channels, but weight of shape {weight_shape} needs {channels}; "
                         f"{x} has shape {x_shape}")
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
    window = window_size(kernel, dilation)
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
    # An output_padding larger than the stride could give the convolution a larger output than `x`.
    d, h, w = (*(1,) * (3 - axes), *size)
    return TransposeSpec(replace(problem, oh=h, ow=w, depth=problem.depth._replace(od=d)))


def _outputs(
    size: Sizes, reach: Sizes, stride: Sizes, dilation: Sizes, padding: Any, extra: Sizes, wanted: Sizes | None
) -> tuple[Sizes, tuple[Pair, ...]]:
    """Sizes of the output, and how much is cut off each side of everything that the kernels reach."""
    named = padding in ("same", "same_lower")
    if named and wanted is None:
        wanted = tuple([count * step for count, step in zip(size, stride, strict=True)])
    pads = paddings("valid" if named else padding, size, size, stride)
    if wanted is None:
        outputs = tuple([full + more - sum(cut) for full, more, cut in zip(reach, extra, pads, strict=True)])
        if min(outputs) < 1:
            raise ValueError(f"padding {padding!r} cuts off all of an output of {reach} (plus output_padding {extra})")
        return outputs, pads
    cuts = []
    for goal, full, more, step, gap, cut in zip(wanted, reach, extra, stride, dilation, pads, strict=True):
        if not any(cut):  # none is given, or it is to be found
            less = max(0, full + more - goal)
            before = less // 2 if padding == "same" else less - less // 2
            cut = before, max(0, less - before - more)  # of the zeros that `output_padding` adds first
        if not 0 <= goal - full + sum(cut) < max(step, gap):
            least = full - sum(cut) if any(cut) else 1
            most = full - sum(cut) + max(step, gap) - 1
            raise ValueError(f"output_size must be from {least} to {most} on an axis of stride {step}, dilation {gap}, "
                             f"padding {cut}, got {goal}")
        cuts.append(cut)
    return wanted, tuple(cuts)
