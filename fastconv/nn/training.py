"""Parameters, losses and optimizers. The package `fastconv.nn`, which hands them on, shows how to use them.

Names, defaults and results are those of `torch.nn` and `torch.optim`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np


class Parameter:
    """An array that is learnt, with the last gradient of the loss with respect to it."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value
        self.grad = np.zeros_like(value)


# -- losses --------------------------------------------------------------------------------------------------


def _reduction(reduction: str) -> str:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    return reduction


class MSELoss:
    """Squared error, averaged over all elements or summed."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = _reduction(reduction)

    def forward(self, prediction: np.ndarray, target: np.ndarray) -> float:
        """The loss of `prediction` where `target` is right."""
        if prediction.shape != np.shape(target):
            raise ValueError(f"target must have the prediction's shape {prediction.shape}, got {np.shape(target)}")
        self._error = prediction - np.asarray(target, prediction.dtype)
        total = float(np.sum(self._error**2))
        return total / self._error.size if self.reduction == "mean" else total

    def backward(self) -> np.ndarray:
        """The gradient with respect to the prediction."""
        return self._error * (2 / self._error.size if self.reduction == "mean" else 2)


class CrossEntropyLoss:
    """Minus the log of the softmax at the label, averaged over the batch or summed."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = _reduction(reduction)

    def forward(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """The loss of `scores` (N, classes) where `labels` (N,) are right."""
        labels = np.asarray(labels)
        if scores.ndim != 2 or labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be integers of shape {scores.shape[:1]} for scores of shape {scores.shape}, "
                             f"got {labels.dtype} of shape {labels.shape}")
        if labels.size and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
            raise ValueError(f"labels must be from 0 to {scores.shape[1] - 1}, got {labels.min()} to {labels.max()}")
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))  # the largest is 1: no overflow
        self._softmax, self._labels = exponents / exponents.sum(axis=1, keepdims=True), labels
        shifted = scores - scores.max(axis=1, keepdims=True)
        logs = np.log(exponents.sum(axis=1)) - shifted[np.arange(len(labels)), labels]
        return float(logs.mean() if self.reduction == "mean" else logs.sum())

    def backward(self) -> np.ndarray:
        """The gradient with respect to the scores."""
        grad = self._softmax.copy()
        grad[np.arange(len(grad)), self._labels] -= 1
        return grad / len(grad) if self.reduction == "mean" else grad


# -- optimizers ----------------------------------------------------------------------------------------------


class SGD:
    """Gradient descent: ``velocity = momentum * velocity + grad``, ``value -= lr * velocity``."""

    def __init__(self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0) -> None:
        self.parameters, self.lr, self.momentum = list(parameters), lr, momentum
        self._velocities = [np.zeros_like(parameter.value) for parameter in self.parameters]

    def step(self) -> None:
        """Change the parameters by one step along their gradients."""
        for parameter, velocity in zip(self.parameters, self._velocities, strict=True):
            velocity *= self.momentum
            velocity += parameter.grad
            parameter.value -= parameter.value.dtype.type(self.lr) * velocity


class Adam:
    """Adam: steps scaled by running means of the gradient and its square (Kingma and Ba, arXiv:1412.6980)."""

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters, self.lr, self.betas, self.eps = list(parameters), lr, betas, eps
        self._means = [(np.zeros_like(each.value), np.zeros_like(each.value)) for each in self.parameters]
        self._steps = 0

    def step(self) -> None:
        """Change the parameters by one step along their gradients."""
        self._steps += 1
        first, second = self.betas
        rate = self.lr / (1 - first**self._steps)
        scale = 1 / math.sqrt(1 - second**self._steps)
        for parameter, (mean, square) in zip(self.parameters, self._means, strict=True):
            mean += (1 - first) * (parameter.grad - mean)
            square += (1 - second) * (parameter.grad**2 - square)
            parameter.value -= (rate * mean / (np.sqrt(square) * scale + self.eps)).astype(parameter.value.dtype)
