"""Copies between layouts and dtypes, one thread an element: operands that are not of the dtype computed in, weights of
transposed convolutions, zeros."""

from __future__ import annotations

import numpy as np

from ..checks import BFLOAT16
from .dtypes import narrow, widen
from .runtime import cuda, factory, integers, pick, pointer, scalar_type
from .streams import Stream, Tensor, dense, volume

BLOCK = pick(256, 8)


def converted(x: Tensor, dtype: np.dtype, stream: Stream, *, copy: bool = False) -> Tensor:
    """`x` as a tensor of `dtype`, in C order if it had to be copied; `copy` always does."""
    if x.dtype == dtype and not copy:
        return x
    result = dense(stream.empty(x.size, dtype), x.shape)
    _, c, d, h, w = volume(x.shape)
    stream.launch(_convert(x.dtype, dtype), -(-x.size // BLOCK), BLOCK,
                  x.pointer, volume(x.strides), result.pointer, (x.size, c, d, h, w))
    return result


@factory
def _convert(source, target):
    between = np.dtype(np.float32) if target == np.float16 or target == BFLOAT16 else target
    load, store = widen(source, between if between != np.bool_ else np.dtype(np.uint8)), narrow(target)

    def convert(x, x_steps, out, sizes):
        size, c, d, h, w = sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < size:
            n, k = at // w // h // d // c, at // w // h % d
            plane = n * x_steps[0] + at // w // h // d % c * x_steps[1] + k * x_steps[2]
            out[at] = store(load(x[plane + at // w % h * x_steps[3] + at % w * x_steps[4]]))

    return (pointer(source), integers(5), pointer(target), integers(5)), convert


def fill_zeros(x: Tensor, stream: Stream) -> None:
    """Of an output that kernels do not write to everywhere."""
    stream.launch(_fill_zeros(x.dtype), -(-x.size // BLOCK), BLOCK, x.pointer, x.strides, (x.size, *x.shape[1:]))


@factory
def _fill_zeros(dtype):
    zero = scalar_type(dtype)

    def fill(x, x_steps, sizes):
        size, c, h, w = sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < size:
            n = at // w // h // c
            x[n * x_steps[0] + at // w // h % c * x_steps[1] + at // w % h * x_steps[2] + at % w * x_steps[3]] = zero(0)

    return (pointer(dtype), integers(4), integers(4)), fill


def exchanged(weight: Tensor, groups: int, rows: slice, cols: slice, stream: Stream) -> Tensor:
    """Weights (c_out, c_in / groups, kh, kw) as (c_in, c_out / groups, ...): taps of slices, which may go backwards."""
    c_out, channels, kh, kw = weight.shape
    high, wide = range(kh)[rows], range(kw)[cols]
    shape = (groups * channels, c_out // groups, len(high), len(wide))
    size = shape[0] * shape[1] * shape[2] * shape[3]
    result = dense(stream.empty(size, weight.dtype), shape)
    stream.launch(_exchange(weight.dtype), -(-size // BLOCK), BLOCK, weight.pointer, weight.strides, result.pointer,
                  (size, *shape[1:], channels), (high.start, wide.start), (high.step, wide.step))
    return result


@factory
def _exchange(dtype):
    def exchange(weight, steps, out, sizes, first, apart):
        size, o_group, kh, kw, channels = sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < size:
            b, a, o, c = at % kw, at // kw % kh, at // kw // kh % o_group, at // kw // kh // o_group
            place = (c // channels * o_group + o) * steps[0] + c % channels * steps[1]
            out[at] = weight[place + (first[0] + a * apart[0]) * steps[2] + (first[1] + b * apart[1]) * steps[3]]

    pair = integers(2)
    return (pointer(dtype), integers(4), pointer(dtype), integers(5), pair, pair), exchange
