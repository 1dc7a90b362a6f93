"""fastconv.grad: every algorithm and every hostile case against the oracle, and the oracle against differences."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cases import CONV, POOL, Conv, Pool, fenced, intact, threads, values
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference import assert_close

import fastconv
from fastconv import grad
from fastconv.cpu import planner
from fastconv.cpu.shared import channel_blocking
from fastconv.planner import choose
from fastconv.specs import conv, pool

pytestmark = pytest.mark.usefixtures("one_thread")

ALGORITHMS = fastconv.algorithms("conv2d_weight")
CASES = CONV


def problem(case: Conv, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """x, weight, the gradient of the output, and the options."""
    x, weight = case.arrays(dtype)[:2]
    shape = conv.conv_spec(x.shape, weight.shape, (x.dtype,), **case.options).output_shape
    return x, weight, values(shape, dtype, seed=3), case.options


def expected(x: np.ndarray, weight: np.ndarray, signal: np.ndarray, options: dict) -> list[tuple[np.ndarray, float]]:
    """Both gradients and their scales."""
    batch = (None,) if x.ndim == 3 else ()
    arrays = [np.asarray(array, np.float64) for array in (x[batch], weight, signal[batch])]
    results = []
    for given_ in (arrays, [np.abs(array) for array in arrays]):
        for_input, for_weight = reference.conv2d_gradients(given_[0], weight.shape, *given_[1:], **options)
        results.append((for_input.reshape(x.shape), for_weight))
    return [(result, scale.max(initial=0)) for result, scale in zip(*results, strict=True)]


def test_the_oracle_is_the_derivative() -> None:
    """Of one case with everything, by differences of the convolution, which is linear in each of its operands."""
    x, weight, signal, options = problem(next(case for case in CONV if case.name == "everything"), "float64")
    exact = [result for result, _ in expected(x, weight, signal, options)]

    def value() -> float:
        return float((reference.conv2d(x, weight, **options)[0] * signal).sum())

    rng = np.random.default_rng(0)
    for array, gradient in zip((x, weight), exact, strict=True):
        for at in map(tuple, rng.integers(0, array.shape, (12, 4))):
            before = array[at]
            array[at] = before + 0.5
            above = value()
            array[at] = before - 0.5
            assert above - value() == pytest.approx(gradient[at], rel=1e-9, abs=1e-9)
            array[at] = before


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_weight(case: Conv, algorithm: str) -> None:
    for dtype in ("float32", "float64") if case.plain else ("float32",):
        x, weight, signal, options = problem(case, dtype)
        problem_spec = conv.conv_spec(x.shape, weight.shape, (x.dtype,), **options)
        if algorithm != "auto":
            (module,) = (module for module in planner.table("conv2d_weight") if choose.name(module) == algorithm)
            if module.supports(problem_spec) is not None:
                with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
                    grad.conv2d_weight(x, weight.shape, signal, **options, algorithm=algorithm)
                continue
        arrays, out = [fenced(x), fenced(signal)], fenced(np.empty_like(weight))
        with threads(None if case.threads else 1):
            given_ = grad.conv2d_weight(arrays[0], weight.shape, arrays[1], **options, algorithm=algorithm, out=out)
        assert given_ is out
        assert_close(out, *expected(x, weight, signal, options)[1])
        assert all(intact(array) for array in (*arrays, out))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_input(case: Conv) -> None:
    for dtype in ("float32", "float64") if case.plain else ("float32",):
        x, weight, signal, options = problem(case, dtype)
        out = fenced(np.empty_like(x))
        arrays = [fenced(weight), fenced(signal)]
        assert grad.conv2d_input(x.shape, *arrays, **options, out=out) is out
        assert_close(out, *expected(x, weight, signal, options)[0])
        assert all(intact(array) for array in (*arrays, out))


pairs = st.tuples(st.integers(0, 4), st.integers(0, 4))
steps = st.tuples(st.integers(1, 4), st.integers(1, 4))


PROBLEMS = {
    "n": st.integers(0, 2), "size": st.tuples(st.integers(1, 9), st.integers(1, 20)), "groups": st.integers(1, 3),
    "channels": st.tuples(st.integers(1, 3), st.integers(1, 5)), "kernel": steps, "stride": steps, "dilation": steps,
    "padding": st.integers(0, 4) | st.tuples(pairs, pairs) | st.sampled_from(["valid", "same", "same_lower"]),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=60)
@given(**PROBLEMS)
def test_any_problem(algorithm, n, size, groups, channels, kernel, stride, dilation, padding) -> None:
    c_in, c_out = (groups * count for count in channels)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, weight = values((n, c_in, *size), "float64"), values((c_out, channels[0], *kernel), "float64", 1)
    try:
        shape = conv.conv_spec(x.shape, weight.shape, (x.dtype,), **options).output_shape
    except ValueError:
        return
    signal = values(shape, "float64", 2)
    (for_input, input_scale), (for_weight, weight_scale) = expected(x, weight, signal, options)
    try:
        assert_close(grad.conv2d_weight(x, weight.shape, signal, **options, algorithm=algorithm), for_weight,
                     weight_scale)
    except ValueError as error:
        assert "cannot do this" in str(error)  # noqa: PT017
    if algorithm == "naive":
        assert_close(grad.conv2d_input(x.shape, weight, signal, **options), for_input, input_scale)


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "naive"])
@settings(max_examples=100)
@given(**PROBLEMS, seed=st.integers(0, 999))
def test_not_finite(algorithm, n, size, groups, channels, kernel, stride, dilation, padding, seed) -> None:
    """A NaN or an infinity, in the input or in the output's gradient, reaches what it does by the definition."""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    weight_shape = groups * channels[1], channels[0], *kernel
    x = values((n, groups * channels[0], *size), "float32")
    try:
        shape = conv.conv_spec(x.shape, weight_shape, (x.dtype,), **options).output_shape
    except ValueError:
        return
    signal = values(shape, "float32", 1)
    rng = np.random.default_rng(seed)
    for array in rng.permutation([0, 1])[: rng.integers(1, 3)]:
        if n:
            (x, signal)[array].flat[rng.integers((x, signal)[array].size)] = rng.choice([np.nan, np.inf, -np.inf])
    try:
        result = grad.conv2d_weight(x, weight_shape, signal, **options, algorithm=algorithm)
    except ValueError as error:
        assert "cannot do this" in str(error)  # noqa: PT017
        return
    exact = grad.conv2d_weight(x, weight_shape, signal, **options, algorithm="naive")
    assert_allclose(result, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (1, 2, 4), (2, 1, 4)])
