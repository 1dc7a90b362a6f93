"""fastconv beside other libraries on the same machine: ``python -m benchmarks.peers`` (extra `peers`).

Every contender first gives its result, which is compared with float64; then all are timed in turns, each after one
untimed call of its own that brings its data back into the caches and lets the others' threads go to sleep. Ratios are
of medians in one run: above one, fastconv is faster. Contenders that are not installed are left out.

* layers: a prepared plan with ``out``, and a plain `conv2d` call; PyTorch, ONNX Runtime, OpenVINO (precision hint f32)
* filters: `corr2d`; OpenCV's filter2D
* pooling: `max_pool2d`, `avg_pool2d`; PyTorch
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np

import fastconv
from benchmarks.shapes import FILTERS, LAYERS, POOLINGS, Filter, Layer, Pooling
from fastconv.cpu.machine import copy_bandwidth, fma_ceiling

#: Seconds of timing a contender gets on one row, and how often it is called at least and at most.
SECONDS, FEWEST, MOST = 0.25, 7, 101
#: Pause before a contender's turn: idle workers of the one before spin for some milliseconds before they sleep.
PAUSE = 3e-3

#: What this process may use, asked before any of it is pinned.
CORES = sorted(os.sched_getaffinity(0))

Contenders = dict[str, Callable[[], np.ndarray]]


# -- contenders ----------------------------------------------------------------------------------------------


def layer_contenders(layer: Layer, threads: int) -> Contenders:
    """Every installed way to run a layer, as functions of no arguments."""
    x, weight, bias = layer.arrays()
    plan = fastconv.plan_conv2d(x.shape, weight, bias, **layer.options)
    out = np.empty(plan.output_shape, np.float32)
    ways: Contenders = {
        "plan": lambda: plan(x, out=out),
        "conv2d": lambda: fastconv.conv2d(x, weight, bias, **layer.options),
    }
    for make in (_torch_layer, _onnx_layer, _openvino_layer):
        try:
            ways[make.__name__.split("_")[1]] = make(layer, x, weight, bias, threads)
        except ModuleNotFoundError:
            continue
    return ways


def _torch_layer(layer: Layer, x: Any, weight: Any, bias: Any, threads: int) -> Callable[[], np.ndarray]:
    import torch

    torch.set_num_threads(threads)
    tensors = [torch.from_numpy(array) for array in (x, weight, bias)]

    def run() -> np.ndarray:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(*tensors, **layer.options).numpy()

    return run


def _onnx_model(layer: Layer, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    ph, pw = fastconv.spec.pair("padding", layer.padding, 0)
    node = helper.make_node(
        "Conv",
        ["x", "weight", "bias"],
        ["y"],
        strides=[layer.stride] * 2,
        pads=[ph, pw, ph, pw],
        dilations=[layer.dilation] * 2,
        group=layer.groups,
    )
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _onnx_layer(layer: Layer, x: Any, weight: Any, bias: Any, threads: int) -> Callable[[], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = _onnx_model(layer, x, weight, bias).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def _openvino_layer(layer: Layer, x: Any, weight: Any, bias: Any, threads: int) -> Callable[[], np.ndarray]:
    import io

    import openvino

    core = openvino.Core()
    model = core.read_model(io.BytesIO(_onnx_model(layer, x, weight, bias).SerializeToString()))
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def run() -> np.ndarray:
        request.infer()
        return request.get_output_tensor().data

    return run


def filter_contenders(image: Filter, threads: int) -> Contenders:
    """`corr2d` and OpenCV, which keeps the image's size: its inner part is what `corr2d` computes."""
    x, kernel = image.arrays()
    ways: Contenders = {"corr2d": lambda: fastconv.corr2d(x, kernel)}
    try:
        import cv2
    except ModuleNotFoundError:
        return ways
    if image.dtype not in ("float32", "float64"):
        return ways
    cv2.setNumThreads(threads)
    top, left = (image.kh - 1) // 2, (image.kw - 1) // 2
    inside = np.s_[top : top + image.h - image.kh + 1, left : left + image.w - image.kw + 1]
    ways["opencv"] = lambda: cv2.filter2D(x, -1, kernel, anchor=(left, top), borderType=cv2.BORDER_CONSTANT)[inside]
    return ways


