"""The planner chooses an algorithm: the one asked for by name, or the one that is estimated to take the least time.

It is given the tables of a device and knows nothing else about the device. A table has the name of an operation and
lists its algorithms, the most specialised first, the readable definition last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ..base.values import shown
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from ..specs.pool import PoolSpec
from ..specs.unpool import UnpoolSpec
from . import remember
from .contract import Algorithm, trait

Spec = ConvSpec | TransposeSpec | PoolSpec | UnpoolSpec


def name(algorithm: Algorithm) -> str:
    """The public name of an algorithm: its module's name without the operation, like "direct" for `conv_direct`."""
    return algorithm.__name__.rpartition(".")[2].split("_", 1)[1]


def operation(spec: Spec) -> str:
    """The name of a spec's forward operation, like "conv2d"."""
    if isinstance(spec, ConvSpec):
        return f"conv{spec.axes}d"
    if isinstance(spec, TransposeSpec):
        return f"conv_transpose{spec.axes}d"
    if isinstance(spec, UnpoolSpec):
        return "max_unpool2d"
    return f"{'adaptive_' * spec.adaptive}{spec.op}_pool{spec.axes}d"


def computed(spec: Any) -> Any:
    """The problem that algorithms compute: that of an input that has its padding, unless the padding is zeros."""
    return spec.extended if isinstance(spec, ConvSpec | TransposeSpec) else spec


def check_name(algorithm: object) -> None:
    """TypeError unless the name of an algorithm is a string."""
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm must be a string, got {shown(algorithm)}")


#: The algorithms of one operation.
Table = tuple[Any, ...]


class Choice(NamedTuple):
    """A chosen algorithm and, if an algorithm for special weights would be cheaper still, that one as `special`."""

    algorithm: Any
    special: Any = None

    def prepare(self, spec: Any, weight: Any, *stream: Any) -> tuple[Any, Any]:
        """The algorithm of the two that runs with this weight, and the weight as that algorithm packs it."""
        if self.special is not None and (packed := self.special.prepare_if_suited(spec, weight, *stream)) is not None:
            return self.special, packed
        return self.algorithm, self.algorithm.prepare(spec, weight, *stream)


class _Estimate(NamedTuple):
    """An algorithm's name and its estimated seconds of `run` and of `prepare`."""

    label: str
    seconds: float
    preparing: float


