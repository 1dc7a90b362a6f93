"""The gradient for a convolution's weight by its definition: every element is a sum over the batch.

::

    out[o, c, a, b] = sum over n, i, j of grad[n, o, i, j] * x[n, first + c, row, col]
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w       (symbols in `spec`)

Loop order: one task per pair of channels, then taps, then the sum (`sums.tap_sum`). It does everything and is what the
others are read against.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..spec import ConvSpec
from .machine import Machine
from .runtime import kernel
from .sums import tap_sum


def supports(spec: ConvSpec) -> str | None:
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return machine.call + spec.flops / (machine.loop_flops * machine.threads)


def scratch(spec: ConvSpec) -> int:
    return 0


def run(spec: ConvSpec, x: np.ndarray, grad: np.ndarray, out: np.ndarray) -> None:
    (top, _), (left, _) = spec.padding
    loops = _naive_weight.sized(spec.flops * 100)  # each operation takes a hundred times a vector's
    loops(x, grad, out, spec.groups, spec.stride, (top, left), spec.dilation)


@kernel
def _naive_weight(x, grad, out, groups, stride, pad, dilation):
    c_out = grad.shape[1]
    c_group, kh, kw = out.shape[1:]
    for job in prange(c_out * c_group):
        o, c = job // c_group, job % c_group
        channel = o // (c_out // groups) * c_group + c
        for a in range(kh):
            for b in range(kw):
                corner = a * dilation[0] - pad[0], b * dilation[1] - pad[1]
                out[o, c, a, b] = tap_sum(x, grad, channel, o, corner, stride)
