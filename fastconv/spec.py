"""What a call means, checked once: shapes, dtypes, padding, defaults and every error message.

A call becomes a frozen `ConvSpec` or `PoolSpec`; planner and kernels trust it. Nothing here imports Numba.

The definition all algorithms compute (cross-correlation, NCHW; taps outside the input count as zero)::

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
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .checks import BFLOAT16, Pads, Pair, check_bytes, extent, flag, frozen_padding, integer, paddings, pair

#: How float32 operands are multiplied: exactly, or on a GPU's tensor cores with 10 bits of each factor or about 21.
PRECISIONS = ("float32", "tf32", "tf32x3")

# -- convolution ---------------------------------------------------------------------------------------------


class _HashedOnce:
    """Remembers the hash of a dataclass: every call looks its spec up in several tables."""

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in fields(self)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class ConvSpec(_HashedOnce):
    """One 2-D convolution, all defaults filled in and all checks passed. The module names the symbols.

    `batched` is False where the caller gave a (C, H, W) input; `n` is then 1.
    `dtype` is the promoted dtype of the operands.
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
    precision: str = "float32"

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        """The sizes, and those options that are not the defaults; the same for no two problems."""
        weight = (self.c_out, self.c_in // self.groups, self.kh, self.kw)
        sizes = f"{'x'.join(map(str, self.x_shape))} {self.dtype}, weight {'x'.join(map(str, weight))}"
        defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "activation": None,
                    "precision": "float32"}
        values = {label: _short(getattr(self, label)) for label in defaults}
        return ", ".join([sizes, *(f"{label} {value}" for label, value in values.items() if value != defaults[label])])

    @cached_property
    def floor(self) -> np.generic:
        """The least value an output may have: zero for "relu"; below every value, but for a NaN, otherwise."""
        if self.activation == "relu":
            return self.acc_dtype.type(0)
        return self.acc_dtype.type(-np.inf if self.acc_dtype.kind == "f" else np.iinfo(self.acc_dtype).min)

    @cached_property
    def x_dtype(self) -> np.dtype:
        """What the kernels read: float16 as float32, bool as uint8, integers beyond 8 bits as int64."""
        return _storage(self.dtype)

    @cached_property
    def acc_dtype(self) -> np.dtype:
        """What the kernels add up in, and the dtype of the weights they read."""
        return _accumulator(self.dtype)

    @cached_property
    def out_dtype(self) -> np.dtype:
        """What the caller gets: floats stay as they are, integers come as they were added up."""
        return self.dtype if self.dtype.kind in "fV" else self.acc_dtype

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input as the caller gives it."""
        return (self.n, self.c_in, self.h, self.w)[0 if self.batched else 1 :]

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output as the caller gets it."""
        return (self.n, self.c_out, self.oh, self.ow)[0 if self.batched else 1 :]

    @cached_property
    def taps(self) -> int:
        """Products summed for one output element."""
        return self.c_in // self.groups * self.kh * self.kw

    @cached_property
    def flops(self) -> int:
        """Multiplications and additions of the definition."""
        return 2 * self.n * self.c_out * self.oh * self.ow * self.taps

    @cached_property
    def padded(self) -> bool:
        """Whether any side is padded."""
        return any(side for axis in self.padding for side in axis)


def _short(value: Any) -> Any:
    """Pairs of equals as one of them."""
    while isinstance(value, tuple) and value[0] == value[1]:
        value = value[0]
    return value


def _storage(dtype: np.dtype) -> np.dtype:
    if dtype.kind in "fV":
        return np.dtype(np.float32) if dtype.itemsize == 2 else dtype
    if dtype.itemsize == 1:
        return np.dtype(np.int8) if dtype.kind == "i" else np.dtype(np.uint8)
    return np.dtype(np.int64)


def _accumulator(dtype: np.dtype) -> np.dtype:
    if dtype.kind in "fV":
        return _storage(dtype)
    return np.dtype(np.int32) if dtype.itemsize == 1 else np.dtype(np.int64)


