"""Dask arrays: lazy, in any chunks, bit by bit the results of whole arrays."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import in_blocks
import numpy as np
import pytest
import scipy.signal
import zarr
from images import DTYPES, MODES
from processes import run_code

import fastconv
from fastconv import ndimage as ndi
from fastconv.dask import blocks, geometry, graph, sources
from fastconv.dask.convolutions import Convolution
from fastconv.specs.boundary import Boundary
from fastconv.specs.conv import conv_spec


@pytest.fixture(autouse=True)
def one_after_another() -> Iterator[None]:
    """Dask computes on the calling thread, but where a test says otherwise."""
    with dask.config.set(scheduler="synchronous"):
        yield


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(dtype)


def equal(lazy: Any, expected: np.ndarray) -> None:
    """A lazy result is what it says it is, and bit by bit the expected one."""
    assert isinstance(lazy, da.Array)
    found = lazy.compute()
    assert lazy.dtype == found.dtype == expected.dtype
    assert lazy.shape == found.shape == expected.shape
    assert [sum(sizes) for sizes in lazy.chunks] == list(expected.shape)
    np.testing.assert_array_equal(found, expected)


def close(lazy: Any, expected: np.ndarray) -> None:
    """A lazy result is the expected one but for some roundings of sums, which are made in another order."""
    assert lazy.dtype == expected.dtype
    np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-6, atol=2e-6 * np.abs(expected).max())


# -- the same numbers ----------------------------------------------------------------------------------------

#: Chunks of an axis of 13 elements: of one element, of fewer than windows see, uneven, and all.
CUTS = ((1,) * 13, (1, 2, 10), (3, 3, 3, 3, 1), (6, 7), (12, 1), (13,))


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_origin_and_size_in_every_cut(mode: str) -> None:
    x = numbers(13, 9)
    for size, cut in itertools.product((1, 2, 3, 4, 7, 12, 30), CUTS):
        weights = numbers(size)
        for origin in {-(size // 2), 0, (size - 1) // 2}:
            told = {"axis": 0, "mode": mode, "origin": origin, "cval": 3.0}
            lazy = da.from_array(x, chunks=(cut, (4, 5)))
            close(ndi.correlate1d(lazy, weights, **told), ndi.correlate1d(x, weights, **told))
            equal(ndi.maximum_filter1d(lazy, size, **told), ndi.maximum_filter1d(x, size, **told))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore")
def test_random_filters(dtype: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng([seed, DTYPES.index(dtype)])
    monkeypatch.setattr(blocks, "BAND_BYTES", (64, 1 << 21)[seed % 2])
    for _ in range(6):
        in_blocks.check(in_blocks.filters(rng, dtype), rng)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "i4", "?"])
def test_random_layers(dtype: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng([seed, 77])
    monkeypatch.setattr(blocks, "BAND_BYTES", (64, 1 << 21)[seed % 2])
    done = [in_blocks.check(in_blocks.layers(rng, dtype), rng) for _ in range(8)]
    assert any(done)


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_strides_in_every_cut(stride: int) -> None:
    """Outputs belong to the chunk where their step begins, whatever its size."""
    x, weight = numbers(1, 2, 13, 6), numbers(3, 2, 4, 3)
    for cut, padding in itertools.product(CUTS, (0, ((3, 0), (1, 1)), "same")):
        lazy = da.from_array(x, chunks=((1,), (1, 1), cut, (2, 4)))
        told = {"stride": stride, "padding": padding}
        equal(fastconv.conv2d(lazy, weight, **told), fastconv.conv2d(x, weight, **told))
        equal(fastconv.max_pool2d(lazy, (4, 3), stride), fastconv.max_pool2d(x, (4, 3), stride))
        told["padding"] = 0
        turned = weight.swapaxes(0, 1)
        equal(fastconv.conv_transpose2d(lazy, turned, **told), fastconv.conv_transpose2d(x, turned, **told))


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
def test_signal(name: str, boundary: str, mode: str) -> None:
    for dtype, size in itertools.product(("f4", "i2", "c8"), ((3, 4), (11, 2))):
        x, kernel = numbers(12, 15, dtype=dtype) * 9, numbers(*size, dtype=dtype) * 9
        lazy = da.from_array(x, chunks=((5, 1, 6), 4))
        expected = getattr(fastconv.signal, name)(x, kernel, mode, boundary, 2)
        made = getattr(fastconv.signal, name)(lazy, kernel, mode, boundary, 2)
        equal(made, expected)
        np.testing.assert_allclose(made, getattr(scipy.signal, name)(x, kernel, mode, boundary, 2), rtol=1e-4)


def test_transforms_keep_conv2ds_promise() -> None:
    """Winograd and the FFT round by their tiles' places: as far as `conv2d` says, and no further."""
    x, small, large = numbers(1, 16, 64, 64), numbers(16, 16, 3, 3), numbers(41, 41)
    for algorithm in ("winograd", "direct", "im2col"):
        made = fastconv.conv2d(da.from_array(x, chunks=(1, 8, 30, 40)), small, padding=1, algorithm=algorithm)
        expected = fastconv.conv2d(x, small, padding=1, algorithm="direct")
        np.testing.assert_allclose(made, expected, rtol=2e-5)
        if algorithm == "direct":
            equal(made, expected)
    wide = numbers(200, 300)
    made = fastconv.corr2d(da.from_array(wide, chunks=90), large)
    np.testing.assert_allclose(made, fastconv.corr2d(wide, large), rtol=1e-5)


