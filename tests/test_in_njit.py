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

fastconv.numba.declare()  # where the package is not installed, nobody else does
pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]


def rims(function: str, given: str, modes: tuple[str, ...] | list[str], name: str = "mode") -> Callable[..., Any]:
    """A compiled function of `given` arguments and the number of a boundary mode: modes are constants."""
    lines = [f"def call(number, {given}):"]
    for number, mode in enumerate(modes):
        lines.append(f"    if number == {number}:")
        told = [f"{one}={one}" for one in given.split(", ")]
        lines.append(f"        return {function}({', '.join(told)}, {name}={mode!r})")
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
        )

    @numba.njit
    def images(x, weight):
        return fastconv.conv2d(x[0], weight, padding="same_lower"), fastconv.conv2d(x, weight, padding="valid")

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
            fastconv.corr2d(x, kernel, 3),
            fastconv.corr2d(x, kernel, bias, padding=((1, 0), (2, 3)), padding_mode="replicate"),
        )  # fmt: skip

    rng = np.random.default_rng(9)
    for x, kernel in (("u1", "i1"), ("f4", "f4")):
        x, kernel = values(rng, (11, 12), x), values(rng, (3, 4), kernel)
        for result, expected in zip(filtered(x, kernel, 0.5), filtered.py_func(x, kernel, 0.5), strict=True):
            same(result, expected, np.full(expected.shape, 1e-5 * np.abs(expected).max()))


def test_poolings_equal_plain_calls() -> None:
    maxima, means = maxima_of(), means_of()
    rng, done = np.random.default_rng(10), 0
    while done < 60:
        x = values(rng, tuple(map(int, rng.integers(1, 14, 3))), "f4")
        x[rng.random(x.shape) < 0.03] = np.nan
        window = tuple(tuple(map(int, rng.integers(1, 5, 2))) for _ in range(2))
        padding = tuple(tuple(map(int, sides)) for sides in rng.integers(-1 if done % 3 == 0 else 0, 3, (2, 2)))
        told = *window, padding, tuple(map(int, rng.integers(1, 4, 2))), bool(rng.integers(2))
        include = bool(rng.integers(2))
        try:
            expected, places = fastconv.max_pool2d(x, *told[:4], ceil_mode=told[4], return_indices=True,
                                                   algorithm="naive")  # fmt: skip
            mean = fastconv.avg_pool2d(x, *told[:4], ceil_mode=told[4], count_include_pad=include,
                                       algorithm="naive")  # fmt: skip
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
        same(means(x, *told, include), mean, bound)


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
    def means(x, size, stride, padding, dilation, ceil_mode, include):
        return fastconv.avg_pool2d(x, size, stride, padding, dilation, ceil_mode=ceil_mode, count_include_pad=include)

    return means


def test_a_window_is_its_own_stride_and_images_may_be_integers_with_any_lead() -> None:
    @numba.njit
    def pooled(x):
        return fastconv.avg_pool2d(x[0], (2, 3), divisor_override=5), fastconv.max_pool2d(x[0, 0], 3, 1, "same")

    x = values(np.random.default_rng(11), (2, 3, 8, 9), "i1")
    for result, expected in zip(pooled(x), pooled.py_func(x), strict=True):
        same(result, expected, np.full(expected.shape, 1e-14))


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


# -- inside programs -----------------------------------------------------------------------------------------


def test_calls_run_serially_inside_a_prange() -> None:
    @numba.njit(parallel=True)
    def each(images):
        out = np.empty_like(images)
        for number in numba.prange(len(images)):
            out[number] = ndimage.minimum_filter(images[number], (3, 5))
        return out

    images = np.random.default_rng(14).random((40, 20, 30), np.float32)
    for result, image in zip(each(images), images, strict=True):
        same(result, ndimage.minimum_filter(image, (3, 5)))


