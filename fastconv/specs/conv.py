"""The spec of a convolution: shapes, dtypes, padding and defaults of a call, checked once, with every error message.

A call becomes a frozen `ConvSpec`; planner and kernels trust it. Nothing here imports Numba.

The definition all algorithms compute (cross-correlation, NCHW; taps outside the input count as zero, or as the
``padding_mode`` says: then algorithms compute the `extended` convolution, of an input that has its padding)::

    y[n, o, i, j] = bias[o] + sum over c, a, b of
                    weight[o, c, a, b] * x[n, group(o) * c_in / groups + c,
                                           i * stride_h - top + a * dilation_h,
                                           j * stride_w - left + b * dilation_w]

Symbols, here and everywhere in the package:

====================  ==================================================================
``n``                 images in the batch
``c_in, c_out``       channels of the input and of the output
``h, w``              height and width of the input
``kh, kw``            height and width of the kernel (or pooling window)
``oh, ow``            height and width of the output
``groups``            the channels are split in this many independent convolutions
``stride, dilation``  pairs (vertical, horizontal)
``padding``           ((top, bottom), (left, right))
``weight``            (c_out, c_in / groups, kh, kw)
====================  ==================================================================

A signal, with one spatial axis, is an image of height 1. A volume, with three, has a `Depth` besides: sizes d, kd, od,
and a sum over kd planes z = k * stride_d - front + e * dilation_d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, cast

import numpy as np

from ..base.values import shown
from ..typing import PaddingMode
from .arguments import Pads, Pair, Sides, Sizes, extent, frozen_padding, integer, paddings, per_axis, window_size
from .arrays import check_bytes
from .axes import AXES, FLAT, FORMATS, LAYOUTS, Depth, by, volume
from .boundary import TORCH, Boundary, named
from .dtypes import PRECISIONS, accumulator, promoted, storage


class HashedOnce:
    """A dataclass that keeps its hash: every call looks its spec up in several tables."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(map(self.__dict__.__getitem__, self.__dataclass_fields__)))

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone travel: another process has other hashes of strings."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class ConvSpec(HashedOnce):
    """One convolution, all defaults filled in and all checks passed. The module's docstring explains the symbols.

    `batched` is False where the caller gave an input without the axis N; `n` is then 1.
    `dtype` is the promoted dtype of the operands, `axes` the number of spatial axes; only a volume uses `depth`.
    """

    batched: bool
    n: int
    c_in: int
    h: int
    w: int
    c_out: int
    kh: int
    kw: int
    groups: int
    stride: Pair
    padding: Pads
    dilation: Pair
    oh: int
    ow: int
    dtype: np.dtype
    activation: str | None = None
    axes: int = 2
    depth: Depth = FLAT
    precision: str = "float32"
    padding_mode: str = "zeros"
    """One of `boundary.TORCH`; "zeros" where no side is padded."""
    channels_last: bool = False
    """Whether input and output have their channels behind the spatial axes."""

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        """The sizes and all options that differ from the defaults; two problems never have equal texts."""
        sizes = f"{by(self.x_shape)} {self.dtype}, weight {by(self.weight_shape)}"
        defaults = {"stride": 1, "padding": 0, "padding_mode": "zeros", "dilation": 1, "groups": 1, "activation": None,
                    "precision": "float32", "data_format": FORMATS[self.axes][0]}  # fmt: skip
        given = {"stride": self.strides, "padding": self.paddings, "dilation": self.dilations}
        values = {label: short(given.get(label, getattr(self, label))) for label in defaults}
        return ", ".join([sizes, *(f"{label} {value}" for label, value in values.items() if value != defaults[label])])

    def as_batch(self) -> ConvSpec:
        """This convolution with an axis of images."""
        return self if self.batched else replace(self, batched=True)

    def of_images(self, n: int) -> ConvSpec:
        """This convolution for another number of images."""
        return self if n == self.n else replace(self, n=n)

    @cached_property
    def data_format(self) -> str:
        """The layout of input and output, like "NCHW"."""
        return FORMATS[self.axes][self.channels_last]

    @cached_property
    def boundary(self) -> Boundary:
        """What the padding stands for."""
        return TORCH[self.padding_mode]

    @cached_property
    def extended(self) -> ConvSpec:
        """The convolution that algorithms compute: with channels first and, if the padding is not zeros, of the input
        with its padding."""
        if self.channels_last:
            return replace(self, channels_last=False).extended
        if self.padding_mode == "zeros":
            return self
        depth = self.depth
        high, wide = (size + sum(sides) for size, sides in zip((self.h, self.w), self.padding, strict=True))
        deep = depth._replace(d=depth.d + sum(depth.padding), padding=(0, 0))
        return replace(self, h=high, w=wide, padding=((0, 0), (0, 0)), depth=deep, padding_mode="zeros")

    @cached_property
    def floor(self) -> np.generic:
        """The least value that an output may have: zero with "relu", otherwise `lowest`."""
        return self.acc_dtype.type(0) if self.activation == "relu" else self.lowest

    @cached_property
    def lowest(self) -> np.generic:
        """A value that is below all others, except NaN."""
        return self.acc_dtype.type(-np.inf if self.acc_dtype.kind == "f" else np.iinfo(self.acc_dtype).min)

    @cached_property
    def x_dtype(self) -> np.dtype:
        """The dtype that kernels read `x` as: float16 as float32, bool as uint8, integers beyond 8 bits as int64."""
        return storage(self.dtype)

    @cached_property
    def acc_dtype(self) -> np.dtype:
        """The dtype that the kernels add up in, and that they read weights as."""
        return accumulator(self.dtype)

    @cached_property
    def out_dtype(self) -> np.dtype:
        """The dtype of the caller's result: that of a float input, or the one that integers are added up in."""
        return self.dtype if self.dtype.kind in "fV" else self.acc_dtype

    @cached_property
    def strides(self) -> Sizes:
        """The stride of every spatial axis."""
        return (self.depth.stride, *self.stride)[3 - self.axes :]

    @cached_property
    def paddings(self) -> Sides:
        """The padding of every spatial axis."""
        return (self.depth.padding, *self.padding)[3 - self.axes :]

    @cached_property
    def dilations(self) -> Sizes:
        """The dilation of every spatial axis."""
        return (self.depth.dilation, *self.dilation)[3 - self.axes :]

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input as the caller gives it."""
        sizes = (self.depth.d, self.h, self.w)[3 - self.axes :]
        return self._ordered(self.c_in, sizes)

    def _ordered(self, channels: int, sizes: Sizes) -> tuple[int, ...]:
        shape = (self.n, *sizes, channels) if self.channels_last else (self.n, channels, *sizes)
        return shape[0 if self.batched else 1 :]

    @cached_property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as the caller gives it."""
        return (self.c_out, self.c_in // self.groups, *(self.depth.kd, self.kh, self.kw)[3 - self.axes :])

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output as the caller gets it."""
        sizes = (self.depth.od, self.oh, self.ow)[3 - self.axes :]
        return self._ordered(self.c_out, sizes)

    @cached_property
    def kernel_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shapes of input, weight and output as algorithms take them: with all axes, and D only in a volume."""
        depth, first = self.depth, 2 if self.axes < 3 else 1
        return (
            (self.n, self.c_in, *(1, depth.d, self.h, self.w)[first:]),
            (self.c_out, self.c_in // self.groups, *(1, depth.kd, self.kh, self.kw)[first:]),
            (self.n, self.c_out, *(1, depth.od, self.oh, self.ow)[first:]),
        )

    @cached_property
    def taps(self) -> int:
        """Products summed for one output element."""
        return self.c_in // self.groups * self.depth.kd * self.kh * self.kw

    @cached_property
    def flops(self) -> int:
        """Multiplications and additions of the definition."""
        return 2 * self.n * self.c_out * self.depth.od * self.oh * self.ow * self.taps

    @cached_property
    def padded(self) -> bool:
        """Whether any side is padded."""
        return any(side for axis in self.paddings for side in axis)


def short(value: Any) -> Any:
    """A tuple of equal items as one of the items, also in nested tuples; any other value as it is."""
    while isinstance(value, tuple) and value.count(value[0]) == len(value):
        value = value[0]
    return value


def told(name: str, value: Any, default: int) -> str:
    """An option as an error names it behind others; nothing of one that is not given."""
    return "" if short(value) == default else f", {name} {short(value)}"


def conv_spec(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    dtypes: Sequence[np.dtype],
    *,
    axes: int = 2,
    bias_shape: Sequence[int] | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    activation: Any = None,
    precision: Any = "float32",
    padding_mode: Any = "zeros",
    channels_last: bool = False,
    names: str = "x, weight",
) -> ConvSpec:
    """Check a convolution along so many axes. `dtypes` are those of the operands that are there: x, weight, bias;
    `names` (one string, whose hash is kept) those of the caller's arguments with the shapes of the first two."""
    if not type(stride) is type(padding) is type(dilation) is type(groups) is int:  # as they mostly are
        stride, dilation = per_axis("stride", stride, 1, axes), per_axis("dilation", dilation, 1, axes)
        padding, groups = frozen_padding(padding, axes), integer("groups", groups, 1)
    return _conv_spec(
        axes,
        tuple(x_shape),
        tuple(weight_shape),
        tuple(dtypes),
        None if bias_shape is None else tuple(bias_shape),
        stride,
        padding,
        dilation,
        groups,
        None if activation is None else _activation(activation),
        precision if type(precision) is str and precision == "float32" else _precision(precision),
        padding_mode if type(padding_mode) is str and padding_mode == "zeros" else check_mode(padding_mode),
        channels_last,
        names,
    )


def _precision(value: object) -> str:
    if isinstance(value, str) and value in PRECISIONS:
        return value
    raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {shown(value)}")


def check_mode(value: object) -> PaddingMode:
    """A `padding_mode` by name; ValueError if there is none."""
    named("padding_mode", value, TORCH)
    return cast(PaddingMode, str(value))


def _check_reach(name: str, mode: str, pads: Sides, sizes: Sizes) -> None:
    """ValueError if padding reaches beyond what a mode is defined for, which PyTorch limits it to."""
    for axis, sides, size in zip(AXES[len(sizes)], pads, sizes, strict=True):
        if (most := {"reflect": size - 1, "circular": size}.get(mode, max(sides))) < max(sides):
            raise ValueError(f"padding must be at most {most} with padding_mode={mode!r} on the {axis} axis of {name}, "
                             f"which has size {size}, got {sides}")


def filter_spec(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], dtypes: Sequence[np.dtype], padding: Any = 0,
    padding_mode: Any = "zeros",
) -> ConvSpec:  # fmt: skip
    """Check image filters: images and kernels (height, width), whose shapes here begin with two more axes."""
    for name, given in (("x", x_shape[2:]), ("kernel", weight_shape[2:])):
        if len(given) != 2 or 0 in given:
            raise ValueError(f"{name} must have two axes of at least one element, got shape {given}")
    return conv_spec(x_shape, weight_shape, dtypes, padding=padding, padding_mode=padding_mode, names="x, kernel")


def _activation(value: object) -> str:
    if isinstance(value, str) and value == "relu":
        return value
    raise ValueError(f"activation must be None or 'relu', got {shown(value)}")


@lru_cache(maxsize=4096)
def _conv_spec(
    axes: int,
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    dtypes: tuple[np.dtype, ...],
    bias_shape: tuple[int, ...] | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    activation: str | None,
    precision: str,
    padding_mode: str,
    channels_last: bool,
    names: str,
) -> ConvSpec:
    """Check a convolution. No number is a bool, which the cache would take for 0 or 1."""
    stride, dilation = per_axis("stride", stride, 1, axes), per_axis("dilation", dilation, 1, axes)
    padding, groups = frozen_padding(padding, axes), integer("groups", groups, 1)
    layout, (x, weight) = LAYOUTS[axes], names.split(", ")
    if channels_last:
        layout = f"({', '.join(FORMATS[axes][1])})"
    if len(x_shape) not in (axes + 1, axes + 2):
        raise ValueError(f"{x} must have shape {layout} or {layout.replace('N, ', '')}, got {shown(x_shape)}")
    if len(weight_shape) != axes + 2:
        kernel_axes = ", ".join(f"K{name}" for name in "DHW"[3 - axes :])
        raise ValueError(f"{weight} must have shape (C_out, C_in / groups, {kernel_axes}), got {shown(weight_shape)}")
    batched = len(x_shape) == axes + 2
    n, (c_in, *size) = x_shape[0] if batched else 1, x_shape[-axes - 1 :]
    if channels_last:
        *size, c_in = x_shape[-axes - 1 :]
    if min(c_in, *size) < 1:
        raise ValueError(f"{x} must have no empty axis but the batch's, got shape {x_shape}")
    if min(weight_shape) < 1:
        raise ValueError(f"{weight} must have no empty axis, got shape {weight_shape}")
    c_out, c_group, *kernel = weight_shape
    if c_in % groups or c_out % groups:
        raise ValueError(f"groups must divide the channels: got groups={groups} for {c_in} channels in, {c_out} out")
    if c_in != c_group * groups:
        raise ValueError(f"{x} has {c_in} channels, but {weight} of shape {weight_shape} with groups={groups} needs "
                         f"{c_group * groups}; {x} has shape {x_shape}")
    if bias_shape is not None and bias_shape != (c_out,):
        raise ValueError(f"bias must have shape ({c_out},), one value an output channel, got {bias_shape}")
    window = window_size(kernel, dilation)
    pads = paddings(padding, tuple(size), window, stride)
    padding_mode = padding_mode if any(map(any, pads)) else "zeros"
    _check_reach(x, padding_mode, pads, tuple(size))
    outs = tuple([extent(*axis) for axis in zip(size, window, pads, stride, strict=True)])
    if min(outs) < 1:
        room = tuple([extended + sum(sides) for extended, sides in zip(size, pads, strict=True)])
        raise ValueError(f"the kernel covers {by(window)} pixels ({weight} of shape {weight_shape}"
                         f"{told('dilation', dilation, 1)}), more than the {by(room)} of {x} ({x_shape}"
                         f"{told('padding', pads, 0)})")
    dtype = promoted(dtypes)
    if precision != "float32" and dtype != np.float32:
        raise ValueError(f"precision={precision!r} is for operands of float32, got {dtype}")
    d, h, w = volume(tuple(size))
    kd, kh, kw = volume(tuple(kernel))
    od, oh, ow = volume(outs)
    step, *steps = volume(stride)
    sides, *across = volume(pads, (0, 0))
    gap, *gaps = volume(dilation)
    spec = ConvSpec(
        batched, n, c_in, h, w, c_out, kh, kw, groups, (steps[0], steps[1]), (across[0], across[1]), (gaps[0], gaps[1]),
        oh, ow, dtype, activation, axes, Depth(d, kd, step, sides, gap, od), precision, padding_mode,
        channels_last,
    )  # fmt: skip
    check_bytes(spec.output_shape, spec.out_dtype, "the output", spec)
    if padding_mode != "zeros":
        check_bytes(spec.extended.x_shape, spec.acc_dtype, "the padded input", spec)
    return _one_of_equals(spec)


@lru_cache(maxsize=4096)
def _one_of_equals(spec: ConvSpec) -> ConvSpec:
    """The first spec that equals this one: caches find a spec that is one of their keys without comparing 20 fields.

    `corr2d` and `conv2d` name their arguments differently, so that equal problems come here twice. (Comparing takes
    0.8 us, a third of the time of a small call.)
    """
    return spec
