"""Signals, volumes, transposed convolution and what is around it: the rows of `dimensions`."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

import fastconv

from .dimensions import ROWS
from .shapes import random


@lru_cache(maxsize=1)  # asv calls `setup` before every sample
def compiled(name: str) -> partial:
    """A call ready to be timed: arrays made, kernels compiled. NotImplementedError is how asv is told "n/a"."""
    row = ROWS[name]
    if not hasattr(fastconv, row.operation):
        raise NotImplementedError(f"a commit without {row.operation}")
    arrays = [random(shape, np.float32) for shape in row.arrays]
    call = partial(getattr(fastconv, row.operation), *arrays, *row.args, **row.options)
    call()
    return call


class Dimensions:
    """Time of one call."""

    params = tuple(ROWS)
    param_names = ("row",)
    rounds = 4
    repeat = (2, 10, 0.2)

    def setup(self, row):
        self.call = compiled(row)

    def time_call(self, row):
        self.call()
