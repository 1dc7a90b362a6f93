"""Layers of this package inside a caller's ``@njit``, against plain calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import pytest
from images import values
from in_njit import compiled, refuse, same

import fastconv

pytestmark = pytest.mark.usefixtures("one_thread")

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


# -- errors --------------------------------------------------------------------------------------------------


def wrong_values() -> list[tuple[Callable[..., Any], tuple, str]]:
    """Functions that the tests above compiled, arguments, and words of the ValueError."""
    x, k, b = np.ones((1, 2, 6, 7), "f4"), np.ones((2, 2, 3, 3), "f4"), np.ones(2, "f4")
    conv = compiled("fastconv.conv2d", "x, weight, bias, stride, padding, dilation, groups", TORCH, "padding_mode")
    one, none = (1, 1), ((0, 0), (0, 0))
    maxima, means, no = maxima_of(), means_of(), False
    images, far = x[0, :1], ((9, 0), (0, 0))
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
        (maxima, (images, (0, 1), one, none, one, no), "kernel_size must be from 1"),
        (maxima, (images, (2, 2), one, ((2, 0), (0, 0)), one, no), "padding must be below the window"),
        (maxima, (images, (9, 2), one, none, one, no), "kernel_size .* must be at most"),
        (maxima, (images, (2, 2), (1, 0), none, one, no), "stride must be from 1"),
        (means, (images, (2, 2), one, ((0, -6), (0, 0)), one, no, no), "padding must not cut off"),
    ]


@pytest.mark.parametrize("number", range(16))
def test_wrong_values_are_errors_that_name_the_argument(number: int) -> None:
    function, told, words = wrong_values()[number]
    told = tuple(np.ascontiguousarray(one) if isinstance(one, np.ndarray) else one for one in told)
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
])  # fmt: skip
def test_wrong_types_are_errors_that_name_the_argument(call: str, words: str) -> None:
    refuse(call, words)
