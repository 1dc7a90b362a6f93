"""Plans of convolutions on the CPU, and the search for the algorithm that measures fastest."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..base.libraries import foreign
from ..planner import remember
from ..planner.choose import name, operation
from ..planner.contract import trait
from ..planner.measure import medians, random_array
from ..planner.plan import Plan
from ..specs.arrays import allocate, array
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from ..specs.dtypes import check_dtype, converts
from . import planner
from .recipes import recipe
from .system.threads import num_threads


def planned_array(x: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A plan's input; ValueError or TypeError if it does not fit."""
    x = array("x", x)
    if x.shape != shape:
        raise ValueError(f"x has shape {x.shape}, but the plan is for {shape}")
    if not converts(check_dtype("x", x.dtype), dtype):
        raise TypeError(f"x has dtype {x.dtype}, but the plan is for {dtype}")
    return x


def conversion_bytes(spec: ConvSpec | TransposeSpec) -> int:
    """Bytes of the copies of input and output in the dtypes that are computed in."""
    converted = 0
    if spec.dtype != spec.x_dtype and spec.dtype.kind != "b":
        converted += math.prod(spec.x_shape) * spec.x_dtype.itemsize
    if spec.out_dtype != spec.acc_dtype:
        converted += math.prod(spec.output_shape) * spec.acc_dtype.itemsize
    return converted


class CpuPlan(Plan):
    """A convolution, or a transposed one, whose weights are packed.

    It keeps weight and bias as they were given, too, for whoever copies or pickles it: as much memory as they take,
    beside the packed weights, which are as large (winograd's up to several times larger). They cannot be had back from
    what every algorithm packs: a transform rounds.
    """

    planner = planner

    def __init__(
        self, spec: ConvSpec | TransposeSpec, weight: np.ndarray, bias: np.ndarray | None, algorithm: str
    ) -> None:
        super().__init__(spec)
        self._weight, self._bias = weight, bias
        self._recipe = recipe(spec, algorithm)
        self._operands = self._recipe.pack(weight, bias)
        self._module = self._operands[0]

    @property
    def algorithm(self) -> str:
        """Name of the algorithm that runs."""
        return name(self._module)

    @property
    def scratch_bytes(self) -> int:
        """Memory a call needs beside input and output, in bytes."""
        return conversion_bytes(self.problem) + self._recipe.scratch(self._module)

    def _given(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self._weight, self._bias

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Convolve `x`, of the planned shape and of a dtype that converts to the planned one without loss.

        Returns `out` if it is given, a new array of the library of `x` otherwise; ValueError or TypeError if either
        does not fit.
        """
        if type(x) is not np.ndarray and (given := foreign(x)) is not None:
            return given.call(self, x=x, out=out)
        x = planned_array(x, self.problem.x_shape, self.problem.dtype)
        return self._recipe.run(x, self._operands, out, (x,))


# -- measuring -----------------------------------------------------------------------------------------------

#: An algorithm is not measured if it is estimated to take `HOPELESS` times as long as the cheapest, or takes
#: `HOPELESS_RUN` times as long as the fastest at its first try.
HOPELESS, HOPELESS_RUN = 10.0, 3.0
#: Calls of each algorithm that is measured, or as many as fit into so many seconds.
MEASURED_CALLS, MEASURED_SECONDS = 31, 0.1


def fastest(spec: ConvSpec | TransposeSpec, weight: np.ndarray, bias: np.ndarray | None) -> str:
    """The algorithm that measures fastest, timed now on random data unless it is remembered.

    The problems that an algorithm asks the planner for are measured first, so that it is made of the fastest parts.
    """
    threads = num_threads()
    costs = planner.candidates(spec)
    remembered = remember.recall(spec, threads)
    if remembered in costs:
        return remembered
    for algorithm in planner.table(operation(spec)):
        if name(algorithm) in costs:
            for part in trait(algorithm, "parts")(spec.extended):
                fastest(part, random_array(part.weight_shape, part.dtype), None)
    least = min(costs.values())
    if not math.prod(spec.output_shape):
        return min(costs, key=costs.__getitem__)
    x, out = random_array(spec.x_shape, spec.dtype), allocate(spec.output_shape, spec.out_dtype)
    runs = {}
    for label in sorted(costs, key=costs.__getitem__):
        if costs[label] <= HOPELESS * least:
            runs[label] = partial(CpuPlan(spec, weight, bias, label), x, out)
            runs[label]()  # compiles
    return remember.learn(spec, threads, medians(runs, MEASURED_CALLS, MEASURED_SECONDS, HOPELESS_RUN))
