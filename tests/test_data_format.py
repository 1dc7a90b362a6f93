"""Channels last: results are those of channels first, with the axes moved, and lie in memory as they are asked for."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import reference
from cases import values

import fastconv
from fastconv import grad
from fastconv.cpu.shared.reorder import channels_first, transpose
from fastconv.specs.conv import conv_spec

pytestmark = pytest.mark.usefixtures("one_thread")

CONVOLUTIONS = {"NWC": fastconv.conv1d, "NHWC": fastconv.conv2d, "NDHWC": fastconv.conv3d}
PLANS = {"NWC": fastconv.plan_conv1d, "NHWC": fastconv.plan_conv2d, "NDHWC": fastconv.plan_conv3d}
POOLINGS: dict[str, Any] = {
    "max": fastconv.max_pool2d, "min": fastconv.min_pool2d, "avg": fastconv.avg_pool2d,
    "lp": lambda x, *args, **options: fastconv.lp_pool2d(x, 3.0, *args, **options),
}  # fmt: skip

#: Shapes of x, channels last, and of the weight, and options.
PROBLEMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "layer": ((2, 9, 8, 16), (20, 16, 3, 3), {"padding": 1}),
    "1x1": ((3, 7, 6, 5), (8, 5, 1, 1), {}),
    "everything": ((3, 13, 11, 4), (6, 2, 3, 2), {"padding": ((0, 5), (3, 1)), "stride": (2, 3), "dilation": (2, 3),
                                                  "groups": 2, "activation": "relu"}),
    "without a batch": ((7, 8, 3), (2, 3, 4, 2), {"padding": "same"}),
    "one channel in": ((2, 7, 8, 1), (3, 1, 3, 3), {"padding": 1}),
    "one channel out": ((2, 7, 8, 3), (1, 3, 3, 3), {}),
    "one pixel": ((2, 1, 1, 5), (4, 5, 1, 1), {}),
    "no images": ((0, 7, 8, 3), (2, 3, 3, 3), {}),
    "cropped": ((2, 7, 8, 3), (2, 3, 3, 3), {"padding": ((-1, 0), (2, -2))}),
    "many images": ((37, 30, 31, 3), (5, 3, 3, 3), {"padding": 1}),  # some of them at a time
    "reflected": ((2, 9, 8, 3), (4, 3, 3, 3), {"padding": 2, "padding_mode": "reflect"}),
    "signal": ((2, 30, 4), (6, 2, 3), {"padding": 5, "groups": 2}),
    "volume": ((2, 5, 6, 7, 4), (3, 4, 3, 2, 3), {"padding": (1, 1, 2), "padding_mode": "circular"}),
}  # fmt: skip


def problem(name: str, dtype: str = "float32") -> tuple[str, list[np.ndarray], dict[str, Any]]:
    """The format, x, weight and bias, and the options."""
    x, weight, options = PROBLEMS[name]
    arrays = [values(shape, dtype, seed) for seed, shape in enumerate((x, weight, weight[:1]))]
    return {3: "NWC", 4: "NHWC", 5: "NDHWC"}[len(weight)], arrays, options


def first(x: np.ndarray, axes: int = 2) -> np.ndarray:
    """A copy of channels last as channels first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, -1 - axes))


def last(x: np.ndarray, axes: int = 2) -> np.ndarray:
    return np.moveaxis(x, -1 - axes, -1)


@pytest.mark.parametrize("name", PROBLEMS)
def test_call_and_plan(name: str) -> None:
    data_format, (x, weight, bias), options = problem(name)
    axes = len(data_format) - 2
    expected = last(CONVOLUTIONS[data_format](first(x, axes), weight, bias, **options), axes)
    result = CONVOLUTIONS[data_format](x, weight, bias, **options, data_format=data_format)
    assert result.shape == expected.shape
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    plan = PLANS[data_format](x.shape, weight, bias, **options, data_format=data_format)
    assert plan.output_shape == expected.shape
    out = np.empty(plan.output_shape, np.float32)
    assert plan(x, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "int64", "float16", "float64"])
