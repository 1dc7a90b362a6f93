"""Labels of xarray and pandas stay where the shape does; xarray's arrays of Dask stay lazy."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

import fastconv
from fastconv import ndimage as ndi


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def test_xarray() -> None:
    x, kernel = numbers(20, 30), np.ones((3, 3), np.float32)
    coordinates = {"y": np.arange(20) * 2.0, "x": np.arange(30)}
    plain = xr.DataArray(x, dims=("y", "x"), coords=coordinates, attrs={"units": "m"}, name="height")
    for image in (plain, plain.chunk({"y": 7, "x": 10})):
        for made, expected in (
            (ndi.gaussian_filter(image, 1.5), ndi.gaussian_filter(x, 1.5)),
            (ndi.median_filter(input=image, size=3), ndi.median_filter(x, 3)),
            (fastconv.corr2d(image, kernel, padding=1), fastconv.corr2d(x, kernel, padding=1)),
            (xr.apply_ufunc(ndi.gaussian_filter, image, 1, dask="allowed", keep_attrs=True), ndi.gaussian_filter(x, 1)),
        ):
            assert isinstance(made, xr.DataArray)
            assert (made.chunks is None) == (image.chunks is None)
            xr.testing.assert_identical(made.compute(), plain.copy(data=expected))
        smaller = fastconv.max_pool2d(image, 2)
        assert isinstance(smaller, np.ndarray if image is plain else da.Array)
        np.testing.assert_array_equal(smaller, fastconv.max_pool2d(x, 2))


def test_pandas() -> None:
    series = pd.Series(numbers(20), index=pd.date_range("2026-01-01", periods=20), name="level")
    made = ndi.gaussian_filter1d(series, 2)
    expected = ndi.gaussian_filter1d(series.to_numpy(), 2)
    pd.testing.assert_series_equal(made, pd.Series(expected, series.index, name="level"))
    frame = pd.DataFrame({"a": series, "b": series * 2})
    expected = ndi.uniform_filter1d(frame.to_numpy(), 3, axis=0)
    made = ndi.uniform_filter1d(frame, 3, axis=0)
    pd.testing.assert_frame_equal(made, pd.DataFrame(expected, frame.index, frame.columns))
