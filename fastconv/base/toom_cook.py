"""Toom-Cook's short correlations, the one-dimensional parts of Winograd's convolution.

``F(m, r)`` computes m outputs of a correlation with r taps in m + r - 1 multiplications instead of m * r::

    y[j] = sum over t of g[t] * x[j + t]        y = A (G g * B x)        * element by element

Two polynomials are multiplied by multiplying their values at m + r - 1 points, of which one is infinity. G and the
transpose of A evaluate them there, and the inverse interpolates; transposing the three maps turns the product into a
correlation. The points decide the rounding error, which grows quickly with their number.

A correlation with a stride is split first. Taps whose positions have one remainder of division by the stride see every
stride-th input, as a correlation of their own with stride 1. Their elements are stacked, and A adds them up::

    y[j] = sum over t of g[t] * x[j * stride + t]        e.g. 3 taps, stride 2: F(m, 2) on even x, m products on odd x

Sources: Winograd, Arithmetic complexity of computations, 1980; Barabasz, Anderson, Soodhalter and Gregg, Error analysis
and improving the accuracy of Winograd convolution for deep neural networks, arXiv:1803.10986, for the points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

Matrix = tuple[tuple[Fraction, ...], ...]

#: Finite points, by their number: among small sets of simple fractions, the ones with the least error in float32.
#: (With 0, 1, -1, 2, -2, which most libraries take for F(4, 3), the error is 2.5 times that with 0, 1, -1, 1/2, -2.)
POINTS = {
    0: "",
    1: "0",
    2: "0 1",
    3: "0 1 -1",
    4: "0 1 -1 -1/2",
    5: "0 1 -1 1/2 -2",
    6: "0 1 -1 2 -2 -1/2",
    7: "0 1 -1 2 -2 1/2 -1/2",
    8: "0 1 -1 2 -2 1/2 -1/2 -3/4",
    9: "0 1 -1 2 -2 1/2 -1/2 3/2 -2/3",
}


@dataclass(frozen=True, eq=False)
class Axis:
    """The computation of one axis of a convolution: ``y = A (G g * B x)``.

    The function `axis` makes each object once, and an object equals itself only: comparing fractions would take longer
    than a call.
    """

    m: int
    """Outputs of a tile."""
    elements: int
    """Multiplications of a tile."""
    length: int
    """Inputs of a tile."""
    a: Matrix
    """Matrix A: m x elements."""
    g: Matrix
    """Matrix G: elements x taps."""
    b: Matrix
    """Matrix B: elements x length."""
    amplification: float
    """Size of the terms added up in A, relative to the outputs, for random inputs: how much rounding errors grow."""


@lru_cache(maxsize=1024)
def axis(m: int, taps: int, stride: int) -> Axis | None:
    """The algorithm for m outputs of a correlation; None where it saves nothing or needs more points than known."""
    if stride >= taps > 1:
        return None
    length = stride * (m - 1) + taps
    a: list[list[Fraction]] = [[] for _ in range(m)]
    g, b = [], []
    for phase in range(min(stride, taps)):
        own = range(phase, taps, stride)
        if m + len(own) - 2 not in POINTS:
            return None
        part_a, part_g, part_b = _unit_stride(m, len(own))
        for row, added in zip(a, part_a, strict=True):
            row += added
        g += [_spread(row, own, taps) for row in part_g]
        b += [_spread(row, range(phase, length, stride), length) for row in part_b]
    sizes = [_square(g_row) * _square(b_row) for g_row, b_row in zip(g, b, strict=True)]
    grown = sum(sum(value**2 * size for value, size in zip(row, sizes, strict=True)) for row in a)
    amplification = math.sqrt(float(grown) / (m * taps))
    return Axis(m, len(g), length, _frozen(a), _frozen(g), _frozen(b), amplification)


def _frozen(rows: list[list[Fraction]]) -> Matrix:
    return tuple(map(tuple, rows))


def _square(row: list[Fraction]) -> Fraction:
    return sum((value**2 for value in row), Fraction(0))


def _spread(row: list[Fraction], places: range, length: int) -> list[Fraction]:
    """A row of `length` elements with the given values at some places and zeros elsewhere."""
    result = [Fraction(0)] * length
    for place, value in zip(places, row, strict=False):
        result[place] = value
    return result


def _unit_stride(m: int, taps: int) -> tuple[list[list[Fraction]], list[list[Fraction]], list[list[Fraction]]]:
    """The matrices A, G and B of F(m, taps); B has small integers, the fractions are in G."""
    points = [Fraction(point) for point in POINTS[m + taps - 2].split()]
    size = len(points) + 1

    def values(coefficients: int) -> list[list[Fraction]]:
        """The matrix that evaluates a polynomial of so many coefficients at all points, infinity last."""
        finite = [[point**power for power in range(coefficients)] for point in points]
        return [*finite, [Fraction(int(power == coefficients - 1)) for power in range(coefficients)]]

    a, g = [list(column) for column in zip(*values(m), strict=True)], values(taps)
    b = [list(column) for column in zip(*_inverse(values(size)), strict=True)]
    for row_b, row_g in zip(b, g, strict=True):
        common = math.lcm(*(value.denominator for value in row_b))
        scale = Fraction(common, math.gcd(*(int(value * common) for value in row_b)))
        row_b[:] = [value * scale for value in row_b]
        row_g[:] = [value / scale for value in row_g]
    return a, g, b


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """The inverse of a matrix by Gauss-Jordan elimination; it exists because the points differ."""
    size = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(size):
            if k != i and rows[k][i]:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[size:] for row in rows]
