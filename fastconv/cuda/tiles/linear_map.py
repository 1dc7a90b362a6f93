"""Products with small constant matrices: additions and as few multiplications as possible; zeros cost nothing."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numba import types

from ...base.toom_cook import Matrix
from ..system.kernels import SIMULATED


@cache
def transform(down: Matrix, across: Matrix) -> Any:
    """Make the function that puts ``down @ source @ across.T`` into `target`.

    Both are flat local arrays of floats in C order. All indices are constants, so the arrays live in registers.
    """
    return _transform(tuple(map(_terms, down)), tuple(map(_terms, across)), len(down[0]), len(across[0]))


def _terms(row: tuple[Fraction, ...]) -> tuple[tuple[int, float], ...]:
    return tuple((place, float(value)) for place, value in enumerate(row) if value)


if SIMULATED:

    def _transform(down: Any, across: Any, height: int, width: int) -> Any:
        def apply(source: Any, target: Any) -> None:
            number = source.dtype.type
            half = [[sum(number(f) * source[k * width + j] for k, f in row) for j in range(width)] for row in down]
            for i, values in enumerate(half):
                for j, row in enumerate(across):
                    target[i * len(across) + j] = np.add.reduce([number(f) * values[k] for k, f in row])

        return apply

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    def _sum(builder, terms, values):
        """The sum of terms: one with factor 1, if there is one, comes first; factors of -1 are subtractions."""
        total = None
        for place, factor in sorted(terms, key=lambda term: term[1] != 1):
            value = values[place]
            if total is None:
                total = value if factor == 1 else builder.fmul(value, ir.Constant(value.type, factor))
                continue
            if abs(factor) != 1:
                value = builder.fmul(value, ir.Constant(value.type, abs(factor)))
            total = builder.fadd(total, value) if factor > 0 else builder.fsub(total, value)
        return total

    def _transform(down: Any, across: Any, height: int, width: int) -> Any:
        @intrinsic
        def apply(typingctx, source, target):
            def emit(context, builder, signature, args):
                start, end = (context.make_array(kind)(context, builder, array).data
                              for kind, array in zip(signature.args, args, strict=True))

                def at(data, place):
                    return builder.gep(data, [ir.Constant(ir.IntType(64), place)])

                columns = [[builder.load(at(start, i * width + j)) for i in range(height)] for j in range(width)]
                half = [[_sum(builder, row, column) for column in columns] for row in down]
                for i, values in enumerate(half):
                    for j, row in enumerate(across):
                        builder.store(_sum(builder, row, values), at(end, i * len(across) + j))
                return context.get_dummy_value()

            return types.void(source, target), emit

        return apply
