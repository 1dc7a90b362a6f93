"""Signals and volumes, convolved and pooled: every algorithm, few hostile cases, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from cases import fenced, intact, values
from reference import assert_close

import fastconv
from fastconv.cpu import planner
from fastconv.cpu.shared import volumes
from fastconv.planner import choose
from fastconv.specs import conv, pool

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
CALLS = [("max", (), {"return_indices": True}), ("max", (), {}), ("avg", (), {}), ("lp", (2,), {}), ("lp", (3,), {}),
         ("lp", (np.inf,), {}), ("lp", (1,), {"divisor_override": 5}), ("min", (), {}),
         ("min", (), {"return_indices": True}),
         ("avg", (), {"count_include_pad": False}), ("avg", (), {"divisor_override": 5})]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "float16"])
@pytest.mark.parametrize(("axes", "case"), POOLS)
@pytest.mark.parametrize(("op", "args", "more"), CALLS, ids=str)
def test_pooling(op: str, args: tuple, more: dict, axes: int, case: str, dtype: str) -> None:
    shape, kernel, options = (BOXES if axes == 3 else LINES)[case]
    x = values(shape, dtype)
    if op in ("max", "min"):  # many equal maxima
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
        if op in ("max", "min"):
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


def test_the_error_of_a_mean_does_not_grow_with_its_window() -> None:
    x = np.full((20_000, 1, 2), 0.1, np.float32)
    for algorithm in ("auto", "rows", "running"):
        result = fastconv.avg_pool3d(x, (10_000, 1, 1), 1, algorithm=algorithm)
        np.testing.assert_allclose(result, np.full((10_001, 1, 2), x[0, 0, 0]), rtol=5e-6)


def test_volumes_are_pooled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "POOLED_BYTES", 3000)
    x = values((3, 3, 6, 9, 10), "float32")
    expected, found = reference.max_pool2d(x, 3, 2, 1, axes=3)
    result, indices = fastconv.max_pool3d(x, 3, 2, 1, return_indices=True, algorithm="rows")
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(indices, found)
