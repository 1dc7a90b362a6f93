"""Pooling by its definition: every output element looks at its whole window.

::

    max:  out[p, i, j] = max over a, b of x[p, row, col]            row = i * stride_h - top + a * dilation_h
    min:  as max, with all orders reversed
    avg:  out[p, i, j] = (sum over a, b of x[p, row, col]) / divisor
    lp:   out[p, i, j] = (kh * kw / divisor * sum over a, b of |x[p, row, col]| ** norm) ** (1 / norm)

or, of an infinite norm, the largest |x[p, row, col]|. Of volumes it is x[p, z, row, col] with z = k * stride_d -
front + e * dilation_d, and windows of kd * kh * kw.

Taps outside the input are left out: minus infinity for max, zero for the sums. The divisor is the caller's, or the
number of the window's taps inside the padded input (`count_include_pad`) or inside the input. Sums are kept in float64.
The index of a maximum is that of its first occurrence, or of the last NaN, as in PyTorch.

Loop order: one task per row of output. It does everything; the work grows with the area of the window.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ...specs.pool import PoolSpec
from ..machine import Machine
from ..system.kernels import jit, kernel

#: Taps that are summed before they are added to the total: of float64 the mean of 10**6 is off by 5e-14, not by 1e-11.
PART = 256
#: Additions in the time of a power (on an AMD EPYC 9004: 20 ns).
POWER = 25

plain = True


def supports(spec: PoolSpec) -> str | None:
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    outputs = spec.planes * spec.oh * spec.ow
    each = POWER if spec.op == "lp" else 1
    return machine.call + (each * spec.flops + 15 * outputs) / (machine.loop_flops * machine.threads)


def scratch(spec: PoolSpec) -> int:
    return 0


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    depth = spec.depth
    (front, _), (top, _), (left, _) = depth.padding, *spec.padding
    window, pad, size = (depth.kd, spec.kh, spec.kw), (front, top, left), (depth.d, spec.h, spec.w)
    stride, dilation = (depth.stride, *spec.stride), (depth.dilation, *spec.dilation)
    outs = spec.planes, depth.od, spec.oh, spec.ow
    x, out = x.reshape(spec.planes, *size), out.reshape(outs)
    if spec.picks:
        found = np.empty((0, 0, 0, 0), np.int64) if indices is None else indices.reshape(outs)
        _naive_pick(x, out, found, window, stride, pad, dilation, spec.op == "min")
    else:
        before, counted = zip(*spec.counted, strict=True)
        divisor = 0 if spec.divisor is None else spec.divisor
        norm = spec.norm if spec.op == "lp" else 0.0
        _naive_sum(x, out, window, stride, pad, dilation, before, counted, divisor, norm)


@jit
def _inside(start, dilation, size, taps):
    """The first tap of a window inside an axis, and the last + 1. Only these are visited: a window may be huge."""
    return max(0, -(start // dilation)), min(taps, (size - 1 - start) // dilation + 1)


@kernel
def _naive_pick(x, out, indices, window, stride, pad, dilation, least):
    planes, od, oh, ow = out.shape
    d, h, w = x.shape[1:]
    for job in prange(planes * od * oh):
        plane, k, i = job // (od * oh), job // oh % od, job % oh
        front, top = k * stride[0] - pad[0], i * stride[1] - pad[1]
        e0, e1 = _inside(front, dilation[0], d, window[0])
        a0, a1 = _inside(top, dilation[1], h, window[1])
        for j in range(ow):
            left = j * stride[2] - pad[2]
            b0, b1 = _inside(left, dilation[2], w, window[2])
            # The search begins at the first tap inside the input; the spec has checked that there is one.
            z, row, col = front + e0 * dilation[0], top + a0 * dilation[1], left + b0 * dilation[2]
            best, at = x[plane, z, row, col], (z * h + row) * w + col
            for e in range(e0, e1):
                for a in range(a0, a1):
                    for b in range(b0, b1):
                        z, row, col = front + e * dilation[0], top + a * dilation[1], left + b * dilation[2]
                        value = x[plane, z, row, col]
                        if (value < best if least else value > best) or value != value:
                            best, at = value, (z * h + row) * w + col
            out[plane, k, i, j] = best
            if indices.size:
                indices[plane, k, i, j] = at


@kernel
def _naive_sum(x, out, window, stride, pad, dilation, before, counted, divisor, norm):
    planes, od, oh, ow = out.shape
    d, h, w = x.shape[1:]
    size = np.float64(window[0]) * np.float64(window[1]) * np.float64(window[2])
    for job in prange(planes * od * oh):
        plane, k, i = job // (od * oh), job // oh % od, job % oh
        front, top = k * stride[0] - pad[0], i * stride[1] - pad[1]
        for j in range(ow):
            left = j * stride[2] - pad[2]
            e0, e1 = _inside(front, dilation[0], d, window[0])
            a0, a1 = _inside(top, dilation[1], h, window[1])
            b0, b1 = _inside(left, dilation[2], w, window[2])
            total, part, taken = 0.0, 0.0, 0
            for e in range(e0, e1):
                for a in range(a0, a1):
                    for b in range(b0, b1):
                        z, row, col = front + e * dilation[0], top + a * dilation[1], left + b * dilation[2]
                        value = np.float64(x[plane, z, row, col])
                        magnitude = abs(value)
                        if norm != np.inf:
                            part += value if norm == 0.0 else magnitude**norm
                        elif magnitude > total or value != value:
                            total = magnitude
                        taken += 1
                        if taken % PART == 0:
                            total, part = total + part, 0.0
            e0, e1 = _inside(front + before[0], dilation[0], before[0] + counted[0], window[0])
            a0, a1 = _inside(top + before[1], dilation[1], before[1] + counted[1], window[1])
            b0, b1 = _inside(left + before[2], dilation[2], before[2] + counted[2], window[2])
            count = np.float64(e1 - e0) * np.float64(a1 - a0) * np.float64(b1 - b0)
            mean = (total + part) / (divisor if divisor != 0 else count)
            if norm == np.inf:
                out[plane, k, i, j] = total
            else:
                out[plane, k, i, j] = mean if norm == 0.0 else (mean * size) ** (1.0 / norm)
