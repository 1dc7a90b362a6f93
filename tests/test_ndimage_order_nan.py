"""Order statistics of `fastconv.ndimage` spread NaN, or leave elements out of windows, as sorted windows tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from images import origin, values
from windows import equal, windows

from fastconv import ndimage

# -- NaN -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [2, 3, 4, 5, 9, 21])
@pytest.mark.parametrize("mode", ["reflect", "constant", "wrap"])
def test_a_nan_touches_all_that_see_it_and_nothing_else(size: int, dtype: str, mode: str) -> None:
    rng = np.random.default_rng([size, len(mode)])
    x = values(rng, (50, 45), dtype)
    x[rng.random(x.shape) < 3 / size**2 / 20] = np.nan
    x[7, 8], x[9, 1], x[20, 20] = np.inf, -np.inf, np.nan
    members = rng.random((size, size)) < 0.7
    members[0, 0] = True
    full = np.sort(windows(x, (size, size), (0, 0), (mode, mode)), -1)  # NaN last
    some = np.sort(windows(x, (size, size), (0, 0), (mode, mode), 0, members), -1)
    for seen, told in ((full, {"size": size}), (some, {"footprint": members})):
        sees, count = np.isnan(seen[..., -1]), seen.shape[-1]
        for name, args, rank in (("maximum_filter", (), -1), ("minimum_filter", (), 0),
                                 ("median_filter", (), count // 2),
                                 ("rank_filter", (1 % count,), 1 % count), ("rank_filter", (-1,), -1),
                                 ("percentile_filter", (20,), int(count * 0.2))):  # fmt: skip
            result = getattr(ndimage, name)(x, *args, mode=mode, **told)
            equal(result, np.where(sees, x.dtype.type(np.nan), seen[..., rank]), (name, args, told))


@pytest.mark.parametrize("name", ["maximum_filter1d", "minimum_filter1d"])
@pytest.mark.parametrize("negative", [False, True])
def test_nan_of_either_sign(name: str, negative: bool) -> None:
    x = np.arange(40, dtype=np.float32)
    x[17] = np.copysign(np.nan, -1.0 if negative else 1.0)
    result = getattr(ndimage, name)(x, 5)
    assert np.flatnonzero(np.isnan(result)).tolist() == [15, 16, 17, 18, 19]
    result = ndimage.median_filter(x, 15)
    assert np.flatnonzero(np.isnan(result)).tolist() == [*range(10, 25)]


def test_a_constant_that_is_no_number() -> None:
    x = np.arange(24.0).reshape(4, 6)
    for name in ("maximum_filter", "minimum_filter", "median_filter"):
        result = getattr(ndimage, name)(x, 3, mode="constant", cval=np.nan)
        assert np.isnan(result[[0, -1]]).all(), name
        assert np.isnan(result[:, [0, -1]]).all(), name
        np.testing.assert_array_equal(result[1:-1, 1:-1], getattr(ndimage, name)(x, 3)[1:-1, 1:-1])
    x = np.arange(24, dtype=np.uint8).reshape(4, 6)
    for cval in (np.inf, -np.inf, np.nan):
        assert ndimage.maximum_filter(x, 3, mode="constant", cval=cval, output=float).shape == x.shape


# -- elements that are left out ------------------------------------------------------------------------------


def of_present(name: str, seen: np.ndarray, least: int) -> np.ndarray:
    """The maximum, minimum or upper median of what is no NaN; NaN if that is less than `least`."""
    present = (~np.isnan(seen)).sum(-1)
    ordered = np.sort(seen, -1)
    at = {"maximum_filter": present - 1, "minimum_filter": 0 * present, "median_filter": present // 2}[name]
    found = np.take_along_axis(ordered, np.clip(at, 0, seen.shape[-1] - 1)[..., None], -1)[..., 0]
    found[present < least] = np.nan
    return found


@pytest.mark.parametrize("name", ["maximum_filter", "minimum_filter", "median_filter"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("mode", ["reflect", "constant", "mirror", "wrap", "nearest"])
def test_nan_that_are_omitted(name: str, dtype: str, mode: str) -> None:
    rng = np.random.default_rng([len(name), len(mode)])
    for shape, sizes in (((30, 25), (3, 3)), ((30, 25), (7, 4)), ((12, 5, 9), (3, 1, 5)), ((40,), (6,)),
                         ((2, 3), (9, 8)), ((70, 60), (15, 15))):  # fmt: skip
        x = values(rng, shape, dtype)
        x[rng.random(shape) < 0.6] = np.nan
        origins = [origin(rng, size) for size in sizes]
        members = rng.random(sizes) < 0.6
        members.flat[0] = True
        for cval in (2.0, np.nan):
            for least in (1, 3):
                told: dict[str, Any] = {"mode": mode, "cval": cval, "origin": origins, "nan_policy": "omit"}
                told["min_periods"] = least
                seen = windows(x, sizes, origins, [mode] * x.ndim, cval)
                equal(getattr(ndimage, name)(x, sizes, **told), of_present(name, seen, least), (shape, sizes, least))
                seen = seen[..., members.ravel()]
                equal(getattr(ndimage, name)(x, footprint=members, **told), of_present(name, seen, least), told)


@pytest.mark.parametrize("name", ["maximum_filter", "minimum_filter", "median_filter"])
def test_masks(name: str) -> None:
    rng = np.random.default_rng(0)
    function = getattr(ndimage, name)
    for dtype in ("u1", "i4", "f4", "?"):
        x = values(rng, (20, 24), dtype)
        mask = rng.random(x.shape) < 0.5
        seen = windows(np.where(mask, np.nan, x.astype(float)), (5, 5), (0, 0), ("reflect",) * 2)
        expected = of_present(name, seen, 1).astype(dtype if dtype == "f4" else float)
        equal(function(x, 5, mask=mask), expected, dtype)
        equal(function(np.ma.MaskedArray(x, mask), 5), expected, dtype)
        equal(function(np.ma.MaskedArray(x, mask), 5, mask=mask), expected, dtype)
        many = function(x, 5, mask=np.ones_like(mask))
        assert np.isnan(many).all()
    x = values(rng, (20, 24), "f4")
    x[3, 4] = x[10, 10] = np.nan
    mask = np.zeros(x.shape, bool)
    mask[3, 4] = True
    result = function(x, 5, mask=mask)  # the NaN that is left out does not spread, the other one does
    assert np.isnan(result[8:13, 8:13]).all()
    assert np.isnan(result).sum() == 25
    with pytest.raises(ValueError, match='nan_policy="raise" allows none'):
        function(x, 5, nan_policy="raise")
    equal(function(x, 5, nan_policy="raise", mask=np.isnan(x)), function(x, 5, nan_policy="omit"), name)


def test_one_axis_leaves_elements_out_too() -> None:
    x = np.array([1.0, np.nan, 3.0, np.nan, np.nan, np.nan, 2.0])
    np.testing.assert_array_equal(ndimage.maximum_filter1d(x, 3, nan_policy="omit"), [1, 3, 3, 3, np.nan, 2, 2])
    np.testing.assert_array_equal(ndimage.minimum_filter1d(x, 3, nan_policy="omit", min_periods=2, mode="constant"),
                                  [0, 1, np.nan, np.nan, np.nan, np.nan, 0])  # fmt: skip
