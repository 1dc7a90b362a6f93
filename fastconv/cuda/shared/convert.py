"""Copies between layouts and dtypes, with a thread for each element: operands of another dtype than is computed in,
exchanged weights of transposed convolutions, and fills with the bias."""

from __future__ import annotations

import math

import numpy as np

from ...specs.dtypes import computed
from ..system.kernels import cuda, factory, integers, pick, pointer
from ..system.streams import Buffer, Stream, Tensor, dense, volume
from ..tiles.elements import narrow, widen

BLOCK = pick(256, 8)


def converted(x: Tensor, dtype: np.dtype, stream: Stream, *, copy: bool = False) -> Tensor:
    """`x` as a tensor of `dtype`, in C order where it is copied; with `copy` it always is."""
    if x.dtype == dtype and not copy:
        return x
    result = dense(stream.empty(x.size, dtype), x.shape)
    _, c, d, h, w = volume(x.shape)
    stream.launch(_convert(x.dtype, dtype), -(-x.size // BLOCK), BLOCK,
                  x.pointer, volume(x.strides), result.pointer, (x.size, c, d, h, w))
    return result


@factory
def _convert(source, target):
    between = computed(target)
    load, store = widen(source, between if between != np.bool_ else np.dtype(np.uint8)), narrow(target)

    def convert(x, x_steps, out, sizes):
        size, c, d, h, w = sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < size:
            n, k = at // w // h // d // c, at // w // h % d
            plane = n * x_steps[0] + at // w // h // d % c * x_steps[1] + k * x_steps[2]
            out[at] = store(load(x[plane + at // w % h * x_steps[3] + at % w * x_steps[4]]))

    return (pointer(source), integers(5), pointer(target), integers(5)), convert


def fill(x: Tensor, bias: Buffer, stream: Stream) -> None:
    """Fill `x` with the bias of each channel, for elements that no kernel will write to."""
    c, *sizes = volume(x.shape)[1:]
    stream.launch(_fill(bias.dtype, x.dtype), -(-x.size // BLOCK), BLOCK,
                  bias.pointer, x.pointer, volume(x.strides), (x.size, c, *sizes))


@factory
def _fill(source, target):
    store = narrow(target)

    def fill(bias, x, x_steps, sizes):
        size, c, d, h, w = sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < size:
            n, channel, k = at // w // h // d // c, at // w // h // d % c, at // w // h % d
            plane = n * x_steps[0] + channel * x_steps[1] + k * x_steps[2]
            x[plane + at // w % h * x_steps[3] + at % w * x_steps[4]] = store(bias[channel])

    return (pointer(source), pointer(target), integers(5), integers(5)), fill


def exchanged(weight: Tensor, groups: int, taps: tuple[slice, ...], stream: Stream) -> Tensor:
    """Weights (c_out, c_in / groups, taps) as (c_in, c_out / groups, taps) with the taps of slices, also backwards."""
    c_out, channels, *kernel = weight.shape
    chosen = [range(size)[some] for size, some in zip(kernel, taps, strict=True)]
    result_shape = (groups * channels, c_out // groups, *map(len, chosen))
    size = math.prod(result_shape)
    result = dense(stream.empty(size, weight.dtype), result_shape)
    first, apart = ((*(default,) * (3 - len(chosen)), *found) for default, found in (
        (0, [some.start for some in chosen]), (1, [some.step for some in chosen])))
    stream.launch(_exchange(weight.dtype), -(-size // BLOCK), BLOCK, weight.pointer, volume(weight.strides),
                  result.pointer, (size, channels, *volume(result_shape)[1:]), first, apart)
    return result


@factory
def _exchange(dtype):
    def exchange(weight, steps, out, sizes, first, apart):
        size, channels, o_group, kd, kh, kw = sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < size:
            b, a, rest = at % kw, at // kw % kh, at // kw // kh
            e, o, c = rest % kd, rest // kd % o_group, rest // kd // o_group
            place = (c // channels * o_group + o) * steps[0] + c % channels * steps[1]
            place += (first[0] + e * apart[0]) * steps[2]
            out[at] = weight[place + (first[1] + a * apart[1]) * steps[3] + (first[2] + b * apart[2]) * steps[4]]

    return (pointer(dtype), integers(5), pointer(dtype), integers(6), integers(3), integers(3)), exchange
