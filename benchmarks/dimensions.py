"""Signals, volumes and the operations around convolution beside PyTorch: ``python -m benchmarks.dimensions``.

The rows are `shapes.DIMENSIONS`. Every one is checked against PyTorch's result, then both are timed in turns: plain
calls that make their own output. Ratios are of medians, and of minima, in one run: above one, fastconv is faster. With
``--threads 2 --pin`` each thread has a core of its own, and turns begin with a rest in which the threads of the one
before fall asleep, and with calls that are not timed.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv
from benchmarks.checkouts import internal

from .contenders import keep_apart, spread
from .shapes import DIMENSIONS, Call

#: Calls of each contender, or as many as fit into so many seconds.
CALLS, SECONDS = 31, 0.6
#: Seconds after which idle threads sleep: PyTorch's spin for some 5 ms.
REST = 0.01

#: PyTorch's names where they are others.
PEERS = {"unfold2d": "unfold", "fold2d": "fold"}


def contenders(row: Call) -> dict[str, Callable[[], Any]]:
    """fastconv's call and PyTorch's."""
    import torch

    tensors = [torch.from_numpy(array) for array in row.arrays()]
    peer = getattr(torch.nn.functional, PEERS.get(row.operation, row.operation))

    def run_peer() -> np.ndarray:
        with torch.inference_mode():
            return peer(*tensors, *row.args, **row.options).numpy()

    return {"fastconv": row.call(), "torch": run_peer}


def main() -> None:
    """Print the table."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="part of the names or operations of the rows to run")
    parser.add_argument("--pin", action="store_true", help="keep threads from sharing a core while another idles")
    parser.add_argument("--check", action="store_true", help="results only, no times")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    fastconv.set_num_threads(arguments.threads)
    pinned = arguments.pin and arguments.threads > 1
    ratios = []
    print(f"{'row':<16} {'operation':<20} {'fastconv ms':>12} {'torch ms':>10} {'ratio':>7} {'of minima':>9}  error")
    for name, row in DIMENSIONS.items():
        if arguments.only not in name and arguments.only not in row.operation:
            continue
        ways = contenders(row)
        if pinned:
            spread()
        result, expected = (run() for run in ways.values())
        if pinned:
            keep_apart()
        error = float(np.abs(result - expected).max() / np.abs(expected).max())
        line = f"{name:<16} {row.operation:<20}"
        if not arguments.check:
            taken = internal("in_turns")(ways, CALLS, SECONDS, rest=REST if arguments.threads > 1 else 0)
            ours, theirs = (statistics.median(taken[who]) * 1e3 for who in ways)
            least = min(taken["torch"]) / min(taken["fastconv"])
            ratios.append(theirs / ours)
            line += f" {ours:12.3f} {theirs:10.3f} {theirs / ours:7.2f} {least:9.2f}"
        print(f"{line}  {error:.1e}", flush=True)
    if ratios:
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        print(f"geometric mean {mean:.2f}, worst {min(ratios):.2f}, {len(ratios)} rows")


if __name__ == "__main__":
    main()
