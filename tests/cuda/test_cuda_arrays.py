"""Arrays that are on a GPU already: used in place, results of the caller's kind, on the caller's stream, errors that
say why.
"""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import numpy as np
import pytest
import reference
from cases import values
from libraries import FakeTensor, Library, bfloat16, fake_torch, from_bfloat16
from reference import assert_close
from small import SIMULATED
from test_cuda_conv import unsupported

import fastconv
from fastconv import grad
from fastconv.cuda.system.arrays import SimulatedArray
from fastconv.specs.dtypes import BFLOAT16

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")]



def test_arrays_in_place_and_results_of_their_kind(library: Library) -> None:
    x, weight, bias = values((2, 2, 4, 5), "float32"), values((3, 2, 3, 2), "float32", 1), values((3,), "float32", 2)
    expected, scale = reference.conv2d(x, weight, bias, padding=1)
    for given in ((library.put(weight), library.put(bias)), (weight, bias)):  # also from NumPy
        result = fastconv.conv2d(library.put(x), *given, padding=1)
        assert isinstance(result, library.kind)
        assert_close(library.get(result), expected, scale)
    out = library.put(np.empty_like(expected, dtype=np.float32))
    assert fastconv.conv2d(library.put(x), library.put(weight), bias, padding=1, out=out) is out
    assert_close(library.get(out), expected, scale)
    best, at = fastconv.max_pool2d(library.put(x), 2, return_indices=True)
    values_expected, found = reference.max_pool2d(x, 2)
    np.testing.assert_array_equal(library.get(best), values_expected)
    np.testing.assert_array_equal(library.get(at), found)
    image = fastconv.corr2d(library.put(x[0, 0].copy()), weight[0, 0], 1.0)
    plain, scale = reference.conv2d(x[:1, :1], weight[:1, :1])
    assert_close(np.asarray(library.get(image)), plain[0, 0] + 1, scale)


@pytest.mark.parametrize("batched", [True, False])
def test_signals(library: Library, batched: bool) -> None:
    """Images of height 1, in place, with results of one axis; from NumPy, too."""
    x, weight, bias = values((2, 4, 11), "float32"), values((6, 2, 3), "float32", 1), values((6,), "float32", 2)
    x = x if batched else x[0]
    options: dict[str, Any] = {"stride": 2, "dilation": 2, "groups": 2}
    image = (x if batched else x[None])[:, :, None]
    expected, scale = reference.conv2d(image, weight[:, :, None], bias, **options | {"padding": (0, 3)})
    shape = (*x.shape[:-2], 6, expected.shape[-1])
    for put, get in ((library.put, library.get), (np.asarray, np.asarray)):
        device = None if put is library.put else "cuda"
        result = fastconv.conv1d(put(x), put(weight), put(bias), padding=3, device=device, **options)
        assert_close(np.asarray(get(result)), expected.reshape(shape), scale)
        plan = fastconv.plan_conv1d(x.shape, put(weight), put(bias), padding=3, device=device, **options)
        assert_close(np.asarray(get(plan(put(x)))), expected.reshape(shape), scale)
        best, at = fastconv.max_pool1d(put(x), 3, 2, 1, return_indices=True, device=device)
        wanted, found = reference.max_pool2d(image, (1, 3), (1, 2), (0, 1))
        np.testing.assert_array_equal(get(best), wanted.reshape(get(best).shape))
        np.testing.assert_array_equal(get(at), found.reshape(get(at).shape))
        mean = get(fastconv.avg_pool1d(put(x), 11, device=device))
        assert_close(np.asarray(mean), np.mean(x.astype(float), axis=-1, keepdims=True), 1)
    assert fastconv.algorithms("conv3d", "cuda") == fastconv.algorithms("conv2d", "cuda")


