"""fastconv beside other libraries on the same machine: ``python -m benchmarks.peers`` (extra `peers`).

Each library has a process of its own (`contenders`), and all but one of them are stopped. Every way to compute a row
first gives its result, which is compared with float64; then all are timed in turns of a few calls, each turn after one
call that is not timed. Ratios are of medians in one run: above one, fastconv is faster. Libraries that are not
installed are left out; a result whose error is above `CLOSE` is shown with a "!" and not compared.

* layers: a prepared plan with ``out``, and a plain `conv2d` call; PyTorch, ONNX Runtime, OpenVINO (precision hint f32),
  ncnn (no 16-bit numbers), MNN (precision high)
* hard: the same ways, of layers that those were not tuned to
* filters: `corr2d`; OpenCV's filter2D
* pooling: `max_pool2d`, `avg_pool2d`; PyTorch, ncnn, MNN

On a machine that does other work too, ``--passes 3`` measures all rows three times; each way keeps its best median.
"""

# The processes import this module, too: what loads Numba is imported where it is used.

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

import fastconv
from benchmarks import records
from benchmarks.checkouts import internal
from benchmarks.contenders import LIBRARIES, Row, serve
from benchmarks.shapes import FILTERS, LAYER_GROUPS, POOLINGS, Filter, Layer, Pooling

#: Seconds of timing the slowest way gets on one row, and how many turns there are at least and at most.
SECONDS, FEWEST, MOST = 0.25, 7, 15

#: The largest error, in units of the result's largest element, of a result that is compared. Of the libraries' float32
#: results some have 2e-5 (a Winograd transform), and MNN's 3x3 layers 2e-4 to 1e-3: not the same work.
CLOSE = 1e-4

#: The rows of each group, and who computes them.
ROWS = {
    **{group: [Row("conv2d", layer) for layer in layers.values()] for group, layers in LAYER_GROUPS.items()},
    "filters": [Row("corr2d", image) for image in FILTERS.values()],
    "pooling": [Row(op, pooling) for op in ("max", "avg") for pooling in POOLINGS.values()],
}
ENGINES = "torch", "onnx", "openvino", "ncnn", "mnn"
POOLERS = "torch", "ncnn", "mnn"
TAKE_PART = {
    **dict.fromkeys(LAYER_GROUPS, ("fastconv", *ENGINES)),
    "filters": ("fastconv", "opencv"),
    "pooling": ("fastconv", *POOLERS),
}

#: Which of fastconv's ways is set against which others, in which group.
VERSUS = (
    *(
        (group, way, others, f"{group}: {title}")
        for group in LAYER_GROUPS
        for way, others, title in (
            ("plan", ENGINES, "a prepared plan against the best of the others"),
            ("conv2d", ENGINES, "a plain conv2d call against the best of the others"),
            ("conv2d", ("torch",), "a plain conv2d call against PyTorch"),
        )
    ),
    ("filters", "corr2d", ("opencv",), "corr2d against OpenCV's filter2D"),
    ("pooling", "max", POOLERS, "max pooling against the best of the others"),
    ("pooling", "avg", POOLERS, "average pooling against the best of the others"),
)

# -- measuring -----------------------------------------------------------------------------------------------


class Contender:
    """A library in its process, whose path begins with a folder if one is given."""

    def __init__(self, library: str, threads: int, pinned: bool, path: str | None = None) -> None:
        self.library = library
        context = multiprocessing.get_context("spawn")  # a forked child would begin with this process's libraries
        self._orders, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(library, threads, pinned, theirs), daemon=True)
        own = sys.path[:]
        sys.path[:0] = [path] if path else []  # a spawned process begins with its parent's path
        try:
            self.process.start()
        finally:
            sys.path[:] = own
        theirs.close()

    def ask(self, *order: Any) -> Any:
        """Its answer; whatever goes wrong there is raised here. It is stopped until the next order."""
        self._signal("SIGCONT")
        self._orders.send(order)
        try:
            answer = self._orders.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"the process of {self.library} ended with status {self.process.exitcode}") from None
        self._signal("SIGSTOP")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self.process.pid:
            os.kill(self.process.pid, getattr(signal, name))

    def close(self) -> None:
        """Let the process end."""
        self._signal("SIGCONT")
        self._orders.close()
        self.process.join()


