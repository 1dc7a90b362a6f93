"""Filters of images beside SciPy, OpenCV, astropy and Bottleneck: ``python -m benchmarks.images``.

The rows are `image_shapes.IMAGE_FILTERS`. A peer's result is compared with ours before anything is timed; one that
differs is told as such, and not timed. Then all are timed in turns, calls that make their own output, in one process.
Ratios are of medians: above one, fastconv is faster. SciPy and Bottleneck use one thread, OpenCV as many as we, astropy
those of OpenMP.

Boundaries are "reflect"; of medians "nearest", the only one that OpenCV's have. A derivative of integers is stored in
more bits (int16, float32), as OpenCV can; else integers are those of the image, which SciPy cuts off, and OpenCV
rounds: they may differ by some units.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

import fastconv
from benchmarks.checkouts import internal
from fastconv.tools import filter_peers

from .contenders import keep_apart, spread
from .image_shapes import IMAGE_FILTERS, ImageFilter, arguments
from .records import save, summary

#: Calls of each contender, or as many as fit into so many seconds.
CALLS, SECONDS = 21, 0.25
#: Seconds after which idle threads sleep.
REST = 0.005
#: Integers may differ by so many units from OpenCV's: it rounds once, SciPy cuts a fraction off after each axis.
UNITS = 3
#: Floats may differ by so much of the largest.
CLOSE = {"float32": 2e-5, "float64": 1e-9}

Call = Callable[[], np.ndarray]


# -- contenders ----------------------------------------------------------------------------------------------


def fastconv_call(row: ImageFilter, x: np.ndarray, threads: int) -> Call | None:
    """Ours; None if there is none."""
    if row.function not in fastconv.ndimage.__all__:
        return None
    fastconv.set_num_threads(threads)
    args, told = arguments(row)
    return lambda: getattr(fastconv.ndimage, row.function)(x, *args, **told)


def told_by_name(row: ImageFilter, x: np.ndarray) -> dict[str, Any]:
    """All arguments of our call by name, as `filter_peers` takes them."""
    args, told = arguments(row)
    return filter_peers.named(getattr(fastconv.ndimage, row.function), x, *args, **told)


def scipy_call(row: ImageFilter, x: np.ndarray, threads: int) -> Call | None:
    return filter_peers.scipy(row.function, x, told_by_name(row, x))


def opencv_call(row: ImageFilter, x: np.ndarray, threads: int) -> Call | None:
    call = None if row.dtype == "float64" else filter_peers.opencv(row.function, x, told_by_name(row, x))
    if call is not None:
        import cv2

        cv2.setNumThreads(threads)
    return call


def astropy_call(row: ImageFilter, x: np.ndarray, threads: int) -> Call | None:
    if row.table != "missing":
        return None
    from astropy.convolution import convolve

    size = int(row.size) if row.function == "uniform_filter" else 2 * int(4 * row.size + 0.5) + 1
    line = np.ones(size)
    if row.function == "gaussian_filter":
        line = np.exp(-0.5 * ((np.arange(size) - size // 2) / row.size) ** 2)
    kernel = np.outer(line, line)
    told = {"boundary": "extend", "nan_treatment": "interpolate", "normalize_kernel": True}
    return lambda: convolve(x, kernel, **told)


def bottleneck_call(row: ImageFilter, x: np.ndarray, threads: int) -> Call | None:
    """Means of means, of windows that end at a pixel: as much work, another result where pixels are missing."""
    if row.table != "missing" or row.function != "uniform_filter":
        return None
    import bottleneck

    size = int(row.size)
    return lambda: bottleneck.move_mean(bottleneck.move_mean(x, size, 1, axis=0), size, 1, axis=1)


PEERS = {"scipy": scipy_call, "opencv": opencv_call, "astropy": astropy_call, "bottleneck": bottleneck_call}
NAMES = {"scipy": "scipy.ndimage", "opencv": "OpenCV", "astropy": "astropy", "bottleneck": "Bottleneck"}


# -- measuring -----------------------------------------------------------------------------------------------


def differs(row: ImageFilter, peer: str, result: np.ndarray, expected: np.ndarray) -> str:
    """How a peer's result differs from ours, in words; nothing if it does not."""
    if peer == "bottleneck":
        return ""
    if peer == "astropy":  # whose outermost pixels stand for what lies outside
        reach = 16
        result, expected = (one[reach:-reach, reach:-reach] for one in (result, expected))
    if result.shape != expected.shape:
        return f"shape {expected.shape}"
    if result.dtype.kind != "f":
        units = np.abs(result.astype(int) - expected.astype(int)).max()
        rounds = row.function in ("correlate", "gaussian_filter", "uniform_filter")
        allowed = UNITS if peer == "opencv" and rounds else 0
        return f"by {units} units" if units > allowed else ""
    off = float(np.nanmax(np.abs(result.astype(float) - expected)) / np.nanmax(np.abs(result)))
    return f"by {off:.0e}" if off > CLOSE[row.dtype if row.dtype in CLOSE else "float32"] else ""


