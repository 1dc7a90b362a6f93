"""Linear filters of `fastconv.ndimage` against SciPy's."""

from __future__ import annotations

from typing import Any

import image_filters
import numpy as np
import pytest
import scipy.ndimage
from images import DTYPES, MODES, off, same, values
from processes import run

import fastconv
from fastconv import ndimage
from fastconv.cpu.transformed import Transformed, transformed
from fastconv.ndimage import linear, sweeps

#: How `numpy.pad` pads as a mode says; the constant is no NaN.
PADDINGS: dict[str, Any] = {
    "wrap": {"mode": "wrap"}, "reflect": {"mode": "symmetric"}, "mirror": {"mode": "reflect"},
    "nearest": {"mode": "edge"}, "constant": {"mode": "constant", "constant_values": True},
}  # fmt: skip
#: Units in the last place of the window's sum of |weight * element| that a float32 result may be off by; a mean.
ULPS, MEAN_ULPS = 2.0, 2.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(100))
def test_random_filters_equal_scipys(dtype: str, seed: int) -> None:
    rng = np.random.default_rng([seed, DTYPES.index(dtype)])
    one = image_filters.problem(rng, dtype)
    try:
        image_filters.check(one, rng)
    except AssertionError as error:
        raise AssertionError(f"{one}\n{error}") from None


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4"])
def test_sums_near_whole_numbers_are_cut_as_scipys(dtype: str) -> None:
    """Of flat areas, and of weights such as 0.1, most sums are so near that the order of additions decides."""
    rng = np.random.default_rng(0)
    most = np.iinfo(dtype).max
    x = values(rng, (90, 200), dtype)
    x[:, 60:] = rng.integers(0, 11, (90, 140)) * (most // 10)
    x[50:] = most
    for sigma in (0.7, 1.3, 3, 9):
        same(ndimage.gaussian_filter(x, sigma), scipy.ndimage.gaussian_filter(x, sigma), str)
    tenths = np.full(10, 0.1)
    for window in (tenths, tenths[:7] * 3, np.array([0.1, -0.2, 0.3, 0.2, -0.1]), np.array([0.1, 0.7, 0.2])):
        for axis in (0, 1):
            result, expected = ndimage.correlate1d(x, window, axis), scipy.ndimage.correlate1d(x, window, axis)
            same(result, expected, str)
        both = np.outer(window, window) + np.eye(len(window)) / 10
        same(ndimage.correlate(x, both), scipy.ndimage.correlate(x, both), str)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2"])
def test_integers_that_are_transformed_equal_scipys(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random pixels, flat and dark areas, whose sums are near whole numbers; strides, channels, boundaries, origins."""
    rng = np.random.default_rng(0)
    x = values(rng, (90, 140), dtype)
    x[:30, 50:], x[60:] = 0, x.max()
    weights = rng.normal(size=(21, 31)) / 31
    weights[3, 4:9] = 0
    for given, window, told in (
        (x, weights, {}),
        (x[::-1, ::2], np.abs(weights) / np.abs(weights).sum(), {"mode": "wrap", "output": np.int32}),
        (np.asfortranarray(x), weights, {"mode": "constant", "cval": 1, "origin": (-7, 12)}),
        (np.stack([x, x[::-1], x.T[:90, :1] & x], -1), weights[:15, :15], {"axes": (0, 1), "mode": "mirror"}),
        (np.stack([x[:, :70], x[:, 70:]]), weights, {"axes": (1, 2), "mode": "nearest"}),
    ):
        found = found_for(given, window, told)
        assert isinstance(found.now(), Transformed)
        same(ndimage.correlate(given, window, **told), scipy.ndimage.correlate(given, window, **told), str)
    monkeypatch.setattr("fastconv.cpu.transformed.PLAIN", True)  # as by NUMBA_DISABLE_JIT=1: they are machine code
    assert transformed(found.problem) is None


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "i4"])
def test_means_of_integers_are_cut_as_scipys(dtype: str) -> None:
    """Sums of which many are multiples of the window's size, or one less."""
    rng = np.random.default_rng(0)
    low, high = (0, 1) if dtype == "?" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    for size in (*range(2, 70), 127, 255, 257):
        x = rng.integers(low, high, (2, 400), endpoint=True).astype(dtype)
        x[:, 100:200] = high
        x[:, 200:300] = low
        x[:, 300:] = np.where(np.arange(100) % size == 0, 1 + (high > 1) * (size - 2), 0)
        for axis in (0, 1):
            same(ndimage.uniform_filter1d(x, size, axis), scipy.ndimage.uniform_filter1d(x, size, axis), str)
        same(ndimage.uniform_filter(x, (3, size)), scipy.ndimage.uniform_filter(x, (3, size)), str)


@pytest.mark.parametrize("size", [(3, 3), (7, 7), (31, 31), (1, 33), (64, 1), (2, 5), (101, 3)])
@pytest.mark.parametrize("positive", [True, False])
def test_float32_is_within_two_units_of_the_windows_sum(size: tuple[int, int], positive: bool) -> None:
    rng = np.random.default_rng([*size, positive])
    x = rng.random((150, 170), np.float32)
    weights = rng.random(size) if positive else rng.standard_normal(size)
    weights = weights.astype(np.float32).astype(np.float64)
    exact = scipy.ndimage.correlate(x.astype(float), weights)
    total = scipy.ndimage.correlate(x.astype(float), np.abs(weights))
    assert off(ndimage.correlate(x, weights), exact, total) <= ULPS
    outer = np.outer(weights[:, 0], weights[0])
    exact = scipy.ndimage.correlate(x.astype(float), outer)
    total = scipy.ndimage.correlate(x.astype(float), np.abs(outer))
    assert off(ndimage.correlate(x, outer), exact, total) <= ULPS


def found_for(given: np.ndarray, window: np.ndarray, told: dict[str, Any]) -> Any:
    """What `ndimage.correlate` runs."""
    axes, kind = told.get("axes", (0, 1)), np.dtype(told.get("output", given.dtype))
    lie = sweeps.Layout(given.shape, given.dtype, given.strides, kind, np.empty(given.shape, kind).strides)
    places = window.shape, told.get("origin", 0), told.get("mode", "reflect"), False
    windows = linear._windows(given.ndim, axes, *places)
    return sweeps._dense(lie, windows, window.tobytes(), sweeps.Settings(float(told.get("cval", 0))))


@pytest.mark.parametrize("what", ["noise", "ramp", "dark", "fill", "fills", "black", "faint", "huge"])
def test_float32_that_is_transformed_is_within_two_units(what: str) -> None:
    """Windows of weights of both signs, and of one; of dark pixels beside bright ones, and of none."""
    rng = np.random.default_rng(0)
    x = rng.random((200, 300), np.float32)
    rows, columns = np.mgrid[:200, :300]
    if what == "ramp":
        x *= 2.0 ** (columns / 8 - 20).astype(np.float32)
    elif what == "dark":
        x[50:120, 80:250] *= np.float32(2.0**-45)
    elif what == "fill":
        x[100, 140] = 1e20
    elif what == "fills":
        x[::37, ::41] = -9.96921e36  # netCDF's
    elif what == "black":
        x[rows + columns > 150] = 0
    elif what in ("faint", "huge"):
        x *= np.float32({"faint": 1e-30, "huge": 1e35}[what])
    for weights in (rng.normal(size=(33, 29)), rng.random((25, 31)), np.outer(*[np.hanning(33)] * 2) ** 4 + 1e-9):
        window = weights / np.abs(weights).sum()
        assert isinstance(found_for(x, window, {}).now(), Transformed)
        exact = scipy.ndimage.correlate(x.astype(float), window)
        total = scipy.ndimage.correlate(np.abs(x).astype(float), np.abs(window))
        result = ndimage.correlate(x, window)
        seen = total > 0
        assert off(result[seen], exact[seen], total[seen]) <= ULPS
        assert not result[~seen].any()


def test_what_is_not_finite_reaches_transformed_outputs_that_see_it() -> None:
    x = np.random.default_rng(0).random((150, 170), np.float32)
    weights = np.random.default_rng(1).random((31, 31))
    weights[4:9, 7] = 0
    told = {"mode": "constant", "origin": (5, -9)}
    assert isinstance(found_for(x, weights, told).now(), Transformed)
    same(ndimage.correlate(x * 0, weights, **told), x * 0, str)
    x[70, 30], x[20, 140], x[22, 150] = np.nan, np.inf, -np.inf
    result, expected = ndimage.correlate(x, weights, **told), scipy.ndimage.correlate(x.astype(float), weights, **told)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_allclose(result, expected, 1e-6)
    weights[0, 0] = np.inf  # then nothing is transformed
    np.testing.assert_array_equal(np.isnan(ndimage.correlate(x, weights)), np.isnan(
        scipy.ndimage.correlate(x.astype(float), weights)))  # fmt: skip


@pytest.mark.parametrize("sigma", [0.8, 1, 1.5, 2, 3, 4, 6, 8, 12])
def test_float32_gaussians_are_within_two_units(sigma: float) -> None:
    """Of half a million pixels; weights are rounded such that their sum is not, and small products added up first."""
    x = np.random.default_rng(0).random((700, 900), np.float32)
    exact = scipy.ndimage.gaussian_filter(x.astype(float), sigma)
    assert off(ndimage.gaussian_filter(x, sigma), exact, exact) <= ULPS


@pytest.mark.parametrize("shape", [(700, 900), (20, 30000)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("taps", [9, 10, 17, 20, 21, 25, 33, 65, 100])
def test_float32_lines_are_within_two_units(taps: int, axis: int, shape: tuple[int, int]) -> None:
    """Of weights that are all about as large, and of a Gaussian's: each sum has a rounding for every tap. Images of few
    rows go by bands."""
    x = np.random.default_rng(0).random(shape, np.float32) - np.float32(0.2)
    given = np.random.default_rng(taps).random(taps) + 0.1, np.exp(-0.5 * np.linspace(-4, 4, taps) ** 2)
    for weights in given:
        exact, size = (scipy.ndimage.correlate1d(part.astype(float), weights, axis) for part in (x, abs(x)))
        assert off(ndimage.correlate1d(x, weights, axis), exact, size) <= ULPS


@pytest.mark.parametrize("size", [2, 3, 9, 31, 51, 100])
def test_float32_means_are_within_their_units(size: int) -> None:
    x = np.random.default_rng(0).random((700, 900), np.float32)
    exact = scipy.ndimage.uniform_filter(x.astype(float), size)
    assert off(ndimage.uniform_filter(x, size), exact, exact) <= MEAN_ULPS


@pytest.mark.parametrize("name", ["uniform_filter", "gaussian_filter", "sobel", "correlate"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_nan_touches_only_what_sees_it(name: str, dtype: str) -> None:
    x = np.random.default_rng(0).random((60, 70)).astype(dtype)
    ones = np.ones((9, 9)) / 81
    argument = {"uniform_filter": (9,), "gaussian_filter": (2,), "sobel": (), "correlate": (ones,)}[name]
    clean = getattr(ndimage, name)(x, *argument)
    x[30, 40] = np.nan
    x[5, 5] = np.inf
    result = getattr(ndimage, name)(x, *argument)
    reach = {"uniform_filter": 4, "gaussian_filter": 8, "sobel": 1, "correlate": 4}[name]
    seen = np.zeros(x.shape, bool)
    for i, j in ((30, 40), (5, 5)):
        seen[max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1] = True
    assert not np.isfinite(result[30, 40 - reach])
    assert not np.isfinite(result[5, 5 + reach])
    np.testing.assert_array_equal(result[~seen], clean[~seen])


def test_an_outlier_does_not_spread() -> None:
    x = np.ones((50, 60), np.float32)
    x[20, 20] = 1e30
    result = ndimage.uniform_filter(x, 7)
    seen = np.zeros(x.shape, bool)
    seen[17:24, 17:24] = True
    np.testing.assert_allclose(result[~seen], 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["correlate", "convolve", "correlate1d", "convolve1d", "uniform_filter",
                                  "gaussian_filter", "sobel", "laplace", "gaussian_laplace",
                                  "gaussian_gradient_magnitude"])  # fmt: skip
@pytest.mark.parametrize("complex_weights", [False, True])
def test_complex_numbers(name: str, complex_weights: bool) -> None:
    rng = np.random.default_rng(0)
    for dtype in ("F", "D"):
        x = (rng.random((9, 11)) + 1j * rng.random((9, 11))).astype(dtype)
        weights = rng.random((3, 4)) + (1j * rng.random((3, 4)) if complex_weights else 0)
        if name.startswith(("correlate", "convolve")):
            arguments = (weights if not name.endswith("1d") else weights[0],)
        else:
            arguments = () if name in ("sobel", "laplace") else (1.5 if name.startswith("gaussian") else 3,)
        for x_ in (x, x.real) if complex_weights and name.startswith("c") else (x,):
            told = {"mode": "constant", "cval": 2 - 1j if x_.dtype.kind == "c" else 2.0}
            if name in ("gaussian_filter", "gaussian_laplace", "gaussian_gradient_magnitude", "sobel", "laplace"):
                told["cval"] = 0.0
            try:
                expected = getattr(scipy.ndimage, name)(x_, *arguments, **told)
            except (RuntimeError, ValueError, TypeError):
                continue
            result = getattr(ndimage, name)(x_, *arguments, **told)
            assert result.dtype == expected.dtype
            np.testing.assert_allclose(result, expected, rtol=1e-4 if dtype == "F" else 1e-12, atol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8"])
def test_outputs_of_any_kind(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = values(rng, (20, 30), dtype)
    expected = ndimage.gaussian_filter(x, 1)
    for layout in range(4):
        out = [np.empty_like(x), np.empty((30, 20), dtype).T, np.empty((40, 60), dtype)[::2, ::-2],
               np.empty(x.shape, np.dtype(dtype).newbyteorder(">"))][layout]  # fmt: skip
        assert ndimage.gaussian_filter(x, 1, output=out) is out
        np.testing.assert_array_equal(out, expected)
    for name, argument in (("gaussian_filter", (1,)), ("correlate", (np.ones((3, 3)),)), ("uniform_filter", (4,))):
        expected = getattr(ndimage, name)(x, *argument)
        same_array = x.copy()
        getattr(ndimage, name)(same_array, *argument, output=same_array)
        np.testing.assert_array_equal(same_array, expected)
        wide = np.zeros((22, 33), dtype)
        wide[:20, :30] = x
        getattr(ndimage, name)(wide[:20, :30], *argument, output=wide[2:, 3:])
        np.testing.assert_array_equal(wide[2:, 3:], expected)
    for named in ("f4", np.str_("f4"), np.dtype("f4"), np.float32):  # strings of arrays are arrays of a kind, too
        assert ndimage.uniform_filter(x, 3, output=named).dtype == np.float32


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_saturated_results_are_rounded_once(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = values(rng, (40, 50), dtype)
    limits = np.iinfo(dtype)

    def rounded(exact: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(exact), limits.min, limits.max).astype(dtype)

    weights = rng.standard_normal((3, 5))
    same(ndimage.correlate(x, weights, saturate=True), rounded(scipy.ndimage.correlate(x.astype(float), weights)), str)
    exact = scipy.ndimage.gaussian_filter(x.astype(float), 1.5)
    same(ndimage.gaussian_filter(x, 1.5, saturate=True), rounded(exact), str)
    exact = scipy.ndimage.sobel(x.astype(float))
    same(ndimage.sobel(x, saturate=True), rounded(exact), str)
    sums = scipy.ndimage.correlate(x.astype(float), np.ones((4, 4)))
    same(ndimage.uniform_filter(x, 4, saturate=True), rounded(sums / 16), str)
    floats = rng.uniform(-400, 400, (30, 30))
    floats[3, 4], floats[5, 6] = np.nan, np.inf
    result = ndimage.correlate1d(floats, [1.0], output=dtype, saturate=True)
    same(result, rounded(np.nan_to_num(floats, posinf=1e9)), str)


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@pytest.mark.parametrize("channel_axis", [-1, 0, 1])
def test_channels_are_filtered_one_by_one(dtype: str, channel_axis: int) -> None:
    x = values(np.random.default_rng(0), (9, 8, 7), dtype)
    planes = np.moveaxis(x, channel_axis, 0)
    for name, argument in (("gaussian_filter", (1.2,)), ("uniform_filter", ((3, 4),)), ("sobel", (0,)), ("laplace", ()),
                           ("correlate", (np.arange(6.0).reshape(2, 3),)), ("correlate1d", ([1, 2, 0.5], 0)),
                           ("gaussian_laplace", (1,)), ("gaussian_gradient_magnitude", (1,)), ("prewitt", (1,)),
                           ("variance_filter", (3,)), ("gaussian_filter1d", (1, -1))):  # fmt: skip
        function = getattr(ndimage, name)
        result = function(x, *argument, channel_axis=channel_axis)
        expected = np.moveaxis(np.stack([function(plane, *argument) for plane in planes]), 0, channel_axis)
        np.testing.assert_allclose(result, expected, rtol=2e-6, atol=1e-5)
        assert result.dtype == expected.dtype


@pytest.mark.parametrize("shape_", [(5, 6, 7), (4, 5, 6, 7), (2, 3, 4, 3, 2), (2, 2, 3, 2, 3, 2, 2, 2)])
def test_many_axes(shape_: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.random(shape_)
    np.testing.assert_allclose(ndimage.gaussian_filter(x, 1), scipy.ndimage.gaussian_filter(x, 1), atol=1e-14)
    weights = rng.random((2,) * x.ndim)
    for mode in MODES[:5]:
        expected = scipy.ndimage.correlate(x, weights, mode=mode)
        np.testing.assert_allclose(ndimage.correlate(x, weights, mode=mode), expected, atol=1e-12)


def test_separable_filter_is_one_pass_after_the_other() -> None:
    rng = np.random.default_rng(0)
    for dtype in ("u1", "i4", "f8"):
        x = values(rng, (20, 21, 4), dtype)
        a, b = [1, 2, 1], [0.5, -1, 2, 3]
        first = scipy.ndimage.correlate1d(x, a, 0, mode="wrap")
        expected = scipy.ndimage.correlate1d(first, b, 1, mode="mirror", origin=1)
        result = fastconv.separable_filter(x, (a, b), axes=(0, 1), mode=("wrap", "mirror"), origin=(0, 1))
        np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-11)
    with pytest.raises(ValueError, match="weights must be one window, or 3"):
        fastconv.separable_filter(x, (a, b))


@pytest.mark.parametrize("dtype", ["i8", "u8", "i4"])
@pytest.mark.parametrize("output", ["i8", "u8", "f8", "i4"])
@pytest.mark.parametrize("mode", ["mirror", "constant"])
def test_integers_are_exact_beyond_float64(dtype: str, output: str, mode: str) -> None:
    """Against Python's integers, modulo the result's range."""
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max, (9, 10), np.dtype(dtype), endpoint=True)
    x[0, :3], x[1, :2] = limits.max, limits.min
    weights, cval, out = rng.integers(-9, 9, (3, 4)), 7.0, np.dtype(output)
    padded = np.pad(x.astype(object), ((1, 1), (2, 1)), {"mirror": "reflect"}.get(mode, mode),
                    **({"constant_values": 7} if mode == "constant" else {}))  # fmt: skip
    padded = np.vectorize(int, otypes=[object])(padded)

    def stored(exact: np.ndarray) -> np.ndarray:
        if out.kind == "f":
            return exact.astype(out)
        return np.vectorize(lambda one: one % 2 ** (8 * out.itemsize), otypes=[f"u{out.itemsize}"])(exact).view(out)

    exact = np.array([[(padded[i : i + 3, j : j + 4] * weights.astype(object)).sum() for j in range(10)]
                      for i in range(9)])  # fmt: skip
    result = ndimage.correlate(x, weights, output, mode, cval)
    if dtype == "i4" and output == "i4":
        exact = exact.astype(float).astype("i8")
    if out.kind == "f":
        np.testing.assert_allclose(result, stored(exact), rtol=4e-16)
    elif dtype != "i4" or out.itemsize == 8:
        np.testing.assert_array_equal(result, stored(exact))
    row = padded[1:-1]
    exact = np.array([[(row[i, j : j + 4] * weights[1].astype(object)).sum() for j in range(10)] for i in range(9)])
    if out.itemsize == 8 and out.kind != "f":
        result = ndimage.correlate1d(x, weights[1], 1, output, mode, cval)
        np.testing.assert_array_equal(result, stored(exact))
        sums = np.array([[row[i, j : j + 4].sum() for j in range(10)] for i in range(9)])
        means = np.vectorize(lambda one: abs(one) // 4 * (1 if one >= 0 else -1), otypes=[object])(sums)
        np.testing.assert_array_equal(ndimage.uniform_filter1d(x, 4, 1, output, mode, cval), stored(means))


def test_results_do_not_depend_on_threads() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.random((700, 900), np.float32), rng.random((3, 3))
    found = []
    for threads in (1, 2):
        fastconv.set_num_threads(threads)
        found.append([ndimage.gaussian_filter(x, 2), ndimage.uniform_filter(x, 31), ndimage.correlate(x, weights)])
    fastconv.set_num_threads(None)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_scipys_own_tests_pass_with_our_functions() -> None:
    """All of SciPy's tests of filters; those of names that are SciPy's still pass, too."""
    told = run("tests/support/scipys_own.py", "test_filters", "-q", "-x", "-n", "0")
    assert " passed" in told, told
    assert "failed" not in told, told


def test_filters_as_python_stay_within_their_arrays() -> None:
    """Kernels as plain Python give the same; there a vector is a slice, which is too short beyond an array's end."""
    assert not run("tests/support/image_filters.py", "0", "150", NUMBA_DISABLE_JIT=1)


def test_settings_are_hashable() -> None:
    assert hash(linear.settings(0, False, None)) == hash(linear.settings(0.0, False, "single"))


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8"])
@pytest.mark.parametrize("mode", MODES)
def test_windows_that_reach_far_beyond_an_image(dtype: str, mode: str) -> None:
    """Those are folded; of integers only very long ones. (SciPy's windows along several axes get "reflect" wrong.)"""
    rng = np.random.default_rng(0)
    for shape in ((5, 3), (1, 7), (2, 1, 4)):
        x, size = values(rng, shape, dtype), 4999 if dtype in ("u1", "i4") else int(rng.integers(60, 90))
        weights = rng.integers(-3, 4, size).astype(float)
        told: dict[str, Any] = {"mode": mode, "cval": 2, "origin": int(rng.integers(-20, 20))}
        for name, args in (("correlate1d", (weights,)), ("uniform_filter1d", (size,)), ("uniform_filter", (size,))):
            expected = getattr(scipy.ndimage, name)(x.astype("f8") if dtype == "f4" else x, *args, **told)
            error = np.abs(getattr(ndimage, name)(x, *args, **told).astype(float) - expected).max()
            assert error <= {"f4": 1e-5, "f8": 1e-13}.get(dtype, 0) * np.abs(weights).sum() * float(np.abs(x).max())
        whole = weights.reshape(*[1] * (x.ndim - 1), size)
        if dtype in ("u1", "i4"):
            origins = [*[0] * (x.ndim - 1), told["origin"]]
            found = ndimage.correlate(x, whole, **told | {"origin": origins})
            same(found, ndimage.correlate1d(x, weights, **told), lambda: None)


@pytest.mark.parametrize("periods", [1, 3])
def test_elements_are_left_out_of_windows_that_reach_far_beyond_an_image(periods: int) -> None:
    x = np.array([[1.0, np.nan, 3.0, 5.0], [2.0, 4.0, np.nan, 8.0]])
    told: dict[str, Any] = {"mode": "wrap", "nan_policy": "omit", "min_periods": periods}
    for size in (400, 4 * 10**6):
        means = ndimage.uniform_filter1d(x, size, **told)
        np.testing.assert_allclose(means, np.nanmean(x, -1, keepdims=True) + np.zeros(4), rtol=1e-12)
        np.testing.assert_array_equal(ndimage.maximum_filter1d(x, size, **told), [[5.0] * 4, [8.0] * 4])
    none = ndimage.uniform_filter1d(x, 400, **told | {"min_periods": 301})
    assert np.isnan(none).all()
    for mode, padding in PADDINGS.items():
        ones = np.pad(~np.isnan(x), ((0, 0), (200, 199)), **padding)
        counts = np.lib.stride_tricks.sliding_window_view(ones, 400, axis=1).sum(-1)
        for least in (1, 300, 400):
            found = ndimage.maximum_filter1d(x, 400, mode=mode, nan_policy="omit", min_periods=least)
            assert np.array_equal(~np.isnan(found), counts >= least)
    assert not np.isnan(ndimage.uniform_filter1d(x, 400, **told | {"min_periods": 300})).any()


@pytest.mark.parametrize("size", [300, 5000])
def test_long_windows_of_channels_are_filtered_along_rows(size: int) -> None:
    """Of more elements than a band has, a block would be little else than what the next one reads again."""
    x = np.random.default_rng(0).random((600, 50), np.float32)
    expected = scipy.ndimage.uniform_filter1d(x.astype(float), size, 0)
    np.testing.assert_allclose(ndimage.uniform_filter1d(x, size, 0), expected, rtol=1e-5)


def test_windows_that_nothing_has_are_refused_at_once() -> None:
    x = np.ones((5, 6), np.float32)
    for words, call in (
        ("radius, or truncate", lambda: ndimage.gaussian_filter(x, 1e6)),
        ("radius, or truncate", lambda: ndimage.gaussian_filter(x, 1, truncate=1e9)),
        ("size", lambda: ndimage.variance_filter(x, 10**4)),
    ):
        with pytest.raises(ValueError, match=words):
            call()
