"""Windows as columns ("im2col") and back ("col2im"), and maxima back at their places: elements that are moved.

::

    unroll:  columns[n, (c, a, b), (i, j)] = x[n, c, row, col]
             row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w
    fold:    out[n, c, u, v] = sum of columns[n, (c, a, b), (i, j)] over all taps and pixels with row = u and col = v
    unpool:  out[n, c, place[n, c, i, j]] = x[n, c, i, j], places counted along the rows of a plane

One thread an element: of the columns, of the image, of the maxima. What is summed up is gathered, so that nobody else
writes to it, in the same order every time.
"""

from __future__ import annotations

import numpy as np

from ...specs.conv import ConvSpec
from ..system.kernels import cuda, factory, integers, pick, pointer, scalar_type
from ..system.streams import Stream, Tensor
from ..tiles.elements import narrow, widen
from .convert import fill
from .pooling import computed

#: Threads of a block.
BLOCK = pick(256, 8)


def unroll(spec: ConvSpec, x: Tensor, columns: Tensor, stream: Stream) -> None:
    """Images as columns (1, images, rows, pixels)."""
    (top, _), (left, _) = spec.padding
    stream.launch(
        _unroll(x.dtype), -(-columns.size // BLOCK), BLOCK,
        x.pointer, x.strides, columns.pointer, columns.strides, (columns.size, columns.shape[2], spec.h, spec.w),
        (spec.oh, spec.ow), (spec.kh, spec.kw), spec.stride, (top, left), spec.dilation,
    )


@factory
def _unroll(dtype):
    stored = scalar_type(dtype)

    def unroll(x, x_steps, columns, steps, sizes, outputs, window, stride, pad, dilation):
        (size, rows, h, w), (oh, ow), (kh, kw) = sizes, outputs, window
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= size:
            return
        pixel, line, n = at % (oh * ow), at // (oh * ow) % rows, at // (oh * ow) // rows
        b, a, c = line % kw, line // kw % kh, line // kw // kh
        row = pixel // ow * stride[0] - pad[0] + a * dilation[0]
        col = pixel % ow * stride[1] - pad[1] + b * dilation[1]
        value = stored(0)
        if 0 <= row < h and 0 <= col < w:
            value = x[n * x_steps[0] + c * x_steps[1] + row * x_steps[2] + col * x_steps[3]]
        columns[n * steps[1] + line * steps[2] + pixel * steps[3]] = value

    pair, four = integers(2), integers(4)
    return (pointer(dtype), four, pointer(dtype), four, four, *(pair,) * 5), unroll


def fold(spec: ConvSpec, columns: Tensor, out: Tensor, stream: Stream) -> None:
    """Columns (1, images, rows, pixels) summed up to images."""
    (top, _), (left, _) = spec.padding
    stream.launch(
        _fold(columns.dtype, spec.acc_dtype, out.dtype), -(-out.size // BLOCK), BLOCK,
        columns.pointer, columns.strides, out.pointer, out.strides, (out.size, spec.c_in, spec.h, spec.w),
        (spec.oh, spec.ow), (spec.kh, spec.kw), spec.stride, (top, left), spec.dilation,
    )


@factory
def _fold(dtype, acc_dtype, out_dtype):
    acc, load, store = acc_dtype.type, widen(dtype, acc_dtype), narrow(out_dtype)

    def fold(columns, steps, out, out_steps, sizes, outputs, window, stride, pad, dilation):
        (size, channels, h, w), (oh, ow), (kh, kw) = sizes, outputs, window
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= size:
            return
        v, u, c, n = at % w, at // w % h, at // w // h % channels, at // w // h // channels
        total = acc(0)
        for a in range(kh):
            row = u + pad[0] - a * dilation[0]
            if row >= 0 and row % stride[0] == 0 and row // stride[0] < oh:
                for b in range(kw):
                    col = v + pad[1] - b * dilation[1]
                    if col >= 0 and col % stride[1] == 0 and col // stride[1] < ow:
                        line, pixel = (c * kh + a) * kw + b, row // stride[0] * ow + col // stride[1]
                        total = acc(total + load(columns[n * steps[1] + line * steps[2] + pixel * steps[3]]))
        out[n * out_steps[0] + c * out_steps[1] + u * out_steps[2] + v * out_steps[3]] = store(total)

    pair, four = integers(2), integers(4)
    return (pointer(dtype), four, pointer(out_dtype), four, four, *(pair,) * 5), fold


def unpool(x: Tensor, places: Tensor, out: Tensor, stream: Stream) -> None:
    """Zeros, and the maxima where they belong. Places outside a plane are left out."""
    _, c, oh, ow = x.shape
    fill(out, stream.zeros(c, computed(out.dtype)), stream)
    stream.launch(
        _unpool(x.dtype), -(-x.size // BLOCK), BLOCK, x.pointer, x.strides, places.pointer, places.strides,
        out.pointer, out.strides, (x.size, c, oh, ow), out.shape[2:],
    )


@factory
def _unpool(dtype):
    def unpool(x, x_steps, places, place_steps, out, out_steps, sizes, plane):
        (size, channels, oh, ow), (h, w) = sizes, plane
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= size:
            return
        j, i, c, n = at % ow, at // ow % oh, at // ow // oh % channels, at // ow // oh // channels
        place = places[n * place_steps[0] + c * place_steps[1] + i * place_steps[2] + j * place_steps[3]]
        if 0 <= place < h * w:
            value = x[n * x_steps[0] + c * x_steps[1] + i * x_steps[2] + j * x_steps[3]]
            out[n * out_steps[0] + c * out_steps[1] + place // w * out_steps[2] + place % w * out_steps[3]] = value

    four = integers(4)
    return (pointer(dtype), four, pointer(np.int64), four, pointer(dtype), four, four, integers(2)), unpool
