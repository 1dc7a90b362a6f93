"""Signals and volumes, and what is around convolution: every algorithm, few hostile cases, against the oracle."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import reference
from cases import TRANSPOSED, fenced, intact, threads, values
from numpy.lib.stride_tricks import sliding_window_view
from reference import assert_close

import fastconv
from fastconv.cpu import transposed, ways
from fastconv.cpu.algorithms import transpose_depthwise
from fastconv.cpu.recipes import planner
from fastconv.cpu.shared import volumes
from fastconv.planner import choose
from fastconv.specs import conv, phases, pool

pytestmark = pytest.mark.usefixtures("one_thread")


def unsupported(problem: conv.ConvSpec | pool.PoolSpec, algorithm: str) -> str | None:
    (module,) = (module for module in planner.table(choose.operation(problem)) if choose.name(module) == algorithm)
    return module.supports(problem)


# -- convolution ---------------------------------------------------------------------------------------------

VOLUMES: dict[str, tuple[tuple, tuple, dict[str, Any]]] = {
    "plain": ((2, 4, 5, 9, 8), (3, 4, 3, 3, 3), {"padding": 1}),
    "everything": ((2, 6, 7, 17, 19), (6, 3, 2, 3, 2), {"stride": (2, 2, 1), "padding": ((2, 1), (0, 2), (1, 3)),
                                                       "dilation": (3, 1, 3), "groups": 2}),
    "no batch axis, same": ((4, 4, 9, 8), (3, 4, 2, 3, 3), {"padding": "same"}),
    "depth alone": ((2, 4, 6, 3, 4), (3, 4, 3, 1, 1), {"padding": ((1, 0), (0, 0), (0, 0)), "stride": (2, 1, 1)}),
    "columns alone": ((1, 4, 2, 5, 8), (3, 4, 1, 1, 3), {"padding": (0, 0, 1)}),
    "1x1x1": ((1, 5, 2, 7, 3), (8, 5, 1, 1, 1), {}),
    "planes alone": ((1, 4, 5, 9, 8), (3, 4, 1, 3, 3), {"padding": (0, 1, 1)}),
    "as deep as the volume": ((2, 2, 2, 9, 8), (3, 2, 2, 3, 3), {"padding": (0, 1, 1)}),
    "deeper than the volume": ((1, 4, 1, 9, 8), (3, 4, 5, 3, 3), {"padding": (3, 1, 1)}),
    "depthwise": ((1, 3, 4, 8, 9), (3, 1, 3, 3, 3), {"padding": 1, "groups": 3}),
    "batch 0": ((0, 4, 5, 9, 8), (3, 4, 3, 3, 3), {}),
}
SIGNALS: dict[str, tuple[tuple, tuple, dict[str, Any]]] = {
    "plain": ((2, 3, 23), (3, 3, 5), {}),
    "everything": ((2, 6, 40), (4, 3, 3), {"stride": 2, "padding": ((3, 1),), "dilation": 3, "groups": 2}),
    "no batch axis, same": ((3, 23), (3, 3, 4), {"padding": "same"}),
}


def check_conv(x_shape: tuple, weight_shape: tuple, options: dict, algorithm: str, dtype: str = "float32") -> None:
    axes = len(weight_shape) - 2
    shapes = x_shape, weight_shape, weight_shape[:1]
    x, weight, bias = (values(shape, dtype, seed) for seed, shape in enumerate(shapes))
    call = getattr(fastconv, f"conv{axes}d")
    problem = conv.conv_spec(x.shape, weight.shape, [x.dtype], axes=axes, **options)
    if algorithm != "auto" and unsupported(problem, algorithm):
        with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
            call(x, weight, bias, **options, algorithm=algorithm)
        return
    expected, scale = reference.conv2d(x, weight, bias, **options)
    guarded, out = fenced(x), fenced(np.empty(expected.shape, reference.conv_dtype(x, weight)))
    assert call(guarded, fenced(weight), bias, **options, algorithm=algorithm, out=out) is out
    assert_close(out, expected, scale)
    assert intact(guarded)
    assert intact(out)


@pytest.mark.parametrize("algorithm", ["auto", *fastconv.algorithms("conv3d")])
@pytest.mark.parametrize("case", VOLUMES)
def test_volumes(case: str, algorithm: str) -> None:
    check_conv(*VOLUMES[case], algorithm)


@pytest.mark.parametrize("algorithm", ["auto", "naive"])
@pytest.mark.parametrize("dtype", ["float64", "float16", "bool", "int8", "int64"])
def test_dtypes_of_volumes(dtype: str, algorithm: str) -> None:
    check_conv(*VOLUMES["everything"], algorithm, dtype)


@pytest.mark.parametrize("bytes_", [1, 40_000])
def test_planes_are_gathered_in_parts(bytes_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "GATHERED_BYTES", bytes_)
    volumes.gathered.cache_clear()
    try:
        check_conv(*VOLUMES["plain"], "direct")
        problem = conv.conv_spec(*VOLUMES["plain"][:2], [np.dtype(np.float32)], axes=3, padding=1)
        assert 1 <= volumes.gathered(problem).n < 10
    finally:
        volumes.gathered.cache_clear()


@pytest.mark.parametrize("algorithm", ["auto", *fastconv.algorithms("conv1d")])
@pytest.mark.parametrize("case", SIGNALS)
def test_signals(case: str, algorithm: str) -> None:
    check_conv(*SIGNALS[case], algorithm)


def test_plans_of_signals_and_volumes() -> None:
    for x_shape, weight_shape, options in (VOLUMES["plain"], VOLUMES["no batch axis, same"], SIGNALS["everything"]):
        axes = len(weight_shape) - 2
        x, weight = values(x_shape, "float32"), values(weight_shape, "float32", 1)
        planned = getattr(fastconv, f"plan_conv{axes}d")(x_shape, weight, **options)
        expected, scale = reference.conv2d(x, weight, **options)
        assert planned.output_shape == expected.shape
        assert planned.flops == 2 * expected.size * weight[0].size
        assert planned.scratch_bytes >= 0
        assert f"conv{axes}d" in repr(planned)
        assert_close(planned(x), expected, scale)


# -- pooling -------------------------------------------------------------------------------------------------

BOXES: dict[str, tuple[tuple, Any, dict[str, Any]]] = {
    "plain": ((2, 3, 4, 8, 9), 2, {}),
    "everything": ((2, 2, 7, 13, 14), (2, 3, 2), {"stride": (1, 2, 3), "padding": ((1, 0), (1, 2), (0, 1)),
                                                 "dilation": (2, 2, 1), "ceil_mode": True}),
    "3x3x3 stride 2": ((1, 4, 6, 11, 12), 3, {"stride": 2, "padding": 1}),
    "one volume": ((5, 6, 7), 3, {"stride": 1, "padding": "same"}),
    "whole": ((2, 3, 3, 5, 6), (3, 5, 6), {}),
    "depth alone": ((2, 6, 3, 4), (3, 1, 1), {"stride": (2, 1, 1), "padding": (1, 0, 0)}),
    "batch 0": ((0, 3, 4, 8, 9), 2, {}),
}
LINES: dict[str, tuple[tuple, Any, dict[str, Any]]] = {
    "plain": ((2, 3, 33), 3, {"stride": 2, "padding": 1}),
    "everything": ((40,), (4,), {"stride": 3, "padding": ((0, 2),), "dilation": 2, "ceil_mode": True}),
}
POOLS = [(axes, case) for axes, cases in ((3, BOXES), (1, LINES)) for case in cases]
CALLS = [("max", (), {"return_indices": True}), ("max", (), {}), ("avg", (), {}), ("lp", (2,), {}),
         ("avg", (), {"count_include_pad": False}), ("avg", (), {"divisor_override": 5})]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "float16"])
@pytest.mark.parametrize(("axes", "case"), POOLS)
@pytest.mark.parametrize(("op", "args", "more"), CALLS, ids=str)
def test_pooling(op: str, args: tuple, more: dict, axes: int, case: str, dtype: str) -> None:
    shape, kernel, options = (BOXES if axes == 3 else LINES)[case]
    x = values(shape, dtype)
    if op == "max":  # many equal maxima
        x = np.minimum(x, np.sort(x, axis=None)[x.size * 3 // 4]) if x.size else x
        if dtype == "float32":
            x[x == x.min(initial=1)] = np.nan
    oracle, call = getattr(reference, f"{op}_pool2d"), getattr(fastconv, f"{op}_pool{axes}d")
    for algorithm in ("auto", *fastconv.algorithms(f"{op}_pool{axes}d")):
        stride = options.get("stride")
        settings = {name: value for name, value in options.items() if name != "stride"}
        settings |= {"norm_type": args[0]} if args else {}
        problem = pool.pool_spec(op, x.shape, x.dtype, kernel, stride, axes=axes, **settings)
        if algorithm != "auto" and unsupported(problem, algorithm):
            continue
        guarded = fenced(x)
        out = fenced(np.empty(problem.output_shape, problem.out_dtype))
        result = call(guarded, *args, kernel, **options, **more, algorithm=algorithm, out=out)
        if op == "max":
            expected, found = oracle(x, kernel, axes=axes, **options)
            np.testing.assert_array_equal(out, expected, strict=True)
            if more:
                result, indices = result
                np.testing.assert_array_equal(indices, found, strict=True)
        else:
            assert_close(out, *oracle(x, *args, kernel, axes=axes, **options, **more))
        assert result is out
        assert intact(guarded)
        assert intact(out)


def test_volumes_are_pooled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "POOLED_BYTES", 3000)
    x = values((3, 3, 6, 9, 10), "float32")
    expected, found = reference.max_pool2d(x, 3, 2, 1, axes=3)
    result, indices = fastconv.max_pool3d(x, 3, 2, 1, return_indices=True, algorithm="rows")
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(indices, found)


def test_threads_change_nothing() -> None:
    x, weight = values((1, 16, 6, 20, 20), "float32"), values((16, 16, 2, 4, 4), "float32", 1)
    calls = [lambda: fastconv.conv3d(x, weight, padding=1), lambda: fastconv.max_pool3d(x, 2),
             lambda: fastconv.conv_transpose3d(x, weight, stride=2),
             lambda: fastconv.conv_transpose2d(x[0, :, :3, :4, 0], weight[..., 0, :, :], stride=2),
             lambda: fastconv.adaptive_avg_pool2d(x[0], 7),
             lambda: fastconv.unfold2d(x[0], 3),
             lambda: fastconv.fold2d(values((144, 324), "float32"), 20, 3)]  # fmt: skip
    for call in calls:
        with threads(1):
            alone = call()
        with threads(None):
            np.testing.assert_array_equal(call(), alone)


# -- transposed convolution ----------------------------------------------------------------------------------


def force(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls and plans of transposed convolutions go one way, if it can; no earlier recipe is found."""

    def made(problem: conv.ConvSpec, algorithm: str, once: bool) -> ways.Way:
        if way == "depthwise":
            return ways.Depthwise(problem)
        if way == "multiplied":
            return ways.Product(problem)
        parts = (phases.together(problem) if way == "together" else None) or phases.separate(problem)
        return ways.Convolutions(problem, parts, algorithm, once)

    monkeypatch.setattr(transposed, "_way", made)
    monkeypatch.setattr(transposed, "_recipe", transposed._recipe.__wrapped__)