def test_means_share_sums() -> None:
    """Means of floats are made of sums of parts, by a window's place: some roundings apart. Of integers none are."""
    x = numbers(100, 90)
    made = ndi.uniform_filter(da.from_array(x, chunks=33), 9)
    np.testing.assert_allclose(made, ndi.uniform_filter(x, 9), rtol=2e-6)
    whole = (x * 1000).astype(np.int32)
    equal(ndi.uniform_filter(da.from_array(whole, chunks=33), 9), ndi.uniform_filter(whole, 9))


def test_missing_elements() -> None:
    x = numbers(20, 30)
    x[3:7, 8:12], x[15, 15] = np.nan, np.nan
    mask = numbers(20, 30, dtype=np.float64) < 0.3
    lazy = da.from_array(x, chunks=(6, 11))
    for function, told in ((ndi.gaussian_filter, {"sigma": 1.5}), (ndi.maximum_filter, {"size": 3}),
                           (ndi.median_filter, {"size": 3}), (ndi.std_filter, {"size": 3})):  # fmt: skip
        more = {"nan_policy": "omit", "min_periods": 3}
        np.testing.assert_allclose(function(lazy, **told, **more), function(x, **told, **more), rtol=1e-5)
        for one in (mask, da.from_array(mask, chunks=9)):
            np.testing.assert_allclose(function(lazy, mask=one, **told), function(x, mask=mask, **told), rtol=1e-5)
    masked = np.ma.masked_array(np.nan_to_num(x), mask)
    made = ndi.gaussian_filter(da.from_array(masked, chunks=7), 1)
    assert not isinstance(made._meta, np.ma.MaskedArray)
    np.testing.assert_allclose(made, ndi.gaussian_filter(masked, 1), rtol=1e-5)
    with pytest.raises(ValueError, match="mask must have the shape of input"):
        ndi.gaussian_filter(lazy, 1, mask=mask[:5])


# -- graphs --------------------------------------------------------------------------------------------------


def refuses(*_: Any, **__: Any) -> Any:
    raise AssertionError("something was computed")


