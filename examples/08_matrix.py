"""Cross-correlation as a matrix product: unrolled columns, a sparse matrix, and what a dense layer would cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastconv import corr2d, corr2d_matrix


def columns(x: np.ndarray, k_h: int, k_w: int) -> np.ndarray:
    """What each output sees, one row each ("im2col")."""
    return np.lib.stride_tricks.sliding_window_view(x, (k_h, k_w)).reshape(-1, k_h * k_w)


def main(folder: Path = Path()) -> None:
    x, kernel = np.arange(9.0).reshape(3, 3), np.array([[0.0, 1.0], [2.0, 3.0]])
    print(f"What the four outputs of a 2x2 kernel see of a 3x3 image:\n{columns(x, 2, 2)}")
    print(f"times the kernel as a column: {columns(x, 2, 2) @ kernel.ravel()}")
    matrix = corr2d_matrix(kernel, x.shape)
    print(f"\nOr the kernel becomes a matrix:\n{matrix.toarray()}\ntimes the image as a column: {matrix @ x.ravel()}")
    print(f"Both are the cross-correlation\n{corr2d(x, kernel)}")

    h = w = 32
    big = corr2d_matrix(kernel, (h, w))
    print(f"\nA dense layer from {h}x{w} pixels to {h}x{w} has {(h * w) ** 2:,} weights. Let it look only nearby "
          f"(locality), and at\nevery place in the same way (translation invariance), and it is this matrix: of its "
          f"{big.shape[0] * big.shape[1]:,} elements\nonly {big.nnz:,} are not zero, and those are the same "
          f"{kernel.size} numbers over and over.")
    image = np.random.default_rng(0).integers(0, 10, (h, w)).astype(float)
    shifted = np.roll(image, (2, 1), (0, 1))
    moved = np.array_equal(corr2d(shifted, kernel)[2:, 1:], corr2d(image, kernel)[:-2, :-1])
    print(f"Shift the image and the output shifts with it: {moved}. A dense layer would have to learn that.")

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, (title, shown) in zip(
        figure.subplots(1, 2),
        {"a dense layer, 8x8 to 7x7": np.random.default_rng(0).standard_normal((49, 64)),
         "a 2x2 kernel": corr2d_matrix(kernel + 1, (8, 8)).toarray()}.items(),
        strict=True,
    ):
        axes.imshow(shown, cmap="gray_r" if title[-1] == "l" else "gray")
        axes.set(title=title, xlabel="pixel of the input", ylabel="pixel of the output")
    file = folder / "matrix.png"
    figure.savefig(file, dpi=120)
    print(f"The two matrices, drawn: {file}")


if __name__ == "__main__":
    main()
