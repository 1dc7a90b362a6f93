"""Cross-correlation: a kernel slides over an image, and each output is a sum of products."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastconv import corr2d


def by_hand(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The definition, in two loops."""
    (n_h, n_w), (k_h, k_w) = x.shape, kernel.shape
    out = np.zeros((n_h - k_h + 1, n_w - k_w + 1), x.dtype)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = (x[i : i + k_h, j : j + k_w] * kernel).sum()
    return out


def main(folder: Path = Path()) -> None:
    x, kernel = np.arange(9).reshape(3, 3), np.array([[0, 1], [2, 3]])
    print(f"The image\n{x}\nunder the kernel\n{kernel}\nbecomes\n{corr2d(x, kernel)}")
    print(f"\nThe first output is 0*0 + 1*1 + 3*2 + 4*3 = {0 * 0 + 1 * 1 + 3 * 2 + 4 * 3}.")
    print(f"A 2x2 kernel fits a 3x3 image at 2x2 places: (3 - 2 + 1, 3 - 2 + 1) = {corr2d(x, kernel).shape}.")

    x = np.array([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]])
    kernel = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]])
    print(f"\nThe image\n{x}\nunder the kernel\n{kernel}\nbecomes\n{corr2d(x, kernel)}")
    print(f"and so it does by hand: {np.array_equal(corr2d(x, kernel), by_hand(x, kernel))}.")
    print(f"\nA layer adds a number, its bias; with 10 it gives\n{corr2d(x, kernel, bias=10)}")


if __name__ == "__main__":
    main()
