"""Indices of elements of arrays of any number of axes; the number of axes is a constant of the compiled code."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..system.kernels import device_function

#: Numbers of elements below which a place is found in 32 bits.
NARROW = 1 << 32


@device_function
def parted(number, size):
    """Quotient and remainder of numbers below 2**32: one in 64 bits takes some 100 instructions, this some 20."""
    quotient = np.uint32(number) // np.uint32(size)
    return np.int64(quotient), np.int64(np.uint32(number) - quotient * np.uint32(size))


@cache
def indices(rank: int, wide: bool) -> Any:
    """The function that makes a number the index along each of so many axes; in 32 bits unless that is too `wide`."""
    last, outer = rank - 1, indices(rank - 1, wide) if rank > 1 else None

    @device_function
    def one(at, sizes):
        return (np.int64(at),)

    @device_function
    def several(at, sizes):
        if wide:
            rest = at // sizes[last]
            index = at - rest * sizes[last]
        else:
            rest, index = parted(at, sizes[last])
        return outer(rest, sizes) + (index,)  # noqa: RUF005 # Numba knows no other way

    return several if last else one


@cache
def dot(rank: int) -> Any:
    """The function that sums the products of two tuples of so many numbers: of an index and strides, the place."""
    last = rank - 1
    outer = dot(last) if last else None

    @device_function
    def one(a, b):
        return a[0] * b[0]

    @device_function
    def several(a, b):
        return outer(a, b) + a[last] * b[last]

    return several if last else one


@cache
def corner(rank: int) -> Any:
    """The function that finds, by its number below 2**32, the place of an element in two arrays of so many axes."""

    @device_function
    def places(number, sizes, steps, other_steps):
        start, goal = np.int64(0), np.int64(0)
        for axis in range(rank):
            number, at = parted(number, sizes[axis])
            start += at * steps[axis]
            goal += at * other_steps[axis]
        return start, goal

    return places


#: Of an axis its size, and its steps in one array or several.
Axes = tuple[int, ...]


def joined(axes: list[Axes]) -> list[Axes]:
    """Axes of which neighbours are one where their elements follow one another in all arrays."""
    found: list[Axes] = []
    for size, *steps in axes:
        if size == 1:
            continue
        if found and all(before == size * step for before, step in zip(found[-1][1:], steps, strict=True)):
            size *= found.pop()[0]
        found.append((size, *steps))
    return found
