"""Image filters, all of the image's size: fastconv beside SciPy's ways to compute the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import scipy.ndimage
import scipy.signal

import fastconv

from .shapes import FILTERS, REGULAR_FILTERS

VARIANTS = {
    "fastconv": partial(fastconv.signal.correlate2d, mode="same"),
    "scipy.signal.correlate2d": partial(scipy.signal.correlate2d, mode="same"),
    "scipy.signal.oaconvolve": lambda image, kernel: scipy.signal.oaconvolve(image, kernel[::-1, ::-1], mode="same"),
    "scipy.ndimage.correlate": partial(scipy.ndimage.correlate, mode="constant"),
}


@lru_cache(maxsize=1)  # asv calls `setup` before every sample
def compiled(name: str, variant: str) -> Callable[[], np.ndarray]:
    """A call ready to be timed: arrays made, kernels compiled."""
    call = partial(VARIANTS[variant], *FILTERS[name].arrays())
    call()
    return call


class Filters:
    """Time of one call."""

    params = (REGULAR_FILTERS, ("fastconv",))
    param_names = ("filter", "variant")
    rounds = 4
    repeat = (5, 100, 0.2)

    def setup(self, name, variant):
        self.call = compiled(name, variant)

    def time_correlate2d(self, name, variant):
        self.call()


class Scipy(Filters):
    """Time of one call of SciPy's functions."""

    params = (REGULAR_FILTERS, tuple(VARIANTS)[1:])
