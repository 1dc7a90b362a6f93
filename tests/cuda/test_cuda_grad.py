"""Gradients on the GPU against the oracle."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import reference
from cases import Conv, Pool, values
from libraries import FakeTensor, Library, bfloat16, fake_torch, from_bfloat16
from reference import assert_close
from small import CONV, POOL, SIMULATED

import fastconv
from fastconv import grad
from fastconv.cuda import planner as gpu
from fastconv.cuda.algorithms import weight_implicit_gemm, weight_pixels
from fastconv.cuda.machine import Machine
from fastconv.cuda.system import host_slices
from fastconv.cuda.system.arrays import SimulatedArray
from fastconv.planner import choose
from fastconv.specs.conv import conv_spec
from fastconv.specs.pool import pool_spec

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")]

if SIMULATED:
    put: Any = SimulatedArray
else:
    from numba import cuda

    put = cuda.to_device

ALGORITHMS = fastconv.algorithms("conv2d_weight", "cuda")
DTYPES = ("float16", "float64", "int8", "int16")
PROBLEMS = [pytest.param(case, dtype, id=f"{case.name}-{dtype}")
            for case in CONV for dtype in ("float32", *(DTYPES if case.plain else ()))]


def problem(case: Conv, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """x, weight, the gradient of the output, and the options."""
    x, weight = case.arrays(dtype)[:2]
    options = {name: value for name, value in case.options.items() if name != "activation"}
    return x, weight, values(conv_spec(x.shape, weight.shape, (x.dtype,), **options).output_shape, dtype, 3), options


def expected(x: np.ndarray, weight: np.ndarray, signal: np.ndarray, options: dict) -> list[tuple[np.ndarray, float]]:
    """Both gradients and their scales."""
    batch = (None,) if x.ndim == 3 else ()
    arrays = [np.asarray(array, np.float64) for array in (x[batch], weight, signal[batch])]
    pairs = []
    for given in (arrays, [np.abs(array) for array in arrays]):
        for_input, for_weight = reference.conv2d_gradients(given[0], weight.shape, *given[1:], **options)
        pairs.append((for_input.reshape(x.shape), for_weight))
    return [(result, scale.max(initial=0)) for result, scale in zip(*pairs, strict=True)]


def typed(result: np.ndarray, dtype: str) -> np.ndarray:
    """What the oracle has in float64, in the dtype of integers' sums."""
    kind = np.dtype(dtype)
    return result if kind.kind == "f" else result.astype(np.int32 if kind.itemsize == 1 else np.int64)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("case", "dtype"), PROBLEMS)
def test_weight(case: Conv, dtype: str, algorithm: str) -> None:
    x, weight, signal, options = problem(case, dtype)
    (module,) = (module for module in gpu.table("conv2d_weight") if choose.name(module) == algorithm)
    call = {**options, "device": "cuda", "algorithm": algorithm}
    if module.supports(conv_spec(x.shape, weight.shape, (x.dtype,), **options)) is not None:
        with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
            grad.conv2d_weight(x, weight.shape, signal, **call)
        return
    result = grad.conv2d_weight(x, weight.shape, signal, **call)
    exact, scale = expected(x, weight, signal, options)[1]
    assert_close(result, typed(exact, dtype), scale)


