"""Unpooling: maxima come back to where they were."""

from __future__ import annotations

import numpy as np
import pytest
from cases import fenced, intact, values

import fastconv

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "int64"])
def test_unpooling(dtype: str) -> None:
    x = values((2, 3, 7, 9), dtype)
    maxima, indices = fastconv.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
    out = fenced(np.empty(x.shape, dtype))
    assert fastconv.max_unpool2d(maxima, indices, 3, stride=2, padding=1, out=out) is out
    expected = np.zeros_like(x)
    np.put_along_axis(expected.reshape(2, 3, -1), indices.reshape(2, 3, -1), maxima.reshape(2, 3, -1), -1)
    np.testing.assert_array_equal(out, expected, strict=True)
    assert intact(out)
    assert fastconv.max_unpool2d(maxima, indices, 3, stride=2, padding=1, output_size=(8, 10)).shape == (2, 3, 8, 10)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"indices": [[0, 1], [2, 16]]}, "indices must be from 0 to 15, got 16"),
        ({"indices": [[0, 1], [2, -1]]}, "indices must be from 0 to 15, got -1"),
        ({"indices": [[0, 1]]}, "indices has shape"),
        ({"output_size": (6, 4)}, "output_size must"),
        ({"padding": 2}, "output_size must"),
    ],
)
def test_unpooling_to_where_there_is_nothing(changed: dict, words: str) -> None:
    good = {"x": [[1.0, 2.0], [3.0, 4.0]], "indices": [[0, 2], [8, 10]], "kernel_size": 2}
    assert fastconv.max_unpool2d(**good).sum() == 10
    with pytest.raises(ValueError, match=words):
        fastconv.max_unpool2d(**{**good, **changed})
