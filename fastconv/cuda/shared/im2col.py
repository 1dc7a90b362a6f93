"""Windows as columns ("im2col"), made by a kernel that moves elements.

::

    columns[n, (c, a, b), (i, j)] = x[n, c, row, col]
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w

One thread for each element of the columns.
"""

from __future__ import annotations

import numpy as np

from ...specs.conv import ConvSpec
from ..system.kernels import cuda, factory, integers, pick, pointer, scalar_type
from ..system.streams import Stream, Tensor

#: Threads of a block.
BLOCK = pick(256, 8)


def unroll(spec: ConvSpec, x: Tensor, columns: Tensor, stream: Stream) -> None:
    """Unroll images into columns (1, images, rows, pixels)."""
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
