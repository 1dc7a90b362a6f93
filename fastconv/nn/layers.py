"""Layers to learn with: each has a `forward` and a `backward`, and NumPy arrays go in and out.

::

    model = Sequential(Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool2d(2), Flatten(), Linear(6 * 14 * 14, 10))
    loss, optimizer = CrossEntropyLoss(), SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, labels in batches:
        value = loss.forward(model.forward(x), labels)
        model.backward(loss.backward())
        optimizer.step()

`backward` takes the gradient of the loss with respect to what `forward` returned, gives the one with respect to its
input, and leaves those of the parameters in their `grad` (it replaces what was there). There is no graph: a layer
remembers what its last `forward` saw, so a layer stands in one place of one model.

Names, defaults and initial values are those of `torch.nn`; arrays are float32 unless `dtype` says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import grad as gradients
from ..functional.avg_pool import avg_pool2d
from ..functional.conv import conv2d
from ..functional.conv_transpose import conv_transpose2d
from ..functional.max_pool import max_pool2d
from ..specs.arguments import integer, pair
from ..specs.conv_transpose import transpose_spec
from .training import SGD, Adam, CrossEntropyLoss, MSELoss, Parameter

__all__ = [
    "SGD",
    "Adam",
    "AvgPool2d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Flatten",
    "Layer",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
]


class Layer:
    """What all layers are; on its own the layer that does nothing."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The layer's output."""
        return x

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> Any:
        """The gradient for the input, from the one for the output of the last `forward`.

        Without `for_input` only the parameters' gradients are needed; a layer may then return None.
        """
        return grad

    def parameters(self) -> list[Parameter]:
        """What the layer learns."""
        return []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x)


def _uniform(shape: tuple[int, ...], fan_in: int, rng: np.random.Generator, dtype: Any) -> Parameter:
    """Uniform within one over the root of what an output sums over, as PyTorch begins."""
    bound = 1 / math.sqrt(fan_in)
    return Parameter(rng.uniform(-bound, bound, shape).astype(dtype))


def _per_channel(grad: np.ndarray) -> np.ndarray:
    """The gradient for a bias."""
    return grad.reshape(*grad.shape[:2], -1).sum(axis=2).sum(axis=0)


class _WithWeight(Layer):
    """A weight, and perhaps a bias for each output; `_x` is what the last `forward` saw."""

    def __init__(
        self, shape: tuple[int, ...], fan_in: int, outputs: int, bias: bool, dtype: Any, rng: Any
    ) -> None:
        rng = np.random.default_rng(rng)
        self.weight = _uniform(shape, fan_in, rng, dtype)
        self.bias = _uniform((outputs,), fan_in, rng, dtype) if bias else None
        self._x: np.ndarray | None = None

    def parameters(self) -> list[Parameter]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    @property
    def _offset(self) -> np.ndarray | None:
        return None if self.bias is None else self.bias.value

    @property
    def _seen(self) -> np.ndarray:
        if self._x is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward before it")
        return self._x


def _kernels(kernel_size: Any, groups: int, **channels: int) -> tuple[int, ...]:
    """Shape of the kernels for two numbers of channels, of which `groups` split the second."""
    (first, many), (second, split) = channels.items()
    if integer(second, split, 1) % integer("groups", groups, 1):
        raise ValueError(f"groups must divide {second}, got {groups} and {split}")
    return integer(first, many, 1), split // groups, *pair("kernel_size", kernel_size, 1)


class Conv2d(_WithWeight):
    """Convolution; see `fastconv.conv2d`. `rng` seeds the initial weights, as in `numpy.random.default_rng`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        self.options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        shape = _kernels(kernel_size, groups, out_channels=out_channels, in_channels=in_channels)
        super().__init__(shape, math.prod(shape[1:]), out_channels, bias, dtype, rng)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._x = x
        return conv2d(x, self.weight.value, self._offset, **self.options)

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> Any:
        x, weight = self._seen, self.weight
        weight.grad = gradients.conv2d_weight(x, weight.value.shape, grad, **self.options)
        if self.bias is not None:
            self.bias.grad = _per_channel(grad)
        return gradients.conv2d_input(x.shape, weight.value, grad, **self.options) if for_input else None


class ConvTranspose2d(_WithWeight):
    """Transposed convolution; see `fastconv.conv_transpose2d`. `output_padding` stays below the stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        *,
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        self.options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.output_padding = pair("output_padding", output_padding, 0)
        if any(extra >= step for extra, step in zip(self.output_padding, pair("stride", stride, 1), strict=True)):
            raise ValueError(f"output_padding must be below the stride, got {output_padding} and {stride}")
        shape = _kernels(kernel_size, groups, in_channels=in_channels, out_channels=out_channels)
        super().__init__(shape, math.prod(shape[1:]), out_channels, bias, dtype, rng)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._x = x
        return conv_transpose2d(x, self.weight.value, self._offset, output_padding=self.output_padding, **self.options)

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> Any:
        # The layer is the transpose of a convolution, so for its gradients input and output change places.
        x, weight = self._seen, self.weight
        stride, padding, dilation, groups = self.options.values()
        geometry = stride, padding, self.output_padding, dilation, None
        cut = transpose_spec(2, x.shape, x.dtype, weight.value, None, geometry, groups).convolution.padding
        options = self.options | {"padding": cut}  # "same" of a convolution knows no output_padding
        weight.grad = gradients.conv2d_weight(grad, weight.value.shape, x, **options)
        if self.bias is not None:
            self.bias.grad = _per_channel(grad)
        return conv2d(grad, weight.value, **options) if for_input else None


