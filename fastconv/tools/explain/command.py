"""The command ``fastconv explain``: pages of numbers that follow a pattern, of a photograph, or of a stack."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from ...functional.adaptive_pool import adaptive_avg_pool2d
from ...specs.arguments import integer
from ...specs.axes import by
from .. import command_arguments as kinds
from .. import demo
from .calculation import MOST_CELLS, MOST_TERMS
from .call import FUNCTIONS, explain
from .explanation import Explanation
from .stack import explain_stack

#: Longest side of what is shown of a photograph, in pixels: with 24 a page is read at a glance, and drawn on a phone.
SIDE = 24
#: The options that the operations have.
OPTIONS = "stride", "padding", "padding_mode", "dilation", "groups"
#: The kernel that photographs are shown under: Sobel's, which finds vertical edges.
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--input", metavar="CxHxW", type=as_sizes,
                      help="shape of an input of the numbers 0, 1, 2, ...: of 3x3, or of 2x3x3 with two channels, of "
                           "which the second begins with 1")  # fmt: skip
    what.add_argument("--image", metavar="FILE", help="a photograph, in grey from 0 to 255")
    what.add_argument("--layers", metavar="LAYER", nargs="+", type=kinds.as_layer,
                      help="a stack of layers, as in receptive-field: what one output sees of the input")  # fmt: skip
    parser.add_argument("--kernel", metavar="KHxKW", type=as_kernel,
                        help="shape of a kernel or window; of the numbers 0, 1, 2, ..., or from 1 and 2 on in further "
                             "channels; or the numbers, as in 1,-1 or 0,1;2,3")  # fmt: skip
    parser.add_argument("--op", metavar="OP", default="conv2d", help=f"{', '.join(FUNCTIONS)} (default: conv2d)")
    parser.add_argument("--channels", metavar="N", type=int, default=1, help="channels of the output (default: 1)")
    parser.add_argument("--stride", metavar="S", type=kinds.as_pair, help="a number or down,across")
    parser.add_argument("--padding", metavar="P", type=kinds.as_padding,
                        help="a number; down,across; top,bottom,left,right; valid, same or same_lower")  # fmt: skip
    parser.add_argument("--padding-mode", metavar="M", help="zeros (default), reflect, replicate or circular")
    parser.add_argument("--dilation", metavar="D", type=kinds.as_pair, help="as the stride")
    parser.add_argument("--groups", metavar="G", type=int, help="independent convolutions (default: 1)")
    parser.add_argument("--size", metavar="N", type=as_sizes,
                        help=f"of a photograph its longest side (default: {SIDE}), of layers the shape of their "
                             "input")  # fmt: skip
    parser.add_argument("--crop", metavar="ROW,COLUMN", type=kinds.as_numbers,
                        help="cut pixels out of the photograph from there on, and do not make it smaller")  # fmt: skip
    parser.add_argument("--at", metavar="INDEX", type=kinds.as_numbers, help="the output to print, as in 0,1")
    parser.add_argument("--output", metavar="FILE", default="explain.html", help="the page (default: explain.html)")


def run(arguments: Any) -> None:
    """Write the page, and print one sum."""
    if arguments.layers:
        _refuse(arguments, "--layers", ("kernel", *OPTIONS, "crop", "at"))
        size = arguments.size if arguments.size is None or len(arguments.size) > 1 else arguments.size[0]
        field = explain_stack(arguments.layers, size)
        field.save(arguments.output)
        print(f"{field}\n\nThe page: {arguments.output}")
        return
    if not arguments.image:
        _refuse(arguments, "--input", ("size", "crop"))
    explanation = _explained(arguments)
    text = str(explanation)
    if arguments.at is not None:
        text = f"output[{', '.join(map(str, arguments.at))}] = {explanation.text(arguments.at)}"
    explanation.save(arguments.output)
    print(text)
    print(f"The page: {arguments.output}")


def _refuse(arguments: Any, beside: str, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} does not go with {beside}")


def _explained(arguments: Any) -> Explanation:
    op, kernel, pools = arguments.op, arguments.kernel, "pool" in arguments.op
    options = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    x = photograph(arguments.image, arguments.size, arguments.crop) if arguments.image else pattern(arguments.input, op)
    if kernel is None:
        if not arguments.image:
            raise ValueError("--input needs a --kernel, like 2x2")
        kernel = (3, 3) if pools else SOBEL
    if isinstance(kernel, tuple) and len(kernel) == 1:  # for all axes
        kernel *= 1 if "1d" in op else 2
    if pools:
        if not isinstance(kernel, tuple):
            raise ValueError(f"the --kernel of {op} is its size, like 2x2")
        return explain(x, op=op, kernel_size=kernel, **options)
    return explain(x, weights(op, kernel, x, arguments.channels, arguments.groups or 1), op=op, **options)


def pattern(shape: tuple[int, ...], op: str) -> np.ndarray:
    """The numbers 0, 1, 2 ... of an input; channel 1 begins with 1, and so on."""
    axes = 1 if "1d" in op else 2
    if not axes <= len(shape) <= axes + 1:
        form = "CxW or W" if axes == 1 else "CxHxW or HxW"
        raise ValueError(f"--input of {op} must be {form}, got {by(shape)}")
    if math.prod(shape) > MOST_CELLS:
        raise ValueError(f"--input may have {MOST_CELLS:,} elements, got {by(shape)}")
    plane = np.arange(math.prod(shape[-axes:])).reshape(shape[-axes:])
    if len(shape) == axes:
        return plane
    planes: np.ndarray = plane + np.arange(shape[0]).reshape(-1, *(1,) * axes)
    return planes


def weights(op: str, kernel: Any, x: np.ndarray, outputs: int, groups: int) -> np.ndarray:
    """The kernels: given numbers for all channels, or a pattern that begins one higher with each channel."""
    outputs, groups = integer("--channels", outputs, 1), integer("--groups", groups, 1)
    axes = 1 if "1d" in op else 2
    if not isinstance(kernel, tuple):
        plane, step = kernel[0] if axes == 1 and len(kernel) == 1 else kernel, 0
    else:
        if math.prod(kernel) * outputs > MOST_TERMS:
            raise ValueError(f"--kernel may have {MOST_TERMS:,} elements in all --channels, got {by(kernel)}")
        plane, step = np.arange(math.prod(kernel)).reshape(kernel), 1
    if plane.ndim != axes:
        raise ValueError(f"--kernel of {op} must have {axes} axes, got {by(plane.shape)}")
    if op == "corr2d" or (x.ndim == axes and outputs == 1):
        single: np.ndarray = plane
        return single
    inputs = x.shape[0] if x.ndim > axes else 1
    shape = (inputs, outputs // groups) if "transpose" in op else (outputs, max(1, inputs // groups))
    offsets = np.add.outer(np.arange(shape[0]), np.arange(shape[1]))
    kernels: np.ndarray = plane + step * offsets.reshape(*shape, *(1,) * axes)
    return kernels


def photograph(file: str, size: tuple[int, ...] | None, crop: tuple[int, ...] | None) -> np.ndarray:
    """A photograph in grey, from 0 to 255: means of its pixels, or so many of them cut out at a place."""
    side = SIDE if size is None else size[0]
    if (size is not None and len(size) != 1) or side < 1:
        raise ValueError(f"--size of a photograph must be one number of at least 1, got {by(size or ())}")
    grey = 255 * (demo.load(file) @ demo.LUMA)
    if crop is None:
        scale = side / max(grey.shape)
        if scale < 1:
            smaller = tuple(max(1, round(scale * length)) for length in grey.shape)
            grey = adaptive_avg_pool2d(grey[None], smaller)[0]
    elif len(crop) != 2 or not all(0 <= start < length for start, length in zip(crop, grey.shape, strict=True)):
        raise ValueError(f"--crop must be a row and a column of the {by(grey.shape)} pixels, got {crop}")
    else:
        grey = grey[crop[0] : crop[0] + side, crop[1] : crop[1] + side]
    return np.rint(grey).astype(np.int64)


def as_sizes(text: str) -> tuple[int, ...]:
    """Sizes, as in 2x3x3."""
    sizes = kinds.as_numbers(text, "x")
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected sizes of at least 1, got {text!r}")
    return sizes


def as_kernel(text: str) -> tuple[int, ...] | np.ndarray:
    """The size of a kernel, as in 2x2 or 3; or its numbers, as in 1,-1 or 0,1;2,3."""
    if "," not in text and ";" not in text:
        return as_sizes(text)
    try:
        rows = [[float(number) for number in row.split(",")] for row in text.split(";")]
        values = np.array(rows)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected equally long rows, as in 0,1;2,3, got {text!r}") from None
    return values.astype(np.int64) if np.array_equal(np.rint(values.clip(-(2**31), 2**31)), values) else values
