"""`corr2d`, `conv1d` and `conv2d` inside a caller's ``@njit``.

::

    out[n, o, i, j] = bias[o] + sum over c, a, b of
                      weight[o, c, a, b] * x[n, first + c, i * down - top + a * apart, j * across - left + b * beside]

What it changes over the algorithms of `fastconv.cpu`: nothing but Numba's own Python, one thread, no scratch that is
kept. An image is copied with its padding (`windows.deal`), so that a tap lies at one distance from all outputs of a
row, or of the whole plane where the stride is 1; sums run over them in blocks, and the output channels share a block
while it lies in cache. Integers are added up as they are, modulo 2**32 or 2**64.

One core of an AMD EPYC 9005, float32: 3x3 64@56 at 27 to 43 GFLOP/s, where a plain call picks Winograd's transform and
takes a thirteenth of the time, or less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload
from numba.np.numpy_support import as_dtype

from ..functional import conv
from ..specs.boundary import TORCH
from ..specs.dtypes import accumulator, promoted
from .arguments import boundary, check_room, check_steps, constant, dtype_of, flat, given, pair, sides
from .parts import OPTIONS, part
from .windows import BLOCK, MIRROR, WRAP, add_products, copy, deal, empty, fill, store_rows, window_offsets


class Problem(NamedTuple):
    """A convolution of images, all checks passed."""

    n: int
    c_in: int
    h: int
    w: int
    c_out: int
    c_group: int
    kh: int
    kw: int
    groups: int
    stride: tuple[int, int]
    dilation: tuple[int, int]
    top: int
    left: int
    """Padding before the input; of negative padding, which cuts off, nothing is left here."""
    first: int
    """The first element of a plane that is not cut off, and how many rows and columns are not."""
    high: int
    wide: int
    oh: int
    ow: int
    mode: int


@part
def problem(x, weight, stride, padding, dilation, groups, mode):
    """Check a convolution of images. `padding` is (top, bottom, left, right), `mode` a number of `windows.CODES`."""
    n, c_in, h, w = x
    c_out, c_group, kh, kw = weight
    if c_in < 1 or h < 1 or w < 1:
        raise ValueError("x must have no empty axis but the batch's")
    if c_out < 1 or c_group < 1 or kh < 1 or kw < 1:
        raise ValueError("weight must have no empty axis")
    if groups < 1 or c_in % groups != 0 or c_out % groups != 0:
        raise ValueError("groups must be at least 1, and divide the channels of x and of weight")
    if c_in != c_group * groups:
        raise ValueError("weight must have shape (C_out, C_in / groups, ...), but x has another number of channels")
    top, bottom, left, right = padding
    high, wide = h + min(0, top) + min(0, bottom), w + min(0, left) + min(0, right)
    if high < 1 or wide < 1:
        raise ValueError("padding must not cut off all pixels of an axis")
    first = max(0, -top) * w + max(0, -left)
    top, bottom, left, right = max(0, top), max(0, bottom), max(0, left), max(0, right)
    less = 1 if mode == MIRROR else 0
    if mode in (MIRROR, WRAP) and (max(top, bottom) > high - less or max(left, right) > wide - less):
        raise ValueError("padding must be at most the size less 1 of an axis with padding_mode='reflect', and the size "
                         "with 'circular'")  # fmt: skip
    oh = outputs(high + top + bottom, kh, stride[0], dilation[0])
    ow = outputs(wide + left + right, kw, stride[1], dilation[1])
    if oh < 1 or ow < 1:
        raise ValueError("weight must cover no more pixels than x has with its padding")
    return Problem(n, c_in, h, w, c_out, c_group, kh, kw, groups, stride, dilation, top, left, first, high, wide, oh,
                   ow, mode)  # fmt: skip


@part
def outputs(room, taps, stride, dilation):
    """The number of windows that fit along an axis."""
    room -= dilation * (taps - 1) + 1
    return room // stride + 1 if room >= 0 else 0


@part
def convolve(this, x, weight, bias, has_bias, floored, out):
    """Convolve flat arrays; sums below zero become zero if they are `floored`. `out` has the dtype that is computed in.
    """
    down, across = this.stride
    rows = (this.oh - 1) * down + (this.kh - 1) * this.dilation[0] + 1
    columns = (this.ow - 1) * across + (this.kw - 1) * this.dilation[1] + 1
    check_room(this.c_in, rows, columns + across)
    line = -(-columns // across)
    plane, taps = rows * across * line, this.c_group * this.kh * this.kw
    offsets = window_offsets(this.c_group, plane, this.kh, this.kw, this.dilation[0], this.dilation[1], across, line)
    # All outputs of a plane are one row where neighbours see neighbours.
    whole = down == 1 and across == 1
    runs, length, pitch = (1, (this.oh - 1) * line + this.ow, line) if whole else (this.oh, this.ow, this.ow)
    extended, weights = empty(this.c_in * plane, out), empty(weight.size, out)
    copy(weight, 0, weights, 0, weight.size)
    sums, zero, per_group = empty(BLOCK, out), out.dtype.type(0), this.c_out // this.groups
    for image in range(this.n):
        for c in range(this.c_in):
            start = (image * this.c_in + c) * this.h * this.w + this.first
            deal(x, start, this.w, this.high, this.wide, this.top, this.left, this.mode, zero, rows, columns, across,
                 extended, c * plane)  # fmt: skip
        for run in range(runs):
            for begin in range(0, length, BLOCK):
                count = min(BLOCK, length - begin)
                for o in range(this.c_out):
                    fill(sums, 0, count, out.dtype.type(bias[o]) if has_bias else zero)
                    place = o // per_group * this.c_group * plane + run * down * across * line + begin
                    add_products(sums, count, extended, place, offsets, weights[o * taps : (o + 1) * taps], 0, taps)
                    if floored:
                        for i in range(count):
                            sums[i] = zero if sums[i] < zero else sums[i]
                    to = ((image * this.c_out + o) * this.oh + run) * this.ow
                    store_rows(sums, begin, count, pitch, this.ow, out, to)


# -- shapes --------------------------------------------------------------------------------------------------

#: For (axes, axes of the array): the shape (N, C, H, W) of an input, and the shape of an output.
_AS_IMAGES: dict[tuple[int, int], Callable] = {
    (2, 4): part(lambda s: s),
    (2, 3): part(lambda s: (1, s[0], s[1], s[2])),
    (1, 3): part(lambda s: (s[0], s[1], 1, s[2])),
    (1, 2): part(lambda s: (1, s[0], 1, s[1])),
}
_AS_GIVEN: dict[tuple[int, int], Callable] = {
    (2, 4): part(lambda n, c, h, w: (n, c, h, w)),
    (2, 3): part(lambda n, c, h, w: (c, h, w)),
    (1, 3): part(lambda n, c, h, w: (n, c, w)),
    (1, 2): part(lambda n, c, h, w: (c, w)),
}


# -- functions -----------------------------------------------------------------------------------------------


def _layer(axes: int, told: dict[str, Any]) -> Callable:
    """The function of the arguments' values that convolves arguments of these types."""
    x, weight, bias = given(told["x"]), given(told["weight"]), given(told["bias"])
    dtypes = [dtype_of("x", x, (axes + 1, axes + 2)), dtype_of("weight", weight, (axes + 2,))]
    has_bias = not isinstance(bias, types.NoneType)
    if has_bias:
        dtypes.append(dtype_of("bias", bias, (1,)))
    kind = accumulator(promoted(dtypes)).type
    if not isinstance(given(told["groups"]), types.Integer):
        raise TypingError(f"groups must be an integer, got {told['groups']}")
    activation = constant("activation", told["activation"])
    if activation not in (None, "relu"):
        raise TypingError(f"activation must be None or 'relu', got {activation!r}")
    floored, mode = activation == "relu", boundary("padding_mode", told["padding_mode"], TORCH)
    steps, gaps = pair("stride", told["stride"], axes), pair("dilation", told["dilation"], axes)
    sides_of, images, as_given = sides(told["padding"], axes), _AS_IMAGES[axes, x.ndim], _AS_GIVEN[axes, x.ndim]
    kernels = _AS_IMAGES[axes, axes + 2]

    def run(x, weight, bias, stride, padding, dilation, groups):
        size, shape, step, gap = images(x.shape), kernels(weight.shape), steps(stride), gaps(dilation)
        check_steps(step, gap)
        window = gap[0] * (shape[2] - 1) + 1, gap[1] * (shape[3] - 1) + 1
        this = problem(size, shape, step, sides_of(padding, size[2:], window, step), gap, groups, mode)
        if has_bias and bias.size != this.c_out:
            raise ValueError("bias must have shape (C_out,), one value an output channel")
        out = np.empty(this.n * this.c_out * this.oh * this.ow, kind)
        convolve(this, flat(x), flat(weight), bias if has_bias else out, has_bias, floored, out)
        return out.reshape(as_given(this.n, this.c_out, this.oh, this.ow))

    return part(run)


