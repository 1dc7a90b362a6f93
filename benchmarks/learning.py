"""What learning costs beside PyTorch, on the same machine: ``python -m benchmarks.learning`` (extra `peers`).

* layers, hard: the output, the gradient for the input and the one for the weight, of each layer of these groups
* lenet: an epoch of training LeNet on scikit-learn's digits, with `fastconv.nn` and with `torch.nn`, same batches

Both contenders run in turns in one process; ratios are of medians, above one fastconv is faster.
With ``--threads 2 --pin`` each thread has a core of its own, as in `peers`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import fastconv
from benchmarks.checkouts import internal
from benchmarks.contenders import keep_apart, spread
from benchmarks.records import save, summary
from benchmarks.shapes import LAYER_GROUPS, Layer, random
from fastconv import grad

#: Seconds of timing a contender gets on one row, and how often it is called at least and at most.
SECONDS, FEWEST, MOST = 0.25, 5, 51
#: Seconds after which idle threads sleep: PyTorch's spin for some 5 ms on the cores that fastconv's need.
REST = 0.01

#: What the command line chooses from.
GROUPS = ["lenet", *LAYER_GROUPS]

#: What is compared with what.
TITLE = "a layer and both gradients: PyTorch"

Steps = dict[str, Callable[[], Any]]


def ours(layer: Layer) -> Steps:
    """fastconv's three steps."""
    x, weight, bias = layer.arrays()
    signal = random(fastconv.conv2d(x, weight, **layer.options).shape, np.float32)
    return {
        "forward": lambda: fastconv.conv2d(x, weight, bias, **layer.options),
        "input": lambda: grad.conv2d_input(x.shape, weight, signal, **layer.options),
        "weight": lambda: grad.conv2d_weight(x, weight.shape, signal, **layer.options),
    }


class Step(NamedTuple):
    """One of the three steps of a layer, for `before`."""

    layer: Layer
    step: str

    def call(self) -> Callable[[], np.ndarray]:
        """fastconv's call."""
        keep_memory()
        return ours(self.layer)[self.step]


def theirs(layer: Layer, threads: int) -> Steps:
    """PyTorch's output, and both gradients by its autograd's own function, which may share work between them."""
    import torch

    torch.set_num_threads(threads)
    x, weight, bias = (torch.from_numpy(array) for array in layer.arrays())
    with torch.inference_mode():
        shape = torch.nn.functional.conv2d(x, weight, **layer.options).shape
    signal = torch.from_numpy(random(tuple(shape), np.float32))
    pad = internal("pair")("padding", layer.padding, 0)
    options = [0], [layer.stride] * 2, list(pad), [layer.dilation] * 2, False, [0, 0], layer.groups

    def backward(*wanted: bool) -> Any:
        with torch.inference_mode():
            return torch.ops.aten.convolution_backward(signal, x, weight, *options, (*wanted, False))

    def forward() -> Any:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(x, weight, bias, **layer.options)

    return {"forward": forward, "both": lambda: backward(True, True)}


def in_turns(ways: dict[str, Steps], threads: int, pinned: bool) -> dict[str, dict[str, float]]:
    """Median seconds of every step of every contender."""
    if pinned:
        spread()
        for steps in ways.values():  # starts the threads
            for run in steps.values():
                run()
        keep_apart(threads)
    seconds: dict[str, dict[str, list[float]]] = {way: {step: [] for step in steps} for way, steps in ways.items()}
    rounds, done = MOST, 0
    while done < rounds:
        for way, steps in ways.items():
            time.sleep(REST if threads > 1 else 0)
            for run in steps.values():  # brings the contender's data back into the caches
                run()
            for step, run in steps.items():
                start = time.perf_counter()
                run()
                seconds[way][step].append(time.perf_counter() - start)
        done += 1
        slowest = max(sum(map(statistics.median, steps.values())) for steps in seconds.values())
        rounds = min(MOST, max(FEWEST, int(SECONDS / slowest)))
    return {way: {step: statistics.median(times) for step, times in steps.items()} for way, steps in seconds.items()}


def error(layer: Layer) -> dict[str, float]:
    """Of both gradients against float64, in units of the largest element."""
    x, weight, _ = layer.arrays()
    signal = random(fastconv.conv2d(x, weight, **layer.options).shape, np.float32)
    found = {}
    wide = [array.astype(np.float64) for array in (x, weight, signal)]
    for step, run in {
        "input": lambda x, weight, signal: grad.conv2d_input(x.shape, weight, signal, **layer.options),
        "weight": lambda x, weight, signal: grad.conv2d_weight(x, weight.shape, signal, **layer.options),
    }.items():
        exact = run(*wide)
        found[step] = float(np.abs(run(x, weight, signal) - exact).max() / np.abs(exact).max())
    return found


#: Images of an epoch of LeNet, and of a batch.
IMAGES, BATCH = 1024, 32