def pool_contenders(pooling: Pooling, op: str, threads: int) -> Contenders:
    """fastconv's and PyTorch's pooling."""
    x = pooling.array()
    pool = getattr(fastconv, f"{op}_pool2d")
    ways: Contenders = {op: lambda: pool(x, **pooling.options)}
    try:
        import torch
    except ModuleNotFoundError:
        return ways
    torch.set_num_threads(threads)
    tensor, theirs = torch.from_numpy(x), getattr(torch.nn.functional, f"{op}_pool2d")

    def run() -> np.ndarray:
        with torch.inference_mode():
            return theirs(tensor, **pooling.options).numpy()

    ways["torch"] = run
    return ways


# -- measuring -----------------------------------------------------------------------------------------------


def measure(ways: Contenders, reference: np.ndarray, pinned: bool) -> dict[str, dict[str, float]]:
    """Median seconds and error of each contender."""
    scale = np.abs(reference).max()
    errors = {way: float(np.abs(run() - reference).max() / scale) for way, run in ways.items()}
    if pinned:
        pin()  # now that every contender has started its threads
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    rounds = MOST
    while len(next(iter(seconds.values()))) < rounds:
        for way, run in ways.items():
            time.sleep(PAUSE)
            run()
            start = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - start)
        slowest = max(statistics.median(times) for times in seconds.values())
        rounds = min(MOST, max(FEWEST, int(SECONDS / slowest)))
    return {way: {"seconds": statistics.median(seconds[way]), "error": errors[way]} for way in ways}


def pin() -> None:
    """Keep the main thread on the first core and all others off it.

    Some virtual machines pack threads onto one core while another idles; then "two threads" measures one core.
    """
    first, *rest = CORES
    for thread in map(int, os.listdir("/proc/self/task")):
        os.sched_setaffinity(thread, [first] if thread == os.getpid() or not rest else rest)


def rows(groups: list[str], pattern: str, threads: int, pinned: bool) -> Iterator[dict[str, Any]]:
    """One dictionary a row of the tables."""
    peak, copy = fma_ceiling(np.dtype(np.float32), threads), copy_bandwidth(threads)
    if "layers" in groups:
        for layer in LAYERS.values():
            if pattern in layer.name:
                x, weight, bias = (array.astype(np.float64) for array in layer.arrays())
                reference = fastconv.conv2d(x, weight, bias, **layer.options, algorithm="im2col")
                flops = fastconv.plan_conv2d(x.shape, weight, **layer.options).flops
                x32, weight32, _ = layer.arrays()
                algorithm = fastconv.plan_conv2d(x32.shape, weight32, **layer.options).algorithm
                result = measure(layer_contenders(layer, threads), reference, pinned)
                share = {"peak": flops / result["plan"]["seconds"] / peak}
                yield {"group": "layers", "row": layer.name, "by": algorithm, **share, "ways": result}
    if "filters" in groups:
        for image in FILTERS.values():
            if pattern in image.name:
                x, kernel = (array.astype(np.float64) for array in image.arrays())
                reference = fastconv.conv2d(x[None], kernel[None, None], algorithm="image")[0]
                result = measure(filter_contenders(image, threads), reference, pinned)
                flops = 2 * (image.h - image.kh + 1) * (image.w - image.kw + 1) * image.kh * image.kw
                ceiling = peak * 4 / np.dtype(image.dtype).itemsize
                share = {"peak": flops / result["corr2d"]["seconds"] / ceiling}
                yield {"group": "filters", "row": image.name, "by": "", **share, "ways": result}
    for op in ("max", "avg"):
        if "pooling" in groups:
            for pooling in POOLINGS.values():
                if pattern in pooling.name:
                    x = pooling.array().astype(np.float64)
                    reference = getattr(fastconv, f"{op}_pool2d")(x, **pooling.options, algorithm="naive")
                    result = measure(pool_contenders(pooling, op, threads), reference, pinned)
                    share = {"copy": 4 * (x.size + reference.size) / result[op]["seconds"] / copy}
                    yield {"group": "pooling", "row": f"{op} {pooling.name}", "by": "", **share, "ways": result}


