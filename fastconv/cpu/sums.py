"""Sums that are elements of the gradient for a convolution's weight (see `weight_naive`): put in order, and made again.

The fast algorithms multiply zeros, too: those of the padding, of gaps, of what is behind an edge. A zero times a NaN or
an infinity is NaN, and would spoil taps that do not see it. So they make sums that are not finite again, by definition.
"""

from __future__ import annotations

from . import simd
from .runtime import jit


@jit
def tap_sum(x, grad, channel, o, corner, stride):
    """The sum over the batch for a tap of which the first output sees row and column `corner` of the input.

    Each row is added up on its own: the more products a sum has taken, the more it loses of the next.
    """
    total, (h, w) = grad.dtype.type(0), x.shape[2:]
    for image in range(grad.shape[0]):
        for i in range(grad.shape[2]):
            row = corner[0] + i * stride[0]
            if 0 <= row < h:
                part = grad.dtype.type(0)
                for j in range(grad.shape[3]):
                    col = corner[1] + j * stride[1]
                    if 0 <= col < w:
                        part += grad[image, o, i, j] * x[image, channel, row, col]
                total += part
                if total != total:  # it stays NaN
                    return total
    return total


@jit
def put_in_order(totals, base, places, panel, out, o, channels, begin, end, line, lanes):
    """Elements `begin` ... `end` - 1 of a panel's kernels, from [run][o] to [o][c, a, b]; tells if all are finite."""
    taps, size = places.size, out[0].size
    zero = simd.splat(totals.dtype.type(0))
    spoiled = zero  # zero times the sums: NaN where one is not finite
    for lane in range(0, channels, lanes):
        for first in range(begin, end, lanes):
            many, c, t = min(lanes, end - first), first // taps, first % taps
            for q in range(many):
                total = simd.load(totals, base + (places[t] + c) * panel + lane)
                spoiled = simd.fma(total, zero, spoiled)
                simd.store(line, q * lanes, total)
                t += 1
                if t == taps:
                    c, t = c + 1, 0
            simd.transpose(line, 0, lanes, many, min(lanes, channels - lane), out, (o + lane) * size + first, size)
    simd.store(line, 0, spoiled)
    finite = True
    for q in range(lanes):
        finite &= line[q] == 0
    return finite


@jit
def make_again(x, grad, out, groups, o, channels, begin, end, stride, pad, dilation):
    """Of the same elements those that are not finite, without the zeros that the tile multiplied."""
    c_group, kh, kw = out.shape[1:]
    for channel in range(o, o + channels):
        first = channel // (out.shape[0] // groups) * c_group
        for element in range(begin, end):
            c, a, b = element // (kh * kw), element // kw % kh, element % kw
            if out[channel, c, a, b] - out[channel, c, a, b] != 0:
                corner = a * dilation[0] - pad[0], b * dilation[1] - pad[1]
                out[channel, c, a, b] = tap_sum(x, grad, first + c, channel, corner, stride)
