"""Geometry of a transposed convolution: the convolutions with stride 1 that it consists of.

`y` is its input. Along an axis, tap a of the kernel adds element i of `y` to position u of the result if u + pad =
i * stride + a * dilation. So all positions with one remainder by the stride see one set of taps: they are a phase.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .arguments import Pair, Sides, Sizes
from .arrays import MAX_BYTES
from .axes import Depth, volume
from .conv import ConvSpec

#: Slices that take all images and all channels.
_ALL = slice(None), slice(None)


class Phase(NamedTuple):
    """A phase along one axis: the positions with one remainder by the stride, and the convolution that gives them."""

    at: slice
    """The phase's positions in the result."""
    taps: slice
    """The taps that reach these positions, the last one first: the kernel is flipped."""
    number: int
    """Number of these taps."""
    seen: slice
    """The part of `y` that a negative padding does not crop."""
    padding: Pair
    dilation: int


#: One axis of the convolution that is transposed: sizes of its input and its output, and its kernel, stride, padding
#: before the input, and dilation.
Axis = tuple[int, int, int, int, int, int]


def _cycle(stride: int, dilation: int) -> Pair:
    """Distance from one tap of a phase to the next, in taps and in elements of `y`."""
    common = math.gcd(stride, dilation)
    return stride // common, dilation // common


