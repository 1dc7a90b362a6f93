"""Small constant matrices times vectors of lanes, as straight code: the transforms of `conv_winograd`.

A matrix is known when a micro-kernel is compiled, so zeros and ones cost nothing, and what two rows have in common is
computed once: rows p and q become the sum and the difference of (p + q) / 2 and (p - q) / 2, where these have fewer
entries. The rows of a point and its opposite so share half of their work; in transposed transforms the columns do.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..system import micro
from ..system.building import intrinsic
from . import emit
from .simd import Vector

Row = tuple[Fraction, ...]


def map_address(matrix: tuple[Row, ...], dtype: np.dtype) -> int:
    """Address of the micro-kernel `linear_map`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    return micro.address(linear_map, (matrix,), (row, place, place, row, place, place, *[place] * 3))


def linear_map(matrix: tuple[Row, ...]) -> Any:
    """A micro-kernel that multiplies vectors by a constant matrix, `count` times.

    It is called as ``f(x, at, step, y, to, stride, count, hop, leap)``: it reads vectors of x at `at`, `at + step`,
    ..., writes vectors of y at `to`, `to + stride`, ..., and goes on `hop` and `leap` further.
    """

    @intrinsic
    def map_vectors(typingctx, x, at, step, y, to, stride, count, hop, leap):
        def codegen(context, builder, sig, args):
            data, goal = (emit.data_of(context, builder, sig.args[k], args[k]) for k in (0, 3))
            _, at, step, _, to, stride, *times = args
            source, target = (builder.gep(base, [place]) for base, place in ((data, at), (goal, to)))
            _emit_map(builder, matrix, Vector(sig.args[0].dtype).count, source, step, target, stride, *times)
            return context.get_dummy_value()

        places = types.int64, types.int64
        return types.void(x, *places, y, *places, types.int64, *places), codegen

    return map_vectors