@pytest.mark.parametrize(("case", "dtype"), PROBLEMS)
def test_input(case: Conv, dtype: str) -> None:
    x, weight, signal, options = problem(case, dtype)
    exact, scale = expected(x, weight, signal, options)[0]
    for algorithm in ("auto", "naive"):
        result = grad.conv2d_input(x.shape, weight, signal, **options, device="cuda", algorithm=algorithm)
        assert_close(result, typed(exact, dtype), scale)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_tap_that_does_not_see_it_is_spoiled(algorithm: str) -> None:
    x, signal = values((1, 2, 5, 6), "float32"), values((1, 2, 3, 3), "float32", 1)
    options = {"stride": 2, "padding": 1, "groups": 2, "device": "cuda"}
    x[0, 1, 0, 5] = np.nan
    result = grad.conv2d_weight(x, (2, 1, 3, 3), signal, **options, algorithm=algorithm)
    sees = np.zeros(x.shape, np.float32)
    sees[0, 1, 0, 5] = 1
    seen = grad.conv2d_weight(sees, (2, 1, 3, 3), np.ones_like(signal), **options, algorithm="naive") != 0
    assert seen.any()
    np.testing.assert_array_equal(np.isnan(result), seen)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weight_in_slices(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch of NumPy's is cut into is added up."""
    x, signal = values((5, 2, 4, 5), "float32"), values((5, 3, 3, 4), "float32", 1)
    monkeypatch.setattr(host_slices, "SLICE_BYTES", 2 * 4 * (x[0].size + signal[0].size))
    out = np.empty((3, 2, 2, 2), np.float32)
    assert grad.conv2d_weight(x, out.shape, signal, device="cuda", algorithm=algorithm, out=out) is out
    assert_close(out, *expected(x, out, signal, {})[1])


@pytest.mark.parametrize(("tile", "parts"), [(0, 1), (0, 3), (1, 1), (1, 5)])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_every_tile_and_parts_of_sums(tile: int, parts: int, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles that are not full, and parts of which the last one is shorter, on either order of memory."""
    if not SIMULATED:
        tile += 1
    library = Library("numba", put, lambda x: x.copy_to_host(), object)
    x, signal = values((2, 6, 5, 6), "float32"), values((2, 20, 4, 5), "float32", 1)
    best = weight_implicit_gemm._best

    def cut(spec: Any, machine: Any) -> tuple[Any, float]:
        chosen = weight_implicit_gemm._tiles(spec)[tile % len(weight_implicit_gemm._tiles(spec))]
        slabs = -(-spec.n * spec.oh * spec.ow // chosen.k)
        share = -(-slabs // parts)
        return weight_implicit_gemm.Cut(chosen, -(-slabs // share), share), 0.0

    monkeypatch.setattr(weight_implicit_gemm, "_best", cut)
    for groups in (1, 2):
        given = library.images(x, last), library.images(signal, last)
        call = {"groups": groups, "algorithm": "implicit_gemm"}
        result = grad.conv2d_weight(given[0], (20, 6 // groups, 2, 2), given[1], **call)
        got = library.get(result)
        assert_close(got, *expected(x, got, signal, {"groups": groups})[1])
    found = conv_spec((32, 64, 56, 56), (64, 64, 3, 3), [x.dtype], padding=1)
    assert best(found, Machine())[0].parts > 1
    depthwise = conv_spec((32, 64, 56, 56), (64, 1, 3, 3), [x.dtype], padding=1, groups=64)
    assert weight_pixels._cut(depthwise, last)[1] > 1


def test_input_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, signal = values((3, 2, 3, 2), "float32"), values((5, 3, 2, 3), "float32", 1)
    monkeypatch.setattr(host_slices, "SLICE_BYTES", 2 * 4 * (2 * 5 * 6 + signal[0].size))
    out = np.empty((5, 2, 5, 6), np.float32)
    assert grad.conv2d_input(out.shape, weight, signal, 2, device="cuda", out=out) is out
    assert_close(out, *expected(out, weight, signal, {"stride": 2})[0])


def gradient_of(op: str, x: Any, signal: Any, case: Pool, **options: Any) -> Any:
    return getattr(grad, f"{op}_pool2d")(x, signal, case.kernel, **case.options, **options)


POOLINGS = [("max", {}), ("min", {}), ("avg", {}), ("avg", {"count_include_pad": False}),
            ("avg", {"divisor_override": 3})]  # fmt: skip


@pytest.mark.parametrize("case", POOL, ids=lambda case: case.name)
@pytest.mark.parametrize(("op", "options"), POOLINGS, ids=lambda part: str(part))
def test_pooling(op: str, options: dict[str, Any], case: Pool) -> None:
    for dtype in ("float32", "float16", "float64") if case.plain else ("float32",):
        x = case.array(dtype)
        shape = pool_spec("max", x.shape, x.dtype, case.kernel, **case.options).output_shape
        signal = values(shape, dtype, 1)
        exact = reference.pool2d_gradient(x, signal, case.kernel, **case.options, **options, op=op)
        result = gradient_of(op, x, signal, case, **options, device="cuda")
        assert result.dtype == x.dtype
        assert_close(result, exact, np.abs(signal).max(initial=0) * 4)


@pytest.mark.parametrize("op", ["max", "avg"])
def test_poolings_of_other_dtypes_and_in_slices(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_slices, "SLICE_BYTES", 400)
    case = Pool("", (3, 2, 4, 5), (3, 2), {"stride": 1, "padding": 1})
    x, signal = values((3, 2, 4, 5), "int16"), values((3, 2, 4, 6), "int16", 1)
    out = np.empty(x.shape)
    assert gradient_of(op, x, signal, case, device="cuda", out=out) is out
    exact = reference.pool2d_gradient(x, signal, case.kernel, **case.options, op=op)
    np.testing.assert_allclose(out, exact, atol=1e-12 * np.abs(signal).max())


def test_a_maximum_that_is_nan_gets_the_gradient() -> None:
    x = np.array([[1.0, np.nan, 3.0, 2.0]])
    result = grad.max_pool2d(x, [[1.0, 10.0, 100.0]], (1, 2), 1, device="cuda")
    np.testing.assert_array_equal(result, [[0, 11, 100, 0]])


# -- arrays on a GPU -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weight_of_arrays_in_place(library: Library, algorithm: str, last: bool) -> None:
    for groups, c_out in ((1, 5), (3, 6)):
        x, signal = values((2, 3, 4, 5), "float32"), values((2, c_out, 2, 5), "float32", 1)
        options: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "groups": groups}
        given = library.images(x, last), library.images(signal, last)
        exact, scale = expected(x, np.empty((c_out, 3 // groups, 3, 3)), signal, options)[1]
        result = grad.conv2d_weight(given[0], exact.shape, given[1], **options, algorithm=algorithm)
        assert isinstance(result, library.kind)
        assert_close(library.get(result), exact, scale)
        out = library.put(np.empty(exact.shape, np.float32))
        again = grad.conv2d_weight(given[0], exact.shape, given[1], **options, algorithm=algorithm, out=out)
        assert again is out
        np.testing.assert_array_equal(library.get(out), library.get(result))  # bit by bit


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_input_of_arrays_in_place(library: Library, last: bool) -> None:
    weight, signal = values((6, 2, 3, 2), "float32"), values((2, 6, 3, 3), "float32", 1)
    options: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 1), (0, 0)), "groups": 2}
    exact, scale = expected(np.empty((2, 4, 6, 4)), weight, signal, options)[0]
    for factors in (library.put(weight), library.images(weight, True)):
        result = grad.conv2d_input(exact.shape, factors, library.images(signal, last), **options)
        assert isinstance(result, library.kind)
        assert_close(np.asarray(library.get(result)), exact, scale)
    out = library.images(np.empty(exact.shape, np.float32), last)
    assert grad.conv2d_input(exact.shape, factors, library.put(signal), **options, out=out) is out
    assert_close(np.asarray(library.get(out)), exact, scale)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(("op", "window", "stride"), [("max", (3, 2), (2, 1)), ("avg", (3, 2), (2, 1)), ("avg", 4, 1)])
def test_pooling_of_arrays_in_place(library: Library, op: str, window: Any, stride: Any, last: bool) -> None:
    case = Pool("", (2, 5, 4, 6), window, {"stride": stride, "padding": 1})
    x = case.array("float32")
    signal = values(pool_spec("max", x.shape, x.dtype, window, **case.options).output_shape, "float32", 1)
    exact = reference.pool2d_gradient(x, signal, window, **case.options, op=op)
    result = gradient_of(op, library.images(x, last), library.images(signal, last), case)
    assert isinstance(result, library.kind)
    assert_close(np.asarray(library.get(result)), exact, np.abs(signal).max() * 4)
    out = library.put(np.empty_like(x))
    assert gradient_of(op, library.put(x), library.put(signal), case, out=out) is out
    assert_close(library.get(out), exact, np.abs(signal).max() * 4)


@pytest.mark.skipif(not SIMULATED, reason="on a GPU, PyTorch's own bfloat16 is tried below")
def test_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    x, signal = (from_bfloat16(bfloat16(values(shape, "float32"))) for shape in ((2, 2, 4, 5), (2, 2, 3, 4)))
    given = FakeTensor(bfloat16(x), "bfloat16"), FakeTensor(bfloat16(signal), "bfloat16")
    exact, scale = expected(x, np.empty((2, 2, 2, 2)), signal, {})[1]
    for algorithm in ALGORITHMS:
        result = grad.conv2d_weight(given[0], (2, 2, 2, 2), given[1], algorithm=algorithm)
        assert result.dtype == "torch.bfloat16"
        assert np.abs(from_bfloat16(result.array) - exact).max() <= 2.0**-8 * scale
    for op in ("max", "avg"):
        case = Pool("", x.shape, 2, {"stride": 1})
        exact = reference.pool2d_gradient(x, signal, 2, stride=1, op=op)
        result = gradient_of(op, *given, case)
        assert result.dtype == "torch.bfloat16"
        assert np.abs(from_bfloat16(result.array) - exact).max() <= 2.0**-7


def test_what_does_not_fit_is_refused() -> None:
    x, signal = values((1, 2, 4, 4), "float32"), values((1, 3, 3, 3), "float32")
    on_gpu = put(x)
    with pytest.raises(TypeError, match="input is on a GPU, but device='cpu'"):
        grad.conv2d_weight(on_gpu, (3, 2, 2, 2), put(signal), device="cpu")
    with pytest.raises(TypeError, match="grad_output is a NumPy array, but input is on a GPU"):
        grad.conv2d_weight(on_gpu, (3, 2, 2, 2), signal)
    with pytest.raises(TypeError, match="input is a NumPy array, but grad_output is on a GPU"):
        grad.max_pool2d(x, put(x[:, :, :2, :2]), 2, device="cuda")
    with pytest.raises(TypeError, match="weight is a NumPy array, but grad_output is on a GPU"):
        grad.conv2d_input(x.shape, values((3, 2, 2, 2), "float32"), put(signal))
    with pytest.raises(TypeError, match="weight is on a GPU, but the input is not"):
        grad.conv2d_input(x.shape, put(values((3, 2, 2, 2), "float32")), signal)
    with pytest.raises(TypeError, match="grad_output is on a GPU, but the input is not"):
        grad.conv2d_weight(x, (3, 2, 2, 2), put(signal))
    with pytest.raises(ValueError, match=r"grad_output has shape \(1, 3, 3, 3\), but the layer's output has"):
        grad.conv2d_weight(on_gpu, (3, 2, 3, 3), put(signal))
    with pytest.raises(ValueError, match="grad_output has shape"):
        grad.avg_pool2d(on_gpu, put(signal), 2)
    with pytest.raises(ValueError, match="out shares memory"):
        grad.max_pool2d(on_gpu, put(x[:, :, :2, :2]), 2, out=on_gpu)
    with pytest.raises(ValueError, match="algorithm must be 'auto' or one of 'pixels', 'implicit_gemm', 'naive'"):
        grad.conv2d_weight(x, (3, 2, 2, 2), signal, device="cuda", algorithm="channels")
    with pytest.raises(ValueError, match="out has shape"):
        grad.conv2d_weight(x, (3, 2, 2, 2), signal, device="cuda", out=np.empty((3, 2, 2)))
