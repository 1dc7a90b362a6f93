"""The README's table: how many times as fast as SciPy images are filtered. ``python -m benchmarks.against_scipy``"""

from __future__ import annotations

import statistics
import time

import numpy as np

import fastconv

from .bench_image import VARIANTS
from .shapes import FILTERS

ROUNDS = 15


def medians(name: str) -> dict[str, float]:
    """Seconds of each variant, and of fastconv on one thread: medians of runs in turns, so noise hits all alike.

    A variant whose result is another one (in integers: transforms and ndimage do not wrap around) is left out.
    """
    arrays = FILTERS[name].arrays()
    calls = {variant: (call, None) for variant, call in VARIANTS.items()} | {"one thread": (VARIANTS["fastconv"], 1)}
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
    return {variant: statistics.median(times[1:]) for variant, times in seconds.items()}  # the first run compiles


def main() -> None:
    peers = [variant for variant in VARIANTS if variant != "fastconv"]
    print("| image | kernel | dtype |", " | ".join(f"`{peer}`" for peer in peers), "|")
    print("|---" * (3 + len(peers)) + "|")
    for image in FILTERS.values():
        times = medians(image.name)
        ratios = (
            f"{times[peer] / times['fastconv']:.1f} ({times[peer] / times['one thread']:.1f})" if peer in times else "-"
            for peer in peers
        )
        print(f"| {image.h}x{image.w} | {image.kh}x{image.kw} | {image.dtype} |", " | ".join(ratios), "|", flush=True)


if __name__ == "__main__":
    main()
