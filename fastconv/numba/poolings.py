"""`max_pool2d` and `avg_pool2d` inside a caller's ``@njit``.

::

    max:  out[p, i, j] = max over a, b of x[p, i * down - top + a * apart, j * across - left + b * beside]
    avg:  out[p, i, j] = (sum over a, b of x[p, ...]) / divisor

Each plane is copied with its padding, minus infinity or zeros (`windows.deal`); outputs of a row, or of the whole plane
where the stride is 1, take one tap after the other. Indices are found window by window. Sums of float32 have an account
of what rounding loses, those of integers are exact in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload

from ..functional import avg_pool, max_pool
from ..specs.arguments import LIMIT
from .arguments import check_room, check_steps, constant, dtype_of, flat, given, pair, sides
from .parts import OPTIONS, part
from .windows import BLOCK, CONSTANT, copy, deal, empty, fill, further, store_rows, sum_products, window_offsets


class Axis(NamedTuple):
    """Windows along one axis."""

    size: int
    taps: int
    stride: int
    dilation: int
    before: int
    """Padding in front, and behind."""
    behind: int
    outs: int
    """The number of windows."""
    first: int
    """Elements that are cut off in front, where padding is negative."""


@part
def axis(size, taps, stride, dilation, before, behind, ceil_mode):
    """Check the windows along one axis."""
    if not 1 <= taps <= LIMIT:
        raise ValueError("kernel_size must be from 1 to 2**31 - 1")
    first = max(0, -before)
    size += min(0, before) + min(0, behind)
    before, behind = max(0, before), max(0, behind)
    if size < 1:
        raise ValueError("x must have no empty axis but the batch's, and padding must not cut off all of one")
    reach = dilation * (taps - 1) + 1
    if before >= reach or behind >= reach:
        raise ValueError("padding must be below the window (dilation counted), so that every window touches the input")
    room = size + before + behind - reach
    if room < 0:
        raise ValueError("kernel_size (dilation counted) must be at most the size of x with its padding")
    outs = room // stride + 1
    if ceil_mode:
        outs = -(-room // stride) + 1
        if (outs - 1) * stride >= size + before:
            outs -= 1
    if dilation > size and before > 0:  # windows that begin in the padding may step over the input
        for number in range(min(outs, -(-before // stride))):
            if (number * stride - before) % dilation >= size:
                raise ValueError("dilation must not let a window step over the whole input")
    return Axis(size, taps, stride, dilation, before, behind, outs, first)


@part
def seen(this, start, before, end):
    """The first tap of a window from `start` on that lies in an axis from -`before` to `end`, and the last + 1."""
    return max(0, -((start + before) // this.dilation)), min(this.taps, (end - 1 - start) // this.dilation + 1)


@part
def pool(x, planes, h, w, rows, columns, largest, include_pad, divisor, out):
    """Write the maxima (`largest`) or the means of windows, in the dtype of `out`."""
    high = (rows.outs - 1) * rows.stride + (rows.taps - 1) * rows.dilation + 1
    wide = (columns.outs - 1) * columns.stride + (columns.taps - 1) * columns.dilation + 1
    across = columns.stride
    check_room(1, high, wide + across)
    line = -(-wide // across)
    offsets = window_offsets(1, 0, rows.taps, columns.taps, rows.dilation, columns.dilation, across, line)
    whole = rows.stride == 1 and across == 1
    runs, length, pitch = (rows.outs, columns.outs, columns.outs)
    if whole:
        runs, length, pitch = 1, (rows.outs - 1) * line + columns.outs, line
    extended, ones = empty(high * across * line, out), empty(offsets.size, out)
    total, lost, some = empty(BLOCK, out), empty(BLOCK, out), empty(BLOCK, out)
    fill(ones, 0, ones.size, out.dtype.type(1))
    outside = least(out) if largest else out.dtype.type(0)
    for plane in range(planes):
        start = (plane * h + rows.first) * w + columns.first
        deal(x, start, w, rows.size, columns.size, rows.before, columns.before, CONSTANT, outside, high, wide, across,
             extended, 0)  # fmt: skip
        for run in range(runs):
            for begin in range(0, length, BLOCK):
                count, place = min(BLOCK, length - begin), run * rows.stride * across * line + begin
                if largest:
                    copy(extended, place + offsets[0], total, 0, count)
                    for t in range(1, offsets.size):
                        source = extended[place + offsets[t] :]
                        for i in range(count):
                            total[i] = further(total[i], source[i], True)
                else:
                    sum_products(total, lost, some, count, extended, place, offsets, ones)
                store_rows(total, begin, count, pitch, columns.outs, out, (plane * rows.outs + run) * columns.outs)
        if not largest:
            divide(rows, columns, include_pad, divisor, out[plane * rows.outs * columns.outs :])


@part
def divide(rows, columns, include_pad, divisor, sums):
    """Divide the sums of a plane's windows by the caller's divisor or, if that is 0, by their counted taps."""
    wide = empty(columns.outs, sums)
    for j in range(columns.outs):
        wide[j] = divisor if divisor > 0 else counted(columns, j, include_pad)
    for i in range(rows.outs):
        high = sums.dtype.type(1 if divisor > 0 else counted(rows, i, include_pad))
        line = sums[i * columns.outs : (i + 1) * columns.outs]
        for j in range(columns.outs):
            line[j] = line[j] / (high * wide[j])


@part
def counted(this, number, include_pad):
    """Taps of a window that count for a mean: those in the input, or also in its padding."""
    first, end = seen(this, number * this.stride - this.before, this.before if include_pad else 0,
                      this.size + (this.behind if include_pad else 0))  # fmt: skip
    return end - first


@part
def find(x, planes, h, w, rows, columns, out, indices):
    """Write the maxima of windows, and where in its plane each is: the first of several, or the last NaN."""
    for plane in range(planes):
        start = (plane * h + rows.first) * w + columns.first
        for i in range(rows.outs):
            top = i * rows.stride - rows.before
            a0, a1 = seen(rows, top, 0, rows.size)
            for j in range(columns.outs):
                left = j * columns.stride - columns.before
                b0, b1 = seen(columns, left, 0, columns.size)
                row, column = top + a0 * rows.dilation, left + b0 * columns.dilation
                place = row * w + column
                best = x[start + place]
                for a in range(a0, a1):
                    for b in range(b0, b1):
                        at = (top + a * rows.dilation) * w + left + b * columns.dilation
                        value = x[start + at]
                        if value > best or value != value:
                            best, place = value, at
                to = (plane * rows.outs + i) * columns.outs + j
                out[to] = best
                indices[to] = place + rows.first * w + columns.first


def least(array):
    """A value that is below all others of an array's dtype."""
    raise NotImplementedError  # only compiled code calls it


