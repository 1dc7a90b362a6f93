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
remembers what its last `forward` saw, so a layer stands in one place of one model, and `backward` without a `forward`
that succeeded is a RuntimeError.

Names, defaults and initial values are those of `torch.nn`; parameters are float32 unless `dtype` says otherwise. Layers
for images take one without the batch axis, too. Integers become float64 in activations and losses. Sums of float16,
for biases' gradients, losses and optimizers, are float32. Of an empty batch, gradients are zero or empty and a mean is
nan.
"""

from .layers import (
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)
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
