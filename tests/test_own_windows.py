"""Transforms beside a huge number or an infinity: an output errs by no more than its own window's sums allow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from cases import unsupported, values

import fastconv
from fastconv.cpu.shared.own_windows import ROUNDINGS

pytestmark = pytest.mark.usefixtures("one_thread")

#: By algorithm: shapes of images and kernels, with widths that whole cells and whole vectors do and do not fill.
PROBLEMS = {
    "winograd": [((1, 16, 9, 29), (16, 16, 3, 3)), ((1, 4, 12, 11), (8, 4, 3, 3))],
    "dft": [((1, 1, 45, 45), (1, 1, 9, 9)), ((1, 4, 29, 29), (2, 4, 5, 5)), ((1, 1, 21, 11), (1, 1, 7, 7)),
            ((1, 16, 13, 37), (4, 16, 5, 5))],
    "fft": [((1, 1, 45, 45), (1, 1, 9, 9)), ((1, 2, 14, 11), (2, 2, 7, 7))],
    "fft2d": [((1, 1, 45, 45), (1, 1, 9, 9)), ((1, 1, 29, 77), (1, 1, 31, 31)), ((1, 1, 20, 13), (1, 1, 15, 11))],
}  # fmt: skip


def expected(x: np.ndarray, weight: np.ndarray, padding: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The outputs of finite float64 images, and how much each may err when it is computed in float32."""
    right, _ = reference.conv2d(x, weight.astype(np.float64), padding=padding)
    most = np.broadcast_to(np.abs(weight).max(axis=(1, 2, 3), keepdims=True), weight.shape).astype(np.float64)
    scale, _ = reference.conv2d(np.abs(x), most, padding=padding)
    return right, ROUNDINGS * np.finfo("f4").eps * scale


@pytest.mark.parametrize("bad", [1e20, np.inf, np.nan])
@pytest.mark.parametrize("algorithm", PROBLEMS)
def test_a_number_in_any_of_the_last_columns_or_rows(algorithm: str, bad: float) -> None:
    for shape, kernel in PROBLEMS[algorithm]:  # pixels in each of the last columns, the last rows, on the diagonal
        x, weight = values(shape, "float32"), values(kernel, "float32", 1)
        padding = (kernel[2] // 2, kernel[3] // 2)
        assert unsupported(algorithm, (x, weight), padding=padding) is None
        call = fastconv.plan_conv2d(shape, weight, padding=padding, algorithm=algorithm)
        for back in range(1, 10):
            for place in ((0, shape[1] - 1, shape[2] // 2, -back), (0, 0, -back, shape[3] // 2), (0, 0, -1, -back)):
                image = x.copy()
                image[place] = bad
                finite = np.where(np.isfinite(image), image, 0).astype(np.float64)
                right, bound = expected(finite, weight, padding)
                seen, _ = reference.conv2d((~np.isfinite(image)).astype(int), np.ones(kernel, int), padding=padding)
                result = call(image)
                assert np.array_equal(np.isfinite(result), seen == 0), (shape, kernel, place)
                error = np.abs(result - right)[seen == 0]
                assert (error <= bound[seen == 0]).all(), (shape, kernel, place)


def test_an_image_that_grows_slowly_brighter() -> None:
    """Nowhere in a block do windows differ much, but from one block to another that shares its transform they do."""
    x, weight = np.abs(values((1, 1, 100, 550), "float32")) + 1, values((1, 1, 3, 3), "float32", 1)
    x *= np.float32(2) ** (np.arange(550, dtype=np.float32) / 28)
    right, bound = expected(x.astype(np.float64), weight, (0, 0))
    for algorithm in ("auto", "fft2d", "dft", "fft"):
        error = np.abs(fastconv.conv2d(x, weight, algorithm=algorithm) - right)
        assert (error <= bound).all(), algorithm


@pytest.mark.parametrize("algorithm", PROBLEMS)
def test_numbers_whose_squares_are_zeros(algorithm: str) -> None:
    for (shape, kernel), least in itertools.product(PROBLEMS[algorithm], (1e-23, 1e-26, 1e-32)):
        x, weight = np.abs(values(shape, "float32")) + 1, values(kernel, "float32", 1)
        x *= np.float32(least)
        x[:, :, :, shape[3] // 2 :] *= np.float32(2**24)
        padding = (kernel[2] // 2, kernel[3] // 2)
        right, bound = expected(x.astype(np.float64), weight, padding)
        error = np.abs(fastconv.conv2d(x, weight, padding=padding, algorithm=algorithm) - right)
        assert (error <= bound).all(), (shape, kernel, least)


@pytest.mark.parametrize("algorithm", PROBLEMS)
def test_zeros_times_large_weights(algorithm: str) -> None:
    shape, kernel = PROBLEMS[algorithm][0]
    for large, right in ((1e38, 0), (np.inf, np.nan)):
        weight = np.full(kernel, large, np.float32)
        result = fastconv.conv2d(np.zeros(shape, np.float32), weight, algorithm=algorithm)
        np.testing.assert_array_equal(result, np.full(result.shape, right, np.float32))


@pytest.mark.parametrize("algorithm", ["fft", "fft2d", "dft"])
def test_windows_of_zeros_that_hang_over_the_edge(algorithm: str) -> None:
    x, weight = values((1, 1, 14, 8), "float32"), values((1, 1, 4, 2), "float32", 1)
    x[0, 0, 0, :5] = 0
    result = fastconv.conv2d(x, weight, padding=(4, 1), algorithm=algorithm)
    assert np.count_nonzero(result[0, 0, 1, :5]) == 0  # their windows see one row


def test_an_infinite_weight_over_padding() -> None:
    x, options = np.abs(values((1, 4, 9, 9), "float32")) + 1, {"stride": 2, "padding": 1}
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    tried = set()
    for size in (1, 3):
        weight = values((8, 4, size, size), "float32", 1)
        weight[2, 1, 0, 0] = np.inf
        right = fastconv.conv2d(padded, weight, stride=2, algorithm="naive")
        for algorithm in fastconv.algorithms("conv2d"):
            if unsupported(algorithm, (x, weight), **options) is None:
                result = fastconv.conv2d(x, weight, **options, algorithm=algorithm)
                np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-4, err_msg=algorithm)
                tried.add(algorithm)
    assert {"direct", "image", "dft", "fft"} <= tried