@overload(least, jit_options=OPTIONS)
def _least(array):
    if isinstance(array.dtype, types.Float):
        return lambda array: array.dtype.type(-np.inf)
    lowest = 0 if array.dtype == types.boolean else int(array.dtype.minval)
    return lambda array: array.dtype.type(lowest)


#: By the axes of an input: how many planes it has; the shape of an output.
_PLANES: dict[int, Callable] = {
    2: part(lambda s: 1), 3: part(lambda s: s[0]), 4: part(lambda s: s[0] * s[1]),
}  # fmt: skip
_SHAPES: dict[int, Callable] = {
    2: part(lambda s, h, w: (h, w)), 3: part(lambda s, h, w: (s[0], h, w)),
    4: part(lambda s, h, w: (s[0], s[1], h, w)),
}  # fmt: skip


def _windows(told: dict[str, Any]) -> tuple[np.dtype, Callable, Callable, Callable]:
    """The dtype of the input; and functions of values of arguments of these types: the windows along rows and along
    columns, the number of planes, and the shape of the output."""
    x, stride = given(told["x"]), given(told["stride"])
    dtype = dtype_of("x", x, (2, 3, 4))
    sizes, gaps = pair("kernel_size", told["kernel_size"], 2), pair("dilation", told["dilation"], 2)
    steps = sizes if isinstance(stride, types.NoneType) else pair("stride", stride, 2)
    by_size, sides_of = isinstance(stride, types.NoneType), sides(told["padding"], 2)
    if not isinstance(given(told["ceil_mode"]), types.Boolean):
        raise TypingError(f"ceil_mode must be a bool, got {told['ceil_mode']}")
    ndim = x.ndim

    def axes(x, kernel_size, stride, padding, dilation, ceil_mode):
        taps, gap = sizes(kernel_size), gaps(dilation)
        step = taps if by_size else steps(stride)
        if by_size and min(taps[0], taps[1]) < 1:
            raise ValueError("kernel_size must be from 1 to 2**31 - 1")
        check_steps(step, gap)
        window = gap[0] * (taps[0] - 1) + 1, gap[1] * (taps[1] - 1) + 1
        high, wide = x.shape[ndim - 2], x.shape[ndim - 1]
        top, bottom, left, right = sides_of(padding, (high, wide), window, step)
        rows = axis(high, taps[0], step[0], gap[0], top, bottom, ceil_mode)
        columns = axis(wide, taps[1], step[1], gap[1], left, right, ceil_mode)
        return rows, columns

    return dtype, part(axes), _PLANES[ndim], _SHAPES[ndim]


