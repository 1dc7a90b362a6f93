"""Recipes of convolutions whose padding is not zeros: reflected, repeated or circular.

Algorithms know no boundary modes. There are two ways to do without, of which the one that is estimated faster is taken:

* extended: images are copied, with their padding, a few at a time, and convolved without padding;
* rim: images are convolved in place as if the padding were zeros, and outputs whose windows hang over an edge are then
  computed from strips that are extended. Strips of one size are images of one batch. Rows of one plane lie together:
  those at its top and bottom are left out at first (of 31x31 taps and 1080 rows 3% of the work).

The rim costs calls of small problems, extending costs a copy. So large images with few channels and small windows have
rims: at 1080x1920 and 3x3 the copy would take as long as the filter. Others are extended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..planner.choose import Planner, name
from ..specs.arrays import computed_array, hand_over, kernel_ready, result_array
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from .shared.extension import Axis, Box, Copy, extension, fold_into, padding, placement, spatial
from .shared.reorder import channels_first
from .system.memory import buffer

#: Most bytes of extended images at a time, unless one image has more: a part of a second-level cache and what a
#: call of an algorithm needs to be worth starting.
EXTENDED_BYTES = 1 << 20
#: Bytes a second of images that are extended, and of those of more than so many bytes, which caches do not keep until
#: they are read; and seconds for each line (512x512 and 1080x1920; 64 planes of 56x56; an AMD EPYC, 136 GFLOP/s).
EXTENDED_BANDWIDTH, STREAMED_BANDWIDTH, STREAMED_BYTES, LINE_SECONDS = 50e9, 25e9, 4 << 20, 6e-9
#: Seconds to extend strips of one size, to start their convolution and to put its outputs in place (same machine).
STRIPS_SECONDS = 4e-6
#: How many times as long as estimated a strip's convolution takes: its code and weights are in no near cache when its
#: turn comes. (1080x1920 with 21x21 to 41x41: rims 1.20 to 1.31 times zeros, extended 1.08 to 1.10; with 3x3 to 7x7
#: 1.06 to 1.12 and 1.08 to 1.55; AMD EPYC, one core.)
COLD = 2.0

#: Makes the recipe of a problem for an algorithm: `recipes._recipe` with the other arguments of this recipe.
Make = Callable[[Any, str], Any]


class _Part(NamedTuple):
    """A convolution without padding of strips of one size."""

    recipe: Any
    spec: ConvSpec
    seen: tuple[int, ...]
    """Shape of the strips."""
    made: tuple[int, ...]
    """Shape of their outputs."""
    extend: Copy
    """Fills the strips from the images."""
    put: Copy
    """Puts their outputs in place."""


class PaddedConv:
    """A convolution whose padding is not zeros; it has the methods of `ConvRecipe`."""

    __slots__ = (
        "_each", "_extension", "_for_one_call", "_main", "_parts", "_rows", "_seen", "_written", "module", "spec",
    )  # fmt: skip

    def __init__(
        self, spec: ConvSpec, algorithm: str, planner: Planner, names: tuple[str, ...] | None, for_one_call: bool,
        make: Make,
    ) -> None:  # fmt: skip
        """`names` are those of the algorithms that may run, and `make` finds the recipes of the parts."""
        self.spec, self._for_one_call = spec, for_one_call
        self._seen, _, self._written = spec.kernel_shapes
        likely = name(planner.choose(spec, algorithm, names=names, for_one_call=for_one_call).algorithm)
        self._parts: tuple[_Part, ...] = ()
        self._extension: Copy | None = None  # of so many images at a time
        self._each = spec.n
        self._rows = _inner_rows(spec)
        inside = _inside(spec, self._rows)
        strips = _strips(spec)
        if _has_cheap_rim(spec, inside, list(strips), likely, planner, for_one_call):
            self._main = make(inside, algorithm)
            self._parts = tuple([
                _Part(make(part, _label(part, algorithm, planner)), part, *part.kernel_shapes[::2],
                      extension(spec.boundary, spec.n * spec.c_in, [seen for seen, _ in boxes], spec.x_dtype),
                      placement(spec.n * spec.c_out, [made for _, made in boxes], spec.acc_dtype))
                for part, boxes in strips.items()
            ])  # fmt: skip
        else:
            size = math.prod(spec.extended.kernel_shapes[0][1:]) * spec.x_dtype.itemsize
            most = max(1, EXTENDED_BYTES // size)
            self._each = -(-spec.n // -(-spec.n // most)) if spec.n else 0
            some = spec.as_batch().of_images(self._each)
            self._main, self._extension = make(some.extended, algorithm), padding(some, spec.x_dtype)
        self.module = self._main.module

    def scratch(self, module: Any) -> int:
        """Bytes that a call takes beside input and output, if the main part is computed by this algorithm."""
        size = self._main.scratch(module)
        if self._extension is not None:
            return size + math.prod(self._main.spec.x_shape) * self.spec.x_dtype.itemsize
        sizes = [part.recipe.scratch(part.recipe.module)
                 + math.prod(part.seen) * self.spec.x_dtype.itemsize
                 + math.prod(part.made) * self.spec.acc_dtype.itemsize
                 for part in self._parts]  # fmt: skip
        return max([size, *sizes])

    def pack(self, weight: np.ndarray, bias: np.ndarray | None) -> tuple[Any, Any, Any]:
        """Weight and bias as `run` takes them; for one call as they are: its parts pack them one after the other."""
        if self._for_one_call:
            return self.module, weight, bias
        main = self._main.pack(weight, bias)
        return main[0], main, [part.recipe.pack(weight, bias) for part in self._parts]

    def run(self, x: np.ndarray, operands: Any, out: Any, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        """Convolve an array that is known to fit; `inputs` is what `out` may not share memory with."""
        spec = self.spec
        result = result_array(spec.output_shape, spec.out_dtype, out, inputs, spec)
        target = computed_array(result, spec.acc_dtype)
        if result.size:
            images = channels_first(x, spec.x_dtype, spec.axes).reshape(self._seen)
            made = target.reshape(self._written)
            _, packed, others = operands
            if self._for_one_call:
                weight, bias = operands[1:]
                packed, others = self._main.pack(weight, bias), (part.recipe.pack(weight, bias) for part in self._parts)
            if self._extension is None:
                seen, rows = self._rows
                _run(self._main.spec, images[:, :, seen], packed, made[:, :, rows])
                for part, ready in zip(self._parts, others, strict=True):
                    _add_strips(part, images, ready, made)
            else:
                self._extended(self._extension, images, packed, made)
            hand_over(target, result)
        return result

    def _extended(self, extend: Copy, images: np.ndarray, packed: Any, made: np.ndarray) -> None:
        """Convolve images that are extended, some at a time."""
        each, spec = self._each, self._main.spec
        box = buffer("extended", spec.kernel_shapes[0], spec.x_dtype)
        for start in range(0, len(images), each):
            start = min(start, len(images) - each)  # the last part may do some images again
            extend(images[start : start + each], box)
            _run(spec, box, packed, made[start : start + each])


class PaddedTranspose:
    """The gradient for the input of a convolution whose padding is not zeros; it has the methods of `ConvRecipe`."""

    __slots__ = ("_whole", "module", "spec")

    def __init__(self, spec: TransposeSpec, algorithm: str, make: Make) -> None:
        """`make` finds the recipe of the gradient for the input with its padding."""
        self.spec, self._whole = spec, make(spec.extended, algorithm)
        self.module = self._whole.module

    def scratch(self, module: Any) -> int:
        """Bytes that a call takes beside input and output."""
        return self._whole.scratch(module) + math.prod(self._whole.spec.output_shape) * self.spec.acc_dtype.itemsize

    def pack(self, weight: np.ndarray, bias: np.ndarray | None) -> Any:
        """The weight as `run` takes it."""
        return self._whole.pack(weight, bias)

    def run(self, x: np.ndarray, operands: Any, out: Any, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        """The gradient, from the one for the output."""
        spec, whole = self.spec, self._whole.spec
        result = result_array(spec.output_shape, spec.out_dtype, out, inputs, spec)
        if result.size:
            seen, _, written = whole.kernel_shapes
            box = buffer("extended", written, spec.acc_dtype)
            _run(whole, kernel_ready(x, spec.x_dtype).reshape(seen), operands, box)
            fold_into(spec.convolution, box, computed_array(result, spec.acc_dtype), result)
        return result


def _run(spec: Any, x: np.ndarray, operands: Any, out: np.ndarray) -> None:
    module, packed, bias = operands
    module.run(spec, x, packed, bias, out)


# -- the rim -------------------------------------------------------------------------------------------------


def _add_strips(part: _Part, images: np.ndarray, operands: Any, made: np.ndarray) -> None:
    """Compute the outputs of a part's strips and put them in place."""
    box, found = buffer("extended", part.seen, images.dtype), buffer("strips", part.made, made.dtype)
    part.extend(images, box)
    _run(part.spec, box, operands, found)
    part.put(found, made)