class Planner:
    """Chooses among the algorithms of a device.

    The choice, and with it the result, does not depend on the number of threads: costs are estimated for one thread.
    Only measured choices are remembered for a number of threads.
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        machine: Callable[[], Any],
        threads: Callable[[], int] | None = None,
        picked: str = "automatic",
    ) -> None:
        """`tables` lists the algorithms of each operation, `machine` returns the rates that costs are estimated from,
        and `threads` the number of threads that measured choices are remembered for; without it none is looked up.
        `picked` is the trait of those that "auto" may pick."""
        self._tables, self._machine, self._picked = tables, machine, picked

        def state() -> tuple[int, int]:
            return (0 if threads is None else threads()), remember.generation

        #: The state that choices depend on beside their arguments: whoever keeps a choice keeps it, too, to compare.
        #: (As a method it would take a hundredth of a small call.)
        self.state = state
        # Kept because a composite algorithm asks for the estimates of its parts first, for their algorithms later.
        self._estimates = lru_cache(maxsize=256)(self._estimated)
        self._labelled = lru_cache(maxsize=64)(self._labels)
        self._named = lru_cache(maxsize=4096)(self._asked_for)
        self._cheapest = lru_cache(maxsize=4096)(self._least)

    def operations(self) -> tuple[str, ...]:
        """Names of the operations that have a table."""
        return tuple(self._tables)

    def table(self, op: str = "conv2d") -> Table:
        """The algorithms of one operation, in table order; ValueError if there is no such operation."""
        if not isinstance(op, str) or op not in self._tables:
            raise ValueError(f"op must be one of {', '.join(map(repr, self._tables))}, got {shown(op)}")
        return self._tables[op]

    def algorithms(self, op: str = "conv2d") -> tuple[str, ...]:
        """Names of the algorithms of one operation, in table order."""
        return tuple(dict.fromkeys(map(name, self.table(op))))

    def choose(
        self, spec: Spec, algorithm: str, *, op: str | None = None, names: tuple[str, ...] | None = None,
        for_one_call: bool = False,
    ) -> Choice:  # fmt: skip
        """The algorithm to run: the one with the name `algorithm`, or for "auto" the cheapest one of all or of `names`.

        `for_one_call` adds the cost of preparing the weight, which a plan does once and a plain call every time. `op`
        is by default the forward operation of the spec.
        """
        check_name(algorithm)
        op = op or operation(spec)
        if algorithm != "auto":
            return Choice(self._named(op, spec, algorithm))
        return self._cheapest(op, spec, names, for_one_call, *self.state())

    def candidates(
        self, spec: Spec, *, op: str | None = None, for_one_call: bool = False, special: bool = False
    ) -> dict[str, float]:  # fmt: skip
        """The algorithms that ``"auto"`` may pick, with their estimated seconds: the ones for any weights or, with
        `special`, the ones for special weights. `for_one_call` adds the cost of preparing the weight."""
        return {
            estimate.label: estimate.seconds + (estimate.preparing if for_one_call else 0)
            for estimate in self._estimates(op or operation(spec), spec, special)
        }

    def reason(self, spec: Spec, algorithm: str) -> str | None:
        """The reason why the algorithm of this name cannot solve `spec`; None if it can."""
        op = operation(spec)
        reasons = [module.supports(computed(spec)) for module in self.table(op) if name(module) == algorithm]
        return None if None in reasons else (reasons or [f"{op} has no such algorithm"])[-1]

    def seconds(self, spec: Spec, algorithm: str, *, for_one_call: bool = False) -> float:
        """Estimated seconds of the algorithm of this name."""
        chosen, machine = self._named(operation(spec), spec, algorithm), self._machine()
        spec = computed(spec)
        preparing = trait(chosen, "prepare_cost")(spec, machine) if for_one_call else 0.0
        return chosen.cost(spec, machine) + preparing

    def _asked_for(self, op: str, spec: Spec, algorithm: str) -> Any:
        """The algorithm of this name; if two share the name, the first one that supports `spec`."""
        reason = None
        for module in self.table(op):
            if name(module) == algorithm:
                reason = module.supports(computed(spec))
                if reason is None:
                    return module
        if reason is not None:
            raise ValueError(f"algorithm {algorithm!r} cannot do this: {reason}")
        known = ", ".join(map(repr, self.algorithms(op)))
        raise ValueError(f"algorithm must be 'auto' or one of {known}, got {shown(algorithm)}")

    def _least(
        self, op: str, spec: Spec, names: tuple[str, ...] | None, for_one_call: bool, threads: int, _: int
    ) -> Choice:
        """The cheapest algorithm for any weights and, if one for special weights is cheaper still, that one."""
        costs, others = (self.candidates(spec, op=op, for_one_call=for_one_call, special=special)
                         for special in (False, True))  # fmt: skip
        if names is not None:
            costs, others = ({label: cost for label, cost in some.items() if label in names}
                             for some in (costs, others))  # fmt: skip
        if not costs:
            last = self.table(op)[-1]
            raise ValueError(f"no algorithm can do this; of {name(last)!r}: {last.supports(computed(spec))}")
        remembered = None
        if threads and isinstance(spec, ConvSpec | TransposeSpec) and op == operation(spec):
            remembered = remember.recall(spec, threads)
        best = remembered if remembered in costs else min(costs, key=costs.__getitem__)
        least = min(costs.values())
        cheaper = min((label for label in others if others[label] < least), key=others.__getitem__, default=None)
        return Choice(self._named(op, spec, best), None if cheaper is None else self._named(op, spec, cheaper))

    def _estimated(self, op: str, spec: Spec, special: bool) -> tuple[_Estimate, ...]:
        """Estimates of all algorithms of a table that support `spec`."""
        machine, found, spec = self._machine(), [], computed(spec)
        for module, label in self._labelled(op, special):
            if module.supports(spec) is None and (seconds := module.cost(spec, machine)) < math.inf:
                found.append(_Estimate(label, seconds, trait(module, "prepare_cost")(spec, machine)))
        return tuple(found)

    def _labels(self, op: str, special: bool) -> tuple[tuple[Any, str], ...]:
        """The algorithms of a table that "auto" may pick for any weights, or for special ones, with their names."""
        return tuple(
            (module, name(module))
            for module in self.table(op)
            if trait(module, self._picked) and (trait(module, "prepare_if_suited") is not None) == special
        )
