"""From a spec to a result: pick an algorithm, prepare its weights, run it.

The tables of `cpu` are loaded here, at the first call, because they import Numba.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from . import wisdom
from .checks import allocate, array, check_dtype, check_out, integer, is_small, kernel_ready
from .spec import ConvSpec, PoolSpec, filter_spec
from .timing import medians, random_array

#: The table of each operation; a signal is an image of height 1.
_OPS = {
    f"{op}{axes}d": f"{'CONV' if op == 'conv' else 'POOL'}{max(axes, 2)}D"
    for axes in (2, 1, 3)
    for op in ("conv", "max_pool", "avg_pool", "lp_pool")
} | {"conv2d_weight": "CONV2D_WEIGHT"}


# -- choosing ------------------------------------------------------------------------------------------------


def table(op: str, device: str = "cpu") -> tuple[ModuleType, ...]:
    """The algorithm modules of one operation, in table order."""
    if not isinstance(op, str) or op not in _OPS:
        raise ValueError(f"op must be one of {', '.join(map(repr, _OPS))}, got {op!r}")
    if not isinstance(device, str) or device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    if device == "cuda":
        from . import cuda

        return getattr(cuda, _OPS[op])
    from . import cpu

    return getattr(cpu, _OPS[op])


def name(algorithm: ModuleType) -> str:
    """The public name of an algorithm: its module's, without the operation."""
    return algorithm.__name__.rpartition(".")[2].split("_", 1)[1]


def algorithms(op: str = "conv2d", device: str = "cpu") -> tuple[str, ...]:
    """Names of the algorithms there are for an operation.

    Parameters
    ----------
    op : {"conv2d", "max_pool2d", "avg_pool2d", "lp_pool2d", "conv2d_weight"}
        The operation; but for the last, the gradient for the weight, on the CPU likewise with 1d and 3d.
    device : {"cpu", "cuda"}
        Where it runs.

    Returns
    -------
    tuple of str
        In table order: the most specialised first, the readable definition last.

    Raises
    ------
    ValueError
        If `op` or `device` is unknown.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.algorithms("max_pool2d")
    ('global', 'running', 'rows', 'naive')
    """
    return tuple(name(module) for module in table(op, device))


def operation(spec: ConvSpec | PoolSpec) -> str:
    """The operation that a spec is of."""
    return f"conv{spec.axes}d" if isinstance(spec, ConvSpec) else f"{spec.op}_pool{spec.axes}d"


#: Algorithms without a transform: their sums are exact where the definition's are, and round no more elsewhere.
EXACT = ("image", "polyphase", "separable")
#: Algorithms that keep the promise of image filters: a NaN or an infinity reaches just the outputs that see it.
FILTERS = (*EXACT, "toom_cook", "fft")
#: Below as many operations `row` makes exact sums: it is compiled once for all shapes, the others for seconds for each.
SMALL = 100_000


def choose(
    op: str,
    spec: ConvSpec | PoolSpec,
    algorithm: str,
    device: str,
    *,
    names: tuple[str, ...] | None = None,
    once: bool = False,
) -> tuple[ModuleType, ModuleType | None]:
    """The module to run: the one asked for by name, or the cheapest that can, of all or of `names`.

    And the module that would be cheaper still, if there is one and the weights suit it. With `once` preparing counts.
    """
    check_names(algorithm, device)
    if algorithm != "auto":
        return _named(op, spec, algorithm, device), None
    threads = _runtime().num_threads() if device == "cpu" else 0
    return _cheapest(op, spec, device, threads, wisdom.generation, names, once)


def check_names(algorithm: object, device: object) -> None:
    """TypeError or ValueError if these are no names."""
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm must be a string, got {algorithm!r}")
    if not isinstance(device, str):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")


@lru_cache(maxsize=4096)
def _named(op: str, spec: ConvSpec | PoolSpec, algorithm: str, device: str) -> ModuleType:
    modules = table(op, device)
    if device == "cpu" and isinstance(spec, ConvSpec) and spec.precision != "float32":
        raise ValueError(f"precision={spec.precision!r} is for device='cuda'; the CPU computes in 'float32' only")
    for module in modules:
        if name(module) == algorithm:
            if reason := module.supports(spec):
                raise ValueError(f"algorithm {algorithm!r} cannot do this: {reason}")
            return module
    known = ", ".join(repr(name(module)) for module in modules)
    raise ValueError(f"algorithm must be 'auto' or one of {known}, got {algorithm!r}")


