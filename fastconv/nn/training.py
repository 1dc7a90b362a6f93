"""Training of layers: parameters, losses and optimizers.

Names, defaults and results are those of `torch.nn` and `torch.optim`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..specs.arrays import array
from ..specs.dtypes import computed, gradient_dtype, is_half
from ..typing import Reduction


def floats(name: str, given: Any) -> np.ndarray:
    """An array of floats: integers become float64."""
    given = array(name, given)
    return given.astype(gradient_dtype(given.dtype), copy=False)


class Parameter:
    """An array of floats that is learnt, and the last gradient of the loss with respect to it."""

    _exact: Any = np.float32(np.nan)  # a float16's value before it was rounded; NaN equals none

    def __init__(self, value: ArrayLike) -> None:
        self.value = array("value", value)
        if self.value.dtype.kind != "f":
            raise TypeError(f"a parameter's dtype must be float16, float32 or float64, got {self.value.dtype}")
        self.grad = np.zeros_like(self.value)

    def subtract(self, change: NDArray[Any]) -> None:
        """Take an optimizer's step; small steps of a float16 add up in float32."""
        if not is_half(self.value.dtype):
            self.value -= change
            return
        still = self._exact.astype(np.float16) == self.value  # where nobody else has changed it
        self._exact = np.where(still, self._exact, self.value) - change
        self.value[...] = self._exact


class Remembering:
    """A computation whose `backward` needs what its last `forward` left in `_memory`."""

    _memory: Any = None

    def _remembered(self) -> Any:
        if self._memory is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward before it")
        return self._memory


# -- losses --------------------------------------------------------------------------------------------------


class _Loss(Remembering):
    """Terms that are summed or averaged, integers as float64 and float16 as float32."""

    def __init__(self, reduction: Reduction = "mean") -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction

    def _reduced(self, terms: np.ndarray, grad: np.ndarray, dtype: np.dtype) -> float:
        """The loss; `grad` is of the terms' sum, and of `dtype` when `backward` returns it."""
        count = terms.size if self.reduction == "mean" else 1
        self._memory = grad, max(count, 1), dtype
        return float(terms.sum()) / count if count else math.nan

    def backward(self) -> NDArray[Any]:
        """The gradient with respect to what `forward` was given first, in its dtype; float64 for integers."""
        grad, count, dtype = self._remembered()
        return (grad / count).astype(dtype, copy=False)


class MSELoss(_Loss):
    """Squared error, averaged over all elements or summed. The mean of no elements is nan."""

    def forward(self, prediction: ArrayLike, target: ArrayLike) -> float:
        """The loss."""
        prediction, target = floats("prediction", prediction), array("target", target)
        if prediction.shape != target.shape:
            raise ValueError(f"target must have the prediction's shape {prediction.shape}, got {target.shape}")
        wide = computed(prediction.dtype)
        error = prediction.astype(wide, copy=False) - target.astype(wide, copy=False)
        return self._reduced(error**2, 2 * error, prediction.dtype)


class CrossEntropyLoss(_Loss):
    """Minus the log of the softmax at the label, averaged over the batch or summed. The mean of no labels is nan."""

    def forward(self, scores: ArrayLike, labels: ArrayLike) -> float:
        """The loss of `scores` (N, classes) where `labels` (N,) are right."""
        scores, labels = floats("scores", scores), array("labels", labels)
        if scores.ndim != 2:
            raise ValueError(f"scores must have shape (N, classes), got {scores.shape}")
        if labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be integers of shape {scores.shape[:1]} for scores of shape {scores.shape}, "
                             f"got {labels.dtype} of shape {labels.shape}")
        if labels.size and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
            raise ValueError(f"labels must be from 0 to {scores.shape[1] - 1}, got {labels.min()} to {labels.max()}")
        shifted = scores.astype(computed(scores.dtype), copy=False)
        shifted = shifted - shifted.max(axis=1, keepdims=True, initial=-np.inf)  # to at most 0: no overflow
        exponents, right = np.exp(shifted), (np.arange(len(labels)), labels)
        sums = exponents.sum(axis=1, keepdims=True)
        grad = exponents / sums
        grad[right] -= 1
        return self._reduced(np.log(sums[:, 0]) - shifted[right], grad, scores.dtype)


# -- optimizers ----------------------------------------------------------------------------------------------


def _zeros(parameter: Parameter) -> np.ndarray:
    """The beginning of a running sum or mean of gradients, which is float32 for a float16."""
    return np.zeros_like(parameter.value, computed(parameter.value.dtype))


class SGD:
    """Gradient descent: ``velocity = momentum * velocity + grad``, ``value -= lr * velocity``."""

    def __init__(self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0) -> None:
        self.parameters, self.lr, self.momentum = list(parameters), lr, momentum
        self._velocities = [_zeros(parameter) for parameter in self.parameters]

    def step(self) -> None:
        """Change the parameters by their gradients."""
        for parameter, velocity in zip(self.parameters, self._velocities, strict=True):
            velocity *= self.momentum
            velocity += parameter.grad
            parameter.subtract(self.lr * velocity)


class Adam:
    """Steps scaled by running means of the gradient and its square (Kingma and Ba, arXiv:1412.6980).

    The means, and what is computed from them, are float32 where a parameter is float16.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters, self.lr, self.betas, self.eps = list(parameters), lr, betas, eps
        self._means = [(_zeros(parameter), _zeros(parameter)) for parameter in self.parameters]
        self._steps = 0

    def step(self) -> None:
        """Change the parameters by their gradients."""
        self._steps += 1
        first, second = self.betas
        rate = self.lr / (1 - first**self._steps)
        scale = 1 / math.sqrt(1 - second**self._steps)
        for parameter, (mean, square) in zip(self.parameters, self._means, strict=True):
            grad = np.asarray(parameter.grad, mean.dtype)
            mean += (1 - first) * (grad - mean)
            square += (1 - second) * (grad**2 - square)
            parameter.subtract(rate * mean / (np.sqrt(square) * scale + self.eps))
