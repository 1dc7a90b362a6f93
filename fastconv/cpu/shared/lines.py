"""Rows of an image with what lies outside it, in memory that kernels read whole vectors from."""

from __future__ import annotations

from ..system.kernels import jit
from ..tiles import simd


@jit(forceinline=True)
def load_line(x, start, length, step, left, pixels, constant, first, count, line, to, lanes):
    """Copy `count` elements of an extended row, from its element `first` on, to ``line[to:]``.

    The row's own `length` elements stand at ``x[start:]``; a negative `start` is a row of constants. Elements outside
    are those of the pixels that the table `pixels` tells, of which `left` stand before the row.
    """
    if start < 0:
        value = simd.splat(constant)
        for q in range(0, count, lanes):  # lines have room for a vector more
            simd.store(line, to + q, value)
        return
    begin = min(first + count, max(first, left * step))
    end = max(begin, min(first + count, left * step + length))
    for e in range(first, begin):
        pixel = pixels[e // step]
        line[to + e - first] = x[start + pixel * step + e % step] if pixel >= 0 else constant
    source, target, size = start + begin - left * step, to + begin - first, end - begin
    if size >= lanes:
        for q in range(0, size - lanes, lanes):
            simd.store(line, target + q, simd.load(x, source + q))
        simd.store(line, target + size - lanes, simd.load(x, source + size - lanes))
    else:
        for q in range(size):
            line[target + q] = x[source + q]
    for e in range(end, first + count):
        pixel = pixels[e // step]
        line[to + e - first] = x[start + pixel * step + e % step] if pixel >= 0 else constant


@jit(forceinline=True)
def store_vector(out, at, value, there, lanes):
    """Write a vector, of which only `there` elements may lie in the block."""
    if there >= lanes:
        simd.store(out, at, value)
    elif there > 0:
        simd.store_part(out, at, value, there)
