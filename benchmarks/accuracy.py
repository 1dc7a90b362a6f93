"""The error of every algorithm against float64, and as a part of what is promised: ``python -m benchmarks.accuracy``.

An output's error is counted in roundings: units of ``eps * (the sum of abs(x) over its window) * (the largest
abs(weight) of its kernel)``, of which `fastconv.conv2d` promises at most 2**15. The largest of all outputs is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

import fastconv

from .records import save
from .shapes import FILTERS, LAYERS, Layer

#: Problems that between them every algorithm can do: layers of networks, and images under small and large kernels.
PROBLEMS = (
    LAYERS["lenet_conv2"], LAYERS["resnet_3x3_64"], LAYERS["resnet_3x3_s2"], LAYERS["resnet_1x1"],
    LAYERS["inception_1x7"], LAYERS["inception_5x5"], LAYERS["mobilenet_3x3"], LAYERS["convnext_7x7"],
    Layer("fully_connected", 4, 64, 7, 7, 128, 7, 7),
    *(Layer(f"image_{each.name}", 1, 1, each.h, each.w, 1, each.kh, each.kw, padding=(each.kh // 2, each.kw // 2))
      for each in (FILTERS["256_3x3"], FILTERS["512_15x15"], FILTERS["512_31x31"], FILTERS["512_1x31"])),
)  # fmt: skip


def rows(layer: Layer) -> Iterator[dict[str, Any]]:
    """The errors of all algorithms that can do a layer, of float32 numbers of the normal distribution."""
    x, weight, bias = layer.arrays()
    wide, exactly = [each.astype(np.float64) for each in (x, weight, bias)], {"algorithm": "im2col", **layer.options}
    exact = fastconv.conv2d(*wide, **exactly)
    seen = fastconv.conv2d(np.abs(wide[0]), np.ones(weight.shape), **exactly)
    rounding = np.finfo(x.dtype).eps * seen * np.abs(weight).max(axis=(1, 2, 3))[:, None, None]
    for algorithm in fastconv.algorithms("conv2d"):
        try:
            out = fastconv.conv2d(x, weight, bias, algorithm=algorithm, **layer.options)
        except ValueError:  # not for this layer
            continue
        error = np.abs(out - exact)
        yield {
            "problem": layer.name,
            "algorithm": algorithm,
            "of_largest": float(error.max() / np.abs(exact).max()),
            "roundings": float((error / rounding).max()),
        }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    told = parser.parse_args()
    found = []
    for layer in PROBLEMS:
        for row in rows(layer):
            print(f"{row['problem']:<20} {row['algorithm']:<12} {row['of_largest']:.1e} of the largest output, "
                  f"{row['roundings']:.2g} roundings", flush=True)  # fmt: skip
            found.append(row)
    if told.json:
        save(told.json, "benchmarks.accuracy", found)


if __name__ == "__main__":
    main()
