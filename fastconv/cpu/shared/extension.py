"""Extension of images beyond their edges: a box of positions, some of them outside, becomes an array.

::

    box[..., i, j] = x[..., source(top + i), source(left + j)]           with the sources of `fastconv.specs.boundary`

Along an axis the sources run forwards, run backwards or stand still, so a box is a few blocks that NumPy copies: nine
for an image with padding on all sides. The adjoint, which a gradient needs, adds the blocks to where they came from.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Any

import numpy as np

from ...specs.arguments import Sizes
from ...specs.arrays import hand_over
from ...specs.boundary import Boundary, runs
from ...specs.conv import ConvSpec
from ..system.memory import buffer

Index = tuple[Any, ...]


def spatial(spec: ConvSpec) -> list[tuple[int, int, tuple[int, int], int, int]]:
    """Size, number of outputs, padding, window and stride along each spatial axis that kernels see."""
    depth = spec.depth
    axes = [
        (depth.d, depth.od, depth.padding, depth.dilation * (depth.kd - 1) + 1, depth.stride),
        (spec.h, spec.oh, spec.padding[0], spec.dilation[0] * (spec.kh - 1) + 1, spec.stride[0]),
        (spec.w, spec.ow, spec.padding[1], spec.dilation[1] * (spec.kw - 1) + 1, spec.stride[1]),
    ]
    return axes if spec.axes == 3 else axes[1:]


class Extension:
    """A box of positions, which may lie outside, of images of certain sizes: its last axes."""

    def __init__(self, boundary: Boundary, sizes: Sizes, starts: Sizes, stops: Sizes) -> None:
        self.shape = tuple([stop - start for start, stop in zip(starts, stops, strict=True)])
        axes = [_parts(boundary, *axis) for axis in zip(sizes, starts, stops, strict=True)]
        #: Places in the box and where their elements come from; the largest block first.
        self._blocks: list[tuple[Index, Index]] = []
        #: The axes of each block along which one element fills all places.
        self._repeated: list[tuple[int, ...]] = []
        blocks = sorted(itertools.product(*axes), key=lambda block: -math.prod(part[2] for part in block))
        for block in blocks:
            self._blocks.append(tuple((..., *indices) for indices in zip(*[part[:2] for part in block], strict=True)))
            self._repeated.append(tuple([axis - len(block) for axis, part in enumerate(block) if part[3]]))
        #: The block of the whole images; None if the box does not contain them.
        self._inside = None
        if all(start <= 0 and stop >= size for size, start, stop in zip(sizes, starts, stops, strict=True)):
            inside = tuple([slice(-start, size - start) for size, start in zip(sizes, starts, strict=True)])
            self._inside = [at[1:] for at, _ in self._blocks].index(inside)

    def fill(self, x: np.ndarray, box: np.ndarray) -> None:
        """Fill a box from images of any dtype that converts without loss."""
        for place, source in self._blocks:
            box[place] = x[source]

    def fold(self, box: np.ndarray, x: np.ndarray) -> None:
        """Fill images with sums of all places of a box that stand for each element; the box contains the images."""
        assert self._inside is not None
        place, source = self._blocks[self._inside]
        x[source] = box[place]
        with np.errstate(over="ignore", invalid="ignore"):
            for number, (place, source) in enumerate(self._blocks):
                if number != self._inside:
                    part, repeated = box[place], self._repeated[number]
                    x[source] += part.sum(repeated, part.dtype, keepdims=True) if repeated else part


def _parts(boundary: Boundary, size: int, start: int, stop: int) -> list[tuple[slice, slice, int, bool]]:
    """Of each run along an axis: its places in the box, its sources, its length, and whether it has one source."""
    found, at = [], 0
    for first, step, length in runs(boundary, size, start, stop):
        last = first + (step or 1) * (length if step else 1)
        source = slice(first, None if last < 0 else last, step or 1)
        found.append((slice(at, at + length), source, length, not step))
        at += length
    return found


@lru_cache(maxsize=256)
def padding_of(spec: ConvSpec) -> Extension:
    """The images of a convolution with their padding."""
    axes = spatial(spec)
    starts = tuple([-sides[0] for _, _, sides, _, _ in axes])
    stops = tuple([size + sides[1] for size, _, sides, _, _ in axes])
    return Extension(spec.boundary, tuple([axis[0] for axis in axes]), starts, stops)


def extended(spec: ConvSpec, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The images of a convolution with their padding, in memory that this thread's next call uses again."""
    box = buffer("extended", spec.extended.kernel_shapes[0], dtype)
    padding_of(spec).fill(x.reshape(spec.kernel_shapes[0]), box)
    return box


def fold_into(spec: ConvSpec, box: np.ndarray, target: np.ndarray, result: np.ndarray) -> None:
    """Fill the gradient for a convolution's input from the gradient for its input with padding."""
    padding_of(spec).fold(box, target.reshape(spec.kernel_shapes[0]))
    hand_over(target, result)