def test_dtypes(dtype: str) -> None:
    _, (x, weight, bias), options = problem("layer", dtype)
    result = fastconv.conv2d(x, weight, bias, **options, data_format="NHWC")
    expected, scale = reference.conv2d(first(x), weight, bias, **options)
    reference.assert_close(first(result), expected, scale)


@pytest.mark.parametrize("algorithm", ["direct", "winograd", "im2col", "im2col_blas", "fft", "naive"])
def test_algorithms(algorithm: str) -> None:
    _, (x, weight, bias), options = problem("layer")
    plan = fastconv.plan_conv2d(x.shape, weight, bias, **options, data_format="NHWC", algorithm=algorithm)
    assert plan.algorithm == algorithm
    expected, scale = reference.conv2d(first(x), weight, bias, **options)
    reference.assert_close(first(plan(x)), expected, scale)


def test_hostile_arrays() -> None:
    _, (x, weight, bias), options = problem("layer")
    expected = fastconv.conv2d(x, weight, bias, **options, data_format="NHWC")
    frozen, kept = x.copy(), x.copy()
    frozen.flags.writeable = False
    for given in (frozen, x[:, ::-1].copy()[:, ::-1], np.asfortranarray(x), x.astype(">f4"), last(first(x))):
        result = fastconv.conv2d(given, weight, bias, **options, data_format="NHWC")
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
        # the same memory as channels first, which other operations reorder, too
        moved = np.moveaxis(given, -1, 1)
        np.testing.assert_allclose(fastconv.conv2d(moved, weight, bias, **options), np.moveaxis(expected, -1, 1),
                                   rtol=1e-4, atol=1e-4)  # fmt: skip
        assert np.array_equal(fastconv.max_pool2d(moved, 2), np.moveaxis(fastconv.max_pool2d(
            given, 2, data_format="NHWC"), -1, 1))  # fmt: skip
    assert np.array_equal(x, kept)
    with pytest.raises(ValueError, match="out shares memory"):
        fastconv.conv2d(x, np.ones((16, 16, 1, 1), np.float32), data_format="NHWC", out=x)


@pytest.mark.parametrize(("function", "data_format", "allowed"), [
    (fastconv.conv2d, "NHCW", "'NCHW', 'NHWC'"), (fastconv.conv2d, None, "'NCHW', 'NHWC'"),
    (fastconv.conv1d, "NHWC", "'NCW', 'NWC'"), (fastconv.conv3d, ["NDHWC"], "'NCDHW', 'NDHWC'"),
    (fastconv.max_pool2d, "nhwc", "'NCHW', 'NHWC'"), (fastconv.avg_pool2d, 3, "'NCHW', 'NHWC'"),
    (fastconv.unfold2d, "NWC", "'NCHW', 'NHWC'"),
])  # fmt: skip
def test_wrong_formats(function: Any, data_format: Any, allowed: str) -> None:
    x = np.ones((1, 4, 4, 2))
    with pytest.raises(ValueError, match=f"data_format must be one of {allowed}, got"):
        function(x, *([np.ones((1, 2, 1, 1))] if "conv" in function.__name__ else [2]), data_format=data_format)


def test_wrong_shapes() -> None:
    weight = np.ones((1, 2, 3, 3))
    with pytest.raises(ValueError, match=r"x must have shape \(N, H, W, C\) or \(H, W, C\), got \(4, 2\)"):
        fastconv.conv2d(np.ones((4, 2)), weight, data_format="NHWC")
    with pytest.raises(ValueError, match="x has 4 channels"):
        fastconv.conv2d(np.ones((1, 2, 4, 4)), weight, data_format="NHWC")
    with pytest.raises(ValueError, match=r"x must have shape \(N, H, W, C\) or \(H, W, C\), got \(4, 2\)"):
        fastconv.max_pool2d(np.ones((4, 2)), 2, data_format="NHWC")
    with pytest.raises(ValueError, match="out has shape"):
        fastconv.max_pool2d(np.ones((1, 4, 4, 2)), 2, data_format="NHWC", out=np.empty((1, 2, 2, 3)))


