"""Operations on images whose channels are last.

For a convolution images and results are reordered, a few at a time. Windows are unfolded as they lie in memory.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..specs.arrays import allocate, result_array
from ..specs.conv import ConvSpec
from .padded import Make
from .shared.reorder import transpose
from .system.memory import buffer

#: Most bytes of images and results that are reordered at a time, unless one image has more: so they stay in a
#: second-level cache, and yet a call has enough to do.
REORDERED_BYTES = 1 << 20


class ChannelsLast:
    """A convolution with channels last, by the recipe of the one with channels first; it has the methods of
    `ConvRecipe`."""

    __slots__ = ("_each", "_inner", "_made", "module", "spec")

    def __init__(self, spec: ConvSpec, algorithm: str, make: Make) -> None:
        """`make` finds the recipe of the convolution with channels first."""
        self.spec = spec
        seen, _, made = spec.kernel_shapes
        size = (math.prod(seen[1:]) + math.prod(made[1:])) * spec.acc_dtype.itemsize
        most = max(1, REORDERED_BYTES // size)
        self._each = -(-spec.n // -(-spec.n // most)) if spec.n else 0
        first = replace(spec, channels_last=False, batched=True)
        self._inner = make(first.of_images(self._each), algorithm)
        self._made = self._inner.spec.output_shape
        self.module = self._inner.module

    def scratch(self, module: Any) -> int:
        """Bytes that a call takes beside input and output, if this algorithm runs."""
        inner = self._inner.spec
        moved = math.prod(inner.x_shape) * inner.x_dtype.itemsize + math.prod(self._made) * inner.out_dtype.itemsize
        return self._inner.scratch(module) + moved

    def pack(self, weight: np.ndarray, bias: np.ndarray | None) -> Any:
        """Weight and bias as `run` takes them."""
        return self._inner.pack(weight, bias)

    def run(self, x: np.ndarray, operands: Any, out: Any, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        """Convolve an array that is known to fit; `inputs` is what `out` may not share memory with."""
        spec = self.spec
        result = result_array(spec.output_shape, spec.out_dtype, out, inputs, spec)
        if not result.size:
            return result
        images = np.moveaxis(x if spec.batched else x[None], -1, 1)
        made = buffer("channels first", self._made, spec.out_dtype)
        matrices = result.reshape(spec.n, -1, spec.c_out)
        for start in range(0, spec.n, self._each):
            start = min(start, spec.n - self._each)  # the last part may do some images again
            part = slice(start, start + self._each)
            self._inner.run(images[part], operands, made, ())
            transpose(made.reshape(self._each, spec.c_out, -1), matrices[part])
        return result


def reordered(made: np.ndarray, axes: int, out: np.ndarray | None) -> np.ndarray:
    """An array of so many spatial axes with channels first, with channels last: a new one, or `out`."""
    shape = (*made.shape[: -1 - axes], *made.shape[-axes:], made.shape[-1 - axes])
    result = allocate(shape, made.dtype) if out is None else out
    if made.size:
        pixels = math.prod(shape[-1 - axes : -1])
        transpose(made.reshape(-1, shape[-1], pixels), result.reshape(-1, pixels, shape[-1]))
    return result


def fold_last(spec: ConvSpec, rows: np.ndarray, out: np.ndarray) -> None:
    """Sum up to images what `unfold_last` makes of them, in the order of taps."""
    windows = rows.reshape(spec.n, spec.oh, spec.ow, spec.kh, spec.kw, spec.c_in)
    images = out.reshape(spec.n, spec.h, spec.w, spec.c_in)
    images[...] = 0
    for a, b in np.ndindex(spec.kh, spec.kw):
        seen, lines = _seen(spec.h, spec.oh, a * spec.dilation[0] - spec.padding[0][0], spec.stride[0])
        columns, pixels = _seen(spec.w, spec.ow, b * spec.dilation[1] - spec.padding[1][0], spec.stride[1])
        images[:, lines, pixels] += windows[:, seen, columns, a, b]


def unfold_last(spec: ConvSpec, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` with the windows of images as rows; the pixels of a tap are copied together.

    ``out[n, i * OW + j, (a * KW + b) * C + c]`` is ``x[n, row(i, a), col(j, b), c]``, or zero outside.
    """
    images = x.reshape(spec.n, spec.h, spec.w, spec.c_in)
    windows = out.reshape(spec.n, spec.oh, spec.ow, spec.kh, spec.kw, spec.c_in)
    if spec.padded:
        windows[...] = 0
    for a, b in np.ndindex(spec.kh, spec.kw):
        rows, lines = _seen(spec.h, spec.oh, a * spec.dilation[0] - spec.padding[0][0], spec.stride[0])
        columns, pixels = _seen(spec.w, spec.ow, b * spec.dilation[1] - spec.padding[1][0], spec.stride[1])
        windows[:, rows, columns, a, b] = images[:, lines, pixels]


def _seen(size: int, outs: int, shift: int, stride: int) -> tuple[slice, slice]:
    """The windows whose tap at this shift lies inside an axis, and the places there."""
    first = max(0, -(shift // stride))
    last = max(first, min(outs, (size - 1 - shift) // stride + 1))
    start = first * stride + shift
    return slice(first, last), slice(start, start + (last - first) * stride, stride)
