"""Pooling by its definition: one thread an output element, which looks at its whole window.

::

    max:  out[n, c, k, i, j] = max over e, a, b of x[n, c, z, row, col]   row = i * stride_h - top + a * dilation_h
    min:  as max, with all orders reversed
    avg:  out[n, c, k, i, j] = (sum over e, a, b of x[n, c, z, row, col]) / divisor
    lp:   out[n, c, k, i, j] = (kd * kh * kw / divisor * sum over e, a, b of |x[n, c, z, row, col]|**norm) ** (1 / norm)

or, of an infinite norm, the largest |x[n, c, z, row, col]|.

Taps outside the input are left out: they count as minus infinity for max, as zero in sums. The divisor is the caller's,
or the number of the window's taps inside the padded input (`count_include_pad`), or inside the input. Sums are float64.
The index of a maximum is the first one's, or the last NaN's, as in PyTorch.

An image is a volume of one plane. Neighbouring threads have neighbouring columns. It does everything; the work grows
with the area of the window.
"""

from __future__ import annotations

import numpy as np

from ...specs.dtypes import computed
from ...specs.pool import PoolSpec
from ..machine import Machine
from ..shared.pooling import above
from ..system.kernels import FLOAT64, INT64, cuda, device_function, factory, integers, pick, pointer
from ..system.streams import Stream, Tensor, volume
from ..tiles.elements import narrow, widen

BLOCK = pick(128, 8)
#: Taps that are summed before they are added to the total, as on the CPU.
PART = 256


def supports(spec: PoolSpec) -> str | None:
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    depth = spec.depth
    outputs = spec.planes * depth.od * spec.oh * spec.ow
    taps = min(depth.kd, depth.d) * min(spec.kh, spec.h) * min(spec.kw, spec.w)
    read = min(spec.planes * depth.d * spec.h * spec.w * spec.dtype.itemsize, outputs * taps * 32)  # whole sectors
    # Neighbouring threads read as far apart as their windows are: at most half of the bandwidth is used.
    return machine.naive(outputs, taps, np.float32, 2 * read + outputs * spec.out_dtype.itemsize)


def scratch(spec: PoolSpec) -> int:
    return 0


