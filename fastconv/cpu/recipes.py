"""Recipes: a problem and its algorithm, all of a call but the arrays; cached, so that a repeated call finds its own."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..planner import remember
from ..planner.choose import Choice, check_name, name
from ..planner.contract import Algorithm, trait
from ..specs.arrays import (
    allocate,
    check_memory,
    check_out,
    computed_array,
    hand_over,
    is_small,
    kernel_ready,
    result_array,
)
from ..specs.conv import ConvSpec, filter_spec
from ..specs.conv_transpose import TransposeSpec
from ..specs.pool import PoolSpec
from . import CONV2D, planner
from .channels_last import ChannelsLast
from .padded import PaddedConv, PaddedTranspose
from .shared.extension import check_padded, padded
from .shared.reorder import channels_first
from .system.memory import for_one_call
from .system.plain import PLAIN
from .system.threads import num_threads

#: Operations below which `row` makes exact sums: it is compiled once for all shapes, others take seconds for each.
ROW_FLOPS = 100_000

#: Names of the algorithms that image filters use, and of the exact ones among them.
FILTERS = tuple(name(algorithm) for algorithm in CONV2D if trait(algorithm, "plain" if PLAIN else "filters"))
EXACT = tuple(label for label in FILTERS if any(name(one) == label and trait(one, "exact") for one in CONV2D))


def check_precision(spec: ConvSpec | TransposeSpec | PoolSpec) -> None:
    """ValueError if float32 is to be multiplied in another precision than its own."""
    if not isinstance(spec, PoolSpec) and spec.precision != "float32":
        raise ValueError(f"precision={spec.precision!r} is for device='cuda'; the CPU computes in 'float32' only")


# -- convolution and pooling ---------------------------------------------------------------------------------


class _Recipe:
    """A problem and its algorithm: all of a call but the arrays. It is cached, so that a repeated call finds it."""

    __slots__ = ("_any", "_as_given", "_computed", "_same", "_seen", "_small", "_written", "module", "spec")

    def __init__(
        self,
        spec: ConvSpec | TransposeSpec | PoolSpec,
        module: Algorithm,
        computed: np.dtype,
        seen: tuple[int, ...],
        written: tuple[int, ...],
    ) -> None:
        """Algorithms take an input of shape `seen` and write an output of shape `written` in the dtype `computed`."""
        self.spec: Any = spec
        self.module: Any = module
        self._computed, self._seen, self._written = computed, seen, written
        self._any = 0 not in spec.output_shape
        self._as_given = written == spec.output_shape
        self._small = is_small(spec.output_shape, spec.out_dtype)
        self._same = spec.out_dtype == computed

    def _arrays(
        self, x: np.ndarray, out: np.ndarray | None, inputs: tuple[np.ndarray, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input and output as the algorithm takes them; and the result, which `hand_over` fills from that output."""
        spec = self.spec
        if out is not None:
            result = check_out(out, spec.output_shape, spec.out_dtype, inputs)
        elif self._small:
            result = np.empty(spec.output_shape, spec.out_dtype)
        else:
            result = allocate(spec.output_shape, spec.out_dtype, of=spec)
        target = result if self._same else computed_array(result, self._computed)
        # Most arrays are as they should be: a call less.
        images = x if x.dtype == spec.x_dtype and x.flags.carray else channels_first(x, spec.x_dtype, spec.axes)
        if self._as_given:
            return images, target, result
        return images.reshape(self._seen), target.reshape(self._written), result


