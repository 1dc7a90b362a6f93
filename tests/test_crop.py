"""Negative padding cuts pixels off the input: operations that take it, against a slice and the rest of the padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import fenced, intact, values

import fastconv
from fastconv import grad

pytestmark = pytest.mark.usefixtures("one_thread")

#: By spatial axes: sizes, a window, paddings, what these leave of the input, and the padding around that.
CUTS: dict[int, list[tuple[tuple, tuple, Any, tuple[slice, ...], Any]]] = {
    1: [((9,), (3,), ((-1, 2),), (slice(1, 9),), ((0, 2),)),
        ((9,), (3,), ((-2, -4),), (slice(2, 5),), 0)],
    2: [((9, 8), (3, 2), ((-1, 2), (1, -3)), (slice(1, 9), slice(0, 5)), ((0, 2), (1, 0))),
        ((9, 8), (3, 2), [[-3, -1], np.array([0, -5])], (slice(3, 8), slice(0, 3)), 0),
        ((9, 8), (2, 3), ((0, 0), (-5, 0)), (slice(0, 9), slice(5, 8)), 0)],
    3: [((6, 7, 8), (2, 3, 2), ((-1, 0), (1, 2), (-1, -2)), (slice(1, 6), slice(0, 7), slice(1, 6)),
         ((0, 0), (1, 2), (0, 0)))],
}  # fmt: skip
CASES = [pytest.param(axes, *cut, id=f"{axes}-{number}") for axes in CUTS for number, cut in enumerate(CUTS[axes])]


@pytest.mark.parametrize(("axes", "size", "window", "padding", "left", "rest"), CASES)
@pytest.mark.parametrize("lead", [(2, 3), (3,)], ids=["batch", "no batch axis"])
def test_convolution(lead: tuple, axes: int, size: tuple, window: tuple, padding: Any, left: tuple, rest: Any) -> None:
    x, weight = values((*lead, *size), "float32"), values((4, 3, *window), "float32", 1)
    function, plan = getattr(fastconv, f"conv{axes}d"), getattr(fastconv, f"plan_conv{axes}d")
    part = x[(..., *left)]
    expected = function(part, weight, padding=rest, stride=2)
    guarded, out = fenced(x), fenced(np.empty_like(expected))
    assert function(guarded, weight, padding=padding, stride=2, out=out) is out
    np.testing.assert_array_equal(out, expected, strict=True)
    assert intact(guarded)
    assert intact(out)
    planned, inner = plan(x.shape, weight, padding=padding, stride=2), plan(part.shape, weight, padding=rest, stride=2)
    assert planned.x_shape == x.shape
    assert planned.output_shape == expected.shape
    for what in ("algorithm", "flops", "scratch_bytes"):
        assert getattr(planned, what) == getattr(inner, what)
    assert repr(inner) in repr(planned)
    np.testing.assert_array_equal(planned(x, out=out), inner(part), strict=True)
    np.testing.assert_array_equal(planned(x), inner(part), strict=True)
    with pytest.raises(ValueError, match="but the plan is for"):
        planned(part)
    rebuild, arguments = planned.__reduce__()[:2]
    np.testing.assert_array_equal(rebuild(*arguments)(x), inner(part))
    shape = fastconv.output_shape(x.shape, window, 2, padding, axes=axes, channels=4)
    assert shape == expected.shape
    if all(part.stop == size[axis] for axis, part in enumerate(left)):  # what ceil_mode drops depends on the end
        ceiled = fastconv.output_shape(part.shape, window, 3, rest, axes=axes, ceil_mode=True)
        assert fastconv.output_shape(x.shape, window, 3, padding, axes=axes, ceil_mode=True) == ceiled


@pytest.mark.parametrize(("axes", "size", "window", "padding", "left", "rest"), CASES)
@pytest.mark.parametrize("algorithm", ["auto", "naive"])
def test_pooling(
    algorithm: str, axes: int, size: tuple, window: tuple, padding: Any, left: tuple, rest: Any
) -> None:  # fmt: skip
    x = values((2, 3, *size), "float32")
    options = {"stride": 2, "ceil_mode": True, "algorithm": algorithm}
    for op, norm, more in (("avg", (), {"count_include_pad": False}), ("avg", (), {}), ("lp", (3,), {})):
        function = getattr(fastconv, f"{op}_pool{axes}d")
        expected = function(x[(..., *left)], *norm, window, padding=rest, **options, **more)
        result = function(x, *norm, window, padding=padding, **options, **more)
        np.testing.assert_array_equal(result, expected, strict=True)
    for op in ("max", "min"):
        function = getattr(fastconv, f"{op}_pool{axes}d")
        expected, inner = function(x[(..., *left)], window, padding=rest, return_indices=True, **options)
        found, places = function(x, window, padding=padding, return_indices=True, **options)
        np.testing.assert_array_equal(found, expected, strict=True)
        np.testing.assert_array_equal(places, np.arange(x[0, 0].size).reshape(size)[left].ravel()[inner], strict=True)
        np.testing.assert_array_equal(function(x, window, padding=padding, **options), expected, strict=True)


@pytest.mark.parametrize(("axes", "size", "window", "padding", "left", "rest"), [case for case in CASES
                                                                                 if case.values[0] == 2])  # fmt: skip
def test_gradients(axes: int, size: tuple, window: tuple, padding: Any, left: tuple, rest: Any) -> None:
    """Zero for what is cut off, and else those of what is left."""
    x, weight = values((2, 3, *size), "float64"), values((4, 3, *window), "float64", 1)
    part, expected, out = x[(..., *left)], np.zeros_like(x), np.ones_like(x)
    signal = values(fastconv.conv2d(part, weight, padding=rest).shape, "float64", 2)
    expected[(..., *left)] = grad.conv2d_input(part.shape, weight, signal, padding=rest)
    assert grad.conv2d_input(x.shape, weight, signal, padding=padding, out=out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(grad.conv2d_weight(x, weight.shape, signal, padding=padding),
                                  grad.conv2d_weight(part, weight.shape, signal, padding=rest))  # fmt: skip
    for op in ("max", "min", "avg"):
        signal = values(fastconv.avg_pool2d(part, window, padding=rest).shape, "float64", 2)
        gradient = getattr(grad, f"{op}_pool2d")
        expected[(..., *left)] = gradient(part, signal, window, padding=rest)
        np.testing.assert_array_equal(gradient(x, signal, window, padding=padding), expected)


def test_lists_and_other_arrays() -> None:
    x, kernel, padding = np.arange(30.0).reshape(1, 5, 6), np.ones((1, 1, 2, 2)), ((-1, 0), (0, -2))
    expected = fastconv.conv2d(x[:, 1:, :-2], kernel)
    plan = fastconv.plan_conv2d(x.shape, kernel, padding=padding)
    for given in (x.tolist(), x[:, ::-1, ::-1].copy()[:, ::-1, ::-1], x.astype(">f8")):
        np.testing.assert_array_equal(fastconv.conv2d(given, kernel, padding=padding), expected)
        np.testing.assert_array_equal(plan(given), expected)
    np.testing.assert_array_equal(fastconv.max_pool2d(x.tolist(), 2, padding=padding), [[[13, 15], [25, 27]]])


X, WEIGHT = np.ones((1, 3, 6, 7)), np.ones((4, 3, 2, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fastconv.conv2d(X, WEIGHT, padding=((0, 0), (-3, -4))), r"padding\[1\] cuts off all 7 .*\(-3, -4\)"),
        (lambda: fastconv.max_pool2d(X, 2, padding=((-6, 9), (0, 0))), r"padding\[0\] cuts off all 6 pixels"),
        (lambda: fastconv.plan_conv2d(X.shape, WEIGHT, padding=((-9, 0), (0, 0))), r"padding\[0\] cuts off"),
        (lambda: fastconv.conv2d(X, WEIGHT, padding=((-5, 0), (0, 0))), "the kernel covers 2x2 .* 1x7 of x"),
        (lambda: fastconv.avg_pool2d(X, 2, padding=((-5, 0), (0, 0))), "the window covers 2 pixels of the vertical"),
        (lambda: fastconv.conv2d(X, WEIGHT, padding=-1), "padding must be between 0 and 2147483647, got -1"),
        (lambda: fastconv.conv2d(X, WEIGHT, padding=(0, -1)), r"padding\[1\] must be between 0 and 2147483647, got -1"),
        (lambda: fastconv.conv2d(X[0, 0, 0], WEIGHT, padding=((-1, 0), (0, 0))), "x must have shape"),
        (lambda: fastconv.conv2d(X, WEIGHT, padding=((-1, 0),)), "nested pairs must be"),
        (lambda: fastconv.conv2d(X, WEIGHT, padding=((-(2**31), 0), (0, 0))), r"padding\[0\]\[0\] must be between"),
        (lambda: fastconv.conv_transpose2d(X, WEIGHT[:3], padding=((-1, 0), (0, 0))), "must be between 0 and"),
        (lambda: fastconv.unfold2d(X, 2, padding=((-1, 0), (0, 0))), "must be between 0 and"),
    ],
)
def test_what_cannot_be(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
