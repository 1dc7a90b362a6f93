"""Row-sliding convolution for images: few channels, any kernel.

::

    out[n, o, i, :] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[n, first + c, row(i, a), shifted by b]

What it changes over `naive`: the innermost loop runs along a row of output instead of along the sum, so its
additions do not wait for each other and LLVM turns it into full-width vector instructions. The row of sums stays in the
first-level cache while all taps are added to it, four at a time to save loads and stores of the sums.

Loop order: one task per row of output; channels, kernel rows, four taps, columns. The columns that would read the
padding are left out by bounds computed once a tap, so the vector loop has no branch. It wins where im2col's matrix is
too thin for a fast product: image filters, first layers, depthwise layers.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..spec import ConvSpec
from .machine import Machine
from .runtime import jit, kernel


def supports(spec: ConvSpec) -> str | None:
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    rate = machine.row_flops * 4 / spec.acc_dtype.itemsize
    if spec.stride[1] > 1:
        rate /= 8  # every element is gathered
    vector = 64 // spec.acc_dtype.itemsize
    rate *= spec.ow / (spec.ow + 2 * vector)  # short rows: loop ends, partial vectors
    return machine.call + spec.flops / (rate * machine.threads)


def scratch(spec: ConvSpec) -> int:
    return 0


def prepare(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    return weight


def run(spec: ConvSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    (top, _), (left, _) = spec.padding
    _image_rows(x, packed, bias, out, spec.groups, spec.stride, (top, left), spec.dilation)


@kernel
def _image_rows(x, weight, bias, out, groups, stride, pad, dilation):
    n, c_out, oh, ow = out.shape
    h, w = x.shape[2:]
    c_group, kh, kw = weight.shape[1:]
    step, gap = stride[1], dilation[1]
    for job in prange(n * c_out * oh):
        image, o, i = job // (c_out * oh), job // oh % c_out, job % oh
        first = o // (c_out // groups) * c_group
        sums = out[image, o, i]
        sums[:] = bias[o]
        for c in range(c_group):
            for a in range(kh):
                row = i * stride[0] - pad[0] + a * dilation[0]
                if 0 <= row < h:
                    line, taps = x[image, first + c, row], weight[o, c, a]
                    b = 0
                    while step == 1 and b + 4 <= kw:
                        _image_four_taps(sums, line, taps[b : b + 4], b * gap - pad[1], gap)
                        b += 4
                    while b < kw:
                        _image_tap(sums, line, taps[b], b * gap - pad[1], step, 0, ow)
                        b += 1


@jit(fastmath={"contract"})
def _image_tap(sums, line, value, shift, step, start, stop):
    """Add one tap to the sums `start` to `stop`, where it lies inside the line."""
    begin = min(max(start, -(shift // step)), stop)
    end = max(min(stop, (line.size - 1 - shift) // step + 1), begin)
    target = sums[begin:end]  # slices, because their indices are known not to be negative: that is what vectorises
    if step == 1:
        source = line[begin + shift : end + shift]
        for j in range(target.size):
            target[j] += value * source[j]
    else:
        apart = line[begin * step + shift : end * step + shift : step]
        for j in range(target.size):
            target[j] += value * apart[j]


@jit(fastmath={"contract"})
def _image_four_taps(sums, line, taps, shift, gap):
    """Add four taps, `gap` apart, to all sums: together where all lie inside the line, one by one at its ends."""
    begin = min(max(0, -shift), sums.size)
    end = max(min(sums.size, line.size - shift - 3 * gap), begin)
    for tap in range(4):
        _image_tap(sums, line, taps[tap], shift + tap * gap, 1, 0, begin)
        _image_tap(sums, line, taps[tap], shift + tap * gap, 1, end, sums.size)
    target, at, count = sums[begin:end], begin + shift, end - begin
    source0, source1 = line[at : at + count], line[at + gap : at + gap + count]
    source2, source3 = line[at + 2 * gap : at + 2 * gap + count], line[at + 3 * gap : at + 3 * gap + count]
    w0, w1, w2, w3 = taps[0], taps[1], taps[2], taps[3]
    for j in range(target.size):
        target[j] += w0 * source0[j] + w1 * source1[j] + w2 * source2[j] + w3 * source3[j]
