"""Fill the cache of compiled kernels: every algorithm in the tables, the common dtypes, both builds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from .api import algorithms, conv2d
from .compare import limited_threads
from .pool import avg_pool2d, lp_pool2d, max_pool2d

Calls = Iterator[Callable[..., Any]]

#: float16 is computed as float32, bool as uint8, wider integers as int64.
DTYPES = ("float32", "float64", "uint8", "int64")

#: Shapes of x and weight, and options: one for each kind of layer that is compiled apart, and large enough (two million
#: operations) to run in parallel. Only tiles of unusual widths are left to be compiled when they are met.
CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 64, 28, 28), (64, 64, 1, 1), {}),
    ((1, 64, 28, 28), (128, 64, 1, 1), {"stride": 2}),
    ((1, 32, 28, 28), (32, 32, 3, 3), {"padding": 1}),
    ((1, 64, 7, 7), (64, 64, 3, 3), {"padding": 1}),
    ((1, 3, 64, 64), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 3, 96, 96), (8, 3, 3, 3), {}),
    ((1, 3, 128, 128), (3, 3, 5, 5), {}),
    ((1, 64, 56, 56), (64, 1, 3, 3), {"groups": 64, "padding": 1}),
    ((1, 64, 112, 112), (64, 1, 3, 3), {"groups": 64, "padding": 1, "stride": 2}),
    ((8, 128, 14, 14), (128, 1, 3, 3), {"groups": 128, "padding": 1}),
    ((1, 1, 512, 512), (1, 1, 3, 3), {}),
    ((1, 1, 160, 160), (1, 1, 11, 11), {}),
)

#: Windows and options.
POOLINGS: tuple[tuple[int, dict[str, Any]], ...] = (
    (2, {}),
    (3, {"stride": 2, "padding": 1}),
    (3, {"stride": 1, "dilation": 2}),
    (13, {"stride": 1}),
)


def steps(dtypes: Sequence[str] = DTYPES) -> Iterator[tuple[str, Callable[[], None]]]:
    """What there is to do: a label and a call each, the parallel builds first."""
    for build, threads in (("parallel", None), ("serial", 1)):
        for op, problems in OPS.items():
            for algorithm in algorithms(op):
                for dtype in dtypes:
                    yield f"{op} {algorithm} {dtype} {build}", partial(_run, problems, algorithm, dtype, threads)


def _run(problems: Callable[[str], Calls], algorithm: str, dtype: str, threads: int | None) -> None:
    with limited_threads(threads):
        for call in problems(dtype):
            with contextlib.suppress(ValueError):  # not every algorithm does every problem
                call(algorithm=algorithm)


def _convolutions(dtype: str) -> Calls:
    for x_shape, weight_shape, options in CONVOLUTIONS:
        yield partial(conv2d, np.ones(x_shape, dtype), np.ones(weight_shape, dtype), **options)


def _max_poolings(dtype: str) -> Calls:
    for call in _poolings(max_pool2d, dtype):
        yield call
        yield partial(call, return_indices=True)


def _poolings(pool: Callable[..., Any], dtype: str) -> Calls:
    for window, options in POOLINGS:
        yield partial(pool, np.ones((2, 4, 32, 32), dtype), kernel_size=window, **options)


#: The problems of each operation, as calls that lack only the algorithm.
OPS: dict[str, Callable[[str], Calls]] = {
    "conv2d": _convolutions,
    "max_pool2d": _max_poolings,
    "avg_pool2d": partial(_poolings, avg_pool2d),
    "lp_pool2d": partial(_poolings, partial(lp_pool2d, norm_type=2.0)),
}
