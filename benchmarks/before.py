"""fastconv beside another checkout of it, on the same machine: ``python -m benchmarks.before PATH``.

PATH is the folder that holds the other's ``fastconv/``. The rows are those of `peers`, `learning` and `dimensions`, as
fastconv computes them: a layer by a plan and by a plain `conv2d` call, which is `learning`'s forward step, too. As in
`peers`, each checkout has a process of its own, which is stopped while the other's computes; both give their results,
which are compared, before they are timed in turns of a few calls. Ratios are of medians in one run: above one, this
tree is faster.

``--passes 4`` measures all rows four times, in new processes, and tells the median of the passes' ratios. That is
needed on a machine that does other work, too; and where a process's arrays lie in memory moves the ratio of a pass by
up to a fifth, mostly against the process that began first: this tree's in the first pass, the other's in the second.
So an even number of passes is fair.
"""

# The processes import this module, too: what loads Numba is imported where it is used.

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import fastconv
from benchmarks import learning, peers
from benchmarks.checkouts import checkout, copied
from benchmarks.contenders import Row
from benchmarks.peers import Ways
from benchmarks.shapes import DIMENSIONS, LAYER_GROUPS, Filter, Layer, Pooling


def gradients(group: str) -> dict[str, Row]:
    """Both gradients of each layer of a group."""
    return {
        f"gradient for {step} {layer.name}": Row(step, learning.Step(layer, step))
        for layer in LAYER_GROUPS[group].values()
        for step in ("input", "weight")
    }


ROWS: dict[str, dict[str, Row]] = {
    group: {f"{row.op} {row.problem.name}": row for row in rows} for group, rows in peers.ROWS.items()
} | {
    "learning": {"epoch of lenet": Row("epoch", learning.Epoch()), **gradients("layers")},
    "learning_hard": gradients("hard"),
    "dimensions": {f"{call.operation} {call.name}": Row(call.operation, call) for call in DIMENSIONS.values()},
}

#: Errors in units of a result's largest element: float32 in any order of sums stays far below (2e-5, a weight's
#: gradient), a wrong element does not.
CLOSE = 1e-3
#: Ratios below are listed. Of two equal checkouts, 6 of 45 were below in three passes on a machine with other work.
SLOWER = 0.95


#: The ways of each row, as every pass has measured them.
Table = dict[str, list[Ways]]
#: The contenders, in the order in which their processes begin.
BOTH = "fastconv", "before"
#: What keeps freed memory in the processes. By default glibc gives large blocks back or not by what was freed before,
#: and then fresh pages, not the kernels, decide how long a call takes that returns a new array (up to a tenth of it).
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}


def measured(
    groups: list[str], pattern: str, path: Path, threads: int, pinned: bool, both: Sequence[str] = BOTH
) -> Iterator[tuple[str, Ways]]:
    """Each row's name and its ways, this tree's and those "before"."""
    chosen = {name: row for group in groups for name, row in ROWS[group].items() if pattern in name}
    with (
        copied(path) as folder,
        peers.contenders(both, threads, pinned, {"before": folder}) as able,
    ):
        for name, row in chosen.items():
            yield name, peers.measure(row, able.values(), reference(row))


def reference(row: Row) -> np.ndarray:
    """What results are compared with: the result in float64 where `peers` has it, else this process's."""
    if isinstance(row.problem, Layer | Filter | Pooling):
        return peers.reference_and_work(row)[0]
    return row.problem.call()()


def ratios(table: Table) -> dict[str, float]:
    """How many times as fast as before each way to compute each row is."""
    return {
        f"{name} (plan)" if way == "plan" else name: statistics.median(
            ways[f"{way} before"]["seconds"] / ways[way]["seconds"] for ways in passes
        )
        for name, passes in table.items()
        for way in passes[0]
        if f"{way} before" in passes[0]
    }


def show(name: str, ways: Ways) -> str:
    """One row as text: ratios, and every way's milliseconds and error."""
    found = " ".join(f"x{value:.2f}" for value in ratios({name: [ways]}).values()) or "not there before"
    texts = (f"{way} {1e3 * result['seconds']:.3f} ({result['error']:.0e})" for way, result in ways.items())
    return f"{name:38} {found:12} {'  '.join(texts)}"


def summary(table: Table) -> list[str]:
    """The mean, the worst and what is slower or not close, in words."""
    found = ratios(table)
    if not found:
        return ["nothing to compare"]
    mean = math.exp(statistics.fmean(map(math.log, found.values())))
    worst = min(found, key=found.__getitem__)
    slower = sorted((value, name) for name, value in found.items() if value < SLOWER)
    return [
        f"{len(found)} ratios: geometric mean {mean:.3f}, worst {found[worst]:.2f} ({worst})",
        f"{len(slower)} below {SLOWER}" + ":" * bool(slower),
        *(f"  x{value:.2f} {name}" for value, name in slower),
        *(f"NOT CLOSE: {name}" for name in apart(table)),
    ]


def apart(table: Table) -> list[str]:
    """Rows of which a result is not close to what it should be."""
    return [
        name
        for name, passes in table.items()
        if not all(result["error"] <= CLOSE for ways in passes for result in ways.values())
    ]


def main() -> None:
    os.environ |= KEPT_MEMORY  # of the processes to come
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", metavar="PATH", type=checkout, help="a folder with another checkout's fastconv/")
    parser.add_argument("--threads", type=int, nargs="*", help="one table for each number (default: 1, and all)")
    parser.add_argument("--groups", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--passes", type=int, default=1, help="how often all rows are measured")
    parser.add_argument("--pin", action="store_true", help="give each thread a core of its own, the first one to one")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    report: dict[int, Table] = {}
    for threads in dict.fromkeys(arguments.threads or [1, fastconv.get_num_threads()]):
        print(f"\n{threads} thread(s): ratios, ms (error) of each way")
        table = report.setdefault(threads, {})
        for number in range(arguments.passes):
            both = BOTH[:: -1 if number % 2 else 1]
            for name, ways in measured(arguments.groups, arguments.only, arguments.path, threads, arguments.pin, both):
                table.setdefault(name, []).append(ways)
                print(show(name, ways), flush=True)
        print("\n".join(["", *summary(table)]))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report, file, indent=1)
    sys.exit(any(map(apart, report.values())))


if __name__ == "__main__":
    main()