@overload(max_pool.max_pool2d, jit_options=OPTIONS)
def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    dtype, axes, planes, shape = _windows(locals())
    kind = dtype.type
    if constant("return_indices", return_indices):

        def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
            rows, columns = axes(x, kernel_size, stride, padding, dilation, ceil_mode)
            count, size = planes(x.shape), rows.outs * columns.outs
            out, indices = np.empty(count * size, kind), np.empty(count * size, np.int64)
            find(flat(x), count, x.shape[-2], x.shape[-1], rows, columns, out, indices)
            goal = shape(x.shape, rows.outs, columns.outs)
            return out.reshape(goal), indices.reshape(goal)
    else:

        def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
            rows, columns = axes(x, kernel_size, stride, padding, dilation, ceil_mode)
            count = planes(x.shape)
            out = np.empty(count * rows.outs * columns.outs, kind)
            pool(flat(x), count, x.shape[-2], x.shape[-1], rows, columns, True, True, 0, out)
            return out.reshape(shape(x.shape, rows.outs, columns.outs))

    return max_pool2d


@overload(avg_pool.avg_pool2d, jit_options=OPTIONS)
def avg_pool2d(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    dtype, axes, planes, shape = _windows(locals())
    kind = dtype.type if dtype.kind == "f" else np.float64
    if not isinstance(given(count_include_pad), types.Boolean):
        raise TypingError(f"count_include_pad must be a bool, got {count_include_pad}")
    overridden = not isinstance(given(divisor_override), types.NoneType)
    if overridden and not isinstance(given(divisor_override), types.Integer):
        raise TypingError(f"divisor_override must be an integer or None, got {divisor_override}")

    def avg_pool2d(
        x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, count_include_pad=True,
        divisor_override=None,
    ):  # fmt: skip
        rows, columns = axes(x, kernel_size, stride, padding, dilation, ceil_mode)
        divisor = np.int64(0)
        if overridden:
            divisor = np.int64(divisor_override)
            if divisor < 1:
                raise ValueError("divisor_override must be at least 1")
        count = planes(x.shape)
        out = np.empty(count * rows.outs * columns.outs, kind)
        pool(flat(x), count, x.shape[-2], x.shape[-1], rows, columns, False, count_include_pad, divisor, out)
        return out.reshape(shape(x.shape, rows.outs, columns.outs))

    return avg_pool2d