def can(way: str, x_shape: tuple, weight_shape: tuple, options: dict) -> bool:
    """Whether it is one of the ways to compute this; convolutions always are."""
    problem = transpose(x_shape, weight_shape, options)
    seconds = {"depthwise": ways.depthwise_seconds(problem), "multiplied": ways.product_seconds(problem, True)}
    return seconds.get(way, 0) < np.inf


def transpose(x_shape: tuple, weight_shape: tuple, options: dict, dtype: str = "float32") -> conv.ConvSpec:
    axes = len(weight_shape) - 2
    return getattr(fastconv, f"plan_conv_transpose{axes}d")(x_shape, np.empty(weight_shape, dtype), **options).spec


@pytest.mark.parametrize("way", ["together", "separate", "multiplied", "depthwise"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed(case: str, dtype: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x_shape, weight_shape, options = TRANSPOSED[case]
    if not can(way, x_shape, weight_shape, options) and x_shape[0]:
        assert way != "depthwise" or not case.startswith("depthwise")
        return
    force(way, monkeypatch)
    x, weight = values(x_shape, dtype), values(weight_shape, dtype, 1)
    bias = values((weight_shape[1] * options.get("groups", 1),), dtype, 2)
    call, planner = (getattr(fastconv, f"{start}conv_transpose{x.ndim - 2}d") for start in ("", "plan_"))
    expected, scale = reference.conv_transpose(x, weight, bias, **options)
    out = fenced(np.empty(expected.shape, dtype))
    assert call(fenced(x), fenced(weight), bias, **options, out=out) is out
    assert_close(out, expected, scale)
    assert intact(out)
    assert_close(call(x, weight, **options), *reference.conv_transpose(x, weight, **options))
    planned = planner(x.shape, weight, bias, **options)
    if len(x):
        assert_close(call(x[0], weight, bias, **options), expected[0], scale)
    weight[...], bias[...] = 0, 0  # changes no plan
    out[...] = 0
    assert planned(fenced(x), out=out) is out
    assert_close(out, expected, scale)
    assert intact(out)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("way", "algorithm"),
    [("multiplied", "auto"), ("depthwise", "auto"),
     *itertools.product(("together", "separate"), sorted({*fastconv.algorithms("conv2d")} - {"winograd"}))],
)
def test_a_nan_reaches_what_sees_it(way: str, algorithm: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever computes, but for winograd, which spreads it over a tile; seen from a convolution, its gradient too."""
    force(way, monkeypatch)
    for groups, stride, dilation in [(1, 2, 1), (4, 2, 1), (1, 1, 1), (2, (2, 1), (1, 2))]:
        x_shape, weight_shape = (2, 4, 6, 18), (4, 4 // groups, 4, 4)
        options = {"stride": stride, "padding": 1, "dilation": dilation, "groups": groups}
        if not can(way, x_shape, weight_shape, options):
            continue
        x, weight = values(x_shape, "float32"), values(weight_shape, "float32", 1)
        try:
            clean = fastconv.conv_transpose2d(x, weight, **options, algorithm=algorithm)
        except ValueError as error:
            assert "cannot do this" in str(error)  # noqa: PT017
            continue
        for place in [(0, 0, 0, 0), (1, 3, 5, 17), (0, 1, 3, 0), (1, 2, 5, 9)]:
            spoiled, sees = x.copy(), np.zeros(x_shape)
            spoiled[place], sees[place] = value, 1
            seen = reference.conv_transpose(sees, np.ones(weight_shape), **options)[0] > 0
            result = fastconv.conv_transpose2d(spoiled, weight, **options, algorithm=algorithm)
            np.testing.assert_array_equal(np.isfinite(result), ~seen)
            np.testing.assert_allclose(result[~seen], clean[~seen], rtol=0, atol=1e-5)
            gradient = fastconv.grad.conv2d_input(result.shape, weight, spoiled, **options, algorithm=algorithm)
            np.testing.assert_array_equal(gradient, result)


def test_depthwise_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows of planes, which several threads make: no bit changes."""
    x, weight = values((2, 3, 40, 41), "float32"), values((3, 1, 5, 4), "float32", 1)
    options = {"stride": 2, "groups": 3}
    problem = transpose(x.shape, weight.shape, options)
    whole = transpose_depthwise.blocking(problem)
    force("depthwise", monkeypatch)
    results = [fastconv.conv_transpose2d(x, weight, **options)]
    monkeypatch.setattr(transpose_depthwise, "PATCH_BYTES", 2000)
    monkeypatch.setattr(transpose_depthwise, "blocking", transpose_depthwise.blocking.__wrapped__)
    assert transpose_depthwise.blocking(problem).tall < 40 < whole.tall
    for count in (1, None):
        with threads(count):
            results.append(fastconv.conv_transpose2d(x, weight, **options))
    assert_close(results[0], *reference.conv_transpose(x, weight, **options))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_planes_that_phases_see_are_gathered_once(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a phase in depth, by four in the plane."""
    gather, calls = volumes.gather, []
    monkeypatch.setattr(volumes, "gather", lambda *args: (calls.append(args), gather(*args)))
    force("separate", monkeypatch)
    x, weight = values((1, 4, 3, 5, 6), dtype), values((4, 3, 4, 4, 4), dtype, 1)
    for seen in (x, -x):
        calls.clear()
        result = fastconv.conv_transpose3d(seen, weight, stride=2, padding=1, algorithm="direct")
        assert_close(result, *reference.conv_transpose(seen, weight, stride=2, padding=1))
        assert len(calls) == 2


def test_the_cheapest_way() -> None:
    """Many weights and few pixels are multiplied, depthwise layers with a stride made at once."""
    for x_shape, weight_shape, groups, way in [
        ((1, 512, 4, 4), (512, 512, 4, 4), 1, ways.Product),
        ((1, 32, 64, 64), (32, 32, 4, 4), 1, ways.Convolutions),
        ((1, 64, 28, 28), (64, 1, 4, 4), 64, ways.Depthwise),
    ]:
        problem = transpose(x_shape, weight_shape, {"stride": 2, "padding": 1, "groups": groups})
        assert type(transposed._way(problem, "auto", True)) is way


def test_transposed_plans() -> None:
    x, weight, bias = values((2, 6, 9, 8), "float32"), values((6, 2, 4, 3), "float32", 1), values((4,), "float32", 2)
    options = {"stride": 2, "padding": 1, "groups": 2}
    expected, scale = reference.conv_transpose(x, weight, bias, **options)
    plans = [fastconv.plan_conv_transpose2d(x.shape, weight, bias, **options, algorithm=algorithm, measure=measure)
             for algorithm, measure in [("auto", False), ("naive", False), ("direct", False), ("auto", True)]]
    assert [planned.algorithm for planned in plans[1:3]] == ["naive", "direct"]
    for planned in plans:
        assert_close(planned(x), expected, scale)
        short = x.astype(np.float16)
        assert_close(planned(short), *reference.conv_transpose(short, weight, bias, **options))
        assert planned.output_shape == expected.shape
        assert planned.flops == 2 * x.size * weight[0].size
        for part in (f"algorithm={planned.algorithm!r}", f"scratch_bytes={planned.scratch_bytes}", str(expected.shape),
                     "conv_transpose2d", str(x.shape), str(weight.shape), "float32", "stride=(2, 2)", "groups=2"):
            assert part in repr(planned)
    images = [values(x.shape, "float32", seed) for seed in range(8)]
    wanted = [reference.conv_transpose(image, weight, bias, **options) for image in images]
    with threads(None), ThreadPoolExecutor(8) as pool:
        for planned in plans:
            for result, (right, size) in zip(pool.map(planned, images), wanted, strict=True):
                assert_close(result, right, size)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"x_shape": (2, 6, 9)}, ValueError, "x has 2 channels"),
        ({"x_shape": (2, 5, 9, 8)}, ValueError, "x has 5 channels"),
        ({"x_shape": 5}, TypeError, "x_shape must be a sequence"),
        ({"weight": np.ones((6, 2, 3))}, ValueError, "weight must have shape"),
        ({"bias": np.ones(3)}, ValueError, r"bias must have shape \(2,\)"),
        ({"dtype": "complex64"}, TypeError, "dtype must name a supported dtype"),
        ({"output_padding": 2}, ValueError, "output_padding must be less"),
        ({"device": "gpu"}, ValueError, "device must be 'cpu', 'cuda' or None"),
        ({"measure": 1}, TypeError, "measure must be True or False"),
        ({"measure": True, "algorithm": "direct"}, ValueError, "measure=True finds an algorithm"),
        ({"algorithm": "fast"}, ValueError, "algorithm must be"),
        ({"algorithm": None}, TypeError, "algorithm must be a string"),
    ],
)
def test_transposed_plans_that_do_not_fit(changed: dict, error: type, words: str) -> None:
    given = {"x_shape": (2, 6, 9, 8), "weight": np.ones((6, 2, 4, 3)), "stride": 2, **changed}
    with pytest.raises(error, match=words):
        fastconv.plan_conv_transpose2d(**given)


def test_a_transposed_plan_refuses_what_it_is_not_for() -> None:
    planned = fastconv.plan_conv_transpose1d((2, 3, 9), np.ones((3, 2, 4), np.float32))
    for x, error in [(np.ones((2, 3, 8)), ValueError), (np.ones((2, 3, 9)), TypeError), (None, TypeError)]:
        with pytest.raises(error, match="x has"):
            planned(x)
    x = np.ones((2, 3, 9), np.float32)
    for out in (np.ones((2, 2, 11), np.float32), np.ones((2, 2, 12)), x):
        with pytest.raises(ValueError, match="out"):
            planned(x, out=out)


def test_transposed_integers() -> None:
    x, weight = values((2, 4, 5, 6), "int8"), values((4, 3, 4, 3), "int8", 1)
    expected, _ = reference.conv_transpose(x, weight, stride=2)
    result = fastconv.conv_transpose2d(x, weight, stride=2)
    np.testing.assert_array_equal(result, expected.astype(np.int32), strict=True)


def test_output_size_tells_the_output_padding_or_the_padding() -> None:
    x, weight = values((1, 4, 5, 6), "float32"), values((4, 3, 3, 3), "float32", 1)

    for output_size, given, told in [
        ((10, 11), {"padding": 1}, {"padding": 1, "output_padding": (1, 0)}),  # as PyTorch's layer
        ((12, 13), {}, {"output_padding": (1, 0)}),
        ((8, 10), {}, {"padding": ((2, 1), (2, 1))}),  # as ONNX: the odd one at the start
        ((8, 10), {"padding": "same"}, {"padding": ((1, 2), (1, 2))}),
    ]:
        result = fastconv.conv_transpose2d(x, weight, stride=2, output_size=output_size, **given)
        assert result.shape == (1, 3, *output_size)
        np.testing.assert_array_equal(result, fastconv.conv_transpose2d(x, weight, stride=2, **told))
    plain = fastconv.conv_transpose2d(x, weight, stride=2, padding="same")
    assert plain.shape == (1, 3, 10, 12)
    np.testing.assert_array_equal(plain, fastconv.conv_transpose2d(x, weight, stride=2, padding=((0, 1), (0, 1))))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"padding": 1, "output_size": (8, 11), "stride": 2}, "output_size must be from 9 to 10"),
        ({"output_size": (30, 11), "stride": 2}, "output_size must be from 1 to 12"),
        ({"output_size": 10, "output_padding": 1, "stride": 2}, "exclude each other"),
        ({"output_padding": 1}, "output_padding must be less"),
        ({"padding": 20}, "cuts off all"),
        ({"groups": 3}, "groups must divide"),
        ({"bias": np.ones(4)}, r"bias must have shape \(3,\)"),
    ],
)
def test_transposed_arguments_that_do_not_fit_together(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fastconv.conv_transpose2d(np.ones((1, 4, 5, 6)), np.ones((4, 3, 3, 3)), **options)


# -- adaptive pooling, unpooling -----------------------------------------------------------------------------


def windows(size: int, outputs: int) -> list[slice]:
    return [slice(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("size", [1, 7, (3, 5), (11, 13), (4, 1), (20, 30), (None, 6), (12, None)])
def test_adaptive_pooling(size: Any, dtype: str) -> None:
    x = values((2, 3, 11, 13), dtype)
    if dtype == "float32":
        x[0, 0, 5, 6], x[0, 0, 5, 7] = np.nan, np.inf
    outs = [old if new is None else new for old, new in zip((11, 13), reference.both(size), strict=True)]
    means = np.empty((2, 3, *outs))
    best, places = np.empty(means.shape, dtype), np.empty(means.shape, np.int64)
    flat = np.arange(11 * 13).reshape(11, 13)
    both = (enumerate(windows(*axis)) for axis in zip((11, 13), outs, strict=True))
    for (i, rows), (j, columns) in itertools.product(*both):
        seen = x[..., rows, columns].reshape(2, 3, -1)
        means[..., i, j] = seen.astype(np.float64).mean(-1)
        best[..., i, j] = seen.max(-1)
        order = np.where(np.isnan(seen.astype(np.float64)), np.inf, seen.astype(np.float64)).argmax(-1)
        order = np.where(np.isnan(seen.astype(np.float64)).any(-1), np.isnan(seen.astype(np.float64)).argmax(-1), order)
        places[..., i, j] = flat[rows, columns].ravel()[order]
    out = fenced(np.empty(means.shape, dtype if dtype != "int8" else np.float64))
    result = fastconv.adaptive_avg_pool2d(fenced(x), size, out=out)
    assert result is out
    finite = np.isfinite(means)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(means))
    assert_close(np.where(finite, out, out.dtype.type(0)), np.where(finite, means, 0), 2 if dtype != "int8" else 128)
    best_found, found = fastconv.adaptive_max_pool2d(fenced(x), size, return_indices=True)
    np.testing.assert_array_equal(best_found, best, strict=True)
    np.testing.assert_array_equal(found, places)
    np.testing.assert_array_equal(fastconv.adaptive_max_pool2d(x, size), best, strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "int64"])
def test_unpooling(dtype: str) -> None:
    x = values((2, 3, 7, 9), dtype)
    maxima, indices = fastconv.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
    out = fenced(np.empty(x.shape, dtype))
    assert fastconv.max_unpool2d(maxima, indices, 3, stride=2, padding=1, out=out) is out
    expected = np.zeros_like(x)
    np.put_along_axis(expected.reshape(2, 3, -1), indices.reshape(2, 3, -1), maxima.reshape(2, 3, -1), -1)
    np.testing.assert_array_equal(out, expected, strict=True)
    assert intact(out)
    assert fastconv.max_unpool2d(maxima, indices, 3, stride=2, padding=1, output_size=(8, 10)).shape == (2, 3, 8, 10)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"indices": [[0, 1], [2, 16]]}, "indices must be from 0 to 15, got 16"),
        ({"indices": [[0, 1], [2, -1]]}, "indices must be from 0 to 15, got -1"),
        ({"indices": [[0, 1]]}, "indices has shape"),
        ({"output_size": (6, 4)}, "output_size must"),
        ({"padding": 2}, "output_size must"),
    ],
)
def test_unpooling_to_where_there_is_nothing(changed: dict, words: str) -> None:
    good = {"x": [[1.0, 2.0], [3.0, 4.0]], "indices": [[0, 2], [8, 10]], "kernel_size": 2}
    assert fastconv.max_unpool2d(**good).sum() == 10
    with pytest.raises(ValueError, match=words):
        fastconv.max_unpool2d(**{**good, **changed})


# -- unrolled ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "int16"])
@pytest.mark.parametrize("options", [{}, {"stride": (2, 3), "padding": ((1, 0), (2, 1)), "dilation": (2, 1)}], ids=str)
def test_unfold_and_fold(options: dict, dtype: str) -> None:
    x = values((2, 3, 8, 9), dtype)
    stride, dilation = reference.both(options.get("stride", 1)), reference.both(options.get("dilation", 1))
    sides = reference.pads(options.get("padding", 0), (8, 9), (3, 2), stride, dilation)
    padded = np.pad(x, ((0, 0), (0, 0), *sides))
    seen = sliding_window_view(padded, (2 * dilation[0] + 1, dilation[1] + 1), (2, 3))
    seen = seen[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    expected = seen.transpose(0, 1, 4, 5, 2, 3).reshape(2, 3 * 6, -1)
    out = fenced(np.empty(expected.shape, dtype))
    guarded = fenced(x)
    assert fastconv.unfold2d(guarded, (3, 2), **options, out=out) is out
    np.testing.assert_array_equal(out, expected, strict=True)
    assert intact(guarded)
    assert intact(out)
    np.testing.assert_array_equal(fastconv.unfold2d(x[0], (3, 2), **options), expected[0])

    # folding is the transpose: each pixel comes back as often as windows see it
    ones = fastconv.unfold2d(np.ones((3, 8, 9)), (3, 2), **options)
    often = fastconv.fold2d(ones, (8, 9), (3, 2), **options)
    folded = fastconv.fold2d(fenced(expected), (8, 9), (3, 2), **options)
    assert folded.dtype == reference.conv_dtype(x)
    np.testing.assert_allclose(folded.astype(np.float64), often * x.astype(np.float64), rtol=2e-3)
    columns = values(expected.shape, "float64", 3)
    image = values(x.shape, "float64", 4)
    np.testing.assert_allclose((fastconv.unfold2d(image, (3, 2), **options) * columns).sum(),
                               (fastconv.fold2d(columns, (8, 9), (3, 2), **options) * image).sum())  # fmt: skip


def test_the_matrix_of_a_correlation() -> None:
    kernel, image = values((3, 2), "int64"), values((6, 7), "int64", 1)
    matrix = fastconv.corr2d_matrix(kernel, image.shape)
    assert matrix.shape == (24, 42)
    assert matrix.nnz == 24 * 6
    np.testing.assert_array_equal(matrix @ image.ravel(), fastconv.corr2d(image, kernel).ravel())
