"""Copies between layouts and dtypes, one thread an element: operands that are not of the dtype computed in."""

from __future__ import annotations

import numpy as np

from ..checks import BFLOAT16
from .dtypes import narrow, widen
from .runtime import cuda, factory, integers, pick, pointer
from .streams import Stream, Tensor, dense

BLOCK = pick(256, 8)


def converted(x: Tensor, dtype: np.dtype, stream: Stream, *, copy: bool = False) -> Tensor:
    """`x` as a tensor of `dtype`, in C order if it had to be copied; `copy` always does."""
    if x.dtype == dtype and not copy:
        return x
    result = dense(stream.empty(x.size, dtype), x.shape)
    _, c, h, w = x.shape
    stream.launch(_convert(x.dtype, dtype), -(-x.size // BLOCK), BLOCK,
                  x.pointer, x.strides, result.pointer, (x.size, c, h, w))
    return result


@factory
def _convert(source, target):
    between = np.dtype(np.float32) if target == np.float16 or target == BFLOAT16 else target
    load, store = widen(source, between if between != np.bool_ else np.dtype(np.uint8)), narrow(target)

    def convert(x, x_steps, out, sizes):
        size, c, h, w = sizes
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < size:
            n = at // w // h // c
            offset = n * x_steps[0] + at // w // h % c * x_steps[1] + at // w % h * x_steps[2] + at % w * x_steps[3]
            out[at] = store(load(x[offset]))

    return (pointer(source), integers(4), pointer(target), integers(4)), convert