def _strips(spec: ConvSpec) -> dict[ConvSpec, list[tuple[Box, Box]]]:
    """The strips of a convolution's rim by the problem that computes them together: the positions that each sees, and
    its outputs."""
    found: dict[ConvSpec, list[tuple[Box, Box]]] = {}
    axes = spatial(spec)
    for ranges in _rim(spec):
        seen = [Axis(size, first * stride - sides[0], (last - 1) * stride - sides[0] + window)
                for (first, last), (size, _, sides, window, stride) in zip(ranges, axes, strict=True)]  # fmt: skip
        made = [Axis(outs, *ends) for ends, (_, outs, *_) in zip(ranges, axes, strict=True)]
        depth = spec.depth._replace(padding=(0, 0))
        if spec.axes == 3:
            depth = depth._replace(d=seen[0].length, od=made[0].length)
        part = replace(spec, batched=True, h=seen[-2].length, w=seen[-1].length, oh=made[-2].length, ow=made[-1].length,
                       depth=depth, padding=((0, 0), (0, 0)), padding_mode="zeros")  # fmt: skip
        found.setdefault(part, []).append((seen, made))
    return {part.of_images(spec.n * len(boxes)): boxes for part, boxes in found.items()}


def _inner_rows(spec: ConvSpec) -> tuple[slice, slice]:
    """The rows of images, and of outputs, that are convolved as if padding were zeros: of one plane those whose windows
    do not hang over its top or bottom, if there are any; else all."""
    (low, high), = _inner(spec)[-2:-1] if spec.axes == 2 and spec.n * spec.c_in * spec.c_out == 1 else [(0, 0)]
    if low >= high:
        return slice(None), slice(None)
    before, window = spec.padding[0][0], (spec.kh - 1) * spec.dilation[0] + 1
    first, last = (row * spec.stride[0] - before for row in (low, high - 1))
    return slice(first, last + window), slice(low, high)


