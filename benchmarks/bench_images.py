"""Filters of `fastconv.ndimage`: one of each kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np

import fastconv

from .image_shapes import IMAGE_FILTERS, REGULAR_IMAGE_FILTERS, arguments


@lru_cache(maxsize=1)  # asv calls `setup` before every sample
def compiled(name: str) -> Callable[[], np.ndarray]:
    """A call ready to be timed: image made, kernels compiled. NotImplementedError is how asv is told "n/a"."""
    row = next(row for row in IMAGE_FILTERS if row.name == name)
    function = getattr(getattr(fastconv, "ndimage", None), row.function, None)
    if function is None:
        raise NotImplementedError(f"a commit without {row.function}")
    args, told = arguments(row)
    call = partial(function, row.array(), *args, **told)
    try:
        call()
    except (TypeError, ValueError) as reason:
        raise NotImplementedError(str(reason)) from None
    return call


class ImageFilters:
    """Time of one call."""

    params = tuple(REGULAR_IMAGE_FILTERS)
    param_names = ("row",)
    rounds = 4
    repeat = (5, 100, 0.2)

    def setup(self, row):
        self.call = compiled(row)

    def time_filter(self, row):
        self.call()
