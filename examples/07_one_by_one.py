"""1x1 convolution: the channels of each pixel are mixed, which is a matrix product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage import data

from fastconv import conv2d


def main(folder: Path = Path()) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((3, 3, 3)), rng.standard_normal((2, 3, 1, 1))
    layer = conv2d(x, weight)
    product = (weight[:, :, 0, 0] @ x.reshape(3, 9)).reshape(2, 3, 3)
    unrolled = conv2d(x, weight, algorithm="im2col")
    print("3 channels to 2 by a 1x1 kernel, and the product (c_out, c_in) @ (c_in, h * w), agree to "
          f"{np.abs(layer - product).max():.0e}.")
    print(f"So does the general way, over unrolled columns: {np.abs(layer - unrolled).max():.0e}.")
    print("Nothing is seen of the neighbours: a fully connected layer on the channels, the same one at every pixel.")

    photo = np.moveaxis(data.chelsea() / 255.0, -1, 0)
    mixes = {
        "the photograph": np.eye(3),
        "grey: 0.21 red + 0.72 green + 0.07 blue": np.tile([0.2126, 0.7152, 0.0722], (3, 1)),
        "red and blue change places": np.eye(3)[::-1],
    }
    figure = Figure(figsize=(10, 3), layout="constrained")
    for axes, (title, mix) in zip(figure.subplots(1, 3), mixes.items(), strict=True):
        mixed = conv2d(photo, mix[:, :, None, None])
        axes.imshow(np.moveaxis(mixed, 0, -1).clip(0, 1))
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    file = folder / "one_by_one.png"
    figure.savefig(file, dpi=120)
    print(f"What 1x1 kernels make of the colours of a photograph: {file}")


if __name__ == "__main__":
    main()
