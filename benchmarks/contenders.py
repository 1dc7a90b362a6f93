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
import tempfile
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


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """A number for both axes, or one for each."""
    return internal("pair")("value", value, 0)


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
    operation = getattr(torch.nn.functional, row.op if row.op == "conv2d" else f"{row.op}_pool2d")
    assert isinstance(row.problem, Layer | Pooling)
    tensors, options = [torch.from_numpy(array) for array in _arrays(row)], row.problem.options

    def run() -> np.ndarray:
        with torch.inference_mode():
            return operation(*tensors, **options).numpy()

    return {"torch": run}


def _arrays(row: Row) -> tuple[np.ndarray, ...]:
    """The input of a layer or a pooling, and a layer's weight and bias."""
    problem = row.problem
    if isinstance(problem, Layer):
        return problem.arrays()
    assert isinstance(problem, Pooling)
    return (problem.array(),)


def _onnx_model(row: Row) -> bytes:
    """A layer or a pooling as a model of ONNX, from "x" to "y"."""
    from onnx import TensorProto, helper, numpy_helper

    problem, (x, *constants) = row.problem, _arrays(row)
    assert isinstance(problem, Layer | Pooling)
    (sh, sw), (ph, pw) = _pair(problem.stride), _pair(problem.padding)
    options: dict[str, Any] = {"strides": [sh, sw], "pads": [ph, pw, ph, pw]}
    if isinstance(problem, Layer):
        kind = "Conv"
        options |= {"dilations": [problem.dilation] * 2, "group": problem.groups}
    else:
        kind = {"max": "MaxPool", "avg": "AveragePool"}[row.op]
        options |= {"kernel_shape": _pair(problem.kernel_size)} | ({"count_include_pad": 1} if row.op == "avg" else {})
    names = ["weight", "bias"][: len(constants)]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *names], ["y"], **options)],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for array, name in zip(constants, names, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def onnx_calls(row: Row, threads: int) -> dict[str, Call]:
    import onnxruntime

    x, *_ = _arrays(row)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(_onnx_model(row), options, providers=["CPUExecutionProvider"])
    return {"onnx": lambda: session.run(None, {"x": x})[0]}


def openvino_calls(row: Row, threads: int) -> dict[str, Call]:
    import io

    import openvino

    x, *_ = _arrays(row)
    core = openvino.Core()
    model = core.read_model(io.BytesIO(_onnx_model(row)))
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def run(x: np.ndarray = x) -> np.ndarray:  # who else would keep it alive?
        request.infer()
        return request.get_output_tensor().data

    return {"openvino": run}


def _ncnn_model(row: Row) -> tuple[str, bytes]:
    """A layer or a pooling as ncnn's description of a network, from "x" to "y", and its file of weights."""
    problem = row.problem
    assert isinstance(problem, Layer | Pooling)
    (sh, sw), (ph, pw) = _pair(problem.stride), _pair(problem.padding)
    weights = b""
    if isinstance(problem, Layer):
        _, weight, bias = problem.arrays()
        weights = b"\0\0\0\0" + weight.tobytes() + bias.tobytes()  # a tag first: float32
        kind = "Convolution" if problem.groups == 1 else "ConvolutionDepthWise"
        numbers = {0: problem.c_out, 1: problem.kw, 11: problem.kh, 2: problem.dilation, 3: sw, 13: sh, 4: pw, 14: ph,
                   5: 1, 6: weight.size} | ({7: problem.groups} if problem.groups > 1 else {})  # fmt: skip
    else:
        kind, (kh, kw) = "Pooling", _pair(problem.kernel_size)
        mean, floor, counts_padding = int(row.op == "avg"), 1, 1
        numbers = {0: mean, 1: kw, 11: kh, 2: sw, 12: sh, 3: pw, 13: ph, 5: floor, 6: counts_padding}
    options = " ".join(f"{number}={value}" for number, value in numbers.items())
    return f"7767517\n2 2\nInput x 0 1 x\n{kind} layer 1 1 x y {options}\n", weights  # the magic number is ncnn's


def ncnn_calls(row: Row, threads: int) -> dict[str, Call]:
    """ncnn's layer, which reads the input where NumPy has it and gives a view of its own output.

    Its options are the defaults (Winograd is one), except that numbers of 16 bits are off.
    """
    import ncnn

    x, *_ = _arrays(row)
    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    description, weights = _ncnn_model(row)
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "weights")
        with open(file, "wb") as written:
            written.write(weights)
        if net.load_param_mem(description) or net.load_model(file):
            raise RuntimeError(f"ncnn cannot load {row}")
    batch_axis = 0
    taken = ncnn.Mat(x, batch_axis)

    def run(x: np.ndarray = x) -> np.ndarray:  # `taken` points into x, which nothing else would keep alive
        with net.create_extractor() as extractor:
            extractor.input("x", taken)
            failed, y = extractor.extract("y")
            if failed:
                raise RuntimeError(f"ncnn cannot compute {row}")
            return y.numpy(batch_index=batch_axis)  # the array keeps y alive

    return {"ncnn": run}


def mnn_calls(row: Row, threads: int) -> dict[str, Call]:
    """MNN's layer, converted from ONNX as its users do: its own expressions give wrong numbers where there are groups.

    Arrays are NumPy's and NCHW, as the other libraries have them. MNN takes and gives copies only, and computes on
    channels in groups of 4 to 16: both are measured, 5 to 20% of the time of a layer below a millisecond.
    """
    import _tools  # MNN's converter; MNN.tools, the module around it, installs packages and sends reports
    import MNN

    x, *_ = _arrays(row)
    MNN.expr.set_thread_number(threads)  # else it starts three more, which spin on the cores of the layer's
    with tempfile.TemporaryDirectory() as folder:
        source, model = os.path.join(folder, "layer.onnx"), os.path.join(folder, "layer.mnn")
        with open(source, "wb") as file:
            file.write(_onnx_model(row))
        _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", source, "--MNNModel", model, "--bizCode", "_"])
        high = MNN.expr.PrecisionMode.High
        layer = MNN.nn.load_module_from_file(model, ["x"], ["y"], precision_mode=high, thread_num=threads)
    taken = MNN.expr.placeholder(list(x.shape), MNN.expr.NCHW)

    def run() -> np.ndarray:
        taken.write(x)
        return layer.forward(taken).read()

    return {"mnn": run}


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
    "ncnn": ncnn_calls,
    "mnn": mnn_calls,
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
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some libraries greet, between the rows of a table
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
        keep_apart(threads)
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


def keep_apart(threads: int) -> None:
    """Keep the main thread on the first core, and of several threads all others that are there by now on the others.

    Some virtual machines pack threads onto one core while another idles; then "two threads" measures one core. And
    their cores may be of different speed: then ratios of calls on one thread are of two cores.
    """
    _pin(CORES[:1], CORES[1:] if threads > 1 and CORES[1:] else CORES[:1])


def _pin(first: list[int], others: list[int]) -> None:
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.sched_setaffinity(thread, first if thread == os.getpid() else others)
