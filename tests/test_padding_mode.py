"""Padding that is not zeros: results are those of images that are padded first."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reference
from cases import values

import fastconv
from fastconv import grad, nn, wisdom
from fastconv.cpu import padded as padded_recipes
from fastconv.cpu import planner
from fastconv.planner import remember
from fastconv.specs.boundary import SCIPY, TORCH, Boundary, places, sources
from fastconv.specs.conv import conv_spec

pytestmark = pytest.mark.usefixtures("one_thread")

#: NumPy's names of the modes.
MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
CONVOLUTIONS = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}
PLANS = {1: fastconv.plan_conv1d, 2: fastconv.plan_conv2d, 3: fastconv.plan_conv3d}
F32 = np.dtype(np.float32)

#: Shapes of x and of the weight, and options.
PROBLEMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "layer": ((2, 4, 9, 8), (6, 4, 3, 3), {"padding": 1}),
    "everything": ((3, 4, 13, 11), (6, 2, 3, 2), {"padding": ((0, 5), (3, 1)), "stride": (2, 3), "dilation": (2, 3),
                                                  "groups": 2, "activation": "relu"}),
    "same": ((1, 3, 7, 8), (2, 3, 4, 2), {"padding": "same", "stride": 2}),
    "same_lower, without a batch": ((3, 7, 8), (2, 3, 4, 2), {"padding": "same_lower"}),
    "as large as the image": ((1, 2, 4, 5), (3, 2, 7, 9), {"padding": (3, 4)}),
    "windows that see only padding": ((1, 1, 9, 9), (1, 1, 2, 2), {"padding": 8, "stride": 5}),
    "padding that no window sees": ((1, 1, 9, 9), (1, 1, 3, 3), {"padding": ((0, 1), (0, 1)), "stride": 4}),
    "no images": ((0, 3, 7, 8), (2, 3, 3, 3), {"padding": 1}),
    "cropped": ((1, 2, 9, 12), (2, 2, 3, 3), {"padding": ((2, -1), (-3, 1))}),
    "filter": ((1, 1, 37, 44), (1, 1, 5, 3), {"padding": (2, 1)}),
    "filters, stride": ((2, 2, 25, 31), (4, 1, 5, 5), {"padding": ((4, 0), (1, 7)), "stride": (1, 2), "groups": 2}),
    "filter, unequal sides": ((1, 1, 26, 30), (1, 1, 9, 9), {"padding": ((3, 5), (6, 2)), "stride": (1, 4)}),
    "filter, one side": ((1, 1, 37, 44), (1, 1, 5, 5), {"padding": ((0, 3), (4, 0))}),
    "large window": ((1, 1, 90, 110), (1, 1, 19, 21), {"padding": (9, 10)}),
    "large image": ((1, 1, 1100, 1000), (1, 1, 3, 3), {"padding": 1}),  # has a rim by itself
    "signal": ((2, 4, 30), (6, 2, 3), {"padding": 5, "groups": 2, "dilation": 3}),
    "long signal": ((1, 1, 3000), (1, 1, 9), {"padding": ((8, 2),)}),
    "volume": ((2, 4, 5, 6, 7), (3, 4, 3, 2, 3), {"padding": (1, 1, 2), "stride": (1, 2, 1)}),
    "volume, one channel": ((1, 1, 10, 9, 12), (1, 1, 3, 3, 3), {"padding": ((1, 1), (2, 0), (1, 1))}),
}  # fmt: skip


@pytest.fixture(params=["extended", "rim"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way that is taken, whatever it costs. Recipes of each way are kept under a generation of their own."""
    monkeypatch.setattr(padded_recipes, "STRIPS_SECONDS", 1.0 if request.param == "extended" else -1.0)
    monkeypatch.setattr(remember, "generation", -1 if request.param == "extended" else -2)
    return request.param


def padded(x: np.ndarray, padding: Any, mode: str) -> np.ndarray:
    """The padded array, by NumPy; negative sides cut off first."""
    axes = len(padding)
    kept = tuple(slice(max(0, -before), size - max(0, -behind))
                 for (before, behind), size in zip(padding, x.shape[-axes:], strict=True))  # fmt: skip
    sides = [(0, 0)] * (x.ndim - axes) + [(max(0, before), max(0, behind)) for before, behind in padding]
    return np.pad(x[(..., *kept)], sides, MODES.get(mode, "constant"))


