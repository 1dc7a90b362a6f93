"""Signals, volumes and the operations around convolution beside PyTorch: ``python -m benchmarks.dimensions``.

The rows are `shapes.DIMENSIONS`. Every one is checked against PyTorch's result, then both are timed in turns: plain
calls that make their own output. Ratios are of medians, and of minima, in one run: above one, fastconv is faster. With
``--threads 2 --pin`` each thread has a core of its own, and turns begin with a rest in which the threads of the one
before fall asleep, and with calls that are not timed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastconv
from benchmarks.checkouts import internal

from .contenders import keep_apart, spread
from .records import save, summary
from .shapes import DIMENSIONS, Call

#: What is compared with what.
TITLE = "signals, volumes, transposed, adaptive, unrolled: PyTorch"

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


def measured(pattern: str, threads: int, pinned: bool, only_check: bool) -> Iterator[dict[str, Any]]:
    """One dictionary a row: its error, and unless it is only checked seconds and ratios."""
    import torch

    torch.set_num_threads(threads)
    fastconv.set_num_threads(threads)
    for name, row in DIMENSIONS.items():
        if pattern not in name and pattern not in row.operation:
            continue
        ways = contenders(row)
        if pinned:
            spread()
        result, expected = (run() for run in ways.values())
        if pinned:
            keep_apart(threads)
        error = float(np.abs(result - expected).max() / np.abs(expected).max())
        found = {"row": name, "operation": row.operation, "threads": threads, "error": error}
        if not only_check:
            taken = internal("in_turns")(ways, CALLS, SECONDS, rest=REST if threads > 1 else 0)
            seconds = {who: statistics.median(times) for who, times in taken.items()}
            found |= {"seconds": seconds, "least": {who: min(times) for who, times in taken.items()},
                      "ratios": {TITLE: seconds["torch"] / seconds["fastconv"]}}  # fmt: skip
        yield found


def show(found: dict[str, Any]) -> str:
    """One row as text."""
    line = f"{found['row']:<16} {found['operation']:<20}"
    if "seconds" in found:
        ours, theirs = (1e3 * found["seconds"][who] for who in ("fastconv", "torch"))
        of_minima = found["least"]["torch"] / found["least"]["fastconv"]
        line += f" {ours:12.3f} {theirs:10.3f} {found['ratios'][TITLE]:7.2f} {of_minima:9.2f}"
    return f"{line}  {found['error']:.1e}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="*", default=[1], help="one table for each number")
    parser.add_argument("--only", default="", help="part of the names or operations of the rows to run")
    parser.add_argument("--pin", action="store_true", help="give each thread a core of its own, the first one to one")
    parser.add_argument("--check", action="store_true", help="results only, no times")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    report = []
    for threads in arguments.threads:
        print(f"\n{threads} thread(s)")
        heads = f"{'fastconv ms':>12} {'torch ms':>10} {'ratio':>7} {'of minima':>9}"
        print(f"{'row':<16} {'operation':<20} {heads}  error")
        table = []
        for row in measured(arguments.only, threads, arguments.pin, arguments.check):
            table.append(row)
            print(show(row), flush=True)
        if not arguments.check:
            print("\n".join(["", *summary(table)]))
        report += table
    if arguments.json:
        save(arguments.json, "benchmarks.dimensions", report)


if __name__ == "__main__":
    main()
