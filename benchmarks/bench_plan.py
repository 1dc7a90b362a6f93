"""What comes before the kernel of a call: checking, choosing, packing. Microseconds, on a tiny layer.

Whole calls are in `bench_calls`, which says why there is no `setup`.
"""

from __future__ import annotations

import itertools

import numpy as np

import fastconv
from fastconv.cpu import planner
from fastconv.specs import conv
from fastconv.specs.conv_transpose import TransposeSpec
from fastconv.specs.pool import pool_spec

from .shapes import LAYERS

LAYER = LAYERS["odd_tiny"]
X, WEIGHT, BIAS = LAYER.arrays()
DTYPES = (X.dtype, WEIGHT.dtype)
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
