"""The transpose of a convolution as linear map: what its input's gradient and `conv_transpose2d` are.

A `ConvSpec` describes the convolution that is transposed; what comes out has the shape of its input::

    out[n, c, u, v] = bias[c] + sum over o, a, b, i, j with i * stride_h - top + a * dilation_h = u  (v alike)
                      of weight[o, c, a, b] * y[n, o, i, j]

Without a stride that is a convolution of `y` with the kernels flipped and their channels exchanged. With one, the rows
u of each remainder by the stride see only some of the taps, always the same: each remainder is a convolution without
stride, and their results are interleaved. No zeros are inserted, nothing is multiplied by them. Where the stride
divides the kernel, all remainders see equally many taps, and together they are one convolution with as many times the
channels, if that takes less time than one for each (`fastconv.phases`). Small images and many weights are better
multiplied as they are, and the columns of the product summed up (`cpu.columns`): that moves no weights.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4; Shi et
al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from . import wisdom
from .checks import is_small, kernel_ready, result_array
from .choice import candidates, check_names, runtime
from .phases import Parts, Turns, separate, together
from .plan import computed_array, hand_over, recipe
from .spec import ConvSpec

#: Seconds to exchange and pack one weight, for `_multiplied` (1.1 to 2.7 ns measured, AMD EPYC 9004).
MOVE = 2.5e-9
#: Seconds of a vector's sum and of each of its products in `columns.fold_product`; and of a product's calls.
SUM, PRODUCT, CALLS = 4e-9, 1.5e-9, 3e-6
#: Bytes of the columns of one image, at most.
COLUMNS_BYTES = 32 << 20


class TransposedRecipe:
    """A transposed convolution and what computes it: all of a call but the arrays, as `plan.ConvRecipe` is."""

    __slots__ = ("_orders", "_parts", "_product", "_recipes", "_small", "spec")

    def __init__(self, spec: ConvSpec, algorithm: str, device: str) -> None:
        """The convolution `spec` is transposed; `algorithm` is one of its."""
        self.spec = spec
        self._small = is_small(spec.x_shape, spec.out_dtype)
        multiplied = (algorithm, device) == ("auto", "cpu") and _multiplied(spec)
        self._product = _Product(spec) if multiplied else None
        self._parts = _parts(spec)
        convolutions = () if multiplied else self._parts.parts
        self._recipes = [recipe(part.problem, algorithm, device, once=True) for part in convolutions]
        # Phases of as many taps have their weights exchanged together.
        orders = [part.order for part in convolutions]
        alike = len(orders) > 1 and len({order.shape for order in orders}) == 1
        self._orders = np.concatenate(orders) if alike else None

    def run(self, weight: np.ndarray, y: np.ndarray, bias: np.ndarray | None, out: Any) -> np.ndarray:
        """The result; `weight` and `y`, an output of the convolution, have its shapes, `bias` a value a channel."""
        spec = self.spec
        if out is None and self._small:
            result = np.empty(spec.x_shape, spec.out_dtype)
        else:
            inputs = (weight, y) if bias is None else (weight, y, bias)
            result = result_array(spec.x_shape, spec.out_dtype, out, inputs)
        if result.size:
            weight = kernel_ready(weight, spec.acc_dtype)
            if self._product is not None:
                self._product.run(weight, y, bias, result)
            else:
                images, _, signals = spec.kernel_shapes
                self._convolve(weight, y.reshape(signals), bias, result.reshape(images))
        return result

    def _convolve(self, weight: np.ndarray, y: np.ndarray, bias: np.ndarray | None, images: np.ndarray) -> None:
        """The convolutions, one after the other, and their results put where they belong."""
        from .cpu.kept import kept

        spec, (convolutions, turns, complete, whole) = self.spec, self._parts
        if not complete:
            images[...] = 0 if bias is None else bias.reshape(-1, *(1,) * (images.ndim - 2))
        several = len(convolutions) > 1
        results = weights = None
        if self._orders is not None:
            weights = _exchanged(spec, weight, self._orders, True)
        for number, (part, this) in enumerate(zip(convolutions, self._recipes, strict=True)):
            shape = part.problem.output_shape
            biases = bias if bias is None else np.repeat(bias, len(part.order))
            kernels = _exchanged(spec, weight, part.order, False) if weights is None else weights[number]
            seen, operands = y[part.seen], this.pack(kernels.reshape(part.problem.weight_shape), biases)
            if whole:
                this.run(seen, operands, images.reshape(shape), ())
            elif turns is None:
                images[part.at] = this.run(seen, operands, None, ())
            else:
                if results is None:
                    results = kept("phases", (len(convolutions), *shape), spec.out_dtype)
                this.run(seen, operands, results[number], ())
        if results is not None and turns is not None:
            _interleave(results if several else results[0], turns, images, several)


def transposed_recipe(spec: ConvSpec, algorithm: str, device: str) -> TransposedRecipe:
    """The recipe for an algorithm that is asked for by name, or the cheapest; it is kept for the next call."""
    check_names(algorithm, device)
    return _recipe(spec, algorithm, device, runtime().num_threads(), wisdom.generation)


@lru_cache(maxsize=1024)
def _recipe(spec: ConvSpec, algorithm: str, device: str, *choice: int) -> TransposedRecipe:
    """`choice` is what the recipes of the convolutions depend on beside the arguments."""
    return TransposedRecipe(spec, algorithm, device)


#: Seconds of a call into a convolution, beside what its cost counts.
PREPARE = 1e-5


@lru_cache(maxsize=1024)
def _parts(spec: ConvSpec) -> Parts:
    """The convolutions that are estimated to take the least time: one, if there is one that gives all, or several."""
    joint, apart = together(spec), separate(spec)
    return apart if joint is None else min(joint, apart, key=_seconds)


def _seconds(parts: Parts) -> float:
    return sum(min(candidates(part.problem, once=True).values()) + PREPARE for part in parts.parts)


def _exchanged(spec: ConvSpec, weight: np.ndarray, order: np.ndarray, by_phase: bool) -> np.ndarray:
    """Weights as those of convolutions of `y`; see `shuffle.exchange`."""
    from .cpu.kept import kept
    from .cpu.shuffle import exchange

    given = weight.reshape(spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups, -1)
    groups, depth, channels, _ = given.shape
    phases, taps = order.shape
    shape = (phases, groups, channels, depth, taps) if by_phase else (groups, channels, phases, depth, taps)
    exchanged = kept("weights", shape, weight.dtype)
    exchange(_bits(given), order, _bits(exchanged), by_phase)
    return exchanged


def _bits(array: np.ndarray) -> np.ndarray:
    """An array as integers: elements are moved, whatever they are."""
    return array.view(f"u{array.itemsize}")


def _interleave(results: np.ndarray, turns: Turns, images: np.ndarray, by_phase: bool) -> None:
    """Put the phases, which are channels of `results` or its first axis, in turns."""
    from .cpu.shuffle import interleave

    missing = (1,) * (5 - images.ndim)
    out = images.reshape(-1, *missing, *images.shape[2:])
    many = math.prod(turns.phases)
    order = (many, len(out)) if by_phase else (len(out), many)
    phases = results.reshape(*order, *missing, *results.shape[2 - images.ndim :])
    interleave(_bits(phases), *turns, _bits(out), by_phase)


# -- as a matrix product -------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _multiplied(spec: ConvSpec) -> bool:
    """Whether a matrix product and the sums of its columns are estimated to take less time than convolutions."""
    from .cpu.machine import this_machine

    depth, positions = spec.c_out // spec.groups, spec.oh * spec.ow
    columns = spec.c_in // spec.groups * spec.kh * spec.kw * positions
    large = columns * spec.acc_dtype.itemsize > COLUMNS_BYTES
    if not spec.n or spec.dtype.kind != "f" or spec.axes == 3 or large:
        return False
    machine, side, others = this_machine(1), spec.n if positions == 1 else positions, _seconds(_parts(spec))
    if _is_small(spec):
        return machine.call + _direct_seconds(spec) < others
    rate = machine.blas_flops * 4 / spec.acc_dtype.itemsize * min(side, depth) / (min(side, depth) + 16)
    all_columns = spec.n * spec.groups * columns
    product = 2 * all_columns * depth / rate + 3 * all_columns * spec.acc_dtype.itemsize / machine.bandwidth
    product += (spec.n + 2) * spec.groups * machine.call
    moved = MOVE * spec.c_out * (spec.c_in // spec.groups) * spec.kh * spec.kw
    return product < moved + others


def _direct_seconds(spec: ConvSpec) -> float:
    """Estimated, of `columns.fold_product`."""
    from .cpu.simd import lanes

    sums = spec.n * spec.c_in * spec.kh * spec.kw * spec.oh * -(-spec.ow // lanes(spec.acc_dtype))
    return sums * (SUM + PRODUCT * (spec.c_out // spec.groups))


def _is_small(spec: ConvSpec) -> bool:
    """Whether `columns.fold_product` takes no longer than a product's calls for each image and group."""
    return spec.stride[1] == 1 and _direct_seconds(spec) <= CALLS * spec.n * spec.groups


