"""Pooling: the largest or the mean of each window, every channel on its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage import data

from fastconv import avg_pool2d, corr2d, max_pool2d


def main(folder: Path = Path()) -> None:
    x = np.arange(9).reshape(3, 3)
    print(f"{x}\nin windows of 2x2, one step at a time: the largest\n{max_pool2d(x, 2, stride=1)}\nand the mean\n"
          f"{avg_pool2d(x, 2, stride=1)}")
    x = np.arange(16).reshape(1, 4, 4)
    print(f"\n{x[0]}\nThe stride is the window, unless another is given: with 3x3, {max_pool2d(x, 3)[0]}")
    print(f"with padding 1 and stride 2\n{max_pool2d(x, 3, stride=2, padding=1)[0]}")
    print(f"with a window and a stride of 2x3, and padding (0, 1)\n"
          f"{max_pool2d(x, (2, 3), stride=(2, 3), padding=(0, 1))[0]}")
    both = np.concatenate([x, x + 1])
    print(f"Two channels stay two:\n{max_pool2d(both, 3, stride=2, padding=1)}")

    print("\nWhy? An edge that moves a little moves less after pooling:")
    for column in (3, 4):
        image = np.ones((4, 7))
        image[:, column:] = 0
        edge = corr2d(image, [[1.0, -1.0]])
        print(f"  edges {edge[0]}, the largest of 4x2 {max_pool2d(edge, (4, 2))[0]}")

    photo = data.camera() / 255.0
    panels = {"the photograph": photo, "the largest of 16x16": max_pool2d(photo, 16), "the mean": avg_pool2d(photo, 16)}
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{title}, {image.shape[0]}x{image.shape[1]}", fontsize=9)
        axes.set_axis_off()
    file = folder / "pooling.png"
    figure.savefig(file, dpi=120)
    print(f"On a photograph: {file}")


if __name__ == "__main__":
    main()
