"""Sums of products as the arithmetic of a filter asks for them (`fastconv.specs.filters`)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..system.kernels import device_function
from ..tiles.rounding import plus, times

#: Products, written out, that are added up before their sum is added to the total: of float32 the total keeps what that
#: rounds away, so four roundings of a part are all that is lost (2 units in the last place of the window's sum).
PART = 4


@cache
def added(kind: np.dtype) -> Any:
    """The function that adds a part to a total: the total, and of float32 what rounding took from it (TwoSum)."""
    number, infinite, keeps = kind.type, np.float32(np.inf), kind == np.float32

    @device_function
    def grown(total, lost, part):
        result = number(total + part)
        if keeps:  # no branch on the sum: both are computed
            back = number(result - total)
            more = number(lost + number(number(total - number(result - back)) + number(part - back)))
            lost = more if abs(result) < infinite else lost
        return result, lost

    return grown


@cache
def along_line(kind: np.dtype, order: str) -> Any:
    """The function ``(values, at, step, weights, taps)`` that sums weight * value over `taps` values, `step` apart from
    `at` on: by the `order` "products" with least rounding; in float64 in SciPy's, "listed", "even" or "odd"."""
    number, zero, grow = kind.type, kind.type(0), added(kind)

    @device_function
    def products(values, at, step, weights, taps):
        total, lost, t = zero, zero, np.int64(0)
        while t + PART <= taps:
            part = number(weights[t] * values[np.uint64(at)])
            part = number(part + weights[t + 1] * values[np.uint64(at + step)])
            part = number(part + weights[t + 2] * values[np.uint64(at + 2 * step)])
            part = number(part + weights[t + 3] * values[np.uint64(at + 3 * step)])
            total, lost = grow(total, lost, part)
            at, t = at + PART * step, t + PART
        while t < taps:
            total, lost = grow(total, lost, number(weights[t] * values[np.uint64(at)]))
            at, t = at + step, t + 1
        return number(total + lost)

    if order == "products":
        return products

    @device_function
    def listed(values, at, step, weights, taps):
        last = taps - 1
        total = times(weights[last], values[np.uint64(at + last * step)])
        for t in range(last):
            total = plus(total, times(weights[t], values[np.uint64(at + t * step)]))
        return total

    if order == "listed":
        return listed
    sign = number(-1 if order == "odd" else 1)

    @device_function
    def paired(values, at, step, weights, taps):
        middle = taps // 2
        total = times(weights[middle], values[np.uint64(at + middle * step)])
        for t in range(middle):
            pair = plus(values[np.uint64(at + t * step)], sign * values[np.uint64(at + (taps - 1 - t) * step)])
            total = plus(total, times(weights[t], pair))
        return total

    return paired
