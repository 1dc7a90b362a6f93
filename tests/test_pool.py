"""Pooling by maximum, minimum, mean and norm: every algorithm, every hostile case, every dtype, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from cases import INTEGERS, LAYOUTS, POOL, TELLING, Pool, fenced, intact, threads, values
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import assert_close

import fastconv
from fastconv.cpu import planner
from fastconv.planner import choose
from fastconv.specs import pool

pytestmark = pytest.mark.usefixtures("one_thread")

PUBLIC = {op: getattr(fastconv, f"{op}_pool2d") for op in ("max", "min", "avg", "lp")}
ORACLE = {op: getattr(reference, f"{op}_pool2d") for op in PUBLIC}
#: Ways to call each operation; positional arguments go before the kernel.
CALLS = [
    ("max", (), {"return_indices": False}),
    ("max", (), {"return_indices": True}),
    ("avg", (), {}),
    ("avg", (), {"count_include_pad": False}),
    ("avg", (), {"divisor_override": 5}),
    ("lp", (1,), {}),
    ("lp", (2.0,), {"count_include_pad": False}),
    ("lp", (np.float32(0.5),), {"divisor_override": 3}),
    ("lp", (3,), {}),
    ("lp", (np.inf,), {"count_include_pad": False}),
    ("min", (), {"return_indices": False}),
    ("min", (), {"return_indices": True}),
]
CALLS = [(op, args, options, algorithm)
         for op, args, options in CALLS for algorithm in ("auto", *fastconv.algorithms(f"{op}_pool2d"))]
PROBLEMS = [
    pytest.param(case, dtype, id=f"{case.name}-{dtype}")
    for case in POOL
    for dtype in (TELLING if case.plain else ("float32", "float64", "int8"))
]


def call_id(value: object) -> str | None:
    if isinstance(value, dict):
        return " ".join(map(str, value.items()))
    return str(value)


def unsupported(algorithm: str, op: str, x: np.ndarray, kernel: Any, args: tuple, **options: Any) -> str | None:
    """Why an algorithm cannot do a problem, None if it can."""
    options = {name: value for name, value in options.items() if name != "return_indices"}
    if args:
        options["norm_type"] = args[0]
    problem = pool.pool_spec(op, x.shape, x.dtype, kernel, options.pop("stride", None), **options)
    (module,) = (module for module in planner.table(f"{op}_pool2d") if choose.name(module) == algorithm)
    return module.supports(problem)


def check(op: str, args: tuple, algorithm: str, x: np.ndarray, kernel: Any, **options: Any) -> None:
    """One call, on arrays with guarded surroundings, against the oracle."""
    guarded = fenced(x)
    if algorithm != "auto" and unsupported(algorithm, op, x, kernel, args, **options) is not None:
        with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
            PUBLIC[op](guarded, *args, kernel, **options, algorithm=algorithm)
        return
    if op in ("max", "min"):
        with_indices = options.pop("return_indices", False)
        expected, found = ORACLE[op](x, kernel, **options)
        out = fenced(np.empty(expected.shape, x.dtype))
        options["return_indices"] = with_indices
        result = PUBLIC[op](guarded, kernel, **options, algorithm=algorithm, out=out)
        if with_indices:
            result, indices = result
            np.testing.assert_array_equal(indices, found, strict=True)
        np.testing.assert_array_equal(out, expected, strict=True)
    else:
        expected, scale = ORACLE[op](x, *args, kernel, **options)
        out = fenced(np.empty(expected.shape, x.dtype if x.dtype.kind == "f" else np.float64))
        result = PUBLIC[op](guarded, *args, kernel, **options, algorithm=algorithm, out=out)
        assert_close(out, expected, scale)
    assert result is out
    assert intact(guarded)
    assert intact(out)


@pytest.mark.parametrize(("op", "args", "options", "algorithm"), CALLS, ids=call_id)
@pytest.mark.parametrize(("case", "dtype"), PROBLEMS)
def test_every_algorithm(case: Pool, dtype: str, op: str, args: tuple, options: dict, algorithm: str) -> None:
    with threads(None if dtype == "float32" else 1):
        check(op, args, algorithm, case.array(dtype), case.kernel, **case.options, **options)


@pytest.mark.parametrize("algorithm", fastconv.algorithms("max_pool2d"))
def test_every_algorithm_is_tried(algorithm: str) -> None:
    reasons = [unsupported(algorithm, op, case.array("float32"), case.kernel, (), **case.options)
               for case in POOL for op in ("max", "avg")]
    assert reasons.count(None) >= 3
    assert all(reason is None or len(reason) > 10 for reason in reasons)


# -- whole problems ------------------------------------------------------------------------------------------


def step(high: int) -> st.SearchStrategy:
    one = st.integers(1, high)
    return st.one_of(one, st.tuples(one, one))


sides = st.tuples(st.integers(0, 3), st.integers(0, 3))
problems = st.fixed_dictionaries(
    {"kernel": step(5)},
    optional={
        "stride": step(5),
        "padding": st.integers(0, 3) | sides | st.tuples(sides, sides) | st.sampled_from(["same", "same_lower"]),
        "dilation": step(4),
        "ceil_mode": st.booleans(),
    },
)


def fits(size: tuple, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, **_: Any) -> bool:
    """Whether windows fit and all of them touch the input, as far as their reach tells."""
    kernel, dilation = reference.both(kernel), reference.both(dilation)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = reference.pads(padding, size, kernel, kernel if stride is None else reference.both(stride), dilation)
    return all(max(p) < r <= n + sum(p) for p, r, n in zip(pads, reach, size, strict=True))


@settings(max_examples=300)
@given(problem=problems, size=st.tuples(st.integers(1, 9), st.integers(1, 20)), call=st.sampled_from(CALLS),
       dtype=st.sampled_from(["float32", "float64", "int8"]), lead=st.sampled_from([(), (1,), (3,), (2, 2), (0, 1)]))
def test_any_problem(problem: dict, size: tuple, call: tuple, dtype: str, lead: tuple) -> None:
    op, args, options, algorithm = call
    try:
        good = fits(size, **problem)
        reference.max_pool2d(np.ones(size), **problem)
    except ValueError:
        good = False
    if good:
        check(op, args, algorithm, values((*lead, *size), dtype), **problem, **options)
    else:
        with pytest.raises(ValueError, match="window"):
            PUBLIC[op](np.ones((*lead, *size), dtype), *args, problem.pop("kernel"), **problem)


# -- numbers -------------------------------------------------------------------------------------------------

AUTO_AND_ALL = ("auto", *fastconv.algorithms("max_pool2d"))


def cannot(op: str, algorithm: str, x: np.ndarray, kernel: Any, options: dict) -> bool:
    return algorithm != "auto" and unsupported(algorithm, op, x, kernel, (), **options) is not None


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("algorithm", AUTO_AND_ALL)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_nan_wins_and_the_last_one_is_found(dtype: str, algorithm: str, op: str) -> None:
    x = np.round(values((2, 3, 12, 40), dtype), 1)
    x[values(x.shape, "uint8", 1) < 40] = np.nan
    x[values(x.shape, "uint8", 2) < 20] = -np.inf if op == "max" else np.inf
    x[0, 0, :4] = np.nan
    x[1, 0, :4] = -np.inf if op == "max" else np.inf
    for kernel, options in ((2, {}), (3, {"stride": 1, "padding": 1}), ((2, 3), {"dilation": 2}), (5, {"stride": 3}),
                            (7, {"stride": 1, "padding": 3}), ((3, 40), {}), ((12, 40), {})):
        if cannot(op, algorithm, x, kernel, options):
            continue
        expected, found = ORACLE[op](x, kernel, **options)
        result, indices = PUBLIC[op](x, kernel, **options, return_indices=True, algorithm=algorithm)
        np.testing.assert_array_equal(result, expected, strict=True)
        np.testing.assert_array_equal(indices, found, strict=True)
        without = PUBLIC[op](x, kernel, **options, algorithm=algorithm)
        np.testing.assert_array_equal(without, expected, strict=True)


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_extreme_integers(dtype: str, op: str) -> None:
    low, high = (False, True) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = (low, high) if op == "max" else (high, low)
    x = np.full((5, 6), low, dtype)
    x[3, 4] = high
    for algorithm in AUTO_AND_ALL if dtype in ("int8", "uint16") else ("auto",):
        for kernel, options in ((3, {"stride": 1, "padding": 1}), ((2, 6), {"stride": 1})):
            if not cannot(op, algorithm, x, kernel, options):
                expected, found = ORACLE[op](x, kernel, **options)
                result, indices = PUBLIC[op](x, kernel, **options, return_indices=True, algorithm=algorithm)
                np.testing.assert_array_equal(result, expected, strict=True)
                np.testing.assert_array_equal(indices, found, strict=True)
                result = PUBLIC[op](x, kernel, **options, algorithm=algorithm)
                np.testing.assert_array_equal(result, expected, strict=True)


@pytest.mark.parametrize("algorithm", fastconv.algorithms("avg_pool2d"))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_averages_keep_nan_and_infinity_in_their_windows(bad: float, algorithm: str) -> None:
    x = values((30, 40), "float32")
    x[4, 20] = bad
    for kernel, stride in ((3, 1), (7, 1), (17, 2), ((3, 40), 1)):
        if cannot("avg", algorithm, x, kernel, {"stride": stride}):
            continue
        result = fastconv.avg_pool2d(x, kernel, stride, algorithm=algorithm)
        seen, _ = reference.max_pool2d(~np.isfinite(x), kernel, stride)
        assert seen.any()
        np.testing.assert_array_equal(~np.isfinite(result), seen)
        expected, scale = reference.avg_pool2d(np.where(np.isfinite(x), x, 0), kernel, stride)
        assert_close(np.where(seen, 0, result), np.where(seen, 0, expected), scale)


@pytest.mark.parametrize("algorithm", AUTO_AND_ALL)
@pytest.mark.parametrize("kernel", [(5, 5), (13, 13), (1, 50), (50, 1), (40, 60), (60, 64)])
def test_averages_of_large_windows_stay_exact(kernel: tuple, algorithm: str) -> None:
    """A huge value leaves nothing behind when it leaves the window, and rounding errors are those of a direct sum."""
    x = values((60, 64), "float32") + np.float32(1)
    x[7, 9] = 1e30
    if cannot("avg", algorithm, x, kernel, {"stride": 1}):
        with pytest.raises(ValueError, match="cannot do this"):
            fastconv.avg_pool2d(x, kernel, 1, algorithm=algorithm)
        return
    result = fastconv.avg_pool2d(x, kernel, 1, algorithm=algorithm)
    expected, _ = reference.avg_pool2d(x, kernel, 1)
    np.testing.assert_allclose(result, expected, rtol=5e-7)


#: Sizes, windows, and options: along rows and columns, dealt and read one by one, with taps left over.
LONG: list[tuple[tuple, Any, dict[str, Any]]] = [
    ((1, 20_001), (1, 10_001), {"stride": 5_000}),
    ((1, 6_000), (1, 5_000), {"stride": (1, 2), "padding": (0, 7)}),
    ((1, 6_000), (1, 5_001), {"stride": (1, 9), "padding": (0, 7)}),
    ((1, 9_000), (1, 3_000), {"stride": (1, 90), "dilation": (1, 2)}),
    ((20_000, 2), (10_000, 1), {"stride": (5_000, 1)}),
    ((9_000, 20), (4_000, 3), {"stride": (2_000, 1), "padding": (3, 1)}),
    ((900, 900), (600, 600), {"stride": 150}),
    ((1_000, 1_001), (1_000, 1_001), {}),
]


def windows(x: np.ndarray, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> np.ndarray:
    """A view of the elements of all windows, zeros for padding."""
    (sh, sw), (dh, dw) = reference.both(stride), reference.both(dilation)
    sides = reference.pads(padding, kernel, kernel, kernel, (1, 1))
    reach = [(taps - 1) * gap + 1 for taps, gap in zip(kernel, (dh, dw), strict=True)]
    padded = np.pad(x, ((0, 0),) * (x.ndim - 2) + sides)
    return np.lib.stride_tricks.sliding_window_view(padded, reach, (-2, -1))[..., ::sh, ::sw, ::dh, ::dw]


@pytest.mark.parametrize("algorithm", AUTO_AND_ALL)
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 5e-6), ("float64", 1e-13)])
def test_the_error_of_a_mean_does_not_grow_with_its_window(dtype: str, limit: float, algorithm: str) -> None:
    """Added up one by one, 10,000 tenths in float32 are off by 1e-4."""
    for size, kernel, options in LONG:
        if cannot("avg", algorithm, np.zeros(size, dtype), kernel, options):
            continue
        for x in (np.full(size, 0.1, dtype), values(size, dtype) + np.ones((), dtype)):
            mean = fastconv.avg_pool2d(x, kernel, **{"stride": 1} | options, algorithm=algorithm)
            exact = windows(x, kernel, **options).mean((-2, -1), np.longdouble)
            np.testing.assert_allclose(mean, exact, rtol=limit)
        x[..., -1, -1] = np.inf
        mean = fastconv.avg_pool2d(x, kernel, **{"stride": 1} | options, algorithm=algorithm)
        np.testing.assert_array_equal(mean == np.inf, np.isinf(windows(x, kernel, **options)).any((-2, -1)))


@pytest.mark.parametrize("algorithm", fastconv.algorithms("lp_pool2d"))
def test_the_error_of_a_norm_does_not_grow_with_its_window(algorithm: str) -> None:
    for size, kernel, options in LONG:
        x = np.full(size, 0.1, np.float32)
        if unsupported(algorithm, "lp", x, kernel, (2,), **options) is None:
            norm = fastconv.lp_pool2d(x, 2, kernel, **{"stride": 1} | options, algorithm=algorithm)
            exact = np.sqrt((windows(x.astype(np.float64), kernel, **options) ** 2).sum((-2, -1)))
            np.testing.assert_allclose(norm, exact, rtol=5e-6)


@pytest.mark.parametrize("algorithm", AUTO_AND_ALL)
def test_a_huge_window_takes_no_longer_than_its_input(algorithm: str) -> None:
    x, window = values((5, 6), "float32"), 2**31 - 1
    if cannot("max", algorithm, x, window, {"stride": 1, "padding": "same"}):
        with pytest.raises(ValueError, match="cannot do this"):
            fastconv.max_pool2d(x, window, 1, "same", algorithm=algorithm)
        return
    result = fastconv.max_pool2d(x, window, 1, "same", algorithm=algorithm)
    np.testing.assert_array_equal(result, np.full((5, 6), x.max()), strict=True)
    assert_close(fastconv.avg_pool2d(x, window, 1, "same", algorithm=algorithm, divisor_override=1),
                 np.full((5, 6), x.sum(dtype=np.float64)), np.abs(x).sum())
    assert_close(fastconv.avg_pool2d(x, window, 1, "same", algorithm=algorithm, count_include_pad=False),
                 np.full((5, 6), x.mean(dtype=np.float64)), np.abs(x).mean())
    if algorithm in fastconv.algorithms("lp_pool2d") and unsupported(algorithm, "lp", x, 2, (2,)) is None:
        result = fastconv.lp_pool2d(x, 2, window, 1, "same", algorithm=algorithm)
        np.testing.assert_allclose(result, np.full((5, 6), np.linalg.norm(x)), rtol=1e-6)


@pytest.mark.parametrize(("norm", "expected"), [(1, 3), (2, 5**0.5), (3, 9 ** (1 / 3)), (0.5, 3 + 8**0.5), (np.inf, 2)])
def test_lp_is_the_norm_of_absolute_values(norm: float, expected: float) -> None:
    x = np.array([[-1.0, -2.0], [1.0, -2.0]])
    for axes, given_ in ((1, x), (2, x), (3, x[None])):
        window = (1, 1, 2)[3 - axes :]
        result = getattr(fastconv, f"lp_pool{axes}d")(given_, norm, window)
        np.testing.assert_allclose(result.ravel(), [expected, expected])
    result = fastconv.lp_pool1d(np.array([-128, 127], np.int8), norm, 1)  # the absolute value is no int8
    np.testing.assert_allclose(result, [128.0, 127.0])


@pytest.mark.parametrize("algorithm", AUTO_AND_ALL)
def test_an_infinite_norm_keeps_nan_in_its_windows(algorithm: str) -> None:
    x = values((12, 40), "float32")
    x[3, 17], x[5, 2] = np.nan, -np.inf
    for kernel, options in ((2, {}), (3, {"stride": 1, "padding": 1}), ((1, 5), {}), ((12, 40), {})):
        if algorithm == "auto" or unsupported(algorithm, "lp", x, kernel, (np.inf,), **options) is None:
            result = fastconv.lp_pool2d(x, np.inf, kernel, **options, algorithm=algorithm)
            np.testing.assert_array_equal(result, reference.max_pool2d(np.abs(x), kernel, **options)[0], strict=True)


@pytest.mark.parametrize("algorithm", fastconv.algorithms("lp_pool2d"))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_and_roots_of_any_number(dtype: str, algorithm: str) -> None:
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, -2, -0.3, 1e-5, 0.7, 1, 1.5, 3, 1e4], dtype)[:, None]
    for norm in (1, 2, 3, 4, 2.5, 0.5, 0.01, np.inf):
        expected = np.abs(x)
        if unsupported(algorithm, "lp", x, 1, (norm,)):
            assert (algorithm, norm in (1, np.inf)) == ("across", False)  # which has no powers
            continue
        result = fastconv.lp_pool2d(x, norm, 1, algorithm=algorithm)
        np.testing.assert_allclose(result, expected, rtol=2e-5 if dtype == "float32" else 1e-12)


# -- arrays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize(("op", "args", "options", "algorithm"), [CALLS[i] for i in (0, 4, 7, 11)], ids=call_id)
def test_any_array_and_none_is_changed(layout: Any, op: str, args: tuple, options: dict, algorithm: str) -> None:
    x = layout(values((2, 4, 7, 8), "float64", 3))
    before = np.array(x)
    result = PUBLIC[op](x, *args, 3, 2, 1, **options)
    result = result[0] if isinstance(result, tuple) else result
    again = PUBLIC[op](before, *args, 3, 2, 1, **options)
    np.testing.assert_array_equal(result, again[0] if isinstance(again, tuple) else again, strict=True)
    assert np.array(x).tobytes() == before.tobytes()


def test_more_than_2_to_the_31_elements() -> None:
    x = np.zeros((1, 1, 46350, 46350), np.uint8)  # the operating system backs only the pages that are touched
    assert x.size > 2**31
    x[0, 0, -2, -1] = 9
    x[0, 0, -1, -2] = 9
    for algorithm in AUTO_AND_ALL:
        if cannot("max", algorithm, x, 5, {"stride": 46345 // 5}):
            continue
        result, indices = fastconv.max_pool2d(x, 5, 46345 // 5, return_indices=True, algorithm=algorithm)
        assert result[0, 0, -1, -1] == 9
        assert indices[0, 0, -1, -1] == 46348 * 46350 + 46349
        assert np.count_nonzero(result) == 1
        assert fastconv.max_pool2d(x, 5, 46345 // 5, algorithm=algorithm)[0, 0, -1, -1] == 9
