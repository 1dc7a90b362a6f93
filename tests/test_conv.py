"""conv2d and corr2d: every algorithm, every hostile case, every dtype, against the oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from cases import CONV, FLOATS, INTEGERS, LAYOUTS, Conv, example, fenced, intact, threads, unsupported, values
from hypothesis import given
from hypothesis import strategies as st
from reference import assert_close

import fastconv
from fastconv.cpu.algorithms import conv_pointwise
from fastconv.cpu.recipes import FILTERS
from fastconv.cpu.shared import row_filter
from fastconv.cpu.tiles import simd
from fastconv.specs.conv import conv_spec

pytestmark = pytest.mark.usefixtures("one_thread")

ALGORITHMS = fastconv.algorithms("conv2d")
#: The plain cases in every dtype; each other case in float32 and one more, in turn.
PROBLEMS = [
    pytest.param(case, dtype, id=f"{case.name}-{dtype}")
    for case, other in zip(CONV, itertools.cycle(("float64", "int8", "int64")), strict=False)
    for dtype in (FLOATS + INTEGERS if case.plain else ("float32", other))
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("case", "dtype"), PROBLEMS)
def test_every_algorithm(case: Conv, dtype: str, algorithm: str) -> None:
    arrays = [fenced(array) for array in case.arrays(dtype)]
    reason = unsupported(algorithm, arrays, **case.options)
    if reason is not None:
        with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
            fastconv.conv2d(*arrays, **case.options, algorithm=algorithm)
        return
    expected, scale = reference.conv2d(*case.arrays(dtype), **case.options)
    out = fenced(np.empty(expected.shape, reference.conv_dtype(*arrays)))
    with threads(None if case.threads and dtype == "float32" else 1):
        assert fastconv.conv2d(*arrays, **case.options, algorithm=algorithm, out=out) is out
    assert_close(out, expected, scale)
    assert all(intact(array) for array in (*arrays, out))


@pytest.mark.parametrize(("case", "dtype"), PROBLEMS)
def test_auto_and_a_second_opinion(case: Conv, dtype: str) -> None:
    arrays = case.arrays(dtype)
    expected, scale = reference.conv2d(*arrays, **case.options)
    assert_close(fastconv.conv2d(*arrays, **case.options), expected, scale)
    able = [algorithm for algorithm in ALGORITHMS if unsupported(algorithm, arrays, **case.options) is None]
    assert len(able) >= 2
    assert able[-1] == "naive"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_tried(algorithm: str) -> None:
    reasons = [unsupported(algorithm, case.arrays("float32"), **case.options) for case in CONV]
    assert reasons.count(None) >= 3
    assert all(reason is None or len(reason) > 10 for reason in reasons)


# -- whole problems ------------------------------------------------------------------------------------------

pairs = st.tuples(st.integers(0, 4), st.integers(0, 4))
steps = st.integers(1, 3) | st.tuples(st.integers(1, 3), st.integers(1, 3))
problems = st.fixed_dictionaries({
    "n": st.integers(0, 2), "size": st.tuples(st.integers(1, 9), st.integers(1, 20)), "batched": st.booleans(),
    "groups": st.integers(1, 3), "c_in": st.integers(1, 3), "c_out": st.sampled_from([3, 5]), "bias": st.booleans(),
    "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)), "stride": steps, "dilation": steps,
    "padding": st.integers(0, 4) | pairs | st.tuples(pairs, pairs) | st.sampled_from(["valid", "same", "same_lower"]),
    "dtypes": st.lists(st.sampled_from(["float32", "int8", "int64"]), min_size=1, max_size=2),
})
#: What makes any problem one that an algorithm with demands can do.
REPAIRS = ({}, {"kernel": (1, 1)}, {"c_in": 1, "groups": 3},
           {"kernel": (3, 3), "stride": 1, "dilation": 1, "groups": 1, "dtypes": ["float32"]},
           {"kernel": (2, 4), "stride": 1, "dilation": 1, "c_in": 1, "dtypes": ["float32"]},
           {"kernel": (5, 6), "size": (9, 20), "stride": 1, "dilation": 1, "dtypes": ["float32"]},
           {"kernel": (5, 6), "size": (5, 6), "padding": 0, "dilation": 1, "dtypes": ["float32"]})


def build(problem: dict) -> tuple[list[np.ndarray], dict]:
    """Arrays and options of a problem, channels counted by group."""
    groups, c_out = problem["groups"], problem["groups"] * problem["c_out"]
    x = (problem["n"], groups * problem["c_in"], *problem["size"])[0 if problem["batched"] else 1 :]
    shapes = [x, (c_out, problem["c_in"], *problem["kernel"]), (c_out,)][: 3 if problem["bias"] else 2]
    arrays = [values(shape, dtype, 7) for shape, dtype in zip(shapes, itertools.cycle(problem["dtypes"]), strict=False)]
    return arrays, {name: problem[name] for name in ("stride", "padding", "dilation", "groups")}


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
@given(problem=problems)
def test_any_problem(problem: dict, algorithm: str) -> None:
    for repair in REPAIRS:
        arrays, options = build(problem | repair)
        try:
            expected, scale = reference.conv2d(*arrays, **options)
        except ValueError:
            with pytest.raises(ValueError, match="kernel covers"):
                fastconv.conv2d(*arrays, **options, algorithm=algorithm)
            return
        if algorithm == "auto" or unsupported(algorithm, arrays, **options) is None:
            assert_close(fastconv.conv2d(*arrays, **options, algorithm=algorithm), expected, scale)
            return
    raise AssertionError(f"REPAIRS have nothing for {algorithm}")


# -- numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay(algorithm: str, bad: float) -> None:
    case = example(algorithm)
    x, weight, *_ = case.arrays("float32")
    x[0, 2, 4, 3] = bad
    expected, _ = reference.conv2d(np.where(np.isfinite(x), x, 0), weight, **case.options)
    seen, _ = reference.conv2d((~np.isfinite(x)).astype(int), np.ones(weight.shape, int), **case.options)
    result = fastconv.conv2d(x, weight, **case.options, algorithm=algorithm)
    assert 0 < np.count_nonzero(seen) < seen.size
    assert not np.isfinite(result[seen > 0]).any()
    if algorithm in ("naive", *FILTERS):  # which promise that the others stay as they are
        np.testing.assert_allclose(result[seen == 0], expected[seen == 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_integers_wrap_around(algorithm: str) -> None:
    for dtype, big in (("int64", 2**62 + 12345), ("uint64", 2**64 - 3), ("int16", -(2**15))):
        arrays = [np.full((1, 3, 5, 5), big, dtype), np.full((2, 3, 1, 1), big, dtype)]
        if unsupported(algorithm, arrays) is None:
            result = fastconv.conv2d(*arrays, algorithm=algorithm)
            exact = (3 * big * big + 2**63) % 2**64 - 2**63
            np.testing.assert_array_equal(result, np.full((1, 2, 5, 5), exact), strict=True)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(
    ("kernel", "options"),
    [((5, 5), {}), ((4, 6), {"stride": 2, "padding": 3}), ((2, 3), {"stride": (1, 3)}), ((9, 5), {"dilation": (1, 2)})],
)
def test_bytes_add_up_exactly(dtype: str, kernel: tuple, options: dict) -> None:
    """Pairs of products of the largest numbers, of either sign, and odd columns."""
    limits = np.iinfo(dtype)
    for number, weights in ((limits.max, limits.max), (limits.min, limits.min), (limits.max, limits.min)):
        x, weight = np.full((1, 2, 20, 50), number, dtype), np.full((1, 2, *kernel), weights, dtype)
        x[0, 0, ::3, ::7], weight[0, 1, 1, 1] = 1, 3
        expected, _ = reference.conv2d(x, weight, **options)
        np.testing.assert_array_equal(fastconv.conv2d(x, weight, **options, algorithm="image"), expected, strict=True)


def test_float16_overflows_to_infinity_without_a_warning() -> None:
    x, weight = np.full((1, 1, 3, 3), 60000, np.float16), np.full((1, 1, 2, 2), 2, np.float16)
    np.testing.assert_array_equal(fastconv.conv2d(x, weight), np.full((1, 1, 2, 2), np.inf, np.float16), strict=True)


def test_float16_is_added_up_in_float32() -> None:
    x = np.ones((1, 1, 64, 64), np.float16)
    assert fastconv.conv2d(x, x)[0, 0, 0, 0] == 4096  # float16 sums would stop at 2048


@pytest.mark.parametrize(
    ("dtypes", "wanted"),
    [
        (("bool", "bool"), "int32"),
        (("uint8", "bool"), "int32"),
        (("int8", "uint8"), "int64"),
        (("int16", "int8"), "int64"),
        (("uint64", "int64"), "float64"),
        (("float16", "int8"), "float16"),
        (("float16", "float32"), "float32"),
        (("float32", "int64"), "float64"),
        (("uint8", "uint8", "float32"), "float32"),
    ],
)
def test_dtypes_promote_as_in_numpy(dtypes: tuple[str, ...], wanted: str) -> None:
    shapes = ((2, 4, 7), (3, 2, 2, 2), (3,))
    arrays = [values(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=False)]
    result = fastconv.conv2d(*arrays)
    assert result.dtype == wanted
    assert_close(result, *reference.conv2d(*arrays))


# -- arrays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_any_array_and_none_is_changed(layout, algorithm: str) -> None:
    case = example(algorithm)
    arrays = [layout(array.astype(np.float64)) for array in case.arrays("float32")[:2]]
    before = [np.array(array) for array in arrays]
    expected, scale = reference.conv2d(*before, **case.options)
    assert_close(fastconv.conv2d(*arrays, **case.options, algorithm=algorithm), expected, scale)
    for array, was in zip(arrays, before, strict=True):
        assert np.array(array).tobytes() == was.tobytes()


# -- out -----------------------------------------------------------------------------------------------------


def test_out_may_lie_between_the_inputs() -> None:
    memory = values((3, 4, 6, 6), "float32")
    x, out, weight = memory[::2], memory[1:2, :, :5, :5], values((4, 4, 2, 2), "float32")
    out = memory.reshape(3, -1)[1, : 2 * 4 * 5 * 5 // 2].reshape(1, 4, 5, 5)
    expected, scale = reference.conv2d(x[:1], weight)
    assert fastconv.conv2d(x[:1], weight, out=out) is out
    assert_close(out, expected, scale)


def test_out_of_any_float_dtype_and_subclass() -> None:
    for dtype in FLOATS:
        x, weight = values((2, 4, 5), dtype), values((3, 2, 2, 2), dtype)
        out = np.empty((3, 3, 4), dtype).view(np.memmap)
        assert fastconv.conv2d(x, weight, out=out) is out
        assert_close(np.asarray(out), *reference.conv2d(x, weight))


# -- size ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
def test_more_than_2_to_the_31_elements(algorithm: str) -> None:
    x = np.zeros((1, 1, 46350, 46350), np.uint8)  # the operating system backs only the pages that are touched
    assert x.size > 2**31
    weight = np.arange(1, 10, dtype=np.uint8).reshape(1, 1, 3, 3)
    x[0, 0, -3:, -3:] = weight[0, 0]
    x[0, 0, 0, 0] = 7
    for problem in (
        (x, weight, {"stride": 46347 // 3}),
        (x, weight[:, :, 2:, 2:], {"stride": 46349}),
        (x.reshape(1, 2, 46350 // 2, 46350), weight[[0, 0], :, 2:], {"groups": 2, "stride": (23174, 46347)}),
    ):
        image, kernel, options = problem
        if algorithm == "auto" or unsupported(algorithm, [image, kernel], **options) is None:
            result = fastconv.conv2d(image, kernel, **options, algorithm=algorithm)
            assert result[0, 0, 0, 0] == 7 * kernel[0, 0, 0, 0]
            assert result[0, -1, -1, -1] == (kernel[0].astype(int) ** 2).sum()
            assert np.count_nonzero(result) == 2


@pytest.mark.parametrize("algorithm", ["fft", "dft"])
@pytest.mark.parametrize("shape", [(1, 1, 260, 250), (3, 2, 150, 140), (1, 64, 60, 50)])
def test_threads_that_share_transforms(shape: tuple[int, ...], algorithm: str) -> None:
    """Bands of rows, images, or groups go to several threads: no bit changes, and no NaN is missed."""
    x, weight = values(shape, "float32"), values((shape[1], 1, 31, 29), "float32", 1)
    results = []
    for bad in (0, np.nan):
        x[-1, -1, -1, -1] = bad
        for count in (1, None):
            with threads(count):
                results.append(fastconv.conv2d(x, weight, groups=shape[1], padding=15, algorithm=algorithm))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[2], results[3])
    assert np.count_nonzero(np.isnan(results[3])) == 16 * 16


@pytest.mark.parametrize("shape", [(3, 33, 30, 29), (1, 512, 7, 7)])
def test_threads_that_share_winograd_tiles(shape: tuple[int, ...]) -> None:
    """Tiles, or the panels of one block, go to several threads, packed before or in the task: no bit changes."""
    x, weight = values(shape, "float32"), values((shape[1] + 7, shape[1], 3, 3), "float32", 1)
    results = []
    for count in (1, None):
        with threads(count):
            results.append(fastconv.plan_conv2d(shape, weight, padding=1, algorithm="winograd")(x))
            results.append(fastconv.conv2d(x, weight, padding=1, algorithm="winograd"))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("size", [(2, 1), (3, 2), (5, 3), (7, 4), (5, 5), (7, 7), (2, 14)])
def test_tiles_of_several_short_rows(size: tuple[int, int]) -> None:
    """Of 7 rows of 7 pixels three tiles have two and one has one; beside the image, and in place."""
    images = -(-10**7 // (2 * 40 * 48 * 9 * size[0] * size[1]))
    weight = values((40, 48, 3, 3), "float32", 1)
    for padding, stride in ((1, 1), (1, 2), (0, 1)):
        grown = [(outs - 1) * stride + 3 - 2 * padding for outs in size]
        x = fenced(values((images, 48, *grown), "float32"))
        expected, scale = reference.conv2d(x, weight, stride=stride, padding=padding)
        for number in (1, 2):
            out = fenced(np.empty((images, 40, *size), np.float32))
            with threads(number):
                options = {"stride": stride, "padding": padding, "algorithm": "direct"}
                fastconv.conv2d(x, weight, **options, out=out)
            assert_close(out, expected, scale)
            assert intact(out)


@pytest.mark.parametrize("size", [(1, 5), (5, 5), (7, 7), (9, 11)])
@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_tiles_and_one_for_the_rest(size: tuple[int, int], stride: int) -> None:
    channels = -(-10**7 // (2 * 40 * size[0] * size[1]))
    x = fenced(values((1, channels, *[(outs - 1) * stride + 1 for outs in size]), "float32"))
    weight = values((40, channels, 1, 1), "float32", 1)
    expected, scale = reference.conv2d(x, weight, stride=stride)
    for number in (1, 2):
        out = fenced(np.empty((1, 40, *size), np.float32))
        with threads(number):
            fastconv.conv2d(x, weight, stride=stride, algorithm="pointwise", out=out)
        assert_close(out, expected, scale)
        assert intact(out)


@pytest.mark.parametrize("channels", [(512, 2048), (2048, 512)])
def test_threads_share_a_small_image_evenly(channels: tuple[int, int]) -> None:
    """The pixels that are left over have a tile of their own, not a block: it would be a thread's only work."""
    spec = conv_spec((1, channels[0], 7, 7), (channels[1], channels[0], 1, 1), [np.dtype(np.float32)])
    weight = values((channels[1], channels[0], 1, 1), "float32")
    with threads(2):
        packed = conv_pointwise.prepare(spec, weight)
    panels, block, shares = packed.sizes[1:4]
    work = [((share + 1) * panels // shares - share * panels // shares) * min(block, 49 - start)
            for start in range(0, 49, block) for share in range(shares)]  # fmt: skip
    assert len(work) == packed.tasks
    assert sum(work[: len(work) // 2]) == sum(work) / 2


# -- corr2d --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_corr2d(dtype: str) -> None:
    x, kernel = values((9, 8), dtype), values((3, 2), dtype, 1)
    expected, scale = reference.conv2d(x[None], kernel[None, None])
    assert_close(fastconv.corr2d(x, kernel), expected[0], scale)


@pytest.mark.parametrize(
    ("dtype", "bias", "wanted"),
    [
        ("uint8", -1, "int32"),
        ("uint8", 300, "int32"),
        ("int8", True, "int32"),
        ("int8", np.int16(300), "int64"),
        ("uint8", 0.5, "float64"),
        ("float32", 0.5, "float32"),
        ("float32", np.float64(0.5), "float64"),
        ("float16", 3, "float16"),
        ("int64", np.array(5), "int64"),
    ],
)
def test_corr2d_bias(dtype: str, bias: object, wanted: str) -> None:
    result = fastconv.corr2d(np.full((3, 3), 2, dtype), np.ones((2, 2), dtype), bias)
    np.testing.assert_array_equal(result, np.full((2, 2), 8 + np.asarray(bias), wanted), strict=True)


def test_corr2d_bias_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="bias"):
        fastconv.corr2d(np.ones((3, 3), np.uint8), np.ones((2, 2), np.uint8), 2**40)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [3, 11, 31, 41])
def test_corr2d_of_a_nan_or_infinity(size: int, bad: float) -> None:
    x, kernel = values((120, 130), "float32"), values((size, size), "float32", 1)
    clean = fastconv.corr2d(x, kernel)
    x[50, 60] = bad
    result = fastconv.corr2d(x, kernel)
    seen = np.zeros(result.shape, bool)
    seen[max(0, 51 - size) : 51, max(0, 61 - size) : 61] = True
    assert not np.isfinite(result[seen]).any()
    np.testing.assert_allclose(result[~seen], clean[~seen], rtol=0, atol=1e-5 * np.abs(clean).max())


@pytest.mark.parametrize("algorithm", ["image", "dft", "fft2d", "fft"])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_filters_overflow_no_earlier_than_their_sums(algorithm: str, activation: str | None) -> None:
    x, weight = np.zeros((1, 1, 20, 25), np.float32), np.zeros((1, 1, 9, 9), np.float32)
    x[0, 0, 10, 12], weight[0, 0, 4, 4] = -3e38, 1  # a transform's sums of several such overflow, this one does not
    result = fastconv.conv2d(x, weight, padding=4, algorithm=algorithm, activation=activation)
    np.testing.assert_allclose(result, np.maximum(x, 0) if activation else x, rtol=0, atol=3e32)  # a millionth
    x[0, 0, 3, 3] = -np.inf
    result = fastconv.conv2d(x, np.ones_like(weight), padding=4, algorithm=algorithm, activation=activation)
    assert (result[0, 0, :8, :8] == (0 if activation else -np.inf)).all()
    assert (result[0, 0, 15:, 17:] == 0).all()


def forget_row_tiles():
    row_filter.blocking.cache_clear()
    row_filter._ready.cache_clear()


def test_row_tiles_of_every_shape(monkeypatch):
    """The planner may take any of them, each for some size of image."""
    rng, seen = np.random.default_rng(0), set()
    x = rng.standard_normal((1, 2, 44, 150)).astype(np.float32)
    weight = rng.standard_normal((3, 2, 3, 3)).astype(np.float32)
    expected, scale = reference.conv2d(x, weight, padding=1)
    try:
        for rows, halves in itertools.product(row_filter.ROWS, row_filter.HALVES):
            for name, value in (("ROWS", rows), ("HALVES", halves), ("EVEN_HALVES", halves)):
                monkeypatch.setattr(row_filter, name, (value,))
            forget_row_tiles()
            one = row_filter.plane(conv_spec(x.shape, weight.shape, (x.dtype, weight.dtype), padding=1))
            room = 16 if simd.registers() == 32 else 8
            if rows * -(-halves // 2) > room or (halves % 2 and simd.lanes(x.dtype) < 8):
                continue  # it has no room in the registers, or less than four lanes
            assert row_filter.blocking(one).shape[:2] == (rows, halves)
            assert_close(fastconv.conv2d(x, weight, padding=1, algorithm="image"), expected, scale)
            seen.add((rows, halves))
    finally:
        forget_row_tiles()
    assert len(seen) >= 8


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_which_row_tiles_there_are(dtype):
    """As `row_filter`'s kernel would find by looking at each."""
    rng, found = np.random.default_rng(0), set()
    for _ in range(400):
        ow, kw, stride, dilation, left = (int(rng.integers(1, most)) for most in (150, 9, 4, 3, 9))
        left -= 1
        extent = (ow - 1) * stride + (kw - 1) * dilation + 1
        w = max(1, extent - left - int(rng.integers(0, 9)))
        size = np.dtype(dtype), np.dtype(np.int32 if dtype == np.uint8 else dtype)
        one = row_filter.Plane(1, 50, w, 3, kw, 48, ow, (1, stride), (1, dilation), 0, *size)
        plan = row_filter.blocking(one)
        pixels, reach = plan.shape.pixels(simd.lanes(one.acc_dtype)), row_filter.reach(plan.shape, one)
        inside = set()
        for tile in range(plan.across):
            j = max(0, min(tile * pixels, ow - pixels))
            inside.add(j * stride >= left and j * stride - left + reach < w and j + pixels <= ow)
        assert row_filter.tiles(plan, one, left) == (True in inside, False in inside)
        found.add(frozenset(inside))
    assert len(found) == 3
