"""The filters of images that benchmarks measure, by name: the tables of `images`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class ImageFilter(NamedTuple):
    """A filter of `fastconv.ndimage` on an image."""

    table: str
    function: str
    size: float
    """Of the window; of a Gaussian its standard deviation; 0 if there is none to choose."""
    shape: tuple[int, ...]
    dtype: str
    channels: int = 0
    """Channels last, if there are any."""

    @property
    def name(self) -> str:
        size = f" {self.size:g}" if self.size else ""
        shape = "x".join(map(str, self.shape + (self.channels,) * bool(self.channels)))
        return f"{self.function}{size} {shape} {self.dtype}{' with NaN' * (self.table == 'missing')}"

    def array(self) -> np.ndarray:
        """The image: integers over all their range, floats from 0 to 1; with a tenth of them missing if so it is."""
        rng, shape = np.random.default_rng(0), self.shape + (self.channels,) * bool(self.channels)
        dtype = np.dtype(self.dtype)
        if dtype.kind != "f":
            return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        x = rng.random(shape, np.float32).astype(dtype)
        if self.table == "missing":
            x[rng.random(shape) < 0.1] = np.nan
        return x


def weights(row: ImageFilter) -> np.ndarray:
    """The window of a correlation: positive numbers that make a mean, no outer product."""
    size = (int(row.size),) * len(row.shape)
    window = np.random.default_rng(1).uniform(0.5, 1.5, size)
    return (window / window.sum()).astype(np.float32).astype(np.float64)


def arguments(row: ImageFilter) -> tuple[tuple, dict[str, Any]]:
    """What a filter is told behind the image."""
    told: dict[str, Any] = {"channel_axis": -1} if row.channels else {}
    if row.table == "missing":
        told["nan_policy"] = "omit"
    if row.function in ("sobel", "laplace"):
        told["output"] = {"uint8": np.int16, "uint16": np.float32}.get(row.dtype)
        return (), told
    if row.function == "correlate":
        return (weights(row),), told
    if row.function == "median_filter":
        told["mode"] = "nearest"
    return (row.size if row.function == "gaussian_filter" else int(row.size),), told


_IMAGES, _PIXELS = ((1080, 1920), (512, 512)), ("uint8", "uint16", "float32", "float64")
_SIZES = {
    "linear": {"correlate": (3, 5, 7, 15, 31), "gaussian_filter": (0.8, 1, 2, 4, 8),
               "uniform_filter": (3, 5, 9, 25, 51), "sobel": (0,), "laplace": (0,)},
    "extrema": {"maximum_filter": (3, 9, 51), "minimum_filter": (5, 15), "grey_opening": (7,)},
    "median": {"median_filter": (3, 5, 9, 25)},
}  # fmt: skip
IMAGE_FILTERS = [
    ImageFilter(table, function, size, shape, dtype, channels)
    for table, functions in _SIZES.items()
    for function, sizes in functions.items()
    for size in sizes
    for shape in _IMAGES
    for dtype in _PIXELS
    for channels in (0, 3)
    if table != "median" or (dtype in ("uint8", "float32") and not channels)
]
IMAGE_FILTERS += [
    ImageFilter("volumes", function, size, (256, 256, 256), "float32")
    for function, size in (("gaussian_filter", 1.5), ("uniform_filter", 5), ("maximum_filter", 5), ("correlate", 3),
                           ("median_filter", 3))
]  # fmt: skip
IMAGE_FILTERS += [
    ImageFilter("missing", function, size, shape, dtype)
    for function, sizes in (("uniform_filter", (9, 31)), ("gaussian_filter", (1, 3.75)))  # 9 and 31 elements, too
    for size in sizes
    for shape in _IMAGES
    for dtype in ("float32", "float64")
]
#: What asv measures: one of each kind.
REGULAR_IMAGE_FILTERS = [
    "correlate 3 1080x1920 uint8", "gaussian_filter 2 1080x1920 float32", "uniform_filter 9 1080x1920x3 uint8",
    "sobel 512x512 float32", "maximum_filter 9 1080x1920 uint8", "grey_opening 7 512x512 float32",
    "median_filter 5 1080x1920 uint8", "gaussian_filter 1.5 256x256x256 float32",
    "uniform_filter 9 512x512 float32 with NaN",
]  # fmt: skip
