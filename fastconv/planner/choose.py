"""Which algorithm: the tables, the cheapest that can, on how many threads.

The tables of `cpu` and `cuda` are loaded here, at the first call, because they import Numba.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from ..specs.arguments import integer
from ..specs.conv import ConvSpec
from ..specs.pool import PoolSpec
from . import remember

#: The table of each operation; a signal is an image of height 1.
_OPS = {
    f"{op}{axes}d": f"{'CONV' if op == 'conv' else 'POOL'}{max(axes, 2)}D"
    for axes in (2, 1, 3)
    for op in ("conv", "max_pool", "avg_pool", "lp_pool")
} | {"conv2d_weight": "CONV2D_WEIGHT"}


# -- choosing ------------------------------------------------------------------------------------------------


def operations() -> tuple[str, ...]:
    """Names of the operations that have a table."""
    return tuple(_OPS)


def table(op: str, device: str = "cpu") -> tuple[ModuleType, ...]:
    """The algorithm modules of one operation, in table order."""
    if not isinstance(op, str) or op not in _OPS:
        raise ValueError(f"op must be one of {', '.join(map(repr, _OPS))}, got {op!r}")
    if not isinstance(device, str) or device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    if device == "cuda":
        from .. import cuda

        return getattr(cuda, _OPS[op], ())
    from .. import cpu

    return getattr(cpu, _OPS[op])


def name(algorithm: ModuleType) -> str:
    """The public name of an algorithm: its module's, without the operation."""
    return algorithm.__name__.rpartition(".")[2].split("_", 1)[1]


def algorithms(op: str = "conv2d", device: str = "cpu") -> tuple[str, ...]:
    """Names of the algorithms there are for an operation.

    Parameters
    ----------
    op : {"conv2d", "max_pool2d", "avg_pool2d", "lp_pool2d", "conv2d_weight"}
        The operation; but for the last, the gradient for the weight, likewise with 1d and 3d.
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
    ('global', 'across', 'running', 'rows', 'naive')
    """
    return tuple(name(module) for module in table(op, device))


def operation(spec: ConvSpec | PoolSpec) -> str:
    """The operation that a spec is of."""
    return f"conv{spec.axes}d" if isinstance(spec, ConvSpec) else f"{spec.op}_pool{spec.axes}d"


#: Algorithms without a transform: their sums are exact where the definition's are, and round no more elsewhere.
EXACT = ("image", "polyphase", "separable")
#: Algorithms that keep the promise of image filters: a NaN or an infinity reaches just the outputs that see it.
FILTERS = (*EXACT, "dft", "fft2d", "fft")
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
    check_name(algorithm)
    if algorithm != "auto":
        return _named(op, spec, algorithm, device), None
    threads = runtime().num_threads() if device == "cpu" else 0
    return _cheapest(op, spec, device, threads, remember.generation, names, once)


def check_name(algorithm: object) -> None:
    """TypeError if it is none."""
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm must be a string, got {algorithm!r}")


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
    costs, others = (candidates(spec, device, op=op, once=once, special=special) for special in (False, True))
    if names is not None:
        costs, others = ({label: cost for label, cost in some.items() if label in names} for some in (costs, others))
    if not costs:
        last = table(op, device)[-1]
        raise ValueError(f"no algorithm can do this; of {name(last)!r}: {last.supports(spec)}")
    remembered = None
    if isinstance(spec, ConvSpec) and op == operation(spec) and device == "cpu":
        remembered = remember.recall(spec, threads)
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
    return {
        estimate.label: estimate.seconds + (estimate.preparing if once else 0)
        for estimate in _estimates(op or operation(spec), spec, device, special)
    }


class _Estimate(NamedTuple):
    """What an algorithm that can is estimated to take."""

    label: str
    seconds: float
    preparing: float


#: Kept for a while: a transposed convolution asks for the estimates of its parts, and then for their algorithms.
@lru_cache(maxsize=256)
def _estimates(op: str, spec: ConvSpec | PoolSpec, device: str, special: bool) -> tuple[_Estimate, ...]:
    """Those of all algorithms that can."""
    machine, found = _machine(device), []
    for module, label in _labelled(op, device, special):
        if module.supports(spec) is None and (seconds := module.cost(spec, machine)) < math.inf:
            preparing = module.prepare_cost(spec, machine) if hasattr(module, "prepare_cost") else 0.0
            found.append(_Estimate(label, seconds, preparing))
    return tuple(found)


@lru_cache(maxsize=64)
def _labelled(op: str, device: str, special: bool) -> tuple[tuple[ModuleType, str], ...]:
    """The modules of a table for any weights, or for special ones, and their names."""
    return tuple((module, name(module)) for module in table(op, device) if hasattr(module, "fit") == special)


def _machine(device: str) -> Any:
    if device == "cuda":
        from ..cuda.machine import this_machine as this_gpu

        return this_gpu()
    from ..cpu import machine

    return machine.this_machine(1)


@lru_cache(maxsize=1)
def runtime() -> Any:
    """`cpu.system.threads`, which an import statement would look up at every call, for longer than a choice takes."""
    from ..cpu.system import threads

    return threads


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
    runtime().set_num_threads(limit)


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
    return runtime().num_threads()
