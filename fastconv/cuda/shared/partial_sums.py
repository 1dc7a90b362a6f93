"""Sums for weights of which several blocks have each made a part: a kernel adds the parts, always in one order.

A part has `pitch` places for each output channel's weights, in an order of channels and taps that the caller chooses:
``sums[part, o, c * step_c + (a * kw + b) * step_tap]``.
"""

from __future__ import annotations

import numpy as np

from ..system.kernels import cuda, factory, integers, pick, pointer
from ..system.streams import Buffer, Stream, Tensor
from ..tiles.elements import narrow

BLOCK = pick(128, 8)
#: Loads of a thread that are under way together.
TOGETHER = 4


def add_parts(sums: Buffer, parts: int, pitch: int, steps: tuple[int, int], out: Tensor, stream: Stream) -> None:
    """Fill `out`, the gradient for the weights; `steps` lead from channel to channel and from tap to tap in a part."""
    c_out, *sizes = out.shape
    stream.launch(_add_parts(sums.dtype, out.dtype), -(-out.size // BLOCK), BLOCK,
                  sums.pointer, (parts, c_out * pitch, pitch, *steps), out.pointer, out.strides, (out.size, *sizes))


@factory
def _add_parts(dtype, out_dtype):
    number, store = dtype.type, narrow(out_dtype)

    def add_weight_parts(sums, layout, out, out_steps, sizes):
        (parts, apart, pitch, step_c, step_tap), (size, c_group, kh, kw) = layout, sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= size:
            return
        tap, c, o = at % (kh * kw), at // (kh * kw) % c_group, at // (kh * kw) // c_group
        place = o * pitch + c * step_c + tap * step_tap
        first, second, third, fourth = number(0), number(0), number(0), number(0)
        whole = parts // TOGETHER * TOGETHER
        for _ in range(0, whole, TOGETHER):
            first = number(first + sums[place])
            second = number(second + sums[place + apart])
            third = number(third + sums[place + 2 * apart])
            fourth = number(fourth + sums[place + 3 * apart])
            place += TOGETHER * apart
        for _ in range(whole, parts):
            first = number(first + sums[place])
            place += apart
        total = number(number(first + second) + number(third + fourth))
        out[o * out_steps[0] + c * out_steps[1] + tap // kw * out_steps[2] + tap % kw * out_steps[3]] = store(total)

    return (pointer(dtype), integers(5), pointer(out_dtype), integers(4), integers(4)), add_weight_parts
