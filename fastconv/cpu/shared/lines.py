"""Rows of an image with what lies outside it, in memory that kernels read whole vectors from."""

from __future__ import annotations

from ..system.kernels import jit
from ..tiles import simd
from .bands import at, put


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


@jit(forceinline=True)
def store_vector(out, at, value, there, lanes):
    """Write a vector, of which only `there` elements may lie in the block."""
    if there >= lanes:
        simd.store(out, at, value)
    elif there > 0:
        simd.store_part(out, at, value, there)
