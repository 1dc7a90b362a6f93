"""Plans: decided once, called often, from many threads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
from cases import CONV, example, threads, unsupported, values
from reference import assert_close

import fastconv
from fastconv.cpu import planner
from fastconv.planner import choose

pytestmark = pytest.mark.usefixtures("one_thread")

ALGORITHMS = fastconv.algorithms("conv2d")
X, WEIGHT, BIAS = CONV[0].arrays("float32")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_plan_tells_what_it_will_do(algorithm: str) -> None:
    case = example(algorithm)
    _, weight, bias = case.arrays("float32")
    planned = fastconv.plan_conv2d(case.x, weight, bias, **case.options, algorithm=algorithm)
    assert planned.algorithm == algorithm
    assert planned.output_shape == reference.conv2d(*case.arrays("float32"), **case.options)[0].shape
    assert planned.flops == 2 * np.prod(planned.output_shape) * weight[0].size
    assert planned.scratch_bytes >= 0
    text = repr(planned)
    for part in (f"algorithm={algorithm!r}", f"flops={planned.flops}", f"scratch_bytes={planned.scratch_bytes}",
                 str(planned.output_shape), str(case.x), str(weight.shape), "float32", "stride=(1, 1)", "groups="):
        assert part in text


def test_auto_is_the_cheapest_that_can() -> None:
    from fastconv.cpu.machine import this_machine

    planned = fastconv.plan_conv2d(X.shape, WEIGHT)
    assert this_machine() == this_machine(1)
    able = [module for module in planner.table("conv2d") if module.supports(planned.spec) is None]
    cheapest = min(able, key=lambda module: module.cost(planned.spec, this_machine()))
    assert planned.algorithm == choose.name(cheapest)
    assert all(0 < module.cost(planned.spec, this_machine()) < 10 for module in able)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64"])
def test_changing_the_weight_later_does_not_change_a_plan(algorithm: str, dtype: str) -> None:
    case = example(algorithm, dtype)
    if case is None:  # an algorithm for some dtypes only
        return
    x, weight, bias = case.arrays(dtype)
    expected, scale = reference.conv2d(x, weight, bias, **case.options)
    planned = fastconv.plan_conv2d(x.shape, weight, bias, **case.options, algorithm=algorithm)
    weight[...], bias[...] = 0, 0
    first = planned(x)
    assert_close(first, expected, scale)
    out = np.empty(planned.output_shape, planned.spec.out_dtype)
    assert planned(x[::-1], out=out) is out
    np.testing.assert_array_equal(out[::-1], first)  # the images of a batch do not see each other


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_threads_share_a_plan(algorithm: str) -> None:
    case = example(algorithm)
    _, weight, bias = case.arrays("float32")
    with threads(None):
        planned = fastconv.plan_conv2d(case.x, weight, bias, **case.options, algorithm=algorithm)
    images = [values(case.x, "float32", seed) for seed in range(8)]
    expected = [reference.conv2d(image, weight, bias, **case.options) for image in images]
    with threads(None), ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for result, (wanted, scale) in zip(pool.map(planned, images), expected, strict=True):
                assert_close(result, wanted, scale)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_plan_outlives_a_change_of_the_number_of_threads(algorithm: str) -> None:
    case = example(algorithm)
    x, weight, bias = case.arrays("float32")
    expected, scale = reference.conv2d(x, weight, bias, **case.options)
    for before, after in ((None, 1), (1, None)):
        with threads(before):
            planned = fastconv.plan_conv2d(x.shape, weight, bias, **case.options, algorithm=algorithm)
        with threads(after):
            assert_close(planned(x), expected, scale)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_results_do_not_depend_on_the_number_of_threads(algorithm: str) -> None:
    for case in (case for case in CONV if case.threads):
        arrays = case.arrays("float32")
        if unsupported(algorithm, arrays, **case.options) is None:
            alone = fastconv.conv2d(*arrays, **case.options, algorithm=algorithm)
            with threads(None):
                together = fastconv.conv2d(*arrays, **case.options, algorithm=algorithm)
                with fastconv.num_threads(1):
                    np.testing.assert_array_equal(
                        fastconv.conv2d(*arrays, **case.options, algorithm=algorithm), alone
                    )
            np.testing.assert_array_equal(alone, together)


def test_set_num_threads() -> None:
    with threads(None):
        most = fastconv.get_num_threads()
        try:
            for limit, wanted in ((1, 1), (2**31 - 1, most), (np.int8(1), 1), (None, most)):
                fastconv.set_num_threads(limit)
                assert fastconv.get_num_threads() == wanted
            for bad in (0, -1, 2**70, 1.0, "1", True, (1,), float("nan")):
                with pytest.raises((ValueError, TypeError), match="threads"):
                    fastconv.set_num_threads(bad)
            assert fastconv.get_num_threads() == most
        finally:
            fastconv.set_num_threads(None)


def test_a_plan_takes_what_converts_without_loss() -> None:
    planned = fastconv.plan_conv2d((4, 9, 8), WEIGHT.astype(np.float64))
    for dtype in (np.float16, np.float32, np.int8, bool, ">f8"):
        assert_close(planned(X[0].astype(dtype)), *reference.conv2d(X[0].astype(dtype), WEIGHT.astype(np.float64)))
    assert_close(planned(X[0].tolist()), *reference.conv2d(X[0].astype(np.float64), WEIGHT.astype(np.float64)))


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (X[:1], ValueError, "x has shape"),
        (X[0], ValueError, "x has shape"),
        (5, ValueError, "x has shape"),
        (X.astype(np.float64), TypeError, "x has dtype float64"),
        (X.astype(np.int32), TypeError, "x has dtype int32"),
        (X.astype(complex), TypeError, "x has dtype complex128"),
        ([[1], [2, 3]], ValueError, "x is not an array"),
        (None, TypeError, "x has dtype object"),
    ],
)
def test_a_plan_refuses_what_it_is_not_for(x: object, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        fastconv.plan_conv2d(X.shape, WEIGHT)(x)


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "options"),
    [
        ((1, 64, 8192, 8192), (64, 64, 3, 3), {"padding": 1}),
        ((1, 3, 20000, 20000), (8, 3, 7, 7), {}),
        ((8, 2000, 512, 512), (16, 2000, 3, 3), {"stride": 2}),
    ],
)
def test_scratch_does_not_grow_with_the_image(x_shape: tuple, weight_shape: tuple, options: dict) -> None:
    for algorithm in ("auto", "im2col"):
        weight = np.broadcast_to(np.float32(0), weight_shape)
        planned = fastconv.plan_conv2d(x_shape, weight, **options, algorithm=algorithm)
        assert planned.scratch_bytes <= 32 << 20


def test_same_call_same_plan_whatever_numbers_are_made_of() -> None:
    plans = [fastconv.plan_conv2d(shape, WEIGHT, stride=two, padding=two)
             for shape, two in ((X.shape, 2), (list(X.shape), np.int64(2)), (np.array(X.shape), [2, 2]))]
    assert plans[0].spec == plans[1].spec == plans[2].spec


def test_dtype_of_the_plan() -> None:
    assert fastconv.plan_conv2d(X.shape, WEIGHT).spec.dtype == np.float32
    assert fastconv.plan_conv2d(X.shape, WEIGHT, dtype="float64").spec.dtype == np.float64
    assert fastconv.plan_conv2d(X.shape, WEIGHT, dtype=np.uint8).spec.dtype == np.float32
    assert fastconv.plan_conv2d(X.shape, WEIGHT.astype(">f4")).spec.dtype == np.float32


@pytest.mark.parametrize("op", ["conv2d", "max_pool2d", "avg_pool2d", "lp_pool2d"])
def test_the_tables_keep_their_contract(op: str) -> None:
    modules = planner.table(op)
    assert choose.name(modules[-1]) == "naive"
    assert fastconv.algorithms(op) == tuple(map(choose.name, modules))
    for module in modules:
        assert module.__doc__
        names = {"supports", "cost", "scratch", "run"} | ({"prepare"} if op == "conv2d" else set())
        assert names <= set(vars(module))


# -- what is kept from call to call --------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_plain_call_never_uses_stale_weights(algorithm: str) -> None:
    case = example(algorithm)
    x, weight, bias = case.arrays("float32")
    for factor in (1, 2, -3):
        weight *= factor  # the same arrays at the same addresses, with other values
        bias += factor
        result = fastconv.conv2d(x, weight, bias, **case.options, algorithm=algorithm)
        assert_close(result, *reference.conv2d(x, weight, bias, **case.options))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_plain_calls_leave_plans_and_other_threads_alone(algorithm: str) -> None:
    case = example(algorithm)
    x, weight, bias = case.arrays("float32")
    planned = fastconv.plan_conv2d(x.shape, weight, bias, **case.options, algorithm=algorithm)
    first = planned(x)
    factors = [1, 2, 3, 4] * 5

    def call(factor: int) -> np.ndarray:
        return fastconv.conv2d(x, factor * weight, factor * bias, **case.options, algorithm=algorithm)

    with ThreadPoolExecutor(4) as pool:  # each thread keeps the memory that it packs into
        for factor, result in zip(factors, pool.map(call, factors), strict=True):
            np.testing.assert_allclose(result, factor * first, rtol=1e-4, atol=1e-4 * np.abs(first).max())
    call(5)
    np.testing.assert_array_equal(planned(x), first)


def test_a_plain_call_counts_what_preparing_costs() -> None:
    spec = fastconv.plan_conv2d((8, 64, 59, 59), np.ones((64, 64, 3, 3), np.float32)).spec
    planned, plain = planner.candidates(spec), planner.candidates(spec, for_one_call=True)
    assert planned.keys() == plain.keys()
    assert all(plain[label] >= planned[label] for label in planned)
    assert all(plain[label] > planned[label] for label in ("direct", "winograd", "fft"))
    assert plain["winograd"] - planned["winograd"] > plain["direct"] - planned["direct"]  # it writes more
    for once, costs in ((False, planned), (True, plain)):
        module, _ = planner.choose(spec, "auto", op="conv2d", for_one_call=once)
        assert choose.name(module) == min(costs, key=costs.__getitem__)


def test_repeated_calls_still_check_the_kind_of_every_number() -> None:
    x, weight = np.ones((1, 1, 5, 5), np.float32), np.ones((1, 1, 2, 2), np.float32)
    for argument in ("stride", "dilation", "groups", "padding"):
        for good in (1, np.int64(1)):
            fastconv.conv2d(x, weight, **{argument: good})
        for bad in (True, 1.0, np.True_, "1"):
            with pytest.raises((TypeError, ValueError), match=argument):
                fastconv.conv2d(x, weight, **{argument: bad})
    for argument in ("kernel_size", "stride", "dilation", "padding"):
        for good in (1, np.int64(1), (1, 1)):
            fastconv.max_pool2d(x, **{"kernel_size": 3, argument: good})
        for bad in (True, 1.0, np.True_, "1", (True, 1), (1, 1.0)):
            with pytest.raises((TypeError, ValueError), match=argument):
                fastconv.max_pool2d(x, **{"kernel_size": 3, argument: bad})
    for bad in (True, "1", np.True_):
        with pytest.raises(TypeError, match="norm_type"):
            fastconv.lp_pool2d(x, bad, 2)
        fastconv.lp_pool2d(x, 1.0, 2)
    fastconv.conv2d(x, weight, stride=(1, 1))
    for unhashable in ([True, 1], [1.0, 1], (True, 1)):
        with pytest.raises(TypeError, match="stride"):
            fastconv.conv2d(x, weight, stride=unhashable)
    for option, error in (("algorithm", TypeError), ("device", ValueError), ("activation", ValueError)):
        with pytest.raises(error, match=option):
            fastconv.conv2d(x, weight, **{option: []})


def test_repeated_filters_see_what_changed() -> None:
    x, kernel = np.arange(35, dtype=np.float32).reshape(5, 7), np.ones((2, 3), np.float32)
    expected = fastconv.corr2d(x.astype(np.float64), kernel)
    for factor in (1, 2, -3):  # the same arrays, with other values
        kernel[...] = factor
        np.testing.assert_array_equal(fastconv.corr2d(x, kernel), factor * expected)
        np.testing.assert_array_equal(fastconv.corr2d(x, kernel, factor), factor * expected + factor)
        np.testing.assert_array_equal(fastconv.corr2d(x.T, kernel.T), factor * expected.T)
    for bias, wanted in ((0, "int32"), (False, "int32"), (0.0, "float64")):
        assert fastconv.corr2d(x.astype(np.int8), kernel.astype(np.int8), bias).dtype == wanted
    for bad, error in ((x.astype(complex), TypeError), (x[None], ValueError), (x[:0], ValueError), (x[0], ValueError)):
        with pytest.raises(error, match="x "):
            fastconv.corr2d(bad, kernel)


def test_planning_a_known_shape_is_quick() -> None:
    small = np.ones((5, 3, 2, 3), np.float32)
    fastconv.plan_conv2d((1, 3, 9, 7), small)
    start = time.perf_counter()
    for _ in range(200):
        fastconv.plan_conv2d((1, 3, 9, 7), small)
    assert (time.perf_counter() - start) / 200 < 500e-6  # it takes 8 us; the machine may be busy
