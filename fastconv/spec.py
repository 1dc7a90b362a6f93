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
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, TypeGuard

import numpy as np

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

#: Strides, dilations, windows and paddings stay below this, so that index arithmetic in int64 cannot overflow.
LIMIT = 2**31 - 1
#: The largest array NumPy can describe.
MAX_BYTES = 2**63 - 1


# -- numbers -------------------------------------------------------------------------------------------------


def integer(name: str, value: object, low: int) -> int:
    """`value` as an int of at least `low`; TypeError or ValueError naming the argument otherwise."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got the bool {value}")
    try:
        number = operator.index(value)  # type: ignore[arg-type] # the TypeError is what is asked for
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}") from None
    if not low <= number <= LIMIT:
        raise ValueError(f"{name} must be between {low} and {LIMIT}, got {number}")
    return number


def pair(name: str, value: object, low: int) -> Pair:
    """An int or a pair of ints as (vertical, horizontal)."""
    if _is_sequence(value):
        if len(value) != 2:
            raise ValueError(f"{name} must be an integer or a pair (vertical, horizontal), got {value!r}")
        return integer(f"{name}[0]", value[0], low), integer(f"{name}[1]", value[1], low)
    number = integer(name, value, low)
    return number, number


def shape(name: str, value: Any) -> tuple[int, ...]:
    """A sequence of sizes as a tuple."""
    try:
        sizes = tuple(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers, got {value!r}") from None
    return tuple(integer(f"{name}[{axis}]", size, 0) for axis, size in enumerate(sizes))


def _is_sequence(value: object) -> TypeGuard[tuple | list | np.ndarray]:
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _is_nested(value: object) -> TypeGuard[tuple | list | np.ndarray]:
    return _is_sequence(value) and any(_is_sequence(item) for item in value)


def paddings(value: object, size: Pair, window: Pair, stride: Pair, name: str = "padding") -> Pads:
    """Any of the accepted forms of padding as ((top, bottom), (left, right)).

    `window` is the effective window, ``dilation * (kernel - 1) + 1``.
    """
    if isinstance(value, str):
        if value == "valid":
            return (0, 0), (0, 0)
        if value in ("same", "same_lower"):
            sides = [_same(*axis, lower=value == "same_lower") for axis in zip(size, window, stride, strict=True)]
            return sides[0], sides[1]
        allowed = "an integer, a pair, two pairs, 'valid', 'same' or 'same_lower'"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    if _is_nested(value):
        if len(value) != 2 or not all(_is_sequence(item) and len(item) == 2 for item in value):
            raise ValueError(f"{name} as nested pairs must be ((top, bottom), (left, right)), got {value!r}")
        return pair(f"{name}[0]", value[0], 0), pair(f"{name}[1]", value[1], 0)
    vertical, horizontal = pair(name, value, 0)
    return (vertical, vertical), (horizontal, horizontal)


def _same(size: int, window: int, stride: int, *, lower: bool) -> Pair:
    """Padding that makes the output ceil(size / stride) long; the odd one goes last, or first if `lower`."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def extent(size: int, window: int, pads: Pair, stride: int, *, ceil_mode: bool = False) -> int:
    """How many windows fit along one axis; zero or less if none does."""
    room = size + pads[0] + pads[1] - window
    if room < 0:
        return 0
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    # A window that would start in the padding behind the input is dropped, as in PyTorch.
    return count - 1 if (count - 1) * stride >= size + pads[0] else count


# -- arrays --------------------------------------------------------------------------------------------------

_FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


def check_dtype(name: str, dtype: np.dtype) -> np.dtype:
    """`dtype` in native byte order if it is a bool, an integer or float16/32/64; TypeError otherwise."""
    if dtype.kind in "biuf" and ((native := dtype.newbyteorder("=")).kind != "f" or native in _FLOATS):
        return native
    raise TypeError(f"{name} has dtype {dtype}; supported are bool, the integers, float16, float32 and float64")


def array(name: str, value: object) -> np.ndarray:
    """`value` as an ndarray of a supported dtype (not copied, not converted)."""
    try:
        result = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not an array of numbers: {error}") from None
    check_dtype(name, result.dtype)
    return result


