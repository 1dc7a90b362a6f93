"""The ways to compute a transposed convolution, of which `transposed` picks one: by convolutions, by a matrix product,
or, depthwise, at once.

Every way keeps the same contract::

    way.name                            -> what runs, in words
    way.packed(weight, bias)            -> operands, one after the other; a plan keeps all, a call uses each at once
    way.run(operands, bias, y, result)  -> None
    way.scratch_bytes()                 -> memory of a call beside input and output

Weights come in the dtype that is computed in, C-contiguous, in the shape of the convolution's that is transposed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from ..planner.choose import name
from ..specs.arguments import Pair
from ..specs.arrays import computed_array, hand_over, kernel_ready
from ..specs.conv import ConvSpec, conv_spec
from ..specs.phases import Parts, Turns, joint, sample
from .algorithms import transpose_depthwise
from .machine import this_machine
from .plans import conversion_bytes
from .recipes import Operands, alike, planner, recipe
from .shared.im2col import fold, fold_product, fold_taps
from .shared.interleave import Exchange, interleave
from .shared.volumes import one_input
from .system.kernels import Launch
from .system.memory import buffer
from .tiles.simd import lanes

#: Seconds to exchange and pack one weight, for `product_seconds` (0.5 to 1.5 ns measured, AMD EPYC 9004).
MOVE = 1e-9
#: Seconds of a vector's sum and of each of its products in `im2col.fold_product`; and of a product's calls.
SUM, PRODUCT, CALLS = 4e-9, 1.5e-9, 3e-6
#: Bytes of the columns of one image, at most.
COLUMNS_BYTES = 32 << 20
#: Images are multiplied together while their columns are no more than this: they stay in a cache until they are summed.
TOGETHER_BYTES = 2 << 20
#: What a product takes to what it takes of images, which caches have (1.2 to 1.4 measured, AMD EPYC 9004).
SHARE = 1.25
#: Seconds of a call into a convolution, beside what its cost counts.
PREPARE = 1e-5
#: Seconds to put one byte of phases in turns; where they are of several sizes NumPy does it, in twice that.
INTERLEAVE = 1e-10

# -- convolutions --------------------------------------------------------------------------------------------


def together_seconds(spec: ConvSpec, once: bool) -> float:
    """Estimated, of all phases as one convolution whose weights are packed for one call or were before; infinite where
    they are none."""
    found = joint(spec)
    if found is None:
        return math.inf
    return _seconds(found.problem, once) + (0 if found.whole else _made(found.problem) * INTERLEAVE)


def separate_seconds(spec: ConvSpec, once: bool, most: float = math.inf) -> float:
    """The same, of one convolution for each phase: those with equal kernels take as long as one of them. Beyond `most`
    the rest is not added."""
    problems, number, complete, even = sample(spec)
    made = 0 if number == 1 and complete else sum(share * _made(problem) for problem, share in problems)
    seconds = made * INTERLEAVE * (1 if even else 2)
    for problem, share in problems:
        if seconds > most:
            break
        seconds += share * _seconds(problem, once)
    return seconds


def _seconds(problem: ConvSpec, once: bool) -> float:
    """Of one convolution."""
    return min(planner.candidates(problem, for_one_call=once).values()) + PREPARE


def _made(problem: ConvSpec) -> int:
    """Bytes of its result."""
    return math.prod(problem.output_shape) * problem.out_dtype.itemsize


class Convolutions:
    """One after the other, and their results put where they belong."""

    def __init__(self, spec: ConvSpec, parts: Parts, algorithm: str, once: bool) -> None:
        self._spec, self._parts, self._once = spec, parts, once
        chosen = {kernel: recipe(problem, algorithm, once=once) for kernel, problem in decisive(spec, parts).items()}
        self._recipes = [alike(chosen[part.problem.kh, part.problem.kw], part.problem, algorithm, once)
                         for part in parts.parts]  # fmt: skip
        sizes = spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups
        self._shape = *sizes, spec.depth.kd * spec.kh * spec.kw
        self._exchange = Exchange(*sizes, [part.order for part in parts.parts]) if parts.parts else None

    @property
    def name(self) -> str:
        return "+".join(sorted({name(this.module) for this in self._recipes})) or "none"

    def packed(self, weight: np.ndarray, bias: np.ndarray | None) -> Iterator[Operands]:
        """Weights and biases of the convolutions."""
        exchange = self._exchange
        if exchange is None:
            return
        size, dtype = (exchange.size,), weight.dtype
        exchanged = buffer("weights", size, dtype) if self._once else np.empty(size, dtype)
        exchange.run(_bits(weight.reshape(self._shape)), _bits(exchanged))
        for part, this, kernels in zip(self._parts.parts, self._recipes, exchange.parts(exchanged), strict=True):
            biases = bias if bias is None else np.repeat(bias, len(part.order))
            yield this.pack(kernels.reshape(part.problem.weight_shape), biases)

    def run(self, operands: Iterable[Any], bias: np.ndarray | None, y: np.ndarray, result: np.ndarray) -> None:
        """Fill the result."""
        if self._spec.axes < 3:
            self._run(operands, bias, y, result)
            return
        with one_input():
            self._run(operands, bias, y, result)

    def _run(self, operands: Iterable[Any], bias: np.ndarray | None, y: np.ndarray, result: np.ndarray) -> None:
        spec, (convolutions, turns, complete, whole) = self._spec, self._parts
        shape, _, signals = spec.kernel_shapes
        y, images = kernel_ready(y, spec.x_dtype).reshape(signals), result.reshape(shape)  # converted once for all
        if not complete:
            images[...] = 0 if bias is None else bias.reshape(-1, *(1,) * (images.ndim - 2))
        several = len(convolutions) > 1
        results = None
        for number, (part, this, packed) in enumerate(zip(convolutions, self._recipes, operands, strict=True)):
            shape, seen = part.problem.output_shape, y[part.seen]
            if whole:
                this.run(seen, packed, images.reshape(shape), ())
            elif turns is None:
                images[part.at] = this.run(seen, packed, None, ())
            else:
                if results is None:
                    results = buffer("phases", (len(convolutions), *shape), spec.out_dtype)
                this.run(seen, packed, results[number], ())
        if results is not None and turns is not None:
            _interleave(results if several else results[0], turns, images, several)

    def scratch_bytes(self) -> int:
        """Of the convolution that needs most, and of the phases that are yet to be interleaved."""
        _, turns, _, whole = self._parts
        each, phases = [0], 0
        for part, this in zip(self._parts.parts, self._recipes, strict=True):
            problem = part.problem
            seen = math.prod(problem.x_shape) * problem.x_dtype.itemsize  # a part of `y` is copied
            written = 0 if whole else math.prod(problem.output_shape) * problem.out_dtype.itemsize
            cropped = problem.x_shape[2:] != self._spec.kernel_shapes[2][2:] and problem.dtype == problem.x_dtype
            needed = conversion_bytes(problem) + this.module.scratch(problem) + (seen if cropped else 0)
            each.append(needed + (written if turns is None else 0))
            phases += written if turns is not None else 0
        return max(each) + phases


def decisive(spec: ConvSpec, parts: Parts) -> dict[Pair, ConvSpec]:
    """Of the convolutions with kernels of each height and width one, whose algorithm all of them have; it is one for
    which there is an estimate, if there is such a one."""
    problems = [part.problem for part in parts.parts]
    if len(problems) > 1:
        problems += [problem for problem, _ in sample(spec).problems]
    return {(problem.kh, problem.kw): problem for problem in problems}


def _bits(array: np.ndarray) -> np.ndarray:
    """An array as integers: elements are moved, whatever they are."""
    return array.view(f"u{array.itemsize}")


def _interleave(results: np.ndarray, turns: Turns, images: np.ndarray, by_phase: bool) -> None:
    """Put the phases, which are channels of `results` or its first axis, in turns."""
    missing = (1,) * (5 - images.ndim)
    out = images.reshape(-1, *missing, *images.shape[2:])
    many = math.prod(turns.phases)
    order = (many, len(out)) if by_phase else (len(out), many)
    phases = results.reshape(*order, *missing, *results.shape[2 - images.ndim :])
    interleave(_bits(phases), *turns, _bits(out), by_phase)


# -- as a matrix product -------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def product_seconds(spec: ConvSpec, once: bool) -> float:
    """Estimated, of a matrix product and the sums of its columns; infinite where it is none.

    It spares a call to move the weights, which is counted here as what that takes, below zero.
    """
    depth, positions = spec.c_out // spec.groups, spec.oh * spec.ow
    columns = spec.c_in // spec.groups * spec.kh * spec.kw * positions
    large = columns * spec.acc_dtype.itemsize > COLUMNS_BYTES
    if not spec.n or spec.dtype.kind != "f" or spec.axes == 3 or large:
        return math.inf
    machine = this_machine(1)
    if is_small(spec):
        return machine.call + _direct_seconds(spec)
    all_columns = spec.n * spec.groups * columns
    if positions == 1:
        rate = machine.blas_flops * 4 / spec.acc_dtype.itemsize * min(spec.n, depth) / (min(spec.n, depth) + 16)
        product = 2 * all_columns * depth / rate + (spec.n + 2) * spec.groups * machine.call
    else:
        product = SHARE * spec.groups * sum(
            number * (_pixel_seconds(_pixel_product(spec, images)) + PREPARE) for images, number in _together(spec)
        )
    product += (3 if positions == 1 else 1) * all_columns * spec.acc_dtype.itemsize / machine.bandwidth
    return product - (MOVE * spec.c_out * (spec.c_in // spec.groups) * spec.kh * spec.kw if once else 0)


def _together(spec: ConvSpec) -> list[Pair]:
    """Numbers of images that are multiplied together, and how often."""
    columns = spec.c_in // spec.groups * spec.kh * spec.kw * spec.oh * spec.ow * spec.acc_dtype.itemsize
    most = max(1, TOGETHER_BYTES // columns)
    parts = [(most, spec.n // most), (spec.n % most, 1)]
    return [(images, number) for images, number in parts if images and number]


def _pixel_product(spec: ConvSpec, images: int) -> ConvSpec:
    """The product of positions and weights of a group as a pointwise convolution: the weights are the pixels."""
    depth, taps = spec.c_out // spec.groups, spec.c_in // spec.groups * spec.kh * spec.kw
    return conv_spec((depth, taps), (images * spec.oh * spec.ow, depth, 1), (spec.acc_dtype,), axes=1)


def _pixel_seconds(problem: ConvSpec) -> float:
    """Estimated, of such a product, its positions packed for one call."""
    machine, (pointwise, _) = this_machine(1), planner.choose(problem, "pointwise")
    return pointwise.cost(problem, machine) + pointwise.prepare_cost(problem, machine)


def _direct_seconds(spec: ConvSpec) -> float:
    """Estimated, of `im2col.fold_product`."""
    sums = spec.n * spec.c_in * spec.kh * spec.kw * spec.oh * -(-spec.ow // lanes(spec.acc_dtype))
    return sums * (SUM + PRODUCT * (spec.c_out // spec.groups))


def is_small(spec: ConvSpec) -> bool:
    """Whether `im2col.fold_product` takes no longer than a product's calls for each image and group."""
    return spec.stride[1] == 1 and _direct_seconds(spec) <= CALLS * spec.n * spec.groups


