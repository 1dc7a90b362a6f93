"""LeNet: a network learns to read handwritten digits, and shows what its filters look for."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.progress import Progress
from skimage.transform import resize
from sklearn.datasets import load_digits

from fastconv.nn import Adam, AvgPool2d, Conv2d, CrossEntropyLoss, Flatten, Linear, Sequential, Sigmoid

SIZE, BATCH, EPOCHS = 28, 32, 40


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 digits that come with scikit-learn, as images of 28x28 from 0 to 1, and what they are."""
    data = load_digits()
    images = resize(data.images / 16, (len(data.images), SIZE, SIZE), order=1)
    return images[:, None].astype(np.float32), data.target


def lenet(seed: int = 0) -> Sequential:
    """LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998."""
    rng = np.random.default_rng(seed)
    return Sequential(
        Conv2d(1, 6, 5, padding=2, rng=rng),  # 6 x 28 x 28
        Sigmoid(),
        AvgPool2d(2),  # 6 x 14 x 14
        Conv2d(6, 16, 5, rng=rng),  # 16 x 10 x 10
        Sigmoid(),
        AvgPool2d(2),  # 16 x 5 x 5
        Flatten(),  # 400
        Linear(400, 120, rng=rng),
        Sigmoid(),
        Linear(120, 84, rng=rng),
        Sigmoid(),
        Linear(84, 10, rng=rng),  # a score for each digit
    )


def train(model: Sequential, x: np.ndarray, labels: np.ndarray, epochs: int, seed: int = 0) -> list[float]:
    """The mean loss of each epoch."""
    loss, optimizer, rng = CrossEntropyLoss(), Adam(model.parameters(), lr=3e-3), np.random.default_rng(seed)
    losses = []
    with Progress() as progress:
        task = progress.add_task("epoch", total=epochs * (len(x) // BATCH))
        for epoch in range(epochs):
            total = 0.0
            for chosen in rng.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
                total += loss.forward(model.forward(x[chosen]), labels[chosen])
                model.backward(loss.backward(), for_input=False)
                optimizer.step()
                progress.advance(task)
            losses.append(total / (len(x) // BATCH))
            progress.update(task, description=f"epoch {epoch + 1}, loss {losses[-1]:.3f}")
    return losses


def accuracy(model: Sequential, x: np.ndarray, labels: np.ndarray) -> float:
    """Which part of the digits is read right."""
    return float(np.mean(model.forward(x).argmax(axis=1) == labels))


def picture(model: Sequential, digit: np.ndarray, file: Path) -> None:
    """The filters of the first layer, and the feature maps of both for one digit."""
    first = model[1].forward(model[0].forward(digit[None]))
    second = model[4].forward(model[3].forward(model[2].forward(first)))
    rows = [
        ("the digit", digit),
        ("filters of layer 1", model[0].parameters()[0].value[:, 0]),
        ("what each finds", first[0]),
        ("maps of layer 2", second[0, :8]),
        ("", second[0, 8:]),
    ]
    figure = Figure(figsize=(9, 6), layout="constrained")
    grid = figure.subplots(len(rows), 9)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, (title, images) in zip(grid, rows, strict=True):
        line[0].text(1, 0.5, title, ha="right", va="center", transform=line[0].transAxes)
        for axes, image in zip(line[1:], images, strict=False):
            axes.imshow(image, cmap="gray")
    figure.savefig(file, dpi=120)


def main(folder: Path = Path(), epochs: int = EPOCHS) -> float:
    x, labels = digits()
    order = np.random.default_rng(0).permutation(len(x))
    held_out, learnt_from = np.split(order, [len(x) // 5])
    model = lenet()
    count = sum(parameter.value.size for parameter in model.parameters())
    print(f"{len(learnt_from)} digits to learn from, {len(held_out)} to be tested on, {count:,} numbers to learn.")
    start = time.perf_counter()
    losses = train(model, x[learnt_from], labels[learnt_from], epochs)
    print(f"{epochs} epochs took {time.perf_counter() - start:.1f} s; loss {losses[0]:.3f} in the first, "
          f"{losses[-1]:.3f} in the last.")
    right = accuracy(model, x[held_out], labels[held_out])
    print(f"Of the digits it has never seen it reads {100 * right:.1f}% right.")
    file = folder / "lenet.png"
    picture(model, x[held_out[0]], file)
    print(f"Its filters, and what they make of a {labels[held_out[0]]}: {file}")
    return right


if __name__ == "__main__":
    main()