def test_spec_and_pickle() -> None:
    _, (x, weight, bias), options = problem("layer")
    spec = conv_spec(x.shape, weight.shape, (x.dtype,), **options, channels_last=True)
    same = conv_spec(first(x).shape, weight.shape, (x.dtype,), **options)
    assert spec != same
    assert spec.extended == same
    assert spec.kernel_shapes == same.kernel_shapes
    assert "data_format NHWC" in str(spec)
    assert "data_format" not in str(same)
    plan = fastconv.plan_conv2d(x.shape, weight, bias, **options, data_format="NHWC")
    assert "data_format='NHWC'" in repr(plan)
    assert np.array_equal(pickle.loads(pickle.dumps(plan))(x), plan(x))


def test_compare_and_warmup() -> None:
    _, (x, weight, _), options = problem("layer")
    result = fastconv.compare(x, weight, **options, data_format="NHWC", threads=1, repeats=2)
    assert {row.algorithm for row in result.rows if row.reason is None} >= {"direct", "naive", "winograd"}
    fastconv.compare(x, op="max_pool2d", kernel_size=2, data_format="NHWC", threads=1, repeats=2)
    fastconv.warmup([fastconv.plan_conv2d(x.shape, weight, **options, data_format="NHWC")])


# -- poolings and windows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 9, 11, 5), (9, 11, 20), (0, 9, 11, 5), (1, 2, 2, 1)])
@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("options", [
    {"kernel_size": 2}, {"kernel_size": (1, 2), "stride": (2, 1), "padding": (0, 1)},
    {"kernel_size": 2, "stride": 1, "padding": "same"},
    {"kernel_size": 2, "padding": ((1, 0), (0, 1)), "ceil_mode": True},
    {"kernel_size": 1, "padding": ((-1, 0), (0, 0)), "dilation": 3},
])  # fmt: skip
def test_poolings(kind: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    x = values(shape, "float32")
    expected = last(POOLINGS[kind](first(x), **options))
    result = POOLINGS[kind](x, **options, data_format="NHWC")
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    out = np.empty(expected.shape, np.float32)
    assert POOLINGS[kind](x, **options, data_format="NHWC", out=out) is out
    assert np.array_equal(out, result)
    if kind in ("max", "min"):
        found, places = POOLINGS[kind](x, **options, data_format="NHWC", return_indices=True)
        assert np.array_equal(found, expected)
        assert np.array_equal(places, last(POOLINGS[kind](first(x), **options, return_indices=True)[1]))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "float16", "float64"])
def test_poolings_of_dtypes(dtype: str) -> None:
    x = values((2, 6, 5, 7), dtype)
    for kind in ("max", "avg"):
        result = POOLINGS[kind](x, 2, data_format="NHWC")
        expected = last(POOLINGS[kind](first(x), 2))
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result.astype(float), expected.astype(float), rtol=1e-3)


