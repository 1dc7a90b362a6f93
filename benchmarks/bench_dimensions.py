"""Signals, volumes, transposed convolution and what is around it: calls of every operation by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

import fastconv

from .shapes import DIMENSIONS


@lru_cache(maxsize=1)  # asv calls `setup` before every sample
def compiled(name: str) -> Callable[[], np.ndarray]:
    """A call ready to be timed: arrays made, kernels compiled. NotImplementedError is how asv is told "n/a"."""
    problem = DIMENSIONS[name]
    if not hasattr(fastconv, problem.operation):
        raise NotImplementedError(f"a commit without {problem.operation}")
    call = problem.call()
    call()
    return call


class Dimensions:
    """Time of one call."""

    params = tuple(DIMENSIONS)
    param_names = ("row",)
    rounds = 4
    repeat = (5, 100, 0.2)

    def setup(self, row):
        self.call = compiled(row)

    def time_call(self, row):
        self.call()
