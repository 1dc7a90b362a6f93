"""How many times as fast as SciPy `fastconv.signal` filters images: ``python -m benchmarks.against_scipy``.

Compared are the shortest of all runs, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import fastconv
from fastconv.warming.team import cores

from .bench_image import VARIANTS
from .records import save
from .shapes import FILTERS

ROUNDS = 20


def shortest(name: str) -> dict[str, float]:
    """Seconds of each variant, and of fastconv on one thread: the shortest of runs in turns, so noise hits all alike.

    A variant whose result is another one (in integers: transforms and ndimage do not wrap around) is left out.
    """
    arrays = FILTERS[name].arrays()
    calls = {variant: (call, None) for variant, call in VARIANTS.items()} | {"one thread": (VARIANTS["fastconv"], 1)}
    if cores() == 1:
        del calls["fastconv"]
    expected = VARIANTS["scipy.signal.correlate2d"](*arrays)
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS + 1):
        for variant, (call, threads) in calls.items():
            fastconv.set_num_threads(threads)
            start = time.perf_counter()
            result = call(*arrays)
            elapsed = time.perf_counter() - start
            if np.allclose(result, expected, atol=1e-5 * np.abs(expected).max()):
                seconds.setdefault(variant, []).append(elapsed)
    return {variant: min(times[1:]) for variant, times in seconds.items()}  # the first run compiles


def main() -> None:
    """Print the table: of each peer the ratio on all threads, and on one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    told = parser.parse_args()
    peers = [variant for variant in VARIANTS if variant != "fastconv"]
    print("| image | kernel | dtype |", " | ".join(f"`{peer}`" for peer in peers), "|")
    print("|---" * (3 + len(peers)) + "|")
    rows = []
    for image in FILTERS.values():
        times = shortest(image.name)
        ratios = (
            " ".join(f"{times[peer] / times[own]:.1f}" for own in ("fastconv", "one thread") if own in times)
            if peer in times else "-"
            for peer in peers
        )  # fmt: skip
        sizes = {"image": f"{image.h}x{image.w}", "kernel": f"{image.kh}x{image.kw}", "dtype": image.dtype}
        print("|", " | ".join([*sizes.values(), *ratios]), "|", flush=True)
        rows.append({**sizes, "seconds": times})
    if told.json:
        save(told.json, "benchmarks.against_scipy", rows)


if __name__ == "__main__":
    main()
