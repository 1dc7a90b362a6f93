"""Filters of `fastconv.ndimage` on the GPU, against SciPy's and what the CPU does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import image_filters
import numpy as np
import pytest
import scipy.ndimage
import windows
from images import DTYPES, MODES, off, same
from images import image as random_image
from libraries import SIMULATED, Library

import fastconv
from fastconv import ndimage
from fastconv.cuda import filters
from fastconv.cuda.algorithms import filter_combine, filter_dense
from fastconv.cuda.shared import lines

pytestmark = pytest.mark.gpu

#: Random problems. The simulator takes a tenth of a second for one; a GPU waits for several new kernels, a second each.
LINEAR, EXTREMA = 44, 66
#: Units in the last place of the window's sum of |weight * element| that a float32 result may be off by.
ULPS = 2.0


class OnGpu:
    """`fastconv.ndimage` for NumPy arrays, which it takes to the GPU and back."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Callable[..., np.ndarray]:
        function = fastconv.separable_filter if name == "separable_filter" else getattr(ndimage, name)

        def call(x: np.ndarray, *given: Any, **told: Any) -> np.ndarray:
            if name == "generic_gradient_magnitude":
                given = (ndimage.sobel,)
            elif name == "generic_laplace":
                given = (functools.partial(image_filters._second, ndimage),)
            result = function(self._library.put(ready(x)), *given, **told)
            assert isinstance(result, self._library.kind)
            return self._library.get(result)

        return call


def ready(x: np.ndarray) -> np.ndarray:
    """An image as arrays on a GPU may be: in native byte order, aligned; elsewhere than in the simulator dense."""
    if not SIMULATED:
        return np.array(x, x.dtype.newbyteorder("="))
    return x if x.dtype.isnative and x.flags.aligned else x.astype(x.dtype.newbyteorder("="))


@pytest.fixture
def numba() -> OnGpu:
    """One library is enough, where arithmetic is tried."""
    if SIMULATED:
        from fastconv.cuda.system.arrays import SimulatedArray

        return OnGpu(Library("numba", SimulatedArray, lambda x: x.array, SimulatedArray))
    module = pytest.importorskip("numba.cuda")
    kind = type(module.to_device(np.zeros(1)))
    return OnGpu(Library("numba", module.to_device, lambda x: x.copy_to_host(), kind))