class Product:
    """The weights times `y`: columns, which are summed up to images.

    Weights that were exchanged would take as long to move as few pixels take to multiply. Here they are the pixels of a
    pointwise convolution, as they lie, and what is packed are the positions of `y`.
    """

    name = "columns"

    def __init__(self, spec: ConvSpec) -> None:
        self._spec = spec
        channels, pads = spec.c_in // spec.groups, (spec.padding[0][0], spec.padding[1][0])
        window = spec.kh, spec.kw, spec.oh, spec.ow
        self._weights = spec.groups, spec.c_out // spec.groups, channels * spec.kh * spec.kw
        self._signals = spec.n, spec.groups, spec.c_out // spec.groups, spec.oh * spec.ow
        self._images = spec.n, spec.groups, channels, spec.h, spec.w
        self._geometry = window, spec.stride, pads, spec.dilation, lanes(spec.acc_dtype)
        self._pixel = spec.oh * spec.ow == 1
        kernel = (spec.h, spec.w) == (spec.kh, spec.kw) and pads == (0, 0) and spec.dilation == (1, 1)
        self._column = self._pixel and kernel  # one is an image
        self._direct = Launch(fold_product, spec.flops) if is_small(spec) else None
        self._no_bias = np.zeros(spec.c_in, spec.acc_dtype)
        if self._direct is None and self._pixel:
            self._fold = Launch(fold, self._weights[2])
        elif self._direct is None:
            self._parts = [(images, number, recipe(_pixel_product(spec, images), "pointwise", once=True))
                           for images, number in _together(spec)]  # fmt: skip
            self._fold = Launch(fold_taps, 4.0 * self._weights[2] * self._signals[3] * self._parts[0][0])

    def packed(self, weight: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray]:
        """The weights as they are."""
        return (weight,)

    def run(self, operands: Iterable[Any], bias: np.ndarray | None, y: np.ndarray, result: np.ndarray) -> None:
        """Fill the result."""
        spec, y, (weight,) = self._spec, kernel_ready(y, self._spec.acc_dtype), operands
        target = computed_array(result, spec.acc_dtype)
        biases = self._no_bias if bias is None else kernel_ready(bias, spec.acc_dtype)
        if self._direct is not None:
            images, kernels, signals = spec.kernel_shapes
            self._direct.call(weight.reshape(kernels), y.reshape(signals), biases, target.reshape(images), spec.groups,
                              *self._geometry)
        elif self._pixel:
            self._multiply_pixels(weight, y, bias, target)
        else:
            self._multiply(weight, y, biases, target)
        hand_over(target, result)

    def _multiply(self, weight: np.ndarray, y: np.ndarray, bias: np.ndarray, target: np.ndarray) -> None:
        """With a product for some images of a group."""
        sums, dtype, (_, _, depth, positions) = target.reshape(self._images), target.dtype, self._signals
        signals, first = y.reshape(self._signals), 0
        for images, number, this in self._parts:
            for _ in range(number):
                turned = buffer("turned", (images, positions, depth), dtype)
                columns = buffer("columns", (images * positions, self._weights[2]), dtype)
                for group, matrix in enumerate(weight.reshape(self._weights)):
                    turned[...] = signals[first : first + images, group].swapaxes(1, 2)
                    this.run(matrix, this.pack(turned.reshape(-1, depth), None), columns, ())
                    self._fold.call(columns, bias, sums, first, group, *self._geometry)
                first += images

    @np.errstate(over="ignore", invalid="ignore")  # of inf and NaN, BLAS would warn and the loops do not
    def _multiply_pixels(
        self, weight: np.ndarray, y: np.ndarray, bias: np.ndarray | None, target: np.ndarray
    ) -> None:  # fmt: skip
        """All images, which have one pixel each, are one product of a group."""
        signals, sums = y.reshape(self._signals), target.reshape(self._images)
        for group, matrix in enumerate(weight.reshape(self._weights)):
            rows = signals[:, group, :, 0] @ matrix
            if self._column:
                sums[:, group] = rows.reshape(sums[:, group].shape)
                continue
            for image, row in enumerate(rows):
                self._fold.call(row[:, None], sums[image, group], *self._geometry)
        if bias is not None:
            sums += bias.astype(target.dtype).reshape(self._spec.groups, -1, 1, 1)

    def scratch_bytes(self) -> int:
        """Of the columns of images that are multiplied together, and of what is converted."""
        if self._direct is not None:
            return _converted(self._spec)
        images = self._spec.n if self._pixel else self._parts[0][0]
        columns = images * self._signals[3] * (self._weights[2] + self._signals[2]) * self._spec.acc_dtype.itemsize
        module = 0 if self._pixel else self._parts[0][2].module.scratch(self._parts[0][2].spec)
        return _converted(self._spec) + columns + module


