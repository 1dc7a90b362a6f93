"""Images unrolled into columns ("im2col"), and columns summed up to images ("col2im").

::

    columns[n, (c, a, b), p] = x[n, c, i * stride_h - top + a * dilation_h, j * stride_w - left + b * dilation_w]
    out[n, c, row, col] = sum of columns[n, (c, a, b), p] over all (a, b) and p = (i, j) that lie there

`conv_im2col` multiplies blocks of such columns, which it gathers a row at a time; `unfold2d` is the first equation,
`fold2d` the second.

Loop order: unrolling has one task per row of the columns, runs of contiguous copies; summing up has one task per plane
of the images, which no other task writes to, and adds rows to rows. One launch does all images: 50,000 of 6x6 pixels
with windows of 3x3 take 19 ms to unroll and 13 to sum up (one thread, AMD EPYC 9004), and took 60 with a launch each.

Source: Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from ..system import micro
from ..system.kernels import jit, kernel
from ..tiles import simd
from .patch import copy_row, zeros


def gather_address(dtype: np.dtype) -> int:
    """Address of the micro-kernel `gather`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    return micro.address(gather, (simd.lanes(dtype),), (row, *[place] * 10, row, place))


def gather(lanes: int) -> Any:
    """A micro-kernel for a part of one row of the columns: the pixels of a channel that one tap of the outputs from
    `begin` to `end` sees, zeros outside the image.

    It is called as ``gather(x, plane, h, w, begin, end, ow, stride_h, stride_w, top, left, target, to)``. The tap is
    `top` rows above and `left` columns before the outputs' places: those of the padding, less the tap's own.
    """

    @jit(key=(lanes,))
    def gather_row(x, plane, h, w, begin, end, ow, stride_h, stride_w, top, left, target, to):
        lowest = min(max(0, (left + stride_w - 1) // stride_w), ow)
        highest = max(lowest, min(ow, (w - 1 + left) // stride_w + 1))
        for i in range(begin // ow, (end + ow - 1) // ow):
            low, high = max(begin - i * ow, 0), min(end - i * ow, ow)
            row = i * stride_h - top
            some, last = (max(low, min(lowest, high)), max(low, min(highest, high))) if 0 <= row < h else (high, high)
            goal = to + i * ow - begin
            zeros(target, goal + low, some - low, lanes)
            copy_row(x, plane + row * w + some * stride_w - left, stride_w, target, goal + some, last - some, lanes)
            zeros(target, goal + last, high - last, lanes)

    return gather_row


@kernel
def unroll(x, columns, start, window, stride, pad, dilation):
    """Fill the columns of a block of positions of images, from `start` on; `window` is (kh, kw, ow)."""
    kh, kw, ow = window
    h, w = x.shape[2:]
    count = columns.shape[2]
    stop = start + count
    images, flat = x.reshape(-1), columns.reshape(-1)
    for job in prange(columns.shape[0] * columns.shape[1]):
        plane, a, b = job // (kh * kw), job // kw % kh, job % kw
        for i in range(start // ow, (stop - 1) // ow + 1):
            row = i * stride[0] - pad[0] + a * dilation[0]
            shift = b * dilation[1] - pad[1]
            # Columns begin ... end of this output row lie in the block; first ... last of them see the input.
            begin, end = max(start - i * ow, 0), min(stop - i * ow, ow)
            first, last = end, end
            if 0 <= row < h:
                first = min(max(begin, -(shift // stride[1])), end)
                last = max(min(end, (w - 1 - shift) // stride[1] + 1), first)
            to = job * count + i * ow - start
            for j in range(begin, first):
                flat[to + j] = 0
            seen = (plane * h + row) * w + shift
            if stride[1] == 1:
                _copy(images, seen + first, flat, to + first, last - first)
            else:
                for j in range(first, last):
                    flat[to + j] = images[seen + j * stride[1]]
            for j in range(last, end):
                flat[to + j] = 0


@jit(forceinline=True)
def _copy(source, at, target, to, count):
    """target[to + q] = source[at + q] for q < count, as flat indices."""
    if count > 0:
        # Unsigned indices cannot count from the end, so LLVM makes vectors of the loop.
        first, start = np.uint64(at), np.uint64(to)
        for q in range(np.uint64(count)):
            target[start + q] = source[first + q]


@kernel
def fold(columns, out, window, stride, pad, dilation, lanes):
    """Sum columns up to images; `window` is (kh, kw, oh, ow) of the convolution that would unroll them."""
    kh, kw, oh, ow = window
    channels, h, w = out.shape[1:]
    flat = columns.reshape(-1)
    for plane in prange(out.shape[0] * channels):
        image, c = plane // channels, plane % channels
        out[image, c] = 0
        for a in range(kh):
            for b in range(kw):
                tap = (plane * kh + a) * kw + b
                shift = b * dilation[1] - pad[1]
                first = min(max(0, -(shift // stride[1])), ow)
                last = max(min(ow, (w - 1 - shift) // stride[1] + 1), first)
                for i in range(oh):
                    row = i * stride[0] - pad[0] + a * dilation[0]
                    if 0 <= row < h:
                        if stride[1] == 1:
                            at = (tap * oh + i) * ow + first
                            _add(columns, at, out, (plane * h + row) * w + first + shift, last - first, lanes)
                        else:
                            line, values = out[image, c, row], flat[(tap * oh + i) * ow : (tap * oh + i + 1) * ow]
                            for j in range(first, last):
                                line[j * stride[1] + shift] += values[j]


@jit(forceinline=True)
def _add(source, at, target, to, count, lanes):
    """target[to + q] += source[at + q] for q < count, as flat indices."""
    q = 0
    while q + lanes <= count:
        simd.store(target, to + q, simd.load(target, to + q) + simd.load(source, at + q))
        q += lanes
    if q < count:
        some = count - q
        total = simd.load_part(target, to + q, some) + simd.load_part(source, at + q, some)
        simd.store_part(target, to + q, total, some)


#: Channels whose sums `fold_taps` makes alternately: neighbouring positions of one channel add to the same elements,
#: and wait for each other. Rows of channels, often a power of two apart, share a set of the first-level cache, 8 lines.
IN_TURNS = 8


@kernel
def fold_taps(columns, bias, out, first, group, window, stride, pad, dilation, lanes):
    """Sum transposed columns, (image, position, channel, a, b), and a bias up to images: to one group's channels of the
    images from `first` on; `out` is (image, group, channel, row, column)."""
    kh, kw, oh, ow = window
    groups, channels, h, w = out.shape[1:]
    taps, images = channels * kh * kw, columns.shape[0] // (oh * ow)
    blocks = (channels + IN_TURNS - 1) // IN_TURNS
    flat, sums = columns.reshape(-1), out.reshape(-1)
    for job in prange(images * blocks):
        image, begin = job // blocks, job % blocks * IN_TURNS
        end = min(begin + IN_TURNS, channels)
        plane = ((first + image) * groups + group) * channels
        for c in range(begin, end):
            out[first + image, group, c] = bias[group * channels + c]
        for p in range(oh * ow):
            i, j = p // ow, p % ow
            left = j * stride[1] - pad[1]
            for a in range(kh):
                row = i * stride[0] - pad[0] + a * dilation[0]
                if not 0 <= row < h:
                    continue
                for c in range(begin, end):
                    at = (image * oh * ow + p) * taps + (c * kh + a) * kw
                    to = ((plane + c) * h + row) * w + left
                    if dilation[1] == 1:
                        b = max(0, -left)
                        _add(columns, at + b, out, to + b, min(kw, w - left) - b, lanes)
                    else:
                        for b in range(kw):
                            if 0 <= left + b * dilation[1] < w:
                                sums[to + b * dilation[1]] += flat[at + b]


@kernel
def fold_product(weight, y, bias, out, groups, window, stride, pad, dilation, lanes):
    """Make ``fold(weight.T @ y) + bias`` of all images without columns: for small images and horizontal stride 1."""
    kh, kw, oh, ow = window
    c_in, h, w = out.shape[1:]
    c_out = y.shape[1]
    channels, depth, size = c_in // groups, c_out // groups, oh * ow
    flat_weight = weight.reshape(-1)
    for job in prange(out.shape[0] * c_in):
        image, c = job // c_in, job % c_in
        first_o = c // channels * depth
        out[image, c] = bias[c]
        for a in range(kh):
            for b in range(kw):
                tap = ((first_o * channels + c % channels) * kh + a) * kw + b
                shift = b * dilation[1] - pad[1]
                first = min(max(0, -shift), ow)
                last = max(min(ow, w - shift), first)
                for i in range(oh):
                    row = i * stride[0] - pad[0] + a * dilation[0]
                    if 0 <= row < h:
                        to = (job * h + row) * w + shift
                        at = (image * c_out + first_o) * size + i * ow
                        for j in range(first, last, lanes):
                            total = simd.load_part(out, to + j, last - j)
                            for o in range(depth):
                                factor = simd.splat(flat_weight[tap + o * channels * kh * kw])
                                total = simd.fma(simd.load_part(y, at + o * size + j, last - j), factor, total)
                            simd.store_part(out, to + j, total, last - j)