def _phase(axis: Axis, tap: int) -> Phase | None:
    """The phase whose first tap is `tap`; None if it has no position in the result, or sees nothing of `y`."""
    size, extent, kernel, stride, pad, dilation = axis
    every, gap = _cycle(stride, dilation)
    first = (tap * dilation - pad) % stride
    if first >= size:
        return None
    step, remainder = divmod(first + pad, stride)
    count, positions = -(-(kernel - tap) // every), -(-(size - first) // stride)
    window = (count - 1) * gap + 1
    before = (tap * dilation - remainder) // stride + window - 1 - step
    after = positions - extent - before + window - 1
    seen = slice(max(0, -before), extent - max(0, -after))
    if seen.start >= seen.stop:
        return None
    last = tap + (count - 1) * every
    taps = slice(last, tap - every if tap >= every else None, -every)
    return Phase(slice(first, None, stride), taps, count, seen, (max(0, before), max(0, after)), gap)


@lru_cache(maxsize=4096)
def phases(axis: Axis) -> tuple[Phase, ...]:
    """The phases of an axis that some tap reaches, in the order of their positions."""
    _, _, kernel, stride, _, dilation = axis
    found = [_phase(axis, tap) for tap in range(min(kernel, _cycle(stride, dilation)[0]))]
    return tuple(sorted((phase for phase in found if phase), key=lambda phase: phase.at.start))


class Part(NamedTuple):
    """One of the convolutions that make up a transposed one."""

    problem: ConvSpec
    order: np.ndarray
    """The taps of its kernels, as indices into a flattened kernel: (phases, taps of a phase)."""
    input_slices: tuple[slice, ...]
    """The part of `y` that it sees, a slice for each axis."""
    output_slices: tuple[slice, ...]
    """The positions of its result, a slice for each axis, if it gives one phase."""
    taps: tuple[slice, ...] = ()
    """The taps of `order` as a slice for each spatial axis, if it gives one phase."""


class Interleaving(NamedTuple):
    """How the elements of equally large phases are interleaved in the result."""

    phases: Sizes
    """Number of phases along depth, height and width."""
    pad: Sizes
    """Added to a position before it is divided by the number of phases: the remainder is the position's phase."""
    first: Sizes
    """The quotient for the result's first position, from which a phase's elements are counted."""


class Parts(NamedTuple):
    """All convolutions that make up a transposed one."""

    parts: tuple[Part, ...]
    interleaving: Interleaving | None
    """How the results are interleaved, if the phases are equally large or are the channels of one convolution."""
    complete: bool
    """Whether the parts give every element of the result; the other elements are zeros plus the bias."""
    whole: bool
    """Whether the parts' results, one behind the other, have the result's memory layout: one phase, or one element
    in each."""


def one_for_each(spec: ConvSpec) -> Parts:
    """One convolution for each phase."""
    axes = _axes(spec)[0 if spec.axes == 3 else 1 :]
    along = [phases(axis) for axis in axes]
    places = np.arange(math.prod(axis[2] for axis in axes)).reshape([axis[2] for axis in axes])
    found = []
    for several in itertools.product(*along):
        taps = tuple([phase.taps for phase in several])
        order, at = places[taps].reshape(1, -1), (*_ALL, *[phase.at for phase in several])
        seen = *_ALL, *[phase.seen for phase in several]
        found.append(Part(_part(spec, several), np.ascontiguousarray(order), seen, at, taps))
    complete = all(len(every) == min(axis[3], axis[0]) for every, axis in zip(along, axes, strict=True))
    even = complete and all(axis[0] % axis[3] == 0 for axis in axes)
    missing = (1,) * (3 - len(axes))
    interleaving = Interleaving((*missing, *[axis[3] for axis in axes]), (0, 0, 0), (0, 0, 0)) if even else None
    return Parts(tuple(found), interleaving, complete, len(found) == 1 and complete)


def _part(spec: ConvSpec, several: Sequence[Phase]) -> ConvSpec:
    """The convolution of one phase of each axis."""
    extents = [phase.seen.stop - phase.seen.start for phase in several]
    kernel, sides = [phase.number for phase in several], tuple([phase.padding for phase in several])
    return _problem(spec, extents, spec.c_in, kernel, sides, [phase.dilation for phase in several])


class Sample(NamedTuple):
    """A few of the convolutions of `one_for_each`, from which its time is estimated, however many phases there are."""

    problems: tuple[tuple[ConvSpec, float], ...]
    """A convolution for each height and width of kernels, and how many of the phases' convolutions it stands for; empty
    if few phases have a position. For volumes it has the deepest kernel, and shallower ones count as fractions."""
    number: int
    """Number of phases."""
    complete: bool
    even: bool
    """Whether the phases give every element of the result (`complete`), and are equally large, too (`even`), if no
    padding is negative."""


#: Phases of an axis that are tried for a sample: the first have no position if the axis is shorter than the stride.
TRIED = 8


@lru_cache(maxsize=1024)
def sample(spec: ConvSpec) -> Sample:
    """A sample of the convolutions of `one_for_each`."""
    number, complete, even = 1, True, True
    along: list[list[tuple[Phase, float]]] = []
    for axis in _axes(spec)[0 if spec.axes == 3 else 1 :]:
        size, _, kernel, stride, _, dilation = axis
        every, _ = _cycle(stride, dilation)
        several = min(kernel, every)
        number *= min(several, size)
        complete, even = complete and several >= min(stride, size), even and size % stride == 0
        more = kernel % several  # number of phases that have one tap more than the others
        found: list[tuple[Phase, float]] = []
        for first, end in ((0, more), (more, several)):
            tried = (_phase(axis, tap) for tap in range(first, min(first + TRIED, end)))
            if phase := next(filter(None, tried), None):
                found.append((phase, end - first))
        if spec.axes == 3 and not along and found:
            found = [(found[0][0], sum(phase.number * share for phase, share in found) / found[0][0].number)]
        along.append(found)
    problems: dict[ConvSpec, float] = {}
    for chosen in itertools.product(*along):
        problem, share = _part(spec, [phase for phase, _ in chosen]), math.prod(share for _, share in chosen)
        problems[problem] = problems.get(problem, 0) + share
    return Sample(tuple(problems.items()), number, complete, complete and even)


class Joint(NamedTuple):
    """All phases as channels of one convolution."""

    problem: ConvSpec
    interleaving: Interleaving
    whole: bool
    """The property `whole` of `Parts`."""


def joint(spec: ConvSpec) -> Joint | None:
    """The convolution that gives all phases, if they see equally many taps."""
    volume = _axes(spec)
    kernels, sides, gaps, strides, firsts = [], [], [], [], []
    for size, extent, kernel, stride, pad, dilation in volume:
        if extent == 1 and dilation == 1:
            stride = kernel  # `y` has one element here, so the stride makes no difference
        if stride > 1 and (dilation > 1 or kernel % stride):
            return None
        count, gap, first = kernel // stride, dilation if stride == 1 else 1, pad // stride
        padding = (count - 1) * gap - first, (pad + size - 1) // stride + 1 - extent
        if min(padding) < 0:
            return None  # a part of `y` is not seen
        kernels.append(count)
        sides.append(padding)
        gaps.append(gap)
        strides.append(stride)
        firsts.append(first)
    start, many = 0 if spec.axes == 3 else 1, math.prod(strides)
    extents = spec.kernel_shapes[2][2:]
    problem = _problem(spec, extents, spec.c_in * many, kernels[start:], tuple(sides[start:]), gaps[start:])
    if math.prod(problem.output_shape) * problem.out_dtype.itemsize > MAX_BYTES:
        return None  # on an axis much shorter than the stride, nearly all phases lie outside the result
    single = all(axis[0] == stride and not axis[4] for axis, stride in zip(volume, strides, strict=True))
    interleaving = Interleaving(tuple(strides), tuple([axis[4] for axis in volume]), tuple(firsts))
    return Joint(problem, interleaving, single or many == 1)


def one_for_all(spec: ConvSpec) -> Parts | None:
    """The one part of `joint`; None if there is none."""
    found = joint(spec)
    if found is None:
        return None
    order: Any = np.zeros((1, 1), np.int64)
    for (_, _, kernel, *_), stride in zip(_axes(spec), found.interleaving.phases, strict=True):
        along = np.arange(stride)[:, None] + np.arange(kernel // stride - 1, -1, -1) * stride
        order = order[:, None, :, None] * kernel + along[None, :, None, :]
        order = order.reshape(order.shape[0] * stride, -1)
    return Parts((Part(found.problem, order, _ALL, _ALL),), found.interleaving, True, found.whole)


def _problem(
    spec: ConvSpec, extents: Sequence[int], channels: int, kernel: Sequence[int], padding: Sides,
    dilation: Sequence[int],
) -> ConvSpec:  # fmt: skip
    """The convolution, of images or volumes, that gives some phases from a part of `y`.

    It needs no checks, as `spec` has passed them."""
    d, h, w = volume(tuple(extents))
    kd, kh, kw = volume(tuple(kernel))
    gap, *gaps = volume(tuple(dilation))
    sides, *across = volume(tuple(padding), (0, 0))
    od, oh, ow = (
        size + sum(side) - (taps - 1) * apart for size, side, taps, apart in zip(
            (d, h, w), (sides, *across), (kd, kh, kw), (gap, *gaps), strict=True)
    )  # fmt: skip
    return ConvSpec(
        True, spec.n, spec.c_out, h, w, channels, kh, kw, spec.groups, (1, 1), (across[0], across[1]),
        (gaps[0], gaps[1]), oh, ow, spec.dtype, axes=len(kernel), depth=Depth(d, kd, 1, sides, gap, od),
    )  # fmt: skip


def _axes(spec: ConvSpec) -> list[Axis]:
    """The axes depth, height and width of a convolution."""
    depth, (top, _), (left, _) = spec.depth, *spec.padding
    return [
        (depth.d, depth.od, depth.kd, depth.stride, depth.padding[0], depth.dilation),
        (spec.h, spec.oh, spec.kh, spec.stride[0], top, spec.dilation[0]),
        (spec.w, spec.ow, spec.kw, spec.stride[1], left, spec.dilation[1]),
    ]
