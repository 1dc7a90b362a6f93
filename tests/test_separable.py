"""Kernels that are outer products, in two passes: which are found, and that nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cases import fenced, intact, threads, values
from reference import assert_close

import fastconv
from fastconv.cpu.algorithms import conv_separable
from fastconv.specs import conv

pytestmark = pytest.mark.usefixtures("one_thread")


def outer(kh: int, kw: int, dtype: str, planes: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Kernels that are outer products, rounded to their dtype."""
    factors = [values((*planes, taps), "float64", taps) for taps in (kh, kw)]
    if np.dtype(dtype).kind != "f":
        factors = [np.round(3 * factor) for factor in factors]
    return (factors[0][..., None] * factors[1][..., None, :]).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "kernel", "options", "dtype"),
    [
        *(((1, 1, 60, 130), (9, 11), {"padding": "same"}, dtype) for dtype in ("float32", "float64", "int8")),
        ((2, 3, 33, 47), (5, 4), {"stride": (1, 3), "padding": 2, "dilation": (1, 2)}, "float32"),
        ((1, 4, 40, 35), (3, 3), {"stride": 2, "padding": ((0, 3), (2, 1)), "groups": 2}, "int64"),
        ((1, 1, 3, 6), (5, 5), {"padding": 3}, "float64"),
        ((2, 4, 21, 70), (7, 2), {"padding": (6, 0), "groups": 4}, "float32"),
    ],
)
def test_outer_products_in_two_passes(shape: tuple, kernel: tuple, options: dict, dtype: str) -> None:
    groups = options.get("groups", 1)
    x, weight = values(shape, dtype), outer(*kernel, dtype, (2 * groups, shape[1] // groups))
    bias = values(weight.shape[:1], dtype)
    problem = conv.conv_spec(x.shape, weight.shape, [x.dtype], **options)
    assert conv_separable.prepare_if_suited(problem, weight.astype(problem.acc_dtype)) is not None
    x, weight, out = fenced(x), fenced(weight), fenced(np.empty(problem.output_shape, problem.out_dtype))
    expected, scale = reference.conv2d(x, weight, bias, **options)
    fastconv.conv2d(x, weight, bias, **options, algorithm="separable", out=out)
    assert_close(out, expected, scale)
    if out.dtype.kind == "f":  # no worse than the definition's rounding
        assert np.abs(out - expected).max() <= 4 * np.finfo(dtype).eps * scale
    assert all(intact(array) for array in (x, weight, out))
    with threads(None if shape == (1, 1, 60, 130) and dtype == "float32" else 1):
        clamped = fastconv.conv2d(x, weight, bias, **options, algorithm="separable", activation="relu")
    np.testing.assert_array_equal(clamped, np.maximum(out, 0))


def fits(weight: np.ndarray) -> bool:
    problem = conv.conv_spec((1, 1, 99, 99), (1, 1, *weight.shape), [weight.dtype])
    return conv_separable.prepare_if_suited(problem, weight[None, None].astype(problem.acc_dtype)) is not None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outer_products_are_found(dtype: str) -> None:
    gauss = np.exp(-np.linspace(-3, 3, 31) ** 2)
    for kernel in (np.outer(gauss, gauss), np.outer(gauss, gauss) / np.outer(gauss, gauss).sum(), np.zeros((3, 4)),
                   np.outer([1, 2, 1], [-1, 0, 1]) / 7, np.full((5, 5), 1 / 25), np.diag([0.0, 0, 3])):
        assert fits(kernel.astype(dtype))
    exact = np.outer(gauss.astype(dtype), gauss.astype(dtype))
    assert fits(exact)
    for change in (1 + 8 * np.finfo(dtype).eps, 0, np.nan):
        kernel = exact.copy()
        kernel[3, 20] *= change
        assert not fits(kernel)
    assert not fits(np.array([[1, 1], [1, np.inf]], dtype))
    assert not fits(np.eye(2, dtype=dtype))


@pytest.mark.parametrize("dtype", ["int8", "int64", "float32"])
def test_whole_outer_products_have_whole_factors(dtype: str) -> None:
    """Sums of integers kept as floats stay exact."""
    kernel = np.outer([0, 6, 10, -6], [9, 0, 3]).astype(dtype)
    assert fits(kernel)
    x = np.round(values((30, 40), dtype) % 11).astype(dtype)
    result = fastconv.conv2d(x[None], kernel[None, None], algorithm="separable")
    np.testing.assert_array_equal(result, fastconv.conv2d(x[None], kernel[None, None], algorithm="naive"))
    kernel[1, 1] = 1
    assert not fits(kernel)
    assert not fits(np.array([[2, 3], [4, 7]], dtype))


def test_auto_takes_two_passes_where_the_kernel_is_an_outer_product() -> None:
    kernel = outer(15, 15, "float32")
    assert fastconv.plan_conv2d((1, 1, 512, 512), kernel).algorithm == "separable"
    kernel[0, 0, 7, 7] += 1
    assert fastconv.plan_conv2d((1, 1, 512, 512), kernel).algorithm != "separable"


def test_two_passes_overflow_no_earlier_than_the_definition() -> None:
    x, kernel = np.full((1, 1, 30, 40), 2e38, np.float32), np.full((1, 1, 5, 5), 1 / 25, np.float32)
    result = fastconv.conv2d(x, kernel, algorithm="separable")
    np.testing.assert_allclose(result, 2e38, rtol=1e-5)
    result = fastconv.conv2d(-x, kernel, algorithm="separable", activation="relu")
    np.testing.assert_array_equal(result, np.zeros_like(result))
    x[0, 0, 10, 12], x[0, 0, 20, 30] = np.inf, np.nan
    kernel[0, 0, 2] = 0  # times infinity is NaN
    result = fastconv.conv2d(x, kernel, algorithm="separable")
    np.testing.assert_array_equal(result, fastconv.conv2d(x, kernel, algorithm="naive"))