@lru_cache(maxsize=4096)
def _cheapest(
    op: str,
    spec: ConvSpec | PoolSpec,
    device: str,
    threads: int,
    wisdom_generation: int,
    names: tuple[str, ...] | None,
    once: bool,
) -> tuple[ModuleType, ModuleType | None]:
    """The cheapest module that suits any weights, and the cheaper one, if any, that suits special ones."""
    costs, others = (
        {label: seconds for label, seconds in candidates(spec, device, op=op, once=once, special=special).items()
         if names is None or label in names}
        for special in (False, True)
    )  # fmt: skip
    remembered = None
    if isinstance(spec, ConvSpec) and op == operation(spec) and device == "cpu":
        remembered = wisdom.recall(spec, threads)
    best = remembered if remembered in costs else min(costs, key=costs.__getitem__)
    least = min(costs.values())
    cheaper = min((label for label in others if others[label] < least), key=others.__getitem__, default=None)
    return _named(op, spec, best, device), None if cheaper is None else _named(op, spec, cheaper, device)


def candidates(
    spec: ConvSpec | PoolSpec, device: str = "cpu", *, op: str | None = None, once: bool = False, special: bool = False
) -> dict[str, float]:
    """The algorithms that ``"auto"`` may pick, with their estimated seconds, on the CPU on one thread: those for any
    weights, or those for special ones; `once` counts preparing. The operation is by default the forward one.

    On one, so that the choice, and with it the result, does not depend on the number of threads.
    """
    able = [module for module in table(op or operation(spec), device)
            if hasattr(module, "fit") == special and module.supports(spec) is None]  # fmt: skip
    machine = _machine(device)
    costs = {name(module): module.cost(spec, machine) for module in able}
    if once:
        for module in able:
            costs[name(module)] += getattr(module, "prepare_cost", _nothing)(spec, machine)
    return {label: seconds for label, seconds in costs.items() if seconds < math.inf}


def _nothing(spec: ConvSpec | PoolSpec, machine: Any) -> float:
    """What preparing costs where a module does not say."""
    return 0.0


def _machine(device: str) -> Any:
    if device == "cuda":
        from .cuda.machine import this_machine as this_gpu

        return this_gpu()
    from .cpu.machine import this_machine

    return this_machine(1)


#: Algorithms that are estimated to take so many times the cheapest's time are not measured, nor those that do take
#: `HOPELESS_RUN` times the fastest's at the first try.
HOPELESS, HOPELESS_RUN = 10.0, 3.0
#: Calls of each algorithm that is measured, or as many as fit into so many seconds.
MEASURED_CALLS, MEASURED_SECONDS = 31, 0.1


def fastest(spec: ConvSpec, weight: np.ndarray, bias: np.ndarray | None, device: str) -> str:
    """The algorithm that measures fastest, timed now on random data unless it is remembered."""
    threads = get_num_threads()
    costs = candidates(spec, device)
    remembered = wisdom.recall(spec, threads)
    if remembered in costs:
        return remembered
    least = min(costs.values())
    if not math.prod(spec.output_shape):
        return min(costs, key=costs.__getitem__)
    x, out = random_array(spec.x_shape, spec.dtype), allocate(spec.output_shape, spec.out_dtype)
    runs = {}
    for label in sorted(costs, key=costs.__getitem__):
        if costs[label] <= HOPELESS * least:
            runs[label] = partial(Plan(spec, weight, bias, label, device), x, out)
            runs[label]()  # compiles
    return wisdom.remember(spec, threads, medians(runs, MEASURED_CALLS, MEASURED_SECONDS, HOPELESS_RUN))


@lru_cache(maxsize=1)
def _runtime() -> Any:
    """`cpu.runtime`; an import statement would look it up at every call, for longer than the rest of a choice."""
    from .cpu import runtime

    return runtime


# -- threads -------------------------------------------------------------------------------------------------


def set_num_threads(threads: int | None) -> None:
    """Limit how many threads this package uses in this process.

    Parameters
    ----------
    threads : int or None
        At most so many; None for as many as Numba uses (``NUMBA_NUM_THREADS``, all cores by default).

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a positive integer.

    Notes
    -----
    Results do not depend on it. Numba's own ``numba.set_num_threads``, which holds for one Python thread, counts too:
    the smaller number is used. The matrix products of ``im2col`` run in NumPy's BLAS, which has its own threads.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.set_num_threads(1)
    >>> fastconv.get_num_threads()
    1
    >>> fastconv.set_num_threads(None)
    """
    limit = None if threads is None else integer("threads", threads, 1)
    _runtime().set_num_threads(limit)


def get_num_threads() -> int:
    """How many threads a call from this Python thread may use.

    Returns
    -------
    int
        Numba's number, or less by `set_num_threads`.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_num_threads() >= 1
    True
    """
    return _runtime().num_threads()


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


def computed_array(result: np.ndarray, computed: np.dtype) -> np.ndarray:
    """What a kernel writes: the result itself, or an array of the dtype that is computed in."""
    if result.dtype == computed:
        return result
    return result.view(computed) if result.dtype == np.bool_ else allocate(result.shape, computed)


