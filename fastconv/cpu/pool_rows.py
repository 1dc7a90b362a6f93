"""Row-parallel pooling: first down the columns, then along the row, both in vectorisable loops.

::

    max:  line[col] = max over a of x[p, row(i, a), col],        out[p, i, j] = max over b of line[col(j, b)]
    avg:  line[col] = sum over a of x[p, row(i, a), col],        out[p, i, j] = sum over b of line[col(j, b)] / divisor

What it changes over `naive`: a rectangular window is separable, so kh * kw operations an output become about
kh * stride + kw; and the loop over the columns is innermost, with no branch in it, so LLVM vectorises it.

Loop order: one task per row of output; window rows, columns; then window columns, output columns. Each task has one
line of scratch. Sums are kept in the input's own precision. It wins wherever a row is longer than a vector.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..spec import PoolSpec
from .machine import Machine
from .runtime import jit, kernel


def supports(spec: PoolSpec) -> str | None:
    if spec.op == "lp":
        return "powers are computed one by one; only naive does Lp pooling"
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    rate = machine.row_flops * 4 / spec.x_dtype.itemsize / 4
    rows = spec.planes * spec.oh
    work = rows * (spec.kh * spec.w + spec.kw * spec.ow * (1 if spec.stride[1] == 1 else 4))
    return machine.call + (work / rate + rows * 1e-7) / machine.threads


def scratch(spec: PoolSpec) -> int:
    return spec.w * (spec.x_dtype.itemsize + 8)


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    (top, bottom), (left, right) = spec.padding
    window, pad = (spec.kh, spec.kw), (top, left)
    if spec.op == "max":
        if indices is None:
            _rows_max(x, out, window, spec.stride, pad, spec.dilation)
        else:
            _rows_max_indices(x, out, indices, window, spec.stride, pad, spec.dilation)
    else:
        rows = _counts(spec, spec.oh, spec.kh, spec.h, (top, bottom), spec.stride[0], spec.dilation[0])
        cols = _counts(spec, spec.ow, spec.kw, spec.w, (left, right), spec.stride[1], spec.dilation[1])
        if spec.divisor is not None:
            rows, cols = np.full_like(rows, spec.divisor), np.ones_like(cols)
        _rows_avg(x, out, rows, cols, window, spec.stride, pad, spec.dilation)


def _counts(spec: PoolSpec, outs: int, taps: int, size: int, pads: tuple[int, int], stride: int, dilation: int):
    """How many taps of each window along one axis count for the divisor; the axes' counts multiply."""
    at = np.arange(outs, dtype=np.int64) * stride - pads[0]
    low, high = (-pads[0], size + pads[1]) if spec.count_include_pad else (0, size)
    first = np.maximum(0, -((at - low) // dilation))
    last = np.minimum(taps - 1, (high - 1 - at) // dilation)
    return last - first + 1


@jit
def _larger(a, b):
    """The maximum, NaN if either is: PyTorch's and NumPy's rule."""
    return a if a > b or a != a else b


@jit
def _columns(j0, ow, shift, stride, w):
    """The output columns from `j0` on whose tap at `shift` lies inside a row of `w`."""
    first = min(max(j0, -(shift // stride)), ow)
    return first, max(min(ow, (w - 1 - shift) // stride + 1), first)


@jit
def _taps(ow, pad, stride, dilation, w, taps):
    """The taps of a window's row, first and last + 1, that lie inside the input for any output column."""
    return max(0, -(((ow - 1) * stride - pad) // dilation)), min(taps, (w - 1 + pad) // dilation + 1)


@kernel
def _rows_max(x, out, window, stride, pad, dilation):
    planes, oh, ow = out.shape
    h, w = x.shape[1:]
    b0, b1 = _taps(ow, pad[1], stride[1], dilation[1], w, window[1])
    for job in prange(planes * oh):
        plane, i = job // oh, job % oh
        line = np.empty(w, x.dtype)
        top = i * stride[0] - pad[0]
        a0 = max(0, -(top // dilation[0]))
        a1 = min(window[0], (h - 1 - top) // dilation[0] + 1)
        start = x[plane, top + a0 * dilation[0]]
        for col in range(w):
            line[col] = start[col]
        for a in range(a0 + 1, a1):
            values = x[plane, top + a * dilation[0]]
            for col in range(w):
                line[col] = _larger(line[col], values[col])
        result = out[plane, i]
        for j in range(ow):  # the first tap inside the input; there is one, the spec saw to that
            at = j * stride[1] - pad[1]
            result[j] = line[at if at >= 0 else at % dilation[1]]
        for b in range(b0, b1):
            shift = b * dilation[1] - pad[1]
            first, last = _columns(0, ow, shift, stride[1], w)
            if stride[1] == 1:
                for j in range(first, last):
                    result[j] = _larger(result[j], line[j + shift])
            else:
                for j in range(first, last):
                    result[j] = _larger(result[j], line[j * stride[1] + shift])


@kernel
def _rows_max_indices(x, out, indices, window, stride, pad, dilation):
    planes, oh, ow = out.shape
    h, w = x.shape[1:]
    b0, b1 = _taps(ow, pad[1], stride[1], dilation[1], w, window[1])
    for job in prange(planes * oh):
        plane, i = job // oh, job % oh
        result, found = out[plane, i], indices[plane, i]
        top = i * stride[0] - pad[0]
        a0 = max(0, -(top // dilation[0]))
        for j in range(ow):
            at = j * stride[1] - pad[1]
            col = at if at >= 0 else at % dilation[1]
            result[j] = x[plane, top + a0 * dilation[0], col]
            found[j] = (top + a0 * dilation[0]) * w + col
        # The taps in reading order, so that of equal values the first stays.
        for a in range(a0, min(window[0], (h - 1 - top) // dilation[0] + 1)):
            row = top + a * dilation[0]
            values = x[plane, row]
            for b in range(b0, b1):
                shift = b * dilation[1] - pad[1]
                first, last = _columns(0, ow, shift, stride[1], w)
                for j in range(first, last):
                    value = values[j * stride[1] + shift]
                    wins = value > result[j] or value != value
                    result[j] = value if wins else result[j]
                    found[j] = row * w + j * stride[1] + shift if wins else found[j]


@kernel
def _rows_avg(x, out, row_counts, col_counts, window, stride, pad, dilation):
    planes, oh, ow = out.shape
    h, w = x.shape[1:]
    b0, b1 = _taps(ow, pad[1], stride[1], dilation[1], w, window[1])
    for job in prange(planes * oh):
        plane, i = job // oh, job % oh
        line = np.zeros(w, x.dtype)
        top = i * stride[0] - pad[0]
        for a in range(max(0, -(top // dilation[0])), min(window[0], (h - 1 - top) // dilation[0] + 1)):
            values = x[plane, top + a * dilation[0]]
            for col in range(w):
                line[col] += values[col]
        result = out[plane, i]
        result[:] = 0
        for b in range(b0, b1):
            shift = b * dilation[1] - pad[1]
            first, last = _columns(0, ow, shift, stride[1], w)
            if stride[1] == 1:
                for j in range(first, last):
                    result[j] += line[j + shift]
            else:
                for j in range(first, last):
                    result[j] += line[j * stride[1] + shift]
        for j in range(ow):
            result[j] /= x.dtype.type(row_counts[i] * col_counts[j])