def kernel_ready(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`x` as the kernels take it: C-contiguous, aligned, native `dtype`, of a type that reads as writeable.

    Numba compiles a second copy of a kernel for read-only arrays. No kernel writes to its inputs, so a
    read-only array is passed under a second, writeable header instead; its data is neither copied nor changed.
    """
    if x.dtype == np.bool_ and dtype == np.uint8:
        x = x.view(np.uint8)
    if x.dtype != dtype or not (x.flags.c_contiguous and x.flags.aligned):
        x, given = allocate(x.shape, dtype, "a copy of the input"), x
        x[...] = given
    if not x.flags.writeable:
        x = np.asarray(_Header(x))
    return x


def allocate(shape: tuple[int, ...], dtype: np.dtype, what: str = "a result") -> np.ndarray:
    """An empty array; MemoryError if this machine could never fill it."""
    check_bytes(shape, dtype, what)
    size = math.prod(shape) * dtype.itemsize
    # An operating system that overcommits hands out such an array, and kills the process when it is filled.
    if size > _physical_memory():
        raise MemoryError(f"{what} of shape {shape} and dtype {dtype} needs {size / 2**30:.1f} GiB, more than this "
                          "machine's memory")
    return np.empty(shape, dtype)


@lru_cache(maxsize=1)
def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return MAX_BYTES


class _Header:
    """The memory of a read-only array under an array interface that does not say so."""

    def __init__(self, owner: np.ndarray) -> None:
        self.owner = owner
        self.__array_interface__ = owner.__array_interface__ | {"data": (owner.ctypes.data, False)}


def check_out(out: object, shape: tuple[int, ...], dtype: np.dtype, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """`out` if a kernel may write the result there; TypeError or ValueError otherwise."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, but the result has shape {shape}")
    if out.dtype != dtype:
        raise ValueError(f"out has dtype {out.dtype}, but the result has dtype {dtype}")
    if not out.flags.c_contiguous or not out.flags.aligned:
        raise ValueError("out must be C-contiguous and aligned")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    for given in inputs:
        if _overlap(given, out):
            raise ValueError("out shares memory with an input")
    return out


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type] # any int will do
    except np.exceptions.TooHardError:
        return True


def check_bytes(shape: Sequence[int], dtype: np.dtype, what: str) -> None:
    """MemoryError if NumPy cannot describe an array of this shape, for which an empty axis counts as one."""
    if math.prod(size or 1 for size in shape) * dtype.itemsize > MAX_BYTES:
        raise MemoryError(f"{what} of shape {tuple(shape)} and dtype {dtype} is larger than any array can be")


# -- convolution ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConvSpec:
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

    def __hash__(self) -> int:
        return self._hash  # every call looks its spec up in several tables

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

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
        return self.dtype if self.dtype.kind == "f" else self.acc_dtype

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


def _storage(dtype: np.dtype) -> np.dtype:
    if dtype.kind == "f":
        return np.dtype(np.float32) if dtype.itemsize == 2 else dtype
    if dtype.itemsize == 1:
        return np.dtype(np.int8) if dtype.kind == "i" else np.dtype(np.uint8)
    return np.dtype(np.int64)


def _accumulator(dtype: np.dtype) -> np.dtype:
    if dtype.kind == "f":
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
) -> ConvSpec:
    """Check a convolution. `dtypes` are those of the operands that are there: x, weight, bias."""
    x_shape, weight_shape = tuple(x_shape), tuple(weight_shape)
    if not isinstance(padding, str):
        padding = _frozen(padding)
    return _conv_spec(
        x_shape,
        weight_shape,
        tuple(dtypes),
        None if bias_shape is None else tuple(bias_shape),
        pair("stride", stride, 1),
        padding,
        pair("dilation", dilation, 1),
        integer("groups", groups, 1),
        _activation(activation),
    )


def _frozen(padding: object) -> object:
    """Padding checked number by number and made hashable, still in the form it was given in."""
    if _is_nested(padding):
        return paddings(padding, (1, 1), (1, 1), (1, 1))
    return pair("padding", padding, 0)


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
    dtype = np.result_type(*dtypes).newbyteorder("=")
    spec = ConvSpec(batched, n, c_in, h, w, c_out, kh, kw, groups, stride, pads, dilation, oh, ow, dtype, activation)
    check_bytes(spec.output_shape, spec.out_dtype, "the output")
    return spec


# -- pooling -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoolSpec:
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
        return self.dtype if self.op == "max" or self.dtype.kind == "f" else np.dtype(np.float64)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output as the caller gets it."""
        return (*self.lead, self.oh, self.ow)

    @cached_property
    def flops(self) -> int:
        """One comparison or addition a tap."""
        return self.planes * self.oh * self.ow * self.kh * self.kw


def _compute_float(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype == np.float16 else dtype


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
        padding if isinstance(padding, str) else _frozen(padding),
        pair("dilation", dilation, 1),
        flag("ceil_mode", ceil_mode),
        flag("count_include_pad", count_include_pad),
        divisor,
        _norm(norm_type),
    )


def flag(name: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


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
