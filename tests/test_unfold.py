"""Windows as columns, back, and the matrix of a correlation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import reference
from cases import fenced, intact, threads, values
from numpy.lib.stride_tricks import sliding_window_view

import fastconv
from fastconv.cpu.algorithms import fold_col2im, unfold_im2col

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "int16"])
@pytest.mark.parametrize("options", [{}, {"stride": (2, 3), "padding": ((1, 0), (2, 1)), "dilation": (2, 1)}], ids=str)
def test_unfold_and_fold(options: dict, dtype: str) -> None:
    x = values((2, 3, 8, 9), dtype)
    stride, dilation = reference.both(options.get("stride", 1)), reference.both(options.get("dilation", 1))
    sides = reference.pads(options.get("padding", 0), (8, 9), (3, 2), stride, dilation)
    padded = np.pad(x, ((0, 0), (0, 0), *sides))
    seen = sliding_window_view(padded, (2 * dilation[0] + 1, dilation[1] + 1), (2, 3))
    seen = seen[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    expected = seen.transpose(0, 1, 4, 5, 2, 3).reshape(2, 3 * 6, -1)
    out = fenced(np.empty(expected.shape, dtype))
    guarded = fenced(x)
    assert fastconv.unfold2d(guarded, (3, 2), **options, out=out) is out
    np.testing.assert_array_equal(out, expected, strict=True)
    assert intact(guarded)
    assert intact(out)
    np.testing.assert_array_equal(fastconv.unfold2d(x[0], (3, 2), **options), expected[0])

    # folding is the transpose: each pixel comes back as often as windows see it
    ones = fastconv.unfold2d(np.ones((3, 8, 9)), (3, 2), **options)
    often = fastconv.fold2d(ones, (8, 9), (3, 2), **options)
    folded = fastconv.fold2d(fenced(expected), (8, 9), (3, 2), **options)
    assert folded.dtype == reference.conv_dtype(x)
    np.testing.assert_allclose(folded.astype(np.float64), often * x.astype(np.float64), rtol=2e-3)
    columns = values(expected.shape, "float64", 3)
    image = values(x.shape, "float64", 4)
    np.testing.assert_allclose((fastconv.unfold2d(image, (3, 2), **options) * columns).sum(),
                               (fastconv.fold2d(columns, (8, 9), (3, 2), **options) * image).sum())  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}], ids=str)
def test_a_launch_does_all_of_many_tiny_images(monkeypatch: pytest.MonkeyPatch, options: dict) -> None:
    launches = []
    for module, name in ((unfold_im2col, "unroll"), (fold_col2im, "fold")):
        kernel = getattr(module, name)
        counted = SimpleNamespace(sized=lambda size, kernel=kernel, name=name: (
            lambda *args: launches.append(name) or kernel.sized(size)(*args)))  # fmt: skip
        monkeypatch.setattr(module, name, counted)
    x = values((300, 2, 6, 5), "float32")
    columns = fastconv.unfold2d(x, 3, **options)
    y = values(columns.shape, "float32", 1)
    folded = fastconv.fold2d(y, (6, 5), 3, **options)
    assert launches == ["unroll", "fold"]
    np.testing.assert_array_equal(columns, [fastconv.unfold2d(image, 3, **options) for image in x])
    np.testing.assert_array_equal(folded, [fastconv.fold2d(one, (6, 5), 3, **options) for one in y])
    with threads(None):
        np.testing.assert_array_equal(fastconv.unfold2d(x, 3, **options), columns)
        np.testing.assert_array_equal(fastconv.fold2d(y, (6, 5), 3, **options), folded)


def test_the_matrix_of_a_correlation() -> None:
    kernel, image = values((3, 2), "int64"), values((6, 7), "int64", 1)
    matrix = fastconv.corr2d_matrix(kernel, image.shape)
    assert matrix.shape == (24, 42)
    assert matrix.nnz == 24 * 6
    np.testing.assert_array_equal(matrix @ image.ravel(), fastconv.corr2d(image, kernel).ravel())