class ConvRecipe(_Recipe):
    """A convolution or a transposed one, and its algorithm."""

    __slots__ = ("_for_one_call", "_no_bias", "_prepare", "_special", "_weight_shape")

    def __init__(self, spec: ConvSpec | TransposeSpec, choice: Choice, for_one_call: bool) -> None:
        """Weights that are packed for one call, which ends before this thread's next, take no new memory."""
        seen, self._weight_shape, written = spec.kernel_shapes
        super().__init__(spec, choice.algorithm, spec.acc_dtype, seen, written)
        self._no_bias = np.zeros(spec.c_out, spec.acc_dtype)
        self._special, self._for_one_call = choice.special is not None, for_one_call
        self._prepare = choice.prepare if self._special else choice.algorithm.prepare  # one call less for most

    def scratch(self, module: Algorithm) -> int:
        """Bytes that a call takes beside input and output, if this algorithm runs."""
        return module.scratch(self.spec)

    def pack(self, weight: np.ndarray, bias: np.ndarray | None) -> Operands:
        """Weight and bias as `run` takes them."""
        weight, prepare = kernel_ready(weight, self._computed), self._prepare
        if weight.shape != self._weight_shape:
            weight = weight.reshape(self._weight_shape)
        ready = for_one_call(prepare, self.spec, weight) if self._for_one_call else prepare(self.spec, weight)
        module, packed = ready if self._special else (self.module, ready)
        return module, packed, self._no_bias if bias is None else kernel_ready(bias, self._computed)

    def run(
        self, x: np.ndarray, operands: Operands, out: np.ndarray | None, inputs: tuple[np.ndarray, ...]
    ) -> np.ndarray:
        """Convolve an array that is known to fit; `inputs` is what `out` may not share memory with."""
        module, packed, bias = operands
        images, target, result = self._arrays(x, out, inputs)
        if self._any:
            module.run(self.spec, images, packed, bias, target)
            if not self._same:
                hand_over(target, result)
        return result


#: The algorithm, the weights as it packed them, and the bias.
Operands = tuple[Any, Any, np.ndarray]


class PoolRecipe(_Recipe):
    """A pooling and its algorithm."""

    __slots__ = ()

    def __init__(self, spec: PoolSpec, module: Algorithm) -> None:
        seen, written = spec.kernel_shapes
        super().__init__(spec, module, spec.x_dtype, seen, written)

    def run(self, x: np.ndarray, return_indices: bool, out: np.ndarray | None) -> Any:
        """Pool an array that is known to fit; the pair (values, indices) if `return_indices`."""
        images, target, result = self._arrays(x, out, (x,))
        indices = allocate(self.spec.output_shape, _INT64) if return_indices else None
        if self._any:
            self.module.run(self.spec, images, target, None if indices is None else indices.reshape(self._written))
            if not self._same:
                hand_over(target, result)
        return result if indices is None else (result, indices)


_INT64 = np.dtype(np.int64)


def recipe(
    spec: ConvSpec | TransposeSpec | PoolSpec, algorithm: str, for_one_call: bool = False,
    names: tuple[str, ...] | None = None,
) -> Any:  # fmt: skip
    """The `ConvRecipe` or `PoolRecipe` for an algorithm that is asked for by name, or the cheapest (of `names`).

    `for_one_call` is for a plain call, which packs the weights each time: the time of packing then counts.
    """
    check_name(algorithm)
    return _recipe(spec, algorithm, names, for_one_call, *planner.state())


@lru_cache(maxsize=4096)
def _recipe(
    spec: ConvSpec | TransposeSpec | PoolSpec, algorithm: str, names: tuple[str, ...] | None, for_one_call: bool,
    *choice: int,
) -> ConvRecipe | PoolRecipe | PaddedConv | PaddedTranspose | ChannelsLast:  # fmt: skip
    """Make a recipe; `choice` is what the planner's choice depends on beside the other arguments."""
    check_precision(spec)
    if not isinstance(spec, PoolSpec) and spec.extended is not spec:
        return _composed(spec, algorithm, names, for_one_call)
    chosen = planner.choose(spec, algorithm, names=names, for_one_call=for_one_call)
    check_memory(chosen.algorithm.scratch(spec), f"the scratch of {name(chosen.algorithm)!r}", spec)
    return PoolRecipe(spec, chosen.algorithm) if isinstance(spec, PoolSpec) else ConvRecipe(spec, chosen, for_one_call)


