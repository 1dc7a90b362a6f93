"""Padding and stride: how large the output is, and what the border sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastconv import conv2d, output_shape

#: Input, kernel, padding on each side, stride.
LAYERS = (
    ((8, 8), (3, 3), (1, 1), (1, 1)),
    ((8, 8), (5, 3), (2, 1), (1, 1)),
    ((8, 8), (3, 3), (1, 1), (2, 2)),
    ((8, 8), (3, 5), (0, 1), (3, 4)),
    ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (3, 2)),
)


def main(folder: Path = Path()) -> None:
    print("An axis of n pixels, a kernel of k, p zeros in all and a stride of s give floor((n - k + p + s) / s).\n")
    print(f"{'input':10}{'kernel':10}{'padding':10}{'stride':10}output")
    for size, kernel, padding, stride in LAYERS:
        rule = tuple((n - k + 2 * p + s) // s for n, k, p, s in zip(size, kernel, padding, stride, strict=True))
        shape = conv2d(np.ones((1, *size)), np.ones((1, 1, *kernel)), padding=padding, stride=stride).shape[1:]
        assert rule == shape == output_shape(size, kernel, stride, padding)
        print("".join(f"{a}x{b}".ljust(10) for a, b in (size, kernel, padding, stride, shape)))
    image, filters = np.ones((3, 5, 5)), np.ones((2, 3, 3, 3))
    print(f"\nTwo filters of 3x3 over three channels of 5x5, padding 1, stride 2: "
          f"{conv2d(image, filters, padding=1, stride=2).shape}")

    x, kernel = np.arange(9).reshape(1, 3, 3), np.array([[[[0, 1], [2, 3]]]])
    print(f"\n{x[0]}\nunder\n{kernel[0, 0]}\nwith one row and column of zeros around it:\n"
          f"{conv2d(x, kernel, padding=1)[0]}")
    print(f"and of that with strides of 3 down and 2 across:\n{conv2d(x, kernel, padding=1, stride=(3, 2))[0]}")

    odd, even = np.ones((1, 1, 3, 3), int), np.ones((1, 1, 2, 2), int)
    print(f"\n'same' padding keeps the size. Of an odd kernel (k - 1) / 2 lie on each side; so many pixels each output "
          f"of a 3x3 kernel sees:\n{conv2d(np.ones((1, 3, 3), int), odd, padding='same')[0]}")
    print(f"Of an even one the odd zero lies at the end:\n{conv2d(np.ones((1, 3, 3), int), even, padding='same')[0]}")
    print(f"or at the start ('same_lower'):\n{conv2d(np.ones((1, 3, 3), int), even, padding='same_lower')[0]}")


if __name__ == "__main__":
    main()
