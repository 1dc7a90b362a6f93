"""Recipes: a problem and its algorithm, all of a call but the arrays; kept, so that a repeated call finds its own."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from ..planner.choose import EXACT, FILTERS, Planner, check_name, name
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
from ..specs.pool import PoolSpec
from . import TABLES
from .machine import this_machine
from .system.memory import used_once
from .system.threads import num_threads

#: Below as many operations `row` makes exact sums: it is compiled once for all shapes, the others for seconds for each.
SMALL = 100_000

#: Chooses among the tables' algorithms, by costs on one thread.
planner = Planner(TABLES, lambda: this_machine(1), num_threads)


def check_precision(spec: ConvSpec | PoolSpec) -> None:
    """ValueError if float32 is not to be multiplied as it is."""
    if isinstance(spec, ConvSpec) and spec.precision != "float32":
        raise ValueError(f"precision={spec.precision!r} is for device='cuda'; the CPU computes in 'float32' only")


# -- convolution and pooling ---------------------------------------------------------------------------------


class _Recipe:
    """A problem and its algorithm: all of a call but the arrays. Kept, so that a repeated call finds it ready."""

    __slots__ = ("_any", "_as_given", "_computed", "_same", "_seen", "_small", "_written", "module", "spec")

    def __init__(
        self,
        spec: ConvSpec | PoolSpec,
        module: ModuleType,
        computed: np.dtype,
        seen: tuple[int, ...],
        written: tuple[int, ...],
    ) -> None:
        """Algorithms take an input of shape `seen` and write an output of shape `written` in the dtype `computed`."""
        self.spec: Any = spec
        self.module = module
        self._computed, self._seen, self._written = computed, seen, written
        self._any = 0 not in spec.output_shape
        self._as_given = written == spec.output_shape
        self._small = is_small(spec.output_shape, spec.out_dtype)
        self._same = spec.out_dtype == computed

    def _arrays(
        self, x: np.ndarray, out: np.ndarray | None, inputs: tuple[np.ndarray, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input and output as the algorithm takes them; and the result, which `hand_over` fills of the output."""
        spec = self.spec
        if out is not None:
            result = check_out(out, spec.output_shape, spec.out_dtype, inputs)
        elif self._small:
            result = np.empty(spec.output_shape, spec.out_dtype)
        else:
            result = allocate(spec.output_shape, spec.out_dtype)
        target = result if self._same else computed_array(result, self._computed)
        images = kernel_ready(x, spec.x_dtype)
        if self._as_given:
            return images, target, result
        return images.reshape(self._seen), target.reshape(self._written), result


class ConvRecipe(_Recipe):
    """A convolution and its algorithm."""

    __slots__ = ("_no_bias", "_once", "_weight_shape", "special")

    def __init__(self, spec: ConvSpec, module: ModuleType, special: ModuleType | None, once: bool) -> None:
        """Weights that suit `special` run there. With `once` they are packed for one call, before this thread's next,
        and take no new memory."""
        seen, self._weight_shape, written = spec.kernel_shapes
        super().__init__(spec, module, spec.acc_dtype, seen, written)
        self._no_bias = np.zeros(spec.c_out, spec.acc_dtype)
        self.special, self._once = special, once

    def pack(self, weight: np.ndarray, bias: np.ndarray | None) -> Operands:
        """Weight and bias as `run` takes them."""
        weight, special = kernel_ready(weight, self._computed), self.special
        if weight.shape != self._weight_shape:
            weight = weight.reshape(self._weight_shape)
        packed = None if special is None else special.fit(self.spec, weight)
        module = self.module if special is None or packed is None else special
        if packed is None:
            prepare = module.prepare
            packed = used_once(prepare, self.spec, weight) if self._once else prepare(self.spec, weight)
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
Operands = tuple[ModuleType, Any, np.ndarray]


class PoolRecipe(_Recipe):
    """A pooling and its algorithm."""

    __slots__ = ()

    def __init__(self, spec: PoolSpec, module: ModuleType) -> None:
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


