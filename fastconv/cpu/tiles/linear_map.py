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


def map_address(matrix: tuple[Row, ...], dtype: np.dtype, *, finish: bool = False) -> int:
    """Address of the micro-kernel `linear_map`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    vectors = (Vector(row.dtype),) * 2 if finish else ()
    types_ = row, place, place, row, place, place, *[place] * 3, *vectors
    return micro.address(linear_map, (matrix, finish), types_)


def linear_map(matrix: tuple[Row, ...], finish: bool) -> Any:
    """A micro-kernel that multiplies vectors by a constant matrix, `count` times.

    It is called as ``f(x, at, step, y, to, stride, count, hop, leap)``: it reads vectors of x at `at`, `at + step`,
    ..., writes vectors of y at `to`, `to + stride`, ..., and goes on `hop` and `leap` further. With `finish` it is
    called as ``f(x, at, step, y, to, stride, count, hop, leap, shift, floor)``, adds the vector `shift` and raises what
    is below the vector `floor` to it.
    """

    def codegen(context, builder, sig, args):
        x, at, step, y, to, stride, count, hop, leap, *finishing = args
        lanes = Vector(sig.args[0].dtype).count
        data, goal = (emit.data_of(context, builder, kind, one) for kind, one in ((sig.args[0], x), (sig.args[3], y)))
        # Places are worked out for the first round only: each further round adds one distance to all of them.
        sources = [builder.gep(data, [place]) for place in emit.steps(builder, at, step, len(matrix[0]))]
        targets = [builder.gep(goal, [place]) for place in emit.steps(builder, to, stride, len(matrix))]
        with cgutils.for_range(builder, count) as loop:
            away, beyond = builder.mul(loop.index, hop), builder.mul(loop.index, leap)
            vectors = [emit.load(builder, source, away, lanes) for source in sources]
            for target, value in zip(targets, _product(builder, matrix, vectors), strict=True):
                if finish:
                    shift, floor = finishing
                    value = emit.clamped(builder, builder.fadd(value, shift), floor)
                emit.store(builder, value, target, beyond)
        return context.get_dummy_value()

    places = types.int64, types.int64

    if finish:

        @intrinsic
        def map_and_finish(typingctx, x, at, step, y, to, stride, count, hop, leap, shift, floor):
            return types.void(x, *places, y, *places, types.int64, *places, shift, floor), codegen

        return map_and_finish

    @intrinsic
    def map_vectors(typingctx, x, at, step, y, to, stride, count, hop, leap):
        return types.void(x, *places, y, *places, types.int64, *places), codegen

    return map_vectors


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
