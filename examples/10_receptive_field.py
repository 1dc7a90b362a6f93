"""Receptive fields: how much of the input one output of a stack of layers sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fastconv import corr2d, receptive_field

#: LeNet's layers up to the first fully connected one: kernel, stride, padding.
LENET = ((5, 1, 2), (2, 2, 0), (5, 1, 0), (2, 2, 0))


def seen_by_trying() -> np.ndarray:
    """The pixels of a 5x5 image that change output (0, 0) of two 2x2 layers."""
    seen = np.zeros((5, 5), int)
    for row, column in np.ndindex(5, 5):
        image = np.zeros((5, 5))
        image[row, column] = 1
        seen[row, column] = corr2d(corr2d(image, np.ones((2, 2))), np.ones((2, 2)))[0, 0] != 0
    return seen


def main(folder: Path = Path()) -> None:
    print(f"Two 2x2 layers: one output sees {receptive_field([2, 2]).size} pixels. Tried out on every pixel:")
    print(seen_by_trying())
    names = ("convolution 5x5", "pooling 2x2", "convolution 5x5", "pooling 2x2")
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot(xlim=(-3, 29), ylim=(29, -3), aspect="equal", title="What one output of LeNet sees")
    axes.add_patch(Rectangle((0, 0), 28, 28, facecolor="0.92", edgecolor="0.4"))
    axes.text(14, 27.5, "the image, 28x28", ha="center")
    print("\nLeNet on 28x28 pixels:")
    for count, name in enumerate(names, 1):
        field = receptive_field(LENET[:count])
        print(f"  after layer {count}, {name}: {field.size[0]}x{field.size[1]} pixels, "
              f"neighbours {field.stride[0]} apart")
        corner = tuple(start + 2 * field.stride[0] - 0.1 * count for start in field.start)
        size = field.size[0] + 0.2 * count
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=f"C{count}", linewidth=2))
        axes.text(corner[0] + size, corner[1] + 0.5 * count + 0.3, f" {count}: {name}", color=f"C{count}", va="center")
    file = folder / "receptive_field.png"
    figure.savefig(file, dpi=120)
    print(f"Drawn for output (2, 2) of each layer: {file}")
    print("On the command line: fastconv receptive-field 5,1,2 2,2 5 2,2")


if __name__ == "__main__":
    main()
