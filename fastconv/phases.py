"""Which convolutions a transposed convolution is made of: the geometry of `transposed`.

Along an axis, position u of the result is reached by tap a from element i of `y` with u + pad = i * stride + a *
dilation. So the positions of one remainder by the stride see some of the taps only, always the same: a phase.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .checks import Pair, Sizes
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
    for first, tap in sorted(((tap * dilation - pad) % stride, tap) for tap in range(min(kernel, every))):
        if first >= size:
            continue
        step, remainder = divmod(first + pad, stride)
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


class Part(NamedTuple):
    """One convolution."""

    problem: ConvSpec
    order: np.ndarray
    """Taps (phases, taps of one) of its kernels, flat."""
    seen: tuple[slice, ...]
    """The part of `y` that it sees."""
    at: tuple[slice, ...]
    """Where its result goes, if it is the only one there."""
    taps: tuple[slice, ...] = ()
    """Those of `order` along each axis, if there is one phase."""


class Turns(NamedTuple):
    """How the elements of phases that all have the same size take turns in the result."""

    phases: Sizes
    """Their number along depth, height and width."""
    pad: Sizes
    """What is added to a position before it is divided by that number."""
    first: Sizes
    """The quotient of the first position."""


class Parts(NamedTuple):
    """All convolutions of a transposed one."""

    parts: tuple[Part, ...]
    turns: Turns | None
    """If the phases have the same size, or are the channels of one convolution."""
    complete: bool
    """Whether they give every element of the result; zeros and the bias are at the others."""
    whole: bool
    """Whether what they give lies in memory as the result does: there is one phase, or each is one element."""


def separate(spec: ConvSpec) -> Parts:
    """One convolution for each phase."""
    axes = _axes(spec)[0 if spec.axes == 3 else 1 :]
    along = [phases(*axis) for axis in axes]
    places = np.arange(math.prod(axis[2] for axis in axes)).reshape([axis[2] for axis in axes])
    y_shape = spec.kernel_shapes[2]
    found = []
    for several in itertools.product(*along):
        taps = tuple([phase.taps for phase in several])
        order, seen = places[taps], [phase.seen for phase in several]
        extents = [len(range(*part.indices(size))) for part, size in zip(seen, y_shape[2:], strict=True)]
        sides, gaps = [phase.padding for phase in several], [phase.dilation for phase in several]
        problem = _problem(spec, extents, spec.c_in, order.shape, sides, gaps)
        at = (*_ALL, *[phase.at for phase in several])
        found.append(Part(problem, np.ascontiguousarray(order.reshape(1, -1)), (*_ALL, *seen), at, taps))
    complete = all(len(every) == min(axis[3], axis[0]) for every, axis in zip(along, axes, strict=True))
    even = complete and all(axis[0] % axis[3] == 0 for axis in axes)
    missing = (1,) * (3 - len(axes))
    turns = Turns((*missing, *[axis[3] for axis in axes]), (0, 0, 0), (0, 0, 0)) if even else None
    return Parts(tuple(found), turns, complete, len(found) == 1 and complete)


def together(spec: ConvSpec) -> Parts | None:
    """The convolution that gives all phases, if they see equally many taps."""
    volume = _axes(spec)
    kernels, orders, sides, gaps, strides, firsts = [], [], [], [], [], []
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
        strides.append(stride)
        firsts.append(first)
    kh, kw = volume[1][2], volume[2][2]
    order = orders[0][:, None, None, :, None, None] * kh + orders[1][None, :, None, None, :, None]
    order = order * kw + orders[2][None, None, :, None, None, :]
    start, many = 0 if spec.axes == 3 else 1, math.prod(strides)
    extents = spec.kernel_shapes[2][2:]
    problem = _problem(spec, extents, spec.c_in * many, kernels[start:], sides[start:], gaps[start:])
    single = all(axis[0] == stride and not axis[4] for axis, stride in zip(volume, strides, strict=True))
    turns = Turns(tuple(strides), tuple([axis[4] for axis in volume]), tuple(firsts))
    return Parts((Part(problem, order.reshape(many, -1), _ALL, _ALL),), turns, True, single or many == 1)


def _problem(spec: ConvSpec, extents: Any, channels: int, kernel: Any, padding: Any, dilation: Any) -> ConvSpec:
    """The convolution of a part of `y` that gives some phases."""
    return conv_spec(
        (spec.n, spec.c_out, *extents),
        (channels, spec.c_out // spec.groups, *kernel),
        (spec.dtype,),
        axes=len(kernel),
        padding=tuple(padding),
        dilation=tuple(dilation),
        groups=spec.groups,
    )


def _axes(spec: ConvSpec) -> list[tuple[int, int, int, int, int, int]]:
    """Of depth, height and width: size, extent, kernel, stride, pad, dilation, as `phases` takes them."""
    depth, (top, _), (left, _) = spec.depth, *spec.padding
    return [
        (depth.d, depth.od, depth.kd, depth.stride, depth.padding[0], depth.dilation),
        (spec.h, spec.oh, spec.kh, spec.stride[0], top, spec.dilation[0]),
        (spec.w, spec.ow, spec.kw, spec.stride[1], left, spec.dilation[1]),
    ]