def _composed(
    spec: ConvSpec | TransposeSpec, algorithm: str, names: tuple[str, ...] | None, for_one_call: bool
) -> PaddedConv | PaddedTranspose | ChannelsLast:
    """The recipe of a convolution whose padding is not zeros or whose channels are last, or of the gradient for the
    input of one."""

    def make(part: ConvSpec | TransposeSpec, label: str) -> Any:
        return _recipe(part, label, names, for_one_call, *planner.state())

    if isinstance(spec, TransposeSpec):
        check_padded(spec.convolution, spec.n)
        return PaddedTranspose(spec, algorithm, make)
    if algorithm == "auto":
        measured = remember.recall(spec, num_threads())
        if measured is not None and measured in (names or planner.candidates(spec)):
            algorithm = measured
    if spec.channels_last:
        return ChannelsLast(spec, algorithm, make)
    check_padded(spec, 1)
    return PaddedConv(spec, algorithm, planner, names, for_one_call, make)


def filter_recipe(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    dtypes: tuple[np.dtype, ...],
    padding: Any = 0,
    padding_mode: Any = "zeros",
    exact: bool = False,
) -> Any:
    """The recipe for an image filter, checked by `filter_spec`; with `exact`, of an algorithm in `EXACT`."""
    return _filter_recipe(x_shape, weight_shape, dtypes, padding, padding_mode, exact, *planner.state())


@lru_cache(maxsize=4096)
def _filter_recipe(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    dtypes: tuple[np.dtype, ...],
    padding: Any,
    padding_mode: Any,
    exact: bool,
    *choice: int,
) -> Any:
    spec = filter_spec(x_shape, weight_shape, dtypes, padding, padding_mode)
    algorithm = "row" if exact and spec.flops < ROW_FLOPS else "auto"
    return _recipe(spec, algorithm, EXACT if exact else FILTERS, True, *choice)  # kernels are packed each time


# -- the gradient for a convolution's weight -----------------------------------------------------------------


class WeightRecipe:
    """A convolution and the algorithm of the gradient for its weight: all of a call but the arrays."""

    __slots__ = ("_computed", "_module", "_seen", "_small", "_spec", "_written")

    def __init__(self, spec: ConvSpec, algorithm: str) -> None:
        self._spec, self._computed = spec, spec.extended
        self._seen, _, self._written = spec.kernel_shapes
        self._module = planner.choose(spec, algorithm, op="conv2d_weight").algorithm
        self._small = is_small(spec.weight_shape, spec.out_dtype)
        if self._computed is not spec:
            check_padded(spec, spec.n)

    def run(self, x: np.ndarray, grad: np.ndarray, out: Any) -> np.ndarray:
        """The gradient; `grad` is the one for the output."""
        spec = self._spec
        if out is None and self._small:
            result = np.empty(spec.weight_shape, spec.out_dtype)
        else:
            result = result_array(spec.weight_shape, spec.out_dtype, out, (x, grad), spec)
        target = computed_array(result, spec.acc_dtype)
        computed = self._computed
        images = channels_first(x, spec.x_dtype, spec.axes) if computed is spec else padded(spec, x)
        signals = kernel_ready(grad, spec.acc_dtype)
        if not spec.batched:
            images, signals = images.reshape(computed.kernel_shapes[0]), signals.reshape(self._written)
        self._module.run(computed, images, signals, target)
        hand_over(target, result)
        return result


def weight_recipe(spec: ConvSpec, algorithm: str) -> WeightRecipe:
    """The recipe for an algorithm that is asked for by name, or the cheapest; it is cached for the next call."""
    check_name(algorithm)
    return _weight_recipe(spec, algorithm, *planner.state())


@lru_cache(maxsize=4096)
def _weight_recipe(spec: ConvSpec, algorithm: str, *choice: int) -> WeightRecipe:
    """Make a recipe; `choice` is what the planner's choice depends on beside the other arguments."""
    return WeightRecipe(spec, algorithm)
