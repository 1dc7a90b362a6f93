"""The demonstration of the command line: one photograph under eleven filters, on one contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ndimage as ndi
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
#: A light from the upper left.
RELIEF = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]) / 2


@dataclass(frozen=True)
class Panel:
    """One picture of the sheet: `image` is (H, W, 3) or (H, W) with values from 0 to 1."""

    title: str
    how: str
    image: np.ndarray


def load(file: str | None) -> np.ndarray:
    """A photograph as float32 (H, W, 3) with values from 0 to 1: the file's, or one that comes with scikit-image."""
    if file is None:
        rgb = extra("skimage.data").chelsea()
    else:
        with extra("PIL.Image").open(file) as picture:
            upright = extra("PIL.ImageOps").exif_transpose(picture).convert("RGB")
        upright.thumbnail((SIDE, SIDE))
        rgb = np.asarray(upright)
    return rgb.astype(np.float32) / 255


def panels(photo: np.ndarray) -> list[Panel]:
    """The photograph, and what eleven filters make of it."""
    grey = photo @ LUMA
    soft = ndi.gaussian_filter(photo, 1.5, channel_axis=-1)
    window = max(1, photo.shape[1] // 60)
    x, swap = np.moveaxis(photo, -1, 0), np.array([[0, 0, 1], [0.2, 0.8, 0], [1, 0, 0]], np.float32)
    shown = [
        ("Photograph", f"{photo.shape[1]} x {photo.shape[0]} pixels, three channels", photo),
        ("Blur", "gaussian_filter(photo, 4)", ndi.gaussian_filter(photo, 4, channel_axis=-1)),
        ("Sharpen", "photo + 2 * (photo - gaussian_filter(photo, 1.5))", photo + 2 * (photo - soft)),
        ("Median", "median_filter(photo, 9): edges stay", ndi.median_filter(photo, 9, channel_axis=-1)),
        ("Edges", "sobel, down and across; their direction is the hue", edges(ndi.gaussian_filter(grey, 1))),
        ("Relief", "correlate(grey, 3 x 3): the slope along the diagonal", 0.5 + ndi.correlate(grey, RELIEF)),
        ("Pencil", "gaussian_laplace(grey, 1.5)", 1 - 9 * np.maximum(ndi.gaussian_laplace(grey, 1.5), 0)),
        ("Contrast", "std_filter(grey, 7)", 5 * ndi.std_filter(grey, 7)),
        ("Opening", "grey_opening(photo, 9)", ndi.grey_opening(photo, 9, channel_axis=-1)),
        ("Colour mix", "conv2d, 1 x 1: red and blue change places", last(conv2d(x, swap[:, :, None, None]))),
        ("Max pooling", f"max_pool2d: the brightest of {window} x {window}", last(max_pool2d(x, window))),
        ("Average pooling", f"avg_pool2d: the mean of {window} x {window}", last(avg_pool2d(x, window))),
    ]
    return [Panel(title, how, np.clip(image, 0, 1)) for title, how, image in shown]


def last(image: np.ndarray) -> np.ndarray:
    """An image whose channels came first, with its channels last."""
    return np.moveaxis(image, 0, -1)


def edges(grey: np.ndarray) -> np.ndarray:
    """The gradient of the image as a picture: its strength is the brightness, its direction the hue."""
    across, down = ndi.sobel(grey, 1), ndi.sobel(grey, 0)
    strength = np.hypot(across, down)
    value = np.clip(strength / max(np.percentile(strength, 98.5), 1e-6), 0, 1) ** 0.8
    hue = (np.arctan2(down, across) / np.pi) % 1  # bright and dark lines of one direction have one hue
    return extra("matplotlib.colors").hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.65), value], -1))


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
    grey, rng = (photo @ LUMA)[None], np.random.default_rng(0)
    line = np.exp(-0.5 * (np.arange(-3, 4) / 1.5) ** 2)
    window = np.outer(line, line).astype(np.float32) / np.float32(line.sum() ** 2)
    x, weight = (rng.standard_normal(shape, np.float32) for shape in ((1, 64, 56, 56), (64, 64, 3, 3)))
    return (
        Problem("An image filter: the grey photograph blurred by 7 x 7", grey, window[None, None], 0),
        Problem("A layer of ResNet-50, random data", x, weight, 1),
    )


def compared(problem: Problem) -> Comparison:
    """Compare the algorithms of a problem; for an image filter also with SciPy."""
    from scipy.signal import correlate2d

    x, weight = problem.x, problem.weight
    peers = {"scipy correlate2d": lambda: correlate2d(x[0], weight[0, 0], mode="valid")[None]}
    return compare(x, weight, padding=problem.padding, peers=peers if len(x) == len(weight) == 1 else {})
