"""Convolution: named layers times every algorithm, the planner's choice and a prepared plan."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np

import fastconv
import fastconv.cpu  # Numba, which takes long to import: before asv forks

from . import algorithms
from .shapes import LAYERS, REGULAR_LAYERS

ALGORITHMS = algorithms("conv")


@lru_cache(maxsize=1)  # asv calls `setup` before every sample
def compiled(layer: str, variant: str, dtype: str = "float32") -> Callable[[], np.ndarray]:
    """A call ready to be timed: arrays made, kernels compiled. NotImplementedError is how asv is told "n/a"."""
    problem = LAYERS[layer]
    x, weight, bias = problem.arrays(dtype)
    if variant == "plan":
        plan = fastconv.plan_conv2d(x.shape, weight, bias, **problem.options)
        call = partial(plan, x, out=np.empty(plan.output_shape, plan.spec.out_dtype))
    else:
        call = partial(fastconv.conv2d, x, weight, bias, algorithm=variant, **problem.options)
    try:
        call()
    except ValueError as reason:
        raise NotImplementedError(str(reason)) from None
    return call


class Layers:
    """Time of one call: of `conv2d` with the planner's choice ("auto"), and of a prepared plan."""

    params = (REGULAR_LAYERS, ("auto", "plan"))
    param_names = ("layer", "variant")
    rounds = 4
    repeat = (5, 100, 0.2)

    def setup(self, layer, variant):
        self.call = compiled(layer, variant)

    def time_conv2d(self, layer, variant):
        self.call()


class Algorithms(Layers):
    """Time of one call with each algorithm."""

    params = (REGULAR_LAYERS, ALGORITHMS)


class Dtypes:
    """The same layer in other precisions."""

    params = ("float16", "float32", "float64", "uint8", "int64")
    param_names = ("dtype",)
    rounds = 4
    repeat = (5, 100, 0.2)

    def setup(self, dtype):
        self.call = compiled("odd_37_53", "auto", dtype)

    def time_conv2d(self, dtype):
        self.call()


class Rate:
    """To be read, not compared: asv takes every rise for a loss."""

    params = (REGULAR_LAYERS,)
    param_names = ("layer",)
    unit = "GFLOP/s"

    def track_rate(self, layer):
        problem = LAYERS[layer]
        x, weight, bias = problem.arrays()
        plan = fastconv.plan_conv2d(x.shape, weight, bias, **problem.options)
        plan(x)
        seconds = []
        for _ in range(15):
            start = time.perf_counter()
            plan(x)
            seconds.append(time.perf_counter() - start)
        return plan.flops / statistics.median(seconds) / 1e9


class Error:
    """Largest distance from the definition in float64, in float32 roundings of the largest result."""

    params = (("resnet_3x3_64", "resnet_1x1", "convnext_7x7", "odd_37_53"), ALGORITHMS)
    param_names = ("layer", "algorithm")
    unit = "float32 eps"

    def setup(self, layer, algorithm):
        self.call = compiled(layer, algorithm)

    def track_error(self, layer, algorithm):
        x, weight, bias = (array.astype(np.float64) for array in LAYERS[layer].arrays())
        exact = fastconv.conv2d(x, weight, bias, algorithm="naive", **LAYERS[layer].options)
        return np.abs(self.call() - exact).max() / np.abs(exact).max() / np.finfo(np.float32).eps
