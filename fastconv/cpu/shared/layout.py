"""How an image lies in memory, as sweeps see it: leading axes, rows, columns, and what lies between two columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...specs.boundary import sources
from ...specs.filters import Problem

#: Channels between two columns, at most: of more, the row that they make is long enough, and windows move over rows
#: only.
MOST_INNER = 64
#: Elements that a window's columns with their channels have at most, a quarter of a band of float32 that fills most of
#: a 1 MiB second-level cache: of more, a block has few columns beside those that the next one reads again. (1601 taps
#: along 1024 columns of 64 channels: 2.5 s, and as rows of 64 columns 2 ms.)
MOST_HALO = 48 << 10


class Line(NamedTuple):
    """An axis of the image, or several as one."""

    size: int
    taps: int
    table: np.ndarray
    step: int
    out: int
    axis: int
    before: int = 0


def lines(problem: Problem) -> list[Line]:
    """The image's axes; neighbours that no window moves along are one where their elements follow one another."""
    windows, found = {one.axis: one for one in problem.axes}, []
    for axis, (size, step, out) in enumerate(zip(problem.shape, problem.strides, problem.out_strides, strict=True)):
        window = windows.get(axis)
        if window is not None:
            table = sources(window.boundary, size, window.before, window.taps - 1 - window.before)
            found.append(Line(size, window.taps, table, step, out, axis, window.before))
            continue
        if size == 1:
            continue
        last = found[-1] if found else None
        if last is not None and last.axis < 0 and last.step == size * step and last.out == size * out:
            size, found = size * last.size, found[:-1]
        found.append(Line(size, 1, np.empty(0, np.int64), step, out, -1))
    return found


def arranged(problem: Problem) -> tuple[list[Line], Line, Line, Line]:
    """Leading axes (outermost first), rows, columns, and what lies between two columns."""
    found, nothing = lines(problem), np.zeros(1, np.int64)
    one = Line(1, 1, nothing, 0, 0, -1)
    inner = one
    channels = found[-1].size if len(found) > 1 and found[-1].axis < 0 and found[-2].axis >= 0 else 0
    if 0 < channels <= MOST_INNER and found[-2].taps * channels <= MOST_HALO:
        *found, inner = found
    columns = found[-1] if found else one
    rows = found[-2] if len(found) > 1 else one
    return found[:-2], rows, columns, inner


def first_byte(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Bytes from the first byte of an array's memory to its first element."""
    return -sum(min(0, (size - 1) * stride) for size, stride in zip(shape, strides, strict=True))


def bytes_of(array: np.ndarray) -> np.ndarray:
    """An array's memory as bytes, writeable by its type."""
    if array.flags.carray and array.size:
        return np.frombuffer(array, np.uint8)  # a third of the time of a view
    return np.asarray(_Memory(array))


class _Memory:
    """The memory that an array's elements lie in."""

    def __init__(self, array: np.ndarray) -> None:
        self.owner = array
        start = first_byte(array.shape, array.strides)
        span = sum(abs(stride) * (size - 1) for size, stride in zip(array.shape, array.strides, strict=True))
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (span + array.itemsize,),
            "data": (array.__array_interface__["data"][0] - start, False),
        }