def test_building_a_graph_computes_nothing() -> None:
    x = da.zeros((40, 40), chunks=10).map_blocks(refuses, meta=np.empty((0, 0), np.float32))
    image, weight = x[None, None], da.ones((2, 1, 3, 3), chunks=1).map_blocks(refuses, meta=np.empty((0,) * 4))
    with dask.config.set(scheduler=refuses):
        made = [ndi.gaussian_filter(x, 2), ndi.median_filter(x, 5), ndi.grey_opening(x, 3), ndi.binary_closing(x),
                fastconv.corr2d(x, np.ones((3, 3))), fastconv.conv2d(image, weight, stride=2),
                fastconv.conv_transpose2d(image, np.ones((1, 2, 3, 3))), fastconv.avg_pool2d(x, 3),
                *fastconv.max_pool2d(x, 3, return_indices=True),
                fastconv.signal.convolve2d(x, np.ones((2, 2)))]  # fmt: skip
    for one in made:
        with pytest.raises(AssertionError, match="something was computed"):
            one.compute()


def test_building_a_graph_compiles_nothing_and_needs_no_cluster() -> None:
    run_code("""
import sys
import dask.array as da, numpy as np, fastconv, fastconv.ndimage as ndi
assert not [name for name in sys.modules if name.startswith("fastconv.dask")]
x = da.ones((1, 1, 64, 64), chunks=(1, 1, 16, 16), dtype=np.float32)
ndi.gaussian_filter(x, 1, axes=(2, 3)); fastconv.max_pool2d(x, 2); fastconv.conv2d(x, np.ones((1, 1, 3, 3)))
assert "distributed" not in sys.modules and "numba" not in sys.modules
""")


def test_a_chunk_has_no_more_tasks_than_neighbours() -> None:
    x = da.zeros((640, 640), chunks=64, dtype=np.float32)
    made = ndi.gaussian_filter(x, 2)  # three axes' passes, one overlap
    assert len(made.dask) - len(x.dask) <= 9 * x.npartitions + 2
    assert made.chunks == x.chunks


def test_small_chunks_are_merged_along_their_axis_only() -> None:
    made = ndi.gaussian_filter(da.zeros((40, 40), chunks=((2,) * 20, (20, 20))), (2, 1))
    assert made.chunks == ((8,) * 5, (20, 20))
    assert ndi.gaussian_filter(da.zeros((40, 40), chunks=2), (0, 40)).chunks == ((2,) * 20, (40,))
    assert graph.merged((1, 1, 1, 9, 1), 3) == (3, 10)


def test_channels_are_contracted_and_images_are_not() -> None:
    x = da.zeros((4, 6, 20, 20), chunks=(1, 2, 10, 20), dtype=np.float32)
    made = fastconv.conv2d(x, np.zeros((5, 6, 3, 3), np.float32), padding=1)
    assert made.chunks == ((1, 1, 1, 1), (5,), (10, 10), (20,))
    assert fastconv.avg_pool2d(x, 2).chunks == ((1, 1, 1, 1), (2, 2, 2), (5, 5), (10,))


def test_halos_are_exact() -> None:
    """An asymmetric window is given what it sees on each side, and no more."""
    x = da.zeros((30,), chunks=10)
    made = ndi.correlate1d(x, np.ones(5), origin=-2)  # sees nothing before
    copied = [key for key in made.dask if isinstance(key, tuple) and "part" in key[0]]
    assert sorted(key[1:] for key in copied) == [(1, ((0, 4),)), (2, ((0, 4),))]
    axis = geometry.Filtered(30, 0, 4)
    assert axis.reads(10, 20) == ((10, 24),)
    assert geometry.Filtered(30, 3, 1, wraps=True).reads(0, 10) == ((27, 30), (0, 11))
    assert geometry.Windows(30, 3, 5, 1, Boundary.WRAP).reads(0, 2) == ((29, 30), (0, 7))


def test_names_are_the_same_for_the_same_call() -> None:
    x = da.from_array(numbers(20, 20), chunks=10)
    assert ndi.gaussian_filter(x, 1).name == ndi.gaussian_filter(x, 1).name
    calls = (ndi.gaussian_filter(x, 1), ndi.gaussian_filter(x, 2), ndi.gaussian_filter(x, 1, mode="wrap"),
             fastconv.corr2d(x, np.ones((3, 3))), fastconv.corr2d(x, np.zeros((3, 3))), fastconv.avg_pool2d(x, 2),
             fastconv.avg_pool2d(x, 2, divisor_override=3), fastconv.max_pool2d(x, 2))  # fmt: skip
    assert len({one.name for one in calls}) == len(calls)