class _Product:
    """The weights, transposed, times `y`: columns, which are summed up to images."""

    def __init__(self, spec: ConvSpec) -> None:
        from .cpu import simd
        from .cpu.columns import fold, fold_product
        from .cpu.runtime import Launch

        self._spec = spec
        channels, pads = spec.c_in // spec.groups, (spec.padding[0][0], spec.padding[1][0])
        window, lanes = (spec.kh, spec.kw, spec.oh, spec.ow), simd.lanes(spec.acc_dtype)
        self._weights = spec.groups, spec.c_out // spec.groups, channels * spec.kh * spec.kw
        self._signals = spec.n, spec.groups, spec.c_out // spec.groups, spec.oh * spec.ow
        self._images = spec.n, spec.groups, channels, spec.h, spec.w
        self._geometry = window, spec.stride, pads, spec.dilation, lanes
        self._fold = Launch(fold, self._weights[2] * spec.oh * spec.ow)
        self._pixel = spec.oh * spec.ow == 1
        kernel = (spec.h, spec.w) == (spec.kh, spec.kw) and pads == (0, 0) and spec.dilation == (1, 1)
        self._column = self._pixel and kernel  # one is an image
        self._direct = Launch(fold_product, spec.flops) if _is_small(spec) else None
        self._no_bias = np.zeros(spec.c_in, spec.acc_dtype)

    def run(self, weight: np.ndarray, y: np.ndarray, bias: np.ndarray | None, result: np.ndarray) -> None:
        """Fill the result."""
        spec, y = self._spec, kernel_ready(y, self._spec.acc_dtype)
        target = computed_array(result, spec.acc_dtype)
        if self._direct is None:
            self._multiply(weight, y, bias, target)
        else:
            images, kernels, signals = spec.kernel_shapes
            biases = self._no_bias if bias is None else kernel_ready(bias, spec.acc_dtype)
            self._direct.call(weight.reshape(kernels), y.reshape(signals), biases, target.reshape(images), spec.groups,
                              *self._geometry)
        hand_over(target, result)

    @np.errstate(over="ignore", invalid="ignore")  # of inf and NaN, BLAS would warn and the loops do not
    def _multiply(self, weight: np.ndarray, y: np.ndarray, bias: np.ndarray | None, target: np.ndarray) -> None:
        """With a matrix product for each image and group."""
        spec, fold, geometry = self._spec, self._fold, self._geometry
        signals, sums = y.reshape(self._signals), target.reshape(self._images)
        for group, matrix in enumerate(weight.reshape(self._weights)):
            # Of one pixel, all images are one product.
            rows = signals[:, group, :, 0] @ matrix if self._pixel else None
            if rows is not None and self._column:
                sums[:, group] = rows.reshape(sums[:, group].shape)
                continue
            for image in range(spec.n):
                columns = matrix.T @ signals[image, group] if rows is None else rows[image][:, None]
                fold.call(columns, sums[image, group], *geometry)
        if bias is not None:
            sums += bias.astype(spec.acc_dtype).reshape(spec.groups, -1, 1, 1)