ANY_AXES: dict[str, Any] = {
    kind: {axes: getattr(fastconv, f"{kind}_pool{axes}d") for axes in (1, 3)} for kind in ("max", "min", "avg", "lp")
}  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 9, 5), (9, 20), (0, 9, 5), (2, 5, 6, 7, 3), (5, 6, 7, 17), (0, 5, 6, 7, 3)])
@pytest.mark.parametrize("kind", ANY_AXES)
@pytest.mark.parametrize("options", [
    {"kernel_size": 2}, {"kernel_size": 2, "stride": 1, "padding": "same"},
    {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}, {"kernel_size": 1, "dilation": 3},
    {"kernel_size": 2, "padding": [-1, 1], "stride": 2},
])  # fmt: skip
def test_poolings_of_signals_and_volumes(kind: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    axes = 1 if len(shape) < 4 else 3
    if isinstance(options.get("padding"), list):  # by side, which cuts pixels off
        options = options | {"padding": ((-1, 0), (1, 0), (0, -1))[:axes]}
    x, data_format = values(shape, "float32"), {1: "NWC", 3: "NDHWC"}[axes]
    pool: Any = ANY_AXES[kind][axes]
    args = (3.0,) if kind == "lp" else ()
    expected = last(pool(first(x, axes), *args, **options), axes)
    result = pool(x, *args, **options, data_format=data_format)
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    out = np.empty(expected.shape, np.float32)
    assert pool(x, *args, **options, data_format=data_format, out=out) is out
    assert np.array_equal(out, result)
    with pytest.raises(ValueError, match="out has shape"):
        pool(x, *args, **options, data_format=data_format, out=np.empty((1, *expected.shape), np.float32))
    if kind in ("max", "min"):
        found, places = pool(x, **options, data_format=data_format, return_indices=True)
        assert np.array_equal(found, expected)
        assert np.array_equal(places, last(pool(first(x, axes), **options, return_indices=True)[1], axes))


@pytest.mark.parametrize("shape", [(2, 9, 11, 5), (9, 11, 20), (0, 9, 11, 5)])
@pytest.mark.parametrize("size", [1, 4, (3, None), (20, 11)])
def test_adaptive_poolings(shape: tuple[int, ...], size: Any) -> None:
    x = values(shape, "float32")
    for pool in (fastconv.adaptive_avg_pool2d, fastconv.adaptive_max_pool2d):
        expected = last(pool(first(x), size))
        result = pool(x, size, data_format="NHWC")
        assert np.array_equal(result, expected)
        out = np.empty_like(result)
        assert pool(x, size, data_format="NHWC", out=out) is out
        assert np.array_equal(out, expected)
    places = fastconv.adaptive_max_pool2d(x, size, data_format="NHWC", return_indices=True)[1]
    assert np.array_equal(places, last(fastconv.adaptive_max_pool2d(first(x), size, return_indices=True)[1]))


@pytest.mark.parametrize("name", ["layer", "everything", "one channel in", "cropped", "no images", "reflected"])
def test_gradients_of_convolutions(name: str) -> None:
    _, (x, weight, _), options = problem(name)
    options = {key: value for key, value in options.items() if key != "activation"}
    signals = values(fastconv.conv2d(x, weight, **options, data_format="NHWC").shape, "float32", 7)
    result = grad.conv2d_input(x.shape, weight, signals, **options, data_format="NHWC")
    expected = last(grad.conv2d_input(first(x).shape, weight, first(signals), **options))
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    out = np.empty(x.shape, np.float32)
    assert grad.conv2d_input(x.shape, weight, signals, **options, data_format="NHWC", out=out) is out
    assert np.array_equal(out, result)
    np.testing.assert_allclose(grad.conv2d_weight(x, weight.shape, signals, **options, data_format="NHWC"),
                               grad.conv2d_weight(first(x), weight.shape, first(signals), **options),
                               rtol=1e-4, atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "int16"])
@pytest.mark.parametrize("kind", ["max", "min", "avg"])
@pytest.mark.parametrize("shape", [(2, 9, 11, 5), (9, 11, 20), (0, 9, 11, 5)])
def test_gradients_of_poolings(shape: tuple[int, ...], kind: str, dtype: str) -> None:
    for options in ({"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2, "padding": ((-1, 0), (0, 1))}):
        x, gradient = values(shape, dtype), getattr(grad, f"{kind}_pool2d")
        signals = values(POOLINGS[kind](x, **options, data_format="NHWC").shape, dtype, 7)
        result = gradient(x, signals, **options, data_format="NHWC")
        assert np.array_equal(result, last(gradient(first(x), first(signals), **options)))
        out = np.empty(x.shape, result.dtype)
        assert gradient(x, signals, **options, data_format="NHWC", out=out) is out
        assert np.array_equal(out, result)


def test_averages_count_what_they_should() -> None:
    x = np.ones((1, 3, 3, 2))
    for more in ({"count_include_pad": False}, {"divisor_override": 3}, {}):
        assert np.allclose(fastconv.avg_pool2d(x, 2, 1, 1, data_format="NHWC", **more),
                           last(fastconv.avg_pool2d(first(x), 2, 1, 1, **more)))  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 9, 11, 5), (9, 11, 3), (0, 9, 11, 5)])