def measured(pattern: str, threads: int, pinned: bool, tables: list[str]) -> Iterator[dict[str, Any]]:
    """One dictionary a row: seconds of each contender, and who differs."""
    for row in IMAGE_FILTERS:
        if row.table not in tables or not re.search(pattern, row.name):
            continue
        x, runs, different = row.array(), {}, {}
        ours = fastconv_call(row, x, threads)
        if ours is None:
            continue
        if pinned:
            spread()
        result = ours()
        for peer, made in PEERS.items():
            with suppress(ModuleNotFoundError):
                call = made(row, x, threads)
                if call is None:
                    continue
                told = differs(row, peer, result, call())
                if told:
                    different[peer] = told
                else:
                    runs[peer] = call
        if pinned:
            keep_apart(threads)
        taken = internal("in_turns")({"fastconv": ours, **runs}, CALLS, SECONDS, rest=REST if threads > 1 else 0)
        seconds = {who: statistics.median(times[1:] or times) for who, times in taken.items()}
        ratios = {title(row.table, peer): time / seconds["fastconv"] for peer, time in seconds.items()
                  if peer != "fastconv"}  # fmt: skip
        yield {"table": row.table, "row": row.name, "threads": threads, "seconds": seconds, "ratios": ratios,
               "different": different}  # fmt: skip


# -- telling -------------------------------------------------------------------------------------------------

#: What the rows of each table are.
TITLES = {
    "linear": "correlation, Gaussian, mean, Sobel, Laplace",
    "extrema": "maxima, minima, opening",
    "median": "medians",
    "volumes": "volumes",
    "missing": "means and Gaussians without NaN",
}


def title(table: str, peer: str) -> str:
    """What is compared with what."""
    return f"{TITLES[table]}: {NAMES[peer]}"


def show(found: dict[str, Any]) -> str:
    """One row as text."""
    seconds = found["seconds"]
    ratios = [f"{peer} {seconds[peer] / seconds['fastconv']:7.2f}" for peer in seconds if peer != "fastconv"]
    ratios += [f"{peer} differs {told}" for peer, told in found["different"].items()]
    return f"{found['row']:40} {1e3 * seconds['fastconv']:9.3f} ms   {'   '.join(ratios)}"


#: What each row is to reach.
TARGETS = {
    title("linear", "scipy"): 4, title("extrema", "scipy"): 4, title("median", "scipy"): 10,
    title("volumes", "scipy"): 6, title("missing", "astropy"): 2, title("missing", "bottleneck"): 2,
}  # fmt: skip


def main() -> None:
    """Print the tables."""
    tables = list(dict.fromkeys(row.table for row in IMAGE_FILTERS))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="*", default=[1], help="one table for each number")
    parser.add_argument("--pin", action="store_true", help="give each thread a core of its own, the first one to one")
    parser.add_argument("--rows", default="", help="a regular expression that the rows' names have")
    parser.add_argument("--tables", nargs="*", choices=tables, default=tables)
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    told = parser.parse_args()
    report = []
    for threads in told.threads:
        print(f"\n{threads} thread(s): our time, then how many times as long each peer takes")
        rows = []
        for row in measured(told.rows, threads, told.pin, told.tables):
            rows.append(row)
            print(show(row), flush=True)
        print("\n".join(["", *summary(rows, TARGETS)]))
        report += rows
    if told.json:
        save(told.json, "benchmarks.images", report)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
