"""Toom-Cook algorithms in exact arithmetic, and their transforms in vectors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fastconv.base.toom_cook import Axis, Matrix, axis
from fastconv.cpu.system.kernels import compiled
from fastconv.cpu.tiles import simd
from fastconv.cpu.tiles.linear_map import linear_map, operations

AXES = [
    pytest.param(found, stride, id=f"F({m},{taps})/{stride}")
    for m in (1, 2, 3, 4, 5, 6)
    for taps in (1, 2, 3, 4, 5, 7)
    for stride in (1, 2, 3)
    if (found := axis(m, taps, stride)) is not None
]


def product(matrix: Matrix, vector: list[Fraction]) -> list[Fraction]:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


@pytest.mark.parametrize(("found", "stride"), AXES)
def test_the_algorithm_is_exact(found: Axis, stride: int) -> None:
    taps = len(found.g[0])
    x = [Fraction((7 * i * i + 3) % 11, 3) for i in range(found.length)]
    g = [Fraction((5 * i * i + 2 * i + 1) % 7, 2) for i in range(taps)]
    elements = [a * b for a, b in zip(product(found.g, g), product(found.b, x), strict=True)]
    expected = [sum((g[t] * x[j * stride + t] for t in range(taps)), Fraction(0)) for j in range(found.m)]
    assert product(found.a, elements) == expected
    assert (len(found.a), len(found.g), len(found.b)) == (found.m, found.elements, found.elements)


def test_fewer_multiplications() -> None:
    known = {(2, 3, 1): 4, (4, 3, 1): 6, (4, 5, 1): 8, (4, 7, 1): 10, (4, 3, 2): 9, (4, 7, 2): 13}
    for (m, taps, stride), count in known.items():
        found = axis(m, taps, stride)
        assert found is not None
        assert found.elements == count
    assert axis(8, 8, 1) is None
    assert axis(2, 3, 3) is None


@pytest.mark.parametrize("name", ["a", "g", "b"])
@pytest.mark.parametrize(("found", "stride"), [p for p in AXES if p.id in ("F(4,3)/1", "F(4,5)/1", "F(2,3)/2")])
def test_a_transform_in_vectors(found: Axis, stride: int, name: str) -> None:
    matrix = getattr(found, name)
    lanes = simd.lanes(np.float64)
    transform, count = linear_map(matrix), 3

    @compiled(key=(matrix,))
    def call(x, y, hop, leap):
        transform(x, lanes, 2 * lanes, y, 2 * lanes, lanes, count, hop, leap)

    rows, columns = len(matrix), len(matrix[0])
    x = np.random.default_rng(0).standard_normal((count, 2 * columns + 1, lanes))
    y = np.full((count, rows + 4, lanes), 7.0)
    call(x.reshape(-1), y.reshape(-1), x[0].size, y[0].size)
    expected = np.array([[float(value) for value in row] for row in matrix]) @ x[:, 1::2]
    np.testing.assert_allclose(y[:, 2:-2], expected, rtol=1e-13, atol=1e-13)
    assert (y[:, :2] == 7).all()
    assert (y[:, -2:] == 7).all()
    assert 0 < operations(matrix) <= rows * columns


def test_outlines_of_winograd() -> None:
    """What planning knows of an algorithm is what its matrices tell, but for what phases have in common."""
    from fastconv.base.toom_cook import axis
    from fastconv.cpu.shared.winograd_blocking import SIZES
    from fastconv.cpu.shared.winograd_outline import MOST_ELEMENTS, outline
    from fastconv.cpu.tiles.linear_map import operations

    for m in SIZES:
        for taps in range(2, 17):
            for stride in range(1, 5):
                exact, told = axis(m, taps, stride), outline(m, taps, stride)
                if exact is None or exact.elements > MOST_ELEMENTS or exact.elements >= m * taps:
                    assert told is None
                    continue
                assert told is not None
                assert told.exact() is exact
                assert told.elements == exact.elements == exact.length
                assert told.amplification == pytest.approx(exact.amplification, rel=1e-6)
                assert told.into == operations(exact.b)
                assert 0.85 * told.outof <= operations(exact.a) <= told.outof
                if stride == 1:
                    assert told.outof == operations(exact.a)
