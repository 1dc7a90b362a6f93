"""Pooling by its definition: every output element looks at its whole window.

::

    max:  out[p, i, j] = max over a, b of x[p, row, col]            row = i * stride_h - top + a * dilation_h
    avg:  out[p, i, j] = (sum over a, b of x[p, row, col]) / divisor
    lp:   out[p, i, j] = (kh * kw / divisor * sum over a, b of x[p, row, col] ** norm) ** (1 / norm)

Taps outside the input are skipped: minus infinity for max, zero for the sums. The divisor is the caller's, or the
window's taps inside the padded input (`count_include_pad`), or those inside the input. Sums are kept in float64.
The index of a maximum is its first occurrence's, or the last NaN's, as in PyTorch.

Loop order: one task per row of output. It does everything; the work grows with the area of the window.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..spec import PoolSpec
from .machine import Machine
from .runtime import kernel


def supports(spec: PoolSpec) -> str | None:
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    return machine.call + spec.flops / (machine.loop_flops * machine.threads)


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


@kernel
def _naive_max(x, out, indices, window, stride, pad, dilation):
    planes, oh, ow = out.shape
    h, w = x.shape[1:]
    for job in prange(planes * oh):
        plane, i = job // oh, job % oh
        for j in range(ow):
            # The first tap inside the input is where the search begins; there is one, the spec saw to that.
            a0 = max(0, -((i * stride[0] - pad[0]) // dilation[0]))
            b0 = max(0, -((j * stride[1] - pad[1]) // dilation[1]))
            at = (i * stride[0] - pad[0] + a0 * dilation[0]) * w + j * stride[1] - pad[1] + b0 * dilation[1]
            best = x[plane, at // w, at % w]
            for a in range(window[0]):
                row = i * stride[0] - pad[0] + a * dilation[0]
                if 0 <= row < h:
                    for b in range(window[1]):
                        col = j * stride[1] - pad[1] + b * dilation[1]
                        if 0 <= col < w:
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
            total, count = 0.0, 0
            for a in range(window[0]):
                row = i * stride[0] - pad[0] + a * dilation[0]
                for b in range(window[1]):
                    col = j * stride[1] - pad[1] + b * dilation[1]
                    if -before[0] <= row < counted[0] and -before[1] <= col < counted[1]:
                        count += 1
                    if 0 <= row < h and 0 <= col < w:
                        value = np.float64(x[plane, row, col])
                        total += value if norm == 0.0 else value**norm
            mean = total / (divisor if divisor != 0 else count)
            out[plane, i, j] = mean if norm == 0.0 else (mean * (window[0] * window[1])) ** (1.0 / norm)
