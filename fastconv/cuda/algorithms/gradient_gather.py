"""The gradients of pooling for its input, gathered: each input element looks at the windows that it is in.

::

    max:  out[n, c, u, v] = sum of grad[n, c, i, j] over the windows whose maximum lies at the flat index u * w + v
    avg:  out[n, c, u, v] = sum of grad[n, c, i, j] / (high[i] * wide[j]) over the windows that (u, v) is in

The windows of row u are the i with i * stride_h - top + a * dilation_h = u for a tap a: neighbours from a first one to
a last one, some of which a dilation leaves out. What it changes over the CPU's `gradient_scatter`, where each output
adds to the elements of its window: that would take atomic additions here, whose order, and with it the result, differs
from run to run. Here only one thread writes to an element, and windows that do not overlap are read once.

What a mean is divided by is a product of one number a row and one a column, so for windows that overlap much columns
are gathered first, then rows: kw / stride_w + kh / stride_h additions an element, not their product. Maxima are found
by comparing indices, of all windows that an element is in. Of sums over more than LONG windows, what rounding takes is
kept.

As in `pool_rows`, neighbouring threads have neighbouring columns, or channels where these lie side by side, and window,
stride and dilation are constants of the compiled code. Not measured yet on a GPU.

Source: Goodfellow, Bengio and Courville, Deep Learning, chapter 9.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...specs.dtypes import computed
from ...specs.pool import PoolSpec
from ..machine import Machine
from ..shared.pooling import LONG, block_shape, lanes_last, plus
from ..system.kernels import INT64, cuda, factory, integers, pointer
from ..system.streams import Stream, Tensor, dense
from ..tiles.elements import narrow, widen
from ..tiles.ptx import inlined, int32, int64

#: Least number of windows that an element is in for which means are gathered columns first, which writes and reads one
#: more plane.
MANY = 10
#: Sizes from which on 32 bits may not be enough for places.
LARGE = 1 << 28


class Axis(NamedTuple):
    """The windows along an axis."""

    size: int
    """Number of elements of the input."""
    windows: int
    taps: int
    stride: int
    pad: int
    gap: int
    """The dilation."""
    before: int = 0
    """Padding before the input that counts in the divisor."""
    counted: int = 0
    """Elements, and padding behind them, that count in the divisor."""

    @property
    def overlap(self) -> int:
        """Most windows that an element is in."""
        return min(self.windows, -(-self.taps // self.stride))


def _axes(spec: PoolSpec) -> tuple[Axis, Axis]:
    sizes, counts, taps = (spec.h, spec.w), (spec.oh, spec.ow), (spec.kh, spec.kw)
    first, second = (
        Axis(*axis, pads[0], gap, *counted)
        for axis, pads, gap, counted in zip(zip(sizes, counts, taps, spec.stride, strict=True), spec.padding,
                                            spec.dilation, spec.counted[1:], strict=True)
    )
    return first, second


def _whole(size: int) -> Axis:
    """An axis whose windows are its single elements."""
    return Axis(size, size, 1, 1, 0, 1, 0, size)


def supports(spec: PoolSpec) -> str | None:
    if spec.op == "lp":
        return "gradients are of maxima and averages"
    return "it is for planes" if spec.axes == 3 or spec.adaptive else None


def cost(spec: PoolSpec, machine: Machine) -> float:
    elements = spec.planes * (spec.h * spec.w + spec.oh * spec.ow)
    return machine.launch + elements * spec.dtype.itemsize / machine.bandwidth


def scratch(spec: PoolSpec) -> int:
    """The bytes of the columns that are gathered first, for averages."""
    return 0 if spec.picks else spec.planes * spec.oh * spec.w * 8


def run(spec: PoolSpec, x: Tensor | None, grad: Tensor, out: Tensor, stream: Stream) -> None:
    """Fill `out`. For maxima, `x` are their indices."""
    if x is None:
        _avg_pool(spec, grad, out, stream)
    else:
        _max_pool(spec, x, grad, out, stream)


def _max_pool(spec: PoolSpec, indices: Tensor, grad: Tensor, out: Tensor, stream: Stream) -> None:
    rows, cols = _axes(spec)
    lanes, grid, block, sizes, constants = _layout(rows, cols, out)
    stream.launch(
        _gather_max(out.dtype, *constants), grid, block, indices.pointer, indices.strides, grad.pointer, grad.strides,
        out.pointer, out.strides, sizes, (rows.windows, cols.windows), (rows.pad, cols.pad), lanes,
    )


def _avg_pool(spec: PoolSpec, grad: Tensor, out: Tensor, stream: Stream) -> None:
    rows, cols = _axes(spec)
    divisor = 0 if spec.divisor is None else spec.divisor
    if rows.overlap * cols.overlap < MANY or min(rows.overlap, cols.overlap) == 1:
        _spread(rows, cols, divisor, grad, out, stream)
        return
    n, c, oh, _ = grad.shape
    # Halves are added up in float32, and are rounded once.
    shape = (n, c, oh, cols.size)
    between = like(out, shape, computed(out.dtype), stream)
    _spread(_whole(oh), cols, divisor, grad, between, stream)
    _spread(rows, _whole(cols.size), 0 if spec.divisor is None else 1, between, out, stream)


def like(x: Tensor, shape: tuple[int, ...], dtype: np.dtype, stream: Stream) -> Tensor:
    """New memory with the layout of `x`: channels first or last."""
    n, c, h, w = shape
    buffer = stream.empty(n * c * h * w, dtype)
    return Tensor(buffer.pointer, dtype, shape, (c * h * w, 1, w * c, c), buffer) if lanes_last(x) else dense(
        buffer, shape)


def _spread(rows: Axis, cols: Axis, divisor: int, grad: Tensor, out: Tensor, stream: Stream) -> None:
    lanes, grid, block, sizes, constants = _layout(rows, cols, out)
    kernel = _gather_avg(grad.dtype, out.dtype, *constants, rows.overlap * cols.overlap > LONG)
    stream.launch(
        kernel, grid, block, grad.pointer, grad.strides, out.pointer, out.strides, sizes, (rows.windows, cols.windows),
        (rows.pad, cols.pad), lanes, (rows.before, cols.before), (rows.counted, cols.counted), divisor,
    )


def _layout(rows: Axis, cols: Axis, out: Tensor) -> tuple:
    """Tiles across and down, grid and block, sizes, and the constants of the compiled code."""
    last, (n, c, h, w) = lanes_last(out), out.shape
    lanes, depth = (c, n * w) if last else (w, n * c)
    across, down, deep = block = block_shape(lanes)
    tiles = -(-lanes // across), -(-h // down)
    reach = max(max(axis.size + axis.pad, axis.taps * axis.gap, axis.stride) for axis in (rows, cols))
    grid = tiles[0] * tiles[1] * -(-depth // deep)
    wide = max(reach, h * w, lanes, depth, grid) >= LARGE
    geometry = tuple((axis.taps, axis.stride, axis.gap) for axis in (rows, cols))
    return tiles, grid, block, (lanes, depth, h, w if last else c, w), (*geometry, block, last, wide)


def _finders(rows, cols, block, last, wide):
    """Code that both kernels need: their integers, a thread's place, and the windows that an element is in."""
    (across, down, deep), number = block, int64 if wide else int32

    @inlined
    def place(sizes, tiles):
        at, tiles_l, tiles_h = number(cuda.blockIdx.x), number(tiles[0]), number(tiles[1])
        lane = number(at % tiles_l * across + cuda.threadIdx.x)
        u = number(at // tiles_l % tiles_h * down + cuda.threadIdx.y)
        z = number(at // tiles_l // tiles_h * deep + cuda.threadIdx.z)
        inside = lane < sizes[0] and u < sizes[2] and z < sizes[1]
        n, other = number(z // number(sizes[3])), number(z % number(sizes[3]))
        if last:
            return inside, n, lane, u, other
        return inside, n, other, u, lane

    def windows(axis):
        taps, stride, gap = axis

        @inlined
        def found(at, count):
            """The first window, and the last + 1."""
            low = number(at - (taps - 1) * gap)
            first = number(0)
            if low > 0:
                first = number((low + (stride - 1)) // stride)
            return first, number(min(number(at // stride + 1), number(count)))

        @inlined
        def hit(at, window):
            return gap == 1 or (at - window * stride) % gap == 0

        return found, hit

    return number, place, *windows(rows), *windows(cols)


@factory
def _gather_max(dtype, rows, cols, block, last, wide):
    load, store, total_type = widen(dtype, computed(dtype)), narrow(dtype), computed(dtype).type
    number, place, rows_of, row_hit, cols_of, col_hit = _finders(rows, cols, block, last, wide)

    def gather_max(indices, index_steps, grad, grad_steps, out, out_steps, sizes, outputs, pad, tiles):
        inside, n, c, u, v = place(sizes, tiles)
        if not inside:
            return
        index, signal = n * index_steps[0] + c * index_steps[1], n * grad_steps[0] + c * grad_steps[1]
        me = u * sizes[4] + v
        down, across = number(u + pad[0]), number(v + pad[1])
        i0, i1 = rows_of(down, outputs[0])
        j0, j1 = cols_of(across, outputs[1])
        total = total_type(0)
        for i in range(i0, i1):
            if row_hit(down, i):
                for j in range(j0, j1):
                    if col_hit(across, j) and indices[index + i * index_steps[2] + j * index_steps[3]] == me:
                        total = total_type(total + load(grad[signal + i * grad_steps[2] + j * grad_steps[3]]))
        out[n * out_steps[0] + c * out_steps[1] + u * out_steps[2] + v * out_steps[3]] = store(total)

    four, pair = integers(4), integers(2)
    signature = (pointer(np.int64), four, pointer(dtype), four, pointer(dtype), four, integers(5), pair, pair, pair)
    return signature, gather_max


@factory
def _gather_avg(dtype, out_dtype, rows, cols, block, last, wide, long):
    load, store, total_type = widen(dtype, computed(dtype)), narrow(out_dtype), computed(dtype).type
    added = plus(long, computed(dtype))
    number, place, rows_of, row_hit, cols_of, col_hit = _finders(rows, cols, block, last, wide)
    (kh, step_h, gap_h), (kw, step_w, gap_w) = rows, cols

    @inlined
    def touched(start, gap, size, taps):
        low = number(-(start // gap)) if start < 0 else number(0)
        return number(min(number(taps), number((size - 1 - start) // gap + 1)) - low)

    def gather_avg(grad, grad_steps, out, out_steps, sizes, outputs, pad, tiles, before, counted, divisor):
        inside, n, c, u, v = place(sizes, tiles)
        if not inside:
            return
        signal = n * grad_steps[0] + c * grad_steps[1]
        down, across = number(u + pad[0]), number(v + pad[1])
        i0, i1 = rows_of(down, outputs[0])
        j0, j1 = cols_of(across, outputs[1])
        size_h, size_w = number(before[0] + counted[0]), number(before[1] + counted[1])
        total = lost = total_type(0)
        for i in range(i0, i1):
            if row_hit(down, i):
                high = touched(number(i * step_h - pad[0] + before[0]), gap_h, size_h, kh)
                for j in range(j0, j1):
                    if col_hit(across, j):
                        count = total_type(divisor)
                        if divisor == 0:
                            wide_ = touched(number(j * step_w - pad[1] + before[1]), gap_w, size_w, kw)
                            count = total_type(total_type(high) * total_type(wide_))
                        value = load(grad[signal + i * grad_steps[2] + j * grad_steps[3]])
                        total, lost = added(total, lost, value / count)
        out[n * out_steps[0] + c * out_steps[1] + u * out_steps[2] + v * out_steps[3]] = store(total)

    four, pair = integers(4), integers(2)
    signature = (pointer(dtype), four, pointer(out_dtype), four, integers(5), *(pair,) * 5, INT64)
    return signature, gather_avg
