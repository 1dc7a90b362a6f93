"""Arithmetic of layers without arrays: output shapes and receptive fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..base.values import shown
from ..specs import arguments
from ..specs.arguments import Sides, Sizes, extent, flag, integer, paddings, per_axis, window_size
from ..typing import Padding, PerAxis, Shape
from .crop import cropped_shape


def output_shape(
    x_shape: Shape,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
    channels: int | None = None,
    axes: int = 2,
) -> tuple[int, ...]:
    """Shape of the output of a convolution or pooling layer, found without computing the output.

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
        Number of output channels; by default the number of input channels, as in pooling.
    axes : {1, 2, 3}
        Number of spatial axes, the last ones of `x_shape`: 1 for signals, 3 for volumes.

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
    >>> fastconv.output_shape((1, 3, 16, 112, 112), 3, stride=(1, 2, 2), padding=1, channels=64, axes=3)
    (1, 64, 16, 56, 56)
    """
    axes = _axes(axes)
    shape = arguments.shape("x_shape", x_shape)
    size, lead = shape[-axes:], shape[:-axes]
    if len(size) < axes or min(size) < 1:
        raise ValueError(f"x_shape must end in {axes} spatial sizes of at least 1, got {shown(shape)}")
    step, gap = per_axis("stride", stride, 1, axes), per_axis("dilation", dilation, 1, axes)
    window = window_size(per_axis("kernel_size", kernel_size, 1, axes), gap)
    size, padding, _ = cropped_shape(size, padding, axes)
    pads = paddings(padding, size, window, step)
    rounding = flag("ceil_mode", ceil_mode)
    sizes = [extent(*axis, ceil_mode=rounding) for axis in zip(size, window, pads, step, strict=True)]
    if min(sizes) < 1:
        raise ValueError(f"no window of {'x'.join(map(str, window))} fits x_shape {shown(shape)}: kernel_size "
                         f"{shown(kernel_size)}, stride {step}, padding {pads}, dilation {gap}")
    if channels is not None:
        if not lead:
            raise ValueError(f"channels was given, but x_shape {shape} has no channel axis")
        lead = (*lead[:-1], integer("channels", channels, 1))
    return (*lead, *sizes)


def _axes(axes: object) -> int:
    number = integer("axes", axes, 1)
    if number > 3:
        raise ValueError(f"axes must be 1, 2 or 3, got {number}")
    return number


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the input that one output element of a stack of layers sees, per axis (vertical, horizontal)."""

    size: Sizes
    """Rows and columns of the input that one output element depends on."""
    stride: Sizes
    """Distance in input pixels between the fields of neighbouring output elements."""
    start: Sizes
    """Row and column where the field of output element (0, 0) begins; negative inside the padding."""


def receptive_field(layers: Sequence[Any], *, axes: int = 2) -> ReceptiveField:
    """Receptive field of a stack of convolution and pooling layers.

    Parameters
    ----------
    layers : sequence
        The layers from the input on. Each is a mapping with ``kernel_size`` and optionally ``stride``, ``padding`` and
        ``dilation``, or a tuple of these in this order, or a bare kernel size. Each value is as in `conv2d` (``"same"``
        only where the stride is 1, because its padding depends on the size of the input otherwise).
    axes : {1, 2, 3}
        Number of spatial axes of the layers: 1 for signals, 3 for volumes.

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

    Three layers of a dilated stack see 15 samples of a signal:

    >>> fastconv.receptive_field([(3, 1, 0, 1), (3, 1, 0, 2), (3, 1, 0, 4)], axes=1).size
    (15,)
    """
    axes = _axes(axes)
    size, jump, start = [1] * axes, [1] * axes, [0] * axes
    for layer in stack(layers, axes):
        for axis in range(axes):
            size[axis] += (layer.window[axis] - 1) * jump[axis]
            start[axis] -= layer.padding[axis][0] * jump[axis]
            jump[axis] *= layer.stride[axis]
    return ReceptiveField(tuple(size), tuple(jump), tuple(start))


class Layer(NamedTuple):
    """A layer of a stack, with numbers for each axis."""

    kernel: Sizes
    stride: Sizes
    padding: Sides
    dilation: Sizes

    @property
    def window(self) -> Sizes:
        """The pixels that a window covers."""
        return window_size(self.kernel, self.dilation)


def stack(layers: Sequence[Any], axes: int) -> Iterator[Layer]:
    """The layers of a stack, as `receptive_field` takes them, one after the other; ValueError or TypeError at one that
    is malformed."""
    names = ("kernel_size", "stride", "padding", "dilation")
    if not isinstance(layers, Sequence) or isinstance(layers, (str, bytes)):
        raise TypeError(f"layers must be a sequence of layers, got {shown(layers)}")
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
                raise ValueError(f"{where} must be (kernel_size[, stride[, padding[, dilation]]]), got {shown(layer)}")
            values = dict(zip(names, given, strict=False))
        kernel = per_axis(f"{where} kernel_size", values["kernel_size"], 1, axes)
        stride = per_axis(f"{where} stride", values.get("stride", 1), 1, axes)
        dilation = per_axis(f"{where} dilation", values.get("dilation", 1), 1, axes)
        padding = values.get("padding", 0)
        if padding in ("same", "same_lower") and max(stride) > 1:
            raise ValueError(f"{where} has padding {padding!r} with stride {stride}: give the padding in numbers, it "
                             "depends on the size of the input")
        window = window_size(kernel, dilation)
        yield Layer(kernel, stride, paddings(padding, window, window, stride, f"{where} padding"), dilation)
