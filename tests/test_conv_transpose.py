"""Transposed convolution: every algorithm of its table, few hostile cases, against the oracle."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import reference
from cases import TRANSPOSED, fenced, intact, threads, values
from reference import assert_close

import fastconv
from fastconv.cpu import planner
from fastconv.cpu.algorithms import transpose_depthwise
from fastconv.cpu.shared import volumes
from fastconv.planner import choose
from fastconv.specs.conv_transpose import TransposeSpec, transpose_spec

pytestmark = pytest.mark.usefixtures("one_thread")

#: Those that are not a convolution's by name.
WAYS = ("depthwise", "columns", "joint", "phases")
ALGORITHMS = fastconv.algorithms("conv_transpose2d")


class Operand:
    """An array's shape and dtype."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)


def transpose(x_shape: tuple, weight_shape: tuple, options: dict, dtype: str = "float32") -> TransposeSpec:
    given = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "output_size": None} | options
    groups, weight = given.pop("groups", 1), Operand(weight_shape, dtype)
    axes, geometry = len(weight_shape) - 2, tuple(given.values())
    return transpose_spec(axes, x_shape, np.dtype(dtype), weight, None, geometry, groups)  # type: ignore[arg-type]


def test_the_table() -> None:
    assert ALGORITHMS[:4] == WAYS
    assert set(ALGORITHMS) == {*WAYS, *fastconv.algorithms("conv2d")}
    assert fastconv.algorithms("conv2d_input") == fastconv.algorithms("conv_transpose3d") == ALGORITHMS


@pytest.mark.parametrize("algorithm", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8"])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_every_algorithm(case: str, dtype: str, algorithm: str) -> None:
    check(*TRANSPOSED[case], dtype, algorithm)


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name not in WAYS])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_by_every_convolution(case: str, algorithm: str) -> None:
    check(*TRANSPOSED[case], "float32", algorithm)


def oracle(x: np.ndarray, weight: np.ndarray, *bias: np.ndarray, **options: Any) -> tuple[np.ndarray, Any]:
    """Integers as they are added up."""
    expected, scale = reference.conv_transpose(x, weight, *bias, **options)
    return expected if x.dtype.kind == "f" else expected.astype(reference.conv_dtype(x, weight)), scale


def check(x_shape: tuple, weight_shape: tuple, options: dict[str, Any], dtype: str, algorithm: str) -> None:
    """A call and a plan against the oracle; or the reason why not."""
    x, weight = values(x_shape, dtype), values(weight_shape, dtype, 1)
    bias = values((weight_shape[1] * options.get("groups", 1),), dtype, 2)
    call, plan = (getattr(fastconv, f"{start}conv_transpose{x.ndim - 2}d") for start in ("", "plan_"))
    if reason := planner.reason(transpose(x_shape, weight_shape, options, dtype), algorithm):
        with pytest.raises(ValueError, match=f"{algorithm!r} cannot do this") as refused:
            call(x, weight, bias, **options, algorithm=algorithm)
        assert reason in str(refused.value)
        return
    expected, scale = oracle(x, weight, bias, **options)
    out = fenced(np.empty(expected.shape, reference.conv_dtype(x, weight)))
    assert call(fenced(x), fenced(weight), bias, **options, algorithm=algorithm, out=out) is out
    assert_close(out, expected, scale)
    assert intact(out)
    plain = call(x, weight, **options, algorithm=algorithm)
    assert_close(plain, *oracle(x, weight, **options))
    planned = plan(x.shape, weight, bias, **options, algorithm=algorithm)
    assert planned.algorithm == algorithm
    if len(x):
        assert_close(call(x[0], weight, bias, **options, algorithm=algorithm), expected[0], scale)
    weight[...], bias[...] = 0, 0  # changes no plan
    out[...] = 0
    assert planned(fenced(x), out=out) is out
    assert_close(out, expected, scale)
    assert intact(out)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("algorithm", sorted({*ALGORITHMS} - {"joint", "phases", "winograd"}))