def hand_over(target: np.ndarray, result: np.ndarray) -> None:
    """Put what a kernel wrote where it belongs, if it is not there already."""
    if target is not result and result.dtype != np.bool_:
        with np.errstate(over="ignore"):  # a float16 that overflows is inf, as in any framework
            result[...] = target.reshape(result.shape)


class ConvRecipe(_Recipe):
    """A convolution and its algorithm."""

    __slots__ = ("_no_bias", "_once", "_special", "_weight_shape")

    def __init__(self, spec: ConvSpec, module: ModuleType, special: ModuleType | None, once: bool) -> None:
        """Weights that suit `special` run there. With `once` they are packed for one call, before this thread's next,
        and take no new memory."""
        seen, self._weight_shape, written = spec.kernel_shapes
        super().__init__(spec, module, spec.acc_dtype, seen, written)
        self._no_bias = np.zeros(spec.c_out, spec.acc_dtype)
        self._special, self._once = special, once

    def pack(self, weight: np.ndarray, bias: np.ndarray | None) -> Operands:
        """Weight and bias as `run` takes them."""
        weight, special = kernel_ready(weight, self._computed), self._special
        if weight.shape != self._weight_shape:
            weight = weight.reshape(self._weight_shape)
        packed = None if special is None else special.fit(self.spec, weight)
        module = self.module if special is None or packed is None else special
        if packed is None:
            prepare = module.prepare
            packed = _runtime().used_once(prepare, self.spec, weight) if self._once else prepare(self.spec, weight)
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


def recipe(spec: ConvSpec | PoolSpec, algorithm: str, device: str, once: bool = False) -> Any:
    """The `ConvRecipe` or `PoolRecipe` for an algorithm that is asked for by name, or the cheapest.

    With `once` for a plain call, which packs the weights each time: that counts, and what is packed is for one call.
    """
    check_names(algorithm, device)
    return _recipe(spec, algorithm, device, None, once, _runtime().num_threads(), wisdom.generation)


@lru_cache(maxsize=4096)
def _recipe(
    spec: ConvSpec | PoolSpec, algorithm: str, device: str, names: tuple[str, ...] | None, once: bool, *choice: int
) -> ConvRecipe | PoolRecipe:
    """`choice` is what the answer of `choose` depends on beside the arguments."""
    module, special = choose(operation(spec), spec, algorithm, device, names=names, once=once)
    return ConvRecipe(spec, module, special, once) if isinstance(spec, ConvSpec) else PoolRecipe(spec, module)


def filter_recipe(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    dtypes: tuple[np.dtype, ...],
    padding: Any = 0,
    exact: bool = False,
) -> Any:
    """The recipe for image filters, checked by `filter_spec`; with `exact` for an algorithm of `EXACT`."""
    choice = _runtime().num_threads(), wisdom.generation
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
    return _recipe(spec, algorithm, "cpu", EXACT if exact else FILTERS, False, *choice)


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

    def __init__(self, spec: ConvSpec, weight: np.ndarray, bias: np.ndarray | None, algorithm: str, device: str):
        self.spec = spec
        self._recipe = recipe(spec, algorithm, device)
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
        spec = self.spec
        converted = 0
        if spec.dtype != spec.x_dtype and spec.dtype.kind != "b":
            converted += math.prod(spec.x_shape) * spec.x_dtype.itemsize
        if spec.out_dtype != spec.acc_dtype:
            converted += math.prod(spec.output_shape) * spec.acc_dtype.itemsize
        return converted + self._module.scratch(spec)

    def __call__(self, x: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Convolve `x`, of the planned shape and of a dtype that converts to the planned one without loss.

        Returns `out` if it is given, a new array otherwise; ValueError or TypeError if either does not fit.
        """
        spec = self.spec
        x = array("x", x)
        if x.shape != spec.x_shape:
            raise ValueError(f"x has shape {x.shape}, but the plan is for {spec.x_shape}")
        if x.dtype != spec.dtype and not np.can_cast(check_dtype("x", x.dtype), spec.dtype):
            raise TypeError(f"x has dtype {x.dtype}, but the plan is for {spec.dtype}")
        return self._recipe.run(x, self._operands, out, (x,))

    def __repr__(self) -> str:
        spec = self.spec
        return (
            f"<Plan {operation(spec)} {spec.x_shape} * {spec.weight_shape} -> {spec.output_shape}, {spec.dtype}, "
            f"stride={spec.strides}, padding={spec.paddings}, dilation={spec.dilations}, groups={spec.groups}: "
            f"algorithm={self.algorithm!r}, "
            f"flops={self.flops}, scratch_bytes={self.scratch_bytes}>"
        )