class Linear(_WithWeight):
    """``x @ weight.T + bias`` for x of shape (N, in_features)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = np.float32, rng: Any = None
    ) -> None:
        shape = integer("out_features", out_features, 1), integer("in_features", in_features, 1)
        super().__init__(shape, in_features, out_features, bias, dtype, rng)

    def forward(self, x: np.ndarray) -> np.ndarray:
        if x.ndim != 2 or x.shape[1] != self.weight.value.shape[1]:
            raise ValueError(f"x must have shape (N, {self.weight.value.shape[1]}), got {x.shape}")
        self._x = x
        product = x @ self.weight.value.T
        if self.bias is not None:
            product += self.bias.value
        return product

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> Any:
        self.weight.grad = grad.T @ self._seen
        if self.bias is not None:
            self.bias.grad = grad.sum(axis=0)
        return grad @ self.weight.value if for_input else None


class MaxPool2d(Layer):
    """Maximum over windows; see `fastconv.max_pool2d`."""

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        self.window = kernel_size, stride, padding, dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._x = x
        return max_pool2d(x, *self.window, ceil_mode=self.ceil_mode)

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> np.ndarray:
        return gradients.max_pool2d(self._x, grad, *self.window, ceil_mode=self.ceil_mode)


class AvgPool2d(Layer):
    """Mean over windows; see `fastconv.avg_pool2d`."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.window = kernel_size, stride, padding
        self.options: dict[str, Any] = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        self.options["divisor_override"] = divisor_override

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._x = x
        return avg_pool2d(x, *self.window, **self.options)

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> np.ndarray:
        return gradients.avg_pool2d(self._x, grad, *self.window, **self.options)


class Sigmoid(Layer):
    """``1 / (1 + exp(-x))``."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._y = np.tanh(x / 2) / 2 + x.dtype.type(0.5)  # which, unlike the definition, overflows nowhere
        return self._y

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> np.ndarray:
        return grad * (self._y - self._y * self._y)


class Tanh(Layer):
    """The hyperbolic tangent."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._y = np.tanh(x)
        return self._y

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> np.ndarray:
        return grad * (1 - self._y * self._y)


class ReLU(Layer):
    """``max(x, 0)``."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._y = np.maximum(x, 0)
        return self._y

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> np.ndarray:
        return grad * (self._y > 0)


class Flatten(Layer):
    """All axes but the first in one."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> np.ndarray:
        return grad.reshape(self._shape)


class Sequential(Layer):
    """Layers, one after the other; they can be counted, indexed and looped over."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad: np.ndarray, *, for_input: bool = True) -> Any:
        for layer in reversed(self.layers):
            grad = layer.backward(grad, for_input=for_input or layer is not self.layers[0])
        return grad

    def parameters(self) -> list[Parameter]:
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def save(self, file: Any) -> None:
        """Write the parameters, in order, to a ``.npz`` file: a name or something open for writing."""
        values = {f"parameter{number}": each.value for number, each in enumerate(self.parameters())}
        np.savez(file, **values)  # type: ignore[arg-type] # none of these names is that of its flag

    def load(self, file: Any) -> None:
        """Read them again, into a model of the same layers; ValueError, with nothing changed, if they do not fit."""
        with np.load(file, allow_pickle=False) as stored:
            values = [stored[f"parameter{number}"] for number in range(len(stored.files))]
        own = self.parameters()
        if [value.shape for value in values] != [parameter.value.shape for parameter in own]:
            raise ValueError(f"file has parameters of shapes {[value.shape for value in values]}, but the model's have "
                             f"{[parameter.value.shape for parameter in own]}")
        for parameter, value in zip(own, values, strict=True):
            parameter.value = value.astype(parameter.value.dtype)
