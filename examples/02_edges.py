"""Edge detection: a kernel of two numbers finds where an image changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage import data

from fastconv import corr2d


def stripe() -> np.ndarray:
    """White, with a black stripe in the middle."""
    image = np.ones((6, 8))
    image[:, 2:6] = 0
    return image


def photograph() -> np.ndarray:
    """A cameraman, from 0 (black) to 1 (white)."""
    return data.camera() / 255.0


KERNELS = {
    "the photograph": np.array([[1.0]]),
    "difference to the right: [1, -1]": np.array([[1.0, -1.0]]),
    "difference below: [1, -1] transposed": np.array([[1.0], [-1.0]]),
    "second derivative: [1, -2, 1]": np.array([[1.0, -2.0, 1.0]]),
    "box blur, 15x15: a local integral": np.full((15, 15), 1 / 225),
    "all neighbours less eight times the pixel": np.array([[1.0, 1, 1], [1, -8, 1], [1, 1, 1]]),
}


def picture(image: np.ndarray, file: Path) -> None:
    """The photograph under every kernel."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axes, (title, kernel) in zip(figure.subplots(2, 3).flat, KERNELS.items(), strict=True):
        filtered = corr2d(image, kernel)
        signed = filtered.min() < 0
        limits = {"vmin": -0.3, "vmax": 0.3} if signed else {"vmin": 0, "vmax": 1}
        axes.imshow(filtered, cmap="gray", **limits)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.savefig(file, dpi=120)


def main(folder: Path = Path()) -> None:
    image, kernel = stripe(), np.array([[1.0, -1.0]])
    edges = corr2d(image, kernel)
    print(f"The image\n{image}\nunder the kernel {kernel} becomes\n{edges + 0}")
    print("1 where white turns to black, -1 where black turns to white, 0 where nothing changes.")
    print(f"\nOn its side, the image has no such edge: all zero? {not corr2d(image.T, kernel).any()}.")
    print(f"The kernel on its side finds it again: {np.array_equal(corr2d(image.T, kernel.T), edges.T)}.")
    print(f"A diagonal edge\n{np.eye(4)}\nis found by both, here by {kernel}:\n{corr2d(np.eye(4), kernel) + 0}")

    squares = np.arange(8.0)[None] ** 2
    print(f"\nThe squares {squares} under [1, -2, 1], which is a second derivative: "
          f"{corr2d(squares, [[1.0, -2.0, 1.0]])}")
    print("A d-th derivative takes d + 1 numbers: each one more is a difference of the ones before.")
    file = folder / "edges.png"
    picture(photograph(), file)
    print(f"\nThe same on a photograph: {file}")


if __name__ == "__main__":
    main()
