"""Pooling by its definition: one thread an output element, which looks at its whole window.

::

    max:  out[n, c, i, j] = max over a, b of x[n, c, row, col]            row = i * stride_h - top + a * dilation_h
    avg:  out[n, c, i, j] = (sum over a, b of x[n, c, row, col]) / divisor
    lp:   out[n, c, i, j] = (kh * kw / divisor * sum over a, b of x[n, c, row, col] ** norm) ** (1 / norm)

Taps outside the input are left out: minus infinity for max, zero for the sums. The divisor is the caller's, or the
window's taps inside the padded input (`count_include_pad`), or those inside the input. Sums are kept in float64.
The index of a maximum is its first occurrence's, or the last NaN's, as in PyTorch.

Neighbouring threads have neighbouring columns. It does everything; the work grows with the area of the window.
"""

from __future__ import annotations

import numpy as np

from ..pool_spec import PoolSpec
from .dtypes import narrow, widen
from .machine import Machine
from .runtime import FLOAT64, INT64, cuda, device_function, factory, integers, pick, pointer
from .streams import Stream, Tensor

BLOCK = pick(128, 8)


def supports(spec: PoolSpec) -> str | None:
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    outputs, taps = spec.planes * spec.oh * spec.ow, min(spec.kh, spec.h) * min(spec.kw, spec.w)
    read = min(spec.planes * spec.h * spec.w * spec.dtype.itemsize, outputs * taps * 32)  # whole sectors
    # Neighbouring threads read as far apart as their windows are: half of the bandwidth at best.
    return machine.naive(outputs, taps, np.float32, 2 * read + outputs * spec.out_dtype.itemsize)


def scratch(spec: PoolSpec) -> int:
    return 0


def run(spec: PoolSpec, x: Tensor, out: Tensor, indices: Tensor | None, stream: Stream) -> None:
    (top, bottom), (left, right) = spec.padding
    sizes, pad = (out.size, out.shape[1], spec.oh, spec.ow), (top, left)
    geometry = (sizes, (spec.h, spec.w), (spec.kh, spec.kw), spec.stride, pad, spec.dilation)
    blocks = -(-out.size // BLOCK)
    if spec.op == "max":
        found = out if indices is None else indices  # a pointer that is not written to
        kernel = _naive_max(x.dtype, indices is not None)
        arrays = x.pointer, x.strides, out.pointer, out.strides, found.pointer, found.strides
        stream.launch(kernel, blocks, BLOCK, *arrays, *geometry)
    else:
        # Behind the padding there is nothing to count: only ceil_mode lets a window reach there.
        counted = (spec.h + bottom, spec.w + right) if spec.count_include_pad else (spec.h, spec.w)
        before = pad if spec.count_include_pad else (0, 0)
        norm = spec.norm if spec.op == "lp" else 0.0
        kernel = _naive_sum(x.dtype, out.dtype)
        stream.launch(kernel, blocks, BLOCK, x.pointer, x.strides, out.pointer, out.strides, *geometry,
                      before, counted, 0 if spec.divisor is None else spec.divisor, norm)


@device_function
def _inside(start, dilation, size, taps):
    """The taps of a window, first and last + 1, that lie inside an axis: not all, so that a window may be huge."""
    return max(0, -(start // dilation)), min(taps, (size - 1 - start) // dilation + 1)


@factory
def _naive_max(dtype, with_indices):
    computed = np.dtype(np.float32) if dtype.kind in "fV" and dtype.itemsize == 2 else dtype
    load = widen(dtype, computed)

    def naive_max(x, x_steps, out, out_steps, indices, index_steps, sizes, image, window, stride, pad, dilation):
        size, channels, oh, ow = sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= size:
            return
        j, i, c, n = at % ow, at // ow % oh, at // ow // oh % channels, at // ow // oh // channels
        plane = n * x_steps[0] + c * x_steps[1]
        top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
        a0, a1 = _inside(top, dilation[0], image[0], window[0])
        b0, b1 = _inside(left, dilation[1], image[1], window[1])
        # The first tap inside the input is where the search begins; there is one, the spec saw to that.
        row, col = top + a0 * dilation[0], left + b0 * dilation[1]
        found = row * image[1] + col
        bits = x[plane + row * x_steps[2] + col * x_steps[3]]
        best = load(bits)
        for a in range(a0, a1):
            for b in range(b0, b1):
                row, col = top + a * dilation[0], left + b * dilation[1]
                raw = x[plane + row * x_steps[2] + col * x_steps[3]]
                value = load(raw)
                if value > best or value != value:
                    best, bits, found = value, raw, row * image[1] + col
        out[n * out_steps[0] + c * out_steps[1] + i * out_steps[2] + j * out_steps[3]] = bits
        if with_indices:
            indices[n * index_steps[0] + c * index_steps[1] + i * index_steps[2] + j * index_steps[3]] = found

    pair, index = integers(2), pointer(np.int64 if with_indices else dtype)
    four = integers(4)
    signature = (pointer(dtype), four, pointer(dtype), four, index, four, four, *(pair,) * 5)
    return signature, naive_max


@factory
def _naive_sum(dtype, out_dtype):
    load, store = widen(dtype, np.dtype(np.float64)), narrow(out_dtype)

    def naive_sum(x, x_steps, out, out_steps, sizes, image, window, stride, pad, dilation, before, counted, divisor,
                  norm):
        size, channels, oh, ow = sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= size:
            return
        j, i, c, n = at % ow, at // ow % oh, at // ow // oh % channels, at // ow // oh // channels
        plane = n * x_steps[0] + c * x_steps[1]
        top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
        a0, a1 = _inside(top, dilation[0], image[0], window[0])
        b0, b1 = _inside(left, dilation[1], image[1], window[1])
        total = 0.0
        for a in range(a0, a1):
            for b in range(b0, b1):
                row, col = top + a * dilation[0], left + b * dilation[1]
                value = load(x[plane + row * x_steps[2] + col * x_steps[3]])
                total += value if norm == 0.0 else value**norm
        a0, a1 = _inside(top + before[0], dilation[0], before[0] + counted[0], window[0])
        b0, b1 = _inside(left + before[1], dilation[1], before[1] + counted[1], window[1])
        mean = total / (np.float64(divisor) if divisor != 0 else np.float64(a1 - a0) * np.float64(b1 - b0))
        if norm != 0.0:
            mean = (mean * (np.float64(window[0]) * np.float64(window[1]))) ** (1.0 / norm)
        out[n * out_steps[0] + c * out_steps[1] + i * out_steps[2] + j * out_steps[3]] = store(mean)

    pair, four = integers(2), integers(4)
    signature = (pointer(dtype), four, pointer(out_dtype), four, four, *(pair,) * 7, INT64, FLOAT64)
    return signature, naive_sum
