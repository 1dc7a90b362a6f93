"""Channels: a kernel for each channel of the input, their results summed; a filter for each channel of the output."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastconv import conv2d, corr2d


def main(folder: Path = Path()) -> None:
    x = np.stack([np.arange(9).reshape(3, 3), np.arange(1, 10).reshape(3, 3)])
    kernel = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 4]]])
    print(f"Two channels\n{x}\nunder a kernel for each\n{kernel}\nare added up:")
    print(f"{corr2d(x[0], kernel[0])} + {corr2d(x[1], kernel[1])} =\n{conv2d(x, kernel[None])[0]}")

    filters = np.stack([kernel, kernel + 1, kernel + 2])
    print(f"\nThree filters, of shape (c_out, c_in, k_h, k_w) = {filters.shape}, give three channels:")
    print(conv2d(x, filters))
    print(f"\nIn two groups each channel goes its own way:\n{conv2d(x, kernel[:, None], groups=2)}")


if __name__ == "__main__":
    main()
