"""Layers for learning: each has a `forward` and a `backward`, which take and return NumPy arrays.

::

    model = Sequential(Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool2d(2), Flatten(), Linear(6 * 14 * 14, 10))
    loss, optimizer = CrossEntropyLoss(), SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, labels in batches:
        value = loss.forward(model.forward(x), labels)
        model.backward(loss.backward())
        optimizer.step()

`backward` takes the gradient of the loss with respect to what `forward` returned and returns the gradient with respect
to its input. It stores the gradients of the parameters in their `grad`, replacing older ones. There is no graph: a
layer remembers its last call of `forward`, so a layer has one place in one model.

Names, defaults and initial values are those of `torch.nn`; arrays are float32 unless `dtype` says otherwise.
"""

from .layers import (
    SGD,
    Adam,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    CrossEntropyLoss,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    MSELoss,
    Parameter,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)

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
