"""The README's table: how many times as fast as SciPy images are filtered. ``python -m benchmarks.against_scipy``"""

from __future__ import annotations

import statistics
import time

import fastconv

from .bench_image import VARIANTS
from .shapes import FILTERS

ROUNDS = 15


def medians(name: str) -> dict[str, float]:
    """Seconds of each variant, and of fastconv on one thread: medians of runs in turns, so noise hits all alike."""
    arrays = FILTERS[name].arrays()
    calls = {variant: (call, None) for variant, call in VARIANTS.items()} | {"one thread": (VARIANTS["fastconv"], 1)}
    seconds: dict[str, list[float]] = {variant: [] for variant in calls}
    for _ in range(ROUNDS + 1):
        for variant, (call, threads) in calls.items():
            fastconv.set_num_threads(threads)
            start = time.perf_counter()
            call(*arrays)
            seconds[variant].append(time.perf_counter() - start)
    return {variant: statistics.median(times[1:]) for variant, times in seconds.items()}  # the first run compiles


def main() -> None:
    peers = [variant for variant in VARIANTS if variant != "fastconv"]
    print("| image | kernel | dtype |", " | ".join(f"`{peer}`" for peer in peers), "|")
    print("|---" * (3 + len(peers)) + "|")
    for image in FILTERS.values():
        times = medians(image.name)
        ratios = (f"{times[peer] / times['fastconv']:.1f} ({times[peer] / times['one thread']:.1f})" for peer in peers)
        print(f"| {image.h}x{image.w} | {image.kh}x{image.kw} | {image.dtype} |", " | ".join(ratios), "|", flush=True)


if __name__ == "__main__":
    main()
