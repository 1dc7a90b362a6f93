"""What positions outside an image stand for, in arithmetic (`fastconv.specs.boundary` has the tables of the CPU)."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..system.kernels import device_function


@cache
def source(boundary: str) -> Any:
    """The function that tells the position inside an axis that a position stands for, -1 if it is the constant.

    `boundary` is a constant of the compiled code: the value of a `Boundary`. A mode is repeated as often as it takes.
    """

    nearest, wrap, reflect, mirror = (boundary == name for name in ("nearest", "wrap", "reflect", "mirror"))

    @device_function
    def located(position, size):
        if 0 <= position < size:
            return position
        if nearest:
            return 0 if position < 0 else size - 1
        if wrap:
            return position % size
        if reflect:
            at = position % (2 * size)
            return min(at, 2 * size - 1 - at)
        if mirror:
            period = max(1, 2 * (size - 1))
            at = position % period
            return min(at, period - at)
        return -1

    return located
