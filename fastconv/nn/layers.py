"""Layers, each with a `forward` and a `backward`."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import grad as gradients
from ..functional.avg_pool import avg_pool2d
from ..functional.conv import conv2d
from ..functional.conv_transpose import conv_transpose2d
from ..functional.max_pool import max_pool2d
from ..specs.arguments import integer, pair
from ..specs.arrays import array
from ..specs.boundary import TORCH, named
from ..specs.conv_transpose import transpose_spec
from ..specs.dtypes import computed
from ..typing import Padding, PaddingMode, PerAxis
from .training import Parameter, Remembering, floats

#: A seed, as `numpy.random.default_rng` takes it.
Seed: TypeAlias = int | Sequence[int] | np.random.SeedSequence | np.random.BitGenerator | np.random.Generator | None
#: A file's name, or a file that is open in binary mode.
File: TypeAlias = str | bytes | os.PathLike[str] | IO[bytes]


class Layer(Remembering):
    """The base of all layers; on its own it is the layer that does nothing."""

    def forward(self, x: ArrayLike) -> NDArray[Any]:
        """The layer's output."""
        self._memory = None
        output, needed = self._output(array("x", x))
        self._memory = output.shape, needed
        return output

    def backward(self, grad: ArrayLike, *, for_input: bool = True) -> Any:
        """The gradient for the input, from the one for the output of the last `forward`.

        Without `for_input` only the parameters' gradients are needed; a layer may then return None.
        """
        shape, needed = self._remembered()
        grad = floats("grad", grad)
        if grad.shape != shape:
            raise ValueError(f"grad must have the output's shape {shape}, got {grad.shape}")
        return self._gradient(grad, needed, for_input)

    def parameters(self) -> list[Parameter]:
        """The arrays that the layer learns."""
        return []

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        return self.forward(x)

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        """The output, and what `_gradient` needs of it."""
        return x, None

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        """The gradient that `backward` returns."""
        return grad


def _uniform(shape: tuple[int, ...], fan_in: int, rng: np.random.Generator, dtype: Any) -> Parameter:
    """Uniform within one over the root of what an output sums over, as PyTorch begins."""
    bound = 1 / math.sqrt(fan_in)
    return Parameter(rng.uniform(-bound, bound, shape).astype(dtype))


class _WithWeight(Layer):
    """A weight, and perhaps a bias for each index of the output's axis `_axis`."""

    _axis = -3

    def __init__(
        self, shape: tuple[int, ...], fan_in: int, outputs: int, bias: bool, dtype: Any, rng: Any
    ) -> None:
        rng = np.random.default_rng(rng)
        self.weight = _uniform(shape, fan_in, rng, dtype)
        self.bias = _uniform((outputs,), fan_in, rng, dtype) if bias else None

    def parameters(self) -> list[Parameter]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    @property
    def _offset(self) -> np.ndarray | None:
        return None if self.bias is None else self.bias.value

    def _learn(self, for_weight: np.ndarray, grad: np.ndarray) -> None:
        """Leave the parameters' gradients: the bias's is a sum of the output's `grad`."""
        self.weight.grad = for_weight
        if self.bias is not None:
            others = tuple([axis for axis in range(-grad.ndim, 0) if axis != self._axis])
            self.bias.grad = grad.sum(others, computed(grad.dtype)).astype(grad.dtype, copy=False)


def _kernels(kernel_size: PerAxis, groups: int, **channels: int) -> tuple[int, ...]:
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
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        *,
        dtype: DTypeLike = np.float32,
        rng: Seed = None,
    ) -> None:
        self.options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        named("padding_mode", padding_mode, TORCH)
        self.options["padding_mode"] = padding_mode
        shape = _kernels(kernel_size, groups, out_channels=out_channels, in_channels=in_channels)
        super().__init__(shape, math.prod(shape[1:]), out_channels, bias, dtype, rng)

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        return conv2d(x, self.weight.value, self._offset, **self.options), x

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        x, weight = needed, self.weight.value
        self._learn(gradients.conv2d_weight(x, weight.shape, grad, **self.options), grad)
        return gradients.conv2d_input(x.shape, weight, grad, **self.options) if for_input else None