def test_graphs_are_pickled() -> None:
    x = numbers(1, 1, 20, 20)
    lazy = da.from_array(x, chunks=(1, 1, 10, 10))
    for call in (
        lambda y: ndi.gaussian_filter(y, (0, 0, 1, 2)),
        lambda y: fastconv.max_pool2d(y, 3, 2),
        lambda y: fastconv.conv2d(y, np.ones((2, 1, 3, 3))),
        lambda y: fastconv.conv_transpose2d(y, np.ones((1, 2, 3, 3)), stride=2),
        lambda y: fastconv.signal.convolve2d(y[0, 0], np.ones((2, 3))),
    ):
        equal(pickle.loads(pickle.dumps(call(lazy))), call(x))


def test_fused_filters_overlap_once() -> None:
    x = numbers(60, 60)
    lazy = da.from_array(x, chunks=(15, 20))
    for told in ({}, {"mode": "wrap"}, {"mode": "constant"}):
        steps = (partial(ndi.gaussian_filter, sigma=1, **told), partial(ndi.grey_opening, size=(3, 2), **told), np.sqrt,
                 lambda y, told=told: ndi.sobel(ndi.prewitt(y, 0, **told), 1, **told))  # fmt: skip
        chain = fastconv.dask.fuse(*steps)
        made = chain(lazy)
        assert len({key[0] for key in made.dask if isinstance(key, tuple) and "part" in key[0]}) == 1
        close(made, chain(x))
    assert made.chunks == lazy.chunks
    steps = partial(ndi.gaussian_filter, sigma=1, mode="wrap"), partial(ndi.sobel, axis=0)
    equal(fastconv.dask.fuse(*steps)(lazy), fastconv.dask.fuse(*steps)(x))  # of two minds about the rims: in one chunk
    assert fastconv.dask.fuse(np.sqrt)(lazy).name != fastconv.dask.fuse(np.abs)(lazy).name
    with pytest.raises(TypeError, match="steps"):
        fastconv.dask.fuse(3)


# -- blocks --------------------------------------------------------------------------------------------------


def test_a_task_has_one_thread_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastconv.cpu.system import threads

    before = fastconv.get_num_threads()
    seen: list[int] = []
    original = threads.mask_threads
    monkeypatch.setattr(threads, "mask_threads", lambda count: (seen.append(count), original(count))[1])
    x = da.zeros((20, 20), chunks=10)
    ndi.gaussian_filter(x, 1).compute()
    assert seen[::2] == [1] * 4
    assert fastconv.get_num_threads() == before
    del seen[:]
    with dask.config.set({"fastconv.threads": 2}):
        made = ndi.gaussian_filter(x, 1)
    made.compute()
    assert seen[::2] == [2] * 4


def test_weights_are_packed_once_for_each_shape_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastconv.cpu.recipes import ConvRecipe

    packed = []
    original = ConvRecipe.pack
    monkeypatch.setattr(ConvRecipe, "pack", lambda self, *told: (packed.append(self.spec), original(self, *told))[1])
    x = da.from_array(numbers(1, 4, 100, 100), chunks=(1, 4, 10, 10))
    fastconv.conv2d(x, numbers(4, 4, 3, 3), padding=1).compute()
    assert len(packed) == 2  # the whole array's, which names the algorithm, and the blocks', which are of one shape


def test_an_array_of_any_size_is_planned() -> None:
    """Blocks have the algorithm of the whole array, for which there is no memory."""
    spec = conv_spec((1, 1, 1 << 20, 1 << 20), (1, 1, 31, 31), (np.dtype(np.float32),), padding=15)
    operation = Convolution(spec, "auto", None, 1, False)
    box = ((0, 1), (0, 1), (50, 60), (50, 60))
    made = operation.block([numbers(1, 1, 40, 40)], box, (numbers(1, 1, 31, 31),))
    assert made.shape == (1, 1, 10, 10)


