"""The convolution as a matrix product whose left factor is never written down: what the tiles of `product` share.

Index equation, for each group: rows are output pixels, columns output channels, the sum runs over channels and taps::

    out[(n, i, j), o] = bias[o] + sum over k of A[(n, i, j), k] * B[k, o]            k = (c, a, b) in some order
    A[(n, i, j), k] = x[n, c, i * stride_h - top + a * dilation_h, j * stride_w - left + b * dilation_w], zero outside
    B[k, o] = weight[o, c, a, b]

An element of A lies at the pixel's place plus an offset that depends on k alone. A table of offsets, with the rows down
and columns across for the test of the edges, takes the place of divisions (as in the CPU's `direct`). Where a group has
a multiple of four channels, four channels of one tap follow each other in k and share an entry ("quad"). Where channels
also lie side by side in memory, they are one load of 128 bits ("vector"). For 1x1 kernels without stride and padding,
four pixels can be one load ("pixels"). Everything else is looked up one by one ("single").

Where a layer has too few tiles to fill the GPU, several blocks share the sums of a tile: each takes a part of k, and a
second kernel adds the parts, always in one order.

The order of k takes a block of channels through all taps before the next block, so that elements which neighbouring
taps share are still in the first-level cache. It does not depend on the layout of x, which only a call knows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system.kernels import MOST_BLOCKS, Kernel, cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Buffer, Stream, Tensor, dense
from ..tiles.elements import narrow
from ..tiles.ptx import store4
from .convert import converted

#: Row and column of the table's entries that lie outside of every image; they fill k up to whole slabs.
FAR = 1 << 30
#: Rows, columns and padding must stay below this: kernels put the row of a pixel that is not there to -2**29, from
#: where neither a tap, of less than three times as many rows, nor `FAR` may lead into an image.
MOST = 1 << 27


def places(spec: ConvSpec) -> str | None:
    """The reason why pixels and elements of an image cannot be counted in 32 bits; None if they can."""
    if max(spec.h, spec.w, *spec.padding[0], *spec.padding[1]) >= MOST:
        return f"images and padding must have less than {MOST} rows and columns"
    if spec.n * spec.oh * spec.ow >= 1 << 30 or spec.c_in * spec.h * spec.w >= 1 << 31 or spec.c_out >= 1 << 30:
        return "an output of 2**30 pixels or channels, or an image of 2**31 elements, is too large for 32-bit indices"
    return None


def limits(spec: ConvSpec) -> str | None:
    """The reason why index arithmetic in 32 bits is not enough; None if it is."""
    if reason := places(spec):
        return reason
    if spec.c_in * (spec.h + sum(spec.padding[0])) * (spec.w + sum(spec.padding[1])) >= 1 << 31:
        return "an image that has 2**31 elements with its padding, where windows reach, is too large for 32-bit offsets"
    if spec.n * spec.oh * spec.ow // 16 * spec.groups * -(-spec.c_out // spec.groups // 16) > MOST_BLOCKS:
        return f"its blocks are numbered in 32 bits, too few for {spec.groups} groups"
    if spec.taps >= 1 << 20:
        return f"sums of 2**20 products and more would need a large table of offsets, and this has {spec.taps}"
    return None


class Order(NamedTuple):
    """The order in which k counts channels and taps: ``block`` channels of one tap, all taps, then the next block."""

    depth: int
    """Products of a sum."""
    block: int
    quad: bool
    """Whether any `unit` values of k, from a multiple of it on, are channels of one tap."""


def order(spec: ConvSpec, unit: int = 4) -> Order:
    channels = spec.c_in // spec.groups
    block = next((size for size in (4 * unit, 2 * unit, unit) if channels % size == 0), 1)
    return Order(spec.taps, block, block > 1)


def aligned(tensor: Tensor, unit: int, axes: tuple[int, ...]) -> bool:
    """Whether the first element, and the steps along `axes`, are at multiples of `unit` elements."""
    address = tensor.pointer.address() if hasattr(tensor.pointer, "address") else tensor.pointer
    first = address // tensor.dtype.itemsize
    steps = [tensor.strides[axis] for axis in axes if tensor.shape[axis] > 1]
    return not any(value % unit for value in (first, *steps))


def rows_follow(tensor: Tensor) -> bool:
    """Whether the pixels of a channel lie one behind the other."""
    _, _, h, w = tensor.shape
    return (w == 1 or tensor.strides[3] == 1) and (h == 1 or tensor.strides[2] == w)


def gathering(how: Order, x: Tensor, unit: int = 4) -> str:
    """The way in which elements of x are loaded; the module explains the names."""
    if not how.quad:
        return "single"
    return "vector" if x.strides[1] == 1 and aligned(x, unit, (0, 2, 3)) else "quad"


def pixelwise(spec: ConvSpec, x: Tensor) -> bool:
    """Whether four neighbouring pixels of the output come from four neighbours in the input, which one load gets."""
    plain = (spec.kh, spec.kw) == (1, 1) and spec.stride == (1, 1) and not spec.padded
    return plain and rows_follow(x) and spec.h * spec.w % 4 == 0 and aligned(x, 4, (0, 1))


def storing(spec: ConvSpec, out: Tensor) -> str:
    """The way in which elements are stored: four "pixels" or "channels" of the output at once, or "any" alone."""
    if rows_follow(out) and spec.oh * spec.ow % 4 == 0 and aligned(out, 4, (0, 1)):
        return "pixels"
    channels = spec.c_out // spec.groups
    return "channels" if out.strides[1] == 1 and channels % 4 == 0 and aligned(out, 4, (0, 2, 3)) else "any"


class Cut(NamedTuple):
    """A division of a problem among blocks of threads."""

    tile: Any
    parts: int = 1
    """Number of blocks that share the sums of a tile, where there are too few tiles to fill the GPU."""


def cuts(spec: ConvSpec, tiles: tuple[Any, ...], slab: int) -> list[Cut]:
    """All divisions to choose from; a part has at least four slabs of `slab` products."""
    slabs = -(-spec.taps // slab)
    return [Cut(tile, parts) for tile in tiles for parts in (1, 2, 4, 8, 16) if parts == 1 or slabs >= 4 * parts]


def seconds(spec: ConvSpec, machine: Machine, cut: Cut, slab: int, rate: float) -> float:
    """Estimated seconds of the arithmetic on the multiprocessor with the most blocks, and of adding the parts."""
    tile, parts = cut
    rows, channels = spec.n * spec.oh * spec.ow, spec.c_out // spec.groups
    blocks = -(-rows // tile.m) * -(-channels // tile.n) * spec.groups * parts
    most = -(-blocks // machine.processors)
    alone = 0.7 if most == 1 else 1.0  # nothing is computed while the only block of a multiprocessor waits
    flops = 2 * tile.m * tile.n * -(-spec.taps // (slab * parts)) * slab
    moved = 2 * parts * rows * spec.c_out * spec.acc_dtype.itemsize
    adding = machine.launch + moved / machine.bandwidth if parts > 1 else 0.0
    return most * flops / (rate / machine.processors * alone) + adding


class Packed(NamedTuple):
    """Weights as the tiles read them, and offset tables for the layouts that a plan is ready for."""

    weight: Buffer
    cut: Cut
    order: Order
    slab: int
    """Number of values of k that shared memory holds at a time."""
    slabs: int
    panels: int
    """Number of tiles side by side in a group's channels."""
    unit: int
    """Number of values of k in 16 bytes or, where they are widened first, in four words."""
    none: Buffer
    """Zeros, the bias of parts of sums; the true bias is added together with the parts."""
    tables: dict[tuple[int, ...], Buffer]

    def ready(self, spec: ConvSpec, layouts: tuple[tuple[int, int, int], ...], stream: Stream) -> Packed:
        """These weights, in a plan with tables for the layouts, which are steps of (channel, row, column)."""
        if stream.lasts:
            self.tables.update({layout: self._offsets(spec, layout, stream) for layout in layouts})
        return self

    def table(self, spec: ConvSpec, x: Tensor, stream: Stream) -> Buffer:
        """The table of x: a row (offset, down, across, 0) for each value of k, or each `unit` of them that share one.

        If it is not there, a kernel makes it for this call alone: nothing waits, and a graph may capture the call.
        """
        layout = _layout(x.shape, x.strides)
        found = self.tables.get(layout)
        return self._offsets(spec, layout, stream) if found is None else found

    def _offsets(self, spec: ConvSpec, layout: tuple[int, int, int], stream: Stream) -> Buffer:
        each = self.unit if self.order.quad else 1
        entries = self.slabs * self.slab // each
        rows = stream.empty(4 * entries, np.int32)
        stream.launch(_table(), -(-entries // BLOCK), BLOCK, rows.pointer,
                      (entries, each, self.order.depth, self.order.block), (spec.kh, spec.kw), spec.dilation, layout)
        return rows


@lru_cache(maxsize=4096)
def _layout(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int, int]:
    """Steps of (channel, row, column), zero along axes of one element."""
    c, h, w = (step if size > 1 else 0 for size, step in zip(shape[1:], strides[1:], strict=True))
    return c, h, w


def layouts(spec: ConvSpec) -> tuple[tuple[int, int, int], ...]:
    """The layouts of images without gaps: channels first, and channels last."""
    shape = spec.n, spec.c_in, spec.h, spec.w
    both = (0, spec.h * spec.w, spec.w, 1), (0, 1, spec.w * spec.c_in, spec.c_in)
    return tuple(_layout(shape, strides) for strides in both)


def near(spec: ConvSpec, x: Tensor, stream: Stream) -> Tensor:
    """x itself, or a copy in C order where a window, which may begin in the padding, reaches too far for the table.

    Steps along axes of one element are zero, as in the table: a window may reach into the padding on both sides of it.
    """
    seen = x.shape[1], spec.h + sum(spec.padding[0]), spec.w + sum(spec.padding[1])
    reach = sum((size - 1) * abs(step) for size, step in zip(seen, _layout(x.shape, x.strides), strict=True))
    x = x if reach < 1 << 31 else converted(x, x.dtype, stream, copy=True)
    steps = _layout(x.shape, x.strides)
    return x if steps == x.strides[1:] else replace(x, strides=(x.strides[0], *steps))


def launch(
    kernel: Callable[[np.dtype, Tensor], Kernel], spec: ConvSpec, x: Tensor, packed: Packed, offsets: Any, bias: Buffer,
    out: Tensor, stream: Stream, group_steps: tuple[int, int] | None = None,
) -> None:
    """Launch the tiles' kernel, ``kernel(dtype, out)`` for an output, and add up the parts if there are several."""
    (tile, parts), channels = packed.cut, spec.c_out // spec.groups
    rows, share, elements = spec.n * spec.oh * spec.ow, -(-packed.slabs // parts), math.prod(out.shape)
    parts = -(-packed.slabs // share)  # no part is empty
    target, added, floor = out, bias, spec.floor
    if parts > 1:
        target = dense(stream.empty(parts * elements, spec.acc_dtype), out.shape)
        added, floor = packed.none, spec.lowest
    steps = group_steps or (spec.c_in // spec.groups * x.strides[1], channels * target.strides[1])
    stream.launch(
        kernel(target.dtype, target), (-(-rows // tile.m) * packed.panels * spec.groups, parts), tile.threads,
        x.pointer, x.strides, packed.weight.pointer, offsets, added.pointer, floor, target.pointer, target.strides,
        (spec.h, spec.w), (rows, spec.oh, spec.ow),
        (packed.order.depth, packed.slabs, packed.panels, spec.groups, channels, *steps, share, elements),
        spec.stride, (spec.padding[0][0], spec.padding[1][0]),
    )
    if parts > 1:
        stream.launch(_add_parts(spec.acc_dtype, out.dtype), -(-elements // BLOCK), BLOCK,
                      target.pointer, bias.pointer, spec.floor, out.pointer, out.strides,
                      (parts, elements, spec.c_out), (spec.oh, spec.ow))


def zeros(spec: ConvSpec, cut: Cut, stream: Stream) -> Buffer:
    """The zeros that `Packed.none` is."""
    return stream.zeros(spec.c_out if cut.parts > 1 else 0, spec.acc_dtype)


def scratch(spec: ConvSpec, cut: Cut) -> int:
    """Bytes of scratch memory for the parts."""
    return cut.parts * math.prod(spec.output_shape) * spec.acc_dtype.itemsize if cut.parts > 1 else 0


BLOCK = pick(256, 8)


@factory
def _table():
    def offset_table(table, sizes, window, dilation, steps):
        (entries, each, depth, block), (kh, kw) = sizes, window
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < entries:
            k = at * each
            c, b, a = k // block // kw // kh * block + k % block, k // block % kw, k // block // kw % kh
            offset, down, across = np.int64(0), np.int64(FAR), np.int64(FAR)
            if k < depth:
                down, across = a * dilation[0], b * dilation[1]
                offset = c * steps[0] + down * steps[1] + across * steps[2]
            store4(table, 4 * at, np.int32(offset), np.int32(down), np.int32(across), np.int32(0))

    pair = integers(2)
    return (pointer(np.int32), integers(4), pair, pair, integers(3)), offset_table


@factory
def _add_parts(dtype, out_dtype):
    store = narrow(out_dtype)

    def add_parts(sums, bias, floor, out, out_steps, sizes, plane):
        (parts, elements, c_out), (oh, ow) = sizes, plane
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < elements:
            j, i, o, n = at % ow, at // ow % oh, at // ow // oh % c_out, at // ow // oh // c_out
            value = bias[o]
            for part in range(parts):
                value += sums[part * elements + at]
            out[n * out_steps[0] + o * out_steps[1] + i * out_steps[2] + j * out_steps[3]] = store(
                floor if value < floor else value)

    signature = (pointer(dtype), pointer(dtype), scalar(dtype), pointer(out_dtype), integers(4), integers(3))
    return (*signature, integers(2)), add_parts
