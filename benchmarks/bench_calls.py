"""Whole calls on tiny arrays, where what surrounds the kernel is what takes the time. Microseconds.

There is no `setup` here: with one, asv times single calls, too short to be timed. `setup_cache` compiles instead, and
a second of warm-up outlasts the loading of the kernel, so that asv's choice of how many calls to time is not misled.
"""

from __future__ import annotations

import functools

import numpy as np

import fastconv
from fastconv import signal

from .shapes import LAYERS

LAYER = LAYERS["odd_tiny"]
X, WEIGHT, BIAS = LAYER.arrays()
PLAN = functools.lru_cache(maxsize=1)(lambda: fastconv.plan_conv2d(X.shape, WEIGHT, BIAS, **LAYER.options))
IMAGE, KERNEL = np.ones((64, 64), np.float32), np.ones((3, 3), np.float32)


class Calls:
    """Time of one call; the kernel itself takes about a microsecond."""

    rounds = 4
    warmup_time = 1.0
    sample_time = 0.02
    repeat = 10

    def setup_cache(self):
        for name, benchmark in vars(Calls).items():
            if name.startswith("time_"):
                benchmark(self)

    def time_plan_call(self):
        """A prepared plan, called."""
        PLAN()(X)

    def time_conv2d(self):
        fastconv.conv2d(X, WEIGHT, BIAS, **LAYER.options)

    def time_corr2d(self):
        fastconv.corr2d(IMAGE, KERNEL)

    def time_correlate2d(self):
        signal.correlate2d(IMAGE, KERNEL)

    def time_max_pool2d(self):
        fastconv.max_pool2d(X, 2)

    def time_avg_pool2d(self):
        fastconv.avg_pool2d(X, 2)