def conv_spec(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    dtypes: Sequence[np.dtype],
    *,
    bias_shape: Sequence[int] | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    activation: Any = None,
    precision: Any = "float32",
) -> ConvSpec:
    """Check a convolution. `dtypes` are those of the operands that are there: x, weight, bias."""
    return _conv_spec(
        tuple(x_shape),
        tuple(weight_shape),
        tuple(dtypes),
        None if bias_shape is None else tuple(bias_shape),
        pair("stride", stride, 1),
        frozen_padding(padding),
        pair("dilation", dilation, 1),
        integer("groups", groups, 1),
        _activation(activation),
        _precision(precision),
    )


def _precision(value: object) -> str:
    if isinstance(value, str) and value in PRECISIONS:
        return value
    raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {value!r}")


def _activation(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value == "relu"):
        return value
    raise ValueError(f"activation must be None or 'relu', got {value!r}")


@lru_cache(maxsize=4096)
def _conv_spec(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    dtypes: tuple[np.dtype, ...],
    bias_shape: tuple[int, ...] | None,
    stride: Pair,
    padding: object,
    dilation: Pair,
    groups: int,
    activation: str | None,
    precision: str,
) -> ConvSpec:
    if len(x_shape) not in (3, 4):
        raise ValueError(f"x must have shape (N, C, H, W) or (C, H, W), got {x_shape}")
    if len(weight_shape) != 4:
        raise ValueError(f"weight must have shape (C_out, C_in / groups, KH, KW), got {weight_shape}")
    if min(x_shape[-3:]) < 1:
        raise ValueError(f"x must have at least one channel, row and column, got shape {x_shape}")
    if min(weight_shape) < 1:
        raise ValueError(f"weight must have no empty axis, got shape {weight_shape}")
    batched = len(x_shape) == 4
    n, (c_in, h, w) = x_shape[0] if batched else 1, x_shape[-3:]
    c_out, c_group, kh, kw = weight_shape
    if c_in % groups or c_out % groups:
        raise ValueError(f"groups must divide the channels: got groups={groups} for {c_in} channels in, {c_out} out")
    if c_in != c_group * groups:
        raise ValueError(
            f"x has {c_in} channels, but weight of shape {weight_shape} with groups={groups} needs {c_group * groups}"
        )
    if bias_shape is not None and bias_shape != (c_out,):
        raise ValueError(f"bias must have shape ({c_out},), one value an output channel, got {bias_shape}")
    window = dilation[0] * (kh - 1) + 1, dilation[1] * (kw - 1) + 1
    pads = paddings(padding, (h, w), window, stride)
    oh, ow = (extent(*axis) for axis in zip((h, w), window, pads, stride, strict=True))
    if oh < 1 or ow < 1:
        raise ValueError(
            f"the kernel covers {window[0]}x{window[1]} pixels (dilation counted), more than the padded input's "
            f"{h + sum(pads[0])}x{w + sum(pads[1])}"
        )
    dtype = _promoted(dtypes)
    if precision != "float32" and dtype != np.float32:
        raise ValueError(f"precision={precision!r} is for operands of float32, got {dtype}")
    spec = ConvSpec(batched, n, c_in, h, w, c_out, kh, kw, groups, stride, pads, dilation, oh, ow, dtype, activation,
                    precision)
    check_bytes(spec.output_shape, spec.out_dtype, "the output")
    return spec


def _promoted(dtypes: Sequence[np.dtype]) -> np.dtype:
    if BFLOAT16 in dtypes:
        if any(dtype != BFLOAT16 for dtype in dtypes):
            raise TypeError("bfloat16 operands mix with none of another dtype, got "
                            f"{', '.join('bfloat16' if dtype == BFLOAT16 else str(dtype) for dtype in dtypes)}")
        return BFLOAT16
    return np.result_type(*dtypes).newbyteorder("=")


