"""Small problems, one for each kernel file: what `walks` and `gpu_walks` run and `pictures` draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastconv
from fastconv import ndimage


@dataclass(frozen=True)
class Problem:
    """A call of one operation by one algorithm."""

    stem: str
    """The kernel file's name, without its ending."""
    text: str
    """The call, as a reader would write it."""
    call: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    x: np.ndarray = field(repr=False)
    """What the call is given, and whose elements are watched; `numbers` in place of random ones."""


def problems() -> list[Problem]:
    """A problem for each kernel file, in the order in which readers meet them."""
    return [*convolutions(), *transposed(), *weight_gradients(), *poolings(), *order_statistics(), *others()]


def numbers(*shape: int, dtype: type = np.float32) -> np.ndarray:
    """An array of random numbers; integers are 1 to 99."""
    rng = np.random.default_rng(sum(shape))
    return rng.integers(1, 100, shape).astype(dtype) if np.dtype(dtype).kind == "u" else rng.random(shape, dtype)


def convolutions() -> list[Problem]:
    """Convolutions of an image, or of the kind of layer that an algorithm is for."""
    layer = numbers(1, 2, 12, 16), numbers(2, 2, 3, 3), {"padding": 1}, "2 to 2 channels, 3x3, padding=1"
    image = numbers(1, 1, 12, 16), numbers(1, 1, 3, 3), {"padding": 1}, "one channel, 3x3, padding=1"
    large = numbers(1, 1, 12, 16), numbers(1, 1, 5, 5), {"padding": 2}, "one channel, 5x5, padding=2"
    product = numbers(1, 1, 12, 16), np.ones((1, 1, 3, 3), np.float32), {"padding": 1}, "a 3x3 box, padding=1"
    flat = numbers(1, 1, 6, 40), numbers(1, 1, 1, 5), {"padding": (0, 2)}, "one channel, 1x5, padding=(0, 2)"
    depthwise = numbers(1, 2, 12, 16), numbers(2, 1, 3, 3), {"padding": 1, "groups": 2}, "groups=2, 3x3, padding=1"
    pointwise = numbers(1, 3, 6, 8), numbers(2, 3, 1, 1), {}, "3 to 2 channels, 1x1"
    whole = numbers(1, 2, 6, 8), numbers(4, 2, 6, 8), {}, "2 to 4 channels, a kernel as large as the image"
    chosen = {
        "naive": layer, "im2col": layer, "im2col_blas": layer, "direct": layer, "winograd": layer, "dense": whole,
        "pointwise": pointwise, "depthwise": depthwise, "image": image, "row": image, "separable": product,
        "polyphase": flat, "dft": large, "fft": large, "fft2d": large,
    }  # fmt: skip
    return [
        Problem(f"conv_{name}", f'conv2d(x, weight, algorithm="{name}"): {text}',
                lambda x, weight=weight, name=name, options=options: fastconv.conv2d(
                    x, weight, algorithm=name, **options), x)
        for name, (x, weight, options, text) in chosen.items()
    ]  # fmt: skip


