"""Pooling by its definition: every output element looks at its whole window.

::

    max:  out[p, i, j] = max over a, b of x[p, row, col]            row = i * stride_h - top + a * dilation_h
    avg:  out[p, i, j] = (sum over a, b of x[p, row, col]) / divisor
    lp:   out[p, i, j] = (kh * kw / divisor * sum over a, b of x[p, row, col] ** norm) ** (1 / norm)

Taps outside the input are left out: minus infinity for max, zero for the sums. The divisor is the caller's, or the
window's taps inside the padded input (`count_include_pad`), or those inside the input. Sums are kept in float64.
The index of a maximum is its first occurrence's, or the last NaN's, as in PyTorch.

Loop order: one task per row of output. It does everything; the work grows with the area of the window.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..spec import PoolSpec
from .machine import Machine
from .runtime import jit, kernel

#: Additions in the time of a power (on an AMD EPYC 9004: 20 ns).
POWER = 25


def supports(spec: PoolSpec) -> str | None:
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    outputs = spec.planes * spec.oh * spec.ow
    each = POWER if spec.op == "lp" else 1
    return machine.call + (each * spec.flops + 15 * outputs) / (machine.loop_flops * machine.threads)


def scratch(spec: PoolSpec) -> int:
    return 0


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    (top, bottom), (left, right) = spec.padding
    window, pad = (spec.kh, spec.kw), (top, left)
    if spec.op == "max":
        found = np.empty((0, 0, 0), np.int64) if indices is None else indices
        _naive_max(x, out, found, window, spec.stride, pad, spec.dilation)
    else:
        # Behind the padding there is nothing to count: only ceil_mode lets a window reach there.
        counted = (spec.h + bottom, spec.w + right) if spec.count_include_pad else (spec.h, spec.w)
        before = pad if spec.count_include_pad else (0, 0)
        divisor = 0 if spec.divisor is None else spec.divisor
        norm = spec.norm if spec.op == "lp" else 0.0
        _naive_sum(x, out, window, spec.stride, pad, spec.dilation, before, counted, divisor, norm)


@jit
def _inside(start, dilation, size, taps):
    """The taps of a window, first and last + 1, that lie inside an axis: not all, so that a window may be huge."""
    return max(0, -(start // dilation)), min(taps, (size - 1 - start) // dilation + 1)


@kernel
def _naive_max(x, out, indices, window, stride, pad, dilation):
    planes, oh, ow = out.shape
    h, w = x.shape[1:]
    for job in prange(planes * oh):
        plane, i = job // oh, job % oh
        for j in range(ow):
            top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
            a0, a1 = _inside(top, dilation[0], h, window[0])
            b0, b1 = _inside(left, dilation[1], w, window[1])
            # The first tap inside the input is where the search begins; there is one, the spec saw to that.
            at = (top + a0 * dilation[0]) * w + left + b0 * dilation[1]
            best = x[plane, at // w, at % w]
            for a in range(a0, a1):
                for b in range(b0, b1):
                    row, col = top + a * dilation[0], left + b * dilation[1]
                    value = x[plane, row, col]
                    if value > best or value != value:
                        best, at = value, row * w + col
            out[plane, i, j] = best
            if indices.size:
                indices[plane, i, j] = at


@kernel
def _naive_sum(x, out, window, stride, pad, dilation, before, counted, divisor, norm):
    planes, oh, ow = out.shape
    h, w = x.shape[1:]
    for job in prange(planes * oh):
        plane, i = job // oh, job % oh
        for j in range(ow):
            top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
            a0, a1 = _inside(top, dilation[0], h, window[0])
            b0, b1 = _inside(left, dilation[1], w, window[1])
            total = 0.0
            for a in range(a0, a1):
                for b in range(b0, b1):
                    value = np.float64(x[plane, top + a * dilation[0], left + b * dilation[1]])
                    total += value if norm == 0.0 else value**norm
            a0, a1 = _inside(top + before[0], dilation[0], before[0] + counted[0], window[0])
            b0, b1 = _inside(left + before[1], dilation[1], before[1] + counted[1], window[1])
            mean = total / (divisor if divisor != 0 else np.float64(a1 - a0) * np.float64(b1 - b0))
            size = np.float64(window[0]) * np.float64(window[1])
            out[plane, i, j] = mean if norm == 0.0 else (mean * size) ** (1.0 / norm)
