"""Rows of an image with what lies outside it, in memory that kernels read whole vectors from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..system import micro
from ..system.kernels import jit
from ..tiles import simd
from ..tiles.elements import at, put


@jit
def load_line(x, start, length, left, columns, constant, first, count, line, to, lanes):
    """Copy `count` elements of an extended row, from its element `first` on, to ``line[to:]``.

    The row's own `length` elements stand at ``x[start:]``; a negative `start` is a row of constants. Elements outside
    are those that the table `columns` tells; `left` of them stand before the row.
    """
    if start < 0:
        value = simd.splat(constant)
        q = to
        while q < to + count:  # lines have room for a vector more
            simd.store(line, q, value)
            q += lanes
        return
    begin = min(first + count, max(first, left))
    end = max(begin, min(first + count, left + length))
    to -= first
    for e in range(first, begin):
        column = at(columns, e)
        put(line, to + e, at(x, start + column) if column >= 0 else constant)
    if end - begin >= lanes:
        e = begin
        while e < end - lanes:
            simd.store(line, to + e, simd.load(x, start + e - left))
            e += lanes
        simd.store(line, to + end - lanes, simd.load(x, start + end - lanes - left))
    else:
        for e in range(begin, end):
            put(line, to + e, at(x, start + e - left))
    for e in range(end, first + count):
        column = at(columns, e)
        put(line, to + e, at(x, start + column) if column >= 0 else constant)


@jit
def load_rows(
    x, plane, rows, first, end, length, left, columns, constant, near, before, far, behind, line, to, apart, pitch,
    lanes,
):  # fmt: skip
    """Copy parts of rows `first` to before `end` of an extended plane, whose first row is number `plane`.

    `before` elements from `near` on go to ``line[to:]``, `behind` from `far` on to ``line[to + apart:]``, those of the
    next row `pitch` further. A plane of constants is number -1.
    """
    for r in range(first, end):
        row = at(rows, r)
        start = (plane + row) * length if plane >= 0 and row >= 0 else -1
        for part in range(2):
            first_element, count, there = near, before, to
            if part:
                first_element, count, there = far, behind, to + apart
            if count > 0:
                load_line(x, start, length, left, columns, constant, first_element, count, line, there, lanes)
        to += pitch


def _rows_loader() -> Any:
    return load_rows


def loader(dtype: np.dtype) -> int:
    """The address of `load_rows`, a micro-kernel, for rows of a dtype; the constant is of that dtype, too."""
    row, place, integers = micro.array(dtype), micro.PLACE, micro.array(np.int64)
    arguments = row, place, integers, place, place, place, place, integers, micro.scalar(dtype), *[place] * 4, row
    return micro.address(_rows_loader, (), (*arguments, place, place, place, place))


@jit(forceinline=True)
def store_vector(out, at, value, there, lanes):
    """Write a vector, of which only `there` elements may lie in the block."""
    if there >= lanes:
        simd.store(out, at, value)
    elif there > 0:
        simd.store_part(out, at, value, there)
