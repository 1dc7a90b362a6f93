"""Beside a huge number, an infinity or a NaN on the GPU: outputs err by no more than their own windows' sums allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from cases import values
from libraries import Library
from test_cuda_conv import ALGORITHMS, unsupported

import fastconv
from fastconv import grad
from fastconv.cpu.shared.own_windows import ROUNDINGS
from fastconv.cuda.shared import own_windows

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")]

#: Shapes of images and kernels, and padding: tiles in several blocks, ragged edges, windows of one row or column.
PROBLEMS = [((2, 5, 6, 7), (9, 5, 3, 3), 1), ((1, 3, 9, 5), (3, 3, 3, 3), 2),
            ((1, 4, 8, 5), (4, 2, 3, 3), ((0, 2), (1, 0)))]
EPS = float(np.finfo(np.float32).eps)


def check(result: np.ndarray, x: np.ndarray, weight: np.ndarray, define: Callable[..., Any]) -> None:
    """The promise of `conv2d`, for a linear operation with a definition."""
    finite = np.where(np.isfinite(x), x, 0).astype(np.float64)
    sees_bad, _ = define((~np.isfinite(x)).astype(int), np.ones(weight.shape, int))
    right, _ = define(finite, weight.astype(np.float64))
    scale, _ = define(np.abs(finite), np.full(weight.shape, float(np.abs(weight).max())))
    assert np.array_equal(np.isfinite(result), sees_bad == 0)
    error = np.abs(result - right)[sees_bad == 0]
    assert (error <= ROUNDINGS * EPS * scale[sees_bad == 0]).all()


@pytest.mark.parametrize("bad", [1e20, np.inf, np.nan])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(("shape", "kernel", "padding"), PROBLEMS)
def test_winograd(shape: tuple, kernel: tuple, padding: Any, last: bool, bad: float, library: Library) -> None:
    if library.name != "numba":
        return
    x, weight = values(shape, "float32"), values(kernel, "float32", 1)
    options: dict[str, Any] = {"padding": padding, "groups": shape[1] // kernel[1]}
    plan = fastconv.plan_conv2d(shape, library.put(weight), **options, algorithm="winograd")
    for place in ((0, 0, 0, 0), (-1, 1, -1, -1), (-1, -1, 2, 2), (0, 1, 3, -2)):
        image = x.copy()
        image[place] = bad
        check(library.get(plan(library.images(image, last))), image, weight,
              lambda *operands: reference.conv2d(*operands, **options))


def test_ordinary_tiles_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images with dark channels, pixels and edges, of numbers that differ by a hundred."""
    x, weight = np.abs(values((1, 8, 10, 9), "float32")), values((4, 8, 3, 3), "float32", 1)
    x[:, :6] = 0
    x[:, :, :, 3] = 0
    x[:, :, 5] *= 100
    call = {"padding": 1, "device": "cuda", "algorithm": "winograd"}
    spoiled = x.copy()
    spoiled[0, 7, 0, 0] = 1e20
    results = [fastconv.conv2d(image, weight, **call) for image in (x, spoiled)]
    monkeypatch.setattr(own_windows, "finish", lambda *arguments: None)
    alone = [fastconv.conv2d(image, weight, **call) for image in (x, spoiled)]
    assert np.array_equal(results[0], alone[0])
    assert not np.array_equal(results[1], alone[1])
    assert np.array_equal(results[1][:, :, 4:], alone[1][:, :, 4:])


def test_zeros_and_huge_numbers() -> None:
    """What sees zeros only is the bias exactly; numbers near the largest one do not overflow on the way."""
    x, weight = np.zeros((1, 2, 9, 9), np.float32), values((3, 2, 3, 3), "float32", 1)
    bias = values((3,), "float32", 2)
    x[0, 1, 0, 0] = 1
    result = fastconv.conv2d(x, weight, bias, padding=2, device="cuda", algorithm="winograd")
    result[:, :, :3, :3] = bias[:, None, None]
    assert (result == bias[:, None, None]).all()
    for size, factor in ((1e37, 1), (1e18, 1e18)):
        huge, large = x + np.float32(size), weight * np.float32(factor)
        result = fastconv.conv2d(huge, large, padding=1, device="cuda", algorithm="winograd")
        check(result, huge, large, lambda *operands: reference.conv2d(*operands, padding=1))


def test_transposed_volumes_and_gradients() -> None:
    """What is made of convolutions keeps the promise."""
    for bad in (1e20, np.inf):
        x, weight = values((1, 3, 4, 5), "float32"), values((3, 2, 6, 6), "float32", 1)
        x[0, 1, 1, 2] = bad
        result = fastconv.conv_transpose2d(x, weight, stride=2, device="cuda", algorithm="winograd")
        check(result, x, weight, lambda *operands: reference.conv_transpose(*operands, stride=2))
        weight = values((3, 2, 3, 3), "float32", 1)
        result = grad.conv2d_input((1, 2, 6, 7), weight, x, device="cuda", algorithm="winograd")
        check(result, x, weight, reference.conv_transpose)
        x, weight = values((1, 2, 3, 5, 6), "float32"), values((3, 2, 2, 3, 3), "float32", 1)
        x[0, 1, 1, 2, 0] = bad
        result = fastconv.conv3d(x, weight, padding=1, device="cuda", algorithm="winograd")
        check(result, x, weight, lambda *operands: reference.conv2d(*operands, padding=1))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_infinite_weight_over_padding(algorithm: str) -> None:
    """The padding is zeros, and zero times infinity is NaN."""
    tried = 0
    for channels, groups, size in ((4, 1, 3), (4, 1, 1), (3, 3, 3)):
        x = np.abs(values((1, channels, 5, 6), "float32")) + 1
        weight = values((3, channels // groups, size, size), "float32", 1)
        weight[2, 0, 0, 0] = np.inf
        if unsupported(algorithm, [x, weight], padding=1, groups=groups) is None:
            padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
            right, _ = reference.conv2d(padded, weight, groups=groups)
            result = fastconv.conv2d(x, weight, padding=1, groups=groups, device="cuda", algorithm=algorithm)
            np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-4)
            tried += 1
    assert tried


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("algorithm", fastconv.algorithms("conv2d_weight", "cuda"))
def test_an_infinite_gradient_reaches_the_taps_that_see_it(algorithm: str, dtype: str) -> None:
    """Zeros of the padding, which some algorithms multiply, make no NaN of it."""
    x, signal = np.abs(values((2, 4, 6, 7), dtype)) + np.ones(1, dtype), np.ones((2, 3, 6, 7), dtype)
    signal[1, 2, 0, 3] = np.inf
    result = grad.conv2d_weight(x, (3, 4, 3, 3), signal, padding=1, device="cuda", algorithm=algorithm)
    assert np.isfinite(result[:2]).all()
    assert np.isfinite(result[2, :, 0]).all()
    assert (result[2, :, 1:] == np.inf).all()
