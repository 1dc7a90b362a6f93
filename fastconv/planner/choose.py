"""Which algorithm: the one that is asked for, or of those that can the one that is estimated to take least.

A `Planner` is handed its device's tables and knows nothing else of the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from ..specs.conv import ConvSpec
from ..specs.pool import PoolSpec
from . import remember

#: Algorithms without a transform: their sums are exact where the definition's are, and round no more elsewhere.
EXACT = ("image", "polyphase", "separable")
#: Algorithms that keep the promise of image filters: a NaN or an infinity reaches just the outputs that see it.
FILTERS = (*EXACT, "dft", "fft2d", "fft")

Spec = ConvSpec | PoolSpec


def name(algorithm: ModuleType) -> str:
    """The public name of an algorithm: its module's, without the operation."""
    return algorithm.__name__.rpartition(".")[2].split("_", 1)[1]


def operation(spec: Spec) -> str:
    """The operation that a spec is of."""
    return f"conv{spec.axes}d" if isinstance(spec, ConvSpec) else f"{spec.op}_pool{spec.axes}d"


def check_name(algorithm: object) -> None:
    """TypeError unless it is a string."""
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm must be a string, got {algorithm!r}")


#: The algorithms of one operation.
Table = tuple[Any, ...]


def by_operation(conv2d: Table, conv3d: Table, pool2d: Table, pool3d: Table, conv2d_weight: Table) -> dict[str, Table]:
    """The table of each operation, by name; a signal is an image of height 1."""
    tables = {}
    for axes in (2, 1, 3):
        tables[f"conv{axes}d"] = conv3d if axes == 3 else conv2d
        for kind in ("max", "avg", "lp"):
            tables[f"{kind}_pool{axes}d"] = pool3d if axes == 3 else pool2d
    return tables | {"conv2d_weight": conv2d_weight}


class _Estimate(NamedTuple):
    """What an algorithm that can is estimated to take."""

    label: str
    seconds: float
    preparing: float


class Planner:
    """Chooses among the algorithms of a device.

    The choice, and with it the result, does not depend on the number of threads: costs are estimated for one. Only what
    was measured is remembered for a number of threads.
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        machine: Callable[[], Any],
        threads: Callable[[], int] | None = None,
    ) -> None:
        """`tables` has the algorithms of each operation, `machine` gives the rates that costs are estimated from, and
        `threads` the number of threads for which measured choices are remembered; without it none are."""
        self._tables, self._machine = tables, machine

        def state() -> tuple[int, int]:
            return (0 if threads is None else threads()), remember.generation

        #: What choices depend on beside their arguments: whoever keeps one keeps this with it. (A method would take a
        #: hundredth of a small call.)
        self.state = state
        # A transposed convolution asks for the estimates of its parts, and then for their algorithms.
        self._estimates = lru_cache(maxsize=256)(self._estimated)
        self._labelled = lru_cache(maxsize=64)(self._labels)
        self._named = lru_cache(maxsize=4096)(self._asked_for)
        self._cheapest = lru_cache(maxsize=4096)(self._least)

    def operations(self) -> tuple[str, ...]:
        """Names of the operations that have a table."""
        return tuple(self._tables)

    def table(self, op: str = "conv2d") -> tuple[ModuleType, ...]:
        """The algorithm modules of one operation, in table order; ValueError if there is no such operation."""
        if not isinstance(op, str) or op not in self._tables:
            raise ValueError(f"op must be one of {', '.join(map(repr, self._tables))}, got {op!r}")
        return self._tables[op]

    def algorithms(self, op: str = "conv2d") -> tuple[str, ...]:
        """Names of the algorithms of one operation, in table order."""
        return tuple(map(name, self.table(op)))

    def choose(
        self, spec: Spec, algorithm: str, *, op: str | None = None, names: tuple[str, ...] | None = None,
        for_one_call: bool = False,
    ) -> tuple[ModuleType, ModuleType | None]:  # fmt: skip
        """The module to run: the one asked for by name, or the cheapest that can, of all or of `names`.

        And the module that would be cheaper still, if there is one and the weights suit it. `for_one_call` says that
        weights are prepared each time, which counts then. The operation is by default the spec's forward one.
        """
        check_name(algorithm)
        op = op or operation(spec)
        if algorithm != "auto":
            return self._named(op, spec, algorithm), None
        return self._cheapest(op, spec, names, for_one_call, *self.state())

    def candidates(
        self, spec: Spec, *, op: str | None = None, for_one_call: bool = False, special: bool = False
    ) -> dict[str, float]:  # fmt: skip
        """The algorithms that ``"auto"`` may pick, with their estimated seconds: those for any weights, or those for
        special ones; `for_one_call` counts preparing."""
        return {
            estimate.label: estimate.seconds + (estimate.preparing if for_one_call else 0)
            for estimate in self._estimates(op or operation(spec), spec, special)
        }

    def _asked_for(self, op: str, spec: Spec, algorithm: str) -> ModuleType:
        modules = self.table(op)
        for module in modules:
            if name(module) == algorithm:
                if reason := module.supports(spec):
                    raise ValueError(f"algorithm {algorithm!r} cannot do this: {reason}")
                return module
        known = ", ".join(repr(name(module)) for module in modules)
        raise ValueError(f"algorithm must be 'auto' or one of {known}, got {algorithm!r}")

    def _least(
        self, op: str, spec: Spec, names: tuple[str, ...] | None, for_one_call: bool, threads: int, _: int
    ) -> tuple[ModuleType, ModuleType | None]:
        """The cheapest module that suits any weights, and the cheaper one, if any, that suits special ones."""
        costs, others = (self.candidates(spec, op=op, for_one_call=for_one_call, special=special)
                         for special in (False, True))  # fmt: skip
        if names is not None:
            costs, others = ({label: cost for label, cost in some.items() if label in names}
                             for some in (costs, others))  # fmt: skip
        if not costs:
            last = self.table(op)[-1]
            raise ValueError(f"no algorithm can do this; of {name(last)!r}: {last.supports(spec)}")
        remembered = None
        if threads and isinstance(spec, ConvSpec) and op == operation(spec):
            remembered = remember.recall(spec, threads)
        best = remembered if remembered in costs else min(costs, key=costs.__getitem__)
        least = min(costs.values())
        cheaper = min((label for label in others if others[label] < least), key=others.__getitem__, default=None)
        return self._named(op, spec, best), None if cheaper is None else self._named(op, spec, cheaper)

    def _estimated(self, op: str, spec: Spec, special: bool) -> tuple[_Estimate, ...]:
        """Those of all algorithms that can."""
        machine, found = self._machine(), []
        for module, label in self._labelled(op, special):
            if module.supports(spec) is None and (seconds := module.cost(spec, machine)) < math.inf:
                preparing = module.prepare_cost(spec, machine) if hasattr(module, "prepare_cost") else 0.0
                found.append(_Estimate(label, seconds, preparing))
        return tuple(found)

    def _labels(self, op: str, special: bool) -> tuple[tuple[ModuleType, str], ...]:
        """The modules of a table for any weights, or for special ones, and their names."""
        return tuple((module, name(module)) for module in self.table(op) if hasattr(module, "fit") == special)