# -- depthwise -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def depthwise_seconds(spec: ConvSpec) -> float:
    """Estimated, of `transpose_depthwise`; infinite where it cannot."""
    return transpose_depthwise.cost(spec, this_machine(1)) if transpose_depthwise.supports(spec) else math.inf


class Depthwise:
    """All phases of a plane at once."""

    name = "transposed_depthwise"

    def __init__(self, spec: ConvSpec) -> None:
        self._spec, self._ready = spec, transpose_depthwise.Ready(spec)
        self._no_bias = np.zeros(spec.c_in, spec.acc_dtype)

    def packed(self, weight: np.ndarray, bias: np.ndarray | None) -> tuple[tuple[np.ndarray, np.ndarray]]:
        """Weights as they are, and a bias."""
        biases = self._no_bias if bias is None else kernel_ready(bias, self._spec.acc_dtype)
        return ((weight.reshape(self._spec.kernel_shapes[1]), biases),)

    def run(self, operands: Iterable[Any], bias: np.ndarray | None, y: np.ndarray, result: np.ndarray) -> None:
        """Fill the result."""
        spec, ((weight, biases),) = self._spec, operands
        images, _, signals = spec.kernel_shapes
        target = computed_array(result, spec.acc_dtype)
        self._ready.run(kernel_ready(y, spec.acc_dtype).reshape(signals), weight, biases, target.reshape(images))
        hand_over(target, result)

    def scratch_bytes(self) -> int:
        """Of a thread's patch, and of what is converted."""
        return transpose_depthwise.scratch_bytes(self._spec) + _converted(self._spec)


def _converted(spec: ConvSpec) -> int:
    """Bytes of copies of `y` and of the result in the dtype that is computed in."""
    copies = math.prod(spec.output_shape) * (spec.dtype != spec.acc_dtype)
    copies += math.prod(spec.x_shape) * (spec.out_dtype != spec.acc_dtype)
    return copies * spec.acc_dtype.itemsize


Way = Convolutions | Product | Depthwise