def _inside(spec: ConvSpec, rows: tuple[slice, slice]) -> ConvSpec:
    """The convolution that gives those rows."""
    seen, made = rows
    if seen.start is None:
        return replace(spec, padding_mode="zeros")
    return replace(spec, h=seen.stop - seen.start, oh=made.stop - made.start, padding=((0, 0), spec.padding[1]),
                   padding_mode="zeros")  # fmt: skip


def _inner(spec: ConvSpec) -> list[tuple[int, int]]:
    """For each axis the first output whose window does not hang over an edge, and the first one behind that does."""
    found = []
    for size, outs, (before, _), window, stride in spatial(spec):
        low = min(outs, -(-before // stride))
        found.append((low, max(low, min(outs, (size + before - window) // stride + 1))))
    return found


def _rim(spec: ConvSpec) -> list[tuple[tuple[int, int], ...]]:
    """Ranges of each axis, no two of which overlap, with all outputs whose windows hang over an edge."""
    axes, found = spatial(spec), []
    inner: list[tuple[int, int]] = []
    for axis, (low, high) in enumerate(_inner(spec)):
        outs, rest = axes[axis][1], [(0, other[1]) for other in axes[axis + 1 :]]
        found += [(*inner, side, *rest) for side in ((0, low), (high, outs)) if side[0] < side[1]]
        inner.append((low, high))
    return [box for box in found if all(first < last for first, last in box)]


def _has_cheap_rim(
    spec: ConvSpec, inside: ConvSpec, strips: list[ConvSpec], label: str, planner: Planner, for_one_call: bool
) -> bool:
    """Whether convolving as if the padding were zeros, and then the rim, is estimated to take less time than
    extending; not if the algorithm of this name cannot do so."""
    if planner.reason(inside, label) is not None:
        return False
    extending = _copied(spec.extended) + planner.seconds(spec.extended, label, for_one_call=for_one_call)
    rim = planner.seconds(inside, label, for_one_call=for_one_call)
    for part in strips:
        convolved = min(planner.candidates(part, for_one_call=for_one_call).values())
        placed = math.prod(part.output_shape[:-1]) * LINE_SECONDS
        rim += STRIPS_SECONDS + _copied(part) + COLD * convolved + placed
    return rim < extending


def _copied(spec: ConvSpec) -> float:
    """Estimated seconds to fill the input of a convolution from images."""
    each = math.prod(spec.kernel_shapes[0][1:]) * spec.x_dtype.itemsize
    bandwidth = EXTENDED_BANDWIDTH if each <= STREAMED_BYTES else STREAMED_BANDWIDTH
    return spec.n * (each / bandwidth + each // (spec.w * spec.x_dtype.itemsize) * LINE_SECONDS)


def _label(part: ConvSpec, algorithm: str, planner: Planner) -> str:
    """The algorithm that is asked for, if it can do a strip."""
    return algorithm if algorithm != "auto" and planner.reason(part, algorithm) is None else "auto"