@overload(conv.conv2d, jit_options=OPTIONS)
def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", activation=None):
    run = _layer(2, locals())

    def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", activation=None):
        return run(x, weight, bias, stride, padding, dilation, groups)

    return conv2d


@overload(conv.conv1d, jit_options=OPTIONS)
def conv1d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", activation=None):
    run = _layer(1, locals())

    def conv1d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", activation=None):
        return run(x, weight, bias, stride, padding, dilation, groups)

    return conv1d


@overload(conv.corr2d, jit_options=OPTIONS)
def corr2d(x, kernel, bias=0, padding=0, padding_mode="zeros"):
    dtypes = [dtype_of("x", x, (2,)), dtype_of("kernel", kernel, (2,))]
    scalar, mode, sides_of = given(bias), boundary("padding_mode", padding_mode, TORCH), sides(padding, 2)
    if not isinstance(scalar, types.Number | types.Boolean) or isinstance(scalar, types.Complex):
        raise TypingError(f"bias must be a number, got {scalar}")
    # Numba has one type for Python's numbers and NumPy's of 64 bits: they count as Python's, by NumPy's rule.
    dtype = promoted(dtypes)
    if scalar == types.float64:
        dtype = dtype if dtype.kind == "f" else np.dtype(np.float64)
    elif not isinstance(scalar, types.Boolean) and scalar != types.intp and not isinstance(scalar, types.Literal):
        dtype = promoted([dtype, as_dtype(scalar)])
    kind = accumulator(dtype).type
    limits = np.iinfo(np.int32) if kind is np.int32 else np.iinfo(np.int64)
    lowest, highest, floats = int(limits.min), int(limits.max), dtype.kind == "f"

    def corr2d(x, kernel, bias=0, padding=0, padding_mode="zeros"):
        one = np.int64(1)
        if x.size == 0:
            raise ValueError("x must have two axes of at least one element")
        if kernel.size == 0:
            raise ValueError("kernel must have two axes of at least one element")
        size, shape = (one, one, x.shape[0], x.shape[1]), (one, one, kernel.shape[0], kernel.shape[1])
        around = sides_of(padding, x.shape, kernel.shape, (one, one))
        if min(around[0], around[1], around[2], around[3]) < 0:
            raise ValueError("padding must be at least 0")
        if not floats and (bias < lowest or bias > highest):
            raise ValueError("bias must fit the dtype of the result")
        this = problem(size, shape, (one, one), around, (one, one), one, mode)
        out, offset = np.empty(this.oh * this.ow, kind), np.empty(1, kind)
        offset[0] = bias
        convolve(this, flat(x), flat(kernel), offset, True, False, out)
        return out.reshape((this.oh, this.ow))

    return corr2d


__all__ = ["conv1d", "conv2d", "corr2d"]
