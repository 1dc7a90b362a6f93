"""Functions of this package inside a caller's ``@njit``, against plain calls.

A function for each dtype has all calls, and random problems are cheap once it is compiled (some seconds each).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import scipy.ndimage
from images import MODES as NAMES
from images import values
from numba.core.errors import TypingError
from processes import run, run_code

import fastconv
from fastconv import ndimage
from fastconv.specs.conv import conv_spec

fastconv.numba.declare()  # where the package is not installed, nobody else does
pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(fastconv.__file__).parents[1]


def rims(function: str, given: str, modes: tuple[str, ...] | list[str], name: str = "mode") -> Callable[..., Any]:
    """A compiled function of `given` arguments and the number of a boundary mode: modes are constants."""
    lines = [f"def call(number, {given}):"]
    for number, mode in enumerate(modes):
        lines.append(f"    if number == {number}:")
        lines.append(f"        return {function}({', '.join(f'{one}={one}' for one in given.split(', '))}, {name}={mode!r})")
    names: dict[str, Any] = {"fastconv": fastconv, "ndimage": ndimage}
    exec("\n".join([*lines, "    raise ValueError('number')"]), names)
    return numba.njit(names["call"])


compiled = lru_cache(maxsize=None)(rims)


def same(result: np.ndarray, expected: np.ndarray, bound: Any = None) -> None:
    """Both have a shape and a dtype, and floats differ at most by the `bound`, or not at all."""
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    if bound is None or expected.dtype.kind != "f":
        np.testing.assert_array_equal(result, expected)
        return
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(result[~finite], expected[~finite])
    assert (np.abs(result[finite].astype(float) - expected[finite]) <= bound[finite]).all()


# -- filters -------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize(("dtype", "modes"), [*SOME[1:], ("f4", ("reflect",)), ("u8", ("mirror",))])
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
    *(("maximum_filter", *one) for one in SOME[1:]),
    ("maximum_filter", "f4", ("constant",)), ("minimum_filter", "u8", ("constant",)), ("minimum_filter", "f4", ("wrap",)),
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
    def all_of(x, weights):
        return ndimage.correlate(x, weights, mode="wrap"), ndimage.maximum_filter(x, 3), ndimage.uniform_filter(x, (2, 1, 5))

    rng = np.random.default_rng(5)
    x = np.asfortranarray(values(rng, (5, 6, 7), "f4"))[:, ::-1]
    weights = rng.normal(0, 1, (2, 3, 4))
    for result, expected in zip(all_of(x, weights), all_of.py_func(x, weights), strict=True):
        same(result, expected, np.full(x.shape, 1e-5 * np.abs(x).max() * np.abs(weights).sum()))
    result = all_of(x[:0], weights)
    assert result[0].shape == result[1].shape == result[2].shape == (0, 6, 7)


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


# -- convolution and pooling ---------------------------------------------------------------------------------

TORCH = ("zeros", "reflect", "replicate", "circular")


@pytest.mark.parametrize(("dtype", "modes"), [("f4", TORCH), ("u1", TORCH[:1]), ("i8", TORCH[1:2])])
def test_convolutions_equal_plain_calls(dtype: str, modes: tuple[str, ...]) -> None:
    call = compiled("fastconv.conv2d", "x, weight, bias, stride, padding, dilation, groups", modes, "padding_mode")
    rng, done = np.random.default_rng(7), 0
    while done < 60:
        groups, per_in, per_out = rng.integers(1, 4, 3)
        x = values(rng, (int(rng.integers(0, 3)), int(groups * per_in), *rng.integers(1, 12, 2)), dtype)
        weight = values(rng, (int(groups * per_out), int(per_in), *rng.integers(1, 5, 2)), dtype)
        bias, groups = values(rng, (len(weight),), dtype), int(groups)
        stride, dilation = (tuple(map(int, rng.integers(1, 4, 2))) for _ in range(2))
        padding = tuple(tuple(map(int, sides)) for sides in rng.integers(-1 if done % 3 == 0 else 0, 4, (2, 2)))
        mode = done % len(modes)
        told = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        try:
            expected = fastconv.conv2d(x, weight, bias, padding_mode=modes[mode], algorithm="naive", **told)
        except ValueError:  # does not fit: neither does it here
            with pytest.raises(ValueError, match=r"padding|weight"):
                call(mode, x, weight, bias, stride, padding, dilation, groups)
            continue
        done += 1
        bound = np.full(expected.shape, 1e-5 * weight[0].size * float(np.abs(x.astype(float)).max(initial=1))
                        * float(np.abs(weight.astype(float)).max()) + 1e-5 * float(np.abs(bias).max()))  # fmt: skip
        same(call(mode, x, weight, bias, stride, padding, dilation, groups), expected, bound)


def test_signals_and_images_without_a_batch() -> None:
    @numba.njit
    def signals(x, weight, bias):
        return (
            fastconv.conv1d(x, weight, bias, stride=2, padding="same", activation="relu"),
            fastconv.conv1d(x[0], weight, padding=((3, 0),), dilation=2),
            fastconv.conv1d(x, weight, padding="valid"),
        )

    @numba.njit
    def images(x, weight):
        return fastconv.conv2d(x[0], weight, padding="same_lower"), fastconv.conv2d(x, weight, padding=(1, 2))

    rng = np.random.default_rng(8)
    x, weight, bias = rng.normal(size=(2, 3, 20)), rng.normal(size=(4, 3, 4)), rng.normal(size=4)
    for result, expected in zip(signals(x, weight, bias), signals.py_func(x, weight, bias), strict=True):
        same(result, expected, np.full(expected.shape, 1e-12))
    x, weight = rng.normal(size=(2, 3, 9, 8)), rng.normal(size=(4, 3, 4, 3))
    for result, expected in zip(images(x, weight), images.py_func(x, weight), strict=True):
        same(result, expected, np.full(expected.shape, 1e-12))


def test_image_filters_take_numpys_dtypes() -> None:
    @numba.njit
    def filtered(x, kernel, bias):
        return (
            fastconv.corr2d(x, kernel), fastconv.corr2d(x, kernel, 3), fastconv.corr2d(x, kernel, bias, padding=2),
            fastconv.corr2d(x, kernel, padding=((1, 0), (2, 3)), padding_mode="replicate"),
        )  # fmt: skip

    rng = np.random.default_rng(9)
    for x, kernel in (("u1", "i1"), ("f4", "f4"), ("i4", "f4")):
        x, kernel = values(rng, (11, 12), x), values(rng, (3, 4), kernel)
        for result, expected in zip(filtered(x, kernel, 0.5), filtered.py_func(x, kernel, 0.5), strict=True):
            same(result, expected, np.full(expected.shape, 1e-5 * np.abs(expected).max()))


@pytest.mark.parametrize("dtype", ["f4", "u1", "i8"])
def test_poolings_equal_plain_calls(dtype: str) -> None:
    maxima, means = maxima_of(), means_of()
    rng, done = np.random.default_rng(10), 0
    while done < 60:
        x = values(rng, tuple(map(int, rng.integers(1, 14, 3))), dtype)
        if dtype == "f4":
            x[rng.random(x.shape) < 0.03] = np.nan
        window = tuple(tuple(map(int, rng.integers(1, 5, 2))) for _ in range(2))
        padding = tuple(tuple(map(int, sides)) for sides in rng.integers(-1 if done % 3 == 0 else 0, 3, (2, 2)))
        told = *window, padding, tuple(map(int, rng.integers(1, 4, 2))), bool(rng.integers(2))
        include, divisor = bool(rng.integers(2)), int(rng.integers(0, 3))
        try:
            expected, places = fastconv.max_pool2d(x, *told[:4], ceil_mode=told[4], return_indices=True,
                                                   algorithm="naive")  # fmt: skip
            mean = fastconv.avg_pool2d(x, *told[:4], ceil_mode=told[4], count_include_pad=include,
                                       divisor_override=divisor or None, algorithm="naive")  # fmt: skip
        except ValueError:
            with pytest.raises(ValueError, match=r"padding|kernel_size|dilation"):
                maxima(x, *told)
            continue
        done += 1
        plain, picked, found = maxima(x, *told)
        same(plain, expected)
        same(picked, expected)
        same(found, places)
        size = float(np.abs(np.nan_to_num(x.astype(float))).max())
        bound = np.full(mean.shape, 8 * np.finfo(mean.dtype).eps * size * 16)
        same(means(x, *told, include, divisor), mean, bound)


@lru_cache(maxsize=1)
def maxima_of() -> Callable[..., Any]:
    @numba.njit
    def maxima(x, size, stride, padding, dilation, ceil_mode):
        plain = fastconv.max_pool2d(x, size, stride, padding, dilation, ceil_mode=ceil_mode)
        picked, found = fastconv.max_pool2d(x, size, stride, padding, dilation, ceil_mode=ceil_mode,
                                            return_indices=True)  # fmt: skip
        return plain, picked, found

    return maxima


@lru_cache(maxsize=1)
def means_of() -> Callable[..., Any]:
    @numba.njit
    def means(x, size, stride, padding, dilation, ceil_mode, include, divisor):
        if divisor:
            return fastconv.avg_pool2d(x, size, stride, padding, dilation, ceil_mode=ceil_mode,
                                       count_include_pad=include, divisor_override=divisor)  # fmt: skip
        return fastconv.avg_pool2d(x, size, stride, padding, dilation, ceil_mode=ceil_mode, count_include_pad=include)

    return means


def test_a_window_is_its_own_stride_and_planes_have_any_lead() -> None:
    @numba.njit
    def pooled(x):
        return fastconv.max_pool2d(x, 2), fastconv.avg_pool2d(x[0], (2, 3)), fastconv.max_pool2d(x[0, 0], 3, 1, "same")

    x = np.random.default_rng(11).normal(size=(2, 3, 8, 9))
    for result, expected in zip(pooled(x), pooled.py_func(x), strict=True):
        same(result, expected, np.full(expected.shape, 1e-14))
