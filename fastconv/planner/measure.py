"""Timing of contenders in turns, so that a machine that slows down in between slows all of them down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..specs.arrays import allocate
from ..specs.dtypes import check_dtype


def medians(
    runs: Mapping[str, Callable[[], Any]], repeats: int, seconds_each: float, hopeless: float = math.inf
) -> dict[str, float]:
    """Median seconds of each contender, timed by `in_turns`."""
    import statistics  # late: 6 ms

    return {name: statistics.median(taken) for name, taken in in_turns(runs, repeats, seconds_each, hopeless).items()}


def in_turns(
    runs: Mapping[str, Callable[[], Any]],
    repeats: int,
    seconds_each: float,
    hopeless: float = math.inf,
    rest: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds of every timed call of each contender: up to `repeats` calls, as many as fit into `seconds_each`.

    A contender whose first call takes more than `hopeless` times as long as the fastest is left out. With `rest`, a
    turn begins with so many seconds of sleep, and then, for a fifth of that time, with calls that are not timed: idle
    threads of the contender before may spin for milliseconds on the cores that the next one needs, and the next one's
    own threads must be awake.
    """
    samples = {label: [_seconds(run)] for label, run in runs.items()}
    least = min((first for (first,) in samples.values()), default=0.0)
    samples = {label: taken for label, taken in samples.items() if taken[0] <= hopeless * least}
    every = {label: math.ceil(repeats * first / seconds_each) for label, (first,) in samples.items()}
    for turn in range(1, repeats):
        for label, taken in samples.items():
            if turn % every[label] == 0:
                if rest:
                    time.sleep(rest)
                    awake = time.perf_counter() + rest / 5
                    while time.perf_counter() < awake:
                        runs[label]()
                taken.append(_seconds(runs[label]))
    return samples


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def random_array(shape: tuple[int, ...], dtype: np.dtype, seed: int = 0) -> np.ndarray:
    """An array of any supported dtype for timing: normally distributed floats, or integers from 0 to 99."""
    rng, result = np.random.default_rng(seed), allocate(shape, dtype)
    if check_dtype("dtype", dtype).kind == "f":
        result[...] = rng.standard_normal(shape, np.float32)
    else:
        result[...] = rng.integers(0, 100, shape, np.uint8)
    return result
