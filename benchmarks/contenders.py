"""What `peers` and `before` set against each other: a library's calls, and the process that runs them when told to.

Each library has a process of its own, which is stopped while it is not its turn. In one process the idle workers of
one library would spin on the cores that the workers of the next one need (ONNX Runtime's do for seconds), and two
libraries may share a pool of threads and its settings.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import numpy as np

import fastconv
from benchmarks.checkouts import internal
from benchmarks.shapes import Filter, Layer, Pooling

#: A turn's calls: one that is not timed, which brings data back into the caches and wakes threads, then as many as fit
#: into so many seconds, but at most so many.
TURN_SECONDS, TURN_CALLS = 0.01, 20

#: What this process may use, asked before any of it is pinned.
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

Call = Callable[[], np.ndarray]


class Other(Protocol):
    """A problem of another benchmark, which knows fastconv's call."""

    def call(self) -> Call: ...


class Row(NamedTuple):
    """One row of a table."""

    op: str
    """What is computed: "conv2d", "corr2d", "max", "avg", or a name for what another problem computes."""
    problem: Layer | Filter | Pooling | Other


# -- the libraries: from a row to the ways to compute it, none if there are none --------------------------------


def fastconv_calls(row: Row, threads: int) -> dict[str, Call]:
    fastconv.set_num_threads(threads)
    problem = row.problem
    if isinstance(problem, Filter):
        image, kernel = problem.arrays()
        return {"corr2d": lambda: fastconv.corr2d(image, kernel)}
    if isinstance(problem, Pooling):
        x, pool = problem.array(), getattr(fastconv, f"{row.op}_pool2d")
        return {row.op: lambda: pool(x, **problem.options)}
    if not isinstance(problem, Layer):
        return {row.op: problem.call()}
    x, weight, bias = problem.arrays()
    plan = fastconv.plan_conv2d(x.shape, weight, bias, **problem.options)
    out = np.empty(plan.output_shape, np.float32)
    return {
        "plan": lambda: plan(x, out=out),
        "conv2d": lambda: fastconv.conv2d(x, weight, bias, **problem.options),
    }


def before_calls(row: Row, threads: int) -> dict[str, Call]:
    """Another checkout's fastconv, which the process finds first; it may lack an operation."""
    try:
        return {f"{way} before": call for way, call in fastconv_calls(row, threads).items()}
    except AttributeError:
        return {}


def torch_calls(row: Row, threads: int) -> dict[str, Call]:
    import torch

    torch.set_num_threads(threads)
    problem, functional = row.problem, torch.nn.functional
    if isinstance(problem, Layer):
        operation, arrays = functional.conv2d, problem.arrays()
    else:
        assert isinstance(problem, Pooling)
        operation, arrays = getattr(functional, f"{row.op}_pool2d"), (problem.array(),)
    tensors, options = [torch.from_numpy(array) for array in arrays], problem.options

    def run() -> np.ndarray:
        with torch.inference_mode():
            return operation(*tensors, **options).numpy()

    return {"torch": run}


def _onnx_model(layer: Layer, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    ph, pw = internal("pair")("padding", layer.padding, 0)
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
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def onnx_calls(row: Row, threads: int) -> dict[str, Call]:
    import onnxruntime

    assert isinstance(row.problem, Layer)
    x, weight, bias = row.problem.arrays()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = _onnx_model(row.problem, x, weight, bias)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return {"onnx": lambda: session.run(None, {"x": x})[0]}


def openvino_calls(row: Row, threads: int) -> dict[str, Call]:
    import io

    import openvino

    assert isinstance(row.problem, Layer)
    x, weight, bias = row.problem.arrays()
    core = openvino.Core()
    model = core.read_model(io.BytesIO(_onnx_model(row.problem, x, weight, bias)))
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def run(x: np.ndarray = x) -> np.ndarray:  # who else would keep it alive?
        request.infer()
        return request.get_output_tensor().data

    return {"openvino": run}


def opencv_calls(row: Row, threads: int) -> dict[str, Call]:
    """OpenCV keeps the image's size: the inner part is what `corr2d` computes."""
    import cv2

    image = row.problem
    assert isinstance(image, Filter)
    if image.dtype not in ("float32", "float64"):
        return {}
    cv2.setNumThreads(threads)
    x, kernel = image.arrays()
    top, left = (image.kh - 1) // 2, (image.kw - 1) // 2
    inside = np.s_[top : top + image.h - image.kh + 1, left : left + image.w - image.kw + 1]
    options = {"anchor": (left, top), "borderType": cv2.BORDER_CONSTANT}
    return {"opencv": lambda: cv2.filter2D(x, -1, kernel, **options)[inside]}


LIBRARIES = {
    "fastconv": fastconv_calls,
    "before": before_calls,
    "torch": torch_calls,
    "onnx": onnx_calls,
    "openvino": openvino_calls,
    "opencv": opencv_calls,
}

# -- the process of one library ------------------------------------------------------------------------------


def serve(library: str, threads: int, pinned: bool, orders: Connection) -> None:
    """Do what `orders` say, until their other end is closed.

    * ("prepare", row, file): make the row's calls; the answer is each one's error against the array in the file
    * ("time", way): a turn of one of them; the answer is its seconds
    """
    if sys.platform == "linux":  # prctl(PR_SET_PDEATHSIG): while it is stopped it does not see the other end closed
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    calls: dict[str, Call] = {}
    with contextlib.suppress(EOFError):
        while True:
            order, *details = orders.recv()
            try:
                if order == "prepare":
                    calls = {}  # memory of the row before is free before that of the next is taken
                    answer, calls = _prepare(library, threads, pinned, *details)
                else:
                    answer = _turn(calls[details[0]])
            except Exception as error:
                answer = error
            orders.send(answer)


def _prepare(library: str, threads: int, pinned: bool, row: Row, file: str) -> tuple[Any, dict[str, Call]]:
    if pinned:
        spread()
    try:
        calls = LIBRARIES[library](row, threads)
    except ModuleNotFoundError:
        return {}, {}
    reference = np.load(file)
    scale = np.abs(reference).max()
    errors = {way: float(np.abs(run() - reference).max() / scale) for way, run in calls.items()}
    if pinned:
        keep_apart()
    return errors, calls


def _turn(run: Call) -> list[float]:
    """Seconds of some calls in a row."""
    run()
    seconds: list[float] = []
    while not seconds or (sum(seconds) + min(seconds) < TURN_SECONDS and len(seconds) < TURN_CALLS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def spread() -> None:
    """Let all threads run anywhere: a thread that is started starts where the one that starts it may run."""
    _pin(CORES, CORES)


def keep_apart() -> None:
    """Keep the main thread on the first core, and all that are there by now on the others.

    Some virtual machines pack threads onto one core while another idles; then "two threads" measures one core.
    """
    _pin(CORES[:1], CORES[1:] or CORES)


def _pin(first: list[int], others: list[int]) -> None:
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.sched_setaffinity(thread, first if thread == os.getpid() else others)
