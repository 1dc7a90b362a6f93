"""The transpose of a convolution as linear map: what its input's gradient and `conv_transpose2d` are.

A `ConvSpec` describes the convolution that is transposed; what comes out has the shape of its input::

    out[n, c, u, v] = bias[c] + sum over o, a, b, i, j with i * stride_h - top + a * dilation_h = u  (v alike)
                      of weight[o, c, a, b] * y[n, o, i, j]

Without a stride that is a convolution of `y` with the kernels flipped and their channels exchanged. With one, the rows
u of each remainder by the stride see only some of the taps, always the same: each remainder is a convolution without
stride, and their results are interleaved. No zeros are inserted, nothing is multiplied by them. Where the stride
divides the kernel, all remainders see equally many taps, and together they are one convolution with as many times the
channels (`_together`); elsewhere, `phases` gives one convolution for each.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4; Shi et
al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .checks import Pair, Sizes, kernel_ready, result_array
from .plan import recipe
from .spec import ConvSpec, conv_spec

#: Of the axes of images and channels.
_ALL = slice(None), slice(None)


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
    result = result_array(spec.x_shape, spec.out_dtype, out, inputs)
    if not result.size:
        return result
    seen_shape, weight_shape, y_shape = spec.kernel_shapes
    images, y = result.reshape(seen_shape), y.reshape(y_shape)
    weight = kernel_ready(weight, spec.acc_dtype).reshape(spec.groups, -1, weight_shape[1], math.prod(weight_shape[2:]))
    joint = _together(spec)
    if joint is not None:
        many = math.prod(joint.phases)
        biases = None if bias is None else np.repeat(bias, many)
        problem = _problem(spec, y, spec.c_in * many, joint.kernel, joint.padding, joint.dilation)
        this = recipe(problem, algorithm, device, once=True)
        operands = this.pack(_exchanged(weight, joint.order, problem), biases)
        if joint.whole:
            this.run(y, operands, images.reshape(problem.output_shape), ())
        else:
            _interleave(this.run(y, operands, None, ()), joint, images)
        return result
    along = _phases(spec)
    if any(len(found) < least for found, least in along):
        images[...] = 0 if bias is None else bias.reshape(-1, *(1,) * len(along))
    places = np.arange(weight.shape[-1]).reshape(weight_shape[2:])
    for axes in itertools.product(*(found for found, _ in along)):
        taps = tuple([phase.taps for phase in axes])
        inner, at = (*_ALL, *[phase.seen for phase in axes]), (*_ALL, *[phase.at for phase in axes])
        order, seen = places[taps], y[inner]
        sides, gaps = tuple([phase.padding for phase in axes]), tuple([phase.dilation for phase in axes])
        problem = _problem(spec, seen, spec.c_in, order.shape, sides, gaps)
        this = recipe(problem, algorithm, device, once=True)
        operands = this.pack(_exchanged(weight, order.reshape(1, -1), problem), bias)
        images[at] = this.run(seen, operands, None, ())
    return result


def _problem(
    spec: ConvSpec, y: np.ndarray, channels: int, kernel: Sizes, padding: tuple[Pair, ...], dilation: Sizes
) -> ConvSpec:
    """The convolution of `y` that gives some phases."""
    return conv_spec(
        y.shape,
        (channels, spec.c_out // spec.groups, *kernel),
        (spec.dtype,),
        axes=len(kernel),
        padding=padding,
        dilation=dilation,
        groups=spec.groups,
    )


def _exchanged(weight: np.ndarray, order: np.ndarray, problem: ConvSpec) -> np.ndarray:
    """Weights (groups, channels of y, channels of the result, taps) as those of a convolution of `y`."""
    from .cpu.shuffle import exchange

    groups, depth, channels, _ = weight.shape
    exchanged = np.empty((groups, channels, order.shape[0], depth, order.shape[1]), weight.dtype)
    exchange(_bits(weight), np.ascontiguousarray(order), _bits(exchanged))
    return exchanged.reshape(problem.kernel_shapes[1])


def _bits(array: np.ndarray) -> np.ndarray:
    """An array as integers: elements are moved, whatever they are."""
    return array.view(f"u{array.itemsize}")


def _interleave(results: np.ndarray, joint: _Joint, images: np.ndarray) -> None:
    """Put the phases, which are channels of `results`, in turns."""
    from .cpu.shuffle import interleave

    missing = 5 - images.ndim
    out = images.reshape(-1, *(1,) * missing, *images.shape[2:])
    phases = results.reshape(len(out), *joint.phases, *(1,) * missing, *results.shape[2:])
    interleave(_bits(phases), joint.pad, joint.first, _bits(out))


class _Joint(NamedTuple):
    """All phases as one convolution."""

    phases: Sizes
    """Their number along each axis."""
    kernel: Sizes
    """Taps that a phase sees."""
    order: np.ndarray
    """Which these are, flat: (phases, taps)."""
    padding: tuple[Pair, ...]
    dilation: Sizes
    pad: Sizes
    """The padding before the input of the convolution that is transposed."""
    first: Sizes
    """The first position in each phase."""
    whole: bool
    """Whether the phases lie in memory as the result does: there is one, or each is one element."""


@lru_cache(maxsize=1024)
def _together(spec: ConvSpec) -> _Joint | None:
    """The convolution that gives all phases, if they see equally many taps."""
    volume = _axes(spec)
    kernels, orders, sides, gaps, phases, firsts = [], [], [], [], [], []
    for size, extent, kernel, stride, pad, dilation in volume:
        if extent == 1 and dilation == 1:
            stride = kernel  # neighbours that are not there may be any distance away
        if stride > 1 and (dilation > 1 or kernel % stride):
            return None
        count, gap, first = kernel // stride, dilation if stride == 1 else 1, pad // stride
        padding = (count - 1) * gap - first, (pad + size - 1) // stride + 1 - extent
        if min(padding) < 0:
            return None  # some of `y` is not seen
        kernels.append(count)
        orders.append(np.arange(stride)[:, None] + np.arange(count - 1, -1, -1) * stride)
        sides.append(padding)
        gaps.append(gap)
        phases.append(stride)
        firsts.append(first)
    kh, kw = volume[1][2], volume[2][2]
    order = orders[0][:, None, None, :, None, None] * kh + orders[1][None, :, None, None, :, None]
    order = order * kw + orders[2][None, None, :, None, None, :]
    single = all(axis[0] == stride and not axis[4] for axis, stride in zip(volume, phases, strict=True))
    start = 0 if spec.axes == 3 else 1
    return _Joint(
        tuple(phases), tuple(kernels[start:]), order.reshape(math.prod(phases), -1), tuple(sides[start:]),
        tuple(gaps[start:]), tuple([axis[4] for axis in volume]), tuple(firsts), single or max(phases) == 1,
    )  # fmt: skip


def _axes(spec: ConvSpec) -> list[tuple[int, int, int, int, int, int]]:
    """Of depth, height and width: size, extent, kernel, stride, pad, dilation, as `phases` takes them."""
    depth, (top, _), (left, _) = spec.depth, *spec.padding
    return [
        (depth.d, depth.od, depth.kd, depth.stride, depth.padding[0], depth.dilation),
        (spec.h, spec.oh, spec.kh, spec.stride[0], top, spec.dilation[0]),
        (spec.w, spec.ow, spec.kw, spec.stride[1], left, spec.dilation[1]),
    ]


def _phases(spec: ConvSpec) -> list[tuple[tuple[Phase, ...], int]]:
    """Of each axis that kernels have: its phases, and how many there would be if taps reached all."""
    return [(phases(*axis), min(axis[3], axis[0])) for axis in _axes(spec)[0 if spec.axes == 3 else 1 :]]
