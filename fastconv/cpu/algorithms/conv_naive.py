"""The definition as loops: every output element is a sum over channels and taps.

Index equation (symbols in `spec`)::

    out[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[n, first + c, row, col]
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w

or, of volumes::

    out[n, o, k, i, j] = bias[o] + sum over c, e, a, b of weight[o, c, e, a, b] * x[n, first + c, z, row, col]
    z = k * stride_d - front + e * dilation_d

Loop order: one task per row of output, then columns, then the sum, so each thread writes its own rows and the
sum runs in a register. Taps in the padding are skipped, which adds zero.

It does everything, wins nothing but the smallest problems, and is what the other algorithms are read against. It
reaches 1.5% of the machine's float32 peak: each addition waits for the one before (4 cycles), nothing is vectorised.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system.kernels import kernel

exact = True
plain = True


def supports(spec: ConvSpec) -> str | None:
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return machine.call + spec.flops / (machine.loop_flops * machine.threads)


def scratch(spec: ConvSpec) -> int:
    return 0


def prepare(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    return weight


def run(spec: ConvSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    depth, (top, _), (left, _) = spec.depth, *spec.padding
    x = x.reshape(spec.n, spec.c_in, depth.d, spec.h, spec.w)
    weight = packed.reshape(spec.c_out, -1, depth.kd, spec.kh, spec.kw)
    out = out.reshape(spec.n, spec.c_out, depth.od, spec.oh, spec.ow)
    stride, dilation = (depth.stride, *spec.stride), (depth.dilation, *spec.dilation)
    loops = _naive_loops.sized(spec.flops * 100)  # an operation takes a hundred times as long as in vectors
    loops(x, weight, bias, spec.floor, out, spec.groups, stride, (depth.padding[0], top, left), dilation)


@kernel
def _naive_loops(x, weight, bias, floor, out, groups, stride, pad, dilation):
    n, c_out, od, oh, ow = out.shape
    d, h, w = x.shape[2:]
    c_group, kd, kh, kw = weight.shape[1:]
    for job in prange(n * c_out * od * oh):
        image, o, k, i = job // (c_out * od * oh), job // (od * oh) % c_out, job // oh % od, job % oh
        first = o // (c_out // groups) * c_group
        for j in range(ow):
            total = bias[o]
            for c in range(c_group):
                for e in range(kd):
                    z = k * stride[0] - pad[0] + e * dilation[0]
                    for a in range(kh):
                        row = i * stride[1] - pad[1] + a * dilation[1]
                        inside = 0 <= z < d and 0 <= row < h
                        for b in range(kw):
                            col = j * stride[2] - pad[2] + b * dilation[2]
                            value = x[image, first + c, z, row, col] if inside and 0 <= col < w else x.dtype.type(0)
                            total += weight[o, c, e, a, b] * value
            out[image, o, k, i, j] = floor if total < floor else total
