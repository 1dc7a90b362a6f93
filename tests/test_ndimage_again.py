"""Filters of `fastconv.ndimage` that are called again: what a first call ran is right for the next, or not run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.ndimage

import fastconv
from fastconv import ndimage
from fastconv.cpu import filters, in_place, orders
from fastconv.cpu.shared import for_threads
from fastconv.ndimage import again

#: A call of each filter that may be repeated: its arguments behind the image.
CALLS: dict[str, tuple[tuple, dict[str, Any]]] = {
    "convolve": ((np.arange(6.0).reshape(2, 3),), {"mode": "wrap"}),
    "convolve1d": (([1, 2, 3],), {}),
    "correlate": ((np.arange(6.0).reshape(3, 2),), {"origin": (1, 0)}),
    "correlate1d": ((np.array([1, -2, 3]), 0), {}),
    "gaussian_filter": (((1, 2),), {"mode": "constant", "cval": 3}),
    "gaussian_filter1d": ((1.5,), {"order": 1}),
    "grey_closing": ((3,), {}),
    "grey_dilation": (((2, 3),), {}),
    "grey_erosion": ((3,), {}),
    "grey_opening": (((5, 3),), {"mode": "mirror"}),
    "laplace": ((), {}),
    "maximum_filter": ((9,), {}),
    "maximum_filter1d": ((4,), {"axis": 0}),
    "median_filter": ((3,), {}),
    "minimum_filter": (((3, 1),), {}),
    "minimum_filter1d": ((3,), {}),
    "percentile_filter": ((30, 3), {}),
    "prewitt": ((0,), {}),
    "rank_filter": ((2, (3, 4)), {}),
    "sobel": ((), {"axis": 1}),
    "uniform_filter": ((3,), {"origin": -1}),
    "uniform_filter1d": ((4,), {}),
}


def image(dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2 if dtype == "?" else 100, (40, 50)).astype(dtype)


def test_all_filters_that_are_repeated_are_called_here() -> None:
    assert set(CALLS) == again.FILTERS


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("name", CALLS)
def test_second_calls_are_right(name: str, dtype: str) -> None:
    args, told = CALLS[name]
    ours, scipys = getattr(ndimage, name), getattr(scipy.ndimage, name)
    for seed in range(3):
        x = image(dtype, seed)
        for given in (x, x[::-1], x[:, ::2], np.asfortranarray(x)):
            result, expected = ours(given, *args, **told), scipys(given, *args, **told)
            assert result.dtype == expected.dtype
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)
            result[...] = 0  # the caller's own


def test_calls_are_found_again() -> None:
    for name, (args, told) in CALLS.items():
        plain = tuple(one if isinstance(one, int | float | tuple | np.ndarray) else np.array(one) for one in args)
        x = image("f4")
        getattr(ndimage, name)(x, *plain, **told)
        assert again._known[again.key(name, (x, *plain), told)], name  # type: ignore[index]


def test_weights_that_are_changed_in_place_are_seen() -> None:
    x, weights = image("f8"), np.ones((3, 3))
    ndimage.correlate(x, weights)
    weights[0, 0] = 5
    np.testing.assert_allclose(ndimage.correlate(x, weights), scipy.ndimage.correlate(x, weights))
    np.testing.assert_allclose(ndimage.correlate(x, weights.T[:, ::-1]),
                               scipy.ndimage.correlate(x, weights.T[:, ::-1]))  # fmt: skip


def test_outputs_are_written_each_time() -> None:
    x = image("f4")
    for _ in range(2):
        out = np.full_like(x, 7)
        assert ndimage.uniform_filter(x, 3, out) is out
        np.testing.assert_allclose(out, scipy.ndimage.uniform_filter(x, 3), rtol=1e-5)
        same = x.copy()
        ndimage.maximum_filter(same, 5, output=same)
        np.testing.assert_array_equal(same, scipy.ndimage.maximum_filter(x, 5))
    for _ in range(2):  # weights that are the output, too
        out = np.arange(9.0).reshape(3, 3)
        expected = scipy.ndimage.correlate(out, out)
        assert ndimage.correlate(out.copy(), weights=out, output=out) is out
        np.testing.assert_allclose(out, expected)
    assert ndimage.laplace(x, np.float64).dtype == ndimage.laplace(x, np.float64).dtype == np.float64


@pytest.mark.parametrize("name", ["uniform_filter", "gaussian_filter", "maximum_filter", "median_filter"])
def test_a_nan_in_a_second_image_spreads_as_in_the_first(name: str) -> None:
    x = image("f8")
    getattr(ndimage, name)(x, 3)
    x[20, 20] = np.nan
    result = getattr(ndimage, name)(x, 3)
    again._known.clear()
    np.testing.assert_array_equal(result, getattr(ndimage, name)(x, 3))
    assert np.isnan(result[20, 20])


def test_arguments_that_are_equal_but_wrong_are_refused_each_time() -> None:
    x = image("f4")
    ndimage.uniform_filter(x, 3, origin=1)
    ndimage.correlate1d(x, np.ones(3), 1)
    for _ in range(2):
        with pytest.raises(TypeError, match="axis"):
            ndimage.correlate1d(x, np.ones(3), 1.0)
        with pytest.raises(TypeError, match="axes"):
            ndimage.gaussian_filter(x, 1, axes=(0.0, 1.0))
        ndimage.gaussian_filter(x, 1, axes=(0, 1))
        with pytest.raises(ValueError, match="nan"):
            ndimage.uniform_filter(np.full_like(x, np.nan), 3, nan_policy="raise")
        ndimage.uniform_filter(x, 3, nan_policy="raise")


def test_kept_calls_are_few() -> None:
    x = np.zeros((3, 4))
    for k in range(again._MOST_CALLS + 20):
        ndimage.uniform_filter(x, 3, cval=float(k))
    assert len(again._known) <= again._MOST_CALLS


@pytest.mark.parametrize("name", ["maximum_filter", "median_filter", "correlate1d"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_both_zeros_are_one_constant(name: str, dtype: str) -> None:
    """What is kept is found by equal numbers: of which zero came first, no result may depend."""
    x = np.full((7, 9), -1, dtype)
    x[3:] = 1
    given = [1, 0, 0] if name == "correlate1d" else 3
    for cval in (-0.0, 0.0, -0.0):
        result = getattr(ndimage, name)(x, given, mode="constant", cval=cval)
        np.testing.assert_array_equal(result, getattr(scipy.ndimage, name)(x, given, mode="constant", cval=cval))
        assert not np.signbit(result[result == 0]).any()


# -- calls whose kernels get one record ------------------------------------------------------------------------


@pytest.fixture
def quick() -> Any:
    """The number of calls that are found by little, of which there are none at first."""
    again.forget()
    return lambda: sum(map(len, again._quick))


@pytest.mark.parametrize("dtype", ["?", "u1", "f4", "f8"])
@pytest.mark.parametrize("name", ["uniform_filter", "maximum_filter", "median_filter", "grey_opening"])
def test_later_calls_are_found_by_little(quick: Any, name: str, dtype: str) -> None:
    for seed in range(4):
        x = image(dtype, seed)
        result, expected = getattr(ndimage, name)(x, 3), getattr(scipy.ndimage, name)(x, 3)
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert quick() == 1
    fastconv.set_num_threads(fastconv.get_num_threads())
    assert quick() == 0  # on how many threads a kernel runs is part of what was known
    fastconv.set_num_threads(None)


def test_arrays_that_are_not_aligned_are_not_read_in_place(quick: Any) -> None:
    x = image("f4")
    odd = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    odd[...] = image("f4", 1)
    for given in (x, x, x, odd, odd):
        np.testing.assert_allclose(ndimage.uniform_filter(given, 3), scipy.ndimage.uniform_filter(given, 3), rtol=1e-5)
    assert quick() == 1


def test_a_nan_in_a_later_image_is_found(quick: Any) -> None:
    x = image("f4")
    for place in ((20, 20), (0, 0), None, (5, 49)):
        for _ in range(3):
            plain = ndimage.median_filter(x, 3)
        y = x.copy()
        if place is not None:
            y[place] = np.nan
        result = ndimage.median_filter(y, 3)
        again.forget()
        np.testing.assert_array_equal(result, ndimage.median_filter(y, 3))
        assert np.isnan(result).any() == (place is not None)
        np.testing.assert_array_equal(plain, ndimage.median_filter(x, 3))


@pytest.mark.parametrize("name", ["uniform_filter", "grey_opening", "median_filter"])
def test_threads_of_python_share_what_is_known(quick: Any, name: str) -> None:
    images = [image("f4", seed) for seed in range(8)]
    expected = [getattr(ndimage, name)(x, 3) for x in images]

    def calls(number: int) -> bool:
        return all(np.array_equal(getattr(ndimage, name)(images[number], 3), expected[number]) for _ in range(200))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(calls, range(8)))


# -- threads -------------------------------------------------------------------------------------------------

FILTERED = [
    ("gaussian_filter", 0.8, "uint8"), ("gaussian_filter", 4, "float64"), ("uniform_filter", 5, "uint16"),
    ("maximum_filter", 3, "uint8"), ("minimum_filter", 5, "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size", "dtype"), FILTERED)
def test_work_is_shared_out_for_the_threads_of_each_call(
    name: str, size: float, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a first call on one thread has made is not what two threads run, which would leave one of them idle."""
    handed: list[Any] = []

    class Recorded(for_threads.ForThreads):
        def __init__(self, *args: Any) -> None:
            handed.append(self)
            super().__init__(*args)

    def geometry(made: Any) -> list[list[float]]:
        return [np.ravel(one).tolist() for one in made._arguments]

    x = np.zeros((401, 463), dtype)  # no other test's
    threads = 1
    for module in (for_threads, in_place, filters):
        monkeypatch.setattr(module, "num_threads", lambda: threads)
    for module in (orders, filters):
        monkeypatch.setattr(module, "ForThreads", Recorded)
    with fastconv.num_threads(1):
        getattr(ndimage, name)(x, size)
    assert handed
    for one in handed:
        alone, threads = geometry(one.now()), 2
        shared, fresh = geometry(one.now()), geometry(one._make(one.problem))
        assert shared == fresh
        assert shared != alone
        threads = 1
        assert geometry(one.now()) == alone
