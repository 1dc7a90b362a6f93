"""The gradients of pooling for its input: each output's gradient goes back to the elements of its window.

::

    max:  out[p, at] = sum of grad[p, i, j] over the windows whose maximum lies at the flat index `at`
    avg:  out[p, u, v] = sum of grad[p, i, j] / (high[i] * wide[j]) over the windows that (u, v) is in

Loop order: one task per plane, which no other task writes to. For averages each row of outputs is first spread along a
line, which is then added to the rows of its windows, in vectors: kw + kh additions an output, not kw * kh.

Of sums over more than `PART` windows, what rounding takes is kept.

Source: Goodfellow, Bengio and Courville, Deep Learning, chapter 9.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange

from ...specs.pool import PoolSpec
from ..machine import Machine
from ..system.kernels import jit, kernel
from ..system.memory import scratch_rows
from ..tiles.simd_pool import PART, put_away

plain = True


def supports(spec: PoolSpec) -> str | None:
    if spec.op == "lp":
        return "gradients are of maxima and averages"
    return "it is for planes" if spec.axes == 3 or spec.adaptive else None


def cost(spec: PoolSpec, machine: Machine) -> float:
    moved = (spec.planes * spec.h * spec.w + math.prod(spec.output_shape)) * spec.x_dtype.itemsize
    return machine.call + moved / machine.stream


def scratch(spec: PoolSpec) -> int:
    """A line of gradients a thread, for averages; of long sums another, and a plane, of what rounding took."""
    return _lines(spec) * spec.w * spec.x_dtype.itemsize if spec.op == "avg" else 0


def _is_long(spec: PoolSpec) -> bool:
    """Whether some element is in more windows of an axis than can be added up one by one."""
    return spec.kh > PART * spec.stride[0] or spec.kw > PART * spec.stride[1]


def _lines(spec: PoolSpec) -> int:
    return spec.h + 2 if _is_long(spec) else 1


def run(spec: PoolSpec, x: np.ndarray | None, grad: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`; for maxima, `x` are their indices."""
    if spec.op == "avg":
        _avg_pool(spec, grad, out)
    else:
        _scatter_max.sized(8 * (grad.size + out.size))(x, grad, out)


def _avg_pool(spec: PoolSpec, grad: np.ndarray, out: np.ndarray) -> None:
    high, wide = spec.divisors(1).astype(np.float64), spec.divisors(2).astype(np.float64)
    if spec.divisor is not None:
        high, wide = np.full(spec.oh, spec.divisor, np.float64), np.ones(spec.ow)
    top, left = spec.padding[0][0], spec.padding[1][0]
    lines = scratch_rows(_lines(spec) * spec.w, out.dtype)
    window = (spec.kh, spec.kw)
    loops = _average_loops(_is_long(spec)).sized(4 * grad.size * (spec.kw + spec.kh))
    loops(grad, out, high, wide, window, spec.stride, (top, left), spec.dilation, lines)


@kernel
def _scatter_max(indices, grad, out):
    planes, oh, ow = grad.shape
    w = out.shape[2]
    for plane in prange(planes):
        out[plane] = 0
        for i in range(oh):
            for j in range(ow):
                at = indices[plane, i, j]
                out[plane, at // w, at % w] += grad[plane, i, j]


@jit
def _inside(start, dilation, size, taps):
    """The first tap of a window inside an axis, and the last + 1. Only these are visited: a window may be huge."""
    return max(0, -(start // dilation)), min(taps, (size - 1 - start) // dilation + 1)


@lru_cache(maxsize=2)
def _average_loops(long: bool) -> Any:
    """The loops, for sums that are `long` with what rounding took from each."""
    key = (long,)

    @kernel(key=key)
    def _scatter_avg(grad, out, high, wide, window, stride, pad, dilation, lines):
        planes, oh, ow = grad.shape
        h, w = out.shape[1:]
        for plane in prange(planes):
            line = lines[numba.get_thread_id()]
            lost, lost_rows = line[w:], line[2 * w :]
            out[plane] = 0
            if long:
                for k in range(h * w):
                    lost_rows[k] = 0
            for i in range(oh):
                for v in range(w):
                    line[v] = 0
                    if long:
                        lost[v] = 0
                for j in range(ow):
                    value = out.dtype.type(grad[plane, i, j] / (high[i] * wide[j]))
                    left = j * stride[1] - pad[1]
                    b0, b1 = _inside(left, dilation[1], w, window[1])
                    for b in range(b0, b1):
                        v = left + b * dilation[1]
                        if long:
                            line[v], lost[v] = put_away((line[v], lost[v]), value)
                        else:
                            line[v] += value
                top = i * stride[0] - pad[0]
                a0, a1 = _inside(top, dilation[0], h, window[0])
                for a in range(a0, a1):
                    row = top + a * dilation[0]
                    if long:
                        total, rest = out[plane, row], lost_rows[row * w :]
                        for v in range(w):
                            total[v], rest[v] = put_away((total[v], rest[v]), line[v])
                    else:
                        for v in range(w):
                            out[plane, row, v] += line[v]

    return _scatter_avg
