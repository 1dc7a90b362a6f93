"""The transpose of a convolution as linear map: what its input's gradient and `conv_transpose2d` are.

A `ConvSpec` describes the convolution that is transposed; what comes out has the shape of its input::

    out[n, c, u, v] = bias[c] + sum over o, a, b, i, j with i * stride_h - top + a * dilation_h = u  (v alike)
                      of weight[o, c, a, b] * y[n, o, i, j]

Without a stride that is a convolution of `y` with the kernels flipped and their channels exchanged. With one, the rows
u of each remainder by the stride see only some of the taps, always the same: each remainder is a convolution without
stride, and their results are interleaved. No zeros are inserted, nothing is multiplied by them. Where the stride
divides the kernel, all remainders see equally many taps, and together they are one convolution with as many times the
channels, if that takes less time than one for each (`fastconv.specs.phases`). Small images and many weights are better
multiplied as they are, and the columns of the product summed up (`im2col`): that moves no weights. Depthwise with
a stride, a kernel of its own makes all phases at once (`transpose_depthwise`). These are the `ways`.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4; Shi et
al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..planner.choose import check_name
from ..planner.measure import medians, random_array
from ..planner.plan import Plan
from ..specs.arrays import allocate, is_small, kernel_ready, result_array
from ..specs.conv import ConvSpec
from ..specs.phases import separate, together
from .plans import HOPELESS_RUN, MEASURED_CALLS, MEASURED_SECONDS, fastest, planned_array
from .recipes import planner
from .ways import (
    Convolutions,
    Depthwise,
    Product,
    Way,
    decisive,
    depthwise_seconds,
    product_seconds,
    separate_seconds,
    together_seconds,
)


class TransposedRecipe:
    """A transposed convolution and what computes it: all of a call but the arrays, as `ConvRecipe` is."""

    __slots__ = ("_small", "_way", "spec")

    def __init__(self, spec: ConvSpec, algorithm: str) -> None:
        """The convolution `spec` is transposed; `algorithm` is one of its."""
        self.spec = spec
        self._small = is_small(spec.x_shape, spec.out_dtype)
        self._way = _way(spec, algorithm, True)

    def run(self, weight: np.ndarray, y: np.ndarray, bias: np.ndarray | None, out: Any) -> np.ndarray:
        """The result; `weight` and `y`, an output of the convolution, have its shapes, `bias` a value a channel."""
        spec, way = self.spec, self._way
        if out is None and self._small:
            result = np.empty(spec.x_shape, spec.out_dtype)
        else:
            inputs = (weight, y) if bias is None else (weight, y, bias)
            result = result_array(spec.x_shape, spec.out_dtype, out, inputs)
        if result.size:
            way.run(way.packed(kernel_ready(weight, spec.acc_dtype), bias), bias, y, result)
        return result


def transposed_recipe(spec: ConvSpec, algorithm: str) -> TransposedRecipe:
    """The recipe for an algorithm that is asked for by name, or the cheapest; it is kept for the next call."""
    check_name(algorithm)
    return _recipe(spec, algorithm, *planner.state())


@lru_cache(maxsize=1024)
def _recipe(spec: ConvSpec, algorithm: str, *choice: int) -> TransposedRecipe:
    """`choice` is what the recipes of the convolutions depend on beside the arguments."""
    return TransposedRecipe(spec, algorithm)


def _way(spec: ConvSpec, algorithm: str, once: bool) -> Way:
    """What is estimated to take the least time, if weights are packed for one call or were before."""
    way = cheapest(spec, algorithm, once)
    if way is Depthwise:
        return Depthwise(spec)
    if way is Product:
        return Product(spec)
    parts = together(spec) if way is together else separate(spec)
    assert parts is not None
    return Convolutions(spec, parts, algorithm, once)


def cheapest(spec: ConvSpec, algorithm: str, once: bool) -> Any:
    """The way; of convolutions the function that tells them."""
    seconds: dict[Any, float] = {together: together_seconds(spec, once)}
    if algorithm == "auto":
        seconds |= {Product: product_seconds(spec, once), Depthwise: depthwise_seconds(spec)}
    if max(spec.strides) > 1 or seconds[together] == math.inf:  # else they are the same
        seconds[separate] = separate_seconds(spec, once, min(seconds.values()))
    return min(seconds, key=seconds.__getitem__)


# -- plans ---------------------------------------------------------------------------------------------------


class TransposedPlan(Plan):
    """A transposed convolution whose weights are packed."""

    is_transposed = True

    def __init__(self, spec: ConvSpec, weight: np.ndarray, bias: np.ndarray | None, algorithm: str):
        self._prepare(spec, weight, bias, _way(spec, algorithm, False))

    def _prepare(self, spec: ConvSpec, weight: np.ndarray, bias: np.ndarray | None, way: Way) -> None:
        self.spec, self._bias, self._way = spec, bias, way
        self._operands = tuple(way.packed(kernel_ready(weight, spec.acc_dtype), bias))

    @classmethod
    def measured(cls, spec: ConvSpec, weight: np.ndarray, bias: np.ndarray | None) -> TransposedPlan:
        """The plan whose way, and of convolutions whose algorithms, measure fastest, on random data."""
        plans = []
        for way in _ways(spec):
            plans.append(cls.__new__(cls))
            plans[-1]._prepare(spec, weight, bias, way)
        if len(plans) == 1 or 0 in spec.output_shape:
            return plans[0]
        y, out = random_array(spec.output_shape, spec.dtype), allocate(spec.x_shape, spec.out_dtype)
        runs = {str(number): partial(plan, y, out) for number, plan in enumerate(plans)}
        for run in runs.values():
            run()  # compiles
        taken = medians(runs, MEASURED_CALLS, MEASURED_SECONDS, HOPELESS_RUN)
        return plans[int(min(taken, key=taken.__getitem__))]

    @property
    def algorithm(self) -> str:
        """What runs."""
        return self._way.name

    @property
    def scratch_bytes(self) -> int:
        """Memory a call needs beside input and output, in bytes."""
        return self._way.scratch_bytes()

    def __call__(self, x: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Transposed convolution of `x`, of the planned shape and of a dtype that converts to the planned one without
        loss.

        Returns `out` if it is given, a new array otherwise; ValueError or TypeError if either does not fit.
        """
        spec = self.spec
        x = planned_array(x, spec.output_shape, spec.dtype)
        result = result_array(spec.x_shape, spec.out_dtype, out, (x,))
        if result.size:
            self._way.run(self._operands, self._bias, x, result)
        return result


def _ways(spec: ConvSpec) -> list[Way]:
    """All ways, the algorithms of their convolutions measured."""
    found: list[Way] = []
    if depthwise_seconds(spec) < math.inf:
        found.append(Depthwise(spec))
    if product_seconds(spec, False) < math.inf:
        found.append(Product(spec))
    for parts in (together(spec), separate(spec)):
        if parts is not None:
            for problem in decisive(spec, parts).values():
                fastest(problem, random_array(problem.weight_shape, spec.dtype), None)
            found.append(Convolutions(spec, parts, "auto", False))
    return found