@contextmanager
def contenders(
    libraries: Iterable[str], threads: int, pinned: bool, paths: Mapping[str, str] = MappingProxyType({})
) -> Iterator[dict[str, Contender]]:
    """The processes of these libraries; the path of some begins with a folder."""
    with ExitStack() as stack:
        started = {}
        for library in libraries:
            started[library] = Contender(library, threads, pinned, paths.get(library))
            stack.callback(started[library].close)
        yield started


#: Of each way to compute a row "seconds", "least" and "error".
Ways = dict[str, dict[str, float]]


def measure(row: Row, able: Iterable[Contender], reference: np.ndarray) -> Ways:
    """Median and least seconds, and error, of each way to compute a row."""
    ways: dict[str, tuple[Contender, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "reference.npy")
        np.save(file, reference)
        for contender in able:
            ways |= {way: (contender, error) for way, error in contender.ask("prepare", row, file).items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    turn, turns = 0, MOST
    while turn < turns:
        for way in list(ways)[:: -1 if turn % 2 else 1]:  # to and fro: who is first in a turn is some percent slower
            seconds[way] += ways[way][0].ask("time", way)
        slowest = max(statistics.median(times) for times in seconds.values())
        turn, turns = turn + 1, min(MOST, max(FEWEST, int(SECONDS / slowest)))
    return {
        way: {"seconds": statistics.median(times), "least": min(times), "error": ways[way][1]}
        for way, times in seconds.items()
    }


def reference_and_work(row: Row) -> tuple[np.ndarray, str, dict[str, float]]:
    """The result in float64, the algorithm that "auto" takes in a layer, and a lower bound of what there is to do:
    operations, as of float32, or bytes to read and write."""
    problem = row.problem
    if isinstance(problem, Layer):
        x, weight, bias = problem.arrays()
        algorithm = fastconv.plan_conv2d(x.shape, weight, **problem.options).algorithm
        flops = internal("conv_spec")(x.shape, weight.shape, [x.dtype], **problem.options).flops
        doubles = (array.astype(np.float64) for array in (x, weight, bias))
        return fastconv.conv2d(*doubles, **problem.options, algorithm="im2col"), algorithm, {"flops": flops}
    if isinstance(problem, Pooling):
        x = problem.array().astype(np.float64)
        y = getattr(fastconv, f"{row.op}_pool2d")(x, **problem.options, algorithm="naive")
        return y, "", {"bytes": 4 * (x.size + y.size)}
    assert isinstance(problem, Filter)
    image, kernel = (array.astype(np.float64) for array in problem.arrays())
    y = fastconv.conv2d(image[None], kernel[None, None], algorithm="image")[0]
    return y, "", {"flops": 2 * y.size * kernel.size * np.dtype(problem.dtype).itemsize / 4}


def measured(
    groups: list[str], pattern: str, threads: int, pinned: bool, libraries: Iterable[str] = tuple(LIBRARIES)
) -> Iterator[dict[str, Any]]:
    """One dictionary a row of the tables."""
    from fastconv.cpu.machine import copy_bandwidth, fma_ceiling

    ceilings = {"flops": fma_ceiling(np.dtype(np.float32), threads), "bytes": copy_bandwidth(threads)}
    for group in groups:
        with contenders((library for library in TAKE_PART[group] if library in libraries), threads, pinned) as able:
            for row in ROWS[group]:
                name = row.problem.name if group != "pooling" else f"{row.op} {row.problem.name}"
                if pattern in name:
                    reference, algorithm, work = reference_and_work(row)
                    ways = measure(row, able.values(), reference)
                    ours = next(ways[way] for each, way, *_ in VERSUS if each == group and way in ways)
                    ((kind, amount),) = work.items()
                    share = amount / ours["seconds"] / ceilings[kind]
                    yield {"group": group, "row": name, "by": algorithm, "share": share, "threads": threads,
                           "ways": ways}  # fmt: skip


def better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A row that was measured twice: of each way the better median."""
    pairs = ((way, one["ways"][way], other["ways"][way]) for way in one["ways"])
    ways = {way: min(pair, key=lambda result: result["seconds"]) for way, *pair in pairs}
    return one | {"ways": ways, "share": max(one["share"], other["share"])}


# -- telling -------------------------------------------------------------------------------------------------


def close(result: dict[str, float]) -> bool:
    """Whether a way's error is small enough for its time to count."""
    return result["error"] <= CLOSE


def ratio(row: dict[str, Any], ours: str, peers: tuple[str, ...]) -> float | None:
    """How many times as fast as the best of these peers; None if there is nothing to compare.

    A result that is not close to what it should be, a peer's or ours, is nothing to compare.
    """
    ways = {way: result for way, result in row["ways"].items() if close(result)}
    theirs = [ways[peer]["seconds"] for peer in peers if peer in ways]
    return min(theirs) / ways[ours]["seconds"] if ours in ways and theirs else None


def ratios(row: dict[str, Any]) -> dict[str, float]:
    """The ratio of each comparison that the row takes part in."""
    found = {title: ratio(row, ours, peers) for group, ours, peers, title in VERSUS if group == row["group"]}
    return {title: value for title, value in found.items() if value is not None}


def summary(table: list[dict[str, Any]]) -> list[str]:
    """Worst row and geometric mean of each comparison, in words, and what is not compared."""
    lines = [*records.summary([row | {"ratios": ratios(row)} for row in table])]
    apart = Counter(way for row in table for way, result in row["ways"].items() if not close(result))
    return lines + [f"{way}: {rows} rows not compared, for an error above {CLOSE:.0e}" for way, rows in apart.items()]


def show(row: dict[str, Any]) -> str:
    """One row as text: every way's milliseconds and error, and the ratios."""
    ways = "  ".join(
        f"{way} {1e3 * result['seconds']:.3f} ({result['error']:.0e}{'' if close(result) else '!'})"
        for way, result in row["ways"].items()
    )
    versus = " ".join(f"x{value:.2f}" for value in ratios(row).values())
    return f"{row['row']:22} {row['by']:10} {100 * row['share']:4.0f}% {versus:17} {ways}"


def plot(table: list[dict[str, Any]], file: str) -> None:
    """Bars of the ratios, on a logarithmic axis."""
    from matplotlib.figure import Figure

    bars = []
    for group, ours, peers, _ in VERSUS:
        values = [(row["row"], ratio(row, ours, peers)) for row in table if row["group"] == group]
        bars += [(f"{name} ({ours})", value) for name, value in values if value is not None]
    figure = Figure(figsize=(9, 1 + 0.22 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    names, values = zip(*bars[::-1], strict=True)
    axes.barh(names, values, color=["tab:blue" if value >= 1 else "tab:red" for value in values])
    axes.axvline(1, color="0.3")
    axes.set_xscale("log")
    axes.set_xlabel("times as fast as the best peer")
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="*", help="one table for each number (default: 1, and all)")
    parser.add_argument("--groups", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--passes", type=int, default=1, help="how often all rows are measured")
    parser.add_argument("--pin", action="store_true", help="give each thread a core of its own, the first one to one")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios there")
    arguments = parser.parse_args()
    report: list[dict[str, Any]] = []
    for threads in dict.fromkeys(arguments.threads or [1, fastconv.get_num_threads()]):
        print(f"\n{threads} thread(s): share of the FMA ceiling (pooling: of a copy), ratios, ms (error) of each way")
        table: dict[str, dict[str, Any]] = {}
        for _ in range(arguments.passes):
            for row in measured(arguments.groups, arguments.only, threads, arguments.pin):
                table[row["row"]] = better(table[row["row"]], row) if row["row"] in table else row
                print(show(row), flush=True)
        if arguments.passes > 1:
            print("\n".join(["\nbest of the passes:", *map(show, table.values())]))
        print("\n".join(["", *summary(list(table.values()))]))
        report += table.values()
    if arguments.json:
        records.save(arguments.json, "benchmarks.peers", [row | {"ratios": ratios(row)} for row in report])
    if arguments.plot:
        plot(report, arguments.plot)


if __name__ == "__main__":
    main()
