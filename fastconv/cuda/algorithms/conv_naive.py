"""The definition: one thread an output element, which sums over channels and taps.

Index equation (symbols in `fastconv.specs.conv`)::

    out[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[n, first + c, row, col]
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w

Neighbouring threads have neighbouring columns, so a warp reads rows of the input in whole sectors, and one weight for
all. Everything is loaded again for every output: 2 loads a multiply-add, most of them from caches. Any dtype, any
strides. The other kernels are read against it, and integers wider than a byte run on it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system.kernels import cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Stream, Tensor
from ..tiles.elements import narrow, widen

#: Threads of a block: whole warps, few enough that small outputs spread over the multiprocessors.
BLOCK = pick(128, 8)


def supports(spec: ConvSpec) -> str | None:
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    outputs = math.prod(spec.output_shape)
    moved = math.prod(spec.x_shape) * spec.dtype.itemsize + outputs * spec.out_dtype.itemsize
    return machine.naive(outputs, spec.taps, spec.dtype, moved)


def scratch(spec: ConvSpec) -> int:
    return 0


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream) -> Tensor:
    return weight


def run(spec: ConvSpec, x: Tensor, packed: Tensor, bias: Any, out: Tensor, stream: Stream) -> None:
    (top, _), (left, _) = spec.padding
    kernel = _naive_loops(x.dtype, packed.dtype, spec.acc_dtype, out.dtype)
    stream.launch(
        kernel, -(-out.size // BLOCK), BLOCK,
        x.pointer, x.strides, packed.pointer, bias.pointer, spec.floor, out.pointer, out.strides,
        (out.size, spec.c_out, spec.oh, spec.ow), (spec.h, spec.w),
        (spec.c_out // spec.groups, spec.c_in // spec.groups),
        (spec.kh, spec.kw), spec.stride, (top, left), spec.dilation,
    )


@factory
def _naive_loops(x_dtype, weight_dtype, acc_dtype, out_dtype):
    acc, store = acc_dtype.type, narrow(out_dtype)
    load, load_weight = widen(x_dtype, acc_dtype), widen(weight_dtype, acc_dtype)

    def naive_loops(x, x_steps, weight, bias, floor, out, out_steps, out_sizes, image, group, window, stride, pad,
                    dilation):
        size, c_out, oh, ow = out_sizes
        (h, w), (o_group, c_group), (kh, kw) = image, group, window
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= size:
            return
        j, i, o, n = at % ow, at // ow % oh, at // ow // oh % c_out, at // ow // oh // c_out
        first = n * x_steps[0] + o // o_group * c_group * x_steps[1]
        tap = o * c_group * kh * kw
        total = bias[o]
        for c in range(c_group):
            for a in range(kh):
                row = i * stride[0] - pad[0] + a * dilation[0]
                for b in range(kw):
                    col = j * stride[1] - pad[1] + b * dilation[1]
                    value = acc(0)  # and zero times an infinite weight is NaN
                    if 0 <= row < h and 0 <= col < w:
                        value = load(x[first + c * x_steps[1] + row * x_steps[2] + col * x_steps[3]])
                    total = acc(total + load_weight(weight[tap + b]) * value)
                tap += kw
        total = floor if total < floor else total
        out[n * out_steps[0] + o * out_steps[1] + i * out_steps[2] + j * out_steps[3]] = store(total)

    pair = integers(2)
    signature = (pointer(x_dtype), integers(4), pointer(weight_dtype), pointer(acc_dtype), scalar(acc_dtype),
                 pointer(out_dtype), integers(4), integers(4), pair, pair, pair, pair, pair, pair)
    return signature, naive_loops
