"""Messages, names and signatures of linear filters of `fastconv.ndimage`, which are SciPy's."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import scipy.ndimage

from fastconv import ndimage


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda x: ndimage.correlate(x, np.ones((3, 3)), mode="nope"), ValueError, "boundary mode not supported: mode"),
    (lambda x: ndimage.correlate(x, np.ones((3, 3)), origin=2), ValueError, "invalid origin"),
    (lambda x: ndimage.correlate(x, np.ones(3)), ValueError, "weights.ndim"),
    (lambda x: ndimage.correlate(x, np.ones((3, 0))), ValueError, "must not be empty"),
    (lambda x: ndimage.correlate1d(x, []), RuntimeError, "no filter weights given"),
    (lambda x: ndimage.correlate1d(x, [1, 2], axis=2), ValueError, "axis 2 is out of bounds"),
    (lambda x: ndimage.correlate1d(x, ["a"]), TypeError, "weights must be real numbers"),
    (lambda x: ndimage.correlate1d(x, [1], cval=1j), ValueError, "complex-valued cval"),
    (lambda x: ndimage.correlate1d(x, [1], cval="a"), TypeError, "cval must be a number"),
    (lambda x: ndimage.correlate1d(x, [1], saturate=1), TypeError, "saturate must be True or False"),
    (lambda x: ndimage.correlate1d(x, [1], precision="half"), ValueError, "precision must be"),
    (lambda x: ndimage.uniform_filter(x, 3, axes=(0, 0)), ValueError, "axes must be unique"),
    (lambda x: ndimage.uniform_filter(x, 3, axes=(0, 3)), ValueError, "axis: 3 is out of range"),
    (lambda x: ndimage.uniform_filter(x, (3, 3, 3)), RuntimeError, "length equal to input rank"),
    (lambda x: ndimage.uniform_filter1d(x, 0), RuntimeError, "incorrect filter size"),
    (lambda x: ndimage.gaussian_filter(x, 1, order=-1), ValueError, "order must be non-negative"),
    (lambda x: ndimage.gaussian_filter(x, 1, radius=-1), ValueError, "Radius must be a nonnegative"),
    (lambda x: ndimage.gaussian_filter(x, float("inf")), ValueError, "sigma and truncate must be finite"),
    (lambda x: ndimage.gaussian_filter(x, 1, output=np.empty((2, 2))), RuntimeError, "output shape not correct"),
    (lambda x: ndimage.gaussian_filter(x, 1, output=np.float16), RuntimeError, "not supported"),
    (lambda x: ndimage.gaussian_filter(x.astype(np.float16), 1), RuntimeError, "not supported"),
    (lambda x: ndimage.gaussian_filter(x, 1, channel_axis=2), ValueError, "channel_axis 2 is out of bounds"),
    (lambda x: ndimage.sobel(x, axis=0, axes=(1,)), ValueError, "axis must be one of axes"),
    (lambda x: ndimage.sobel(np.zeros((1,) * 9)), RuntimeError, "at most 8 axes"),
])  # fmt: skip
def test_messages(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call(np.ones((4, 5)))


def test_read_only_outputs_are_refused() -> None:
    out = np.empty((3, 4))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="output array is read-only"):
        ndimage.sobel(np.ones((3, 4)), output=out)


def test_other_names_are_scipys() -> None:
    assert ndimage.label is scipy.ndimage.label
    assert "zoom" in dir(ndimage)
    with pytest.raises(AttributeError, match="nothing_like_that"):
        _ = ndimage.nothing_like_that


def test_signatures_begin_as_scipys() -> None:
    for name in ("correlate", "convolve", "correlate1d", "convolve1d", "uniform_filter", "uniform_filter1d",
                 "gaussian_filter", "gaussian_filter1d", "sobel", "prewitt", "laplace", "generic_laplace",
                 "generic_gradient_magnitude", "gaussian_laplace", "gaussian_gradient_magnitude"):  # fmt: skip
        ours = inspect.signature(getattr(ndimage, name)).parameters
        for parameter in inspect.signature(inspect.unwrap(getattr(scipy.ndimage, name))).parameters.values():
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                assert ours[parameter.name].kind == parameter.kind, (name, parameter)
                assert ours[parameter.name].default == parameter.default, (name, parameter)
