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

import numba
import numpy as np
from numba import prange

from ..system import micro
from ..system.kernels import jit, kernel
from ..tiles import simd
from .patch import copy_row, zeros_row


def gather_address(dtype: np.dtype, windows: bool = False) -> int:
    """Address of the micro-kernel `gather`, or `gather_windows`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    if windows:
        return micro.address(gather_windows, (simd.lanes(dtype),), (row, *[place] * 12, row, place))
    return micro.address(gather, (simd.lanes(dtype),), (row, *[place] * 10, row, place))


def gather(lanes: int) -> Any:
    """A micro-kernel for a part of one row of the columns: the pixels of a channel that one tap of the outputs from
    `begin` to `end` sees, zeros outside the image.

    It is called as ``gather(x, plane, h, w, begin, end, ow, stride_h, stride_w, top, left, target, to)``. The tap is
    `top` rows above and `left` columns before the outputs' places: those of the padding, less the tap's own. Whole
    vectors are written, so that there is anything behind the row.
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
            zeros_row(target, goal + low, some - low, lanes, True)
            seen = plane + row * w + some * stride_w - left
            copy_row(x, seen, stride_w, target, goal + some, last - some, lanes, True)
            zeros_row(target, goal + last, high - last, lanes, True)

    return gather_row


def gather_windows(lanes: int) -> Any:
    """A micro-kernel for a part of the rows of the columns that the taps of one row of windows see: what `gather` does
    for each, but it reads the windows as they lie, and transposes blocks of them.

    It is called as ``gather(x, plane, h, w, begin, end, ow, stride_h, stride_w, top, left, taps, pitch, target, to)``,
    `left` being of the first of `taps`. Their rows are a `pitch` apart, and there are as many as whole vectors have.
    """

    @jit(key=(lanes,))
    def gather_rows(x, plane, h, w, begin, end, ow, stride_h, stride_w, top, left, taps, pitch, target, to):
        lowest = min(max(0, (left + stride_w - 1) // stride_w), ow)  # of these all taps are in the image
        highest = max(lowest, min(ow, (w - taps + left) // stride_w + 1))
        images = simd.flat(x)
        for i in range(begin // ow, (end + ow - 1) // ow):
            low, high = max(begin - i * ow, 0), min(end - i * ow, ow)
            row = i * stride_h - top
            some, last = (max(low, min(lowest, high)), max(low, min(highest, high))) if 0 <= row < h else (low, low)
            goal, line = to + i * ow - begin, plane + row * w - left
            for j in range(some, last, lanes):
                for b in range(0, taps, lanes):
                    at, place = line + j * stride_w + b, goal + j + b * pitch
                    count, width = min(lanes, last - j), min(lanes, taps - b)
                    if at + (lanes - 1) * stride_w + lanes <= images.size:
                        count, width = lanes, lanes
                    simd.transpose(x, at, stride_w, count, width, target, place, pitch)
            for j in range(low, high):
                if not some <= j < last:
                    for b in range(taps):
                        column = j * stride_w - left + b
                        inside = 0 <= row < h and 0 <= column < w
                        value = images[plane + row * w + column] if inside else images.dtype.type(0)
                        target[goal + j + b * pitch] = value

    return gather_rows


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


#: Channels of one task of `fold_taps`: neighbouring positions of one channel add to the same elements, and would wait
#: for each other. More than the first-level cache's 8 lines of a set would be too many: planes are often a power of two
#: apart.
IN_TURNS = 8


@kernel
def fold_taps(columns, bias, out, first, group, window, stride, pad, dilation, lanes):
    """Sum transposed columns, (image, position, channel, a, b), and a bias up to images: to one group's channels of the
    images from `first` on; `out` is (image, group, channel, row, column).

    A window's rows are added in a row, as a channel's place may differ from the next one's by a multiple of 4 KiB: then
    the processor takes a load for one of what was just stored (images of 224x224: 2.8 times as long).
    """
    kh, kw, oh, ow = window
    groups, channels, h, w = out.shape[1:]
    taps, images = channels * kh * kw, columns.shape[0] // (oh * ow)
    blocks = (channels + IN_TURNS - 1) // IN_TURNS
    piece = lanes if dilation[1] == 1 else 1  # taps that lie side by side in the image, too
    for job in prange(images * blocks):
        image, begin = job // blocks, job % blocks * IN_TURNS
        end = min(begin + IN_TURNS, channels)
        plane = ((first + image) * groups + group) * channels
        for c in range(begin, end):
            out[first + image, group, c] = bias[group * channels + c]
        for i in range(oh):
            top = i * stride[0] - pad[0]
            a = max(0, (dilation[0] - 1 - top) // dilation[0])
            rows = min(kh, (h - 1 - top) // dilation[0] + 1) - a
            for j in range(ow):
                left = j * stride[1] - pad[1]
                low = max(0, (dilation[1] - 1 - left) // dilation[1])
                high = min(kw, (w - 1 - left) // dilation[1] + 1)
                at = ((image * oh + i) * ow + j) * taps + (begin * kh + a) * kw
                to = ((plane + begin) * h + top + a * dilation[0]) * w + left
                for _ in range(begin, end):
                    for b in range(low, high, piece):
                        count, place = min(piece, high - b), to + b * dilation[1]
                        if 4 * count <= lanes:
                            _add_quarters(columns, at + b, kw, out, place, w * dilation[0], rows, count)
                        elif 2 * count <= lanes:
                            _add_halves(columns, at + b, kw, out, place, w * dilation[0], rows, count)
                        else:
                            _add_wholes(columns, at + b, kw, out, place, w * dilation[0], rows, count)
                    at += kh * kw
                    to += h * w


def _adder(share):
    """The function ``target[to + r * pitch + q] += source[at + r * step + q]`` for r < rows and q < count, by vectors
    of lanes / share elements: a short one crosses fewer cache lines."""
    add_part = simd.add_part(share)

    @jit(forceinline=True, key=(share,))
    def add_rows(source, at, step, target, to, pitch, rows, count):
        for _ in range(rows):
            add_part(source, at, target, to, count)
            at += step
            to += pitch

    return add_rows


_add_quarters, _add_halves, _add_wholes = _adder(4), _adder(2), _adder(1)


#: Taps of the channels of one task of `fold_turned`: whole channels, and mostly whole blocks of a vector's lanes.
TAPS_OF_TASK = 256


@kernel
def fold_turned(columns, bias, out, first, group, window, stride, pad, dilation, lanes, blocks):
    """Do what `fold_taps` does for a horizontal stride of 1: columns are transposed block by block, so that vectors
    have neighbouring positions, which add to neighbouring elements. A row of `blocks` has room for lanes x lanes."""
    kh, kw, oh, ow = window
    groups, channels, h, w = out.shape[1:]
    taps, images = channels * kh * kw, columns.shape[0] // (oh * ow)
    each = max(1, TAPS_OF_TASK // (kh * kw))
    parts = (channels + each - 1) // each
    for job in prange(images * parts):
        image, begin = job // parts, job % parts * each
        end = min(begin + each, channels)
        block = blocks[numba.get_thread_id()]
        plane = ((first + image) * groups + group) * channels
        for c in range(begin, end):
            out[first + image, group, c] = bias[group * channels + c]
        for i in range(oh):
            for j in range(0, ow, lanes):
                count = min(lanes, ow - j)
                at = ((image * oh + i) * ow + j) * taps
                c, a, b = begin, 0, 0  # of tap t + k; counted, as divisions would take as long as the sums
                for t in range(begin * kh * kw, end * kh * kw, lanes):
                    some = min(lanes, end * kh * kw - t)
                    simd.transpose(columns, at + t, taps, count, some, block, 0, lanes)
                    for k in range(some):
                        row, left = i * stride[0] - pad[0] + a * dilation[0], j - pad[1] + b * dilation[1]
                        low, high = max(0, -left), min(count, w - left)
                        if 0 <= row < h and low < high:
                            to = ((plane + c) * h + row) * w + left + low
                            more = simd.load_part(block, k * lanes + low, high - low)
                            simd.store_part(out, to, simd.load_part(out, to, high - low) + more, high - low)
                        b += 1
                        if b == kw:
                            a, b = a + 1, 0
                            if a == kh:
                                c, a = c + 1, 0


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