def recipe(spec: ConvSpec | PoolSpec, algorithm: str, once: bool = False) -> Any:
    """The `ConvRecipe` or `PoolRecipe` for an algorithm that is asked for by name, or the cheapest.

    With `once` for a plain call, which packs the weights each time: that counts, and what is packed is for one call.
    """
    check_name(algorithm)
    return _recipe(spec, algorithm, None, once, *planner.state())


@lru_cache(maxsize=4096)
def _recipe(
    spec: ConvSpec | PoolSpec, algorithm: str, names: tuple[str, ...] | None, once: bool, *choice: int
) -> ConvRecipe | PoolRecipe:
    """`choice` is what the planner's choice depends on beside the arguments."""
    check_precision(spec)
    module, special = planner.choose(spec, algorithm, names=names, for_one_call=once)
    check_memory(module.scratch(spec), f"the scratch of {name(module)!r}")
    return ConvRecipe(spec, module, special, once) if isinstance(spec, ConvSpec) else PoolRecipe(spec, module)


def alike(first: ConvRecipe, spec: ConvSpec, algorithm: str, once: bool) -> ConvRecipe:
    """The recipe for a problem by the algorithm of another's, which differs in its sides only, if it can."""
    if first.spec == spec:
        return first
    if first.module.supports(spec) is not None:
        return recipe(spec, algorithm, once=once)
    special = first.special
    return ConvRecipe(spec, first.module, None if special is None or special.supports(spec) else special, once)


def filter_recipe(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    dtypes: tuple[np.dtype, ...],
    padding: Any = 0,
    exact: bool = False,
) -> Any:
    """The recipe for image filters, checked by `filter_spec`; with `exact` for an algorithm of `EXACT`."""
    return _filter_recipe(x_shape, weight_shape, dtypes, padding, exact, *planner.state())


@lru_cache(maxsize=4096)
def _filter_recipe(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    dtypes: tuple[np.dtype, ...],
    padding: Any,
    exact: bool,
    *choice: int,
) -> ConvRecipe | PoolRecipe:
    spec = filter_spec(x_shape, weight_shape, dtypes, padding)
    algorithm = "row" if exact and spec.flops < SMALL else "auto"
    return _recipe(spec, algorithm, EXACT if exact else FILTERS, True, *choice)  # kernels are packed each time


# -- the gradient for a convolution's weight -----------------------------------------------------------------


class WeightRecipe:
    """A convolution and what gives the gradient for its weight: all of a call but the arrays."""

    __slots__ = ("_module", "_seen", "_small", "_spec", "_written")

    def __init__(self, spec: ConvSpec, algorithm: str) -> None:
        self._spec, (self._seen, _, self._written) = spec, spec.kernel_shapes
        self._module, _ = planner.choose(spec, algorithm, op="conv2d_weight")
        self._small = is_small(spec.weight_shape, spec.out_dtype)

    def run(self, x: np.ndarray, grad: np.ndarray, out: Any) -> np.ndarray:
        """The gradient; `grad` is the one for the output."""
        spec = self._spec
        if out is None and self._small:
            result = np.empty(spec.weight_shape, spec.out_dtype)
        else:
            result = result_array(spec.weight_shape, spec.out_dtype, out, (x, grad))
        target = computed_array(result, spec.acc_dtype)
        images, signals = kernel_ready(x, spec.x_dtype), kernel_ready(grad, spec.acc_dtype)
        if not spec.batched:
            images, signals = images.reshape(self._seen), signals.reshape(self._written)
        self._module.run(spec, images, signals, target)
        hand_over(target, result)
        return result


def weight_recipe(spec: ConvSpec, algorithm: str) -> WeightRecipe:
    """The recipe for an algorithm that is asked for by name, or the cheapest; kept for the next call."""
    check_name(algorithm)
    return _weight_recipe(spec, algorithm, *planner.state())


@lru_cache(maxsize=4096)
def _weight_recipe(spec: ConvSpec, algorithm: str, *choice: int) -> WeightRecipe:
    """`choice` is what the planner's choice depends on beside the arguments."""
    return WeightRecipe(spec, algorithm)