def test_plans(library: Library) -> None:
    x, weight = values((2, 2, 4, 5), "float32"), values((3, 2, 3, 2), "float32", 1)
    expected, scale = reference.conv2d(x, weight)
    given = library.put(weight.copy())
    plan = fastconv.plan_conv2d(x.shape, given)
    assert plan.algorithm in fastconv.algorithms("conv2d", "cuda")
    if SIMULATED:
        library.get(given)[...] = 0  # the plan has a copy
    assert_close(library.get(plan(library.put(x))), expected, scale)
    with pytest.raises(TypeError, match="x is a NumPy array, but weight"):
        plan(x)
    host = fastconv.plan_conv2d(x.shape, weight, device="cuda")
    assert_close(library.get(host(library.put(x))), expected, scale)
    assert_close(host(x), expected, scale)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda plan: pickle.loads(pickle.dumps(plan))],
                         ids=["copy", "deepcopy", "pickle"])  # fmt: skip
def test_plans_are_copied_and_pickled(library: Library, way: Any) -> None:
    """Those of weights on the GPU, too, whose copies have weights of NumPy."""
    weight, bias = values((4, 4, 2, 3), "float32", 1), values((4,), "float32", 2)
    for make, shape, kernels, options in (
        (fastconv.plan_conv2d, (2, 4, 4, 5), weight, {"activation": "relu", "algorithm": "im2col"}),
        (fastconv.plan_conv1d, (4, 7), weight[:, :, 0], {"padding": 1}),
        (fastconv.plan_conv3d, (1, 4, 3, 4, 3), weight[:, :, None], {}),
        (fastconv.plan_conv_transpose2d, (2, 4, 3, 4), weight, {"stride": 2}),
    ):
        x = values(shape, "float32")
        for given, offset in ((library.put(kernels.copy()), library.put(bias.copy())), (library.put(kernels), None),
                              (kernels, library.put(bias)), (kernels, bias), (kernels, None)):  # fmt: skip
            plan = make(shape, given, offset, device="cuda", **options)
            again = way(plan)
            assert (again.problem, again.algorithm) == (plan.problem, plan.algorithm)
            expected = library.get(plan(library.put(x)))
            np.testing.assert_array_equal(library.get(again(library.put(x))), expected)
            np.testing.assert_array_equal(again(x), expected)
            np.testing.assert_array_equal(way(again)(x), expected)


