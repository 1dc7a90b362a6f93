"""Convolution and cross-correlation: one is the other with the kernel flipped; a layer can learn by either."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastconv import corr2d, grad
from fastconv.signal import convolve2d


def learn(x: np.ndarray, target: np.ndarray, flipped: bool, steps: int = 300, rate: float = 0.002) -> np.ndarray:
    """A 2x2 kernel that makes `target` of `x`: by convolution if `flipped`, by cross-correlation otherwise."""
    kernel = np.zeros((2, 2))
    for _ in range(steps):
        used = kernel[::-1, ::-1] if flipped else kernel
        error = corr2d(x, used) - target
        change = grad.conv2d_weight(x[None], (1, 1, 2, 2), 2 * error[None])[0, 0]
        kernel -= rate * (change[::-1, ::-1] if flipped else change)
    return kernel


def main(folder: Path = Path()) -> None:
    x, kernel = np.arange(9).reshape(3, 3), np.array([[0, 1], [2, 3]])
    print(f"Cross-correlation of\n{x}\nwith\n{kernel}\ngives\n{corr2d(x, kernel)}")
    print(f"Convolution gives\n{convolve2d(x, kernel, mode='valid')}")
    same = np.array_equal(convolve2d(x, kernel, mode="valid"), corr2d(x, kernel[::-1, ::-1]))
    print(f"which is cross-correlation with the kernel flipped left-right and up-down: {same}.")

    image = np.random.default_rng(0).standard_normal((6, 8))
    target = corr2d(image, kernel.astype(float))
    by_correlation, by_convolution = learn(image, target, flipped=False), learn(image, target, flipped=True)
    print(f"\nA layer that learns by cross-correlation finds\n{by_correlation.round(2)}")
    print(f"one that learns by convolution\n{by_convolution.round(2)}")
    print(f"The kernels are each other's flip, so both predict the same: "
          f"{np.allclose(by_correlation, by_convolution[::-1, ::-1])}.")
    print("That is why the layers of neural networks are called convolutions though they do not flip.")


if __name__ == "__main__":
    main()
