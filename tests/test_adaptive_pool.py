"""Adaptive pooling, against the definition in NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import reference
from cases import fenced, values
from reference import assert_close

import fastconv

pytestmark = pytest.mark.usefixtures("one_thread")


def windows(size: int, outputs: int) -> list[slice]:
    return [slice(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("size", [1, 7, (3, 5), (11, 13), (4, 1), (20, 30), (None, 6), (12, None)])
def test_adaptive_pooling(size: Any, dtype: str) -> None:
    x = values((2, 3, 11, 13), dtype)
    if dtype == "float32":
        x[0, 0, 5, 6], x[0, 0, 5, 7] = np.nan, np.inf
    outs = [old if new is None else new for old, new in zip((11, 13), reference.both(size), strict=True)]
    means = np.empty((2, 3, *outs))
    best, places = np.empty(means.shape, dtype), np.empty(means.shape, np.int64)
    flat = np.arange(11 * 13).reshape(11, 13)
    both = (enumerate(windows(*axis)) for axis in zip((11, 13), outs, strict=True))
    for (i, rows), (j, columns) in itertools.product(*both):
        seen = x[..., rows, columns].reshape(2, 3, -1)
        means[..., i, j] = seen.astype(np.float64).mean(-1)
        best[..., i, j] = seen.max(-1)
        order = np.where(np.isnan(seen.astype(np.float64)), np.inf, seen.astype(np.float64)).argmax(-1)
        order = np.where(np.isnan(seen.astype(np.float64)).any(-1), np.isnan(seen.astype(np.float64)).argmax(-1), order)
        places[..., i, j] = flat[rows, columns].ravel()[order]
    out = fenced(np.empty(means.shape, dtype if dtype != "int8" else np.float64))
    result = fastconv.adaptive_avg_pool2d(fenced(x), size, out=out)
    assert result is out
    finite = np.isfinite(means)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(means))
    assert_close(np.where(finite, out, out.dtype.type(0)), np.where(finite, means, 0), 2 if dtype != "int8" else 128)
    best_found, found = fastconv.adaptive_max_pool2d(fenced(x), size, return_indices=True)
    np.testing.assert_array_equal(best_found, best, strict=True)
    np.testing.assert_array_equal(found, places)
    np.testing.assert_array_equal(fastconv.adaptive_max_pool2d(x, size), best, strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_error_of_a_mean_does_not_grow_with_its_window(dtype: str) -> None:
    tenths = np.full((40_001, 3), 0.1, dtype)
    for x, size in ((tenths, (3, 2)), (tenths.T, (2, 3))):
        result = fastconv.adaptive_avg_pool2d(x, size)
        np.testing.assert_allclose(result, np.full(size, x[0, 0], np.float64), rtol=10 * np.finfo(dtype).eps)


def test_adaptive_windows() -> None:
    """Their length and step are as counted one by one."""
    from fastconv.specs.pool import _windows, bounds

    for size in range(1, 40):
        for outputs in range(2, size + 1):
            starts, ends = bounds(size, outputs)
            lengths, steps = ends - starts, np.diff(starts)
            equal = len({*lengths}) == 1 and len({*steps}) == 1
            assert _windows(size, outputs) == (lengths.max(), steps[0] if equal else 0)
