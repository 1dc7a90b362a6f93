"""Filters that read images in place: the images they are for, their rims, and that they touch nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage

import fastconv
from fastconv import ndimage
from fastconv.cpu import filters
from fastconv.cpu.in_place import InPlace
from fastconv.cpu.shared import narrow, pass_stages

#: An image's rows must have a few vectors.
SHAPE = (70, 300)
DTYPES = ("uint8", "int8", "uint16", "int16", "float32", "float64")
CALLS: dict[str, tuple[Any, ...]] = {
    "mean of 3": ("uniform_filter", 3), "mean of 9": ("uniform_filter", 9), "mean of 5x60": ("uniform_filter", (5, 60)),
    "mean of 80x4": ("uniform_filter", (80, 4)), "Gaussian": ("gaussian_filter", 0.8), "Sobel": ("sobel", 0),
    "Laplace": ("laplace",), "maximum": ("maximum_filter", 5), "minimum": ("minimum_filter", (3, 4)),
    "Gaussian of 17": ("gaussian_filter", 2), "Gaussian of 65x41": ("gaussian_filter", (8, 5)),
    "Gaussian of 7x41": ("gaussian_filter", (0.8, 5)), "Gaussian of 33x7": ("gaussian_filter", (4, 0.8)),
    "long line": ("correlate1d", np.linspace(-0.1, 0.5, 20), 0), "long row": ("correlate1d", np.linspace(-1, 5, 37), 1),
    "odd line": ("correlate1d", np.linspace(-0.5, 0.5, 15), 0), "odd row": ("correlate1d", np.linspace(-1, 1, 15), 1),
    "window": ("correlate", np.arange(9.0).reshape(3, 3) / 7), "line": ("correlate1d", [1, -2, 3], 0),
}  # fmt: skip


def image(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype.startswith("float"):
        return rng.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What filters the images of a test."""
    found: list[Any] = []
    for kind in (InPlace, filters.Sweep):
        def run(self: Any, x: np.ndarray, out: np.ndarray, original: Any = kind.run) -> None:
            found.append(self)
            original(self, x, out)
        monkeypatch.setattr(kind, "run", run)
    return found


def same(result: np.ndarray, expected: np.ndarray) -> None:
    """AssertionError unless integers are equal, and floats nearly so."""
    if result.dtype.kind == "f":
        scale = np.abs(expected).max()
        np.testing.assert_allclose(result, expected, rtol=0, atol=scale * (1e-5 if result.itemsize == 4 else 1e-13))
    else:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("mode", ["reflect", "constant", "wrap"])
def test_filters_equal_scipys(name: str, dtype: str, mode: str) -> None:
    function, *told = CALLS[name]
    x = image(dtype)
    given = {"mode": mode, "cval": 3.0}
    same(getattr(ndimage, function)(x, *told, **given), getattr(scipy.ndimage, function)(x, *told, **given))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("maximum", "minimum")])
def test_images_are_read_in_place(sweeps: list[Any], name: str, dtype: str) -> None:
    function, *told = CALLS[name]
    # What wraps around between two passes is for another sweep.
    output = "int32" if name in ("Sobel", "Laplace") and dtype.startswith("u") else None
    getattr(ndimage, function)(image(dtype), *told, output=output)
    assert [type(each) for each in sweeps] == [InPlace]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_nothing_else_is_read_or_written(name: str, dtype: str) -> None:
    """The image is a part of a larger one, of NaN or of the largest numbers, the result of one that stays as it is."""
    function, *told = CALLS[name]
    around, inside = (90, 400), (slice(9, 79), slice(50, 350))
    wide = np.full(around, np.nan if dtype == "float32" else 255, dtype)
    wide[inside] = image(dtype)
    out = np.full(around, 7, dtype)
    expected = getattr(ndimage, function)(image(dtype), *told)
    getattr(ndimage, function)(wide[inside], *told, output=out[inside])
    np.testing.assert_array_equal(out[inside], expected)
    out[inside] = 7
    assert (out == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["reflect", "constant", "wrap"])
@pytest.mark.parametrize("size", [(5, 5), (9, 2), (3, 7), (7, 7), (8, 9)])
@pytest.mark.parametrize("shape", [(133, 1001), (70, 400, 5)])
def test_windows_in_runs(
    sweeps: list[Any], monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], shape: tuple[int, ...], mode: str,
    dtype: str,
) -> None:  # fmt: skip
    """Windows of more taps: in place as by bands, to the last bit, on any number of threads; nothing else is read."""
    around = np.full((shape[0] + 4, shape[1] + 6, *shape[2:]), np.nan, dtype)
    out = np.full_like(around, 7)
    inside = (slice(2, -2), slice(3, -3))
    around[inside] = x = image(dtype, shape)
    weights = np.random.default_rng(1).standard_normal((*size, *[1] * (len(shape) - 2)))
    origin = tuple(-(taps // 2) for taps in weights.shape)
    told = {"mode": mode, "cval": 2.5, "origin": origin}

    made = []
    for threads, output in ((1, None), (2, None), (1, out[inside])):
        with fastconv.num_threads(threads):
            made.append(ndimage.correlate(around[inside], weights, output=output, **told))
    assert {type(each) for each in sweeps} == {InPlace}
    monkeypatch.setattr(pass_stages, "WORTH_BYTES", 1 << 40)
    by_bands = ndimage.correlate(around[inside].copy(), weights, **told)
    assert not isinstance(sweeps[-1], InPlace)
    for each in made:
        np.testing.assert_array_equal(each, by_bands)
    same(by_bands, scipy.ndimage.correlate(x.astype(np.float64), weights, **told))
    out[inside] = 7
    assert (out == 7).all()


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 40])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_channels_last(channels: int, dtype: str) -> None:
    x = image(dtype, (40, 90, channels))
    for size in (3, 8, 31):
        same(ndimage.uniform_filter(x, size, channel_axis=-1), scipy.ndimage.uniform_filter(x, size, axes=(0, 1)))
        same(ndimage.maximum_filter(x, 3, channel_axis=-1), scipy.ndimage.maximum_filter(x, 3, axes=(0, 1)))


def test_results_do_not_depend_on_threads() -> None:
    found = []
    for threads in (1, 2):
        filters.prepared.cache_clear()
        ndimage.sweeps._separable.cache_clear()
        fastconv.set_num_threads(threads)
        found.append([function(image(dtype, (900, 700)), size)
                      for dtype in ("uint8", "uint16", "float32")
                      for function, size in ((ndimage.uniform_filter, 3), (ndimage.uniform_filter, 31),
                                             (ndimage.gaussian_filter, 1), (ndimage.gaussian_filter, 6))])  # fmt: skip
    fastconv.set_num_threads(None)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_quotients_of_bytes_are_exact() -> None:
    """Of all sums that there can be, by the multiplications that take the place of divisions."""
    for divisor in range(2, 258):
        found = narrow._multiplier(divisor, 255)
        assert found or divisor > 128
        sums = np.arange(255 * divisor + 1)
        if found:
            np.testing.assert_array_equal((sums * found[0] >> 16) >> found[1], sums // divisor)


@pytest.mark.parametrize("divisor", [2, 3, 7, 25, 51, 97])
def test_quotients_of_16_bits_are_exact(divisor: int) -> None:
    bits, _ = narrow._reciprocal(divisor, 65535) or (0, 0)
    sums = np.arange(65535 * divisor + 1, dtype=np.int32)
    quotients = (sums.astype(np.float32) * np.array(bits, np.int32).view(np.float32)).astype(np.int32)
    np.testing.assert_array_equal(quotients, sums // divisor)
