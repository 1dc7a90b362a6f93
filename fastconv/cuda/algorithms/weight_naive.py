"""The gradient for a convolution's weight by its definition: one thread an element, which sums over the batch.

Index equation (symbols in `fastconv.specs.conv`)::

    out[o, c, a, b] = sum over n, i, j of grad[n, o, i, j] * x[n, first + c, row, col]
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w

Loop order: images, rows, columns. Each row is summed up on its own, because a sum loses the more of the next product
the more it has taken. Neighbouring threads have neighbouring taps, which read neighbouring elements of x and one of
grad. A layer has few weights and long sums, so most of a GPU idles: the other kernels are read against this one.

An algorithm that multiplies the padding's zeros, too, has `make_again` compute the sums that are not finite: a zero
times a NaN or an infinity is NaN, and would spoil taps that do not see it.
"""

from __future__ import annotations

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system.kernels import INT64, cuda, factory, integers, pick, pointer
from ..system.streams import Stream, Tensor
from ..tiles.elements import narrow, widen

#: Threads of a block: one warp, so that few weights still spread over the multiprocessors.
BLOCK = pick(32, 8)


def supports(spec: ConvSpec) -> str | None:
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    moved = spec.dtype.itemsize * spec.n * (spec.c_in * spec.h * spec.w + spec.c_out * spec.oh * spec.ow)
    return machine.naive(spec.c_out * spec.taps, spec.n * spec.oh * spec.ow, spec.dtype, moved)


def scratch(spec: ConvSpec) -> int:
    return 0


def run(spec: ConvSpec, x: Tensor, grad: Tensor, out: Tensor, stream: Stream) -> None:
    _make(spec, x, grad, out, True, stream)


def zeros_count(spec: ConvSpec) -> bool:
    """Whether zeros of the padding are multiplied by what may not be finite."""
    return spec.acc_dtype.kind == "f" and max(map(max, spec.padding)) > 0


def make_again(spec: ConvSpec, x: Tensor, grad: Tensor, out: Tensor, stream: Stream) -> None:
    """Compute the elements of `out` that are not finite again."""
    if zeros_count(spec):
        _make(spec, x, grad, out, False, stream)


def _make(spec: ConvSpec, x: Tensor, grad: Tensor, out: Tensor, every: bool, stream: Stream) -> None:
    (top, _), (left, _) = spec.padding
    stream.launch(
        _naive_weight(x.dtype, spec.acc_dtype, out.dtype, every), -(-out.size // BLOCK), BLOCK,
        x.pointer, x.strides, grad.pointer, grad.strides, out.pointer, out.strides,
        (out.size, spec.c_in // spec.groups, spec.kh, spec.kw), spec.c_out // spec.groups,
        (spec.n, spec.oh, spec.ow), (spec.h, spec.w), spec.stride, (top, left), spec.dilation,
    )


@factory
def _naive_weight(dtype, acc_dtype, out_dtype, every):
    acc, load, store, made = acc_dtype.type, widen(dtype, acc_dtype), narrow(out_dtype), widen(out_dtype, acc_dtype)

    def naive_weight(x, x_steps, grad, grad_steps, out, out_steps, weights, o_group, outputs, image, stride, pad,
                     dilation):
        size, c_group, kh, kw = weights
        (images, oh, ow), (h, w) = outputs, image
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= size:
            return
        b, a, c, o = at % kw, at // kw % kh, at // kw // kh % c_group, at // kw // kh // c_group
        place = o * out_steps[0] + c * out_steps[1] + a * out_steps[2] + b * out_steps[3]
        if not every and abs(made(out[place])) < np.inf:
            return
        total = acc(0)
        for n in range(images):
            plane = n * x_steps[0] + (o // o_group * c_group + c) * x_steps[1]
            signal = n * grad_steps[0] + o * grad_steps[1]
            for i in range(oh):
                row = i * stride[0] - pad[0] + a * dilation[0]
                if 0 <= row < h:
                    part = acc(0)
                    for j in range(ow):
                        col = j * stride[1] - pad[1] + b * dilation[1]
                        if 0 <= col < w:
                            value = load(x[plane + row * x_steps[2] + col * x_steps[3]])
                            part = acc(part + load(grad[signal + i * grad_steps[2] + j * grad_steps[3]]) * value)
                    total = acc(total + part)
        out[place] = store(total)

    pair, four = integers(2), integers(4)
    signature = (pointer(dtype), four, pointer(dtype), four, pointer(out_dtype), four, four, INT64, integers(3),
                 *(pair,) * 4)
    return signature, naive_weight
