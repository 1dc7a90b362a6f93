"""The row tile: sums of one output channel, a few rows by a few vectors of pixels, that stay in vector registers.

::

    sum[r, l] = bias + sum over c, a, b of weight[c, a, b] * x[c, top + (r * step + a) * dilation_h,
                                                               left + l * stride_w + b * dilation_w]

The image is read where it lies. A row outside it is a row of zeros kept elsewhere; columns outside it are masked lanes,
in the tiles at the edges only: the others use plain loads. A vector of input is loaded once for all rows of the tile
that see it: row r sees input row y with its tap a = y - r * step. A 64-byte load that crosses a cache line takes as
long as two multiply-adds (measured 1.7 cycles, AMD EPYC 9004), so a row alone would wait for its loads.

The loops are channels, then the kernel's columns b, then input rows y. The rows are unrolled, so that one column's
masks and weights serve all of them; of the usual square kernels the columns are, too. With stride 2 two columns go
together: two vectors of input become one of even and one of odd elements. Where columns are unrolled, rows are the
outer loop then, and further columns are these two vectors shifted. So are the columns of 3x3 kernels without a stride,
where shifting pays: 144 channels of 56 x 56 take 67 us instead of 82 (AMD EPYC of Zen 5). Not those of larger kernels,
whose weights do not fit into the registers: in this order 7x7 takes up to 1.7 times as long.

Pixels of 8 bits are taken in pairs of columns, each pair a lane of two halves of 16 bits: x86 multiplies the halves by
a pair of weights and adds both products in one instruction (with VNNI it adds the sum, too), which is exact.

It also exists as plain loops, which take its place where ``FASTCONV_SIMD=0`` is set or Numba's bounds checks are on.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from numba import types

from ..system.building import intrinsic
from ..system.kernels import jit
from . import emit
from .row_emitter import Emitter
from .simd import register_bytes, shifts_pay

#: Square kernels of these sizes are unrolled whole; others up to the largest only in height; taller ones are loops.
UNROLLED = (3, 5, 7)


def is_shifted(halves: int, kw: int, stride_w: int, paired: bool) -> bool:
    """Whether the columns of an unrolled kernel are made of each other; `kw` is 0 if it is not unrolled. Half a vector
    alone seldom crosses a cache line."""
    return kw > 0 and (stride_w == 2 or (kw == 3 and stride_w == 1 and halves > 1 and not paired and shifts_pay()))


class Shape(NamedTuple):
    """The shape that a row tile is compiled for."""

    rows: int
    halves: int
    """Width in half vectors; if it is odd, the last vector of a row is half as long."""
    kh: int
    kw: int
    """Height and width of the kernel where they are unrolled, else 0: any width, any height of at least `rows`."""
    step: int
    """Input rows, in units of the dilation, from one output row of the tile to the next."""
    stride_w: int
    """Horizontal stride: 1, 2, or 0 for any."""
    columns: int
    """Columns of the kernel taken together: 2 with horizontal stride 2 and no dilation, else 1."""
    seen: tuple[int, int] | None
    """A tile's first input row in the image, and the one behind the last, if all tiles agree; only with `kh`."""
    deep: bool
    """Whether there are several input channels. One gets no loop: LLVM would move work in front of it, and spill."""
    paired: bool = False
    """Whether the weights are `pairs`, for pixels of 8 bits."""

    def inputs(self) -> range:
        """The input rows that a tile reads, if the kernel's height is unrolled."""
        return range(*self.seen) if self.seen else range((self.rows - 1) * self.step + self.kh if self.kh else 0)

    @property
    def shifted(self) -> bool:
        """Whether a row is loaded once, and the vectors that further columns see are made of it in registers."""
        return is_shifted(self.halves, self.kw, self.stride_w, self.paired)

    def pixels(self, lanes: int) -> int:
        """Width in elements, of which a register holds so many."""
        return self.halves * lanes // 2


@lru_cache(maxsize=256)
def row_tile(shape: Shape, inside: bool) -> Any:
    """A function for kernels that makes the sums of one tile; it is called as::

        row_tile(x, plane, zeros, size, corner, dilation, stride_w, weight, weight_at, extent, bias, floor, out, out_at,
                 pitch, wide)

    `plane` is the flat index of the first channel, size (h, w), corner (top, left), extent (channels, kh, kw). Row r,
    lane l of the sums goes to ``out[out_at + r * pitch + l]``, for l < wide. With `inside` no column lies outside the
    image and all lanes are wanted.
    """
    if emit.is_plain():
        return _plain_row_tile(shape)

    @intrinsic
    def register_row_tile(
        typingctx, x, plane, zeros, size, corner, dilation, stride_w, weight, weight_at, extent, bias, floor, out,
        out_at, pitch, wide,
    ):  # fmt: skip
        def codegen(context, builder, sig, args):
            names = ("x", "plane", "zeros", "size", "corner", "dilation", "stride_w", "weight", "weight_at", "extent")
            arg = dict(zip((*names, "bias", "floor", "out", "out_at", "pitch", "wide"), args, strict=True))
            data = {
                name: emit.data_of(context, builder, array, arg[name])
                for name, array in (("x", x), ("zeros", zeros), ("weight", weight), ("out", out))
            }
            Emitter(shape, inside, builder, x.dtype, out.dtype, data, arg).emit()
            return context.get_dummy_value()

        integer, two, three = types.int64, types.UniTuple(types.int64, 2), types.UniTuple(types.int64, 3)
        return types.void(
            x, integer, zeros, two, two, two, integer, weight, integer, three, out.dtype, out.dtype, out, integer,
            integer, integer,
        ), codegen  # fmt: skip

    return register_row_tile


def _plain_row_tile(shape: Shape) -> Any:
    """The twin in plain loops, one sum at a time."""
    rows, step, width = shape.rows, shape.step, shape.pixels(register_bytes())

    @jit(key=shape)
    def plain_row_tile(
        x, plane, zeros, size, corner, dilation, stride_w, weight, weight_at, extent, bias, floor, out, out_at, pitch,
        wide,
    ):  # fmt: skip
        flat_x, flat_weight, flat_out = x.reshape(-1), weight.reshape(-1), out.reshape(-1)
        (h, w), (channels, kh, kw) = size, extent
        for r in range(rows):
            for lane in range(min(width // out.itemsize, wide)):
                total = bias
                for c in range(channels):
                    for a in range(kh):
                        row = corner[0] + (r * step + a) * dilation[0]
                        for b in range(kw if 0 <= row < h else 0):
                            column = corner[1] + lane * stride_w + b * dilation[1]
                            if 0 <= column < w:
                                value = flat_x[plane + (c * h + row) * w + column]
                                total += flat_weight[weight_at + (c * kh + a) * kw + b] * value
                flat_out[out_at + r * pitch + lane] = floor if total < floor else total

    return plain_row_tile