def tile_map_address(down: tuple[Row, ...], across: tuple[Row, ...], dtype: np.dtype, *, finish: bool = False) -> int:
    """Address of the micro-kernel `tile_map`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    vectors = (Vector(row.dtype),) * 2 if finish else ()
    return micro.address(tile_map, (down, across, finish), (row, place, place, row, row, *[place] * 6, *vectors))


def tile_map(down: tuple[Row, ...], across: tuple[Row, ...], finish: bool) -> Any:
    """A micro-kernel that multiplies `count` tiles of vectors by two constant matrices: ``down @ tile @ across.T``.

    It is called as ``f(x, at, step, work, y, to, stride, line, count, hop, leap)``. The vectors of a tile of x lie
    `step` apart, row after row; those of a row of y `stride` apart, rows `line`. The next tile is `hop` and `leap`
    further. `work` has room for ``len(down)`` rows of a tile of x. With `finish` it is called with two more arguments,
    adds the vector `shift` and raises what is below the vector `floor` to it.

    (A call for each matrix of each tile, of some 8 ns, took 4% of a layer of 64 channels.)
    """
    wide, high = len(across[0]), len(down)

    def codegen(context, builder, sig, args):
        lanes = Vector(sig.args[0].dtype).count
        data, between, goal = (emit.data_of(context, builder, sig.args[k], args[k]) for k in (0, 3, 4))
        _, at, step, _, _, to, stride, line, count, hop, leap, *finishing = args
        pitch, vector, row = builder.mul(step, emit.INT(wide)), emit.INT(lanes), emit.INT(wide * lanes)
        with cgutils.for_range(builder, count) as loop:
            source = builder.gep(data, [builder.add(at, builder.mul(loop.index, hop))])
            target = builder.gep(goal, [builder.add(to, builder.mul(loop.index, leap))])
            _emit_map(builder, down, lanes, source, pitch, between, row, emit.INT(wide), step, vector)
            _emit_map(builder, across, lanes, between, vector, target, stride, emit.INT(high), row, line, finishing)
        return context.get_dummy_value()

    place = types.int64

    if finish:

        @intrinsic
        def map_tiles_and_finish(typingctx, x, at, step, work, y, to, stride, line, count, hop, leap, shift, floor):
            return types.void(x, place, place, work, y, *[place] * 6, shift, floor), codegen

        return map_tiles_and_finish

    @intrinsic
    def map_tiles(typingctx, x, at, step, work, y, to, stride, line, count, hop, leap):
        return types.void(x, place, place, work, y, *[place] * 6), codegen

    return map_tiles


def _emit_map(builder, matrix, lanes, source, step, target, stride, count, hop, leap, finishing=()) -> None:
    """Emit `count` products of a matrix and vectors that are read from a pointer on and written from another on; and
    what makes them results, if there are a shift and a floor."""
    # Places are worked out for the first round only: each further round adds one distance to all of them.
    sources = [builder.gep(source, [place]) for place in emit.steps(builder, emit.INT(0), step, len(matrix[0]))]
    targets = [builder.gep(target, [place]) for place in emit.steps(builder, emit.INT(0), stride, len(matrix))]
    with cgutils.for_range(builder, count) as loop:
        away, beyond = builder.mul(loop.index, hop), builder.mul(loop.index, leap)
        vectors = [emit.load(builder, source, away, lanes) for source in sources]
        for target, value in zip(targets, _product(builder, matrix, vectors), strict=True):
            if finishing:
                value = emit.clamped(builder, builder.fadd(value, finishing[0]), finishing[1])
            emit.store(builder, value, target, beyond)


def operations(matrix: tuple[Row, ...]) -> int:
    """Vector instructions of a product, for estimates of its time."""
    kept, columns = _columns_in_pairs(matrix)
    pairs, single = _rows_in_pairs(kept)
    rows = [row for *_, even, odd in pairs for row in (even, odd)] + [kept[i] for i in single]
    return 2 * len(columns) + 2 * len(pairs) + sum(map(_work, rows))


def _product(builder, matrix, vectors):
    """Emit matrix @ vectors: a vector for each row."""
    matrix, columns = _columns_in_pairs(matrix)
    vectors = list(vectors)
    for p, q in columns:
        vectors[p], vectors[q] = builder.fadd(vectors[p], vectors[q]), builder.fsub(vectors[p], vectors[q])
    results = [None] * len(matrix)
    pairs, single = _rows_in_pairs(matrix)
    for p, q, even, odd in pairs:
        sums, differences = _dot(builder, even, vectors), _dot(builder, odd, vectors)
        results[p], results[q] = builder.fadd(sums, differences), builder.fsub(sums, differences)
    for i in single:
        results[i] = _dot(builder, matrix[i], vectors)
    return results


def _columns_in_pairs(matrix: tuple[Row, ...]) -> tuple[tuple[Row, ...], list[tuple[int, int]]]:
    """Pairs of columns that are equal or opposite in every row, and the matrix for their sums and differences."""
    rows, pairs = [list(row) for row in matrix], []
    taken: set[int] = set()
    for p, q in combinations(range(len(rows[0])), 2):
        same = all(abs(row[p]) == abs(row[q]) for row in rows)
        if same and not {p, q} & taken and sum(bool(row[p]) for row in rows) > 2:
            taken |= {p, q}
            pairs.append((p, q))
            for row in rows:
                row[p], row[q] = (row[p] + row[q]) / 2, (row[p] - row[q]) / 2
    return tuple(map(tuple, rows)), pairs


def _rows_in_pairs(matrix: tuple[Row, ...]) -> tuple[list[tuple[int, int, Row, Row]], list[int]]:
    """Pairs of rows that are cheaper as sum and difference of two others, the best first; and the rows left over."""
    gains = []
    for p, q in combinations(range(len(matrix)), 2):
        both = list(zip(matrix[p], matrix[q], strict=True))
        even, odd = tuple((a + b) / 2 for a, b in both), tuple((a - b) / 2 for a, b in both)
        if any(even) and any(odd):
            gains.append((_work(matrix[p]) + _work(matrix[q]) - _work(even) - _work(odd) - 2, p, q, even, odd))
    pairs: list[tuple[int, int, Row, Row]] = []
    left = set(range(len(matrix)))
    for gain, p, q, even, odd in sorted(gains, key=lambda found: -found[0]):
        if gain > 0 and {p, q} <= left:
            left -= {p, q}
            pairs.append((p, q, even, odd))
    return pairs, sorted(left)


def _work(row: Row) -> int:
    """Instructions of a dot product: the first term is free if its factor is one."""
    entries = [abs(value) for value in row if value]
    return len(entries) - (1 in entries)


def _dot(builder, row: Row, vectors):
    """Sum of row[i] * vectors[i]; terms with factor one first, which need no multiplication."""
    terms = sorted(((value, vector) for value, vector in zip(row, vectors, strict=True) if value),
                   key=lambda term: (term[0] != 1, abs(term[0]) != 1))
    kind = vectors[0].type
    if not terms:
        return ir.Constant(kind, None)
    total = None
    for value, vector in terms:
        factor = ir.Constant(kind, [kind.element(float(value))] * kind.count)
        if total is None:
            total = vector if value == 1 else builder.fmul(vector, factor)
        elif abs(value) == 1:
            total = builder.fadd(total, vector) if value == 1 else builder.fsub(total, vector)
        else:
            total = emit.fma(builder, vector, factor, total)
    return total
