"""Transposed convolution as a matrix product: the weights times `x` make columns, which are summed up to images.

::

    columns[n, p, (c, a, b)] = sum over o of x[n, o, p] * weight[o, (c, a, b)]
    out[n, c, u, v] = bias[c] + sum of columns[n, (i, j), (c, a, b)] over all i * stride_h - top + a * dilation_h = u
                                                                                              (j, b and v alike)

What it changes over `transpose_phases`: a convolution for each phase exchanges the channels of all weights, which takes
as long as to multiply a few pixels. Here the weights, as they lie, are the pixels of a pointwise convolution, and the
positions of `x` are packed as its weights. It is best for small images and many weights.

Loop order: some images of a group are multiplied together, as many as a cache has room for their columns; then the
columns are summed. All images of one pixel are one product of NumPy's BLAS; for small images with few channels the sums
are made without columns.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4;
Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006, for columns.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ...planner.contract import Convolution
from ...specs.arguments import Pair
from ...specs.arrays import kernel_ready
from ...specs.conv import ConvSpec, conv_spec
from ...specs.conv_transpose import TransposeSpec
from ..machine import Machine
from ..shared.im2col import fold, fold_product, fold_taps, fold_turned
from ..system.kernels import Launch
from ..system.memory import buffer, for_one_call, scratch_rows
from ..tiles.simd import lanes

#: Seconds in `im2col.fold_product` of a vector's sum and of each of its products; and of the calls of a matrix product
#: (fitted to ten small layers, AMD EPYC 9004).
SUM, PRODUCT, CALLS = 4e-9, 1.5e-9, 3e-6
#: Seconds that a call into a convolution takes beside its estimated cost.
CALL = 1e-5
#: Most bytes of the columns of one image: more do not stay in a last-level cache until they are summed.
COLUMNS_BYTES = 32 << 20
#: Most bytes of the columns of images multiplied together, so that they stay in a cache until they are summed.
TOGETHER_BYTES = 2 << 20
#: Time of a product of operands from memory, relative to cached ones (1.0 to 1.5 measured, AMD EPYC 9005).
SHARE = 1.2
#: Seconds to make one number of `x` the pixel before its channel; to sum one float32 of the columns up by
#: `im2col.fold_turned`, and, if windows are pixels, by any; and by `im2col.fold_taps` to begin with a window of a
#: channel, and for a vector of each of its rows (fitted to 45 layers, AMD EPYC 9005).
MOVE, TURNED, PIXEL, WINDOW, ROW = 2.5e-10, 4e-10, 3e-10, 2e-9, 1e-9


class Columns:
    """The algorithm, by a pointwise convolution that is handed in."""

    def __init__(self, pointwise: Convolution) -> None:
        self.__name__ = "transpose_columns"
        self._pointwise: Any = pointwise
        self._prepared = lru_cache(maxsize=1024)(self._made)

    def supports(self, spec: TransposeSpec) -> str | None:
        if spec.dtype.kind != "f":
            return "products of integers are no task of the register tiles it uses"
        if spec.axes == 3:
            return "columns are of images"
        if _columns(spec.convolution) * spec.acc_dtype.itemsize > COLUMNS_BYTES:
            return f"the columns of an image take more than {COLUMNS_BYTES >> 20} MiB"
        return None

    def cost(self, spec: TransposeSpec, machine: Machine) -> float:
        """Estimated seconds."""
        problem = spec.convolution
        if not problem.n:
            return math.inf
        if is_small(problem):
            return machine.call + _direct_seconds(problem)
        depth, columns = problem.c_out // problem.groups, problem.n * problem.groups * _columns(problem)
        if problem.oh * problem.ow == 1:
            rows, whole = min(problem.n, depth), _is_column(problem)
            rate = 2 * machine.blas_flops * 4 / problem.acc_dtype.itemsize * rows / (rows + 4)
            calls = problem.groups * (1 if whole else problem.n + 2) * machine.call
            moved = (1 if whole else 3) * columns * problem.acc_dtype.itemsize / machine.bandwidth
            return 2 * columns * depth / rate + calls + moved
        pointwise = self._pointwise
        products = ((_product(problem, images), number) for images, number in _together(problem))
        product = problem.groups * sum(
            number * (SHARE * pointwise.cost(one, machine) + pointwise.prepare_cost(one, machine) + CALL)
            for one, number in products
        )
        return product + MOVE * problem.n * problem.c_out * problem.oh * problem.ow + _fold_seconds(problem)

    def prepare(self, spec: TransposeSpec, weight: np.ndarray) -> np.ndarray:
        return weight

    def _made(self, spec: TransposeSpec) -> Prepared:
        return Prepared(spec.convolution, self._pointwise)

    def run(self, spec: TransposeSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
        self._prepared(spec).run(packed, kernel_ready(x, spec.acc_dtype), bias, out)

    def scratch(self, spec: TransposeSpec) -> int:
        return self._prepared(spec).scratch() if spec.n else 0


def _columns(spec: ConvSpec) -> int:
    """Elements of the columns of one group of an image."""
    return spec.c_in // spec.groups * spec.kh * spec.kw * spec.oh * spec.ow


def _together(spec: ConvSpec) -> list[Pair]:
    """Pairs: a number of images that are multiplied together, and how many times."""
    most = max(1, TOGETHER_BYTES // (_columns(spec) * spec.acc_dtype.itemsize))
    parts = [(most, spec.n // most), (spec.n % most, 1)]
    return [(images, number) for images, number in parts if images and number]


def _product(spec: ConvSpec, images: int) -> ConvSpec:
    """The pointwise convolution that multiplies positions and weights of a group: the weights are its pixels."""
    depth, taps = spec.c_out // spec.groups, spec.c_in // spec.groups * spec.kh * spec.kw
    return conv_spec((depth, taps), (images * spec.oh * spec.ow, depth, 1), (spec.acc_dtype,), axes=1)


def _is_column(spec: ConvSpec) -> bool:
    """Whether an image has the size of a window, so that its column is all of it."""
    one = spec.oh * spec.ow == 1 and not spec.padded
    return one and (spec.h, spec.w) == (spec.kh, spec.kw) and spec.dilation == (1, 1)


def _is_long(spec: ConvSpec) -> bool:
    """Whether images are one long row, pixel by pixel."""
    return (spec.kh, spec.kw) == (1, 1) and spec.stride == (1, 1) and not spec.padded


def _is_turned(spec: ConvSpec) -> bool:
    """Whether columns are summed up by `im2col.fold_turned`."""
    wide = spec.oh * spec.ow if _is_long(spec) else spec.ow
    return spec.stride[1] == 1 and 2 * wide > lanes(spec.acc_dtype)


def _fold_seconds(spec: ConvSpec) -> float:
    """Estimated seconds to sum columns up."""
    windows = spec.n * spec.c_in * spec.oh * spec.ow
    if _is_long(spec) or _is_turned(spec):
        return windows * spec.kh * spec.kw * (PIXEL if _is_long(spec) else TURNED) * spec.acc_dtype.itemsize / 4
    pieces = -(-spec.kw // lanes(spec.acc_dtype)) if spec.dilation[1] == 1 else spec.kw
    return windows * (WINDOW + ROW * spec.kh * pieces)


def _direct_seconds(spec: ConvSpec) -> float:
    """Estimated seconds of `im2col.fold_product`."""
    sums = spec.n * spec.c_in * spec.kh * spec.kw * spec.oh * -(-spec.ow // lanes(spec.acc_dtype))
    return sums * (SUM + PRODUCT * (spec.c_out // spec.groups))


def is_small(spec: ConvSpec) -> bool:
    """Whether `im2col.fold_product` takes no longer than a product's calls for each image and group."""
    return spec.stride[1] == 1 and _direct_seconds(spec) <= CALLS * spec.n * spec.groups


