"""What a call costs beside its kernel: checking, choosing, packing, launching. Microseconds, on a tiny layer.

There is no `setup` here: with one, asv times single calls, too short to be timed. `setup_cache` compiles instead, and
a second of warm-up outlasts the loading of the kernel, so that asv's choice of how many calls to time is not misled.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

import fastconv
from fastconv import signal
from fastconv.cpu import planner
from fastconv.specs import conv
from fastconv.specs.conv_transpose import TransposeSpec
from fastconv.specs.pool import pool_spec

from .shapes import LAYERS

LAYER = LAYERS["odd_tiny"]
X, WEIGHT, BIAS = LAYER.arrays()
PLAN = functools.lru_cache(maxsize=1)(lambda: fastconv.plan_conv2d(X.shape, WEIGHT, BIAS, **LAYER.options))
DTYPES = (X.dtype, WEIGHT.dtype)
IMAGE, KERNEL = np.ones((64, 64), np.float32), np.ones((3, 3), np.float32)
#: Shapes never seen before, so that nothing that is remembered by shape helps.
HEIGHTS = itertools.count(10)


FLOAT32 = np.dtype(np.float32)


class Deciding:
    """Which algorithm, for a problem never seen before: within a millisecond, whatever it is and however large."""

    rounds = 4
    warmup_time = 1.0
    sample_time = 0.02
    repeat = 10

    def time_image(self):
        self._convolution((1, 64, next(HEIGHTS), 56), (64, 64, 3, 3), padding=1)

    def time_image_filter(self):
        self._convolution((1, 1, next(HEIGHTS), 1024), (1, 1, 9, 9))

    def time_depthwise(self):
        self._convolution((1, 96, next(HEIGHTS), 56), (96, 1, 7, 7), padding=3, groups=96)

    def time_signal(self):
        self._convolution((1, 1, 10**8 + next(HEIGHTS)), (1, 1, 31), axes=1)

    def time_short_time_windows(self):
        self._convolution((1, 1, 10**6 + next(HEIGHTS)), (257, 1, 400), axes=1, stride=160)

    def time_volume(self):
        self._convolution((1, 32, 16, next(HEIGHTS), 56), (64, 32, 3, 3, 3), axes=3, stride=2)

    def time_transposed(self):
        problem = conv.conv_spec((1, 64, 2 * next(HEIGHTS), 56), (64, 64, 3, 3), [FLOAT32], stride=2)
        planner.choose(TransposeSpec(problem), "auto", for_one_call=True)

    def time_gradient_for_the_weight(self):
        problem = conv.conv_spec((8, 64, next(HEIGHTS), 56), (64, 64, 3, 3), [FLOAT32], padding=1)
        planner.choose(problem, "auto", op="conv2d_weight")

    def time_pooling(self):
        problem = pool_spec("avg", (1, 64, 2 * next(HEIGHTS), 1024), FLOAT32, 3, 2, 1)
        planner.choose(problem, "auto", op="avg_pool2d")

    def _convolution(self, x_shape, weight_shape, *, axes=2, **options):
        problem = conv.conv_spec(x_shape, weight_shape, [FLOAT32], axes=axes, **options)
        planner.choose(problem, "auto", op=f"conv{axes}d", for_one_call=True)


class Overhead:
    rounds = 4
    warmup_time = 1.0
    sample_time = 0.02
    repeat = 10

    def setup_cache(self):
        for name, benchmark in vars(Overhead).items():
            if name.startswith("time_"):
                benchmark(self)

    def time_spec_known(self):
        """The checks, for a problem seen before."""
        conv.conv_spec(X.shape, WEIGHT.shape, DTYPES, **LAYER.options)

    def time_spec_new(self):
        conv.conv_spec((1, 3, next(HEIGHTS), 7), WEIGHT.shape, DTYPES, **LAYER.options)

    def time_plan(self):
        """Checks, choice and packed weights, for a problem seen before."""
        fastconv.plan_conv2d(X.shape, WEIGHT, BIAS, **LAYER.options)

    def time_plan_new(self):
        fastconv.plan_conv2d((1, 3, next(HEIGHTS), 7), WEIGHT, BIAS, **LAYER.options)

    def time_plan_call(self):
        """A prepared plan, called."""
        PLAN()(X)

    def time_conv2d(self):
        """The whole call; the kernel itself takes about a microsecond."""
        fastconv.conv2d(X, WEIGHT, BIAS, **LAYER.options)

    def time_corr2d(self):
        fastconv.corr2d(IMAGE, KERNEL)

    def time_correlate2d(self):
        signal.correlate2d(IMAGE, KERNEL)

    def time_max_pool2d(self):
        fastconv.max_pool2d(X, 2)

    def time_avg_pool2d(self):
        fastconv.avg_pool2d(X, 2)
