"""Copies between layouts and dtypes, one thread an element: operands that are not of the dtype computed in."""

from __future__ import annotations

import numpy as np

from ..checks import BFLOAT16
from .dtypes import narrow, widen
from .runtime import cuda, factory, integers, pick, pointer
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