@pytest.mark.parametrize("algorithm", fastconv.algorithms("conv2d", "cuda"))
def test_any_strides(library: Library, algorithm: str) -> None:
    """Channels last, and views with gaps, are read where they lie."""
    x, weight = values((2, 3, 4, 5), "float32"), values((3, 3, 1, 1), "float32", 1)
    if algorithm in ("depthwise", "winograd"):
        weight, options = values((3, 1, 3, 3), "float32", 1), {"groups": 3}
        if algorithm == "winograd":
            weight, options = values((3, 3, 3, 3), "float32", 1), {}
    else:
        options = {}
    expected, scale = reference.conv2d(x, weight, **options)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    gaps = np.repeat(np.repeat(x, 2, axis=3), 2, axis=1)[:, ::2, :, ::2]
    backwards = x[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1]
    for given in (last, gaps, *([backwards] if SIMULATED or library.name == "cupy" else [])):
        if not SIMULATED:
            base = library.put(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
            given = base.permute(0, 3, 1, 2) if library.name == "torch" else base.transpose(0, 3, 1, 2)
        else:
            given = library.put(given)
        result = fastconv.conv2d(given, library.put(weight), algorithm=algorithm, **options)
        assert_close(np.asarray(library.get(result)), expected, scale)
    if library.name == "torch":
        out = fastconv.conv2d(FakeTensor(last), weight, **options) if SIMULATED else result
        assert out.stride()[1] == 1, "channels last in, channels last out"


@pytest.mark.parametrize(("x", "weight", "options"), [
    ((2, 3, 9, 5), (6, 1, 3, 3), {"padding": 1, "activation": "relu"}),
    ((1, 5, 10, 9), (5, 1, 9, 2), {"padding": ((4, 3), (0, 1)), "stride": (1, 2)}),  # a chunk of rows and a rest
    ((1, 2, 11, 8), (2, 1, 3, 3), {"padding": 2, "stride": (2, 1), "dilation": 2}),
], ids=["multiplier", "chunks", "dilation"])
def test_depthwise_of_channels_last(library: Library, x: Any, weight: Any, options: dict[str, Any]) -> None:
    for dtype in ("float32", "float16"):
        image, kernels, bias = values(x, dtype), values(weight, dtype, 1), values(weight[:1], dtype, 2)
        call = options | {"groups": x[1], "algorithm": "depthwise"}
        given = library.images(image, True), library.put(kernels), library.put(bias)
        result = fastconv.conv2d(*given, **call)
        linear = {name: value for name, value in call.items() if name not in ("activation", "algorithm")}
        expected, scale = reference.conv2d(image, kernels, bias, **linear)
        assert_close(np.asarray(library.get(result)), np.maximum(expected, 0) if "activation" in call else expected,
                     scale)


@pytest.mark.skipif(not SIMULATED, reason="views of NumPy's memory, in which a GPU finds nothing")
@pytest.mark.parametrize(("dtype", "kernel"), [("float32", 3), ("float32", 1), ("float16", 1), ("int8", 2)])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_addresses_that_are_no_multiples_of_16(dtype: str, kernel: int, last: bool) -> None:
    """Of x and out, at which a load of 128 bits would stop: the simulator looks, too."""
    weight = values((16, 16, kernel, kernel), dtype, 1)
    row = values((1 + 16 * 4 * 6,), dtype)
    shape, order = ((1, 4, 6, 16), (0, 3, 1, 2)) if last else ((1, 16, 4, 6), (0, 1, 2, 3))
    x = row[1:].reshape(shape).transpose(order)
    expected, scale = reference.conv2d(x, weight)
    for start in (0, 1):
        out = np.empty(expected.size + 4, reference.conv_dtype(x, weight))
        begin = -out.ctypes.data // out.itemsize % 4 + start
        out = out[begin : begin + expected.size].reshape(expected.shape)
        fastconv.conv2d(SimulatedArray(x), SimulatedArray(weight), out=SimulatedArray(out), algorithm="implicit_gemm")
        assert_close(out, expected, scale)


def test_negative_padding_cuts_pixels_off(library: Library) -> None:
    x, weight, padding = values((2, 3, 6, 7), "float32"), values((4, 3, 2, 3), "float32", 1), ((-1, 2), (1, -2))
    part, rest = x[:, :, 1:, :-2], ((0, 2), (1, 0))
    for device, put, get in ((None, library.put, library.get), ("cuda", np.array, np.array)):
        given, kernel = put(x), put(weight)
        expected, scale = reference.conv2d(part, weight, padding=rest)
        assert_close(get(fastconv.conv2d(given, kernel, padding=padding, device=device)), expected, scale)
        plan = fastconv.plan_conv2d(x.shape, kernel, padding=padding, device=device)
        assert_close(get(plan(given)), expected, scale)
        best = fastconv.max_pool2d(given, 3, 2, padding, device=device)
        np.testing.assert_array_equal(get(best), reference.max_pool2d(part, 3, 2, rest)[0])
        mean = fastconv.avg_pool2d(given, 3, 2, padding, device=device)
        assert_close(get(mean), *reference.avg_pool2d(part, 3, 2, rest))
        signal = put(np.ones_like(expected))
        for_weight = grad.conv2d_weight(given, weight.shape, signal, padding=padding, device=device)
        exact = reference.conv2d_gradients(part, weight.shape, weight, np.ones_like(expected), padding=rest)[1]
        np.testing.assert_allclose(get(for_weight), exact, atol=1e-5)
    with pytest.raises(ValueError, match="return_indices with negative padding is for NumPy arrays"):
        fastconv.max_pool2d(library.put(x), 3, 2, padding, return_indices=True)
    with pytest.raises(ValueError, match="gradients with negative padding are of NumPy arrays"):
        grad.avg_pool2d(library.put(x), library.put(x[:, :, :3, :2]), 3, 2, padding)


@pytest.mark.parametrize("algorithm", fastconv.algorithms("max_pool2d", "cuda"))
def test_pooling_of_channels_last(algorithm: str) -> None:
    x = values((2, 5, 4, 5), "float32")
    last = SimulatedArray(np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))
    if not SIMULATED:
        from numba import cuda

        last = cuda.to_device(np.ascontiguousarray(x.transpose(0, 2, 3, 1))).transpose((0, 3, 1, 2))
    best, at = fastconv.max_pool2d(last, (2, 3), 2, 1, return_indices=True, algorithm=algorithm)
    mean = fastconv.avg_pool2d(last, (2, 3), 2, 1, algorithm=algorithm)
    expected, found = reference.max_pool2d(x, (2, 3), 2, 1)
    np.testing.assert_array_equal(best.copy_to_host(), expected)
    np.testing.assert_array_equal(at.copy_to_host(), found)
    assert_close(mean.copy_to_host(), *reference.avg_pool2d(x, (2, 3), 2, 1))