def test_no_tap_that_does_not_see_it_is_spoiled(
    stride: int, dilation: int, groups: int, algorithm: str, value: float
) -> None:
    options = {"stride": stride, "padding": 1, "dilation": dilation, "groups": groups}
    weight_shape = (4, 4 // groups, 3, 3)
    shape = fastconv.conv2d(np.zeros((2, 4, 9, 11)), np.zeros(weight_shape), **options).shape
    signal = values(shape, "float32", 1)
    for place in [(0, 0, 0, 0), (1, 3, 8, 10), (0, 1, 4, 10)]:
        x = values((2, 4, 9, 11), "float32")
        x[place] = value
        result = grad.conv2d_weight(x, weight_shape, signal, **options, algorithm=algorithm)
        x[place] = 0
        finite = grad.conv2d_weight(x, weight_shape, signal, **options)
        x[...], x[place] = 0, 1
        sees = grad.conv2d_weight(x, weight_shape, np.ones(shape, np.float32), **options) != 0
        assert_array_equal(np.isfinite(result), ~sees)
        np.testing.assert_allclose(result[~sees], finite[~sees], rtol=1e-4, atol=1e-4)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x, signal = values((6, 20, 30, 31), "float32"), values((6, 40, 30, 31), "float32", 1)
    for algorithm in ALGORITHMS:
        results = []
        for count in (1, None):
            with threads(count):
                results.append(grad.conv2d_weight(x, (40, 20, 3, 3), signal, padding=1, algorithm=algorithm))
        assert_array_equal(*results)


@pytest.mark.parametrize("case", POOL, ids=lambda case: case.name)
def test_pooling(case: Pool) -> None:
    x = case.array("float64")
    shape = pool.pool_spec("max", x.shape, x.dtype, case.kernel, **case.options).output_shape
    signal = values(shape, "float64", 1)
    out = fenced(np.empty_like(x))
    given_ = [fenced(x), fenced(signal)]
    for op in ("max", "min"):
        getattr(grad, f"{op}_pool2d")(*given_, case.kernel, **case.options, out=out)
        assert_allclose(out, reference.pool2d_gradient(x, signal, case.kernel, **case.options, op=op), atol=1e-13)
    for options in ({}, {"count_include_pad": False}, {"divisor_override": 3}):
        grad.avg_pool2d(*given_, case.kernel, **case.options, **options, out=out)
        exact = reference.pool2d_gradient(x, signal, case.kernel, **case.options, **options, op="avg")
        assert_allclose(out, exact, atol=1e-13)
    assert all(intact(array) for array in (*given_, out))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("window", [(1, 10_000), (10_000, 1)])
def test_the_error_of_long_sums_does_not_grow(window: tuple, dtype: str) -> None:
    """Of an average's gradient, where an element is in many windows."""
    outputs = np.full([10_001 if taps > 1 else 1 for taps in window], 0.1, dtype)
    windows = np.convolve(np.ones(10_001), np.ones(10_000)).reshape([-1 if taps > 1 else 1 for taps in window])
    result = grad.avg_pool2d(np.zeros(windows.shape, dtype), outputs, window, 1)
    assert_allclose(result, windows * np.float64(outputs[0, 0]) / 10_000, rtol=10 * np.finfo(dtype).eps)


def test_dtypes() -> None:
    x, weight, signal = values((1, 2, 5, 6), "int16"), values((3, 2, 2, 2), "int16"), values((1, 3, 4, 5), "int16")
    for_input, for_weight = (result for result, _ in expected(x, weight, signal, {}))
    assert_array_equal(grad.conv2d_input(x.shape, weight, signal), for_input.astype(np.int64))
    assert grad.conv2d_weight(x, weight.shape, signal).dtype == np.int64
    assert_array_equal(grad.conv2d_weight(x, weight.shape, signal), for_weight.astype(np.int64))
    half = [array.astype(np.float16) / 2**15 for array in (x, weight, signal)]
    assert grad.conv2d_weight(half[0], weight.shape, half[2]).dtype == np.float16
    assert grad.conv2d_input(x.shape, *half[1:]).dtype == np.float16
    assert grad.max_pool2d(x, values((1, 2, 2, 3), "float16"), 2).dtype == np.float16
    assert grad.max_pool2d(x, values((1, 2, 2, 3), "int16"), 2).dtype == np.float64
    assert grad.conv2d_weight(np.asfortranarray(x), weight.shape, signal[..., ::-1]).shape == weight.shape


def test_a_maximum_that_is_nan_gets_the_gradient() -> None:
    x = np.array([[1.0, np.nan, 3.0, 2.0]])
    assert_array_equal(grad.max_pool2d(x, [[1.0, 10.0, 100.0]], (1, 2), 1), [[0, 11, 100, 0]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: grad.conv2d_input((1, 2, 5, 5), np.ones((3, 2, 3, 3)), np.ones((1, 3, 3, 4))), ValueError,
         r"grad_output has shape \(1, 3, 3, 4\), but the layer's output has shape \(1, 3, 3, 3\)"),
        (lambda: grad.conv2d_weight(np.ones((1, 2, 5, 5)), (3, 2, 3, 3), np.ones((3, 3, 3))), ValueError,
         "grad_output has shape"),
        (lambda: grad.conv2d_weight(np.ones((1, 2, 5, 5)), 3, np.ones((3, 3, 3))), TypeError, "weight_size"),
        (lambda: grad.conv2d_input("12", np.ones((3, 2, 3, 3)), np.ones((1, 3, 3, 4))), TypeError, "input_size"),
        (lambda: grad.conv2d_weight(np.ones((1, 2, 5, 5)), (3, 2, 3, 3), np.ones((1, 3, 3, 3)), algorithm="no"),
         ValueError, "algorithm must be 'auto' or one of"),
        (lambda: grad.conv2d_weight(np.ones((1, 2, 5, 5)), (3, 2, 3, 3), np.ones((1, 3, 3, 3)), device="moon"),
         ValueError, "device"),
        (lambda: grad.conv2d_weight(np.ones((1, 2, 5, 5)), (3, 2, 3, 3), np.ones((1, 3, 3, 3)), out=np.ones(3)),
         ValueError, "out has shape"),
        (lambda: grad.max_pool2d(np.ones((4, 4)), np.ones((3, 3)), 2), ValueError, "grad_output has shape"),
        (lambda: grad.avg_pool2d(np.ones((4, 4)), np.ones((2, 2)), 2, out=np.ones((2, 2))), ValueError, "out has"),
    ],
)
def test_what_does_not_fit_is_refused(call, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("x", "weight", "options", "busiest"),
    [
        ((1, 3, 224, 224), (96, 3, 4, 4), {"stride": 4}, 1 / 2),
        ((1, 3, 224, 224), (64, 3, 7, 7), {"stride": 4, "padding": 3}, 1 / 2),
        ((1, 64, 56, 56), (128, 64, 4, 4), {"stride": 4}, 1 / 2),
        ((2, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}, 1 / 2),
        ((1, 5, 9, 11), (33, 5, 3, 3), {}, 3 / 5),
    ],
)
def test_threads_share_a_weights_gradient_evenly(x, weight, options, busiest):
    """The tiles of the thread that has most of them, of two threads, are that share of all."""
    spec = conv.conv_spec(x, weight, [np.dtype(np.float32)], **options)
    plan = channel_blocking.blocking_of(spec)
    shares, _ = channel_blocking.task_shares(spec, plan, 2)
    tiles = plan.runs * -(-plan.run // plan.rows)
    panels = spec.groups * channel_blocking.panel_count(spec, plan)
    sizes = [(share + 1) * tiles // shares - share * tiles // shares for _ in range(panels) for share in range(shares)]
    first = len(sizes) // 2
    assert max(sum(sizes[:first]), sum(sizes[first:])) <= busiest * sum(sizes)
