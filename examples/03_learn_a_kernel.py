"""Learning a kernel: from an image and its edges, gradient descent finds [1, -1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastconv import corr2d
from fastconv.nn import SGD, Conv2d, MSELoss


def learn(bias: bool, rate: float, steps: int, seed: int = 0) -> tuple[Conv2d, list[float]]:
    """A layer of one kernel of two numbers, and its loss after each step."""
    image = np.ones((6, 8))
    image[:, 2:6] = 0
    x, target = image[None, None], corr2d(image, [[1.0, -1.0]])[None, None]
    layer = Conv2d(1, 1, (1, 2), bias=bias, dtype=np.float64, rng=seed)
    loss, optimizer = MSELoss("sum"), SGD(layer.parameters(), rate)
    losses = []
    for _ in range(steps):
        loss.forward(layer.forward(x), target)
        layer.backward(loss.backward(), for_input=False)
        optimizer.step()
        losses.append(loss.forward(layer.forward(x), target))
    return layer, losses


def main(folder: Path = Path()) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="squared error", yscale="log")
    for title, bias, rate, steps in (("with a bias", True, 0.01, 20), ("without a bias", False, 0.03, 10)):
        layer, losses = learn(bias, rate, steps)
        longer, more = learn(bias, rate, 5 * steps)
        print(f"{title}, learning rate {rate}: after {steps} steps the loss is {losses[-1]:.4f} and the kernel "
              f"{layer.weight.value[0, 0].round(3)},\n  after {5 * steps} steps {more[-1]:.1e} and "
              f"{longer.weight.value[0, 0].round(3)}.")
        axes.plot(np.arange(1, len(more) + 1), more, label=title)
    axes.legend()
    file = folder / "learn_a_kernel.png"
    figure.savefig(file, dpi=120)
    print(f"Both go to [1, -1], the kernel that made the edges. How the loss falls: {file}")


if __name__ == "__main__":
    main()
