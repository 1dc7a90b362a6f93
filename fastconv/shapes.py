"""Arithmetic of layers without arrays: output shapes and receptive fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import checks
from .checks import Pair, extent, flag, integer, paddings, pair


def output_shape(
    x_shape: Sequence[int],
    kernel_size: int | Pair,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    *,
    ceil_mode: bool = False,
    channels: int | None = None,
) -> tuple[int, ...]:
    """Shape of the output of a convolution or pooling layer, without computing it.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the input; the last two axes are height and width.
    kernel_size, stride, dilation : int or (int, int)
        Window, step and spacing of the taps, vertical first.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        Zeros added around the input, as in `conv2d`.
    ceil_mode : bool
        Round up instead of down, as pooling layers may.
    channels : int, optional
        Number of output channels; the input's own by default, as in pooling.

    Returns
    -------
    tuple of int
        `x_shape` with the channel axis (if there is one) and the last two axes replaced.

    Raises
    ------
    ValueError, TypeError
        If an argument is malformed or no window fits.

    Notes
    -----
    Per axis ``floor((n + p - window + stride) / stride)``, where ``p`` is the padding of both sides together and
    ``window = dilation * (kernel - 1) + 1``.

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.output_shape((8, 8), (3, 5), stride=(3, 4), padding=(0, 1))
    (2, 2)
    >>> fastconv.output_shape((1, 3, 224, 224), 7, stride=2, padding=3, channels=64)
    (1, 64, 112, 112)
    """
    shape = checks.shape("x_shape", x_shape)
    if len(shape) < 2 or min(shape[-2:]) < 1:
        raise ValueError(f"x_shape must end in a height and a width of at least 1, got {shape}")
    kernel, step, gap = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1), pair("dilation", dilation, 1)
    window = gap[0] * (kernel[0] - 1) + 1, gap[1] * (kernel[1] - 1) + 1
    pads = paddings(padding, (shape[-2], shape[-1]), window, step)
    rounding = flag("ceil_mode", ceil_mode)
    sizes = [extent(*axis, ceil_mode=rounding) for axis in zip(shape[-2:], window, pads, step, strict=True)]
    if min(sizes) < 1:
        raise ValueError(f"no window of {window[0]}x{window[1]} fits the padded input of shape {shape}")
    lead = shape[:-2]
    if channels is not None:
        if not lead:
            raise ValueError(f"channels was given, but x_shape {shape} has no channel axis")
        lead = (*lead[:-1], integer("channels", channels, 1))
    return (*lead, *sizes)


@dataclass(frozen=True)
class ReceptiveField:
    """What one output element of a stack of layers sees of the input, per axis (vertical, horizontal)."""

    size: Pair
    """Rows and columns of the input that one output element depends on."""
    stride: Pair
    """Distance in input pixels between the fields of neighbouring output elements."""
    start: Pair
    """Row and column where the field of output element (0, 0) begins; negative inside the padding."""


def receptive_field(layers: Sequence[Any]) -> ReceptiveField:
    """Receptive field of a stack of convolution and pooling layers.

    Parameters
    ----------
    layers : sequence
        From the input on. Each layer is a mapping with ``kernel_size`` and optionally ``stride``, ``padding``
        and ``dilation``, or a tuple of these in this order, or a bare kernel size. Each value is as in `conv2d`
        (``"same"`` only where the stride is 1, because its padding depends on the size of the input otherwise).

    Returns
    -------
    ReceptiveField
        ``size``, ``stride`` and ``start`` in input pixels.

    Raises
    ------
    ValueError, TypeError
        If a layer is malformed.

    Notes
    -----
    Source: Araujo, Norris and Sim, Computing receptive fields of convolutional neural networks, Distill 2019.

    Examples
    --------
    Two stacked 2x2 layers see 3x3 pixels:

    >>> import fastconv
    >>> fastconv.receptive_field([2, 2])
    ReceptiveField(size=(3, 3), stride=(1, 1), start=(0, 0))
    >>> fastconv.receptive_field([dict(kernel_size=7, stride=2, padding=3), (3, 2, 1)]).size
    (11, 11)
    """
    size, jump, start = [1, 1], [1, 1], [0, 0]
    names = ("kernel_size", "stride", "padding", "dilation")
    if not isinstance(layers, Sequence):
        raise TypeError(f"layers must be a sequence of layers, got {layers!r}")
    for number, layer in enumerate(layers):
        where = f"layers[{number}]"
        if isinstance(layer, dict):
            if unknown := set(layer) - set(names):
                raise ValueError(f"{where} has {', '.join(sorted(map(str, unknown)))}; allowed are {', '.join(names)}")
            if "kernel_size" not in layer:
                raise ValueError(f"{where} has no kernel_size")
            values = layer
        else:
            given = layer if isinstance(layer, (tuple, list)) else (layer,)
            if not 1 <= len(given) <= len(names):
                raise ValueError(f"{where} must be (kernel_size[, stride[, padding[, dilation]]]), got {layer!r}")
            values = dict(zip(names, given, strict=False))
        kernel = pair(f"{where} kernel_size", values["kernel_size"], 1)
        stride = pair(f"{where} stride", values.get("stride", 1), 1)
        dilation = pair(f"{where} dilation", values.get("dilation", 1), 1)
        window = dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
        padding = values.get("padding", 0)
        if padding in ("same", "same_lower") and stride != (1, 1):
            raise ValueError(f"{where} has padding {padding!r} with stride {stride}: give the padding in numbers, it "
                             "depends on the size of the input")
        pads = paddings(padding, window, window, stride, f"{where} padding")
        for axis in range(2):
            size[axis] += (window[axis] - 1) * jump[axis]
            start[axis] -= pads[axis][0] * jump[axis]
            jump[axis] *= stride[axis]
    return ReceptiveField((size[0], size[1]), (jump[0], jump[1]), (start[0], start[1]))