def transposed() -> list[Problem]:
    """Transposed convolutions with a stride of 2."""
    found = []
    for stem, name, kernel, groups in (("phases", "phases", 3, 1), ("columns", "columns", 4, 1),
                                       ("depthwise", "depthwise", 4, 2)):  # fmt: skip
        weight = numbers(2, 2 // groups, kernel, kernel)
        text = f"stride=2, {kernel}x{kernel}, groups={groups}"
        found.append(Problem(
            f"transpose_{stem}", f'conv_transpose2d(x, weight, algorithm="{name}"): {text}',
            lambda x, weight=weight, name=name, groups=groups: fastconv.conv_transpose2d(
                x, weight, stride=2, groups=groups, algorithm=name), numbers(1, 2, 6, 8)))  # fmt: skip
    return found


def weight_gradients() -> list[Problem]:
    """Gradients for a weight of 3x3; those of pixels for a depthwise layer."""
    found = []
    for name, groups in (("naive", 1), ("channels", 1), ("pixels", 2)):
        shape, grad = (2, 2 // groups, 3, 3), numbers(1, 2, 6, 8)
        found.append(Problem(
            f"weight_{name}", f'grad.conv2d_weight(x, ..., algorithm="{name}"): 3x3, padding=1, groups={groups}',
            lambda x, shape=shape, grad=grad, name=name, groups=groups: fastconv.grad.conv2d_weight(
                x, shape, grad, padding=1, groups=groups, algorithm=name), numbers(1, 2, 6, 8)))  # fmt: skip
    return found


def poolings() -> list[Problem]:
    """Maxima of the windows that an algorithm is for."""
    chosen = {
        "naive": ((3, 2, 1), (12, 16)), "rows": ((3, 2, 1), (12, 16)), "across": (((1, 3), (1, 2)), (4, 33)),
        "running": ((7, 1, 3), (16, 20)), "global": (((6, 8),), (6, 8)),
    }  # fmt: skip
    return [
        Problem(f"pool_{name}", f'max_pool2d(x, {", ".join(map(str, window))}, algorithm="{name}")',
                lambda x, window=window, name=name: fastconv.max_pool2d(x, *window, algorithm=name),
                numbers(1, 1, *shape))
        for name, (window, shape) in chosen.items()
    ]  # fmt: skip


def order_statistics() -> list[Problem]:
    """Filters of `ndimage`, whose windows decide which algorithm runs."""
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
    disc = np.hypot(*np.mgrid[-6:7, -6:7]) < 6.5
    return [
        Problem("order_taps", "maximum_filter(x, footprint=a cross)",
                lambda x: ndimage.maximum_filter(x, footprint=cross), numbers(12, 16)),
        Problem("order_running", "maximum_filter(x, 9)", lambda x: ndimage.maximum_filter(x, 9), numbers(16, 20)),
        Problem("order_network", "median_filter(x, 3)", lambda x: ndimage.median_filter(x, 3), numbers(12, 16)),
        Problem("order_ranked", "median_filter(x, footprint=a disc of 13x13)",
                lambda x: ndimage.median_filter(x, footprint=disc), numbers(20, 24)),
        Problem("order_columns", "median_filter(x, 15), uint8", lambda x: ndimage.median_filter(x, 15),
                numbers(20, 24, dtype=np.uint8)),
    ]  # fmt: skip


def others() -> list[Problem]:
    """Windows of unequal size, and what moves elements."""
    x, indices = numbers(1, 1, 6, 8), np.arange(12).reshape(1, 1, 3, 4) * 4
    return [
        Problem("adaptive_windows", "adaptive_avg_pool2d(x, (4, 6))",
                lambda x: fastconv.adaptive_avg_pool2d(x, (4, 6)), numbers(1, 1, 10, 16)),
        Problem("gradient_scatter", "grad.avg_pool2d((1, 1, 6, 8), gradient, 3, 2)",
                lambda gradient: fastconv.grad.avg_pool2d(x, gradient, 3, 2), numbers(1, 1, 2, 3)),
        Problem("unfold_im2col", "unfold2d(x, 2)", lambda x: fastconv.unfold2d(x, 2), numbers(1, 1, 5, 6)),
        Problem("fold_col2im", "fold2d(columns, (5, 6), 2)", lambda x: fastconv.fold2d(x, (5, 6), 2),
                numbers(1, 4, 20)),
        Problem("unpool_scatter", "max_unpool2d(x, indices, 2)",
                lambda x: fastconv.max_unpool2d(x, indices, 2), numbers(1, 1, 3, 4)),
    ]  # fmt: skip


def gpu_problems(put: Callable[[np.ndarray], Any]) -> list[Problem]:
    """A problem for each kernel file of the GPU. Calls take NumPy's arrays, of which `put` makes a GPU's."""
    x, indices = numbers(1, 1, 6, 8), np.arange(12).reshape(1, 1, 3, 4) * 4
    layer = put(numbers(2, 2, 3, 3)), {"padding": 1}, numbers(1, 2, 8, 12), "2 to 2 channels, 3x3, padding=1"
    depthwise = put(numbers(2, 1, 3, 3)), {"padding": 1, "groups": 2}, numbers(1, 2, 8, 12), "groups=2, 3x3, padding=1"
    pointwise = put(numbers(2, 3, 1, 1)), {}, numbers(1, 3, 6, 8), "3 to 2 channels, 1x1"
    found = []
    for name in fastconv.algorithms("conv2d", "cuda"):
        weight, options, image, text = {"depthwise": depthwise, "pointwise": pointwise}.get(name, layer)
        found.append(Problem(
            f"conv_{name}", f'conv2d(x, weight, algorithm="{name}"): {text}',
            lambda x, weight=weight, name=name, options=options: fastconv.conv2d(
                put(x), weight, algorithm=name, **options), image))  # fmt: skip
    for name in fastconv.algorithms("conv2d_weight", "cuda"):
        groups, grad = 2 if name == "pixels" else 1, put(numbers(1, 2, 6, 8))
        shape = (2, 2 // groups, 3, 3)
        found.append(Problem(
            f"weight_{name}", f'grad.conv2d_weight(x, ..., algorithm="{name}"): 3x3, padding=1, groups={groups}',
            lambda x, name=name, shape=shape, grad=grad, groups=groups: fastconv.grad.conv2d_weight(
                put(x), shape, grad, padding=1, groups=groups, algorithm=name), numbers(1, 2, 6, 8)))  # fmt: skip
    for name, window, shape in (("naive", (3, 2, 1), (12, 16)), ("rows", (3, 2, 1), (12, 16)),
                                ("running", (7, 1, 3), (12, 16)), ("global", ((6, 8),), (6, 8))):  # fmt: skip
        found.append(Problem(
            f"pool_{name}", f'max_pool2d(x, {", ".join(map(str, window))}, algorithm="{name}")',
            lambda x, window=window, name=name: fastconv.max_pool2d(put(x), *window, algorithm=name),
            numbers(1, 1, *shape)))  # fmt: skip
    return [
        *found,
        Problem("transpose_phases", "conv_transpose2d(x, weight, stride=2): 2 to 2 channels, 3x3",
                lambda x: fastconv.conv_transpose2d(put(x), layer[0], stride=2), numbers(1, 2, 6, 8)),
        Problem("filter_line", "ndimage.gaussian_filter(x, 1)", lambda x: ndimage.gaussian_filter(put(x), 1),
                numbers(12, 16)),
        Problem("filter_running", "ndimage.maximum_filter(x, 5)", lambda x: ndimage.maximum_filter(put(x), 5),
                numbers(12, 16)),
        Problem("filter_dense", "ndimage.correlate(x, weights): 3x3",
                lambda x: ndimage.correlate(put(x), np.arange(9.0).reshape(3, 3) ** 2), numbers(12, 16)),
        Problem("filter_combine", "ndimage.gaussian_gradient_magnitude(x, 1), all of it",
                lambda x: ndimage.gaussian_gradient_magnitude(put(x), 1), numbers(12, 16)),
        Problem("gradient_gather", "grad.avg_pool2d((1, 1, 6, 8), gradient, 3, 2)",
                lambda gradient: fastconv.grad.avg_pool2d(put(x), put(gradient), 3, 2), numbers(1, 1, 2, 3)),
        Problem("unfold_im2col", "unfold2d(x, 2)", lambda x: fastconv.unfold2d(put(x), 2), numbers(1, 1, 5, 6)),
        Problem("fold_col2im", "fold2d(columns, (5, 6), 2)", lambda x: fastconv.fold2d(put(x), (5, 6), 2),
                numbers(1, 4, 20)),
        Problem("unpool_scatter", "max_unpool2d(x, indices, 2)",
                lambda x: fastconv.max_unpool2d(put(x), put(indices), 2), numbers(1, 1, 3, 4)),
    ]  # fmt: skip
