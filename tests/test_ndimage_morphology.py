"""Grey-scale and binary morphology of `fastconv.ndimage`, against SciPy's and against sets of windows."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from images import DTYPES, MODES, image, origin, values
from processes import run
from windows import BINARY, GREY, binary, compared, equal, grey, windows

import fastconv
from fastconv import ndimage


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(40))
def test_grey_results_equal_scipys(dtype: str, seed: int) -> None:
    problem = grey(np.random.default_rng([seed, 2]), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            problem.of(scipy.ndimage)
        except (TypeError, ValueError, RuntimeError) as error:
            # Bools have no difference; even sizes can not be turned around along axes in another order.
            with pytest.raises(type(error)):
                problem.of(ndimage)
            return
        compared(problem, ndimage, scipy.ndimage)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(40))
def test_binary_results_equal_scipys(dtype: str, seed: int) -> None:
    compared(binary(np.random.default_rng([seed, 3]), dtype), ndimage, scipy.ndimage)


# -- windows larger than the image, where SciPy is no witness --------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_grey_windows_larger_than_the_image(mode: str, dtype: str) -> None:
    rng = np.random.default_rng([MODES.index(mode), 4])
    for shape, sizes in (((3,), (16,)), ((2, 3), (9, 10)), ((1, 4), (7, 2)), ((2, 1, 3), (5, 4, 7))):
        x = image(rng, shape, dtype).astype(dtype)
        members = rng.random(sizes) < 0.5
        members.flat[0] = True
        at = [origin(rng, size) for size in sizes]
        turned = [-first - (1 - size % 2) for first, size in zip(at, sizes, strict=True)]
        told: dict[str, Any] = {"mode": mode, "cval": 9, "origin": at}
        seen = windows(x, sizes, at, [mode] * x.ndim, 9)
        behind = windows(x, sizes, turned, [mode] * x.ndim, 9)
        equal(ndimage.grey_erosion(x, sizes, **told), seen.min(-1), sizes)
        equal(ndimage.grey_dilation(x, sizes, **told), behind.max(-1), sizes)
        equal(ndimage.grey_erosion(x, footprint=members, **told), seen[..., members.ravel()].min(-1), sizes)
        equal(ndimage.grey_dilation(x, footprint=members, **told), behind[..., members.ravel()[::-1]].max(-1), sizes)
        equal(ndimage.morphological_gradient(x, sizes, **told), behind.max(-1) - seen.min(-1), sizes)
        opened = windows(seen.min(-1), sizes, turned, [mode] * x.ndim, 9).max(-1)
        equal(ndimage.grey_opening(x, sizes, **told), opened, sizes)
        equal(ndimage.white_tophat(x, sizes, **told), x - opened, sizes)
        closed = windows(behind.max(-1), sizes, at, [mode] * x.ndim, 9).min(-1)
        equal(ndimage.grey_closing(x, sizes, **told), closed, sizes)
        equal(ndimage.black_tophat(x, sizes, **told), closed - x, sizes)


@pytest.mark.parametrize("border", [0, 1, 7])
@pytest.mark.parametrize("iterations", [1, 3])
def test_binary_windows_larger_than_the_image(border: int, iterations: int) -> None:
    rng = np.random.default_rng([border, iterations])
    for shape, sizes in (((3,), (8,)), ((2, 3), (9, 10)), ((1, 4), (7, 2)), ((2, 1, 3), (5, 4, 7)), ((40, 30), (3, 3)),
                         ((3, 3, 4, 2, 3), (2, 3, 1, 2, 3)), ((2,) * 8, (2,) * 8)):  # fmt: skip
        x, members = rng.random(shape) < 0.7, rng.random(sizes) < 0.5
        members.flat[0] = True
        at = [origin(rng, size) for size in sizes]
        turned = [-first - (1 - size % 2) for first, size in zip(at, sizes, strict=True)]
        eroded = dilated = x
        for _ in range(iterations):
            eroded = windows(eroded, sizes, at, ["constant"] * x.ndim, bool(border))[..., members.ravel()].all(-1)
            behind = windows(dilated, sizes, turned, ["constant"] * x.ndim, bool(border))
            dilated = behind[..., members.ravel()[::-1]].any(-1)
        told: dict[str, Any] = {"structure": members, "origin": at, "border_value": border, "iterations": iterations}
        equal(ndimage.binary_erosion(x, **told), eroded, sizes)
        equal(ndimage.binary_dilation(x, **told), dilated, sizes)
        equal(ndimage.binary_opening(x, **told), ndimage.binary_dilation(eroded, **told), sizes)
        equal(ndimage.binary_closing(x, **told), ndimage.binary_erosion(dilated, **told), sizes)


# -- steps ---------------------------------------------------------------------------------------------------


def test_steps_until_nothing_changes() -> None:
    x = np.zeros((60, 70), bool)
    x[5, 5] = True
    assert ndimage.binary_dilation(x, iterations=-1).all()
    assert not ndimage.binary_erosion(~x, iterations=0).any()
    mask = np.random.default_rng(0).random(x.shape) < 0.6  # what the seed is connected to
    mask[5, 5] = True
    label, _ = scipy.ndimage.label(mask)
    equal(ndimage.binary_dilation(x, iterations=0, mask=mask), label == label[5, 5], "connected")
    assert ndimage.binary_dilation(x, iterations=10**12).all()


def test_steps_that_would_never_end() -> None:
    with pytest.raises(ValueError, match="iterations=0 asks for steps until nothing changes"):
        ndimage.binary_dilation([1, 0, 1, 0, 1, 0], structure=[1, 0, 1], iterations=0)


def test_a_nan_touches_what_sees_it_in_grey_morphology() -> None:
    x = values(np.random.default_rng(0), (40, 41), "f8")
    clean = ndimage.grey_erosion(x, 5)
    x[20, 20] = np.nan
    result = ndimage.grey_erosion(x, 5)
    sees = np.zeros(x.shape, bool)
    sees[18:23, 18:23] = True
    assert np.isnan(result[sees]).all()
    np.testing.assert_array_equal(result[~sees], clean[~sees])
    assert np.isnan(ndimage.grey_opening(x, 3)).sum() == 25
    assert np.isnan(ndimage.grey_dilation(x, structure=np.zeros((3, 3)))).sum() == 9


def test_heights() -> None:
    rng = np.random.default_rng(0)
    for dtype in ("i2", "f4", "f8"):
        x = rng.integers(-99, 99, (30, 40)).astype(dtype)
        heights = rng.integers(-9, 10, (3, 5)).astype(float)
        members = rng.random((3, 5)) < 0.7
        members[1, 2] = True
        seen = windows(x, (3, 5), (0, 0), ("nearest",) * 2)
        for told, kept in (({}, np.ones(15, bool)), ({"footprint": members}, members.ravel())):
            eroded = (seen - heights.ravel())[..., kept].min(-1).astype(dtype)
            equal(ndimage.grey_erosion(x, structure=heights, mode="nearest", **told), eroded, dtype)
            dilated = (seen + heights.ravel()[::-1])[..., kept[::-1]].max(-1).astype(dtype)
            equal(ndimage.grey_dilation(x, structure=heights, mode="nearest", **told), dilated, dtype)


# -- layouts and results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GREY)
def test_channel_axis(name: str) -> None:
    x = values(np.random.default_rng(0), (9, 10, 3), "f4")
    function = getattr(ndimage, name)
    heights = np.arange(9.0).reshape(3, 3)
    for told in ({"size": 3}, {"size": (2, 5)}, {"footprint": np.eye(3, dtype=bool)}, {"structure": heights}):
        if "structure" in told and name not in ("grey_erosion", "grey_dilation"):
            continue
        expected = np.stack([function(np.ascontiguousarray(x[..., channel]), **told) for channel in range(3)], -1)
        equal(function(x, channel_axis=-1, **told), expected, (name, told))


@pytest.mark.parametrize("name", [*GREY, *BINARY])
def test_outputs(name: str) -> None:
    rng = np.random.default_rng(0)
    function, args = getattr(ndimage, name), (3,) if name in GREY else ()
    for dtype in ("i4", "f4") if name in GREY else ("?", "f4"):
        x = values(rng, (16, 14), dtype)
        x = x // 8 if dtype == "i4" else x  # differences are in the dtype of `output`
        expected = function(x, *args)
        assert expected.dtype == (dtype if name in GREY else "?")
        for out in (np.empty_like(expected), np.empty((32, 28), expected.dtype)[::-2, ::2], np.empty(x.shape, "f8"),
                    np.empty(x.shape, ">f8"), np.asfortranarray(np.empty_like(expected))):  # fmt: skip
            function(x, *args, output=out)
            rounding = 1e-6 * np.abs(expected.astype(float)).max()
            np.testing.assert_allclose(out, expected.astype(out.dtype), atol=rounding)
        space = x.copy()
        function(space, *args, output=space)
        np.testing.assert_array_equal(space, expected.astype(dtype))
        x.flags.writeable = False
        equal(function(x, *args), expected, dtype)
        with pytest.raises(ValueError, match="output array is read-only"):
            function(x, *args, output=x)


@pytest.mark.parametrize("name", [*GREY, *BINARY])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3), (1,), (1, 1), (1, 5), (5, 1), (1, 1, 1, 4)])
def test_short_axes(name: str, shape: tuple[int, ...]) -> None:
    x = values(np.random.default_rng(0), shape, "f8")
    result = getattr(ndimage, name)(x, *([3] if name in GREY else []))
    assert result.shape == shape
    if x.size:
        expected = getattr(scipy.ndimage, name)(x, *([3] if name in GREY else []))
        equal(result, expected, name)
    if name in BINARY:
        for iterations in (0, 5):
            assert getattr(ndimage, name)(x, iterations=iterations, border_value=1).shape == shape


def test_images_without_axes() -> None:
    for name in BINARY:
        for value in (0, 1):
            equal(getattr(ndimage, name)(np.array(value)), getattr(scipy.ndimage, name)(np.array(value)), name)


def test_results_do_not_depend_on_threads() -> None:
    x = values(np.random.default_rng(0), (700, 900), "u1")
    found = []
    for threads in (1, 2):
        fastconv.set_num_threads(threads)
        found.append([ndimage.grey_opening(x, 7), ndimage.binary_erosion(x > 50, iterations=4),
                      ndimage.grey_dilation(x, structure=np.eye(3)),
                      ndimage.black_tophat(x, footprint=np.eye(5))])  # fmt: skip
    fastconv.set_num_threads(None)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


# -- messages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda x: ndimage.grey_erosion(x), ValueError, "size, footprint, or structure must be specified"),
    (lambda x: ndimage.grey_dilation(x), ValueError, "size, footprint, or structure must be specified"),
    (lambda x: ndimage.grey_dilation(x, (3, 3, 3)), RuntimeError, "length equal to input rank"),
    (lambda x: ndimage.grey_erosion(x, 3, origin=2), ValueError, "invalid origin"),
    (lambda x: ndimage.grey_erosion(x, structure=np.ones(3)), RuntimeError, "structure.ndim"),
    (lambda x: ndimage.grey_erosion(x, None, np.ones((3, 3)), np.ones((3, 2))), RuntimeError, "incorrect shape"),
    (lambda x: ndimage.grey_opening(x, 3, mode="nope"), ValueError, "boundary mode not supported: mode"),
    (lambda x: ndimage.white_tophat(x, 3, axes=(0, 0)), ValueError, "axes must be unique"),
    (lambda x: ndimage.grey_closing(x + 1j, 3), TypeError, "Complex type not supported"),
    (lambda x: ndimage.binary_erosion(x + 1j), TypeError, "Complex type not supported"),
    (lambda x: ndimage.binary_erosion(x, np.ones(3)), RuntimeError, "same dimensionality"),
    (lambda x: ndimage.binary_erosion(x, np.ones((0, 3))), RuntimeError, "structure must not be empty"),
    (lambda x: ndimage.binary_erosion(x, iterations=1.5), TypeError, "iterations parameter should be an integer"),
    (lambda x: ndimage.binary_erosion(x, mask=np.ones(3)), RuntimeError, "mask and input must have equal sizes"),
    (lambda x: ndimage.binary_erosion(x, origin=2), ValueError, "invalid origin"),
    (lambda x: ndimage.binary_erosion(x, output=np.empty(3)), RuntimeError, "output shape not correct"),
    (lambda x: ndimage.binary_erosion(x, output=np.empty((4, 5), complex)), TypeError, "Complex output type"),
    (lambda x: ndimage.binary_erosion(x, axes=(0, 0)), ValueError, "axes must be unique"),
])  # fmt: skip
def test_messages(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call(np.ones((4, 5)))


@pytest.mark.parametrize("name", [*GREY, *BINARY])
def test_signatures_begin_as_scipys(name: str) -> None:
    ours = inspect.signature(getattr(ndimage, name)).parameters
    for parameter in inspect.signature(inspect.unwrap(getattr(scipy.ndimage, name))).parameters.values():
        assert ours[parameter.name].kind == parameter.kind, parameter
        assert ours[parameter.name].default == parameter.default, parameter


def test_scipys_own_tests_pass_with_our_functions() -> None:
    """All of SciPy's tests of morphology; those of names that are SciPy's still pass, too."""
    told = run("tests/support/scipys_own.py", "test_morphology", "-q", "-x", "-n", "0")
    assert " passed" in told, told
    assert "failed" not in told, told
