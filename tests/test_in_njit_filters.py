"""Filters of this package inside a caller's ``@njit``, against plain calls.

A function for each dtype has all calls, and random problems are cheap once it is compiled (some seconds each).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import scipy.ndimage
from images import MODES as NAMES
from images import values
from in_njit import compiled, refuse, same
from numba.core.errors import TypingError

import fastconv
from fastconv import ndimage

pytestmark = pytest.mark.usefixtures("one_thread")

#: All that are different: the "grid-" names are other names of these.
MODES = NAMES[:5]
#: Units in the last place of a window's sum of |weight * pixel| that a sum may differ by: twice what
#: `test_ndimage_linear.ULPS` allows each of two.
ULPS = 4.0


def ulps(sums: np.ndarray, dtype: np.dtype) -> Any:
    """What sums of floats may differ by; None of integers."""
    return ULPS * np.finfo(dtype).eps * sums if dtype.kind == "f" else None


def filter_problem(rng: np.random.Generator, dtype: str) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
    """An image, the size of a window, which may be larger, and its origins."""
    x = values(rng, tuple(rng.integers(1, 14, 2)), dtype)
    if dtype in ("i8", "u8") and rng.random() < 0.5:  # more digits than float64 has
        x = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, x.shape, dtype, endpoint=True)
    size = tuple(map(int, rng.integers(1, 9, 2)))
    origin = tuple(int(rng.integers(-(one // 2), (one - 1) // 2 + 1)) for one in size)
    return x, size, origin


#: Dtypes, and the modes that their images have: a mode is compiled, but the loops are the same for all.
SOME = [("f4", MODES), ("f8", ("mirror",)), ("u1", ("constant",)), ("?", ("wrap",)), ("i8", ("grid-constant",))]


@pytest.mark.parametrize(("dtype", "modes"), SOME)
def test_correlations_equal_plain_calls(dtype: str, modes: tuple[str, ...]) -> None:
    call = compiled("ndimage.correlate", "input, weights, cval, origin", modes)
    rng = np.random.default_rng(1)
    for number in range(60):
        x, size, origin = filter_problem(rng, dtype)
        mode = number % len(modes)
        weights = np.rint(rng.normal(0, 4, size)) if number % 2 else rng.normal(0, 1, size)
        weights[rng.random(size) < 0.2] = 0
        cval = float(rng.integers(0, 9)) / (1 + number % 3)
        told = {"mode": modes[mode], "cval": cval, "origin": origin}
        sums = scipy.ndimage.correlate(np.abs(x.astype(float)), np.abs(weights), **told)
        same(call(mode, x, weights, cval, origin), ndimage.correlate(x, weights, **told), ulps(sums, x.dtype))


@pytest.mark.parametrize(("dtype", "modes"), [("f4", ("grid-mirror",)), ("u1", ("constant",)), ("i8", ("nearest",))])
def test_correlations_along_an_axis_equal_plain_calls(dtype: str, modes: tuple[str, ...]) -> None:
    call = compiled("ndimage.correlate1d", "input, weights, axis, cval, origin", modes)
    rng = np.random.default_rng(2)
    for number in range(60):
        x, (_, size), (_, origin) = filter_problem(rng, dtype)
        mode = number % len(modes)
        weights = rng.normal(0, 1, size)
        if number % 3:
            weights = weights + weights[::-1] if number % 3 == 1 else weights - weights[::-1]
        axis, cval = int(rng.integers(-2, 2)), float(rng.integers(0, 9)) / 3
        told = {"axis": axis, "mode": modes[mode], "cval": cval, "origin": origin}
        sums = scipy.ndimage.correlate1d(np.abs(x.astype(float)), np.abs(weights), **told)
        same(call(mode, x, weights, axis, cval, origin), ndimage.correlate1d(x, weights, **told), ulps(sums, x.dtype))


@pytest.mark.parametrize(("dtype", "modes"), [*SOME[2:], ("f4", ("reflect",)), ("u8", ("mirror",))])
def test_means_equal_plain_calls(dtype: str, modes: tuple[str, ...]) -> None:
    call = compiled("ndimage.uniform_filter", "input, size, cval, origin", modes)
    rng = np.random.default_rng(3)
    for number in range(60):
        x, size, origin = filter_problem(rng, dtype)
        mode = number % len(modes)
        cval = float(rng.integers(0, 9))
        told = {"size": size, "mode": modes[mode], "cval": cval, "origin": origin}
        sums = scipy.ndimage.uniform_filter(np.abs(x.astype(float)), **told)
        same(call(mode, x, size, cval, origin), ndimage.uniform_filter(x, **told), ulps(sums, x.dtype))


@pytest.mark.parametrize(("name", "dtype", "modes"), [
    ("maximum_filter", "u1", ("constant",)), ("minimum_filter", "?", ("constant",)),
    ("maximum_filter", "i8", ("wrap",)), ("maximum_filter", "f4", ("constant",)),
    ("minimum_filter", "u8", ("constant",)),
])  # fmt: skip
def test_extremes_equal_plain_calls(name: str, dtype: str, modes: tuple[str, ...]) -> None:
    call = compiled(f"ndimage.{name}", "input, size, cval, origin", modes)
    rng = np.random.default_rng(4)
    for number in range(80):
        x, size, origin = filter_problem(rng, dtype)
        mode, cval = number % len(modes), 1.0
        if x.dtype.kind == "f":
            x[rng.random(x.shape) < 0.05] = np.nan
        if "constant" in modes[mode]:
            cval = float(rng.choice([0, 1, 2.5, -3, 300, 1e30, np.inf, np.nan, 2.0**63, 2.0**64]))
        told = {"size": size, "mode": modes[mode], "cval": cval, "origin": origin}
        same(call(mode, x, size, cval, origin), getattr(ndimage, name)(x, **told))


def test_any_number_of_axes_and_any_layout() -> None:
    @numba.njit
    def correlated(x, weights):
        return ndimage.correlate(x, weights, mode="wrap")

    rng = np.random.default_rng(5)
    x = np.asfortranarray(values(rng, (5, 6, 7), "f4"))[:, ::-1]
    weights = rng.normal(0, 1, (2, 3, 4))
    bound = np.full(x.shape, 1e-5 * np.abs(x).max() * np.abs(weights).sum())
    same(correlated(x, weights), correlated.py_func(x, weights), bound)
    assert correlated(x[:0], weights).shape == (0, 6, 7)


def test_a_nan_or_an_infinity_reaches_the_windows_that_see_it_only() -> None:
    call = compiled("ndimage.correlate", "input, weights, cval, origin", MODES)
    means = compiled("ndimage.uniform_filter", "input, size, cval, origin", ("reflect",))
    x = np.random.default_rng(6).random((40, 50), np.float32)
    x[5, 7], x[20, 30], x[20, 33] = np.nan, np.inf, -np.inf
    weights = np.random.default_rng(6).random((7, 9))
    for result, expected in (
        (call(0, x, weights, 0.0, (0, 0)), ndimage.correlate(x, weights)),
        (means(0, x, (7, 9), 0.0, (0, 0)), ndimage.uniform_filter(x, (7, 9))),
    ):
        same(result, expected, np.full(x.shape, 1e-4))


# -- a window of one shape -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "mode", "size"), [("f4", "wrap", (2, 14)), ("f8", "constant", (3, 4))])
def test_a_window_of_one_shape_correlates_as_a_plain_call(dtype: str, mode: str, size: tuple[int, int]) -> None:
    """Also where products are so many that they are added up in parts."""
    origin = (-1, 1)
    call = fastconv.numba.correlate(size, dtype, mode, cval=1.5, origin=origin)
    rng = np.random.default_rng(12)
    for shape in ((1, 1), (2, 3), (33, 40), (70, 9), (5, 1100), (0, 4)):
        x, weights = values(rng, shape, dtype), rng.normal(size=size).astype(dtype)
        told = {"mode": mode, "cval": 1.5, "origin": origin}
        sums = scipy.ndimage.correlate(np.abs(x.astype(float)), np.abs(weights), **told) if x.size else np.zeros(shape)
        same(call(np.asfortranarray(x), weights), ndimage.correlate(x, weights, **told), ulps(sums, x.dtype))
    with pytest.raises(ValueError, match="weights must have the shape kernel_shape"):
        call(x, weights[:1])
    with pytest.raises(TypingError, match="input and weights must be arrays of 2 axes of float"):
        call(x.astype("i4"), weights)


@pytest.mark.parametrize(("told", "error", "words"), [
    (((3, 3, 3), "f4"), TypeError, "kernel_shape must be a pair"), (((3, 3), "i4"), TypeError, "dtype must be float32"),
    (((0, 3), "f4"), ValueError, "kernel_shape must have"), (((14, 13), "f4"), ValueError, "kernel_shape must have"),
    (((3, 3), "f4", "zeros"), ValueError, "mode must be one"), (((3, 3), "f4", "wrap", 0.0, 2), ValueError, "origin"),
])  # fmt: skip
def test_a_window_of_one_shape_is_checked(told: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fastconv.numba.correlate(*told)


# -- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(5))
def test_wrong_values_are_errors_that_name_the_argument(number: int) -> None:
    """In functions that the tests above compiled."""
    correlate = compiled("ndimage.correlate", "input, weights, cval, origin", MODES)
    along = compiled("ndimage.correlate1d", "input, weights, axis, cval, origin", ("grid-mirror",))
    means = compiled("ndimage.uniform_filter", "input, size, cval, origin", ("reflect",))
    image, window = np.ones((6, 7), "f4"), np.ones((3, 3))
    function, told, words = [
        (correlate, (0, image, window[:0], 0.0, (0, 0)), "weights must not be empty"),
        (correlate, (0, image, window, 0.0, (2, 0)), "origin must satisfy"),
        (along, (0, image, window[0], 2, 0.0, 0), "axis must be an axis of input"),
        (means, (0, image, (0, 3), 0.0, (0, 0)), "size must be from 1"),
        (means, (0, image, (3, -1), 0.0, (0, 0)), "size must be from 1"),
    ][number]
    with pytest.raises(ValueError, match=words):
        function(*told)


@pytest.mark.parametrize(("call", "words"), [
    ("ndimage.correlate(x, k[0])", "weights must be an array of 2 axes"),
    ("ndimage.correlate(x, k, mode='same')", "mode must be one of 'reflect'"),
    ("ndimage.correlate(x, k, mode=str(x.ndim))", "mode must be a constant"),
    ("ndimage.correlate(x, k, x)", "output must be None"),
    ("ndimage.correlate(x + 1j, k)", "input must be an array .* of bool, integers"),
    ("ndimage.maximum_filter(x)", "size must be given"),
    ("ndimage.minimum_filter(x, (3, 3, 3))", "size must be an integer, or a tuple of 2"),
])  # fmt: skip
def test_wrong_types_are_errors_that_name_the_argument(call: str, words: str) -> None:
    refuse(call, words)