def wrong_values() -> list[tuple[Callable[..., Any], tuple, str]]:
    """Functions that other tests compiled, arguments, and words of the ValueError."""
    x, k, b = np.ones((1, 2, 6, 7), "f4"), np.ones((2, 2, 3, 3), "f4"), np.ones(2, "f4")
    conv = compiled("fastconv.conv2d", "x, weight, bias, stride, padding, dilation, groups", TORCH, "padding_mode")
    one, none = (1, 1), ((0, 0), (0, 0))
    correlate = compiled("ndimage.correlate", "input, weights, cval, origin", MODES)
    along = compiled("ndimage.correlate1d", "input, weights, axis, cval, origin", ("grid-mirror",))
    means = compiled("ndimage.uniform_filter", "input, size, cval, origin", ("reflect",))
    maxima, pooled, no = maxima_of(), means_of(), False
    image, window = x[0, 0], np.ones((3, 3))
    far = ((9, 0), (0, 0))
    return [
        (conv, (0, x, k[:, :1], b, one, none, one, 1), "weight must have shape"),
        (conv, (0, x[:, :, :0], k, b, one, none, one, 1), "x must have no empty axis"),
        (conv, (0, x, k[:, :, :0], b, one, none, one, 1), "weight must have no empty axis"),
        (conv, (0, x, k, b[:1], one, none, one, 1), "bias must have shape"),
        (conv, (0, x, k, b, (0, 1), none, one, 1), "stride must be from 1"),
        (conv, (0, x, k, b, one, none, (4, 1), 1), "weight must cover no more pixels"),
        (conv, (0, x, k, b, one, none, (1, 2**40), 1), "dilation must be from 1"),
        (conv, (0, x, k, b, one, none, one, 3), "groups must be at least 1, and divide"),
        (conv, (0, x, k, b, one, ((0, 2**40), (0, 0)), one, 1), "padding must be at most"),
        (conv, (0, x, k, b, one, ((-3, -3), (0, 0)), one, 1), "padding must not cut off"),
        (conv, (1, x, k, b, one, far, one, 1), "padding must be at most the size"),
        (maxima, (image, (0, 1), one, none, one, no), "kernel_size must be from 1"),
        (maxima, (image, (2, 2), one, ((2, 0), (0, 0)), one, no), "padding must be below the window"),
        (maxima, (image, (9, 2), one, none, one, no), "kernel_size .* must be at most"),
        (maxima, (image, (2, 2), (1, 0), none, one, no), "stride must be from 1"),
        (pooled, (image, (2, 2), one, ((0, -6), (0, 0)), one, no, no), "padding must not cut off"),
        (correlate, (0, image, window[:0], 0.0, (0, 0)), "weights must not be empty"),
        (correlate, (0, image, window, 0.0, (2, 0)), "origin must satisfy"),
        (along, (0, image, window[0], 2, 0.0, 0), "axis must be an axis of input"),
        (means, (0, image, (0, 3), 0.0, (0, 0)), "size must be from 1"),
    ]


@pytest.mark.parametrize("number", range(20))
def test_wrong_values_are_errors_that_name_the_argument(number: int) -> None:
    function, told, words = wrong_values()[number]
    told = tuple(np.ascontiguousarray(one) if isinstance(one, np.ndarray) else one for one in told)
    if function in (maxima_of(), means_of()):
        told = (told[0][None], *told[1:])
    with pytest.raises(ValueError, match=words):
        function(*told)


