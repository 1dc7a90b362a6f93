"""fastconv.nn: every layer and loss against central differences; optimizers, initial values, files."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastconv import nn

pytestmark = pytest.mark.usefixtures("one_thread")

WIDE = {"dtype": np.float64, "rng": 0}
LAYERS = {
    "Conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), ((1, 2), (0, 1)), (1, 2), 2, **WIDE), (2, 4, 7, 6)),
    "Conv2d same": (lambda: nn.Conv2d(2, 3, 2, padding="same", bias=False, **WIDE), (2, 2, 4, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, (2, 3), 1, (1, 0), 2, True, (1, 2), **WIDE), (2, 4, 3, 4)),
    "ConvTranspose2d same": (lambda: nn.ConvTranspose2d(2, 3, (3, 1), (2, 3), "same", (1, 2), **WIDE), (2, 2, 4, 3)),
    "ConvTranspose2d same_lower": (lambda: nn.ConvTranspose2d(2, 1, 4, 3, "same_lower", 1, **WIDE), (1, 2, 2, 3)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 6, 7)),
    "AvgPool2d": (lambda: nn.AvgPool2d((3, 2), (2, 1), 1, True, False), (2, 3, 6, 7)),
    "Linear": (lambda: nn.Linear(5, 3, **WIDE), (4, 5)),
    "Sigmoid": (nn.Sigmoid, (3, 4)),
    "Tanh": (nn.Tanh, (3, 4)),
    "ReLU": (nn.ReLU, (3, 4)),
    "Flatten": (nn.Flatten, (2, 3, 2, 2)),
    "Sequential": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, **WIDE), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
                                         nn.Linear(8, 3, **WIDE)), (2, 1, 6, 6)),
}


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


def test_initial_values_are_uniform_within_one_over_the_root_of_what_is_summed() -> None:
    for layer, fan_in in ((nn.Conv2d(8, 64, 5, groups=2, rng=0), 4 * 25), (nn.Linear(100, 64, rng=0), 100),
                          (nn.ConvTranspose2d(64, 8, 5, groups=2, rng=0), 4 * 25)):
        for parameter in layer.parameters():
            assert parameter.value.dtype == np.float32
            assert np.abs(parameter.value).max() <= 1 / np.sqrt(fan_in)
        assert layer.weight.value.std() == pytest.approx(1 / np.sqrt(3 * fan_in), rel=0.05)
    assert_array_equal(nn.Linear(3, 2, rng=5).weight.value, nn.Linear(3, 2, rng=5).weight.value)
    assert (nn.Linear(3, 2).weight.value != nn.Linear(3, 2).weight.value).any()


def test_saved_and_loaded(tmp_path) -> None:
    def model(width: int, rng: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(1, width, 3, rng=rng), nn.Flatten(), nn.Linear(4 * width, 2, rng=rng))

    first, second, x = model(3, 0), model(3, 1), np.ones((2, 1, 4, 4), np.float32)
    first.save(tmp_path / "model.npz")
    assert (first(x) != second(x)).any()
    second.load(tmp_path / "model.npz")
    assert_array_equal(first(x), second(x))
    other = model(4, 2)
    before = other[0].weight.value.copy()
    with pytest.raises(ValueError, match="file has parameters"):
        other.load(tmp_path / "model.npz")
    assert_array_equal(other[0].weight.value, before)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 0), ValueError, "kernel_size"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "groups"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, output_padding=1), ValueError, "output_padding"),
        (lambda: nn.Linear(3, 4.5), TypeError, "out_features"),
        (lambda: nn.Linear(3, 4).forward(np.ones((2, 5))), ValueError, "x must have"),
        (lambda: nn.Linear(3, 4).backward(np.ones((2, 4))), RuntimeError, "forward"),
        (lambda: nn.MSELoss("none"), ValueError, "reduction"),
        (lambda: nn.MSELoss().forward(np.ones(3), np.ones(2)), ValueError, "target"),
        (lambda: nn.CrossEntropyLoss().forward(np.ones((2, 3)), np.array([0, 3])), ValueError, "labels"),
        (lambda: nn.CrossEntropyLoss().forward(np.ones((2, 3)), np.array([0.0, 1.0])), ValueError, "labels"),
    ],
)
def test_what_does_not_fit_is_refused(call, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