#: Which of fastconv's ways is set against which peers, in which group.
VERSUS = (
    ("layers", "plan", ("torch", "onnx", "openvino"), "a prepared plan against the best of PyTorch, ONNX, OpenVINO"),
    ("layers", "conv2d", ("torch",), "a plain conv2d call against PyTorch"),
    ("filters", "corr2d", ("opencv",), "corr2d against OpenCV's filter2D"),
    ("pooling", "max", ("torch",), "max pooling against PyTorch"),
    ("pooling", "avg", ("torch",), "average pooling against PyTorch"),
)


def ratio(row: dict[str, Any], ours: str, peers: tuple[str, ...]) -> float | None:
    """How many times as fast as the best of these peers; None if there is nothing to compare."""
    ways = row["ways"]
    theirs = [ways[peer]["seconds"] for peer in peers if peer in ways]
    return min(theirs) / ways[ours]["seconds"] if ours in ways and theirs else None


def summary(table: list[dict[str, Any]]) -> list[str]:
    """Worst row and geometric mean of each comparison, in words."""
    lines = []
    for group, ours, peers, title in VERSUS:
        found = {row["row"]: ratio(row, ours, peers) for row in table if row["group"] == group}
        ratios = {name: value for name, value in found.items() if value is not None}
        if ratios:
            mean = math.exp(statistics.fmean(map(math.log, ratios.values())))
            worst = min(ratios, key=ratios.__getitem__)
            below = sum(value < 1 for value in ratios.values())
            lines.append(
                f"{title}: geometric mean {mean:.2f}, worst {ratios[worst]:.2f} ({worst}), "
                f"{below} of {len(ratios)} rows below 1"
            )
    return lines


def show(row: dict[str, Any]) -> str:
    """One row as text: every way's milliseconds and error, and the ratios."""
    ways = "  ".join(f"{way} {1e3 * r['seconds']:.3f} ({r['error']:.0e})" for way, r in row["ways"].items())
    ratios = [ratio(row, ours, peers) for group, ours, peers, _ in VERSUS if group == row["group"]]
    versus = " ".join(f"x{value:.2f}" for value in ratios if value is not None)
    share = f"{100 * row.get('peak', row.get('copy')):.0f}%"
    return f"{row['row']:22} {row['by']:10} {share:>5} {versus:14} {ways}"


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
    parser.add_argument("--threads", type=int, nargs="*", default=[1, numba.config.NUMBA_NUM_THREADS])
    parser.add_argument("--groups", nargs="*", default=["layers", "filters", "pooling"])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--pin", action="store_true", help="keep threads from sharing a core while another idles")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios there")
    arguments = parser.parse_args()
    report: list[dict[str, Any]] = []
    for threads in dict.fromkeys(arguments.threads):
        fastconv.set_num_threads(threads)
        print(f"\n{threads} thread(s): share of the FMA ceiling (pooling: of a copy), ratios, ms (error) of each way")
        table = []
        for row in rows(arguments.groups, arguments.only, threads, arguments.pin and threads > 1):
            table.append(row | {"threads": threads})
            print(show(row), flush=True)
        print("\n".join(["", *summary(table)]))
        report += table
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report, file, indent=1)
    if arguments.plot:
        plot(report, arguments.plot)


if __name__ == "__main__":
    main()