# -- pooling -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoolSpec(_HashedOnce):
    """One 2-D pooling, all defaults filled in and all checks passed. The module names the symbols.

    `lead` are the axes before the last two as the caller gave them; kernels see them as one axis of `planes`.
    `divisor` is the caller's `divisor_override` or None; `norm` is the exponent of Lp pooling, 1.0 otherwise.
    """

    op: str
    lead: tuple[int, ...]
    h: int
    w: int
    kh: int
    kw: int
    stride: Pair
    padding: Pads
    dilation: Pair
    oh: int
    ow: int
    dtype: np.dtype
    count_include_pad: bool = True
    divisor: int | None = None
    norm: float = 1.0

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def planes(self) -> int:
        """Images times channels: each plane is pooled on its own."""
        return math.prod(self.lead)

    @cached_property
    def x_dtype(self) -> np.dtype:
        """What the kernels read and, but for the indices, write."""
        if self.op == "max":
            return np.dtype(np.uint8) if self.dtype.kind == "b" else _compute_float(self.dtype)
        return _compute_float(self.out_dtype)

    @cached_property
    def out_dtype(self) -> np.dtype:
        """What the caller gets: the input's dtype, but float64 for averages and norms of integers."""
        return self.dtype if self.op == "max" or self.dtype.kind in "fV" else np.dtype(np.float64)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output as the caller gets it."""
        return (*self.lead, self.oh, self.ow)

    @cached_property
    def flops(self) -> int:
        """One comparison or addition a tap."""
        return self.planes * self.oh * self.ow * self.kh * self.kw


def _compute_float(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype == np.float16 or dtype == BFLOAT16 else dtype


def pool_spec(
    op: str,
    x_shape: Sequence[int],
    dtype: np.dtype,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    dilation: object = 1,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: object = None,
    norm_type: object = 1.0,
) -> PoolSpec:
    """Check a pooling. `op` is "max", "avg" or "lp"."""
    kernel = pair("kernel_size", kernel_size, 1)
    steps = kernel if stride is None else pair("stride", stride, 1)
    divisor = None if divisor_override is None else integer("divisor_override", divisor_override, 1)
    return _pool_spec(
        op,
        tuple(x_shape),
        dtype,
        kernel,
        steps,
        frozen_padding(padding),
        pair("dilation", dilation, 1),
        flag("ceil_mode", ceil_mode),
        flag("count_include_pad", count_include_pad),
        divisor,
        _norm(norm_type),
    )


def _norm(value: object) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"norm_type must be a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"norm_type must be positive and finite, got {value!r} (for infinity, use max_pool2d)")
    return number


@lru_cache(maxsize=4096)
def _pool_spec(
    op: str,
    x_shape: tuple[int, ...],
    dtype: np.dtype,
    kernel: Pair,
    stride: Pair,
    padding: object,
    dilation: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    norm: float,
) -> PoolSpec:
    if len(x_shape) not in (2, 3, 4):
        raise ValueError(f"x must have shape (N, C, H, W), (C, H, W) or (H, W), got {x_shape}")
    lead, (h, w) = x_shape[:-2], x_shape[-2:]
    if min(x_shape[-3:]) < 1:
        raise ValueError(f"x must have at least one channel, row and column, got shape {x_shape}")
    window = dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
    pads = paddings(padding, (h, w), window, stride)
    for name, size, reach, sides in zip(("vertical", "horizontal"), (h, w), window, pads, strict=True):
        if max(sides) >= reach:
            raise ValueError(
                f"padding must be below the window so that every window touches the input: got {sides} on the "
                f"{name} axis for a window of {reach} (dilation counted)"
            )
        if size + sum(sides) < reach:
            raise ValueError(f"the window covers {reach} pixels of the {name} axis (dilation counted), more than the "
                             f"padded input's {size + sum(sides)}")
    oh, ow = (extent(*axis, ceil_mode=ceil_mode) for axis in zip((h, w), window, pads, stride, strict=True))
    spec = PoolSpec(
        op, lead, h, w, *kernel, stride, pads, dilation, oh, ow, dtype, count_include_pad, divisor, norm
    )
    check_bytes(spec.output_shape, np.dtype(np.float64), "the output")
    for name, size, count, sides, step, gap in zip(
        ("vertical", "horizontal"), (h, w), (oh, ow), pads, stride, dilation, strict=True
    ):
        if _some_window_misses(size, count, sides[0], step, gap):
            raise ValueError(f"every window must touch the input, but with dilation {gap} and padding {sides} on the "
                             f"{name} axis of {size} pixels the taps of one step over it")
    return spec


def _some_window_misses(size: int, count: int, pad: int, stride: int, dilation: int) -> bool:
    """Whether a window that starts in the padding has no tap inside: only if the dilation exceeds the input."""
    if dilation <= size:
        return False
    starts = range(-pad, min(0, (count - 1) * stride - pad + 1), stride)
    period = dilation // math.gcd(stride, dilation)
    return any(start % dilation >= size for start in starts[:period])
