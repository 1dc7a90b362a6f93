"""Volumes on the GPU: convolutions and poolings of three spatial axes, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from cases import values
from reference import assert_close
from small import SIMULATED

import fastconv
from fastconv.cuda import planner as gpu
from fastconv.planner import choose
from fastconv.specs import conv
from fastconv.specs.pool import pool_spec

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")]

CONV: dict[str, tuple[tuple, tuple, dict[str, Any]]] = {
    "plain": ((2, 2, 3, 4, 5), (3, 2, 2, 3, 3), {"padding": 1, "activation": "relu"}),
    "everything": ((1, 4, 6, 5, 4), (2, 2, 2, 2, 3), {"stride": (2, 1, 2), "padding": ((0, 2), (1, 0), (1, 2)),
                                                      "dilation": (3, 1, 1), "groups": 2}),
    "one plane deep": ((2, 2, 3, 4, 5), (2, 2, 1, 3, 3), {"stride": (2, 1, 1)}),
    "no batch axis, 1x1x1": ((4, 3, 2, 3), (3, 4, 1, 1, 1), {}),
    "depth of the kernel only, stride": ((1, 3, 7, 2, 2), (2, 3, 3, 1, 1), {"stride": (2, 1, 1), "padding": (1, 0, 0)}),
    "batch 0": ((0, 2, 3, 4, 4), (3, 2, 3, 3, 3), {}),
}
POOL: dict[str, tuple[tuple, Any, dict[str, Any]]] = {
    "plain": ((2, 2, 4, 4, 5), 2, {}),
    "everything": ((2, 7, 6, 5), (3, 2, 2), {"stride": (2, 2, 1), "padding": ((1, 1), (0, 1), (1, 0)),
                                             "dilation": (1, 2, 1), "ceil_mode": True}),
}
LAYOUTS = {"dense": (0, 1, 2, 3, 4), "channels last": (0, 2, 3, 4, 1)}


def given(case: str, dtype: str) -> tuple[list[np.ndarray], dict[str, Any]]:
    x_shape, weight_shape, options = CONV[case]
    shapes = x_shape, weight_shape, weight_shape[:1]
    return [values(shape, dtype, seed) for seed, shape in enumerate(shapes)], options


def expect(arrays: list[np.ndarray], activation: str | None = None, **options: Any) -> tuple[np.ndarray, Any]:
    result, scale = reference.conv2d(*arrays, **options)
    return (np.maximum(result, 0) if activation else result), scale


def check(case: str, algorithm: str, dtype: str = "float32") -> None:
    arrays, options = given(case, dtype)
    problem = conv.conv_spec(arrays[0].shape, arrays[1].shape, [arrays[0].dtype], axes=3, **options)
    if algorithm != "auto":
        (module,) = (found for found in gpu.table("conv3d") if choose.name(found) == algorithm)
        if module.supports(problem):
            with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
                fastconv.conv3d(*arrays, **options, device="cuda", algorithm=algorithm)
            return
    result = fastconv.conv3d(*arrays, **options, device="cuda", algorithm=algorithm)
    assert_close(result, *expect(arrays, **options))


@pytest.mark.parametrize("algorithm", fastconv.algorithms("conv3d", "cuda"))
@pytest.mark.parametrize("case", ["plain", "everything", "one plane deep"])
def test_every_algorithm(case: str, algorithm: str) -> None:
    check(case, algorithm)


@pytest.mark.parametrize("case", CONV)
def test_conv3d(case: str) -> None:
    check(case, "auto")


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8"])
def test_dtypes(dtype: str) -> None:
    check("everything", "auto", dtype)


@pytest.mark.skipif(not SIMULATED, reason="device arrays of the simulator")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_on_the_device(layout: str) -> None:
    from fastconv.cuda.system.arrays import SimulatedArray

    order = LAYOUTS[layout]
    arrays, options = given("plain", "float32")
    there = [SimulatedArray(np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order)))
             if array.ndim == 5 else SimulatedArray(array) for array in arrays]
    expected, scale = expect(arrays, **options)
    out = SimulatedArray(np.empty([expected.shape[axis] for axis in order], np.float32).transpose(np.argsort(order)))
    assert fastconv.conv3d(*there, **options, out=out) is out
    assert_close(out.array, expected, scale)
    plan = fastconv.plan_conv3d(arrays[0].shape, *there[1:], **options)
    assert_close(plan(there[0]).copy_to_host(), expected, scale)
    pooled, scale = reference.avg_pool2d(arrays[0], 2, axes=3)
    out = SimulatedArray(np.empty([pooled.shape[axis] for axis in order], np.float32).transpose(np.argsort(order)))
    fastconv.avg_pool3d(there[0], 2, out=out, algorithm="rows")
    assert_close(out.array, pooled, scale)


@pytest.mark.parametrize("algorithm", fastconv.algorithms("max_pool3d", "cuda"))
@pytest.mark.parametrize("case", POOL)
@pytest.mark.parametrize("op", ["max", "min"])
def test_pooling(op: str, case: str, algorithm: str) -> None:
    (shape, kernel, options), pooling = POOL[case], getattr(fastconv, f"{op}_pool3d")
    for dtype in ("float32", "float16", "int8"):
        x = values(shape, dtype)
        call = {"return_indices": True, "device": "cuda", "algorithm": algorithm}
        problem = pool_spec(op, x.shape, x.dtype, kernel, axes=3, **options)
        (module,) = (found for found in gpu.table("max_pool3d") if choose.name(found) == algorithm)
        if module.supports(problem):
            with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
                pooling(x, kernel, **options, **call)
            return
        result, indices = pooling(x, kernel, **options, **call)
        expected = pooling(x, kernel, **options, return_indices=True, algorithm="naive")
        assert (result == expected[0]).all()
        assert (indices == expected[1]).all()
        alone = pooling(x, kernel, **options, device="cuda", algorithm=algorithm)
        assert alone.dtype == x.dtype
        assert (alone == result).all()
        for divisor in ({"count_include_pad": False}, {"divisor_override": 3}, {}):
            mean = fastconv.avg_pool3d(x, kernel, **options, **divisor, device="cuda", algorithm=algorithm)
            assert_close(mean, *reference.avg_pool2d(x, kernel, **options, **divisor, axes=3))


def test_lp_pooling() -> None:
    shape, kernel, options = POOL["everything"]
    x = values(shape, "float32")
    for norm in (1, 2, 3, np.inf):
        result = fastconv.lp_pool3d(x, norm, kernel, **options, device="cuda")
        assert_close(result, *reference.lp_pool2d(x, norm, kernel, **options, axes=3))
    result = fastconv.lp_pool3d(x, 2, kernel, **options, device="cuda", algorithm="rows")
    assert_close(result, *reference.lp_pool2d(x, 2, kernel, **options, axes=3))
    with pytest.raises(ValueError, match="'rows' cannot do this: it is for the norms"):
        fastconv.lp_pool3d(x, 3, kernel, **options, device="cuda", algorithm="rows")
