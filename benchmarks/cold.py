"""What a user waits for before the first results: ``python -m benchmarks.cold``.

Each row runs in a process of its own with an empty folder for compiled kernels. Arrays are there, and NumPy is
imported, when the clock starts: right before ``import fastconv``. (The demonstration's starts with its process.) Told
are the seconds until the results are there, and the processor's seconds, user's and system's, until the process and
those that it started have ended, beside the seconds that the row should take. Of some rows the median and the worst
count: `conv2d` is called with every algorithm, each in a process, and planning is timed for 200 problems in one.

``--before PATH`` runs every row with another checkout's fastconv, too, in turns: PATH is the folder that holds its
``fastconv/``. Ratios above one: this tree's is faster.
"""

# The processes import this module, too: what loads fastconv is imported where it is used.

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import cold_runs
from benchmarks.checkouts import checkout, copied
from benchmarks.cold_runs import Run, Sample, Samples, python
from benchmarks.shapes import SMALL_LAYERS

# -- rows ----------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One or two lines of the table."""

    what: str
    targets: dict[str, float]
    """Seconds that the samples' "median" or "worst" should take, or the only one, whose name is empty."""
    ready: Callable[..., Run]
    arguments: dict[str, tuple[Any, ...]]
    """Of `ready`, for each process, by its samples' name."""
    warm: str = ""
    """The row whose compiled kernels are found, if there is one."""


def only(what: str, target: float, ready: Callable[..., Run], *arguments: Any, warm: str = "") -> Row:
    """A row of one process and one line."""
    return Row(what, {"": target}, ready, {"": arguments}, warm)


ROWS = {
    "resnet50": only("ResNet-50's 23 different layers, a plan and a call each", 12, cold_runs.network, "resnet50"),
    "warm": only("the same in a new process, kernels compiled", 0.5, cold_runs.network, "resnet50", warm="resnet50"),
    "mobilenet_v2": only("MobileNetV2's 30, likewise", 4, cold_runs.network, "mobilenet_v2"),
    "algorithms": Row("conv2d by an algorithm", {"worst": 2, "median": 1}, cold_runs.algorithm, {}),  # see `rows`
    "max_pool2d": only("max_pool2d, 3x3, stride 2", 0.8, cold_runs.pooling, "max_pool2d", 3, 2),
    "avg_pool2d": only("avg_pool2d, 2x2", 0.8, cold_runs.pooling, "avg_pool2d", 2),
    "corr2d_3x3": only("corr2d, 3x3", 0.8, cold_runs.image_filter, "hd_3x3"),
    "corr2d_7x7": only("corr2d, 7x7", 0.8, cold_runs.image_filter, "hd_7x7"),
    "demo": only("python -m fastconv demo", 15, cold_runs.demonstration),
    "import": Row("import fastconv, after NumPy", {"median": 0.03}, cold_runs.importing, {"": ()}),
    "planning": Row("planning a new problem", {"median": 0.001, "worst": 0.001}, cold_runs.planning, {"": ()}),
}


def rows(names: list[str]) -> dict[str, Row]:
    """These rows, with the algorithms that there are."""
    chosen = {name: row for name, row in ROWS.items() if name in names}
    if "algorithms" in chosen:
        import fastconv

        arguments = {name: (name, problem_of(name)) for name in fastconv.algorithms("conv2d")}
        chosen["algorithms"] = chosen["algorithms"]._replace(arguments=arguments)
    return chosen


def problem_of(name: str) -> str:
    """The first problem that an algorithm supports; LookupError if there is none."""
    from fastconv.cpu import planner
    from fastconv.planner.choose import name as public_name
    from fastconv.specs.conv import conv_spec

    (module,) = (module for module in planner.table("conv2d") if public_name(module) == name)
    for layer in SMALL_LAYERS.values():
        x, weight, _ = layer.arrays()
        if module.supports(conv_spec(x.shape, weight.shape, [x.dtype], **layer.options)) is None:
            return layer.name
    raise LookupError(f"algorithm {name!r} supports none of {', '.join(SMALL_LAYERS)}")


class Checkout:
    """A fastconv to measure, in processes whose path begins with `path`."""

    def __init__(self, path: str, caches: str, threads: int) -> None:
        paths = filter(None, (path, os.environ.get("PYTHONPATH")))
        self._environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "NUMBA_NUM_THREADS": str(threads)}
        self._caches = caches
        self._filled: dict[str, str] = {}

    def measure(self, name: str, row: Row) -> Samples:
        """Samples of a row; RuntimeError if a process fails."""
        if row.warm and row.warm not in self._filled:
            self.measure(row.warm, ROWS[row.warm])
        samples = {}
        for label, arguments in row.arguments.items():
            cache = self._filled[row.warm] if row.warm else tempfile.mkdtemp(dir=self._caches)
            environment = self._environment | {"FASTCONV_CACHE_DIR": cache}
            told = ", ".join((f"cold_runs.{row.ready.__name__}", *map(repr, arguments)))
            # By way of this module, whose imports are loaded before the clock starts: Numba needs some of them, too.
            output = python("-c", f"from benchmarks.cold import cold_runs; cold_runs.child({told})", env=environment)
            samples |= {label or key: sample for key, sample in json.loads(output).items()}
            self._filled[name] = cache
        return samples