def explicit(x_shape: Any, weight_shape: Any, options: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The options without padding and activation, and the padding of each side."""
    axes = len(weight_shape) - 2
    stride, dilation = (reference.both(options.get(name, 1), axes) for name in ("stride", "dilation"))
    given = options.get("padding", 0)
    sides = reference.pads(given, x_shape[-axes:], weight_shape[2:], stride, dilation)
    return {"stride": stride, "dilation": dilation, "groups": options.get("groups", 1)}, sides


def right(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, mode: str, options: dict[str, Any]) -> Any:
    """The result, and its scale, by the oracle."""
    inner, sides = explicit(x.shape, weight.shape, options)
    x = padded(x, sides, mode)
    result, scale = reference.conv2d(x, weight, bias, **inner)
    return np.maximum(result, 0) if options.get("activation") else result, scale


def arrays(name: str, dtype: Any = np.float32) -> list[np.ndarray]:
    """x, weight and bias."""
    x, weight, _ = PROBLEMS[name]
    shapes = x, weight, weight[:1]
    return [values(shape, np.dtype(dtype).name, seed) for seed, shape in enumerate(shapes)]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_call_and_plan(name: str, mode: str) -> None:
    (x, weight, bias), options = arrays(name), PROBLEMS[name][2]
    axes = weight.ndim - 2
    expected, scale = right(x, weight, bias, mode, options)
    result = CONVOLUTIONS[axes](x, weight, bias, **options, padding_mode=mode)
    reference.assert_close(result, expected, scale)
    plan = PLANS[axes](x.shape, weight, bias, **options, padding_mode=mode)
    out = np.empty(plan.output_shape, np.float32)
    assert plan(x, out=out) is out
    reference.assert_close(out, expected, scale)
    assert np.array_equal(plan(x), out)


@pytest.mark.parametrize(("mode", "expected"), [
    ("zeros", [0, 0, 1, 2, 3, 0, 0]), ("reflect", [3, 2, 1, 2, 3, 2, 1]),
    ("replicate", [1, 1, 1, 2, 3, 3, 3]), ("circular", [2, 3, 1, 2, 3, 1, 2]),
])  # fmt: skip
def test_pytorchs_meaning(mode: str, expected: list[int]) -> None:
    # torch.nn.functional.pad(torch.tensor([[[1., 2, 3]]]), (2, 2), mode)
    result = fastconv.conv1d([[[1, 2, 3]]], [[[1]]], padding=2, padding_mode=mode)
    assert result.tolist() == [[expected]]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["everything", "filter"])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "int64", "float16", "float64"])
def test_dtypes(name: str, dtype: str) -> None:
    (x, weight, bias), options = arrays(name, dtype), PROBLEMS[name][2]
    expected, scale = right(x, weight, bias, "reflect", options)
    reference.assert_close(fastconv.conv2d(x, weight, bias, **options, padding_mode="reflect"), expected, scale)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["layer", "filter"])
@pytest.mark.parametrize("algorithm", fastconv.algorithms())
def test_algorithms(name: str, algorithm: str) -> None:
    (x, weight, bias), options = arrays(name), PROBLEMS[name][2]
    if algorithm == "pointwise":
        weight = weight[:, :, :1, :1].copy()
    if algorithm == "dense":
        x, weight = x[:, :, :3, :3].copy(), np.ones((2, x.shape[1], 5, 5), np.float32)
        bias, options = bias[[0, 0]], {"padding": 1}
    if algorithm in ("depthwise", "separable"):
        x, weight = np.repeat(x[:, :1], 2, 1), np.ones((2, 1, 5, 5), np.float32)
        bias, options = bias[[0, 0]], {"padding": 2, "groups": 2}
    expected, scale = right(x, weight, bias, "circular", options)
    inner, sides = explicit(x.shape, weight.shape, options)
    explicitly = conv_spec(padded(x, sides, "circular").shape, weight.shape, (F32,), **inner)
    if planner.reason(explicitly, algorithm) is not None:
        with pytest.raises(ValueError, match="cannot do this"):
            fastconv.plan_conv2d(x.shape, weight, bias, **options, padding_mode="circular", algorithm=algorithm)
        return
    plan = fastconv.plan_conv2d(x.shape, weight, bias, **options, padding_mode="circular", algorithm=algorithm)
    assert plan.algorithm == algorithm
    reference.assert_close(plan(x), expected, scale)


def test_large_images_are_not_copied() -> None:
    shape, weight = (1, 1, 1080, 1920), np.ones((1, 1, 3, 3), np.float32)
    for mode in MODES:
        plan = fastconv.plan_conv2d(shape, weight, padding=1, padding_mode=mode)
        zeros = fastconv.plan_conv2d(shape, weight, padding=1)
        assert plan.algorithm == zeros.algorithm
        assert plan.scratch_bytes < zeros.scratch_bytes + np.prod(shape) * 4 / 8
    small = fastconv.plan_conv2d((1, 64, 8, 8), np.ones((64, 64, 3, 3), np.float32), padding=1, padding_mode="reflect")
    assert small.scratch_bytes >= 64 * 10 * 10 * 4


def test_ways(way: str) -> None:
    plan = fastconv.plan_conv2d((1, 1, 64, 64), np.ones((1, 1, 3, 3)), padding=1, padding_mode="reflect",
                                algorithm="naive")  # fmt: skip
    assert (plan.scratch_bytes >= 66 * 66 * 8) == (way == "extended")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["layer", "filter", "large window"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_reach_those_that_see_them(name: str, mode: str, value: float) -> None:
    (x, weight, bias), options = arrays(name), PROBLEMS[name][2]
    x[..., 1, -1] = value
    weight = np.abs(weight) + 1
    inner, sides = explicit(x.shape, weight.shape, options)
    with np.errstate(invalid="ignore"):
        result = fastconv.conv2d(x, weight, bias, **options, padding_mode=mode)
    seen, _ = reference.conv2d(padded(~np.isfinite(x), sides, mode).astype(float), np.ones(weight.shape), **inner)
    assert np.array_equal(~np.isfinite(result), seen > 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["everything", "filter"])
def test_hostile_arrays(name: str) -> None:
    (x, weight, bias), options = arrays(name), {**PROBLEMS[name][2], "padding_mode": "reflect"}
    expected = fastconv.conv2d(x, weight, bias, **options)
    frozen, kept = x.copy(), x.copy()
    frozen.flags.writeable = False
    for given in (frozen, x[..., ::-1].copy()[..., ::-1], np.asfortranarray(x), x.astype(">f4"), x.tolist()):
        result = fastconv.conv2d(given, weight, bias, **options)
        assert result.dtype == (np.float64 if isinstance(given, list) else np.float32)
        assert np.allclose(result, expected, rtol=1e-4, atol=1e-4)
    assert np.array_equal(x, kept)
    with pytest.raises(ValueError, match="out shares memory"):
        fastconv.conv2d(x, np.ones((x.shape[1], 1, 3, 3), np.float32), padding=1, padding_mode="reflect",
                        groups=x.shape[1], out=x)  # fmt: skip


@pytest.mark.parametrize(("options", "message"), [
    ({"padding": 4, "padding_mode": "reflect"}, "at most 3 with padding_mode='reflect' on the vertical"),
    ({"padding": (0, 6), "padding_mode": "circular"}, "padding must be at most 5 .* horizontal axis of x"),
    ({"padding": 1, "padding_mode": "mirror"}, "must be one of 'zeros', 'reflect', 'replicate', 'circular'"),
    ({"padding_mode": None}, "padding_mode must be one of"),
    ({"padding": 1, "padding_mode": ["zeros"]}, "padding_mode must be one of"),
])  # fmt: skip
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    x, weight = np.ones((1, 2, 4, 5)), np.ones((1, 2, 1, 1))
    with pytest.raises(ValueError, match=message):
        fastconv.conv2d(x, weight, **options)
    with pytest.raises(ValueError, match=message.replace("of x", "of x_shape")):
        fastconv.plan_conv2d(x.shape, weight, **options)


def test_the_largest_paddings_and_beyond() -> None:
    x, weight = np.arange(12.0).reshape(1, 1, 3, 4), np.ones((1, 1, 1, 1))
    assert np.array_equal(fastconv.conv2d(x, weight, padding=(2, 3), padding_mode="reflect"),
                          np.pad(x, ((0, 0), (0, 0), (2, 2), (3, 3)), "reflect"))  # fmt: skip
    assert np.array_equal(fastconv.conv2d(x, weight, padding=(3, 4), padding_mode="circular"),
                          np.pad(x, ((0, 0), (0, 0), (3, 3), (4, 4)), "wrap"))  # fmt: skip
    assert fastconv.conv2d(x, weight, padding=(50, 0), padding_mode="replicate").shape == (1, 1, 103, 4)
    with pytest.raises(MemoryError, match="the padded input"):
        fastconv.conv2d(x, weight, padding=2**30, stride=2**30, padding_mode="replicate")
    assert fastconv.conv2d(x[:, :, :1], weight, padding=0, padding_mode="reflect").shape == (1, 1, 1, 4)


# -- gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["layer", "everything", "same", "same_lower, without a batch", "as large as the image",
                                  "windows that see only padding", "cropped", "no images", "filter"])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients(name: str, mode: str, dtype: str) -> None:
    """The adjoint identity: <g, conv(x, w)> = <conv2d_input(w, g), x> = <conv2d_weight(x, g), w>."""
    options = {key: value for key, value in PROBLEMS[name][2].items() if key != "activation"} | {"padding_mode": mode}
    x, weight, _ = arrays(name, dtype)
    y = fastconv.conv2d(x, weight, **options)
    g = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    for_input = grad.conv2d_input(x.shape, weight, g, **options)
    for_weight = grad.conv2d_weight(x, weight.shape, g, **options)
    assert for_input.shape == x.shape
    assert for_weight.shape == weight.shape
    assert for_input.dtype == for_weight.dtype == dtype
    tolerance = (np.abs(g) * np.abs(y)).sum(dtype=float) * (1e-12 if dtype == "float64" else 1e-4)
    total = np.vdot(g.astype(float), y)
    assert abs(total - np.vdot(for_input.astype(float), x)) <= tolerance
    assert abs(total - np.vdot(for_weight.astype(float), weight)) <= tolerance
    if x.size:
        unit = np.zeros_like(x)
        unit[..., 0, -1] = 1
        seen = np.vdot(g, fastconv.conv2d(unit, weight, **options))
        assert np.isclose(seen, for_input[..., 0, -1].sum(), atol=1e-4)
    inner, sides = explicit(x.shape, weight.shape, options)
    explicitly = grad.conv2d_weight(padded(x, sides, mode), weight.shape, g, **inner)
    assert np.allclose(for_weight, explicitly, rtol=1e-4, atol=1e-3 if dtype == "float32" else 1e-9)


@pytest.mark.parametrize("algorithm", fastconv.algorithms("conv2d_weight"))
def test_algorithms_of_the_weights_gradient(algorithm: str) -> None:
    x, weight, _ = arrays("layer")
    g = np.ones((2, 6, 9, 8), np.float32)
    result = grad.conv2d_weight(x, weight.shape, g, padding=1, padding_mode="circular", algorithm=algorithm)
    explicitly = grad.conv2d_weight(padded(x, ((1, 1), (1, 1)), "circular"), weight.shape, g)
    assert np.allclose(result, explicitly, rtol=1e-4, atol=1e-4)


def test_gradients_of_integers_and_float16() -> None:
    weight, g = np.array([[[[1, 2, 3]]]], np.int8), np.array([[[1, 10, 100]]], np.int8)
    result = grad.conv2d_input((1, 1, 3), weight, g, padding=(0, 1), padding_mode="circular")
    assert result.dtype == np.int32
    assert result.tolist() == [[[312, 123, 231]]]
    half = grad.conv2d_input((1, 1, 3), weight.astype(np.float16), g.astype(np.float16), padding=(0, 1),
                             padding_mode="circular", out=np.empty((1, 1, 3), np.float16))  # fmt: skip
    assert half.tolist() == [[[312, 123, 231]]]


def test_layer_learns() -> None:
    rng = np.random.default_rng(0)
    layer = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular", dtype=np.float64, rng=0)
    x, goal = rng.standard_normal((2, 2, 5, 6)), rng.standard_normal((2, 3, 5, 6))
    y = layer.forward(x)
    rolled = layer.forward(np.roll(x, (1, 2), (2, 3)))
    assert np.allclose(rolled, np.roll(y, (1, 2), (2, 3)))  # as nothing but a circular layer does
    layer.forward(x)
    for_input, step = layer.backward(goal), 1e-6
    x[0, 1, 0, 5] += step
    assert np.isclose(((layer.forward(x) - y) * goal).sum() / step, for_input[0, 1, 0, 5], rtol=1e-4)
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        nn.Conv2d(1, 1, 3, padding_mode="mirror")


# -- elsewhere -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("shape", [(9, 8), (30, 29)])
def test_corr2d(mode: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image, kernel = rng.standard_normal(shape), rng.standard_normal((3, 5))
    result = fastconv.corr2d(image, kernel, 2.0, padding=(1, 2), padding_mode=mode)
    assert np.allclose(result, fastconv.corr2d(np.pad(image, ((1, 1), (2, 2)), MODES[mode]), kernel, 2.0))
    with pytest.raises(ValueError, match=r"at most (8|9|29|30) with|must be one of"):
        fastconv.corr2d(image, kernel, padding=400, padding_mode=mode if mode != "replicate" else "edge")


def test_corr2d_pads_with_zeros() -> None:
    assert fastconv.corr2d([[1, 2]], [[1, 1]], padding=((0, 0), (1, 0))).tolist() == [[1, 3]]


def test_spec() -> None:
    zeros = conv_spec((1, 2, 8, 8), (2, 2, 3, 3), (F32,), padding=1)
    spec = conv_spec((1, 2, 8, 8), (2, 2, 3, 3), (F32,), padding=1, padding_mode="reflect")
    assert spec != zeros
    assert str(spec) == str(zeros) + ", padding_mode reflect"
    assert spec.output_shape == spec.extended.output_shape == zeros.output_shape
    assert spec.extended.x_shape == (1, 2, 10, 10)
    assert not spec.extended.padded
    assert pickle.loads(pickle.dumps(spec)) == spec
    # without padding there is nothing to tell apart
    assert conv_spec((1, 2, 8, 8), (2, 2, 3, 3), (F32,), padding_mode="reflect").padding_mode == "zeros"


def test_pickled_plan() -> None:
    x, weight, _ = arrays("layer")
    plan = fastconv.plan_conv2d(x.shape, weight, padding=1, padding_mode="replicate")
    assert "padding_mode='replicate'" in repr(plan)
    assert np.array_equal(pickle.loads(pickle.dumps(plan))(x), plan(x))


@pytest.fixture
def nothing_known() -> Iterator[None]:
    wisdom.forget_wisdom()
    yield
    wisdom.forget_wisdom()


@pytest.mark.usefixtures("nothing_known")
def test_measured_choice_is_remembered() -> None:
    x, weight, _ = arrays("layer")
    options: dict[str, Any] = {"padding": 1, "padding_mode": "reflect"}
    plan = fastconv.plan_conv2d(x.shape, weight, **options, measure=True)
    known = remember.recall(plan.problem, fastconv.get_num_threads())
    assert known == plan.algorithm == fastconv.plan_conv2d(x.shape, weight, **options).algorithm
    remember.keep({"problem": str(plan.problem), "threads": fastconv.get_num_threads(), "algorithm": "naive",
                   "seconds": {"naive": 1e-9}})  # fmt: skip
    assert fastconv.plan_conv2d(x.shape, weight, **options).algorithm == "naive"
    assert fastconv.plan_conv2d(x.shape, weight, padding=1).algorithm != "naive"


def test_compare_and_warmup() -> None:
    x, weight, _ = arrays("layer")
    result = fastconv.compare(x, weight, padding=1, padding_mode="reflect", threads=1, repeats=2)
    assert "padding_mode reflect" in result.problem
    assert {row.algorithm for row in result.rows if row.reason is None} >= {"direct", "naive", "im2col"}
    fastconv.warmup([fastconv.plan_conv2d(x.shape, weight, padding=1, padding_mode="reflect")])


@pytest.mark.parametrize("boundary", [one for one in Boundary if one is not Boundary.CONSTANT])
def test_places(boundary: Boundary) -> None:
    for size in (1, 2, 5):
        table = sources(boundary, size, 13, 17)
        parts = places(boundary, size, -13, -4), places(boundary, size, -4, size + 17)
        assert np.array_equal(np.concatenate(parts), table)
    mode = next(name for name, one in SCIPY.items() if one is boundary)
    numpys = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}[mode]
    assert np.array_equal(np.pad(np.arange(5), (13, 17), numpys), sources(boundary, 5, 13, 17))
    assert boundary in {*TORCH.values(), Boundary.REFLECT}
