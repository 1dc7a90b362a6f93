"""The demonstration of the command line: one photograph under eight kernels, on one contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..functional.avg_pool import avg_pool2d
from ..functional.conv import conv2d
from ..functional.max_pool import max_pool2d
from ..specs.conv import ConvSpec, conv_spec
from .compare import compare
from .comparison import Comparison
from .extras import extra

#: Longest side of the photograph in pixels: the sheet would scale a larger one down anyway.
SIDE = 900
#: Brightness of red, green and blue, by Rec. 709.
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class Panel:
    """One picture of the sheet: `image` is (H, W, 3) or (H, W) with values from 0 to 1."""

    title: str
    how: str
    image: np.ndarray


def load(file: str | None) -> np.ndarray:
    """A photograph as float32 (3, H, W) with values from 0 to 1: the file's, or one that comes with scikit-image."""
    if file is None:
        rgb = extra("skimage.data").chelsea()
    else:
        with extra("PIL.Image").open(file) as picture:
            upright = extra("PIL.ImageOps").exif_transpose(picture).convert("RGB")
        upright.thumbnail((SIDE, SIDE))
        rgb = np.asarray(upright)
    return np.moveaxis(rgb, -1, 0).astype(np.float32) / 255


def panels(photo: np.ndarray) -> list[Panel]:
    """The photograph, and its results with eight kernels."""
    height, width = photo.shape[1:]
    grey = conv2d(photo, LUMA.reshape(1, 3, 1, 1))
    sharpen = 3 * delta(7) - 2 * gaussian(7, 1.5)
    relief = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], np.float32) / 2
    detail = 9 * (gaussian(15, 1.0) - gaussian(15, 2.5))
    swap = np.array([[0, 0, 1], [0.2, 0.8, 0], [1, 0, 0]], np.float32)[:, :, None, None]
    dark = np.minimum(per_channel(grey, detail), 0)
    window = max(1, width // 60)
    return [
        Panel("Photograph", f"{width} x {height} pixels, three channels", show(photo)),
        Panel("Blur", "21 x 21 Gaussian, each channel on its own", show(per_channel(photo, gaussian(21, 4.0)))),
        Panel("Sharpen", "7 x 7: the pixel against its surroundings", show(per_channel(photo, sharpen))),
        Panel("Edges", "two 3 x 3 Sobel kernels; their direction is the hue", edges(grey)),
        Panel("Relief", "3 x 3: the slope along the diagonal", show(0.5 + per_channel(grey, relief))),
        Panel("Pencil", "15 x 15: the difference of two Gaussians", show(1 + dark)),
        Panel("Colour mix", "1 x 1: red and blue change places", show(conv2d(photo, swap))),
        Panel("Max pooling", f"the brightest of {window} x {window}", show(max_pool2d(photo, window))),
        Panel("Average pooling", f"the mean of {window} x {window}", show(avg_pool2d(photo, window))),
    ]


def per_channel(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """One kernel applied to every channel; the border is continued so that it does not darken."""
    channels, radius = len(image), kernel.shape[0] // 2
    padded = np.pad(image, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    return conv2d(padded, np.broadcast_to(kernel, (channels, 1, *kernel.shape)), groups=channels)


def gaussian(taps: int, sigma: float) -> np.ndarray:
    line = np.exp(-0.5 * ((np.arange(taps) - taps // 2) / sigma) ** 2)
    return np.outer(line, line).astype(np.float32) / np.float32(line.sum() ** 2)


def delta(taps: int) -> np.ndarray:
    kernel = np.zeros((taps, taps), np.float32)
    kernel[taps // 2, taps // 2] = 1
    return kernel


def edges(grey: np.ndarray) -> np.ndarray:
    """The gradient of the image as a picture: its strength is the brightness, its direction the hue."""
    sobel = np.outer([1, 2, 1], [-1, 0, 1]).astype(np.float32)
    soft = per_channel(grey, gaussian(5, 1.0))
    across, down = per_channel(soft, sobel)[0], per_channel(soft, sobel.T)[0]
    strength = np.hypot(across, down)
    value = np.clip(strength / max(np.percentile(strength, 98.5), 1e-6), 0, 1) ** 0.8
    hue = (np.arctan2(down, across) / np.pi) % 1  # bright and dark lines of one direction have one hue
    return extra("matplotlib.colors").hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.65), value], -1))


def show(image: np.ndarray) -> np.ndarray:
    """An image as matplotlib takes it: channels last, values from 0 to 1."""
    return np.clip(np.moveaxis(image, 0, -1).squeeze(), 0, 1)


def sheet(shown: list[Panel], file: Any) -> None:
    """Write the contact sheet as a PNG file."""
    height, width = shown[0].image.shape[:2]
    columns, inches = 3, 12.8
    rows = -(-len(shown) // columns)
    size = inches, inches / columns * rows * (height / width + 0.12)
    figure = extra("matplotlib.figure").Figure(figsize=size, facecolor="#14161a", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.01, hspace=0)
    for index, panel in enumerate(shown):
        axes = figure.add_subplot(rows, columns, index + 1, box_aspect=height / width)
        axes.imshow(panel.image, cmap="gray", vmin=0, vmax=1, aspect="auto")
        axes.set_axis_off()
        axes.set_title(panel.title, loc="left", color="white", fontsize=13, fontweight="bold", pad=17)
        axes.text(0, 1.02, panel.how, transform=axes.transAxes, color="#9aa3ad", fontsize=9)
    figure.savefig(file, dpi=150, format="png")


@dataclass(frozen=True)
class Problem:
    """A convolution that `compare` shows."""

    title: str
    x: np.ndarray
    weight: np.ndarray
    padding: int

    @property
    def spec(self) -> ConvSpec:
        return conv_spec(self.x.shape, self.weight.shape, (self.x.dtype,), padding=self.padding)


def problems(photo: np.ndarray) -> tuple[Problem, Problem]:
    """Two problems for which different algorithms are fastest."""
    grey = np.tensordot(LUMA, photo, 1)[None]
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape, np.float32) for shape in ((1, 64, 56, 56), (64, 64, 3, 3)))
    return (
        Problem("An image filter: the grey photograph blurred by 7 x 7", grey, gaussian(7, 1.5)[None, None], 0),
        Problem("A layer of ResNet-50, random data", x, weight, 1),
    )


def compared(problem: Problem) -> Comparison:
    """Compare the algorithms of a problem; for an image filter also with SciPy."""
    from scipy.signal import correlate2d

    x, weight = problem.x, problem.weight
    peers = {"scipy correlate2d": lambda: correlate2d(x[0], weight[0, 0], mode="valid")[None]}
    return compare(x, weight, padding=problem.padding, peers=peers if len(x) == len(weight) == 1 else {})
