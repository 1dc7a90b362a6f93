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
from .checks import allocate, array, check_dtype, check_out, integer, kernel_ready
from .spec import ConvSpec, PoolSpec
from .timing import medians, random_array

_OPS = {"conv2d": "CONV2D", "max_pool2d": "POOL2D", "avg_pool2d": "POOL2D", "lp_pool2d": "POOL2D"}


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
    op : {"conv2d", "max_pool2d", "avg_pool2d", "lp_pool2d"}
        The operation.
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


def choose(op: str, spec: ConvSpec | PoolSpec, algorithm: str, device: str) -> ModuleType:
    """The module to run: the cheapest that can, or the one asked for by name."""
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm must be a string, got {algorithm!r}")
    if not isinstance(device, str):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    if algorithm == "auto":
        threads = _runtime().num_threads() if device == "cpu" else 0
        return _cheapest(op, spec, device, threads, wisdom.generation)
    return _named(op, spec, algorithm, device)


#: Algorithms that make just the products and sums of the definition.
_EXACT = ("image", "polyphase")
#: Algorithms that keep the promise of image filters: a NaN or an infinity reaches just the outputs that see it.
_FILTERS = (*_EXACT, "toom_cook", "fft")


def choose_filter(spec: ConvSpec, *, exact: bool = False) -> str:
    """Name of the cheapest algorithm for an image filter; with `exact`, of those without a transform."""
    names = _EXACT if exact else _FILTERS
    return name(_cheapest("conv2d", spec, "cpu", _runtime().num_threads(), wisdom.generation, names))


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
    names: tuple[str, ...] | None = None,
) -> ModuleType:
    costs = candidates(spec, device)
    if names is not None:
        costs = {label: seconds for label, seconds in costs.items() if label in names}
    remembered = wisdom.recall(spec, threads) if isinstance(spec, ConvSpec) and device == "cpu" else None
    best = remembered if remembered in costs else min(costs, key=costs.__getitem__)
    return _named(op, spec, best, device)


def candidates(spec: ConvSpec | PoolSpec, device: str = "cpu") -> dict[str, float]:
    """The algorithms that ``"auto"`` may pick, with their estimated seconds, on the CPU on one thread.

    On one, so that the choice, and with it the result, does not depend on the number of threads.
    """
    op = "conv2d" if isinstance(spec, ConvSpec) else f"{spec.op}_pool2d"
    able = [module for module in table(op, device) if module.supports(spec) is None]
    machine = _machine(device)
    costs = {name(module): module.cost(spec, machine) for module in able}
    return {label: seconds for label, seconds in costs.items() if seconds < math.inf}


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
        self._module = choose("conv2d", spec, algorithm, device)
        self._packed = self._module.prepare(spec, kernel_ready(weight, spec.acc_dtype))
        self._bias = np.zeros(spec.c_out, spec.acc_dtype) if bias is None else kernel_ready(bias, spec.acc_dtype)

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
        return self.run(x, out, (x,))

    def run(self, x: np.ndarray, out: np.ndarray | None, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        """Convolve an array that is known to fit; `inputs` is what `out` may not share memory with."""
        spec = self.spec
        result = result_array(spec, out, inputs)
        if result.size:
            target = _target(result, spec.acc_dtype)
            images = kernel_ready(x, spec.x_dtype)
            if images.ndim != 4:
                images = images.reshape(spec.n, spec.c_in, spec.h, spec.w)
            self._module.run(spec, images, self._packed, self._bias, target if spec.batched else target[None])
            _convert(target, result)
        return result

    def __repr__(self) -> str:
        spec = self.spec
        weight = (spec.c_out, spec.c_in // spec.groups, spec.kh, spec.kw)
        return (
            f"<Plan conv2d {spec.x_shape} * {weight} -> {spec.output_shape}, {spec.dtype}, stride={spec.stride}, "
            f"padding={spec.padding}, dilation={spec.dilation}, groups={spec.groups}: algorithm={self.algorithm!r}, "
            f"flops={self.flops}, scratch_bytes={self.scratch_bytes}>"
        )


def pool2d(spec: PoolSpec, x: np.ndarray, return_indices: bool, algorithm: str, device: str, out: Any) -> Any:
    """Run one pooling; the pair (values, indices) if `return_indices`."""
    module = choose(f"{spec.op}_pool2d", spec, algorithm, device)
    result = result_array(spec, out, (x,))
    indices = allocate(spec.output_shape, _INT64) if return_indices else None
    if result.size:
        target = _target(result, spec.x_dtype)
        inner = (spec.planes, spec.oh, spec.ow)
        planes = kernel_ready(x, spec.x_dtype).reshape(spec.planes, spec.h, spec.w)
        module.run(spec, planes, target.reshape(inner), None if indices is None else indices.reshape(inner))
        _convert(target, result)
    return result if indices is None else (result, indices)


_INT64 = np.dtype(np.int64)


def result_array(spec: ConvSpec | PoolSpec, out: Any, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Where the result goes: a new array, or `out` if it can be."""
    if out is None:
        return allocate(spec.output_shape, spec.out_dtype)
    return check_out(out, spec.output_shape, spec.out_dtype, inputs)


def _target(result: np.ndarray, computed: np.dtype) -> np.ndarray:
    """What a kernel writes: the result itself, or an array of the dtype that is computed in."""
    if result.dtype == computed:
        return result
    return result.view(computed) if result.dtype == np.bool_ else allocate(result.shape, computed)


def _convert(target: np.ndarray, result: np.ndarray) -> None:
    """Hand over what a kernel wrote, if it is not there already."""
    if target is not result and result.dtype != np.bool_:
        with np.errstate(over="ignore"):  # a float16 that overflows is inf, as in any framework
            result[...] = target
