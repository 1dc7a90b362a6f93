"""The definition as loops: every output element is a sum over channels and taps.

Index equation (symbols in `spec`)::

    out[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[n, first + c, row, col]
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w

Loop order: one task per row of output, then columns, then the sum, so each thread writes its own rows and the
sum runs in a register. Taps in the padding are skipped, which adds zero.

It does everything, wins nothing but the smallest problems, and is what the other variants are read against: 1.5% of
the machine's float32 peak, because each addition waits for the one before (4 cycles) and nothing is vectorised.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..spec import ConvSpec
from .machine import Machine
from .runtime import kernel


def supports(spec: ConvSpec) -> str | None:
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return machine.call + spec.flops / (machine.loop_flops * machine.threads)


def scratch(spec: ConvSpec) -> int:
    return 0


def prepare(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    return weight


def run(spec: ConvSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    (top, _), (left, _) = spec.padding
    loops = _naive_loops.sized(spec.flops * 100)  # each operation takes a hundred times a vector's
    loops(x, packed, bias, spec.floor, out, spec.groups, spec.stride, (top, left), spec.dilation)


@kernel
def _naive_loops(x, weight, bias, floor, out, groups, stride, pad, dilation):
    n, c_out, oh, ow = out.shape
    h, w = x.shape[2:]
    c_group, kh, kw = weight.shape[1:]
    for job in prange(n * c_out * oh):
        image, o, i = job // (c_out * oh), job // oh % c_out, job % oh
        first = o // (c_out // groups) * c_group
        for j in range(ow):
            total = bias[o]
            for c in range(c_group):
                for a in range(kh):
                    row = i * stride[0] - pad[0] + a * dilation[0]
                    if 0 <= row < h:
                        for b in range(kw):
                            col = j * stride[1] - pad[1] + b * dilation[1]
                            if 0 <= col < w:
                                total += weight[o, c, a, b] * x[image, first + c, row, col]
            out[image, o, i, j] = floor if total < floor else total
