"""Maxima, minima, medians and ranks of `fastconv.ndimage`, against SciPy's and against sorted windows."""

from __future__ import annotations

import inspect
import textwrap
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from images import DTYPES, MODES, image, origin, values
from processes import run, run_code
from windows import RANKS, compared, equal, order, windows

import fastconv
from fastconv import ndimage

ALL = ("maximum_filter", "minimum_filter", "maximum_filter1d", "minimum_filter1d", *RANKS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(50))
def test_results_equal_scipys(dtype: str, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compared(order(np.random.default_rng([seed, 1]), dtype), ndimage, scipy.ndimage)


def ranked(seen: np.ndarray, rank: int) -> np.ndarray:
    """The element of a rank of what windows see."""
    return np.partition(seen, rank, -1)[..., rank]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_windows_larger_than_the_image(mode: str, dtype: str) -> None:
    """Several reflections; SciPy 1.17 misses some of them."""
    rng = np.random.default_rng([MODES.index(mode), 1])
    for shape, sizes in (((1,), (9,)), ((2,), (11,)), ((3,), (16,)), ((2, 3), (9, 10)), ((1, 4), (7, 1)),
                         ((5, 1), (2, 13)), ((2, 1, 3), (5, 4, 7)), ((2, 2, 2, 1), (3, 3, 5, 3))):  # fmt: skip
        x = image(rng, shape, dtype)
        origins = [origin(rng, size) for size in sizes]
        seen = windows(x.astype(x.dtype.newbyteorder("=")), sizes, origins, [mode] * x.ndim, 7)
        count, told = seen.shape[-1], {"mode": mode, "cval": 7, "origin": origins}
        equal(ndimage.maximum_filter(x, sizes, **told), seen.max(-1), (shape, sizes, origins))
        equal(ndimage.minimum_filter(x, sizes, **told), seen.min(-1), (shape, sizes, origins))
        for rank in {1 % count, count // 3, count // 2, count - 2}:
            equal(ndimage.rank_filter(x, rank, sizes, **told), ranked(seen, rank), (shape, sizes, origins))
        equal(ndimage.median_filter(x, sizes, **told), ranked(seen, count // 2), (shape, sizes, origins))


@pytest.mark.parametrize("mode", MODES)
def test_every_origin_of_every_size(mode: str) -> None:
    x = np.random.default_rng(0).permutation(35).reshape(5, 7).astype(np.uint8)
    for size in range(1, 8):
        for first in range(-(size // 2), (size - 1) // 2 + 1):
            for axis in (0, 1):
                sizes, origins = [1, 1], [0, 0]
                sizes[axis], origins[axis] = size, first
                seen = windows(x, sizes, origins, [mode, mode], 3)
                told = {"mode": mode, "cval": 3, "origin": first}
                equal(ndimage.maximum_filter1d(x, size, axis, **told), seen.max(-1), (size, first))
                found = ndimage.minimum_filter(x, sizes, mode=mode, cval=3, origin=origins)
                equal(found, seen.min(-1), (size, first))
                equal(ndimage.median_filter(x, size, axes=axis, **told), ranked(seen, size // 2), (size, first))


@pytest.mark.parametrize(("shape", "sizes"), [
    ((70, 90), (25, 25)), ((70, 90), (3, 3)), ((70, 90), (5, 5)), ((70, 90), (9, 9)), ((70, 90), (4, 6)),
    ((300, 40), (2, 31)), ((1, 5000), (1, 3)), ((1, 5000), (1, 41)), ((3, 2100), (2, 5)), ((400, 3), (51, 1)),
    ((400, 3), (7, 3)), ((9, 50, 41), (3, 3, 3)),
    ((9, 30, 21), (5, 11, 7)), ((80, 90, 3), (3, 5, 1)), ((80, 90, 3), (21, 19, 1)), ((20, 12, 40), (1, 5, 1)),
    ((20, 12, 40), (9, 1, 1)), ((20, 30, 17), (1, 3, 1)), ((4, 5, 6, 7), (3, 1, 3, 2)),
    ((2, 3, 2, 3, 2, 3, 2, 3), (2, 1, 2, 1, 2, 1, 2, 3)),
    ((2,) * 8, (3,) * 5 + (1, 1, 1)), ((5, 4, 3, 6, 5), (3, 3, 1, 2, 3)), ((33, 64), (1, 64)), ((129, 65), (128, 2)),
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "f4", "i8"])
def test_every_algorithm(shape: tuple[int, ...], sizes: tuple[int, ...], dtype: str) -> None:
    """Bands, strips and blocks that end within the image, and networks, columns' histograms and sorted places."""
    rng = np.random.default_rng([*shape, *sizes])
    x = values(rng, shape, dtype)
    modes = [str(rng.choice(MODES)) for _ in shape]
    origins = [origin(rng, size) for size in sizes]
    seen = windows(x, sizes, origins, modes, 5)
    told: dict[str, Any] = {"mode": modes, "cval": 5, "origin": origins}
    equal(ndimage.maximum_filter(x, sizes, **told), seen.max(-1), "max")
    equal(ndimage.minimum_filter(x, sizes, **told), seen.min(-1), "min")
    mode = str(rng.choice(MODES))
    seen = np.sort(windows(x, sizes, origins, [mode] * x.ndim, 5), -1)
    count = seen.shape[-1]
    for rank in {1, count // 5, count // 2, count - 2}:
        equal(ndimage.rank_filter(x, rank, sizes, mode=mode, cval=5, origin=origins), seen[..., rank], rank)


@pytest.mark.parametrize("dtype", ["u1", "f4", "u8"])
@pytest.mark.parametrize("form", ["disk", "ring", "random", "line", "planes"])
def test_footprints(form: str, dtype: str) -> None:
    rng = np.random.default_rng([2, len(form)])
    at = np.hypot(*np.ogrid[-6:7, -6:7])
    members = {"disk": at <= 6, "ring": (at <= 6) & (at > 4), "random": rng.random((8, 11)) < 0.2,
               "line": np.eye(9, dtype=bool), "planes": rng.random((3, 3, 5)) < 0.5}[form]  # fmt: skip
    x = values(rng, (5, 40, 30) if members.ndim == 3 else (90, 70), dtype)
    for mode in MODES[:5]:
        origins = [origin(rng, size) for size in members.shape]
        seen = np.sort(windows(x, members.shape, origins, [mode] * x.ndim, 9, members), -1)
        count, told = seen.shape[-1], {"footprint": members, "mode": mode, "cval": 9, "origin": origins}
        equal(ndimage.maximum_filter(x, **told), seen[..., -1], (form, mode))
        equal(ndimage.minimum_filter(x, **told), seen[..., 0], (form, mode))
        equal(ndimage.median_filter(x, **told), seen[..., count // 2], (form, mode))
        equal(ndimage.percentile_filter(x, 30, **told), seen[..., int(count * 0.3)], (form, mode))


def test_integers_of_64_bits_are_exact_where_doubles_are_not() -> None:
    x = np.random.default_rng(0).integers(2**62, 2**62 + 50, (20, 30))
    for dtype in (np.int64, np.uint64):
        seen = np.sort(windows(x.astype(dtype), (3, 3), (0, 0), ("reflect",) * 2), -1)
        equal(ndimage.maximum_filter(x.astype(dtype), 3), seen[..., -1], dtype)
        equal(ndimage.median_filter(x.astype(dtype), 3), seen[..., 4], dtype)
        equal(ndimage.rank_filter(x.astype(dtype), 2, footprint=np.ones((3, 3))), seen[..., 2], dtype)


# -- layouts and results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel_axis", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_channel_axis(channel_axis: int, dtype: str) -> None:
    x = values(np.random.default_rng(0), (9, 10, 11), dtype)
    planes = np.moveaxis(x, channel_axis, 0)
    for name, told in (("maximum_filter", {"size": (3, 5)}), ("minimum_filter", {"footprint": [[1, 0], [1, 1]]}),
                       ("median_filter", {"size": 3}), ("rank_filter", {"rank": 2, "size": (2, 3)}),
                       ("percentile_filter", {"percentile": 30, "size": 3}),
                       ("maximum_filter1d", {"size": 4, "axis": 1}),
                       ("minimum_filter1d", {"size": 4, "axis": -2})):  # fmt: skip
        result = getattr(ndimage, name)(x, channel_axis=channel_axis, **told)
        expected = np.moveaxis(np.stack([getattr(ndimage, name)(plane, **told) for plane in planes]), 0, channel_axis)
        equal(result, expected, name)


@pytest.mark.parametrize("name", ALL)
def test_outputs(name: str) -> None:
    rng = np.random.default_rng(0)
    args = {"rank_filter": (3, 5), "percentile_filter": (30, 5)}.get(name, (5,))
    function = getattr(ndimage, name)
    for dtype in ("u1", "f4", "i8"):
        x = values(rng, (16, 14), dtype)
        expected = function(x, *args)
        for out in (np.empty_like(x), np.empty(x.shape, x.dtype.newbyteorder(">")), np.asfortranarray(np.empty_like(x)),
                    np.empty((32, 28), dtype)[::-2, ::2]):  # fmt: skip
            assert function(x, *args, output=out) is out
            np.testing.assert_array_equal(out, expected)
        equal(function(x, *args, output=dtype), expected, dtype)
        equal(function(x, *args, output=np.float64), expected.astype(float), dtype)
        space = x.copy()
        assert function(space, *args, output=space) is space
        np.testing.assert_array_equal(space, expected)
        space = np.zeros((17, 14), dtype)
        space[:-1] = x
        function(space[:-1], *args, output=space[1:])
        np.testing.assert_array_equal(space[1:], expected)
        x.flags.writeable = False
        equal(function(x, *args), expected, dtype)
        with pytest.raises(ValueError, match="output array is read-only"):
            function(x, *args, output=x)
        with pytest.raises(RuntimeError, match="output shape not correct"):
            function(x, *args, output=np.empty((3, 4), dtype))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3), (1,), (1, 1), (1, 5), (5, 1), (1, 1, 1, 4)])
def test_short_axes(name: str, shape: tuple[int, ...]) -> None:
    args = {"rank_filter": (1, 3), "percentile_filter": (30, 3)}.get(name, (3,))
    for dtype in ("u1", "f8", "?"):
        x = values(np.random.default_rng(0), shape, dtype)
        result = getattr(ndimage, name)(x, *args)
        assert result.dtype == x.dtype
        assert result.shape == shape
        if x.size:
            sizes = [1] * (len(shape) - 1) + [3] if name.endswith("1d") else [3] * len(shape)
            seen = np.sort(windows(x, sizes, [0] * len(shape), ["reflect"] * len(shape)), -1)
            count = seen.shape[-1]
            rank = {"maximum_filter": -1, "maximum_filter1d": -1, "minimum_filter": 0, "minimum_filter1d": 0,
                    "rank_filter": 1,
                    "percentile_filter": int(count * 0.3), "median_filter": count // 2}[name]  # fmt: skip
            equal(result, seen[..., rank], (name, shape))


def test_images_without_axes() -> None:
    for x in (np.array(5), np.array(2.5, np.float32)):
        for name in ("maximum_filter", "minimum_filter", "median_filter"):
            equal(getattr(ndimage, name)(x, size=3), x, name)


def test_axes_that_no_window_runs_along_and_repeated_calls() -> None:
    x = values(np.random.default_rng(0), (12, 13), "f4")
    for _ in range(2):
        equal(ndimage.maximum_filter(x, 3, axes=()), x, "max")
        equal(ndimage.median_filter(x, 1), x, "median")
        equal(ndimage.median_filter(x, 3), ndimage.median_filter(x, footprint=np.ones((3, 3))), "median")
        equal(ndimage.maximum_filter(x, 3), ndimage.maximum_filter(x[:, ::-1], 3)[:, ::-1], "max")


def test_results_do_not_depend_on_threads() -> None:
    x = values(np.random.default_rng(0), (700, 900), "f4")
    found = []
    for threads in (1, 2):
        fastconv.set_num_threads(threads)
        found.append([ndimage.maximum_filter(x, 5), ndimage.median_filter(x, 5), ndimage.rank_filter(x, 40, 15),
                      ndimage.median_filter((x * 9).astype(np.int8), 25),
                      ndimage.maximum_filter(x, footprint=np.eye(5))])  # fmt: skip
    fastconv.set_num_threads(None)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


# -- messages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda x: ndimage.maximum_filter(x), RuntimeError, "no footprint provided"),
    (lambda x: ndimage.maximum_filter(x, 3, mode="nope"), ValueError, "boundary mode not supported: mode"),
    (lambda x: ndimage.maximum_filter(x, 3, origin=2), ValueError, "invalid origin"),
    (lambda x: ndimage.maximum_filter(x, (3, 3, 3)), RuntimeError, "length equal to input rank"),
    (lambda x: ndimage.maximum_filter(x, footprint=np.ones(3)), RuntimeError, "footprint.ndim"),
    (lambda x: ndimage.maximum_filter(x, footprint=np.zeros((3, 3))), ValueError, "All-zero footprint"),
    (lambda x: ndimage.maximum_filter(x, None, np.eye(3), mode=["wrap"] * 2), RuntimeError, "sequence of modes"),
    (lambda x: ndimage.maximum_filter(x, 3, axes=(0, 0)), ValueError, "axes must be unique"),
    (lambda x: ndimage.maximum_filter(x, 3, axes=5), ValueError, "axis: 5 is out of range"),
    (lambda x: ndimage.maximum_filter(x, 3, cval="a"), TypeError, "cval must be a number"),
    (lambda x: ndimage.maximum_filter(x, 3, cval=1j), ValueError, "complex-valued cval"),
    (lambda x: ndimage.maximum_filter(x, 3, output=np.float16), RuntimeError, "not supported"),
    (lambda x: ndimage.maximum_filter(x.astype(np.float16), 3), RuntimeError, "not supported"),
    (lambda x: ndimage.maximum_filter(x + 1j, 3), TypeError, "Complex type not supported"),
    (lambda x: ndimage.maximum_filter(x, 3, nan_policy="skip"), ValueError, "nan_policy must be one of"),
    (lambda x: ndimage.maximum_filter(x, 3, mask=np.ones((2, 2), bool)), ValueError, "mask must have the shape"),
    (lambda x: ndimage.maximum_filter(x, 3, mask=np.ones((4, 5))), TypeError, "mask must be an array of bools"),
    (lambda x: ndimage.maximum_filter(x, 3, min_periods=0), ValueError, "min_periods"),
    (lambda x: ndimage.maximum_filter1d(x, 0), RuntimeError, "incorrect filter size"),
    (lambda x: ndimage.maximum_filter1d(x, "a"), TypeError, "size must be an integer"),
    (lambda x: ndimage.minimum_filter1d(x, 3, axis=2), ValueError, "axis 2 is out of bounds"),
    (lambda x: ndimage.minimum_filter1d(x, 3, origin=5), ValueError, "invalid origin"),
    (lambda x: ndimage.rank_filter(x, 9, 3), RuntimeError, "rank not within filter footprint size"),
    (lambda x: ndimage.rank_filter(x, -10, 3), RuntimeError, "rank not within filter footprint size"),
    (lambda x: ndimage.rank_filter(x, 1.5, 3), TypeError, "rank must be of integers"),
    (lambda x: ndimage.rank_filter(x, 1), RuntimeError, "no footprint or filter size"),
    (lambda x: ndimage.rank_filter(x, 1, 3, mode=["wrap", "wrap"]), RuntimeError, "sequence of modes"),
    (lambda x: ndimage.percentile_filter(x, 101, 3), RuntimeError, "invalid percentile"),
    (lambda x: ndimage.percentile_filter(x, "a", 3), TypeError, "percentile must be a number"),
    (lambda x: ndimage.percentile_filter(x, np.nan, 3), RuntimeError, "invalid percentile"),
    (lambda x: ndimage.median_filter(x, 0), RuntimeError, "footprint.ndim|rank not within|size"),
    (lambda x: ndimage.median_filter(x, (3, 3), channel_axis=0), RuntimeError, "length equal to input rank"),
    (lambda x: ndimage.median_filter(np.zeros((1,) * 9), 3), RuntimeError, "at most 8 axes"),
])  # fmt: skip
def test_messages(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call(np.ones((4, 5)))


@pytest.mark.parametrize("name", ALL)
def test_signatures_begin_as_scipys(name: str) -> None:
    ours = inspect.signature(getattr(ndimage, name)).parameters
    for parameter in inspect.signature(inspect.unwrap(getattr(scipy.ndimage, name))).parameters.values():
        assert ours[parameter.name].kind == parameter.kind, parameter
        assert ours[parameter.name].default == parameter.default, parameter


def test_filters_as_python_stay_within_their_arrays() -> None:
    """Kernels as plain Python give the same; there a vector is a slice, which is too short beyond an array's end."""
    assert not run("tests/support/windows.py", "0", "120", NUMBA_DISABLE_JIT=1)


def test_algorithms_of_ranks_as_python() -> None:
    code = """
        import numpy as np, scipy.ndimage
        from fastconv import ndimage
        for dtype, algorithms in (("u1", "network columns ranked"), ("u2", "ranked"), ("f8", "network ranked")):
            x = np.random.default_rng(1).integers(0, 200, (9, 11)).astype(dtype)
            expected = scipy.ndimage.rank_filter(x, 4, size=5, mode="mirror")
            for name in algorithms.split():
                result = ndimage.rank_filter(x, 4, size=5, mode="mirror", algorithm=name)
                np.testing.assert_array_equal(result, expected, name)
    """
    run_code(textwrap.dedent(code), NUMBA_DISABLE_JIT=1)


# -- algorithms by name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["network", "columns", "ranked"])
@pytest.mark.parametrize("rank", [0, 4, 12, 24])
def test_an_algorithm_of_ranks_by_name(algorithm: str, rank: int) -> None:
    x = np.random.default_rng(rank).integers(0, 256, (33, 40)).astype(np.uint8)
    result = ndimage.rank_filter(x, rank, size=5, mode="mirror", algorithm=algorithm)
    np.testing.assert_array_equal(result, scipy.ndimage.rank_filter(x, rank, size=5, mode="mirror"))


def test_an_algorithm_that_cannot_do_it_says_so() -> None:
    x = np.random.default_rng(0).random((30, 40))
    with pytest.raises(ValueError, match="'columns' cannot do this: it is not for 25 elements of float64"):
        ndimage.median_filter(x, 5, algorithm="columns")
    with pytest.raises(ValueError, match="'network' cannot do this: it is not for 1225 elements"):
        ndimage.percentile_filter(x, 30, 35, algorithm="network")
    with pytest.raises(ValueError, match="only 'ranked' leaves elements out"):
        ndimage.median_filter(x, 5, nan_policy="omit", algorithm="network")
    with pytest.raises(ValueError, match=r"algorithm must be one of 'auto', .*, got 'fastest'"):
        ndimage.median_filter(x, 5, algorithm="fastest")


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_windows_of_extrema_that_see_an_image_many_times(mode: str) -> None:
    x = np.random.default_rng(0).random((5, 7), np.float32) - 0.5
    for size in (31, 10**6, (3, 2**24)):
        sizes = size if isinstance(size, tuple) else (size, size)
        enough = tuple(min(one, 61) for one in sizes)  # all of it, and what is outside
        result = ndimage.maximum_filter(x, size, mode=mode, cval=0.25)
        np.testing.assert_array_equal(result, ndimage.maximum_filter(x, enough, mode=mode, cval=0.25))
        np.testing.assert_array_equal(result, scipy.ndimage.maximum_filter(x, enough, mode=mode, cval=0.25))


NAMES = ["maximum_filter", "median_filter", "uniform_filter", "grey_opening", "variance_filter"]


@pytest.mark.parametrize("name", NAMES)
def test_sizes_beyond_any_window(name: str) -> None:
    for size in (2**24 + 1, 2**31, 2**70):
        with pytest.raises(ValueError, match=rf"size must be .*(16777216|4194304).*got .*{size}"):
            getattr(ndimage, name)(np.ones((5, 6)), size)
