"""What the driver is asked for, found with a fake driver in its place: which stream, how many copies, and no waiting.

Kernels are compiled to machine code for real, and checked to be launched with the arguments that it takes.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_driver import Driver, Interface, Tensor, driver, installed, not_compiled, torch_on

import fastconv
from fastconv import grad, ndimage
from fastconv.cuda import machine, plans
from fastconv.cuda import planner as gpu
from fastconv.cuda.system import host_slices, kernels, streams
from fastconv.specs.conv import conv_spec


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Driver]:
    yield from installed(monkeypatch, tmp_path)


X, WEIGHT = np.ones((2, 3, 6, 5), np.float32), np.ones((4, 3, 3, 3), np.float32)


def test_a_call_with_arrays_on_the_device(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_on(4096))
    x, weight = Tensor(X), Tensor(WEIGHT)
    for algorithm in ("naive", "im2col"):
        result = fastconv.conv2d(x, weight, algorithm=algorithm)
        assert isinstance(result, Tensor)
        assert result.shape == (2, 4, 4, 3)
    best, at = fastconv.max_pool2d(x, 2, return_indices=True)
    assert (best.dtype, at.dtype) == ("torch.float32", "torch.int64")
    fastconv.avg_pool2d(x, (5, 5), 1, algorithm="running")
    assert [stream for stream, _, _ in fake.launches] == [4096] * 6  # im2col and running have two kernels
    assert not fake.calls["wait"]
    assert not fake.calls["copy"]
    assert fake.counts()["free"] == fake.calls["alloc"]
    assert fake.calls["set current"] == fake.calls["restored"] == 4
    assert not fake.memory


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("shapes", [((2, 8, 8, 6), (8, 8, 3, 3)), ((2, 300, 4, 6), (8, 300, 1, 1)),
                                    ((2, 3, 6, 5), (3, 1, 3, 3))], ids=["3x3", "1x1", "depthwise"])
def test_no_algorithm_waits_or_copies(
    fake: Driver, monkeypatch: pytest.MonkeyPatch, shapes: tuple[Any, Any], last: bool
) -> None:
    """Neither a call, nor a plan's, which takes only scratch memory: what a graph that is captured may hold."""
    monkeypatch.setitem(sys.modules, "torch", torch_on(4096))
    monkeypatch.setattr(machine, "missing", lambda: "nothing to ask")
    not_compiled(monkeypatch)
    x, weight = np.ones(shapes[0], np.float32), np.ones(shapes[1], np.float32)
    if last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    groups = x.shape[1] // weight.shape[1]
    able = gpu.candidates(conv_spec(x.shape, weight.shape, [x.dtype], groups=groups))
    assert len(able) >= 3
    for algorithm in able:
        plan = fastconv.plan_conv2d(x.shape, Tensor(weight), groups=groups, algorithm=algorithm)
        out = Tensor(np.empty(plan.output_shape, np.float32))
        before, launched = fake.counts(), len(fake.launches)
        plan(Tensor(x), out=out)
        made = fake.counts() - before
        assert {"wait", "copy", "free and wait"}.isdisjoint(made), made
        assert made["alloc"] == made["free"]
        assert (made["alloc"] == 0) == (plan.scratch_bytes == 0)
        names = [name for _, name, _ in fake.launches[launched:]]
        assert "offset_table" not in names, "it is made when planned"
        before = fake.counts()
        fastconv.conv2d(Tensor(x), Tensor(weight), Tensor(np.ones(len(weight), np.float32)), groups=groups,
                        algorithm=algorithm)
        made = fake.counts() - before
        assert {"wait", "copy", "free and wait"}.isdisjoint(made), made
        assert made["alloc"] == made["free"]
        # A layout that no plan is ready for: the table is made by a kernel of the same call.
        wide = np.repeat(np.repeat(x, 2, axis=3), 2, axis=1)[:, ::2, :, ::2]
        before = fake.counts()
        plan(Tensor(wide), out=out)
        assert {"wait", "copy", "free and wait"}.isdisjoint(fake.calls - before)
    assert {stream for stream, _, _ in fake.launches} == {4096}


