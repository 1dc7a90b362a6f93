"""Pooling: named poolings times every algorithm and the planner's choice."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import fastconv

from . import algorithms
from .shapes import POOLINGS, REGULAR_POOLINGS

OPERATIONS = {"max": fastconv.max_pool2d, "avg": fastconv.avg_pool2d}


@lru_cache(maxsize=1)  # asv calls `setup` before every sample
def compiled(pooling: str, operation: str, variant: str, **options: bool) -> Callable[[], object]:
    """A call ready to be timed: input made, kernels compiled. NotImplementedError is how asv is told "n/a"."""
    problem = POOLINGS[pooling]
    call = partial(OPERATIONS[operation], problem.array(), algorithm=variant, **problem.options, **options)
    try:
        call()
    except ValueError as reason:
        raise NotImplementedError(str(reason)) from None
    return call


class Poolings:
    """Time of one call, with the planner's choice."""

    params = (REGULAR_POOLINGS, tuple(OPERATIONS), ("auto",))
    param_names = ("pooling", "operation", "variant")
    rounds = 4
    repeat = (5, 100, 0.2)

    def setup(self, pooling, operation, variant):
        self.call = compiled(pooling, operation, variant)

    def time_pool2d(self, pooling, operation, variant):
        self.call()


class Algorithms(Poolings):
    """Time of one call with each algorithm."""

    params = (REGULAR_POOLINGS, tuple(OPERATIONS), algorithms("pool"))


class Indices:
    """Maximum pooling that tells where the maxima are."""

    params = REGULAR_POOLINGS
    param_names = ("pooling",)
    rounds = 4
    repeat = (5, 100, 0.2)

    def setup(self, pooling):
        self.call = compiled(pooling, "max", "auto", return_indices=True)

    def time_max_pool2d(self, pooling):
        self.call()
