"""The transpose of a convolution as linear map: what its input's gradient and `conv_transpose2d` are.

A `ConvSpec` describes the convolution that is transposed; what comes out has the shape of its input::

    out[n, c, u, v] = bias[c] + sum over o, a, b, i, j with i * stride_h - top + a * dilation_h = u  (v alike)
                      of weight[o, c, a, b] * y[n, o, i, j]

Without a stride that is a convolution of `y` with the kernels flipped and their channels exchanged. With one, the rows
u of each remainder by the stride see only some of the taps, always the same: `phases` gives a convolution without
stride for each remainder, and their results are interleaved. No zeros are inserted, nothing is multiplied by them.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4; Shi et
al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .checks import Pair, allocate, check_out
from .plan import Plan
from .spec import ConvSpec, conv_spec


class Phase(NamedTuple):
    """Along one axis: the positions of one remainder by the stride, and the convolution that gives them."""

    at: slice
    """The positions."""
    taps: slice
    """Those that reach them, last first: the kernel is flipped."""
    seen: slice
    """The part of `y` that is not cropped by a negative padding."""
    padding: Pair
    dilation: int


@lru_cache(maxsize=4096)
def phases(size: int, extent: int, kernel: int, stride: int, pad: int, dilation: int) -> tuple[Phase, ...]:
    """The phases of an axis that some tap reaches.

    `size` and `extent` are the input's and the output's of the convolution that is transposed, `pad` its padding before
    the input.
    """
    found = []
    common = math.gcd(stride, dilation)
    every, gap = stride // common, dilation // common  # of the taps that reach a phase, in taps and in steps of `y`
    for first in range(min(stride, size)):
        step, remainder = divmod(first + pad, stride)
        reach = [a for a in range(min(kernel, every)) if a * dilation % stride == remainder]
        if not reach:
            continue
        (tap,) = reach
        count, positions = -(-(kernel - tap) // every), -(-(size - first) // stride)
        window = (count - 1) * gap + 1
        before = (tap * dilation - remainder) // stride + window - 1 - step
        after = positions - extent - before + window - 1
        seen = slice(max(0, -before), extent - max(0, -after))
        if seen.start < seen.stop:
            last = tap + (count - 1) * every
            taps = slice(last, tap - every if tap >= every else None, -every)
            found.append(Phase(slice(first, None, stride), taps, seen, (max(0, before), max(0, after)), gap))
    return tuple(found)


def run(
    spec: ConvSpec,
    weight: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray | None = None,
    algorithm: str = "auto",
    device: str = "cpu",
    out: Any = None,
) -> np.ndarray:
    """Transpose the convolution `spec`, whose weight and output's shape `weight` and `y` have.

    `bias` has one value a channel of the result. `algorithm` is one of the convolution's.
    """
    inputs = (weight, y) if bias is None else (weight, y, bias)
    if out is None:
        result = allocate(spec.x_shape, spec.out_dtype)
    else:
        result = check_out(out, spec.x_shape, spec.out_dtype, inputs)
    if not result.size:
        return result
    seen_shape, weight_shape, y_shape = spec.kernel_shapes
    images, y = result.reshape(seen_shape), y.reshape(y_shape)
    along = _phases(spec)
    if any(len(found) < least for found, least in along):
        images[...] = 0 if bias is None else bias.reshape(-1, *(1,) * len(along))
    # (groups, channels of the result, channels of y, kernel)
    exchanged = weight.reshape(spec.groups, -1, *weight_shape[1:]).swapaxes(1, 2)
    for axes in itertools.product(*(found for found, _ in along)):
        kernels = exchanged[..., *(phase.taps for phase in axes)]
        kernels = np.ascontiguousarray(kernels).reshape(spec.c_in, *kernels.shape[2:])
        seen = y[..., *(phase.seen for phase in axes)]
        problem = conv_spec(
            seen.shape,
            kernels.shape,
            (spec.dtype,),
            axes=len(axes),
            padding=tuple([phase.padding for phase in axes]),
            dilation=tuple([phase.dilation for phase in axes]),
            groups=spec.groups,
        )
        plan = Plan(problem, kernels, bias, algorithm, device)
        if all(phase.at.step == 1 for phase in axes):
            plan.run(seen, images, ())
        else:
            images[..., *(phase.at for phase in axes)] = plan.run(seen, None, ())
    return result


def _phases(spec: ConvSpec) -> list[tuple[tuple[Phase, ...], int]]:
    """Of each axis that kernels have: its phases, and how many there would be if taps reached all."""
    depth, (top, _), (left, _) = spec.depth, *spec.padding
    axes = [
        (depth.d, depth.od, depth.kd, depth.stride, depth.padding[0], depth.dilation),
        (spec.h, spec.oh, spec.kh, spec.stride[0], top, spec.dilation[0]),
        (spec.w, spec.ow, spec.kw, spec.stride[1], left, spec.dilation[1]),
    ]
    return [(phases(*axis), min(axis[3], axis[0])) for axis in axes[0 if spec.axes == 3 else 1 :]]