@pytest.mark.parametrize(("call", "words"), [
    ("conv2d(x[None], k)", "weight must be an array of 4 axes"),
    ("conv2d([1.0], k)", "x must be an array of 3 or 4 axes"),
    ("conv2d(x[None], k[None, None], stride=1.5)", "stride must be an integer or 2 in a tuple"),
    ("conv2d(x[None], k[None, None], padding='all')", "padding must be integers"),
    ("conv2d(x[None], k[None, None], activation='elu')", "activation must be None or 'relu'"),
    ("conv2d(x[None], k[None, None], padding_mode='wrap')", "padding_mode must be one of 'zeros'"),
    ("corr2d(x, k, 'a')", "bias must be a number"),
    ("max_pool2d(x, (2,))", "kernel_size must be an integer or 2"),
    ("ndimage.correlate(x, k[0])", "weights must be an array of 2 axes"),
    ("ndimage.correlate(x, k, mode='same')", "mode must be one of 'reflect'"),
    ("ndimage.correlate(x, k, mode=str(x.ndim))", "mode must be a constant"),
    ("ndimage.correlate(x, k, x)", "output must be None"),
    ("ndimage.correlate(x + 1j, k)", "input must be an array .* of bool, integers"),
    ("ndimage.maximum_filter(x)", "size must be given"),
    ("ndimage.minimum_filter(x, (3, 3, 3))", "size must be an integer, or a tuple of 2"),
])  # fmt: skip
def test_wrong_types_are_errors_that_name_the_argument(call: str, words: str) -> None:
    names: dict[str, Any] = {**vars(fastconv), "np": np}
    exec(f"def wrong(x, k):\n    return {call}", names)
    with pytest.raises(TypingError, match=words):
        numba.njit(names["wrong"])(np.ones((6, 7)), np.ones((3, 3)))


CACHED = """
import sys
import numba
import numpy as np
import fastconv

fastconv.numba.declare()
smooth = fastconv.numba.correlate((3, 3), np.float64)

@numba.njit(cache=True)
def edges(x, k):
    return fastconv.max_pool2d(smooth(x, k), 2)

if __name__ == "__main__":
    x, k = np.arange(90.0).reshape(9, 10) ** 2, np.arange(9.0).reshape(3, 3)
    result = edges(x, k)
    print(sum(edges.stats.cache_hits.values()), result.sum())
"""


def test_a_callers_cache_keeps_the_code(tmp_path: Path) -> None:
    """The second process finds on disk what the first one compiled, and nothing that belonged to that process."""
    script = tmp_path / "program.py"
    script.write_text(CACHED)
    results = [run(script, NUMBA_CACHE_DIR=tmp_path).split() for _ in range(2)]
    assert [hits for hits, _ in results] == ["0", "1"]
    assert results[0][1] == results[1][1]


def test_numba_finds_the_functions_by_the_entry_point(tmp_path: Path) -> None:
    """As an installed package has it: where Numba compiles first, and where the package is imported later."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["numba_extensions"]
    metadata = tmp_path / "other-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[numba_extensions]\ninit = {entry['init']}\n")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    use = "\n@njit\ndef f(x):\n    return fastconv.max_pool2d(x, 2)\n\nassert f(np.ones((4, 4))).sum() == 4\n"
    first = "import sys\nimport numpy as np\nfrom numba import njit\nnjit(lambda x: x + 1)(1)\n"
    told = "assert 'fastconv.numba.poolings' in sys.modules\n"
    run_code(f"import fastconv\n{first}{told}", PYTHONPATH=path)
    run_code(f"{first}assert 'fastconv' not in sys.modules\nimport fastconv\n{use}", PYTHONPATH=path)


def test_nothing_is_read_or_written_out_of_bounds() -> None:
    """Random problems again, with every index checked."""
    code = """
        import numba, numpy as np, pytest, sys
        import test_in_njit as tests
        from fastconv.numba.parts import part
        beyond = part(lambda x, i: x[i])
        with pytest.raises(IndexError):
            numba.njit(lambda x: beyond(x, len(x)))(np.ones(3))
        tests.test_correlations_equal_plain_calls("f4", ("mirror",))
        tests.test_extremes_equal_plain_calls("minimum_filter", "f4", ("reflect",))
        tests.test_convolutions_equal_plain_calls("f4", ("reflect",))
        tests.test_a_window_of_one_shape_correlates_as_a_plain_call("f4", "wrap", (2, 3))
    """
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "support")))
    run_code(re.sub(r"^ {8}", "", code, flags=re.M), NUMBA_BOUNDSCHECK=1, PYTHONPATH=path)
