"""The gradient for a convolution's weight by its definition: every element is a sum over the batch.

::

    out[o, c, a, b] = sum over n, i, j of grad[n, o, i, j] * x[n, first + c, row, col]
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w       (symbols in `spec`)

Loop order: one task per pair of channels, then taps, then the sum. It does everything and is what the other algorithms
are read against.

The other algorithms multiply zeros, too: of padding, of gaps, behind an edge. A zero times a NaN or an infinity is NaN,
and would spoil taps that do not see it. So they have `make_again` compute the sums that are not finite.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system.kernels import jit, kernel

plain = True


def supports(spec: ConvSpec) -> str | None:
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return machine.call + spec.flops / (machine.loop_flops * machine.threads)


def scratch(spec: ConvSpec) -> int:
    return 0


def run(spec: ConvSpec, x: np.ndarray, grad: np.ndarray, out: np.ndarray) -> None:
    _make(spec, x, grad, out, True)


def make_again(spec: ConvSpec, x: np.ndarray, grad: np.ndarray, out: np.ndarray) -> None:
    """Compute the elements of `out` that are not finite again."""
    _make(spec, x, grad, out, False)


def _make(spec: ConvSpec, x: np.ndarray, grad: np.ndarray, out: np.ndarray, every: bool) -> None:
    (top, _), (left, _) = spec.padding
    loops = _naive_weight.sized(spec.flops * 100)  # an operation takes a hundred times as long as in vectors
    loops(x, grad, out, spec.groups, spec.stride, (top, left), spec.dilation, every)


@jit
def _tap_sum(x, grad, channel, o, corner, stride):
    """The sum over the batch for a tap of which the first output sees row and column `corner` of the input.

    Each row is added up on its own: the more products a sum has taken, the more it loses of the next.
    """
    total, (h, w) = grad.dtype.type(0), x.shape[2:]
    for image in range(grad.shape[0]):
        for i in range(grad.shape[2]):
            row = corner[0] + i * stride[0]
            if 0 <= row < h:
                part = grad.dtype.type(0)
                for j in range(grad.shape[3]):
                    col = corner[1] + j * stride[1]
                    if 0 <= col < w:
                        part += grad[image, o, i, j] * x[image, channel, row, col]
                total += part
                if total != total:  # it stays NaN
                    return total
    return total


@kernel
def _naive_weight(x, grad, out, groups, stride, pad, dilation, every):
    c_out = grad.shape[1]
    c_group, kh, kw = out.shape[1:]
    for job in prange(c_out * c_group):
        o, c = job // c_group, job % c_group
        channel = o // (c_out // groups) * c_group + c
        for a in range(kh):
            for b in range(kw):
                if every or out[o, c, a, b] - out[o, c, a, b] != 0:
                    corner = a * dilation[0] - pad[0], b * dilation[1] - pad[1]
                    out[o, c, a, b] = _tap_sum(x, grad, channel, o, corner, stride)