def test_a_nan_reaches_what_sees_it(algorithm: str, value: float) -> None:
    """Whatever computes, but for winograd, which spreads it over a tile; seen from a convolution, its gradient too."""
    for groups, stride, dilation in [(1, 2, 1), (4, 2, 1), (1, 1, 1), (2, (2, 1), (1, 2))]:
        x_shape, weight_shape = (2, 4, 6, 18), (4, 4 // groups, 4, 4)
        options = {"stride": stride, "padding": 1, "dilation": dilation, "groups": groups}
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
    problem = transpose(x.shape, weight.shape, options).convolution
    whole = transpose_depthwise.blocking(problem)
    options["algorithm"] = "depthwise"
    results = [fastconv.conv_transpose2d(x, weight, **options)]
    monkeypatch.setattr(transpose_depthwise, "PATCH_BYTES", 2000)
    for name in ("blocking", "_prepared"):
        monkeypatch.setattr(transpose_depthwise, name, getattr(transpose_depthwise, name).__wrapped__)
    assert transpose_depthwise.blocking(problem).tall < 40 < whole.tall
    for count in (1, None):
        with threads(count):
            results.append(fastconv.conv_transpose2d(x, weight, **options))
    assert_close(results[0], *reference.conv_transpose(x, weight, stride=2, groups=3))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_planes_that_phases_see_are_gathered_once(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a phase in depth, by four in the plane."""
    gather, calls = volumes.gather, []
    monkeypatch.setattr(volumes, "gather", lambda *args: (calls.append(args), gather(*args)))
    monkeypatch.setattr(planner, "_cheapest", lambda op, spec, *_: choose.Choice(planner._named(op, spec, "direct")))
    x, weight = values((1, 4, 3, 5, 6), dtype), values((4, 3, 4, 4, 4), dtype, 1)
    phases = next(one for one in planner.table("conv_transpose3d") if choose.name(one) == "phases")
    phases._prepared.cache_clear()
    for seen in (x, -x):
        calls.clear()
        result = fastconv.conv_transpose3d(seen, weight, stride=2, padding=1, algorithm="phases")
        assert_close(result, *reference.conv_transpose(seen, weight, stride=2, padding=1))
        assert len(calls) == 2


def test_the_cheapest() -> None:
    """Many weights and few pixels are multiplied, depthwise layers with a stride made at once."""
    for x_shape, weight_shape, groups, algorithm in [
        ((1, 512, 4, 4), (512, 512, 4, 4), 1, "columns"),
        ((1, 32, 64, 64), (32, 32, 4, 4), 1, "joint"),
        ((1, 32, 64, 64), (32, 32, 3, 3), 1, "phases"),
        ((1, 64, 28, 28), (64, 1, 4, 4), 64, "depthwise"),
    ]:
        problem = transpose(x_shape, weight_shape, {"stride": 2, "padding": 1, "groups": groups})
        assert choose.name(planner.choose(problem, "auto", for_one_call=True).algorithm) == algorithm


def test_plans() -> None:
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
        ({"x_shape": (2, 6, 9)}, ValueError, "x_shape has 2 channels"),
        ({"x_shape": (2, 5, 9, 8)}, ValueError, "x_shape has 5 channels"),
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
def test_plans_that_do_not_fit(changed: dict, error: type, words: str) -> None:
    given = {"x_shape": (2, 6, 9, 8), "weight": np.ones((6, 2, 4, 3)), "stride": 2, **changed}
    with pytest.raises(error, match=words):
        fastconv.plan_conv_transpose2d(**given)


def test_a_plan_refuses_what_it_is_not_for() -> None:
    planned = fastconv.plan_conv_transpose1d((2, 3, 9), np.ones((3, 2, 4), np.float32))
    for x, error in [(np.ones((2, 3, 8)), ValueError), (np.ones((2, 3, 9)), TypeError), (None, TypeError)]:
        with pytest.raises(error, match="x has"):
            planned(x)
    x = np.ones((2, 3, 9), np.float32)
    for out in (np.ones((2, 2, 11), np.float32), np.ones((2, 2, 12)), x):
        with pytest.raises(ValueError, match="out"):
            planned(x, out=out)


def test_integers() -> None:
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


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", "same_lower"])
def test_same_is_the_input_times_the_stride(padding: str, axes: int) -> None:
    """What ONNX's `auto_pad` cuts: half of ``(size - 1) * stride + window + output_padding - size * stride``."""
    for taps, stride, dilation in itertools.product((1, 2, 3, 4), (1, 2, 3), (1, 2)):
        for extra in range(max(stride, dilation)):
            x, weight = values((1, 2, *(3,) * axes), "float64"), values((2, 1, *(taps,) * axes), "float64", 1)
            options = {"stride": stride, "dilation": dilation}
            result = getattr(fastconv, f"conv_transpose{axes}d")(
                x, weight, padding=padding, output_padding=extra, **options)
            assert result.shape[2:] == (3 * stride,) * axes
            whole, scale = reference.conv_transpose(x, weight, output_padding=max(stride, dilation), **options)
            less = max(0, 2 * stride + dilation * (taps - 1) + 1 + extra - 3 * stride)
            first = less // 2 if padding == "same" else -(-less // 2)
            cut = slice(first, first + 3 * stride)
            assert_close(result, whole[(..., *(cut,) * axes)], scale)


def test_the_node_case_of_onnx() -> None:
    """convtranspose_autopad_same, SAME_UPPER; and SAME_LOWER of the same node, by ONNX's formula."""
    x, weight = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3), np.ones((1, 1, 3, 3), np.float32)
    everything = np.array([[0, 0, 1, 1, 3, 2, 2], [0, 0, 1, 1, 3, 2, 2], [3, 3, 8, 5, 12, 7, 7], [3, 3, 7, 4, 9, 5, 5],
                           [9, 9, 20, 11, 24, 13, 13], [6, 6, 13, 7, 15, 8, 8], [6, 6, 13, 7, 15, 8, 8]])
    upper, lower = (fastconv.conv_transpose2d(x[0], weight, stride=2, padding=name)[0]
                    for name in ("same", "same_lower"))  # fmt: skip
    np.testing.assert_array_equal(upper, everything[:-1, :-1])
    np.testing.assert_array_equal(lower, everything[1:, 1:])


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
def test_arguments_that_do_not_fit_together(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fastconv.conv_transpose2d(np.ones((1, 4, 5, 6)), np.ones((4, 3, 3, 3)), **options)