# -- random problems -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_linear_filters_equal_scipys(dtype: str, numba: OnGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ndimage", "fastconv"):
        monkeypatch.setattr(image_filters, module, numba)
    for seed in range(LINEAR // len(DTYPES)):
        rng = np.random.default_rng([seed, DTYPES.index(dtype)])
        one = image_filters.problem(rng, dtype)
        try:
            image_filters.check(one, rng)
        except AssertionError as error:
            raise AssertionError(f"{one}\n{error}") from None


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_maxima_and_minima_equal_scipys(dtype: str, numba: OnGpu) -> None:
    tried = seed = 0
    while tried < EXTREMA // len(DTYPES):
        seed += 1
        rng = np.random.default_rng([seed, DTYPES.index(dtype)])
        one = windows.order(rng, dtype) if seed % 2 else windows.grey(rng, dtype)
        offered = one.name.startswith(("maximum", "minimum", "grey")) and one.told.get("structure") is None
        if offered:
            windows.compared(one, numba, scipy.ndimage)
            tried += 1


# -- what is promised of numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 7), (31, 1), (1, 33), (4, 3, 5)])
@pytest.mark.parametrize("positive", [True, False])
def test_float32_is_within_two_units_of_the_windows_sum(size: tuple[int, ...], positive: bool, numba: OnGpu) -> None:
    rng = np.random.default_rng([*size, positive])
    x = rng.random((17, 21) if len(size) == 2 else (5, 6, 9), np.float32)
    weights = rng.random(size) if positive else rng.standard_normal(size)
    weights = weights.astype(np.float32).astype(np.float64)
    outer = functools.reduce(np.multiply.outer, [rng.random(one) for one in size])
    for window in (weights, outer):
        exact, total = (scipy.ndimage.correlate(x.astype(float), one) for one in (window, np.abs(window)))
        assert off(numba.correlate(x, window), exact, total) <= ULPS


def test_float32_means_and_gaussians_are_within_two_units(numba: OnGpu) -> None:
    x = np.random.default_rng(0).random((24, 30), np.float32)
    for name, argument in (("uniform_filter", 3), ("uniform_filter", 51), ("gaussian_filter", 0.8),
                           ("gaussian_filter", 8)):  # fmt: skip
        exact = getattr(scipy.ndimage, name)(x.astype(float), argument)
        assert off(getattr(numba, name)(x, argument), exact, exact) <= ULPS


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4"])
def test_sums_near_whole_numbers_are_cut_as_scipys(dtype: str, numba: OnGpu) -> None:
    """Of flat areas, and of weights such as 0.1, most sums are so near that the order of additions decides."""
    x = np.random.default_rng(0).integers(0, 11, (12, 30)).astype(dtype) * (np.iinfo(dtype).max // 10)
    tenths = np.full(10, 0.1)
    for window in (tenths, tenths[:7] * 3, np.array([0.1, -0.2, 0.3, 0.2, -0.1]), np.array([0.1, 0.7, 0.2])):
        same(numba.correlate1d(x, window, 0), scipy.ndimage.correlate1d(x, window, 0), str)
        both = np.outer(window, window)[:3] + 0.01
        same(numba.correlate(x, both), scipy.ndimage.correlate(x, both), str)
    same(numba.gaussian_filter(x, 1.3), scipy.ndimage.gaussian_filter(x, 1.3), str)


def test_integers_of_64_bits_are_exact(numba: OnGpu) -> None:
    rng = np.random.default_rng(0)
    for dtype in ("i8", "u8"):
        bounds = np.iinfo(dtype)
        x = rng.integers(bounds.min, bounds.max, (5, 9), dtype=dtype, endpoint=True)
        window = [[1, -2, 7], [3, 0, 2]]
        same(numba.correlate(x, window, mode="wrap"), ndimage.correlate(x, window, mode="wrap"), str)
        same(numba.correlate1d(x, [3, -5, 9], mode="mirror"), ndimage.correlate1d(x, [3, -5, 9], mode="mirror"), str)
        expected = sum(weight * int(value) for weight, value in zip([3, -5, 9], x[2, 3:6], strict=True))
        assert int(numba.correlate1d(x, [3, -5, 9])[2, 4]) % 2**64 == expected % 2**64


@pytest.mark.parametrize("dtype", ["u1", "i2", "u8", "i8", "u4"])
def test_rounded_and_cut_off_at_the_limits(dtype: str, numba: OnGpu) -> None:
    x = np.random.default_rng(0).standard_normal((7, 11)) * 10.0 ** np.arange(11) * 10
    x[0, 0], x[1, 1], x[2, 2] = np.nan, np.inf, -np.inf
    for name, argument in (("gaussian_filter", (0.7,)), ("correlate", ([[0.5, 0.5]],)), ("uniform_filter", (1,))):
        with np.errstate(all="ignore"):
            expected = getattr(ndimage, name)(x, *argument, output=dtype, saturate=True)
            same(getattr(numba, name)(x, *argument, output=dtype, saturate=True), expected, str)


@pytest.mark.parametrize("name", ["uniform_filter", "gaussian_filter", "sobel", "correlate", "maximum_filter"])
def test_a_nan_touches_only_what_sees_it(name: str, numba: OnGpu) -> None:
    x = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    arguments = {"uniform_filter": (5,), "gaussian_filter": (0.6,), "sobel": (), "correlate": (np.ones((5, 5)),),
                 "maximum_filter": (5,)}[name]  # fmt: skip
    clean = getattr(numba, name)(x, *arguments)
    x[12, 17] = np.nan
    result = getattr(numba, name)(x, *arguments)
    reach = 1 if name == "sobel" else 2
    seen = np.zeros(x.shape, bool)
    seen[12 - reach : 13 + reach, 17 - reach : 18 + reach] = True
    assert np.isnan(result[12, 17 - reach])
    assert np.isnan(result[12 + reach, 17])
    np.testing.assert_array_equal(result[~seen], clean[~seen])


# -- forms of images and windows -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_windows_larger_than_the_image(mode: str, numba: OnGpu) -> None:
    rng = np.random.default_rng(0)
    for shape in ((1,), (3,), (2, 5), (1, 4)):
        x = rng.integers(0, 200, shape).astype(np.uint8)
        told = {"mode": mode, "cval": 7.0}
        for size, origin in ((13, 6), (14, -7), (40, 0)):
            same(numba.maximum_filter1d(x, size, origin=origin, **told),
                 scipy.ndimage.maximum_filter1d(x, size, origin=origin, **told), str)
            window = rng.integers(-3, 4, size)
            same(numba.correlate1d(x, window, origin=origin, **told),
                 scipy.ndimage.correlate1d(x, window, origin=origin, **told), str)
            same(numba.uniform_filter(x, size, **told), scipy.ndimage.uniform_filter(x, size, **told), str)


def test_windows_that_shared_memory_has_no_room_for(numba: OnGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).random((9, 31), np.float32)
    window = np.random.default_rng(1).random(19)
    exact = scipy.ndimage.correlate1d(x.astype(float), window)
    expected = numba.maximum_filter(x, 19), numba.minimum_filter(x, (3, 19))
    launched: list[str] = []
    ran = filter_dense.run
    monkeypatch.setattr(filter_dense, "run", lambda *given: (launched.append("dense"), ran(*given)))
    for name in ("SHARED", "MOST_SHARED"):
        monkeypatch.setattr(lines, name, 64)
    assert off(numba.correlate1d(x, window), exact, exact) <= ULPS
    exact = scipy.ndimage.uniform_filter(x.astype(float), 19, mode="wrap")
    assert off(numba.uniform_filter(x, 19, mode="wrap"), exact, exact) <= ULPS
    same(numba.maximum_filter(x, 19), expected[0], str)
    same(numba.minimum_filter(x, (3, 19)), expected[1], str)
    assert len(launched) >= 6


def test_more_than_two_to_the_32_outputs(numba: OnGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kernels for so many do, of an image of few."""
    x = np.random.default_rng(0).integers(0, 99, (4, 5, 6))
    window = np.arange(27).reshape(3, 3, 3)
    for module in (filter_dense, filter_combine):
        monkeypatch.setattr(module, "NARROW", 1)
    same(numba.correlate(x, window), scipy.ndimage.correlate(x, window), str)
    same(numba.laplace(x), scipy.ndimage.laplace(x), str)


@pytest.mark.skipif(not SIMULATED, reason="its arrays are sliced with any steps")
def test_any_strides(numba: OnGpu) -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        x = random_image(rng, (3, 1, 4, 2, 5, 1, 3, 2), "f4")
        axis = int(rng.integers(8))
        np.testing.assert_array_equal(numba.maximum_filter1d(x, 3, axis), scipy.ndimage.maximum_filter1d(x, 3, axis))
        axes = tuple(map(int, rng.choice(8, 3, replace=False)))
        window, axes = np.ones((2, 3, 2)), tuple(sorted(axes))
        expected = scipy.ndimage.correlate(x.astype(float), window, axes=axes)
        total = scipy.ndimage.correlate(np.abs(x.astype(float)), window, axes=axes)
        assert off(numba.correlate(x, window, axes=axes), expected, total) <= ULPS


def test_channels_last(library: Library) -> None:
    x = np.random.default_rng(0).integers(0, 255, (9, 40, 3)).astype(np.uint8)
    for name, argument in (("gaussian_filter", 1.0), ("maximum_filter", 5), ("uniform_filter", 5), ("sobel", 1)):
        result = getattr(ndimage, name)(library.put(x), argument, channel_axis=-1)
        assert isinstance(result, library.kind)
        same(library.get(result), getattr(ndimage, name)(x, argument, channel_axis=-1), str)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (1, 1)], ids=str)
def test_axes_of_no_and_of_one_element(shape: tuple[int, ...], numba: OnGpu) -> None:
    x = np.full(shape, 5.0)
    for name, argument in (("gaussian_filter", (1.0,)), ("uniform_filter", (3,)), ("maximum_filter", (3,)),
                           ("laplace", ()), ("correlate", (np.ones((3,) * x.ndim) / 3**x.ndim,))):  # fmt: skip
        np.testing.assert_allclose(getattr(numba, name)(x, *argument), getattr(scipy.ndimage, name)(x, *argument))
    assert not numba.correlate(x, np.zeros((3,) * x.ndim)).any()


# -- outputs -------------------------------------------------------------------------------------------------


def test_outputs(library: Library) -> None:
    x = np.random.default_rng(0).random((12, 15), np.float32)
    out = library.put(np.zeros((12, 15), np.float64))
    assert ndimage.gaussian_filter(library.put(x), 1.0, output=out) is out
    np.testing.assert_allclose(library.get(out), scipy.ndimage.gaussian_filter(x.astype(float), 1.0), rtol=1e-12)
    itself = library.put(x.copy())
    for name, argument in (("gaussian_filter", 1.0), ("maximum_filter", 3), ("gaussian_laplace", 1.0)):
        before = library.get(itself).copy()
        assert getattr(ndimage, name)(itself, argument, output=itself) is itself
        expected = getattr(scipy.ndimage, name)(before, argument)
        np.testing.assert_allclose(library.get(itself), expected, rtol=1e-4, atol=1e-5)
    result = ndimage.uniform_filter(library.put(x), 3, output=np.int32)
    same(library.get(result), scipy.ndimage.uniform_filter(x, 3, output=np.int32), str)


# -- what is not offered -------------------------------------------------------------------------------------

REFUSED: dict[str, Callable[[Any], Any]] = {
    "median_filter": lambda x: ndimage.median_filter(x, 3),
    "rank_filter": lambda x: ndimage.rank_filter(x, 1, 3),
    "percentile_filter": lambda x: ndimage.percentile_filter(x, 20, 3),
    "variance_filter": ndimage.variance_filter,
    "std_filter": ndimage.std_filter,
    "morphological_gradient": lambda x: ndimage.morphological_gradient(x, 3),
    "morphological_laplace": lambda x: ndimage.morphological_laplace(x, 3),
    "white_tophat": lambda x: ndimage.white_tophat(x, 3),
    "black_tophat": lambda x: ndimage.black_tophat(x, 3),
    "binary morphology": ndimage.binary_closing,
    "structure of heights": lambda x: ndimage.grey_dilation(x, structure=np.ones((3, 3))),
    "nan_policy": lambda x: ndimage.uniform_filter(x, 3, nan_policy="omit"),
    "mask": lambda x: ndimage.maximum_filter(x, 3, mask=np.zeros((3, 4), bool)),
    "min_periods": lambda x: ndimage.correlate(x, np.ones((3, 3)), min_periods=2),
    "weights": lambda x: ndimage.correlate1d(x, x),
    "footprint": lambda x: ndimage.maximum_filter(x, footprint=x),
    "complex numbers": lambda x: ndimage.convolve(x, 1j * np.ones((3, 3))),
    "output is a NumPy array": lambda x: ndimage.sobel(x, output=np.empty((3, 4))),
    "input and output": lambda x: ndimage.sobel(np.empty((3, 4)), output=x),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_offered_says_so(what: str, library: Library) -> None:
    with pytest.raises(TypeError, match=what):
        REFUSED[what](library.put(np.ones((3, 4))))


def test_halves_are_refused_and_shapes_compared(library: Library) -> None:
    with pytest.raises(ValueError, match="float16"):
        ndimage.sobel(library.put(np.ones((3, 4), np.float16)))
    with pytest.raises(ValueError, match=r"output shape not correct: it must be \(3, 4\), got \(4, 3\)"):
        ndimage.sobel(library.put(np.ones((3, 4))), output=library.put(np.ones((4, 3))))


def test_arrays_of_numpy_travel() -> None:
    """In any layout, also where the result goes."""
    x = np.random.default_rng(0).integers(0, 99, (12, 7)).astype(">i2")[::-1, ::2]
    for name, argument in TRAVEL.items():
        expected = getattr(ndimage, name)(x, *argument)
        same(getattr(ndimage, name)(x, *argument, device="cuda"), expected, lambda name=name: name)
        same(getattr(ndimage, name)(x, *argument, device="cpu"), expected, lambda name=name: name)
        out = np.zeros((7, 12), ">i4").T[::-1, :4]
        assert getattr(ndimage, name)(x, *argument, output=out, device="cuda") is out
        np.testing.assert_array_equal(out, getattr(ndimage, name)(x, *argument, output=np.int32))
    y = x.astype("i2")
    assert fastconv.separable_filter(y, [1, 2], output=y, device="cuda") is y  # overlaps
    same(y, fastconv.separable_filter(x.astype("i2"), [1, 2]), str)


#: Filters that take `device`, with what they take besides.
TRAVEL: dict[str, tuple] = {
    "correlate1d": ([1, -2, 3],), "convolve1d": ([1, 2],), "correlate": ([[1, 2], [3, 5]],), "convolve": ([[1, 0, 9]],),
    "gaussian_filter": (1.0,), "gaussian_filter1d": (0.7,), "uniform_filter": (3,), "uniform_filter1d": (4,),
    "sobel": (), "prewitt": (0,), "laplace": (), "maximum_filter": (3,), "minimum_filter": ((2, 3),),
    "maximum_filter1d": (3,), "minimum_filter1d": (4, 0),
}  # fmt: skip


def test_devices_and_arrays_that_do_not_go_together(library: Library) -> None:
    x = library.put(np.ones((3, 4)))
    with pytest.raises(TypeError, match="input is on a GPU, but device='cpu'"):
        ndimage.sobel(x, device="cpu")
    with pytest.raises(ValueError, match="device must be"):
        ndimage.sobel(x, device="gpu")
    with pytest.raises(TypeError, match="output is on a GPU, but input is a NumPy array"):
        ndimage.sobel(np.ones((3, 4)), output=x, device="cuda")


def test_an_image_is_handed_on(library: Library) -> None:
    """Filters that are made of others hand on what stands for an image."""
    given = filters.image(library.put(np.eye(3)))
    assert filters.image(given) is given
    assert given.array is given.operand.value
