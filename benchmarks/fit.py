"""How good is the planner, and with which constants would it be better? ``python -m benchmarks.fit --times FILE``

1. Every algorithm that can do a problem is timed (all of them in turns, the lower quartile of the calls), but those
   that are estimated, or found at the first try, to be hopeless. Problems are the named layers, filters and poolings,
   and as many random ones, so that constants are not fitted to the names. The times go to FILE, with the sources' hash:
   a second run goes on where the first had to stop (``--seconds``), and times of other sources are not used.
2. The rates in `fastconv.cpu.machine.Machine` are fitted by least squares of ``log(estimated / measured)``. What is far
   from the fastest counts little: nobody chooses it. Each rate is drawn a little to what it was, as not every one can
   be told from these times.
3. Printed are the rates, the errors of each algorithm's estimates, and for each problem how ``"auto"`` does against the
   fastest: now, and with the fitted rates.

Nothing here knows an algorithm by name: whatever is in the tables is measured and fitted.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

import fastconv
from benchmarks.shapes import FILTERS, HARD_LAYERS, LAYERS, POOLINGS
from fastconv.cpu import planner
from fastconv.cpu.machine import Machine, this_machine
from fastconv.cpu.plans import CpuPlan
from fastconv.cpu.recipes import recipe
from fastconv.cpu.system.target import package_hash
from fastconv.planner import choose
from fastconv.planner.contract import trait
from fastconv.planner.measure import in_turns, random_array
from fastconv.specs.conv import ConvSpec, conv_spec
from fastconv.specs.pool import PoolSpec, pool_spec

#: Estimated, and measured at the first try: so many times the fastest's time is hopeless.
HOPELESS, HOPELESS_RUN = 20.0, 8.0
#: Calls of each algorithm, or as many as fit into so many seconds.
CALLS, SECONDS = 41, 0.15
#: How much a rate is held where it is: as much as so many problems that say so.
PULL = 1.0

#: What is known of a machine, and not fitted.
HELD = ("threads", "known_peak")

Labelled = dict[str, float]


class Problem(NamedTuple):
    """One problem; `named` is False if it was drawn."""

    name: str
    named: bool
    spec: ConvSpec | PoolSpec

    def run(self, algorithm: str) -> Callable[[], Any]:
        """A call that is ready to be timed."""
        spec = self.spec
        if isinstance(spec, ConvSpec):
            weight = random_array((spec.c_out, spec.c_in // spec.groups, spec.kh, spec.kw), spec.dtype, seed=1)
            planned = CpuPlan(spec, weight, None, algorithm)
            return partial(planned, random_array(spec.x_shape, spec.dtype), np.empty(spec.output_shape, spec.out_dtype))
        x = random_array((*spec.lead, spec.h, spec.w), spec.dtype)
        out = np.empty(spec.output_shape, spec.out_dtype)
        return partial(recipe(spec, algorithm).run, x, False, out)


# -- the problems --------------------------------------------------------------------------------------------


def problems(drawn: int) -> Iterator[Problem]:
    """The named ones, then so many random layers, a tenth as many random filters, and a fifth as many poolings."""
    float32 = np.dtype(np.float32)
    for layer in (*LAYERS.values(), *HARD_LAYERS.values()):
        weight = layer.c_out, layer.c_in // layer.groups, layer.kh, layer.kw
        spec = conv_spec((layer.n, layer.c_in, layer.h, layer.w), weight, [float32], **layer.options)
        yield Problem(layer.name, True, spec)
    for image in FILTERS.values():
        shapes = (1, 1, image.h, image.w), (1, 1, image.kh, image.kw)
        yield Problem(f"filter_{image.name}", True, conv_spec(*shapes, [np.dtype(image.dtype)]))
    for pooling in POOLINGS.values():
        shape = pooling.n, pooling.c, pooling.h, pooling.w
        for op in ("max", "avg"):
            yield Problem(f"{op}_{pooling.name}", True, pool_spec(op, shape, float32, **pooling.options))
    for draw, count in ((_layer, drawn), (_filter, drawn // 10), (_pooling, drawn // 5)):
        for seed in range(count):
            spec = draw(np.random.default_rng(seed))
            yield Problem(f"{draw.__name__[1:]} {seed}", False, spec)


def _layer(rng: np.random.Generator) -> ConvSpec:
    """A layer of up to a GFLOP."""
    while True:
        kernel = rng.choice([1, 1, 2, 3, 3, 3, 4, 5, 7, 9], 2) if rng.random() < 0.2 else rng.choice([1, 3, 3, 5, 7], 1)
        kh, kw = int(kernel[0]), int(kernel[-1])
        kind, stride, dilation = rng.random(), int(rng.choice([1, 1, 1, 2])), 1
        c_in, c_out = (int(2 ** rng.uniform(1, 9)) for _ in "io")
        groups = 1
        if kind < 0.2:
            groups = c_out = c_in
        elif kind < 0.3:
            groups = int(rng.choice([2, 4, 8]))
            c_in, c_out = -(-c_in // groups) * groups, -(-c_out // groups) * groups
        elif kind < 0.4:
            dilation = int(rng.choice([2, 4]))
        elif kind < 0.5:  # windows that do not overlap
            kh = kw = stride = int(rng.choice([2, 4, 7, 8, 16]))
        elif kind < 0.6:  # few channels out
            c_out = int(rng.integers(1, 5))
        (h, w), n = (max(stride, int(2 ** rng.uniform(2, 8))) for _ in "hw"), int(rng.choice([1, 1, 2, 8]))
        padding = (0, 0) if stride > 2 else ((kh - 1) * dilation // 2, (kw - 1) * dilation // 2)
        dtype = np.dtype(np.float64 if rng.random() < 0.15 else np.float32)
        spec = conv_spec((n, c_in, h, w), (c_out, c_in // groups, kh, kw), [dtype], stride=stride, padding=padding,
                         dilation=dilation, groups=groups)
        if spec.flops <= 1e9:
            return spec


def _filter(rng: np.random.Generator) -> ConvSpec:
    h, w, k = int(2 ** rng.uniform(5, 11)), int(2 ** rng.uniform(5, 11)), int(2 ** rng.uniform(1, 5))
    return conv_spec((1, 1, h, w), (1, 1, k, k), [np.dtype(np.float32)])


def _pooling(rng: np.random.Generator) -> PoolSpec:
    k = int(rng.choice([2, 2, 3, 3, 5, 9]))
    n, (c, h, w) = int(rng.choice([1, 4])), (int(2**power) for power in rng.uniform((2, 4, 4), (7, 8, 8)))
    op, stride = str(rng.choice(["max", "avg"])), int(rng.choice([1, 2, k]))
    return pool_spec(op, (n, c, h, w), np.dtype(np.float32), k, stride, k // 2)


# -- measuring -----------------------------------------------------------------------------------------------


def measure(problem: Problem, threads: int) -> Labelled:
    """Seconds of each algorithm that is worth it."""
    costs = planner.candidates(problem.spec)
    least = min(costs.values())
    runs = {}
    for label, cost in costs.items():
        if cost <= HOPELESS * least:
            runs[label] = problem.run(label)
            runs[label]()
    samples = in_turns(runs, CALLS, SECONDS, HOPELESS_RUN)
    return {label: float(np.quantile(taken, 0.25)) for label, taken in samples.items()}


# -- fitting -------------------------------------------------------------------------------------------------


def estimates(problem: Problem, machine: Machine) -> Labelled:
    """Estimated seconds of every algorithm that `auto` may pick for any weights."""
    op = "conv2d" if isinstance(problem.spec, ConvSpec) else f"{problem.spec.op}_pool2d"
    able = [module for module in planner.table(op)
            if trait(module, "prepare_if_suited") is None and not module.supports(problem.spec)]
    return {choose.name(module): module.cost(problem.spec, machine) for module in able}


def fit(measured: list[tuple[Problem, Labelled]], start: Machine) -> Machine:
    """The rates that explain the times best."""
    names = [field.name for field in fields(Machine) if field.name not in HELD]
    before = np.log([getattr(start, name) for name in names])

    def machine(logs: np.ndarray) -> Machine:
        return replace(start, **dict(zip(names, map(float, np.exp(logs)), strict=True)))

    def residuals(logs: np.ndarray) -> np.ndarray:
        rates, errors = machine(logs), []
        for problem, times in measured:
            costs, least = estimates(problem, rates), min(times.values())
            errors += [math.sqrt(least / took) * math.log(costs[label] / took) for label, took in times.items()]
        return np.concatenate([errors, PULL * (logs - before)])

    return machine(least_squares(residuals, before, loss="soft_l1", f_scale=0.3, diff_step=1e-3).x)


# -- telling -------------------------------------------------------------------------------------------------


def chosen(problem: Problem, times: Labelled, machine: Machine) -> tuple[str, float | None]:
    """What `auto` takes, and its speed relative to the fastest; None if it was hopeless, and never timed to the end.

    The planner decides as on one thread, however many the times are from.
    """
    costs = estimates(problem, replace(machine, threads=1))
    label = min(costs, key=costs.__getitem__)
    return label, min(times.values()) / times[label] if label in times else None


def report(measured: list[tuple[Problem, Labelled]], now: Machine, fitted: Machine) -> Iterator[str]:
    """The three tables, line by line."""
    yield f"{'rate':24} {'now':>10} {'fitted':>10}"
    for field in fields(Machine):
        if field.name not in HELD:
            yield f"{field.name:24} {getattr(now, field.name):10.3g} {getattr(fitted, field.name):10.3g}"
    yield f"\n{'estimated / measured':24} {'times':>6} {'now: mean':>10} {'spread':>7} {'fitted: mean':>13}  spread"
    kinds = sorted({(type(problem.spec).__name__, label) for problem, times in measured for label in times})
    for kind, label in kinds:
        logs = [
            [
                math.log(estimates(problem, machine)[label] / times[label])
                for problem, times in measured
                if label in times and type(problem.spec).__name__ == kind
            ]
            for machine in (now, fitted)
        ]
        before, after = ((math.exp(statistics.fmean(each)), math.exp(statistics.pstdev(each))) for each in logs)
        yield (f"{label:15} {kind:8} {len(logs[0]):6} {before[0]:10.2f} {before[1]:7.2f} {after[0]:13.2f} "
               f"{after[1]:7.2f}")
    yield f"\n{'problem':24} {'auto':12} {'of fastest':>10}   {'fitted':12} {'of fastest':>10}   microseconds"
    speeds: dict[tuple[bool, bool], list[float]] = {}
    for problem, times in measured:
        cells = []
        for is_fitted, machine in ((False, now), (True, fitted)):
            label, speed = chosen(problem, times, machine)
            speeds.setdefault((problem.named, is_fitted), []).append(speed or 1 / HOPELESS_RUN)
            cells.append(f"{label:12} {'hopeless' if speed is None else format(speed, '.2f'):>10}")
        ranked = "  ".join(f"{label} {1e6 * times[label]:.1f}" for label in sorted(times, key=times.__getitem__))
        yield f"{problem.name:24} {'   '.join(cells)}   {ranked}"
    yield ""
    for (named, is_fitted), values in sorted(speeds.items(), reverse=True):
        mean = math.exp(statistics.fmean(map(math.log, values)))
        bad = sum(value < 0.85 for value in values)
        which = f"{'named' if named else 'drawn'} problems, rates {'fitted' if is_fitted else 'as they are'}"
        yield (f"{which}: auto reaches {mean:.3f} of the fastest, worst {min(values):.2f}, {bad} of {len(values)} "
               "below 0.85")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", metavar="FILE", type=Path, required=True, help="JSON lines, read and added to")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop measuring after so many (default: never)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--drawn", type=int, default=40, help="random layers (default: 40)")
    parser.add_argument("--only", default="", help="problems whose name contains this")
    parser.add_argument("--compile", action="store_true", help="only fill the cache of compiled kernels")
    arguments = parser.parse_args()
    fastconv.set_num_threads(arguments.threads)
    wanted = [problem for problem in problems(arguments.drawn) if arguments.only in problem.name]
    known = {}
    if arguments.times.exists():
        for line in arguments.times.read_text().splitlines():
            record = json.loads(line)
            if (record["sources"], record["threads"]) == (package_hash(), arguments.threads):
                known[record["problem"]] = record["seconds"]
    end = time.monotonic() + arguments.seconds
    for problem in wanted:
        if time.monotonic() > end:
            break
        if arguments.compile:
            costs = planner.candidates(problem.spec)
            for label in [label for label, cost in costs.items() if cost <= HOPELESS * min(costs.values())]:
                problem.run(label)()
        elif problem.name not in known:
            known[problem.name] = measure(problem, arguments.threads)
            record = {"sources": package_hash(), "threads": arguments.threads, "problem": problem.name,
                      "seconds": known[problem.name]}
            with arguments.times.open("a") as file:
                file.write(json.dumps(record) + "\n")
    measured = [(problem, known[problem.name]) for problem in wanted if problem.name in known]
    if not arguments.compile and measured:
        now = this_machine(arguments.threads)
        print("\n".join(report(measured, now, fit(measured, now))))
        print(f"\n{len(measured)} of {len(wanted)} problems measured")


if __name__ == "__main__":
    main()
