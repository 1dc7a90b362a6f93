"""Folding adds columns up to images ("col2im").

::

    out[n, c, u, v] = sum of columns[n, (c, a, b), (i, j)] over all taps and pixels with row = u and col = v
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w

One thread for each element of the image, which gathers its terms: no other thread writes to it, and the order is fixed.

Source: Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.im2col import BLOCK
from ..system.kernels import cuda, factory, integers, pointer
from ..system.streams import Stream, Tensor
from ..tiles.elements import narrow, widen


def supports(spec: ConvSpec) -> str | None:
    return "it is for images" if spec.axes == 3 else None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return machine.launch + spec.n * spec.taps * spec.oh * spec.ow * spec.dtype.itemsize / machine.bandwidth


def scratch(spec: ConvSpec) -> int:
    return 0


def run(spec: ConvSpec, x: Tensor, out: Tensor, stream: Stream) -> None:
    """Fill `out`; `x` are the columns (1, images, rows, pixels)."""
    (top, _), (left, _) = spec.padding
    stream.launch(
        _fold(x.dtype, spec.acc_dtype, out.dtype), -(-out.size // BLOCK), BLOCK,
        x.pointer, x.strides, out.pointer, out.strides, (out.size, spec.c_in, spec.h, spec.w),
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