def test_a_plan_waits_once_and_a_call_never(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_on(4096))
    plan = fastconv.plan_conv2d(X.shape, WEIGHT, device="cuda", algorithm="naive")
    assert fake.calls["wait"] == 1
    before = fake.counts()
    for stream in (4096, 8192):
        sys.modules["torch"].cuda.current_stream = lambda device, stream=stream: SimpleNamespace(cuda_stream=stream)
        plan(Tensor(X))
    assert [stream for stream, _, _ in fake.launches] == [4096, 8192]
    assert {label: fake.calls[label] - before[label] for label in ("wait", "copy", "alloc")} == dict.fromkeys(
        ("wait", "copy", "alloc"), 0)
    plan(Tensor(X, device=1))  # packed there first
    assert fake.calls["wait"] == 2
    del plan
    assert fake.counts()["free and wait"] == 4
    assert not fake.memory
    given = fastconv.plan_conv2d(X.shape, Tensor(WEIGHT), algorithm="naive")
    with pytest.raises(ValueError, match="x is on GPU 1, but the plan's weight is on GPU 0"):
        given(Tensor(X, device=1))
    with pytest.raises(ValueError, match="weight is on GPU 1, x on GPU 0"):
        fastconv.conv2d(Tensor(X), Tensor(WEIGHT, device=1))


