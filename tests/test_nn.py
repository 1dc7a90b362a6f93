"""fastconv.nn: every layer and loss against central differences; optimizers, initial values, files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastconv import nn

pytestmark = pytest.mark.usefixtures("one_thread")

WIDE = {"dtype": np.float64, "rng": 0}
LAYERS = {
    "Conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), ((1, 2), (0, 1)), (1, 2), 2, **WIDE), (2, 4, 7, 6)),
    "Conv2d same": (lambda: nn.Conv2d(2, 3, 2, padding="same", bias=False, **WIDE), (2, 2, 4, 5)),
    "Conv2d, an image": (lambda: nn.Conv2d(2, 5, 3, **WIDE), (2, 4, 9)),
    "Conv2d, an image with as many rows as channels": (lambda: nn.Conv2d(2, 4, 3, **WIDE), (2, 6, 7)),
    "Conv2d, an image of one row": (lambda: nn.Conv2d(2, 4, 3, **WIDE), (2, 3, 9)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, (2, 3), 1, (1, 0), 2, True, (1, 2), **WIDE), (2, 4, 3, 4)),
    "ConvTranspose2d, an image": (lambda: nn.ConvTranspose2d(2, 3, 3, 2, **WIDE), (2, 3, 4)),
    "ConvTranspose2d same": (lambda: nn.ConvTranspose2d(2, 3, (3, 1), (2, 3), "same", (1, 2), **WIDE), (2, 2, 4, 3)),
    "ConvTranspose2d same_lower": (lambda: nn.ConvTranspose2d(2, 1, 4, 3, "same_lower", 1, **WIDE), (1, 2, 2, 3)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 6, 7)),
    "AvgPool2d": (lambda: nn.AvgPool2d((3, 2), (2, 1), 1, True, False), (2, 3, 6, 7)),
    "MaxPool2d, an image": (lambda: nn.MaxPool2d(2), (3, 4, 4)),
    "AvgPool2d, an image": (lambda: nn.AvgPool2d(2), (3, 4, 4)),
    "Linear": (lambda: nn.Linear(5, 3, **WIDE), (4, 5)),
    "Sigmoid": (nn.Sigmoid, (3, 4)),
    "Tanh": (nn.Tanh, (3, 4)),
    "ReLU": (nn.ReLU, (3, 4)),
    "Layer": (nn.Layer, (3, 4)),
    "Flatten": (nn.Flatten, (2, 3, 2, 2)),
    "Sequential": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, **WIDE), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
                                         nn.Linear(8, 3, **WIDE)), (2, 1, 6, 6)),
}


#: Those whose inputs have an axis of a batch.
BATCHED = [name for name in LAYERS if "an image" not in name]


def differences(value, array: np.ndarray) -> np.ndarray:
    """The gradient of ``value()`` with respect to an array that it looks at, by central differences."""
    result = np.empty_like(array)
    for at in np.ndindex(array.shape):
        before = array[at]
        array[at] = before + 1e-5
        above = value()
        array[at] = before - 1e-5
        result[at] = (above - value()) / 2e-5
        array[at] = before
    return result


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_the_central_differences(name: str) -> None:
    make, shape = LAYERS[name]
    layer, rng = make(), np.random.default_rng(1)
    x = rng.permutation(np.linspace(-2, 2, np.prod(shape))).reshape(shape)  # no two close: maxima stay where they are
    signal = rng.standard_normal(layer(x).shape)

    def value() -> float:
        return float(np.sum(layer.forward(x) * signal))

    layer.forward(x)
    for_input = layer.backward(signal)
    found = [parameter.grad for parameter in layer.parameters()]
    assert_allclose(for_input, differences(value, x), rtol=1e-7, atol=1e-8)
    assert len(found) == len({id(parameter) for parameter in layer.parameters()})
    for parameter, grad in zip(layer.parameters(), found, strict=True):
        assert_allclose(grad, differences(value, parameter.value), rtol=1e-7, atol=1e-8)
    if found:
        layer.forward(x)
        assert layer.backward(signal, for_input=False) is None
        for parameter, grad in zip(layer.parameters(), found, strict=True):
            assert_array_equal(parameter.grad, grad)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", LAYERS)
def test_narrow_floats_stay_and_give_nearly_the_same(name: str, dtype: type) -> None:
    make, shape = LAYERS[name]
    wide, narrow, rng = make(), make(), np.random.default_rng(1)
    for parameter in (*wide.parameters(), *narrow.parameters()):
        parameter.value = parameter.value.astype(np.float16)
    for parameter in wide.parameters():
        parameter.value = parameter.value.astype(np.float64)
    for parameter in narrow.parameters():
        parameter.value = parameter.value.astype(dtype)
    x = rng.permutation(np.linspace(-2, 2, np.prod(shape))).astype(np.float16).reshape(shape)
    expected = wide.forward(x.astype(np.float64))
    signal = rng.standard_normal(expected.shape).astype(np.float16)
    found = [narrow.forward(x.astype(dtype)), narrow.backward(signal.astype(dtype))]
    found += [parameter.grad for parameter in narrow.parameters()]
    right = [expected, wide.backward(signal.astype(np.float64)), *(parameter.grad for parameter in wide.parameters())]
    for got, exact in zip(found, right, strict=True):
        assert got.dtype == dtype
        assert_allclose(got, exact, rtol=0, atol=8 * np.finfo(dtype).eps * max(1, np.abs(exact).max()))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, bool])
@pytest.mark.parametrize("name", LAYERS)
def test_integers_give_what_their_values_give(name: str, dtype: type) -> None:
    make, shape = LAYERS[name]
    x = (np.arange(np.prod(shape)) * 37 % 256).astype(dtype).reshape(shape)
    exact, layer = make(), make()
    expected, y = exact.forward(x.astype(np.float64)), layer.forward(x)
    assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    if name in ("Sigmoid", "Tanh", "ReLU"):
        assert y.dtype == np.float64
    signal = np.arange(y.size).reshape(y.shape) % 7 - 3
    assert_allclose(layer.backward(signal), exact.backward(signal.astype(np.float64)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BATCHED)
def test_empty_batches_pass(name: str) -> None:
    make, (n, *shape) = LAYERS[name]
    layer = make()
    full, empty = layer.forward(np.ones((n, *shape))), layer.forward(np.ones((0, *shape)))
    assert empty.shape == (0, *full.shape[1:])
    assert layer.backward(empty).shape == (0, *shape)
    for parameter in layer.parameters():
        assert_array_equal(parameter.grad, np.zeros_like(parameter.value), strict=True)


@pytest.mark.parametrize("name", LAYERS)
def test_backward_wants_a_forward_and_the_shape_of_its_output(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    message = f"{type(layer).__name__}.backward needs a forward"
    with pytest.raises(RuntimeError, match=message):
        layer.backward(np.ones(shape))
    y = layer.forward(np.ones(shape))
    for wrong in (np.ones(1), np.ones((*y.shape, 1)), 1.0):
        with pytest.raises(ValueError, match=r"grad must have the output's shape"):
            layer.backward(wrong)
    with pytest.raises(TypeError, match="x has dtype complex128"):
        layer.forward(np.ones(shape, complex))
    with pytest.raises(RuntimeError, match=message):  # of that, not of the one before
        layer.backward(y)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", [nn.MSELoss, nn.CrossEntropyLoss])
def test_losses(kind: type, reduction: str) -> None:
    rng = np.random.default_rng(0)
    x, loss = rng.standard_normal((4, 3)) * 5, kind(reduction)
    target = rng.standard_normal((4, 3)) if kind is nn.MSELoss else np.array([2, 0, 1, 2])
    value = loss.forward(x, target)
    if kind is nn.MSELoss:
        expected = ((x - target) ** 2).sum() / (12 if reduction == "mean" else 1)
    else:
        odds = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        expected = -np.log(odds[range(4), target]).sum() / (4 if reduction == "mean" else 1)
    assert value == pytest.approx(expected, rel=1e-12)
    assert_allclose(loss.backward(), differences(lambda: loss.forward(x, target), x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [nn.MSELoss, nn.CrossEntropyLoss])
def test_losses_of_nothing_and_backward_first(kind: type) -> None:
    """As in PyTorch: a mean of nothing is nan, a sum zero."""
    with pytest.raises(RuntimeError, match=f"{kind.__name__}.backward needs a forward"):
        kind().backward()
    x, target = np.ones((0, 3), np.float32), np.ones((0, 3)) if kind is nn.MSELoss else np.ones(0, int)
    for reduction, value in (("mean", np.nan), ("sum", 0)):
        loss = kind(reduction)
        assert_array_equal(loss.forward(x, target), value)
        assert_array_equal(loss.backward(), x, strict=True)
    with pytest.raises(TypeError, match="complex"):
        kind().forward(x.astype(complex), target)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, bool])
@pytest.mark.parametrize("kind", [nn.MSELoss, nn.CrossEntropyLoss])
def test_losses_of_integers_are_those_of_their_values(kind: type, dtype: type) -> None:
    x = np.array([[0, 100, 200], [255, 128, 3]]).astype(dtype)
    target = np.array([[0.5, 100, 300], [-0.5, 1, 3]]) if kind is nn.MSELoss else np.array([1, 2], np.uint64)
    found, exact = kind(), kind()
    assert found.forward(x, target) == exact.forward(x.astype(np.float64), target)
    assert_array_equal(found.backward(), exact.backward(), strict=True)


@pytest.mark.parametrize("kind", [nn.MSELoss, nn.CrossEntropyLoss])
def test_losses_of_float16_are_summed_in_float32(kind: type) -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((300, 1000)) * 3 + 300 * (kind is nn.MSELoss)).astype(np.float16)  # whose squares overflow
    target = np.zeros_like(x) if kind is nn.MSELoss else rng.integers(0, 1000, 300)
    for reduction in ("mean", "sum"):
        found, exact = kind(reduction), kind(reduction)
        assert found.forward(x, target) == pytest.approx(exact.forward(x.astype(np.float64), target), rel=1e-5)
        grad = found.backward()
        assert grad.dtype == np.float16
        assert_allclose(grad, exact.backward(), rtol=1e-3, atol=1e-7)


def test_a_bias_of_float16_is_summed_in_float32() -> None:
    for layer, x in ((nn.Linear(1, 3, dtype=np.float16), np.ones((4096, 1), np.float16)),
                     (nn.Conv2d(1, 3, 1, dtype=np.float16), np.ones((4096, 1, 1, 1), np.float16))):
        layer.backward(np.ones_like(layer.forward(x)))
        assert_array_equal(layer.bias.grad, [4096] * 3)  # added up in float16: 2048
        assert_array_equal(layer.weight.grad.ravel(), [4096] * 3)


def test_sigmoid_is_right_where_it_is_small() -> None:
    x = np.array([-80, -30, -5, 5, 30], np.float32)
    layer, right = nn.Sigmoid(), 1 / (1 + np.exp(-x.astype(np.float64)))
    assert_allclose(layer.forward(x), right, rtol=1e-6)
    assert_allclose(layer.backward(np.ones_like(x)), right * (1 - right), rtol=1e-4, atol=1e-12)


def test_cross_entropy_of_large_scores_does_not_overflow() -> None:
    loss = nn.CrossEntropyLoss()
    assert loss.forward(np.array([[1e4, 0.0]]), np.array([1])) == 1e4
    assert_array_equal(loss.backward(), [[1, -1]])
    assert_array_equal(nn.Sigmoid().forward(np.array([-1e30, 0, 1e30], np.float32)), [0, 0.5, 1])


def test_optimizers_take_the_steps_of_their_definitions() -> None:
    parameter = nn.Parameter(np.array([1.0, -2.0]))
    parameter.grad = np.array([0.5, 1.0])
    sgd = nn.SGD([parameter], lr=0.1, momentum=0.9)
    sgd.step()
    assert_allclose(parameter.value, [0.95, -2.1])
    sgd.step()
    assert_allclose(parameter.value, [0.95 - 0.095, -2.1 - 0.19])
    parameter = nn.Parameter(np.array([1.0, -2.0]))
    adam, mean, square, value = nn.Adam([parameter], lr=0.01), np.zeros(2), np.zeros(2), parameter.value.copy()
    for step in range(1, 4):
        parameter.grad = np.array([0.5, -3.0]) * step
        adam.step()
        mean, square = 0.9 * mean + 0.1 * parameter.grad, 0.999 * square + 0.001 * parameter.grad**2
        value -= 0.01 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        assert_allclose(parameter.value, value, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1, 1e4])
def test_optimizers_of_float16_neither_divide_by_zero_nor_stall(scale: float) -> None:
    """A float16 goes where a float64 goes, to its rounding: with gradients whose squares are zero or inf in float16,
    and steps that are less than half a unit of its last place."""
    for make in (lambda parameters: nn.Adam(parameters, lr=1e-4),
                 lambda parameters: nn.SGD(parameters, lr=1e-5 / scale, momentum=0.9)):
        narrow, wide = (nn.Parameter(np.array([1.0, -2, 0], dtype)) for dtype in (np.float16, np.float64))
        steps = [make([narrow]), make([wide])]
        for number in range(300):
            if number == 200:  # also from where somebody else put it
                for parameter in (narrow, wide):
                    parameter.value[1] = 3
            narrow.grad = (np.array([1, -0.5, 0]) * scale).astype(np.float16)
            wide.grad = narrow.grad.astype(np.float64)
            for step in steps:
                step.step()
        assert narrow.value.dtype == np.float16
        assert abs(wide.value[0] - 1) > 0.02
        assert_allclose(narrow.value, wide.value, rtol=1e-3)


def test_float16_learns() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype(np.float16)
    target = x @ np.array([[1], [-2], [0.5]], np.float16)
    model, loss = nn.Linear(3, 1, dtype=np.float16, rng=0), nn.MSELoss()
    optimizer = nn.Adam(model.parameters(), lr=1e-2)
    for _ in range(500):
        value = loss.forward(model.forward(x), target)
        model.backward(loss.backward(), for_input=False)
        optimizer.step()
    assert value < 1e-4


def test_initial_values_are_uniform_within_one_over_the_root_of_what_is_summed() -> None:
    for layer, fan_in in ((nn.Conv2d(8, 64, 5, groups=2, rng=0), 4 * 25), (nn.Linear(100, 64, rng=0), 100),
                          (nn.ConvTranspose2d(64, 8, 5, groups=2, rng=0), 4 * 25)):
        for parameter in layer.parameters():
            assert parameter.value.dtype == np.float32
            assert np.abs(parameter.value).max() <= 1 / np.sqrt(fan_in)
        assert layer.weight.value.std() == pytest.approx(1 / np.sqrt(3 * fan_in), rel=0.05)
    assert_array_equal(nn.Linear(3, 2, rng=5).weight.value, nn.Linear(3, 2, rng=5).weight.value)
    assert (nn.Linear(3, 2).weight.value != nn.Linear(3, 2).weight.value).any()


def small(width: int = 3, rng: int = 0, dtype: Any = np.float32) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, width, 3, dtype=dtype, rng=rng), nn.Flatten(),
                         nn.Linear(4 * width, 2, dtype=dtype, rng=rng))


@pytest.mark.parametrize("name", ["model.npz", "model", "model.of.today", Path("model"), io.BytesIO])
def test_saved_and_loaded(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, x = small(rng=0), small(rng=1, dtype=np.float64), np.ones((2, 1, 4, 4), np.float32)
    assert (first(x) != second(x)).any()
    file = name() if name is io.BytesIO else name
    first.save(file)
    if name is io.BytesIO:
        file.seek(0)
    else:
        assert [each.name for each in tmp_path.iterdir()] == [str(name)]
    second.load(file)
    assert_allclose(first(x), second(x), rtol=1e-5)
    assert all(parameter.value.dtype == np.float64 for parameter in second.parameters())


def arrays(**changed: Any) -> dict[str, Any]:
    return {f"parameter{number}": each.value for number, each in enumerate(small().parameters())} | changed


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: small(4).save(file), r"shapes \{'parameter0': \(4, 1, 3, 3\)"),
        (lambda file: np.savez(file, **arrays(parameter4=np.ones(2))), "'parameter4'"),
        (lambda file: np.savez(file, weights=np.ones(2)), "'weights'"),
        (lambda file: np.savez(file), "the model's have"),
        (lambda file: np.savez(file, **arrays(parameter1=np.ones(3, complex))), "real parameters, got .*complex128"),
        (lambda file: np.savez(file, **arrays(parameter1=np.array(["1", "2", "3"]))), "real parameters, got .*<U1"),
        (lambda file: np.savez(file, **arrays(parameter1=np.array([None] * 3))), "not one that save wrote: Object"),
        (lambda file: np.save(file, np.ones(3)), "not one that save wrote: File is not a zip file"),
        (lambda file: file.write(b"what is this?"), "not one that save wrote: File is not a zip file"),
        (lambda file: None, "not one that save wrote: File is not a zip file"),
        (lambda file: (small().save(file), file.seek(300), file.write(b"-" * 9)), "not one that save wrote"),
        (lambda file: (small().save(file), file.truncate(900)), "not one that save wrote"),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(write: Any, message: str, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        write(file)
    model = small()
    with pytest.raises(ValueError, match=f"^file .*{message}"):
        model.load(tmp_path / "file")
    for parameter, before in zip(model.parameters(), arrays().values(), strict=True):
        assert_array_equal(parameter.value, before, strict=True)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        small().load(tmp_path / "model")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 0), ValueError, "kernel_size"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "groups"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, output_padding=1), ValueError, "output_padding"),
        (lambda: nn.Linear(3, 4.5), TypeError, "out_features"),
        (lambda: nn.Linear(3, 4).forward(np.ones((2, 5))), ValueError, "x must have"),
        (lambda: nn.Linear(3, 4, dtype=int), TypeError, "dtype must be float16, float32 or float64, got int64"),
        (lambda: nn.Parameter(np.ones(3, complex)), TypeError, "value has dtype complex128"),
        (lambda: nn.MSELoss("none"), ValueError, "reduction"),
        (lambda: nn.MSELoss().forward(np.ones(3), np.ones(2)), ValueError, "target"),
        (lambda: nn.MSELoss().forward(np.ones(3), np.ones(3) * 1j), TypeError, "target"),
        (lambda: nn.CrossEntropyLoss().forward(np.ones(3), np.array(0)), ValueError, "scores must have shape"),
        (lambda: nn.CrossEntropyLoss().forward(np.ones((2, 3)), np.array([0, 3])), ValueError, "labels"),
        (lambda: nn.CrossEntropyLoss().forward(np.ones((2, 3)), np.array([0.0, 1.0])), ValueError, "labels"),
    ],
)
def test_what_does_not_fit_is_refused(call, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
