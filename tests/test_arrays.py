"""Array arguments are plain numbers: masked arrays are refused, and an `out` that does not fit the result."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import GOOD, WEIGHT, X, call
from cases import Measured

import fastconv

pytestmark = pytest.mark.usefixtures("one_thread")


# -- kinds of arrays -----------------------------------------------------------------------------------------


def masked(array: np.ndarray) -> list[Any]:
    """The array with a mask, even one that hides nothing, and lists of such."""
    some = [np.ma.masked_array(array, mask=False), np.ma.masked_array(array, mask=array > 0)]
    return [*some, *([[array[0], np.ma.masked_array(array[0])]] if array.ndim > 1 else [])]


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("function", GOOD)
def test_masked_arrays_are_refused(function: str) -> None:
    for argument, value in GOOD[function].items():
        for array in masked(value) if isinstance(value, np.ndarray) else ():
            with pytest.raises(TypeError, match=rf"^{argument} is or has in it a masked array.*\.filled"):
                call(function, **{argument: array})


@pytest.mark.usefixtures("nothing_runs")
def test_masked_arrays_are_refused_by_plans_gradients_and_compare() -> None:
    gradient, pooled = np.ones((2, 4, 5, 6), np.float32), np.ones((2, 3, 3, 3), np.float32)
    for array in masked(X):
        for refused in (
            lambda x: call("plan_conv2d")(x),
            lambda x: call("plan_conv_transpose2d")(x),
            lambda x: fastconv.compare(x, WEIGHT),
            lambda input: fastconv.grad.conv2d_weight(input, WEIGHT.shape, gradient),
            lambda input: fastconv.grad.max_pool2d(input, pooled, 2),
            lambda input: fastconv.grad.avg_pool2d(input, pooled, 2),
        ):
            (argument,) = inspect.signature(refused).parameters
            with pytest.raises(TypeError, match=f"^{argument} is or has in it a masked array"):
                refused(array)
    for array in masked(gradient):
        with pytest.raises(TypeError, match=r"^grad_output is or has in it a masked array"):
            fastconv.grad.conv2d_input(X.shape, WEIGHT, array)


@pytest.mark.parametrize("kind", [np.matrix, np.memmap, Measured])
def test_other_kinds_of_arrays_are_taken_as_plain_numbers(kind: Any) -> None:
    for plain in (call("corr2d"), call("max_pool2d", x=X[0, 0])):
        assert type(plain) is np.ndarray
    with warnings.catch_warnings(action="ignore", category=PendingDeprecationWarning):  # of the matrix, as a class
        image, kernel = X[0, 0].view(kind), WEIGHT[0, 0].view(kind)
        for result, plain in ((call("corr2d", x=image, kernel=kernel), call("corr2d")),
                              (call("max_pool2d", x=image), call("max_pool2d", x=X[0, 0])),
                              (call("fold2d", columns=np.ones((4, 4)).view(kind)), call("fold2d"))):  # fmt: skip
            assert type(result) is np.ndarray
            np.testing.assert_array_equal(result, plain)


# -- `out` ---------------------------------------------------------------------------------------------------

MEMORY, MEMORY_X = np.ones(1000, np.float32), X.size


def readonly(shape: tuple) -> np.ndarray:
    array = np.empty(shape, np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("function", ["conv2d", "max_pool2d", "avg_pool2d", "lp_pool2d", "plan"])
@pytest.mark.parametrize(
    ("out", "error"),
    [
        (lambda shape: np.empty(shape, np.float32).tolist(), TypeError),
        (lambda shape: "out", TypeError),
        (lambda shape: np.empty(shape[1:], np.float32), ValueError),
        (lambda shape: np.empty((*shape[:-1], shape[-1] + 1), np.float32), ValueError),
        (lambda shape: np.empty(shape, np.float64), ValueError),
        (lambda shape: np.empty(shape, np.int32), ValueError),
        (lambda shape: np.empty(shape, ">f4"), ValueError),
        (lambda shape: np.empty(shape, np.float32, order="F"), ValueError),
        (lambda shape: np.empty((*shape, 2), np.float32)[..., 0], ValueError),
        (lambda shape: np.empty(np.prod(shape) * 4 + 1, np.uint8)[1:].view(np.float32).reshape(shape), ValueError),
        (readonly, ValueError),
        (lambda shape: np.ma.masked_array(np.empty(shape, np.float32)), TypeError),
        (lambda shape: MEMORY[: np.prod(shape)].reshape(shape), ValueError),
        (lambda shape: MEMORY[MEMORY_X - 1 :][: np.prod(shape)].reshape(shape), ValueError),
    ],
)
def test_bad_out(function: str, out: Any, error: type) -> None:
    x = MEMORY[:MEMORY_X].reshape(X.shape)
    if function == "plan":
        with pytest.raises(error, match="out"):
            call("plan_conv2d")(x, out=out((2, 4, 5, 6)))
    else:
        with pytest.raises(error, match="out"):
            call(function, x=x, out=out((2, 4 if function == "conv2d" else 3, 5, 6)))


def test_out_may_be_a_memory_map_but_no_matrix(tmp_path: Path) -> None:
    for function, dtype in (("max_pool2d", np.float32), ("avg_pool2d", np.float16)):
        x = X[0, 0].astype(dtype)
        expected = call(function, x=x)
        out = np.memmap(tmp_path / function, dtype, "w+", shape=expected.shape)
        assert call(function, x=x, out=out) is out
        np.testing.assert_array_equal(np.fromfile(tmp_path / function, dtype).reshape(expected.shape), expected)
        with (
            warnings.catch_warnings(action="ignore", category=PendingDeprecationWarning),
            pytest.raises(TypeError, match=r"out must be a NumPy array of any number of axes .* got matrix"),
        ):
            call(function, x=x, out=np.empty_like(expected).view(np.matrix))


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("argument", ["weight", "bias"])
def test_out_may_not_overlap_weight_or_bias(argument: str) -> None:
    memory = np.ones(500, np.float32)
    good = GOOD["conv2d"][argument]
    view = memory[: good.size].reshape(good.shape)
    with pytest.raises(ValueError, match="out shares memory"):
        call("conv2d", **{argument: view}, out=memory[good.size - 1 :][: 2 * 4 * 5 * 6].reshape(2, 4, 5, 6))
