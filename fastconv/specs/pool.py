"""The spec of a pooling: the arguments of a call, checked once. The module `conv` beside this one explains the symbols.

A call becomes a frozen `PoolSpec`. Windows may reach into the padding, but each touches the input. Nothing here imports
Numba.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ..base.values import shown
from .arguments import Pads, Pair, extent, flag, frozen_padding, integer, paddings, per_axis, window_size
from .arrays import check_bytes
from .axes import AXES, FLAT, LAYOUTS, Depth, by, volume
from .conv import HashedOnce, short, told
from .dtypes import computed


@dataclass(frozen=True)
class PoolSpec(HashedOnce):
    """One pooling, all defaults filled in and all checks passed. The module `conv` explains the symbols.

    `lead` are the axes before the spatial ones as the caller gave them; kernels see them as one axis of `planes`, each
    a volume if the pooling has three `axes`.
    `divisor` is the caller's `divisor_override` or None; `norm` is the exponent of Lp pooling, also
    infinity, and 1.0 otherwise.
    If it is `adaptive`, window i of m along an axis of n elements goes from floor(i n / m) to ceil((i + 1) n / m), and
    `kh` and `kw` are the largest windows; only algorithms of the adaptive operations take it.
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
    axes: int = 2
    depth: Depth = FLAT
    adaptive: bool = False

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        """The sizes and all options that differ from the defaults."""
        first = 3 - self.axes
        sizes = f"{by((*self.lead, *(self.depth.d, self.h, self.w)[first:]))} {self.dtype}"
        if self.adaptive:
            return f"{sizes}, output_size {by((self.oh, self.ow))}"
        padding = (self.depth.padding, *self.padding)[first:]
        values: dict[str, Any] = {
            "stride": (self.depth.stride, *self.stride)[first:], "padding": padding,
            "dilation": (self.depth.dilation, *self.dilation)[first:], "divisor": self.divisor, "norm": self.norm,
        }  # fmt: skip
        told = {label: short(value) for label, value in values.items()}
        defaults = {"stride": None, "padding": 0, "dilation": 1, "divisor": None, "norm": 1.0}
        given = [f"{label} {value}" for label, value in told.items() if value != defaults[label]]
        return ", ".join([sizes, f"window {by((self.depth.kd, self.kh, self.kw)[first:])}", *given])

    @cached_property
    def planes(self) -> int:
        """Images times channels: each plane is pooled on its own."""
        return math.prod(self.lead)

    @cached_property
    def picks(self) -> bool:
        """Whether an output is an element of its window, which has an index: a maximum or a minimum."""
        return self.op in ("max", "min")

    @cached_property
    def x_dtype(self) -> np.dtype:
        """The dtype that the kernels read and, but for the indices, write."""
        if self.picks:
            return np.dtype(np.uint8) if self.dtype.kind == "b" else computed(self.dtype)
        return computed(self.out_dtype)

    @cached_property
    def out_dtype(self) -> np.dtype:
        """The dtype that the caller gets: the input's dtype, but float64 for averages and norms of integers."""
        return self.dtype if self.picks or self.dtype.kind in "fV" else np.dtype(np.float64)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output as the caller gets it."""
        return (*self.lead, *(self.depth.od, self.oh, self.ow)[3 - self.axes :])

    @cached_property
    def kernel_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of input and output as algorithms take them: planes or, with three axes, volumes."""
        depth, first = self.depth, 2 if self.axes < 3 else 1
        return (
            (self.planes, *(1, depth.d, self.h, self.w)[first:]),
            (self.planes, *(1, depth.od, self.oh, self.ow)[first:]),
        )

    @cached_property
    def counted(self) -> tuple[Pair, Pair, Pair]:
        """Pixels that count for a mean along depth, height and width: (before, end), from -before to end.

        No tap behind the padding counts; only `ceil_mode` lets a window reach there.
        """
        sizes, pads = (self.depth.d, self.h, self.w), (self.depth.padding, *self.padding)
        if not self.count_include_pad:
            return (0, sizes[0]), (0, sizes[1]), (0, sizes[2])
        depth, rows, columns = ((pad[0], size + pad[1]) for size, pad in zip(sizes, pads, strict=True))
        return depth, rows, columns

    def divisors(self, axis: int) -> np.ndarray:
        """Number of counted taps of each window along depth (0), height (1) or width (2); a mean is the sum divided by
        the product of the three."""
        depth = self.depth
        outs, taps = (depth.od, self.oh, self.ow)[axis], (depth.kd, self.kh, self.kw)[axis]
        stride, gap = (depth.stride, *self.stride)[axis], (depth.dilation, *self.dilation)[axis]
        pad, (before, end) = (depth.padding, *self.padding)[axis][0], self.counted[axis]
        result = np.full(outs, taps, np.int64)
        # All taps of the windows from `begin` to `stop` count: nearly all windows of a long axis.
        begin = min(outs, max(0, -(-(pad - before) // stride)))
        stop = max(begin, min(outs, (end - 1 - (taps - 1) * gap + pad) // stride + 1))
        for edge in (slice(begin), slice(stop, outs)):
            start = np.arange(*edge.indices(outs), dtype=np.int64) * stride - pad
            first = np.maximum(0, -((start + before) // gap))
            result[edge] = np.minimum(taps - 1, (end - 1 - start) // gap) - first + 1
        return result

    @cached_property
    def flops(self) -> int:
        """Number of comparisons or additions: one for each tap."""
        return self.planes * self.depth.od * self.oh * self.ow * self.depth.kd * self.kh * self.kw


@lru_cache(maxsize=4096)
def over_planes(spec: PoolSpec, lead: tuple[int, ...]) -> PoolSpec:
    """The pooling of a volume's planes; its windows are boxes, so planes and depth are pooled one after the other."""
    return replace(spec, lead=lead, axes=2, depth=FLAT)


@lru_cache(maxsize=4096)
def over_depth(spec: PoolSpec, lead: tuple[int, ...], pixels: int) -> PoolSpec:
    """The pooling of the depth after that of planes, in images of d rows, each with `pixels` pixels of a plane."""
    depth, no_padding = spec.depth, (0, 0)
    return replace(
        spec, lead=lead, h=depth.d, w=pixels, kh=depth.kd, kw=1, oh=depth.od, ow=pixels, stride=(depth.stride, 1),
        padding=(depth.padding, no_padding), dilation=(depth.dilation, 1), axes=2, depth=FLAT,
        divisor=None if spec.divisor is None else 1,
    )  # fmt: skip


def pool_spec(
    op: str,
    x_shape: Sequence[int],
    dtype: np.dtype,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    dilation: object = 1,
    *,
    axes: int = 2,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: object = None,
    norm_type: object = 1.0,
    name: str = "x",
) -> PoolSpec:
    """Check a pooling along so many axes. `op` is "max", "min", "avg" or "lp", `name` that of the caller's input."""
    if not type(kernel_size) is type(padding) is type(dilation) is int or not (stride is None or type(stride) is int):
        kernel_size, dilation = per_axis("kernel_size", kernel_size, 1, axes), per_axis("dilation", dilation, 1, axes)
        stride, padding = None if stride is None else per_axis("stride", stride, 1, axes), frozen_padding(padding, axes)
    return _pool_spec(
        axes,
        op,
        tuple(x_shape),
        dtype,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode if type(ceil_mode) is bool else flag("ceil_mode", ceil_mode),  # a call less, of the usual 3 us
        count_include_pad if type(count_include_pad) is bool else flag("count_include_pad", count_include_pad),
        None if divisor_override is None else integer("divisor_override", divisor_override, 1),
        norm_type if type(norm_type) is float else _norm(norm_type),
        name,
    )


def _norm(value: object) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"norm_type must be a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.nan
    if not number > 0:
        raise ValueError(f"norm_type must be a positive float or infinity, got {shown(value)}")
    return number


@lru_cache(maxsize=4096)
def _pool_spec(
    axes: int,
    op: str,
    x_shape: tuple[int, ...],
    dtype: np.dtype,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    norm: float,
    x: str,
) -> PoolSpec:
    """Check a pooling. No number is a bool, which the cache would take for 0 or 1."""
    kernel, dilation = per_axis("kernel_size", kernel_size, 1, axes), per_axis("dilation", dilation, 1, axes)
    stride = kernel if stride is None else per_axis("stride", stride, 1, axes)
    padding, norm = frozen_padding(padding, axes), _norm(norm)
    if len(x_shape) not in (axes, axes + 1, axes + 2):
        layout = LAYOUTS[axes]
        without = layout.replace("N, ", ""), layout.replace("N, C, ", "")
        raise ValueError(f"{x} must have shape {layout}, {without[0]} or {without[1]}, got {x_shape}")
    lead, size = x_shape[:-axes], x_shape[-axes:]
    if min(x_shape[-axes - 1 :]) < 1:
        raise ValueError(f"{x} must have no empty axis but the batch's, got shape {x_shape}")
    window = window_size(kernel, dilation)
    pads = paddings(padding, size, window, stride)
    for name, extended, reach, sides in zip(AXES[axes], size, window, pads, strict=True):
        if max(sides) >= reach:
            raise ValueError(
                f"padding must be below the window so that every window touches the input: got {sides} on the "
                f"{name} axis for a window of {reach} (dilation counted)"
            )
        if extended + sum(sides) < reach:
            room = extended + sum(sides)
            raise ValueError(f"the window covers {reach} pixels of the {name} axis (kernel_size {short(kernel)}"
                             f"{told('dilation', dilation, 1)}), more than the {room} of {x} ({x_shape}"
                             f"{told('padding', pads, 0)})")
    outs = tuple([extent(*axis, ceil_mode=ceil_mode) for axis in zip(size, window, pads, stride, strict=True)])
    d, h, w = volume(size)
    kd, kh, kw = volume(kernel)
    od, oh, ow = volume(outs)
    step, *steps = volume(stride)
    before, *across = volume(pads, (0, 0))
    apart, *gaps = volume(dilation)
    spec = PoolSpec(
        op, lead, h, w, kh, kw, (steps[0], steps[1]), (across[0], across[1]), (gaps[0], gaps[1]), oh, ow, dtype,
        count_include_pad, divisor, norm, axes, Depth(d, kd, step, before, apart, od),
    )  # fmt: skip
    check_bytes(spec.output_shape, np.dtype(np.float64), "the output", spec)
    for name, extended, count, sides, step, gap in zip(AXES[axes], size, outs, pads, stride, dilation, strict=True):
        if _some_window_misses(extended, count, sides[0], step, gap):
            raise ValueError(f"every window must touch the input, but with dilation {gap} and padding {sides} on the "
                             f"{name} axis of {extended} pixels the taps of one step over it")
    return spec


def _some_window_misses(size: int, count: int, pad: int, stride: int, dilation: int) -> bool:
    """Whether a window that starts in the padding has no tap inside: only if the dilation exceeds the input."""
    if dilation <= size or not pad:
        return False
    first = -pad % dilation  # the first tap of window k that is not in the padding is (first + k * stride) % dilation
    if first >= size:
        return True
    missing = _first_between(stride % dilation, dilation, size - first, dilation - 1 - first)
    return missing is not None and missing < min(count, -(-pad // stride))


def _first_between(step: int, period: int, low: int, high: int) -> int | None:
    """The least k with low <= k * step % period <= high, for 0 < low <= high < period; None if there is none.

    Euclid's algorithm: where no multiple of the step lies between the bounds, the question is how often the period must
    be passed, and that is this question again with the step as the period.
    """
    if not step:
        return None
    k = -(-low // step)
    if k * step <= high:
        return k
    rounds = _first_between(period % step, step, -high % step, -low % step)
    return None if rounds is None else -(-(low + rounds * period) // step)


# -- adaptive pooling ----------------------------------------------------------------------------------------


def adaptive_spec(op: str, x_shape: tuple[int, ...], dtype: np.dtype, output_size: Any) -> PoolSpec:
    """Check an adaptive pooling. Where windows are equally large and equally far apart, it becomes an ordinary one."""
    size = output_size if type(output_size) is int else _output_size(x_shape, output_size)
    return _problem(op, x_shape, dtype, size)


def _output_size(x_shape: tuple[int, ...], output_size: Any) -> Pair:
    if len(x_shape) not in (2, 3, 4) or min(x_shape[-3:]) < 1:
        raise ValueError(f"x must have shape (N, C, H, W), (C, H, W) or (H, W), no axis but N empty, got {x_shape}")
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(sizes) != 2:
        raise ValueError(f"output_size must be an integer or a pair (vertical, horizontal), got {shown(output_size)}")
    high, wide = (
        old if new is None else integer("output_size", new, 1) for old, new in zip(x_shape[-2:], sizes, strict=True)
    )
    return high, wide


@lru_cache(maxsize=1024)
def _problem(op: str, x_shape: tuple[int, ...], dtype: np.dtype, size: int | Pair) -> PoolSpec:
    """Check an adaptive pooling; an integer `size` is checked here, once for each problem."""
    if isinstance(size, int):
        size = _output_size(x_shape, size)
    axes = [_windows(*axis) for axis in zip(x_shape[-2:], size, strict=True)]
    (kh, stride_h), (kw, stride_w) = axes
    if stride_h and stride_w:
        return pool_spec(op, x_shape, dtype, (kh, kw), (stride_h, stride_w))
    outputs = pool_spec(op, (*x_shape[:-2], *size), dtype, 1)
    return replace(outputs, h=x_shape[-2], w=x_shape[-1], kh=kh, kw=kw, adaptive=True)


def _windows(size: int, outputs: int) -> Pair:
    """The largest window of an axis, and the stride, or 0 where windows may be unequally large or far apart."""
    if outputs == 1:
        return size, 1
    if outputs > size:
        return 2, 0
    step, rest = divmod(size, outputs)
    # Window i has one element more at an end that is no multiple of `outputs`; ends are multiples of the gcd.
    more = 0 if not rest else 1 if rest == math.gcd(size, outputs) else 2
    return step + more, step if rest <= 1 else 0


def bounds(size: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """The first element of each window of an axis, and the element behind its last one."""
    i = np.arange(outputs, dtype=np.int64)
    return i * size // outputs, -(-(i + 1) * size // outputs)