@pytest.mark.skipif(not SIMULATED, reason="on a GPU, PyTorch's own bfloat16 is tried below")
def test_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    x, weight = values((2, 2, 4, 5), "float32"), values((2, 2, 2, 2), "float32", 1)
    given = FakeTensor(bfloat16(x), "bfloat16"), FakeTensor(bfloat16(weight), "bfloat16")
    expected, _ = reference.conv2d(from_bfloat16(bfloat16(x)), from_bfloat16(bfloat16(weight)))
    for algorithm in fastconv.algorithms("conv2d", "cuda"):
        if unsupported(algorithm, [np.empty(x.shape, BFLOAT16), np.empty(weight.shape, BFLOAT16)]):
            continue
        result = fastconv.conv2d(*given, algorithm=algorithm)
        assert result.dtype == "torch.bfloat16"
        got = from_bfloat16(result.array)
        plan = fastconv.plan_conv2d(x.shape, given[1], algorithm=algorithm)
        again = pickle.loads(pickle.dumps(plan))
        np.testing.assert_array_equal(again(given[0]).array, plan(given[0]).array)
        assert np.abs(got - expected).max() <= 2.0**-8 * np.abs(expected).max()
    best = fastconv.max_pool2d(given[0], 2)
    np.testing.assert_array_equal(best.array, bfloat16(reference.max_pool2d(from_bfloat16(given[0].array), 2)[0]))
    mean = from_bfloat16(fastconv.avg_pool2d(given[0], 2).array)
    assert np.abs(mean - reference.avg_pool2d(from_bfloat16(given[0].array), 2)[0]).max() < 2.0**-8
    with pytest.raises(TypeError, match="bfloat16 operands mix with none"):
        fastconv.conv2d(given[0], weight)
    # The two bytes of another library, under its interface.
    raw = SimulatedArray(bfloat16(x).view("V2"))
    assert fastconv.max_pool2d(raw, 2).array.view(np.uint16).tolist() == best.array.tolist()