def run(spec: PoolSpec, x: Tensor, out: Tensor, indices: Tensor | None, stream: Stream) -> None:
    depth = spec.depth
    (front, _), (top, _), (left, _) = depth.padding, *spec.padding
    sizes, pad = (out.size, out.shape[1], depth.od, spec.oh, spec.ow), (front, top, left)
    image, window = (depth.d, spec.h, spec.w), (depth.kd, spec.kh, spec.kw)
    geometry = (sizes, image, window, (depth.stride, *spec.stride), pad, (depth.dilation, *spec.dilation))
    x_steps, out_steps = volume(x.strides), volume(out.strides)
    blocks = -(-out.size // BLOCK)
    if spec.picks:
        found = out if indices is None else indices  # a pointer that is not written to
        kernel = _naive_pick(spec.op, x.dtype, indices is not None)
        arrays = x.pointer, x_steps, out.pointer, out_steps, found.pointer, volume(found.strides)
        stream.launch(kernel, blocks, BLOCK, *arrays, *geometry)
    else:
        before, counted = zip(*spec.counted, strict=True)
        norm = spec.norm if spec.op == "lp" else 0.0
        kernel = _naive_sum(x.dtype, out.dtype)
        stream.launch(kernel, blocks, BLOCK, x.pointer, x_steps, out.pointer, out_steps, *geometry,
                      before, counted, 0 if spec.divisor is None else spec.divisor, norm)


@device_function
def _inside(start, dilation, size, taps):
    """The taps of a window inside an axis, the first and the last + 1; found without a loop, for huge windows."""
    return max(0, -(start // dilation)), min(taps, (size - 1 - start) // dilation + 1)


@device_function
def _taps(corner, dilation, image, window):
    """The taps of a window inside an image, the first and the last + 1 along each axis."""
    e0, e1 = _inside(corner[0], dilation[0], image[0], window[0])
    a0, a1 = _inside(corner[1], dilation[1], image[1], window[1])
    b0, b1 = _inside(corner[2], dilation[2], image[2], window[2])
    return e0, e1, a0, a1, b0, b1


@device_function
def _output(at, sizes, stride, pad):
    """The indices of an output by its number, and the corner of its window."""
    _, channels, od, oh, ow = sizes
    j, i, k, at = at % ow, at // ow % oh, at // ow // oh % od, at // ow // oh // od
    corner = k * stride[0] - pad[0], i * stride[1] - pad[1], j * stride[2] - pad[2]
    return (at // channels, at % channels, k, i, j), corner


@factory
def _naive_pick(op, dtype, with_indices):
    load, better = widen(dtype, computed(dtype)), above(op)

    def naive_pick(x, x_steps, out, out_steps, indices, index_steps, sizes, image, window, stride, pad, dilation):
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= sizes[0]:
            return
        (n, c, k, i, j), (front, top, left) = _output(at, sizes, stride, pad)
        start = n * x_steps[0] + c * x_steps[1]
        e0, e1, a0, a1, b0, b1 = _taps((front, top, left), dilation, image, window)
        # The search begins at the first tap inside the input; the spec's checks make sure that there is one.
        z, row, col = front + e0 * dilation[0], top + a0 * dilation[1], left + b0 * dilation[2]
        found = (z * image[1] + row) * image[2] + col
        bits = x[start + z * x_steps[2] + row * x_steps[3] + col * x_steps[4]]
        best = load(bits)
        for e in range(e0, e1):
            for a in range(a0, a1):
                for b in range(b0, b1):
                    z, row, col = front + e * dilation[0], top + a * dilation[1], left + b * dilation[2]
                    raw = x[start + z * x_steps[2] + row * x_steps[3] + col * x_steps[4]]
                    value = load(raw)
                    if better(value, best) or value != value:
                        best, bits, found = value, raw, (z * image[1] + row) * image[2] + col
        place = n * out_steps[0] + c * out_steps[1] + k * out_steps[2]
        out[place + i * out_steps[3] + j * out_steps[4]] = bits
        if with_indices:
            place = n * index_steps[0] + c * index_steps[1] + k * index_steps[2]
            indices[place + i * index_steps[3] + j * index_steps[4]] = found

    index, three, five = pointer(np.int64 if with_indices else dtype), integers(3), integers(5)
    signature = (pointer(dtype), five, pointer(dtype), five, index, five, five, *(three,) * 5)
    return signature, naive_pick


@factory
def _naive_sum(dtype, out_dtype):
    load, store = widen(dtype, np.dtype(np.float64)), narrow(out_dtype)

    def naive_sum(x, x_steps, out, out_steps, sizes, image, window, stride, pad, dilation, before, counted, divisor,
                  norm):
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= sizes[0]:
            return
        (n, c, k, i, j), (front, top, left) = _output(at, sizes, stride, pad)
        start = n * x_steps[0] + c * x_steps[1]
        e0, e1, a0, a1, b0, b1 = _taps((front, top, left), dilation, image, window)
        total, part, taken = 0.0, 0.0, 0
        for e in range(e0, e1):
            for a in range(a0, a1):
                for b in range(b0, b1):
                    z, row, col = front + e * dilation[0], top + a * dilation[1], left + b * dilation[2]
                    value = load(x[start + z * x_steps[2] + row * x_steps[3] + col * x_steps[4]])
                    magnitude = abs(value)
                    if norm != np.inf:
                        part += value if norm == 0.0 else magnitude**norm
                    elif magnitude > total or value != value:
                        total = magnitude
                    taken += 1
                    if taken % PART == 0:
                        total, part = total + part, 0.0
        corner = front + before[0], top + before[1], left + before[2]
        area = before[0] + counted[0], before[1] + counted[1], before[2] + counted[2]
        e0, e1, a0, a1, b0, b1 = _taps(corner, dilation, area, window)
        taps = np.float64(e1 - e0) * np.float64(a1 - a0) * np.float64(b1 - b0)
        mean = (total + part) / (np.float64(divisor) if divisor != 0 else taps)
        if norm == np.inf:
            mean = total
        elif norm != 0.0:
            mean = (mean * (np.float64(window[0]) * np.float64(window[1]) * np.float64(window[2]))) ** (1.0 / norm)
        place = n * out_steps[0] + c * out_steps[1] + k * out_steps[2]
        out[place + i * out_steps[3] + j * out_steps[4]] = store(mean)

    three, five = integers(3), integers(5)
    signature = (pointer(dtype), five, pointer(out_dtype), five, five, *(three,) * 7, INT64, FLOAT64)
    return signature, naive_sum
