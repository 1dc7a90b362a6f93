"""What functions inside a caller's ``@njit`` take: ``python -m benchmarks.in_njit``.

A correlation of 512 x 512 pixels with a window of one shape (`fastconv.numba.correlate`), the same by
`ndimage.correlate` inside ``@njit``, by ``@numba.stencil``, and by SciPy; each as a ratio to the plain call of
`ndimage.correlate` with one thread. Weights are random, so that no window is an outer product. All are timed in turns,
in one process; the fastest round of each, as other work on a core makes calls slower, never faster.

``--cold`` has instead the CPU seconds of the first use of each function in a process of its own, and in one that has
compiled another of them before.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import scipy.ndimage

import fastconv
from fastconv import ndimage

#: Rounds of the contenders, and the image's sides.
ROUNDS, SIDE = 41, 512
SIZES = 3, 5, 7, 9

Call = Callable[[], np.ndarray]


def stencil(size: int) -> Callable[..., np.ndarray]:
    """The correlation as ``@numba.stencil``, whose border is constant: all products written out."""
    reach = range(-(size // 2), size // 2 + 1)
    terms = (f"w[{a + size // 2}, {b + size // 2}] * x[{a}, {b}]" for a in reach for b in reach)
    names: dict[str, Any] = {}
    exec(f"def window(x, w):\n    return {' + '.join(terms)}", names)
    made = numba.stencil(standard_indexing=("w",))(names["window"])
    return numba.njit(lambda x, w: made(x, w))


def contenders(dtype: str, size: int) -> dict[str, Call]:
    """The calls of one row."""
    rng = np.random.default_rng(size)
    x, weights = rng.random((SIDE, SIDE)).astype(dtype), rng.random((size, size)).astype(dtype)
    fixed, window = fastconv.numba.correlate((size, size), dtype), stencil(size)
    inside = numba.njit(lambda x, w: ndimage.correlate(x, w))
    calls: dict[str, Call] = {
        "plain": lambda: ndimage.correlate(x, weights),
        "one shape": lambda: fixed(x, weights),
        "in njit": lambda: inside(x, weights),
        "stencil": lambda: window(x, weights),
        "scipy": lambda: scipy.ndimage.correlate(x, weights),
    }
    edge, exact = size // 2, scipy.ndimage.correlate(x.astype(float), weights)
    for name, call in calls.items():
        inner = (slice(edge, -edge),) * 2 if name == "stencil" else ()
        np.testing.assert_allclose(call()[inner], exact[inner], rtol=1e-5 if dtype == "float32" else 1e-13)
    return calls


def seconds(calls: dict[str, Call]) -> dict[str, float]:
    """The shortest time of each call."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - begin)
    return {name: min(times) for name, times in found.items()}


#: For each function: a call of it inside ``@njit``, of an image `x` and a window `k`.
FIRST = {
    "corr2d": "fastconv.corr2d(x, k)",
    "conv1d": "fastconv.conv1d(x, x.reshape((1, *x.shape))[:, :, :3])",
    "conv2d": "fastconv.conv2d(x.reshape((1, 1, 64, 64)), k.reshape((1, 1, 3, 3)), stride=2)",
    "max_pool2d": "fastconv.max_pool2d(x, 3, 2)",
    "avg_pool2d": "fastconv.avg_pool2d(x, 3, 2)",
    "correlate": "fastconv.ndimage.correlate(x, k)",
    "correlate1d": "fastconv.ndimage.correlate1d(x, k[0], 0)",
    "uniform_filter": "fastconv.ndimage.uniform_filter(x, 5)",
    "maximum_filter": "fastconv.ndimage.maximum_filter(x, 5)",
    "numba.correlate 3x3": "fixed(x, k)",
}
_COLD = """
import time
import numba, numpy as np, fastconv
fastconv.numba.declare()
fixed = fastconv.numba.correlate((3, 3), np.float32)
x, k = np.ones((64, 64), np.float32), np.ones((3, 3), np.float32)
numba.njit(lambda x: x + 1)(x)
{before}
call = numba.njit(lambda x, k: {call})
begin = time.process_time()
call(x, k)
print(time.process_time() - begin)
"""


def cold(call: str, before: str = "") -> float:
    """CPU seconds of a first call, in a new process."""
    before = before and f"numba.njit(lambda x, k: {before})(x, k)"
    code = _COLD.format(call=call.replace("(1, *x.shape)", "(1, 64, 64)"), before=before)
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", action="store_true", help="CPU seconds of first uses")
    if parser.parse_args().cold:
        print(f"{'function':22}{'first s':>9}{'after another':>15}")
        for name, call in FIRST.items():
            another = FIRST["corr2d" if name != "corr2d" else "correlate"]
            print(f"{name:22}{cold(call):9.2f}{cold(call, another):15.2f}", flush=True)
        return
    fastconv.set_num_threads(1)
    print(f"{'dtype':9}{'window':>7}{'plain us':>10}" + "".join(f"{name:>11}" for name in (
        "one shape", "in njit", "stencil", "scipy")))  # fmt: skip
    for dtype in ("float32", "float64"):
        for size in SIZES:
            times = seconds(contenders(dtype, size))
            plain = times.pop("plain")
            ratios = "".join(f"{one / plain:11.2f}" for one in times.values())
            print(f"{dtype:9}{f'{size}x{size}':>7}{plain * 1e6:10.0f}{ratios}", flush=True)


if __name__ == "__main__":
    fastconv.numba.declare()
    main()