def test_streams_and_graphs() -> None:
    if SIMULATED:
        return  # which has neither
    torch = pytest.importorskip("torch")
    x, weight = torch.randn(4, 8, 16, 16, device="cuda"), torch.randn(8, 8, 3, 3, device="cuda")
    expected = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1).float()
    plan = fastconv.plan_conv2d(tuple(x.shape), weight, padding=1)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # what runs later sees what this stream did before
        doubled = plan(x * 2)
    stream.synchronize()
    torch.testing.assert_close(doubled, 2 * expected, rtol=1e-4, atol=1e-4)
    out = torch.empty_like(expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        plan(x, out=out)
    x.copy_(x * 3)
    graph.replay()
    torch.testing.assert_close(out, 3 * expected, rtol=1e-4, atol=1e-4)
    halves = plan.spec and fastconv.conv2d(x.bfloat16(), weight.bfloat16(), padding=1)
    assert halves.dtype is torch.bfloat16
    torch.testing.assert_close(halves.float(), 3 * expected, rtol=2e-2, atol=2e-1)


@pytest.mark.skipif(not SIMULATED, reason="PyTorch makes no such tensor, but DLPack may")
def test_memory_that_begins_between_two_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    x = np.zeros((1, 1, 4, 4), np.float32)
    apart = np.frombuffer(bytearray(4 * 16 + 4), np.uint8)[2:-2].view(np.float32).reshape(1, 1, 4, 4)
    fastconv.max_pool2d(FakeTensor(x), 2)
    for wrong in (FakeTensor(apart), SimulatedArray(apart)):
        with pytest.raises(ValueError, match="x is not aligned to its 4 bytes"):
            fastconv.max_pool2d(wrong, 2)


def test_the_interface_is_believed_and_doubted() -> None:
    x, weight = values((1, 1, 4, 4), "float32"), values((1, 1, 2, 2), "float32", 1)
    put = SimulatedArray
    if not SIMULATED:
        from numba import cuda as put
        put = put.to_device
    on_gpu = put(x)
    with pytest.raises(TypeError, match="x is on a GPU, but device='cpu'"):
        fastconv.conv2d(on_gpu, weight, device="cpu")
    with pytest.raises(TypeError, match="weight is on a GPU"):
        fastconv.conv2d(x, put(weight))
    with pytest.raises(TypeError, match="x is a NumPy array, but weight or bias is on a GPU"):
        fastconv.conv2d(x, put(weight), device="cuda")
    with pytest.raises(TypeError, match="out is a NumPy array, but x is on a GPU"):
        fastconv.conv2d(on_gpu, weight, out=np.empty((1, 1, 3, 3), np.float32))
    with pytest.raises(ValueError, match="out shares memory"):
        fastconv.max_pool2d(on_gpu, 1, out=on_gpu)
    with pytest.raises(ValueError, match="out has dtype"):
        fastconv.max_pool2d(on_gpu, 1, out=put(x.astype(np.float64)))
    with pytest.raises(TypeError, match="complex64"):
        fastconv.max_pool2d(put(x.astype(np.complex64)), 1)
    if SIMULATED:
        folded = np.lib.stride_tricks.as_strided(x.copy(), (1, 1, 4, 4), (0, 0, 4, 4))
        with pytest.raises(ValueError, match="share memory with each other"):
            fastconv.max_pool2d(on_gpu, 1, out=put(folded))
        with pytest.raises(TypeError, match="native byte order"):
            fastconv.max_pool2d(put(x.astype(">f4")), 1)
    empty = fastconv.conv2d(put(np.empty((0, 1, 4, 4), np.float32)), weight)
    assert empty.copy_to_host().shape == (0, 1, 3, 3)


@pytest.mark.skipif(not SIMULATED, reason="a fake of torch")
def test_gradients_are_not_lost_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    x = FakeTensor(np.ones((1, 1, 3, 3), np.float32), grad=True)
    with pytest.raises(TypeError, match="x requires a gradient"):
        fastconv.max_pool2d(x, 2)


def test_dtypes_convert_on_the_device() -> None:
    put = SimulatedArray
    if not SIMULATED:
        from numba import cuda as put
        put = put.to_device
    x, weight = values((2, 2, 4, 5), "float16"), values((3, 2, 3, 2), "float32", 1)
    expected, scale = reference.conv2d(x, weight)
    assert_close(fastconv.conv2d(put(x), put(weight)).copy_to_host(), expected, scale)
    plan = fastconv.plan_conv2d((2, 2, 4, 5), put(weight))
    assert_close(plan(put(x)).copy_to_host(), expected, scale)
    with pytest.raises(TypeError, match="plan is for"):
        plan(put(x.astype(np.float64)))
