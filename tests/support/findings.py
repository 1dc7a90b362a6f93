"""A finding is a result that its definition does not give, or a changed input: `tests.fuzz` looks for some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

#: The most roundings of its own window's sum that an output may be wrong by: the promise of `fastconv.conv2d`.
ROUNDINGS = 2**15
#: Roundings of the sum of a pooling's window.
POOL_ROUNDINGS = 64


class Finding(Exception):
    """A result that is not right."""


def correlated(x: np.ndarray, weight: np.ndarray, stride: Any, padding: Any, dilation: Any, groups: int) -> np.ndarray:
    """The definition of a convolution, in the dtype of its operands: the padding is zeros."""
    axes = weight.ndim - 2
    sides = ((0, 0), (0, 0), *((pad, pad) for pad in padding))
    reach = tuple((taps - 1) * gap + 1 for taps, gap in zip(weight.shape[2:], dilation, strict=True))
    seen = sliding_window_view(np.pad(x, sides), reach, tuple(range(2, 2 + axes)))
    every = (slice(None), slice(None), *(slice(None, None, step) for step in stride),
             *(slice(None, None, gap) for gap in dilation))  # fmt: skip
    seen = seen[every]
    n, c_out = len(x), len(weight)
    columns = np.moveaxis(seen, 1, 1 + axes).reshape(n, *seen.shape[2 : 2 + axes], groups, -1)
    kernels = weight.reshape(groups, c_out // groups, -1)
    sums = np.einsum("n...gk,gok->n...go", columns, kernels).reshape(n, *seen.shape[2 : 2 + axes], c_out)
    return np.moveaxis(sums, -1, 1)


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64 if x.dtype.kind == "f" else np.int64)


def check(result: Any, right: np.ndarray, scale: np.ndarray, roundings: float, dtype: np.dtype) -> None:
    """Compare; `scale` are sums of absolute values, an element each. Where they overflow the dtype nothing is asked."""
    if result.shape != right.shape:
        raise Finding(f"shape {result.shape}, right is {right.shape}")
    if result.dtype != dtype:
        raise Finding(f"dtype {result.dtype}, right is {dtype}")
    if dtype.kind != "f":
        if not np.array_equal(result, right.astype(dtype)):
            raise Finding(f"{np.count_nonzero(result != right.astype(dtype))} of {right.size} integers are wrong")
        return
    limits = np.finfo(dtype)
    with np.errstate(all="ignore"):
        asked = ~np.isfinite(right) | (scale < float(limits.max) / 8)
        given = result.astype(np.float64)
        same = np.where(np.isfinite(right), np.abs(given - right) <= (
            roundings * float(limits.eps if dtype != np.float16 else np.finfo(np.float32).eps) * scale
            + float(limits.eps) * np.abs(right) + 64 * float(limits.tiny) * max(1, float(limits.eps) * right.size)
            + (float(limits.smallest_subnormal) if dtype == np.float16 else 0)),
            (given == right) | (np.isnan(given) & np.isnan(right)))  # fmt: skip
    wrong = ~same & asked
    if wrong.any():
        at = tuple(int(place[0]) for place in np.nonzero(wrong))
        raise Finding(f"{np.count_nonzero(wrong)} of {wrong.size} are wrong; at {at} {given[at]!r}, right is "
                      f"{right[at]!r}, the window's sum {scale[at]!r}")


def invoke(
    rng: np.random.Generator, call: Callable[..., Any], shape: tuple[int, ...], dtype: np.dtype, x: np.ndarray
) -> Any:  # fmt: skip
    """A call, perhaps with `out`; its input must stay as it is."""
    before, out = x.tobytes(), np.empty(shape, dtype) if rng.random() < 0.3 else None
    result = call(out=out)
    if out is not None and result is not out:
        raise Finding("out is not what is returned")
    if x.tobytes() != before:
        raise Finding("the input was changed")
    return result
