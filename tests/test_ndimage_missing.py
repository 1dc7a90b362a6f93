"""Elements left out of windows, and variances, in `fastconv.ndimage`; against plain NumPy, and astropy if there."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from images import origin, shape

from fastconv import ndimage

#: NumPy's names of the boundaries that it can lay around an image.
PADDED = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap", "constant": "constant"}


def windows(x: np.ndarray, sizes: tuple[int, ...], origins: tuple[int, ...], mode: str, cval: float) -> np.ndarray:
    """All windows of an image, as axes behind its own."""
    sides = [(size // 2 + shift, size - 1 - size // 2 - shift) for size, shift in zip(sizes, origins, strict=True)]
    padded = np.pad(x, sides, PADDED[mode], **({"constant_values": cval} if mode == "constant" else {}))
    return np.lib.stride_tricks.sliding_window_view(padded, sizes)


def holed(rng: np.random.Generator, size: tuple[int, ...], dtype: Any, share: float = 0.3) -> np.ndarray:
    x = (rng.standard_normal(size) + 3).astype(dtype)
    x[rng.random(size) < share] = np.nan
    return x


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("seed", range(40))
def test_nan_left_out(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = tuple(max(one, 1) for one in shape(rng, 3))
    x = holed(rng, size, dtype)
    window = tuple(int(rng.integers(1, 6)) for _ in size)
    shifts = tuple(origin(rng, one) for one in window)
    mode = str(rng.choice(list(PADDED)))
    cval = float(rng.choice([0.0, 2.0, np.nan]))
    periods = int(rng.integers(1, 4))
    seen = windows(x.astype(float), window, shifts, mode, cval)
    inner = tuple(range(x.ndim, 2 * x.ndim))
    there = ~np.isnan(seen)
    with np.errstate(all="ignore"):
        weights = rng.uniform(0.5, 1.5, window)
        sums, of = (np.where(there, seen * weights, 0).sum(inner), (there * weights).sum(inner))
        expected = np.where(there.sum(inner) >= periods, sums / of * weights.sum(), np.nan)
        told = {"mode": mode, "cval": cval, "nan_policy": "omit", "min_periods": periods}
        result = ndimage.correlate(x, weights, origin=shifts, **told)
        np.testing.assert_allclose(result, expected, rtol=1e-5 if dtype == "f4" else 1e-12)
        assert result.dtype == x.dtype
        means = np.where(there.sum(inner) >= periods, np.where(there, seen, 0).sum(inner) / there.sum(inner), np.nan)
        result = ndimage.uniform_filter(x, window, origin=shifts, **told)
        np.testing.assert_allclose(result, means, rtol=1e-5 if dtype == "f4" else 1e-12, atol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8"])
@pytest.mark.parametrize("seed", range(30))
def test_variances(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = tuple(max(one, 1) for one in shape(rng, 3))
    x = (rng.standard_normal(size) * 40 + 100).astype(dtype)
    omit = dtype.startswith("f") and seed % 2 == 1
    if omit:
        x[rng.random(size) < 0.3] = np.nan
    window = tuple(int(rng.integers(1, 10)) for _ in size)
    shifts, mode, ddof = tuple(origin(rng, one) for one in window), str(rng.choice(list(PADDED))), int(rng.integers(2))
    seen = windows(x.astype(float), window, shifts, mode, 7.0)
    inner = tuple(range(x.ndim, 2 * x.ndim))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.nanvar(seen, axis=inner, ddof=ddof)
    told = {"mode": mode, "cval": 7.0, "origin": shifts, "ddof": ddof, "nan_policy": "omit" if omit else "propagate"}
    result = ndimage.variance_filter(x, window, **told)
    assert result.dtype == ("f4" if dtype == "f4" else "f8")
    np.testing.assert_allclose(result, expected, rtol=1e-6 if dtype == "f4" else 1e-10, atol=1e-9)
    np.testing.assert_allclose(ndimage.std_filter(x, window, **told), np.sqrt(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e12])
def test_variances_of_large_means_keep_their_digits(offset: float) -> None:
    small = np.random.default_rng(0).integers(0, 100, (40, 50)).astype(float)
    exact = ndimage.variance_filter(small, 7)
    np.testing.assert_allclose(ndimage.variance_filter(small + offset, 7), exact, rtol=1e-10 if offset < 1e9 else 1e-5)
    assert (ndimage.variance_filter(np.full((9, 9), 0.1 + offset), 5) == 0).all()


def test_a_nan_spreads_to_the_variances_that_see_it() -> None:
    x = np.random.default_rng(0).random((20, 30))
    x[10, 15] = np.nan
    mask = np.zeros(x.shape, bool)
    mask[3, 4] = True
    seen = np.zeros(x.shape, bool)
    seen[8:13, 13:18] = True
    for told in ({}, {"mask": mask}, {"mask": mask, "min_periods": 2}):
        for function in (ndimage.variance_filter, ndimage.uniform_filter):
            np.testing.assert_array_equal(np.isnan(function(x, 5, **told)), seen)
        np.testing.assert_array_equal(np.isnan(ndimage.correlate(x, np.ones((5, 5)), **told)), seen)


def test_masks() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((20, 30))
    mask = rng.random(x.shape) < 0.3
    missing = np.where(mask, np.nan, x)
    for function, argument in ((ndimage.gaussian_filter, 1.5), (ndimage.uniform_filter, 4), (ndimage.std_filter, 3),
                               (ndimage.correlate, np.ones((3, 4))), (ndimage.convolve1d, [1.0, 2, 3]),
                               (ndimage.gaussian_filter1d, 2), (ndimage.uniform_filter1d, 5)):  # fmt: skip
        expected = function(missing, argument, nan_policy="omit")
        np.testing.assert_array_equal(function(x, argument, mask=mask), expected)
        np.testing.assert_array_equal(function(np.ma.masked_array(x, mask), argument), expected)
        half = np.arange(30) < 15
        both = function(np.ma.masked_array(x, mask & half), argument, mask=mask & ~half)
        np.testing.assert_array_equal(both, expected)
        whole = (x * 100).astype(np.uint8)
        result = function(whole, argument, mask=mask)
        assert result.dtype == np.float64
        np.testing.assert_array_equal(result, function(np.where(mask, np.nan, whole), argument, nan_policy="omit"))


@pytest.mark.parametrize("mode", ["nearest", "wrap", "constant"])
def test_what_astropy_interpolates(mode: str) -> None:
    convolution = pytest.importorskip("astropy.convolution")
    rng = np.random.default_rng(0)
    boundary = {"nearest": "extend", "wrap": "wrap", "constant": "fill"}[mode]
    for size, window in (((60, 70), (9, 9)), ((60, 70), (5, 31)), ((12, 13, 14), (3, 5, 3)), ((50,), (7,))):
        x = holed(rng, size, "f8")
        weights = rng.uniform(0.1, 1, window)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = convolution.convolve(x, weights, boundary, nan_treatment="interpolate", normalize_kernel=True)
        result = ndimage.convolve(x, weights / weights.sum(), mode=mode, nan_policy="omit")
        np.testing.assert_allclose(result, expected, rtol=1e-11)


def test_a_gaussian_of_what_is_there() -> None:
    """Windows of one axis are those of two where neighbours are there; and an image without holes is as ever."""
    x = np.random.default_rng(0).random((30, 40))
    np.testing.assert_allclose(ndimage.gaussian_filter(x, 2, nan_policy="omit"), scipy.ndimage.gaussian_filter(x, 2),
                               rtol=1e-13)  # fmt: skip
    x[5:25, 5:25] = np.nan
    result = ndimage.gaussian_filter(x, 1, nan_policy="omit")
    assert np.isnan(result[15, 15])
    assert not np.isnan(result[6, 6])


@pytest.mark.parametrize(("told", "error", "match"), [
    ({"nan_policy": "skip"}, ValueError, "nan_policy must be one of"),
    ({"nan_policy": "raise"}, ValueError, "input contains nan"),
    ({"mask": [1, 0]}, TypeError, "mask must be an array of bools"),
    ({"mask": [True, False]}, ValueError, "mask must have the shape of input"),
    ({"min_periods": 0}, ValueError, "min_periods must be between 1"),
    ({"min_periods": 1.5}, TypeError, "min_periods must be an integer"),
])  # fmt: skip
def test_messages(told: dict, error: type[Exception], match: str) -> None:
    x = np.ones((3, 4))
    x[1, 1] = np.nan
    with pytest.raises(error, match=match):
        ndimage.uniform_filter(x, 3, **told)
    with pytest.raises(TypeError, match="for real numbers"):
        ndimage.uniform_filter(x + 1j, 3, nan_policy="omit")