def our_epoch(x: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """An epoch of LeNet, which gives the last loss."""
    from fastconv import nn

    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, rng=rng), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5, rng=rng),
        nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 120, rng=rng), nn.Sigmoid(),
        nn.Linear(120, 84, rng=rng), nn.Sigmoid(), nn.Linear(84, 10, rng=rng),
    )  # fmt: skip
    loss, optimizer = nn.CrossEntropyLoss(), nn.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def epoch() -> float:
        for first in range(0, len(x), BATCH):
            value = loss.forward(model.forward(x[first : first + BATCH]), labels[first : first + BATCH])
            model.backward(loss.backward(), for_input=False)
            optimizer.step()
        return value

    return epoch


def their_epoch(x: np.ndarray, labels: np.ndarray, threads: int) -> Callable[[], float]:
    """The same in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Sigmoid(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(),
        nn.Linear(84, 10),
    )  # fmt: skip
    loss, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images, targets = torch.from_numpy(x), torch.from_numpy(labels)

    def epoch() -> float:
        for first in range(0, len(x), BATCH):
            optimizer.zero_grad()
            value = loss(model(images[first : first + BATCH]), targets[first : first + BATCH])
            value.backward()
            optimizer.step()
        return value.item()

    return epoch


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, of the sizes of an epoch."""
    return random((IMAGES, 1, 28, 28), np.float32), np.random.default_rng(0).integers(0, 10, IMAGES)


class Epoch(NamedTuple):
    """An epoch of LeNet, for `before`."""

    def call(self) -> Callable[[], np.ndarray]:
        """fastconv's call, which goes on with the model of the one before."""
        keep_memory()
        epoch = our_epoch(*digits())
        return lambda: np.asarray(epoch())


def lenet(threads: int, pinned: bool) -> dict[str, float]:
    """Median seconds of an epoch."""
    ways = {"fastconv": {"epoch": our_epoch(*digits())}, "torch": {"epoch": their_epoch(*digits(), threads)}}
    return {way: steps["epoch"] for way, steps in in_turns(ways, threads, pinned).items()}


def keep_memory() -> None:
    """Let freed memory up to 32 MiB stay in the process, where the C library decides by what was freed before.

    glibc maps large arrays one by one, and unmaps them, until one was freed that was as large. A row by itself would
    pay for new pages at each call (PyTorch's backward of `resnet_3x3_512` 4,576 of them, 8 ms of 15), and the same row
    after one with large arrays would not. As when a network is trained, no contender pays for them in any row.
    """
    np.empty((32 << 20) - (64 << 10), np.uint8)  # and freed at once


def rows(groups: list[str], pattern: str, threads: int, pinned: bool) -> Iterator[dict[str, Any]]:
    """One dictionary a layer."""
    for layer in (layer for group in groups for layer in LAYER_GROUPS[group].values()):
        if pattern in layer.name:
            seconds = in_turns({"fastconv": ours(layer), "torch": theirs(layer, threads)}, threads, pinned)
            totals = {way: sum(steps.values()) for way, steps in seconds.items()}
            yield {"row": layer.name, "threads": threads, "ratios": {TITLE: totals["torch"] / totals["fastconv"]},
                   "seconds": seconds, "error": error(layer)}  # fmt: skip


def show(row: dict[str, Any]) -> str:
    """One row as text."""
    ways = "   ".join(
        f"{way}: " + ", ".join(f"{step} {1e3 * seconds:.3f}" for step, seconds in steps.items())
        for way, steps in row["seconds"].items()
    )
    errors = ", ".join(f"{step} {value:.0e}" for step, value in row["error"].items())
    return f"{row['row']:20} x{row['ratios'][TITLE]:.2f}   {ways} ms   error: {errors}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="*", default=[1], help="one table for each number")
    parser.add_argument("--groups", nargs="*", choices=GROUPS, default=GROUPS)
    parser.add_argument("--only", default="", help="layers whose name contains this")
    parser.add_argument("--pin", action="store_true", help="give each thread a core of its own, the first one to one")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    keep_memory()
    groups = [group for group in arguments.groups if group in LAYER_GROUPS]
    report = []
    for threads in arguments.threads:
        print(f"\n{threads} thread(s)")
        fastconv.set_num_threads(threads)
        if "lenet" in arguments.groups and arguments.only in "lenet":
            epoch = lenet(threads, arguments.pin)
            print(f"LeNet, an epoch of {IMAGES} digits in batches of {BATCH}: "
                  f"x{epoch['torch'] / epoch['fastconv']:.2f}, "
                  + ", ".join(f"{way} {1e3 * seconds:.0f} ms" for way, seconds in epoch.items()), flush=True)
        table = []
        for row in rows(groups, arguments.only, threads, arguments.pin):
            table.append(row)
            print(show(row), flush=True)
        print("\n".join(["", *summary(table)]))
        report += table
    if arguments.json:
        save(arguments.json, "benchmarks.learning", report)


if __name__ == "__main__":
    main()