# -- arrays on disk ------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Any:
    """An image of 120 x 100 in chunks of 5 x 5."""
    made = zarr.create_array(store=str(tmp_path / "image"), shape=(120, 100), chunks=(5, 5), dtype="float32")
    made[...] = numbers(120, 100)
    return made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("origin", [-3, 0, 3])
def test_what_is_on_disk_is_read_by_each_task(
    stored: Any, mode: str, origin: int, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """In bands, whose results take the place of what was read; in no file."""
    monkeypatch.setattr(blocks, "BAND_BYTES", 512)
    monkeypatch.setattr(blocks, "HALOS", 1)
    x = numbers(120, 100)
    lazy = da.from_zarr(stored, chunks=(60, 50))
    told = {"mode": mode, "origin": origin}
    made = ndi.minimum_filter(lazy, 7, **told)
    assert not [key for key in made.dask if isinstance(key, tuple) and "part" in key[0]]
    equal(made, ndi.minimum_filter(x, 7, **told))
    equal(ndi.correlate1d(lazy, numbers(9), 0, **told), ndi.correlate1d(x, numbers(9), 0, **told))
    equal(fastconv.max_pool2d(lazy, 3, 2, 1), fastconv.max_pool2d(x, 3, 2, 1))
    equal(fastconv.corr2d(lazy, np.eye(3, dtype="f4"), padding=1), fastconv.corr2d(x, np.eye(3, dtype="f4"), padding=1))
    np.testing.assert_array_equal(stored[...], x)


def test_large_chunks_on_disk_are_read_once(stored: Any) -> None:
    lazy = da.from_zarr(stored, chunks=(10, 10))  # tasks would read four times as much
    made = ndi.minimum_filter(lazy, 3)
    assert [key for key in made.dask if isinstance(key, tuple) and "part" in key[0]]
    equal(made, ndi.minimum_filter(numbers(120, 100), 3))
    assert sources.of(lazy) is stored
    assert sources.of(da.from_array(stored, lock=True)) is None
    assert sources.of(lazy + 1) is None
    assert sources.of(da.from_array(numbers(4, 4))) is None


# -- refused -------------------------------------------------------------------------------------------------


def test_what_is_refused_is_refused_at_once() -> None:
    x = da.zeros((20, 20), chunks=10, dtype=np.float32)
    image = x[None, None]
    unknown = x[x[:, 0] > 0]
    for error, text, call in (
        (TypeError, "out", lambda: fastconv.max_pool2d(x, 2, out=np.zeros((10, 10), np.float32))),
        (TypeError, "output must be a dtype", lambda: ndi.gaussian_filter(x, 1, output=np.zeros((20, 20)))),
        (TypeError, "map_overlap", lambda: ndi.generic_laplace(x, ndi.sobel)),
        (TypeError, "map_blocks", lambda: fastconv.unfold2d(image, 3)),
        (ValueError, "known sizes", lambda: ndi.gaussian_filter(unknown, 1)),
        (ValueError, "known sizes", lambda: fastconv.max_pool2d(unknown, 2)),
        (ValueError, "algorithm", lambda: fastconv.conv2d(image, np.ones((1, 1, 3, 3)), algorithm="none")),
        (ValueError, "more than the 20x20", lambda: fastconv.conv2d(image, np.ones((1, 1, 30, 3)))),
        (ValueError, "mode", lambda: ndi.gaussian_filter(x, 1, mode="none")),
        (ValueError, "at least as large", lambda: fastconv.signal.convolve2d(x, np.ones((30, 30)), "valid")),
        (TypeError, "dtype", lambda: fastconv.max_pool2d(x.astype(complex), 2)),
    ):
        with pytest.raises(error, match=text):
            call()
