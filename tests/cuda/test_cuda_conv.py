"""conv2d and plans on the GPU: every algorithm on every problem and dtype, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from cases import LAYOUTS, Conv, values
from reference import assert_close
from small import CONV, SIMULATED

import fastconv
from fastconv.cuda import planner as gpu
from fastconv.cuda.system import host_slices
from fastconv.planner import choose
from fastconv.specs import conv

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")]

ALGORITHMS = fastconv.algorithms("conv2d", "cuda")
DTYPES = ("float16", "float64", "bool", "int8", "uint64")
PROBLEMS = [pytest.param(case, dtype, id=f"{case.name}-{dtype}")
            for case in CONV for dtype in ("float32", *(DTYPES if case.plain else ()))]


def unsupported(algorithm: str, arrays: list[np.ndarray], **options: Any) -> str | None:
    x, weight = arrays[:2]
    problem = conv.conv_spec(x.shape, weight.shape, [array.dtype for array in arrays], **options)
    (module,) = (module for module in gpu.table("conv2d") if choose.name(module) == algorithm)
    return module.supports(problem)


def expect(arrays: list[np.ndarray], activation: str | None = None, **options: Any) -> tuple[np.ndarray, Any]:
    result, scale = reference.conv2d(*arrays, **options)
    return (np.maximum(result, 0) if activation else result), scale


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("case", "dtype"), PROBLEMS)
def test_every_algorithm(case: Conv, dtype: str, algorithm: str) -> None:
    arrays = case.arrays(dtype)
    if unsupported(algorithm, arrays, **case.options) is not None:
        with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
            fastconv.conv2d(*arrays, **case.options, device="cuda", algorithm=algorithm)
        return
    before = [array.copy() for array in arrays]
    result = fastconv.conv2d(*arrays, **case.options, device="cuda", algorithm=algorithm)
    assert type(result) is np.ndarray
    assert_close(result, *expect(before, **case.options))
    assert all((array == copy).all() for array, copy in zip(arrays, before, strict=True))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_tried(algorithm: str) -> None:
    reasons = [unsupported(algorithm, case.arrays("float32"), **case.options) for case in CONV]
    assert reasons.count(None) >= 3
    assert all(reason is None or len(reason) > 10 for reason in reasons)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_numpy_array(layout: str) -> None:
    arrays = [values((2, 2, 4, 5), "float32"), values((2, 2, 3, 2), "float32", 1)]
    given = [LAYOUTS[layout](array) for array in arrays]
    like = np.asarray(given[0]), np.asarray(given[1])  # a broadcast array has other values
    result = fastconv.conv2d(*given, device="cuda")
    expected, scale = reference.conv2d(*like)
    assert result.dtype == reference.conv_dtype(*like)
    assert_close(result, expected, scale)


def test_plans_out_and_corr2d() -> None:
    x, weight = values((3, 2, 4, 5), "float32"), values((2, 2, 3, 2), "float32", 1)
    planned = fastconv.plan_conv2d(x.shape, weight, device="cuda", padding=1)
    assert planned.algorithm in ALGORITHMS
    assert planned.scratch_bytes >= 0
    expected, scale = reference.conv2d(x, weight, padding=1)
    weight[...] = 7  # the plan has a copy
    out = np.empty(expected.shape, np.float32)
    assert planned(x, out=out) is out
    assert_close(out, expected, scale)
    with pytest.raises(ValueError, match="plan is for"):
        planned(x[:1])
    with pytest.raises(ValueError, match="out has shape"):
        planned(x, out=out[:1])
    image, kernel = values((6, 7), "float32"), values((3, 3), "float32", 1)
    result = fastconv.corr2d(image, kernel, 0.5, device="cuda")
    expected, scale = reference.conv2d(image[None, None], kernel[None, None])
    assert_close(result, expected[0, 0] + 0.5, scale)


def test_batches_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """More slices than lanes, the last one smaller; also with indices of pooling."""
    x, weight = values((7, 1, 4, 3), "float32"), values((2, 1, 2, 2), "float32", 1)
    taken: list[int] = []
    original = host_slices.pipeline

    def watched(*arguments: Any) -> None:
        taken.append(arguments[2])
        original(*arguments)

    monkeypatch.setattr(host_slices, "pipeline", watched)
    monkeypatch.setattr(host_slices, "SLICE_BYTES", 2 * 4 * (12 + 12))
    assert_close(fastconv.conv2d(x, weight, device="cuda"), *reference.conv2d(x, weight))
    monkeypatch.setattr(host_slices, "SLICE_BYTES", 3 * (4 * 12 + 12 * 2))
    result, indices = fastconv.max_pool2d(x, 2, device="cuda", return_indices=True)
    expected, found = reference.max_pool2d(x, 2)
    assert (result == expected).all()
    assert (indices == found).all()
    assert taken == [2, 3]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # in sums that nobody stores
def test_nan_and_infinity() -> None:
    x, weight = np.ones((1, 1, 6, 6), np.float32), np.full((1, 1, 3, 3), 0.5, np.float32)
    x[0, 0, 0, 0], x[0, 0, 5, 5] = np.nan, np.inf
    for algorithm in ALGORITHMS:
        if unsupported(algorithm, [x, weight]) is None:
            result = fastconv.conv2d(x, weight, device="cuda", algorithm=algorithm, activation="relu")[0, 0]
            assert np.isnan(result[0, 0])
            assert np.isinf(result[3, 3])
            assert (np.delete(result.ravel(), [0, 15]) == 4.5).all()


def test_arguments_are_checked_before_anything_runs() -> None:
    x, weight = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 2, 2), np.float32)
    with pytest.raises(ValueError, match="device must be"):
        fastconv.conv2d(x, weight, device="gpu")
    with pytest.raises(ValueError, match="algorithm must be"):
        fastconv.conv2d(x, weight, device="cuda", algorithm="fft")
    with pytest.raises(ValueError, match="precision must be"):
        fastconv.conv2d(x, weight, device="cuda", precision="half")
    with pytest.raises(ValueError, match="operands of float32"):
        fastconv.conv2d(x.astype(float), weight, device="cuda", precision="tf32")
    with pytest.raises(ValueError, match="measure=True is for device='cpu'"):
        fastconv.plan_conv2d(x.shape, weight, device="cuda", measure=True)


def test_the_simulator_finds_what_is_out_of_bounds() -> None:
    if not SIMULATED:
        return  # on a GPU, compute-sanitizer does
    from fastconv.cuda.system.streams import SimulatedPointer

    pointer = SimulatedPointer(np.arange(4.0), 1)
    assert pointer[-1] == 0
    for index in (-2, 3):
        with pytest.raises(IndexError, match="reached"):
            pointer[index]


def test_what_only_the_cpu_does_is_refused() -> None:
    x, weight = np.ones((1, 2, 5, 5), np.float32), np.ones((2, 2, 3, 3), np.float32)
    grad = fastconv.grad
    for call in (
        lambda **options: fastconv.conv2d(x, weight, device="cuda", **options),
        lambda **options: fastconv.plan_conv2d(x.shape, weight, device="cuda", **options),
        lambda **options: fastconv.corr2d(x[0, 0], weight[0, 0], device="cuda", **options),
        lambda **options: grad.conv2d_input(x.shape, weight, x[:, :, :5, :5], device="cuda", **options),
        lambda **options: grad.conv2d_weight(x, weight.shape, x[:, :, :5, :5], device="cuda", **options),
    ):
        with pytest.raises(ValueError, match=r"padding_mode='reflect' is for device='cpu'"):
            call(padding=1, padding_mode="reflect")
    last = np.ones((1, 5, 5, 2), np.float32)
    for call in (lambda: fastconv.conv2d(last, weight, device="cuda", data_format="NHWC"),
                 lambda: fastconv.unfold2d(last, 2, device="cuda", data_format="NHWC")):  # fmt: skip
        with pytest.raises(ValueError, match=r"data_format='NHWC' is for device='cpu'"):
            call()
    # a pooling of channels last is one of volumes, which a GPU has
    pooled = fastconv.max_pool2d(last, 2, device="cuda", data_format="NHWC")
    assert pooled.shape == (1, 2, 2, 2)
    assert (pooled == 1).all()