@pytest.mark.parametrize("options", [
    {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (2, 3), "dilation": (2, 1)},
    {"kernel_size": 1, "padding": ((3, 0), (0, 4))}, {"kernel_size": 3, "padding": 12, "stride": 5},
])  # fmt: skip
def test_unfold(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    x = values(shape, "float32")
    channels = shape[-1]
    columns = fastconv.unfold2d(first(x), **options)
    lead, many = columns.shape[:-2], columns.shape[-1]
    expected = np.moveaxis(columns.reshape(*lead, channels, columns.shape[-2] // channels, many), -3, -1)
    expected = np.moveaxis(expected, -2, -3).reshape(*lead, many, columns.shape[-2])
    result = fastconv.unfold2d(x, **options, data_format="NHWC")
    assert np.array_equal(result, expected)
    out = np.full_like(result, np.nan)
    assert fastconv.unfold2d(x, **options, data_format="NHWC", out=out) is out
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("dtype", ["float32", "int16", "float16"])
@pytest.mark.parametrize("shape", [(2, 9, 11, 5), (9, 11, 3), (0, 9, 11, 5)])
@pytest.mark.parametrize("options", [
    {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (2, 3), "dilation": (2, 1)},
    {"kernel_size": 1, "padding": ((3, 0), (0, 4))}, {"kernel_size": 3, "padding": 12, "stride": 5},
])  # fmt: skip
def test_fold(shape: tuple[int, ...], options: dict[str, Any], dtype: str) -> None:
    rows = fastconv.unfold2d(values(shape, dtype), **options, data_format="NHWC")
    lead, many, channels = rows.shape[:-2], rows.shape[-2], shape[-1]
    taps = rows.shape[-1] // channels
    columns = np.moveaxis(rows.reshape(*lead, many, taps, channels), -3, -1)  # taps, channels, places
    columns = np.moveaxis(columns, -2, -3).reshape(*lead, channels * taps, many)
    expected = last(fastconv.fold2d(columns, shape[-3:-1], **options))
    result = fastconv.fold2d(rows, shape[-3:-1], **options, data_format="NHWC")
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=1e-5 if dtype == "float32" else 1e-3)
    out = np.empty_like(result)
    assert fastconv.fold2d(rows, shape[-3:-1], **options, data_format="NHWC", out=out) is out
    assert np.array_equal(out, result)


def test_wrong_rows() -> None:
    with pytest.raises(ValueError, match=r"columns must have shape \(N, L, KH \* KW \* C\) or"):
        fastconv.fold2d(np.ones((4, 7)), 5, 2, data_format="NHWC")
    with pytest.raises(ValueError, match=r"columns has shape \(4, 8\), but windows at 4x4 positions make \(16, 8\)"):
        fastconv.fold2d(np.ones((4, 8)), 5, 2, data_format="NHWC")


def test_rows_of_windows_make_a_convolution() -> None:
    _, (x, weight, _), options = problem("layer")
    rows = fastconv.unfold2d(x, 3, padding=1, data_format="NHWC")
    product = rows @ weight.transpose(2, 3, 1, 0).reshape(-1, 20)
    np.testing.assert_allclose(product.reshape(2, 9, 8, 20), fastconv.conv2d(x, weight, **options, data_format="NHWC"),
                               rtol=1e-4, atol=1e-4)  # fmt: skip


# -- reordering ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 17, 35), (3, 64, 64), (1, 3, 200), (1, 200, 3), (2, 1, 9)])
def test_transpose(shape: tuple[int, int, int], dtype: str) -> None:
    x = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    out = np.empty((shape[0], shape[2], shape[1]), dtype)
    transpose(x, out)
    assert np.array_equal(out, x.transpose(0, 2, 1))


def test_channels_first_takes_any_array() -> None:
    x = values((2, 6, 5, 7), "float32")
    kind = np.dtype(np.float32)
    assert channels_first(x, kind, 2) is x
    moved = np.moveaxis(x, -1, 1)
    for given in (moved, moved[0], moved.astype("f2", order="K"), moved.astype(">f4", order="K"), moved[:0], x[::-1],
                  x.T, x[0, 0]):  # fmt: skip
        made = channels_first(given, kind, 2)
        assert made.flags.carray
        assert made.dtype == kind
        assert np.array_equal(made, given.astype(np.float32))