def test_a_plan_that_travels_fetches_its_weights_once(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the GPU that they are on; they are what was given, and the copy is packed on the first GPU."""
    monkeypatch.setitem(sys.modules, "torch", torch_on(4096))
    not_compiled(monkeypatch)
    plan = fastconv.plan_conv2d(X.shape, Tensor(WEIGHT, device=1), algorithm="naive")
    before = fake.counts()
    sent = pickle.dumps(plan)
    assert (fake.calls - before)["copy"] == 2  # weight, bias
    assert (fake.calls - before)["wait"] == 2
    assert not (fake.calls - before)["alloc"]
    again = pickle.loads(sent)
    again(Tensor(X))
    again(Tensor(X, device=1))
    assert [weight.shape for weight in again._given() if weight is not None] == [WEIGHT.shape, (4,)]
    before = fake.counts()
    pickle.dumps(again)  # NumPy's
    assert fake.counts() == before


#: shape of x, plan, weight, options: one launch, several, with scratch memory, with parts of x and of the result.
PLANS: list[tuple[tuple[int, ...], Any, tuple[int, ...], dict[str, Any]]] = [
    *(((2, 8, 8, 6), fastconv.plan_conv2d, (8, 8, 3, 3), {"padding": 1, "algorithm": algorithm})
      for algorithm in ("naive", "im2col", "implicit_gemm", "winograd")),
    ((1, 600, 4, 4), fastconv.plan_conv2d, (8, 600, 1, 1), {"algorithm": "pointwise"}),
    ((2, 3, 6, 5), fastconv.plan_conv_transpose2d, (3, 4, 3, 2), {"stride": 2, "padding": 1}),
    ((2, 4, 5, 6, 7), fastconv.plan_conv3d, (4, 4, 3, 2, 2), {"padding": 1, "algorithm": "implicit_gemm"}),
]


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(("shape", "make", "weight", "options"), PLANS)
def test_a_plan_repeats_its_launches(
    fake: Driver, monkeypatch: pytest.MonkeyPatch, shape: Any, make: Any, weight: Any, options: dict[str, Any],
    last: bool,
) -> None:
    """What is written down at the first call is, with other addresses, what the algorithm launches each time."""
    monkeypatch.setitem(sys.modules, "torch", torch_on(4096))
    monkeypatch.setattr(machine, "missing", lambda: "nothing to ask")
    not_compiled(monkeypatch)
    plan = make(shape, Tensor(np.ones(weight, np.float32)), **options)

    def array(sizes: tuple[int, ...]) -> np.ndarray:
        n, c, *rest = sizes
        flat = np.zeros(n * c * int(np.prod(rest)) + 64, np.float32)
        flat = flat[-flat.ctypes.data % 256 // 4 :][: n * c * int(np.prod(rest))]
        return np.moveaxis(flat.reshape(n, *rest, c), -1, 1) if last else flat.reshape(sizes)

    def made() -> list[tuple]:
        """A call's launches; addresses as offsets in the input, the output, and what is taken, in order."""
        x, out, log = array(shape), array(plan.output_shape), []
        taken: list[tuple[str, int, int]] = [(label, given.ctypes.data, given.nbytes)
                                             for label, given in (("x", x), ("out", out))]

        def alloc(size: int, stream: Any) -> tuple[Any, int]:
            status, address = fake.alloc(size, stream)
            taken.append((f"memory {len(taken)}", address, size))
            return status, address

        def told(value: Any) -> Any:
            for label, start, size in reversed(taken):
                if isinstance(value, int) and start <= value < start + size:
                    return label, value - start
            return getattr(value, "value", value)

        monkeypatch.setattr(driver, "cuMemAllocAsync", alloc)
        monkeypatch.setattr(streams, "_launch", lambda: lambda stream, config, kernel, *arguments: log.append(
            (kernel.entry, config.grid, config.block, config.shmem_size, *map(told, arguments))))
        plan(Tensor(x), out=Tensor(out))
        return log

    plan._keep = False
    direct = made()
    assert {"x", "out"} <= {value[0] for launch in direct for value in launch if isinstance(value, tuple) and value}
    plan._keep = True
    assert made() == direct
    assert len(plan._programs) == 1 + last  # in C order, everything was there when it was planned
    before = fake.counts()
    assert made() == direct
    assert len(plan._programs) == 1 + last
    calls = fake.counts() - before
    assert calls["alloc"] == calls["free"]


def test_a_plan_forgets_layouts_when_they_are_many(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_on(4096))
    monkeypatch.setattr(plans, "MOST_LAYOUTS", 2)
    not_compiled(monkeypatch)
    plan = fastconv.plan_conv2d(X.shape, Tensor(WEIGHT), algorithm="naive")
    for step in range(1, 6):
        plan(Tensor(np.repeat(X, step, axis=3)[..., ::step]))
        assert len(plan._programs) <= 2
    assert [name for _, name, _ in fake.launches].count("naive_loops") == 5


def test_a_launch_leaves_others_their_shared_memory(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that was allowed much may be launched with less, and then with much again."""
    allowed = []
    monkeypatch.setattr(driver, "cuKernelSetAttribute", lambda attribute, size, *_: allowed.append(size) or (0,))
    kernel = kernels.Kernel(lambda: None, (), ("", ""))
    monkeypatch.setattr(kernel, "cubin", lambda capability: (b"\x7fELF", "entry"))
    fake.parameters = 0  # type: ignore[attr-defined]
    for shared in (1 << 10, 100 << 10, 60 << 10, 100 << 10, 120 << 10):
        kernel.loaded(SimpleNamespace(device_id=0, compute_capability=(9, 0)), shared)
    assert allowed == [100 << 10, 120 << 10]


def test_the_stream_of_an_interface(fake: Driver) -> None:
    out = Interface(np.empty((2, 3, 3, 2), np.float32))
    fastconv.max_pool2d(Interface(X, stream=555), 2, out=out)
    fastconv.max_pool2d(Interface(X), 2, out=out)
    assert [stream for stream, _, _ in fake.launches] == [555, 1]


def test_numpy_callers_copies_overlap_kernels(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "missing", lambda: "nothing to ask")
    monkeypatch.setattr(host_slices, "SLICE_BYTES", 1)
    x = np.ones((5, *X.shape[1:]), np.float32)
    result = fastconv.conv2d(x, WEIGHT, device="cuda", algorithm="naive")
    assert result.shape == (5, 4, 4, 3)
    streams = [stream for stream, _, _ in fake.launches]
    assert len(streams) == 5
    assert streams[0] == streams[2] == streams[4] != streams[1] == streams[3]
    assert fake.counts()["copy"] == 1 + 2 * 5  # the weights, and each slice to the device and back
    assert fake.calls["wait on the device"] == 1
    assert not fake.memory


def test_gradients_neither_wait_nor_copy(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_on(4096))
    monkeypatch.setattr(machine, "missing", lambda: "nothing to ask")
    not_compiled(monkeypatch)
    x, signal = (Tensor(np.ones(shape, np.float32)) for shape in ((2, 4, 6, 5), (2, 8, 5, 4)))
    pooled = Tensor(np.ones((2, 4, 5, 4), np.float32))
    for algorithm in gpu.algorithms("conv2d_weight"):
        result = grad.conv2d_weight(x, (8, 4, 2, 2), signal, algorithm=algorithm)
        assert type(result) is Tensor
        assert result.shape == (8, 4, 2, 2)
    assert grad.conv2d_input(x.shape, Tensor(np.ones((8, 4, 2, 2), np.float32)), signal).shape == x.shape
    for call in (grad.max_pool2d, grad.avg_pool2d):
        assert call(x, pooled, 2, 1).shape == x.shape
    weight = Tensor(np.ones((4, 3, 2, 2), np.float32))
    assert fastconv.conv_transpose2d(x, weight, stride=3).shape == (2, 3, 17, 14)  # with elements that no tap reaches
    assert {"wait", "copy", "free and wait"}.isdisjoint(fake.calls), fake.calls
    assert fake.counts()["free"] == fake.calls["alloc"]
    assert not fake.memory
    assert {stream for stream, _, _ in fake.launches} == {4096}


def test_moves_neither_wait_nor_copy(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_on(4096))
    monkeypatch.setattr(machine, "missing", lambda: "nothing to ask")
    not_compiled(monkeypatch)
    x, places = Tensor(np.ones((2, 4, 6, 5), np.float32)), Tensor(np.zeros((2, 4, 6, 5), np.int64))
    assert fastconv.adaptive_avg_pool2d(x, 4).shape == (2, 4, 4, 4)
    assert fastconv.adaptive_max_pool2d(x, (3, None)).shape == (2, 4, 3, 5)
    assert fastconv.max_unpool2d(x, places, 2).shape == (2, 4, 12, 10)
    columns = fastconv.unfold2d(x, 2)
    assert columns.shape == (2, 16, 20)
    assert fastconv.fold2d(columns, (6, 5), 2).shape == x.shape
    assert {"wait", "copy", "free and wait"}.isdisjoint(fake.calls), fake.calls
    assert fake.counts()["free"] == fake.calls["alloc"]
    assert not fake.memory
    assert {stream for stream, _, _ in fake.launches} == {4096}


def test_filters_of_images_wait_for_nothing(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a call copies is its window. Kernels take what they are launched with, bytes as floats."""
    monkeypatch.setitem(sys.modules, "torch", torch_on(4096))
    x = Tensor(np.ones((2, 9, 8), np.uint8))
    calls = {
        "line_filter line_filter": lambda x: ndimage.gaussian_filter(x, 0.7, axes=(1, 2)),
        "running_filter": lambda x: ndimage.uniform_filter1d(x, 5),
        "running_filter running_filter": lambda x: ndimage.maximum_filter(x, (1, 3, 2)),
        "dense_filter": lambda x: ndimage.correlate(x, np.eye(3), axes=(0, 2)),
        "line_filter line_filter combine": lambda x: ndimage.generic_gradient_magnitude(x, derivative, axes=(0, 1)),
    }
    for names, call in calls.items():
        before, launched = fake.counts(), len(fake.launches)
        result = call(x)
        assert isinstance(result, Tensor)
        assert result.dtype == x.dtype
        made, found = fake.counts() - before, fake.launches[launched:]
        assert {"wait", "free and wait"}.isdisjoint(made), made
        assert made["alloc"] == made["free"]
        assert made["copy"] == names.count("line_filter") + 3 * names.count("dense")
        assert all(f"{one}B" in name for one, (_, name, _) in zip(names.split(), found, strict=True))  # mangled
    assert {stream for stream, _, _ in fake.launches} == {4096}
    assert not fake.memory


def derivative(x: Any, axis: int, output: Any, mode: str, cval: float) -> Any:
    return ndimage.correlate1d(x, [-1, 0, 1], axis, output, mode, cval)
