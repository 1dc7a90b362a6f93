"""Poolings on the GPU: every algorithm on every problem and dtype, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from cases import Pool, values
from reference import assert_close
from small import POOL, SIMULATED

import fastconv
from fastconv.cuda import planner as gpu
from fastconv.planner import choose
from fastconv.specs import pool

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")]

PUBLIC = {op: getattr(fastconv, f"{op}_pool2d") for op in ("max", "min", "avg", "lp")}
ORACLE = {op: getattr(reference, f"{op}_pool2d") for op in PUBLIC}
CALLS: list[tuple[str, tuple, dict[str, Any]]] = [
    ("max", (), {"return_indices": True}),
    ("avg", (), {}),
    ("avg", (), {"count_include_pad": False}),
    ("lp", (2.0,), {"divisor_override": 3}),
    ("lp", (np.inf,), {}),
    ("min", (), {"return_indices": True}),
]
#: On a GPU there is time for more of everything.
if not SIMULATED:
    CALLS += [("max", (), {}), ("min", (), {}), ("avg", (), {"divisor_override": 5}), ("lp", (1,), {}),
              ("lp", (3,), {})]  # fmt: skip
TRIED = [(*call, algorithm) for call in CALLS for algorithm in fastconv.algorithms(f"{call[0]}_pool2d", "cuda")]
DTYPES = ("float16", "float64", "bool", "int8", "int64")
PROBLEMS = [pytest.param(case, dtype, id=f"{case.name}-{dtype}")
            for case in POOL for dtype in ("float32", *(DTYPES if case.plain else ()))]


def unsupported(algorithm: str, op: str, x: np.ndarray, kernel: Any, args: tuple, **options: Any) -> str | None:
    options = {name: value for name, value in options.items() if name != "return_indices"}
    if args:
        options["norm_type"] = args[0]
    problem = pool.pool_spec(op, x.shape, x.dtype, kernel, options.pop("stride", None), **options)
    (module,) = (module for module in gpu.table(f"{op}_pool2d") if choose.name(module) == algorithm)
    return module.supports(problem)


IDS = [" ".join(map(str, (op, *args, *options, algorithm))) for op, args, options, algorithm in TRIED]


@pytest.mark.parametrize(("op", "args", "options", "algorithm"), TRIED, ids=IDS)
@pytest.mark.parametrize(("case", "dtype"), PROBLEMS)
def test_every_algorithm(case: Pool, dtype: str, op: str, args: tuple, options: dict[str, Any], algorithm: str) -> None:
    if SIMULATED and dtype != "float32" and "count_include_pad" in options:
        return  # the other call of averages tries this dtype
    x, options = case.array(dtype), case.options | options
    if unsupported(algorithm, op, x, case.kernel, args, **options) is not None:
        with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
            PUBLIC[op](x, *args, case.kernel, **options, device="cuda", algorithm=algorithm)
        return
    result = PUBLIC[op](x, *args, case.kernel, **options, device="cuda", algorithm=algorithm)
    if op in ("max", "min"):
        expected, found = ORACLE[op](x, case.kernel, **case.options)
        if options.get("return_indices"):
            result, indices = result
            np.testing.assert_array_equal(indices, found, strict=True)
        np.testing.assert_array_equal(result, expected, strict=True)
    else:
        expected, scale = ORACLE[op](x, *args, case.kernel, **options)
        assert result.dtype == (x.dtype if x.dtype.kind == "f" else np.float64)
        assert_close(result, expected, scale)


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("algorithm", fastconv.algorithms("max_pool2d", "cuda"))
def test_ties_nan_and_infinity(algorithm: str, op: str) -> None:
    """The first of equals, the last NaN, and an infinity that is a value, not padding."""
    x = values((1, 1, 6, 7), "float32").round()
    x[0, 0, 1, 2] = x[0, 0, 3, 4] = np.nan
    x[0, 0, 4:, :3] = -np.inf if op == "max" else np.inf
    expected, found = ORACLE[op](x, (3, 2), 1, (1, 1))
    call = {"device": "cuda", "algorithm": algorithm}
    result, indices = PUBLIC[op](x, (3, 2), 1, (1, 1), return_indices=True, **call)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(indices, found)
    np.testing.assert_array_equal(PUBLIC[op](x, (3, 2), 1, (1, 1), **call), expected)


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("algorithm", fastconv.algorithms("max_pool2d", "cuda"))
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "uint64"])
def test_extreme_integers(dtype: str, algorithm: str, op: str) -> None:
    low, high = (False, True) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = (low, high) if op == "max" else (high, low)
    x = np.full((3, 4), low, dtype)
    x[1, 2] = high
    expected, found = ORACLE[op](x, 2, 1, 1)
    result, indices = PUBLIC[op](x, 2, 1, 1, return_indices=True, device="cuda", algorithm=algorithm)
    np.testing.assert_array_equal(result, expected, strict=True)
    np.testing.assert_array_equal(indices, found)


@pytest.mark.parametrize("algorithm", fastconv.algorithms("avg_pool2d", "cuda"))
def test_nan_stays_where_it_is_seen(algorithm: str) -> None:
    x = values((1, 1, 5, 9), "float32")
    x[0, 0, 2, 1] = np.nan
    expected, _ = reference.avg_pool2d(x, (2, 3), 1)
    result = fastconv.avg_pool2d(x, (2, 3), 1, device="cuda", algorithm=algorithm)
    assert (np.isnan(result) == np.isnan(expected)).all()


def test_the_error_of_a_mean_does_not_grow_with_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a block has a large window for itself; and infinities stay what they are."""
    from fastconv.cuda.algorithms import pool_global
    from fastconv.cuda.shared.pooling import plus

    monkeypatch.setattr(pool_global, "PART", 1 << 40)
    x = np.full((2, 1 << 14 if SIMULATED else 1 << 24), 0.1, np.float32)
    x[1, 5_000] = np.inf
    result = fastconv.avg_pool2d(x, (1, x.shape[1]), device="cuda", algorithm="global")
    np.testing.assert_allclose(result, [[0.1], [np.inf]], rtol=1e-6)
    if SIMULATED:
        added, total, lost = plus(True, x.dtype), np.float32(0), np.float32(0)
        for _ in range(10_000):
            total, lost = added(total, lost, x[0, 0])
        assert total == np.float32(10_000 * np.float64(x[0, 0]))


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("size", [3, 4, 9], ids=["a few threads", "a warp", "parts"])
@pytest.mark.parametrize("op", ["max", "min"])
def test_ties_and_nan_in_shared_windows(op: str, size: int, last: bool) -> None:
    """Threads that share a window fold in another order than they read; first and last are by index."""
    from fastconv.cuda.system.arrays import SimulatedArray

    x = values((1, 6, size, size), "float32").round().clip(-1, 1)
    x[0, 1, -1, 0] = x[0, 1, 0, -1] = x[0, 1, 1, 1] = np.nan
    x[0, 2], x[0, 3], x[0, 4] = -np.inf, 1, -1
    x[0, 4, -1, -1] = 0
    x = x if op == "max" else -x
    expected, found = ORACLE[op](x, size)
    given = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else x
    if SIMULATED:
        given = SimulatedArray(given)
    best, at = PUBLIC[op](given, size, return_indices=True, device="cuda", algorithm="global")
    mean = fastconv.avg_pool2d(given, size, device="cuda", algorithm="global")
    best, at, mean = (result.copy_to_host() if SIMULATED else result for result in (best, at, mean))
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(at, found)
    assert_close(mean[:, [0, 3, 5]], *reference.avg_pool2d(x[:, [0, 3, 5]], size))
    assert np.isnan(mean[0, 1]).all()
