"""Processes that `benchmarks.cold` starts run these functions: each makes arrays ready, and gives what is timed.

What loads fastconv is imported where it is used.
"""

from __future__ import annotations

import atexit
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.checkouts import internal
from benchmarks.networks import NETWORKS
from benchmarks.shapes import FILTERS, SMALL_LAYERS, random

#: Seconds by the clock and of the processor: "wall" and "cpu".
Sample = dict[str, float]
#: A row's samples by name; the name is empty if there is one.
Samples = dict[str, Sample]
#: What is timed; it may give samples of its own, which count instead.
Run = Callable[[], Samples | None]


def network(name: str) -> Run:
    """A plan, and a call of it, for every different layer of a network."""
    problems = [(layer.options, *layer.arrays()) for layer in NETWORKS[name]()]

    def run() -> None:
        import fastconv

        for options, x, weight, bias in problems:
            fastconv.plan_conv2d(x.shape, weight, bias, **options)(x)

    return run


def algorithm(name: str, problem: str) -> Run:
    """A call of `conv2d` with an algorithm. All taps are ones: an outer product, as `separable` wants it."""
    x, weight, bias = (np.ones_like(array) for array in SMALL_LAYERS[problem].arrays())

    def run() -> None:
        import fastconv

        fastconv.conv2d(x, weight, bias, **SMALL_LAYERS[problem].options, algorithm=name)

    return run


#: Three full-HD images: enough that calls use several threads.
IMAGES = 1, 3, 1080, 1920


def pooling(function: str, *sizes: int) -> Run:
    """A call of a pooling function."""
    x = random(IMAGES, np.float32)

    def run() -> None:
        import fastconv

        getattr(fastconv, function)(x, *sizes)

    return run


def image_filter(name: str) -> Run:
    """A call of `corr2d`."""
    image, kernel = FILTERS[name].arrays()

    def run() -> None:
        import fastconv

        fastconv.corr2d(image, kernel)

    return run


def demonstration() -> Run:
    """The command line's demonstration, which writes into its working folder."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            python("-m", "fastconv", "demo", cwd=folder)

    return run


#: How many processes import fastconv. They take so little time that one tells little.
IMPORTS = 11
#: What they run. None has imported anything else that fastconv needs, too. NumPy's BLAS gets one thread: others would
#: spin while they are new, where a virtual machine packs threads onto one core, on the core that imports.
IMPORT = """
import os, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy
wall, cpu = time.perf_counter(), time.thread_time()
import fastconv
print("{", f'"wall": {time.perf_counter() - wall}, "cpu": {time.thread_time() - cpu}', "}")
"""


def importing() -> Run:
    """The import of fastconv after NumPy's, in several processes."""
    return lambda: {str(number): json.loads(python("-c", IMPORT)) for number in range(IMPORTS)}


#: How many problems are planned, and how many more before that, which load and measure what all need.
PLANNED, UNTIMED = 200, 20


def planning() -> Run:
    """The checks, the choice of an algorithm and how it cuts the problem up, for problems that are new to the process.

    Weights are not packed, and nothing is compiled: `scratch` asks an algorithm for its cuts.
    """
    problems = [drawn(seed) for seed in range(UNTIMED + PLANNED)]

    def run() -> Samples:
        recipe, conv_spec, pool_spec = map(internal, ("recipe", "conv_spec", "pool_spec"))

        samples = {}
        gc.disable()  # as `timeit` does: a round of it through all that Numba made takes longer than any of these
        for number, (op, shape, *rest, options) in enumerate(problems):
            wall, cpu = time.perf_counter(), time.thread_time()
            if op == "conv2d":
                spec = conv_spec(shape, *rest, [np.dtype(np.float32)], **options)
            else:
                spec = pool_spec(op, shape, np.dtype(np.float32), *rest, **options)
            recipe(spec, "auto").module.scratch(spec)
            took = {"wall": time.perf_counter() - wall, "cpu": time.thread_time() - cpu}
            if number >= UNTIMED:
                samples[f"{op} {', '.join(map(str, (shape, *rest)))}, {options}"] = took
        return samples

    return run


def drawn(seed: int) -> tuple[Any, ...]:
    """A random problem: operation, input's shape, weight's shape or window, and options. Two of five are poolings."""
    rng = np.random.default_rng(seed)

    def number(least: int, most: int) -> int:  # as many below the geometric mean as above
        return int(np.exp(rng.uniform(np.log(least), np.log(most + 1))))

    h, w, c_in, c_out = number(8, 2048), number(8, 2048), number(1, 1024), number(1, 1024)
    kh, kw, stride = number(1, min(h, 31)), number(1, min(w, 31)), number(1, 3)
    op = str(rng.choice(["conv2d", "conv2d", "conv2d", "max", "avg"]))
    if op != "conv2d":
        return op, (1, c_in, h, w), (kh, kw), {"stride": stride, "padding": (kh // 2, kw // 2)}
    groups = 1
    kind = rng.choice(["layer", "layer", "layer", "depthwise", "filter"])
    if kind == "depthwise":
        groups = c_out = c_in
    elif kind == "filter":
        c_in = c_out = 1
    weight = c_out, c_in // groups, kh, kw
    return op, (1, c_in, h, w), weight, {"stride": stride, "padding": (kh // 2, kw // 2), "groups": groups}


def child(ready: Callable[..., Run], *arguments: Any) -> None:
    """Time what a function makes ready, and print the samples when the process ends, so that nothing it does is missed.

    What fastconv registers with `atexit` runs before what was registered here.
    """
    run = ready(*arguments)
    samples: Samples = {}

    def tell() -> None:
        for sample in samples.values():
            sample.setdefault("cpu", cpu_seconds() - cpu)
        print(json.dumps(samples))

    atexit.register(tell)
    start, cpu = time.perf_counter(), cpu_seconds()
    found = run()
    wall = time.perf_counter() - start
    samples |= found or {"": {"wall": wall}}


def cpu_seconds() -> float:
    """Seconds that this process, and those it has waited for, have had of a processor."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def python(*arguments: str, cwd: str | None = None, env: dict[str, str] | None = None) -> str:
    """The output of a Python process whose path has no working folder; RuntimeError with its last line if it fails."""
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    return done.stdout