class ConvTranspose2d(_WithWeight):
    """Transposed convolution; see `fastconv.conv_transpose2d`. `output_padding` stays below the stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: Padding = 0,
        output_padding: PerAxis = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: PerAxis = 1,
        *,
        dtype: DTypeLike = np.float32,
        rng: Seed = None,
    ) -> None:
        self.options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.output_padding = pair("output_padding", output_padding, 0)
        if any(extra >= step for extra, step in zip(self.output_padding, pair("stride", stride, 1), strict=True)):
            raise ValueError(f"output_padding must be below the stride, got {output_padding} and {stride}")
        shape = _kernels(kernel_size, groups, in_channels=in_channels, out_channels=out_channels)
        super().__init__(shape, math.prod(shape[1:]), out_channels, bias, dtype, rng)

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        options: dict[str, Any] = self.options | {"output_padding": self.output_padding}
        return conv_transpose2d(x, self.weight.value, self._offset, **options), x

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        # The layer is the transpose of a convolution, so for its gradients input and output change places.
        x, weight = needed, self.weight.value
        options: dict[str, Any] = self.options
        geometry = options["stride"], options["padding"], self.output_padding, options["dilation"], None
        spec = transpose_spec(2, x.shape, x.dtype, weight, None, geometry, options["groups"])
        options = options | {"padding": spec.convolution.padding}  # in numbers: "same" goes by the input's size
        self._learn(gradients.conv2d_weight(grad, weight.shape, x, **options), grad)
        return conv2d(grad, weight, **options) if for_input else None


class Linear(_WithWeight):
    """``x @ weight.T + bias`` for x of shape (N, in_features)."""

    _axis = -1

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: DTypeLike = np.float32, rng: Seed = None
    ) -> None:
        shape = integer("out_features", out_features, 1), integer("in_features", in_features, 1)
        super().__init__(shape, in_features, out_features, bias, dtype, rng)

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        if x.ndim != 2 or x.shape[1] != self.weight.value.shape[1]:
            raise ValueError(f"x must have shape (N, {self.weight.value.shape[1]}), got {x.shape}")
        product = x @ self.weight.value.T
        if self.bias is not None:
            product += self.bias.value
        return product, x

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        self._learn(grad.T @ needed, grad)
        return grad @ self.weight.value if for_input else None


class MaxPool2d(Layer):
    """Maximum over windows; see `fastconv.max_pool2d`."""

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        ceil_mode: bool = False,
    ) -> None:
        self.window = kernel_size, stride, padding, dilation
        self.ceil_mode = ceil_mode

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        return max_pool2d(x, *self.window, ceil_mode=self.ceil_mode), x

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        return gradients.max_pool2d(needed, grad, *self.window, ceil_mode=self.ceil_mode)


class AvgPool2d(Layer):
    """Mean over windows; see `fastconv.avg_pool2d`."""

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.window = kernel_size, stride, padding
        self.options: dict[str, Any] = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        self.options["divisor_override"] = divisor_override

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        return avg_pool2d(x, *self.window, **self.options), x

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        return gradients.avg_pool2d(needed, grad, *self.window, **self.options)


class Sigmoid(Layer):
    """``1 / (1 + exp(-x))``."""

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        with np.errstate(over="ignore"):  # one over infinity is right
            y = 1 / (1 + np.exp(-floats("x", x)))
        return y, y

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        return grad * (1 - needed) * needed


class Tanh(Layer):
    """The hyperbolic tangent."""

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        y = np.tanh(floats("x", x))
        return y, y

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        return grad * (1 - needed * needed)


class ReLU(Layer):
    """``max(x, 0)``."""

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        y = np.maximum(floats("x", x), 0)
        return y, y

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        return grad * (needed > 0)


class Flatten(Layer):
    """All axes but the first in one."""

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        return x.reshape(len(x), math.prod(x.shape[1:])), x.shape

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        return grad.reshape(needed)


def _opened(file: File, mode: str) -> Any:
    """A context of the file of that name, or of one that is open and stays so."""
    return open(file, mode) if isinstance(file, (str, bytes, os.PathLike)) else contextlib.nullcontext(file)


class Sequential(Layer):
    """Layers, one after the other; they can be counted, indexed and looped over."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def _output(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        for layer in self.layers:
            x = layer.forward(x)
        return x, None

    def _gradient(self, grad: np.ndarray, needed: Any, for_input: bool) -> Any:
        for layer in reversed(self.layers):
            grad = layer.backward(grad, for_input=for_input or layer is not self.layers[0])
        return grad

    def parameters(self) -> list[Parameter]:
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def _named(self) -> dict[str, Parameter]:
        """The parameters by their names in a file."""
        return {f"parameter{number}": each for number, each in enumerate(self.parameters())}

    def save(self, file: File) -> None:
        """Write the parameters as `numpy.savez` does: to the file of just this name, or to one open for writing."""
        values = {name: parameter.value for name, parameter in self._named().items()}
        with _opened(file, "wb") as opened:
            np.savez(opened, **values)  # type: ignore[arg-type] # none of these names is that of its flag

    def load(self, file: File) -> None:
        """Read what `save` wrote, into a model of the same layers.

        ValueError, with nothing changed, if the file is not one that `save` wrote, or its parameters do not fit.
        """
        with _opened(file, "rb") as opened:
            try:
                with np.lib.npyio.NpzFile(opened) as stored:
                    values = {name: np.asarray(stored[name]) for name in stored.files}
            except Exception as error:  # a damaged archive raises nearly anything
                raise ValueError(f"file is not one that save wrote: {error}") from error
        own = self._named()
        found = {name: value.shape for name, value in values.items()}
        wanted = {name: parameter.value.shape for name, parameter in own.items()}
        if found != wanted:
            raise ValueError(f"file has parameters of shapes {found}, but the model's have {wanted}")
        if not all(value.dtype.kind in "biuf" for value in values.values()):
            raise ValueError(f"file must have real parameters, got {[str(value.dtype) for value in values.values()]}")
        fitting = [values[name].astype(parameter.value.dtype) for name, parameter in own.items()]
        for parameter, value in zip(own.values(), fitting, strict=True):
            parameter.value = value