class Prepared:
    """All that a call needs beside its arrays."""

    def __init__(self, spec: ConvSpec, pointwise: Any) -> None:
        self._spec, self._pointwise = spec, pointwise
        channels, pads = spec.c_in // spec.groups, (spec.padding[0][0], spec.padding[1][0])
        window = spec.kh, spec.kw, spec.oh, spec.ow
        self._weights = spec.groups, spec.c_out // spec.groups, channels * spec.kh * spec.kw
        self._signals = spec.n, spec.groups, spec.c_out // spec.groups, spec.oh * spec.ow
        self._images = spec.n, spec.groups, channels, spec.h, spec.w
        self._geometry = window, spec.stride, pads, spec.dilation, lanes(spec.acc_dtype)
        self._pixel = spec.oh * spec.ow == 1
        self._column = _is_column(spec)
        self._direct = Launch(fold_product, spec.flops) if is_small(spec) else None
        self._parts: list[tuple[int, int, ConvSpec]] = []
        if self._direct is None and self._pixel:
            self._fold = Launch(fold, self._weights[2])
        elif self._direct is None:
            self._parts = [(images, number, _product(spec, images)) for images, number in _together(spec)]
            if _is_long(spec):
                self._images = *self._images[:3], 1, spec.h * spec.w
                self._geometry = (1, 1, 1, spec.h * spec.w), *self._geometry[1:]
            turned = _is_turned(spec)
            work = 4.0 * self._weights[2] * self._signals[3] * self._parts[0][0]
            self._fold = Launch(fold_turned if turned else fold_taps, work)
            self._block = lanes(spec.acc_dtype) ** 2 if turned else 0
            self._no_bias = np.zeros(self._parts[0][2].c_out, spec.acc_dtype)

    def run(self, weight: np.ndarray, x: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`."""
        if self._direct is not None:
            self._direct.call(weight, x, bias, out, self._spec.groups, *self._geometry)
        elif self._pixel:
            self._multiply_pixels(weight, x, bias, out)
        else:
            self._multiply(weight, x, bias, out)

    def _multiply(self, weight: np.ndarray, x: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
        """Multiply some images of a group at a time, and sum their columns."""
        sums, dtype, (_, _, depth, positions) = out.reshape(self._images), out.dtype, self._signals
        signals, first, pointwise = x.reshape(self._signals), 0, self._pointwise
        for images, number, product in self._parts:
            pixels, kernels, made = product.kernel_shapes
            for _ in range(number):
                pixels_first = buffer("signals", (images, positions, depth), dtype)
                columns = buffer("columns", made, dtype)
                for group, matrix in enumerate(weight.reshape(self._weights)):
                    pixels_first[...] = signals[first : first + images, group].swapaxes(1, 2)
                    packed = for_one_call(pointwise.prepare, product, pixels_first.reshape(kernels))
                    pointwise.run(product, matrix.reshape(pixels), packed, self._no_bias[: product.c_out], columns)
                    taken = columns.reshape(-1, self._weights[2])
                    blocks = (scratch_rows(self._block, dtype),) if self._block else ()
                    self._fold.call(taken, bias, sums, first, group, *self._geometry, *blocks)
                first += images

    @np.errstate(over="ignore", invalid="ignore")  # NumPy would warn of infinities and NaNs; compiled loops do not
    def _multiply_pixels(self, weight: np.ndarray, x: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
        """Multiply all images of a group, which have one pixel each, in one product."""
        signals, sums = x.reshape(self._signals), out.reshape(self._images)
        for group, matrix in enumerate(weight.reshape(self._weights)):
            rows = signals[:, group, :, 0] @ matrix
            if self._column:
                sums[:, group] = rows.reshape(sums[:, group].shape)
                continue
            for image, row in enumerate(rows):
                self._fold.call(row[None, :, None], sums[image, group : group + 1], *self._geometry)
        if bias.any():
            sums += bias.reshape(self._spec.groups, -1, 1, 1)

    def scratch(self) -> int:
        """Bytes of the columns and the transposed input of images multiplied together, and of the product's scratch."""
        if self._direct is not None:
            return 0
        images = self._spec.n if self._pixel else self._parts[0][0]
        columns = images * self._signals[3] * (self._weights[2] + self._signals[2]) * self._spec.acc_dtype.itemsize
        return columns + (0 if self._pixel else self._pointwise.scratch(self._parts[0][2]))
