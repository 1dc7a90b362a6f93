"""Adaptive pooling, unpooling, unfolding and folding on the GPU, against what the CPU does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import values
from libraries import SIMULATED, Library, bfloat16, from_bfloat16
from reference import assert_close

import fastconv

pytestmark = pytest.mark.gpu

SIZES = [1, 3, (2, 5), (7, 9), (4, 1), (10, 12), (None, 4)]
WINDOWS: list[dict[str, Any]] = [{}, {"stride": (2, 3), "padding": ((1, 0), (2, 1)), "dilation": (2, 1)}]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bool", "int64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_adaptive_pooling(size: Any, dtype: str) -> None:
    x = values((2, 3, 7, 9), dtype)
    if dtype == "float32":
        x[0, 0, 5, 6], x[0, 1, 5, 7] = np.nan, np.inf
    mean, (best, places) = (fastconv.adaptive_avg_pool2d(x, size),
                            fastconv.adaptive_max_pool2d(x, size, return_indices=True))
    finite = np.isfinite(mean)
    found = fastconv.adaptive_avg_pool2d(x, size, device="cuda")
    np.testing.assert_array_equal(np.isfinite(found), finite)
    assert_close(np.where(finite, found, found.dtype.type(0)), np.where(finite, mean, mean.dtype.type(0)),
                 float(np.abs(x.astype(np.float64)[np.isfinite(x)]).max()))
    maxima, at = fastconv.adaptive_max_pool2d(x, size, return_indices=True, device="cuda")
    np.testing.assert_array_equal(maxima, best, strict=True)
    np.testing.assert_array_equal(at, places, strict=True)
    np.testing.assert_array_equal(fastconv.adaptive_max_pool2d(x, size, device="cuda"), best, strict=True)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_adaptive_pooling_in_place(library: Library, last: bool) -> None:
    x = values((2, 6, 7, 5), "float32")
    given = library.images(x, last)
    result = fastconv.adaptive_avg_pool2d(given, (3, 4))
    assert isinstance(result, library.kind)
    assert_close(library.get(result), fastconv.adaptive_avg_pool2d(x, (3, 4)), 1)
    maxima, at = fastconv.adaptive_max_pool2d(given, 3, return_indices=True)
    best, places = fastconv.adaptive_max_pool2d(x, 3, return_indices=True)
    np.testing.assert_array_equal(library.get(maxima), best)
    np.testing.assert_array_equal(library.get(at), places)


def test_adaptive_pooling_of_many_pixels() -> None:
    """Windows that a block shares, and parts of windows."""
    x = values((1, 1, 41, 37), "float32")
    assert_close(fastconv.adaptive_avg_pool2d(x, (2, 1), device="cuda"), fastconv.adaptive_avg_pool2d(x, (2, 1)), 1)
    maxima, at = fastconv.adaptive_max_pool2d(x, 2, return_indices=True, device="cuda")
    best, places = fastconv.adaptive_max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(maxima, best)
    np.testing.assert_array_equal(at, places)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "int64"])
@pytest.mark.parametrize("shape", [(2, 3, 7, 9), (3, 7, 9), (7, 9), (0, 3, 7, 9)], ids=str)
def test_unpooling(shape: tuple[int, ...], dtype: str) -> None:
    x = values(shape, dtype)
    maxima, indices = fastconv.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
    expected = fastconv.max_unpool2d(maxima, indices, 3, stride=2, padding=1)
    out = np.ones_like(expected)
    assert fastconv.max_unpool2d(maxima, indices, 3, stride=2, padding=1, device="cuda", out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_unpooling_in_place(library: Library) -> None:
    x = values((2, 3, 6, 7), "float32")
    given = library.images(x, True)
    maxima, indices = fastconv.max_pool2d(given, 2, return_indices=True)
    result = fastconv.max_unpool2d(maxima, indices, 2, output_size=(6, 7))
    assert isinstance(result, library.kind)
    on_cpu = fastconv.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(library.get(result), fastconv.max_unpool2d(*on_cpu, 2, output_size=(6, 7)))


def test_places_outside_the_plane(library: Library) -> None:
    """Said of NumPy's arrays; of those on a GPU, at which nobody looks beforehand, values are left out."""
    x, places = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0, 2**40], [-1, 15]])
    with pytest.raises(ValueError, match="indices must be from 0 to 15, got -1"):
        fastconv.max_unpool2d(x, places, 2, device="cuda")
    result = library.get(fastconv.max_unpool2d(library.put(x), library.put(places), 2))
    expected = np.zeros((4, 4))
    expected[0, 0], expected[3, 3] = 1, 4
    np.testing.assert_array_equal(result, expected)


def test_operands_in_two_places(library: Library) -> None:
    x = np.ones((2, 2), np.float32)
    with pytest.raises(TypeError, match="indices is a NumPy array, but x is on a GPU"):
        fastconv.max_unpool2d(library.put(x), x.astype(np.int64), 2)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "int16", "float64"])
@pytest.mark.parametrize("options", WINDOWS, ids=str)
def test_unfold_and_fold(options: dict[str, Any], dtype: str) -> None:
    x = values((3, 2, 6, 8), dtype)
    columns = fastconv.unfold2d(x, (3, 2), **options)
    np.testing.assert_array_equal(fastconv.unfold2d(x, (3, 2), **options, device="cuda"), columns, strict=True)
    np.testing.assert_array_equal(fastconv.unfold2d(x[0], (3, 2), **options, device="cuda"), columns[0], strict=True)
    image = fastconv.fold2d(columns, (6, 8), (3, 2), **options)
    found = fastconv.fold2d(columns, (6, 8), (3, 2), **options, device="cuda")
    assert found.dtype == image.dtype
    assert_close(found, image, 6)
    assert_close(fastconv.fold2d(columns[1], (6, 8), (3, 2), **options, device="cuda"), image[1], 6)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_unfold_and_fold_in_place(library: Library, last: bool) -> None:
    x = values((2, 3, 5, 6), "float32")
    given, expected = library.images(x, last), fastconv.unfold2d(x, 2, padding=1)
    columns = fastconv.unfold2d(given, 2, padding=1)
    assert isinstance(columns, library.kind)
    np.testing.assert_array_equal(library.get(columns), expected)
    image = library.get(fastconv.fold2d(columns, (5, 6), 2, padding=1))
    assert_close(image, fastconv.fold2d(expected, (5, 6), 2, padding=1), 4)
    if SIMULATED:  # whose arrays are sliced with any steps
        wide = library.put(np.zeros((2, 12, 84), np.float32))
        assert fastconv.unfold2d(given, 2, padding=1, out=wide[:, :, ::2]) is not None
        np.testing.assert_array_equal(library.get(wide)[:, :, ::2], expected)
        assert not library.get(wide)[:, :, 1::2].any()


@pytest.mark.skipif(not SIMULATED, reason="the fake has bits for bfloat16, as NumPy has none")
def test_bfloat16(library: Library) -> None:
    if library.name != "torch":
        return
    bits = bfloat16(values((1, 2, 5, 6), "float32"))
    x = library.kind(bits, "bfloat16")
    columns = fastconv.unfold2d(x, 2)
    np.testing.assert_array_equal(library.get(columns), fastconv.unfold2d(bits, 2))
    exact = fastconv.adaptive_avg_pool2d(from_bfloat16(bits), 4)
    found = from_bfloat16(library.get(fastconv.adaptive_avg_pool2d(x, 4)))
    np.testing.assert_allclose(found, exact, rtol=2**-8)
