"""From a spec to a result: prepare the weights for the chosen algorithm, run it."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from ..specs.arrays import allocate, array, check_memory, check_out, computed_array, hand_over, is_small, kernel_ready
from ..specs.conv import ConvSpec, filter_spec
from ..specs.dtypes import check_dtype
from ..specs.pool import PoolSpec
from . import remember
from .choose import EXACT, FILTERS, SMALL, candidates, check_name, choose, get_num_threads, name, operation, runtime
from .measure import medians, random_array

# -- measuring -----------------------------------------------------------------------------------------------

#: Algorithms that are estimated to take so many times the cheapest's time are not measured, nor those that do take
#: `HOPELESS_RUN` times the fastest's at the first try.
HOPELESS, HOPELESS_RUN = 10.0, 3.0
#: Calls of each algorithm that is measured, or as many as fit into so many seconds.
MEASURED_CALLS, MEASURED_SECONDS = 31, 0.1


def fastest(spec: ConvSpec, weight: np.ndarray, bias: np.ndarray | None) -> str:
    """The algorithm that measures fastest, timed now on random data unless it is remembered."""
    threads = get_num_threads()
    costs = candidates(spec)
    remembered = remember.recall(spec, threads)
    if remembered in costs:
        return remembered
    least = min(costs.values())
    if not math.prod(spec.output_shape):
        return min(costs, key=costs.__getitem__)
    x, out = random_array(spec.x_shape, spec.dtype), allocate(spec.output_shape, spec.out_dtype)
    runs = {}
    for label in sorted(costs, key=costs.__getitem__):
        if costs[label] <= HOPELESS * least:
            runs[label] = partial(Plan(spec, weight, bias, label), x, out)
            runs[label]()  # compiles
    return remember.learn(spec, threads, medians(runs, MEASURED_CALLS, MEASURED_SECONDS, HOPELESS_RUN))


# -- running -------------------------------------------------------------------------------------------------


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
            packed = _memory().used_once(prepare, self.spec, weight) if self._once else prepare(self.spec, weight)
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


@lru_cache(maxsize=1)
def _memory() -> Any:
    """`cpu.system.memory`, which an import statement would look up at every call."""
    from ..cpu.system import memory

    return memory


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
    return _recipe(spec, algorithm, None, once, runtime().num_threads(), remember.generation)


@lru_cache(maxsize=4096)
def _recipe(
    spec: ConvSpec | PoolSpec, algorithm: str, names: tuple[str, ...] | None, once: bool, *choice: int
) -> ConvRecipe | PoolRecipe:
    """`choice` is what the answer of `choose` depends on beside the arguments."""
    module, special = choose(operation(spec), spec, algorithm, "cpu", names=names, once=once)
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
    choice = runtime().num_threads(), remember.generation
    return _filter_recipe(x_shape, weight_shape, dtypes, padding, exact, *choice)


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


def planned_array(x: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A plan's input; ValueError or TypeError if it does not fit."""
    x = array("x", x)
    if x.shape != shape:
        raise ValueError(f"x has shape {x.shape}, but the plan is for {shape}")
    if x.dtype != dtype and not np.can_cast(check_dtype("x", x.dtype), dtype):
        raise TypeError(f"x has dtype {x.dtype}, but the plan is for {dtype}")
    return x


def conversion_bytes(spec: ConvSpec) -> int:
    """Memory for copies of input and output in the dtypes that are computed in."""
    converted = 0
    if spec.dtype != spec.x_dtype and spec.dtype.kind != "b":
        converted += math.prod(spec.x_shape) * spec.x_dtype.itemsize
    if spec.out_dtype != spec.acc_dtype:
        converted += math.prod(spec.output_shape) * spec.acc_dtype.itemsize
    return converted


class Plan:
    """A convolution that is checked, decided and packed, to be called again and again.

    Made by `plan_conv2d`. Calls share nothing that is written to, so several threads may call one plan at once.

    Attributes
    ----------
    spec : ConvSpec
        The problem.
    algorithm : str
        Name of the algorithm that runs.
    flops : int
        Multiplications and additions of the definition, whichever algorithm runs.
    scratch_bytes : int
        Memory a call needs beside input and output.
    output_shape : tuple of int
        Shape of the result.
    """

    def __init__(self, spec: ConvSpec, weight: np.ndarray, bias: np.ndarray | None, algorithm: str):
        self.spec = spec
        self._recipe = recipe(spec, algorithm)
        self._operands = self._recipe.pack(weight, bias)
        self._module = self._operands[0]

    @property
    def algorithm(self) -> str:
        """Name of the algorithm that runs."""
        return name(self._module)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the definition, whichever algorithm runs."""
        return self.spec.flops

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.spec.output_shape

    @property
    def scratch_bytes(self) -> int:
        """Memory a call needs beside input and output, in bytes."""
        return conversion_bytes(self.spec) + self._module.scratch(self.spec)

    def __call__(self, x: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Convolve `x`, of the planned shape and of a dtype that converts to the planned one without loss.

        Returns `out` if it is given, a new array otherwise; ValueError or TypeError if either does not fit.
        """
        x = planned_array(x, self.spec.x_shape, self.spec.dtype)
        return self._recipe.run(x, self._operands, out, (x,))

    def __repr__(self) -> str:
        spec = self.spec
        return (
            f"<Plan {operation(spec)} {spec.x_shape} * {spec.weight_shape} -> {spec.output_shape}, {spec.dtype}, "
            f"stride={spec.strides}, padding={spec.paddings}, dilation={spec.dilations}, groups={spec.groups}: "
            f"algorithm={self.algorithm!r}, "
            f"flops={self.flops}, scratch_bytes={self.scratch_bytes}>"
        )