def least(one: Samples | None, other: Samples | None) -> Samples | None:
    """Samples of a row that was measured twice: the least of each."""
    if one is None or other is None:
        return one or other
    return {label: {kind: min(one[label][kind], other[label][kind]) for kind in sample}
            for label, sample in one.items()}  # fmt: skip


# -- telling -------------------------------------------------------------------------------------------------

#: Seconds of several samples.
PICK = {"": max, "median": statistics.median, "worst": max}


def cells(what: str, target: float | None, found: dict[str, Sample | None], worst: str = "") -> tuple[str, ...]:
    """A line: what, target, seconds of each checkout, the ratio if there are two, and a note."""
    texts = [what, "" if target is None else duration(target)]
    for sample in found.values():
        texts += ["-", "-"] if sample is None else [duration(sample["wall"]), duration(sample["cpu"])]
    now, before = found["now"], found.get("before")
    if len(found) > 1:
        texts.append(f"{before['wall'] / now['wall']:#.3g}" if now and before else "-")
    late = target is not None and now is not None and now["wall"] > target
    return (*texts, "  ".join(filter(None, ("  over" if late else "", worst))))


def lines(row: Row, found: dict[str, Samples | None], every: bool) -> list[tuple[str, ...]]:
    """The lines of a row, and with `every` those of its processes, where there are several."""
    result = []
    for kind, target in row.targets.items():
        picked = {
            who: samples and {clock: PICK[kind](sample[clock] for sample in samples.values())
                              for clock in ("wall", "cpu")}
            for who, samples in found.items()
        }  # fmt: skip
        now = found["now"]
        worst = max(now, key=lambda label: now[label]["wall"]) if now and kind == "worst" else ""
        result.append(cells(f"{row.what}, {kind}" if kind else row.what, target, picked, worst))
    if every and len(row.arguments) > 1:
        for label, (_, problem) in row.arguments.items():
            samples = {who: samples and samples.get(label) for who, samples in found.items()}
            result.append(cells(f"  {label}, {problem}", None, samples))
    return result


def duration(seconds: float) -> str:
    """A duration as text: seconds, or milliseconds where there are fewer than 100."""
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1e3 * seconds:.2f} ms"


def aligned(texts: tuple[str, ...]) -> str:
    """A line of cells."""
    what, *numbers, note = texts
    return f"{what:<54}" + "".join(f"{text:>10}" for text in numbers) + note


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", metavar="NAME", nargs="+", choices=list(ROWS), default=list(ROWS),
                        help=f"which rows: {', '.join(ROWS)} (default: all)")  # fmt: skip
    parser.add_argument("--before", metavar="PATH", type=checkout, help="a folder with another checkout's fastconv/")
    parser.add_argument("--passes", type=int, default=1, help="how often a row is measured; the least time counts")
    parser.add_argument("--threads", type=int, default=2, help="Numba's threads in each process (default: 2)")
    parser.add_argument("--all", action="store_true", help="tell every algorithm's seconds")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    arguments = parser.parse_args()

    import fastconv

    here, report = Path(__file__).resolve().parent, {}
    packages = {"now": Path(fastconv.__file__).resolve().parent}
    heads = ["", "target", "wall", "CPU"]
    if arguments.before:
        packages["before"] = arguments.before
        heads += ["before", "CPU", "ratio"]
    print(aligned((*heads, "")))
    late = 0
    with ExitStack() as stack:
        caches = stack.enter_context(tempfile.TemporaryDirectory())
        checkouts = {
            who: Checkout(stack.enter_context(copied(package, here)), caches, arguments.threads)
            for who, package in packages.items()
        }
        for name, row in rows(arguments.rows).items():
            found: dict[str, Samples | None] = dict.fromkeys(checkouts)
            for _ in range(arguments.passes):
                for who, one in checkouts.items():
                    try:
                        found[who] = least(found[who], one.measure(name, row))
                    except RuntimeError as error:
                        if who == "now":
                            raise
                        print(f"{name}, before: {error}", file=sys.stderr)
            report[name] = found
            for line in lines(row, found, arguments.all):
                late += "over" in line[-1]
                print(aligned(line), flush=True)
    print(f"{late} line(s) over the target")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
