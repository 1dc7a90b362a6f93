"""Fourier transforms in lanes: each lane of a vector has a transform of its own, so that no element changes its lane.

The elements of a transform are vectors `stride` apart, their real parts at `at` and their imaginary ones `imaginary`
behind them. A transform of n = r * m elements is m short ones of r elements, in registers, factors for their results,
and r transforms of m elements (Gentleman and Sande's decimation in frequency)::

    down:  y[q * m + j] = exp(-2 pi i * j * q / n) * sum over k < r of exp(-2 pi i * k * q / r) * x[j + k * m]

Results stay where their elements were, so the frequencies come out in the order of their reversed digits. That does not
matter: the weights are in that order, too, and the inverse, `up`, goes through the steps of `down` backwards. Both
together multiply by n.

The last step of `down` has no factors. In `filtered` its results stay in registers, are multiplied by weights, and take
the first step of `up`.

A step, with all its short transforms, is a micro-kernel, and a transform is a table of steps: only the radices that
some size needs are ever compiled, each once.

Source: Van Loan, Computational Frameworks for the Fast Fourier Transform, 1992.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..system import micro
from ..system.building import intrinsic
from ..system.kernels import jit
from . import emit
from .simd import Vector

#: Elements of the last step: with their sums they fill 32 registers.
LAST = 8


def radices(size: int) -> tuple[int, ...]:
    """The steps of a transform before the last: factors of size / LAST, which has no prime factors above 5."""
    rest, steps = size // LAST, []
    for odd in (5, 3):
        while rest % odd == 0:
            steps.append(odd)
            rest //= odd
    twos = rest.bit_length() - 1
    while twos:
        taken = {1: 1, 2: 2, 4: 2}.get(twos, 3)
        steps.append(1 << taken)
        twos -= taken
    return tuple(steps)


class Transform(NamedTuple):
    """The transform of one size, as `down` and `up` take it."""

    steps: np.ndarray
    """(steps, 4): the addresses of a step down and up, the length of its transforms, and where its factors begin."""
    factors: np.ndarray
    """The factors in the order of the steps: for each j those of q = 1 .. r - 1, real and imaginary."""


@lru_cache(maxsize=128)
def transform(size: int, dtype: np.dtype) -> Transform:
    """The transform of so many elements, a multiple of the lanes of a vector."""
    steps, parts, length, first = [], [np.empty(0)], size, 0
    for radix in radices(size):
        m = length // radix
        angles = -2 * np.pi / length * np.outer(np.arange(m), np.arange(1, radix))
        parts.append(np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(-1))
        steps.append((*_step_addresses(radix, False, dtype), length, first))
        length, first = m, first + parts[-1].size
    steps.append((*_step_addresses(LAST, True, dtype), LAST, first))
    return Transform(np.array(steps, np.int64), np.concatenate(parts).astype(dtype))


def _step_addresses(radix: int, last: bool, dtype: np.dtype) -> tuple[int, int]:
    row, place = micro.array(dtype), micro.PLACE
    types_ = row, *[place] * 5, row, place
    down, up = (micro.address(step, (radix, is_down, last), types_) for is_down in (True, False))
    return down, up


def filtered_address(dtype: np.dtype) -> int:
    """Address of the micro-kernel `filtered`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    return micro.address(filtered, (), (row, *[place] * 4, row, place))


# -- in registers --------------------------------------------------------------------------------------------

Complex = tuple[ir.Value, ir.Value]


def _transformed(builder, values: list[Complex], sign: int) -> list[Complex]:
    """The transform of a few elements, with exp(sign * 2 pi i / n)."""
    n = len(values)
    if n == 1:
        return values
    if n % 2:
        return _odd(builder, values, sign)
    even, odd = (_transformed(builder, values[first::2], sign) for first in (0, 1))
    pairs = [_rotated_sums(builder, even[q], odd[q], q * 8 // n, sign) for q in range(n // 2)]
    return [pair[0] for pair in pairs] + [pair[1] for pair in pairs]


def _rotated_sums(builder, a: Complex, b: Complex, eighths: int, sign: int) -> tuple[Complex, Complex]:
    """a + w b and a - w b, where w is so many eighths of a turn."""
    plus, minus = (builder.fadd, builder.fsub) if sign > 0 else (builder.fsub, builder.fadd)
    if eighths == 0:
        return (
            (builder.fadd(a[0], b[0]), builder.fadd(a[1], b[1])),
            (builder.fsub(a[0], b[0]), builder.fsub(a[1], b[1])),
        )
    if eighths == 2:
        return (minus(a[0], b[1]), plus(a[1], b[0])), (plus(a[0], b[1]), minus(a[1], b[0]))
    # w = sqrt(1/2) (1 + sign i), or sqrt(1/2) (-1 + sign i): then b rotated by the conjugate of the first, negative.
    rotated = (
        (minus(b[0], b[1]), plus(b[1], b[0])) if eighths == 1 else (plus(b[0], b[1]), minus(b[1], b[0]))
    )
    scales = [_constant(a[0].type, scale) for scale in (math.sqrt(0.5), -math.sqrt(0.5))]
    sums = [
        tuple(emit.fma(builder, scale, part, start) for part, start in zip(rotated, a, strict=True)) for scale in scales
    ]
    return (sums[0], sums[1]) if eighths == 1 else (sums[1], sums[0])


def _odd(builder, values: list[Complex], sign: int) -> list[Complex]:
    """The transform of an odd number of elements: cosines times sums of opposite ones, sines times differences."""
    n, half, first = len(values), len(values) // 2, values[0]
    pairs = [(values[k], values[n - k]) for k in range(1, half + 1)]
    sums = [tuple(map(builder.fadd, *pair)) for pair in pairs]
    differences = [tuple(map(builder.fsub, *pair)) for pair in pairs]
    total = first
    for pair_sum in sums:
        total = tuple(map(builder.fadd, total, pair_sum))
    results = [total] * n
    for q in range(1, half + 1):
        even, odd = list(first), list(first)
        for k in range(1, half + 1):
            angle = 2 * math.pi * (k * q % n) / n
            cosine, sine = (_constant(first[0].type, value) for value in (math.cos(angle), math.sin(angle)))
            for part in (0, 1):
                even[part] = emit.fma(builder, cosine, sums[k - 1][part], even[part])
                value = differences[k - 1][part]
                odd[part] = builder.fmul(sine, value) if k == 1 else emit.fma(builder, sine, value, odd[part])
        results[q], results[n - q] = _rotated_sums(builder, tuple(even), tuple(odd), 2, sign)
    return results


def _constant(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [kind.element(value)] * kind.count)


def _times(builder, value: Complex, factor: Complex, conjugate: bool = False) -> Complex:
    """The product of a value and a factor, or its conjugate."""
    (a, b), (c, d) = value, factor
    crossed, straight = builder.fmul(b, d), builder.fmul(a, d)
    if conjugate:
        return emit.fma(builder, a, c, crossed), emit.fma(builder, b, c, builder.fneg(straight))
    return emit.fma(builder, a, c, builder.fneg(crossed)), emit.fma(builder, b, c, straight)


class _Elements:
    """Some complex elements, vectors `step` apart in memory."""

    def __init__(self, builder, data: ir.Value, at: ir.Value, step: ir.Value, imaginary: ir.Value, radix: int) -> None:
        self.builder, self.data = builder, data
        reals = [builder.add(at, builder.mul(step, emit.INT(k))) for k in range(radix)]
        self.places = [(place, builder.add(place, imaginary)) for place in reals]

    def load(self, count: int) -> list[Complex]:
        return [tuple(emit.load(self.builder, self.data, part, count) for part in place) for place in self.places]

    def store(self, values: list[Complex]) -> None:
        for place, value in zip(self.places, values, strict=True):
            for part, vector in zip(place, value, strict=True):
                emit.store(self.builder, vector, self.data, part)


# -- micro-kernels -------------------------------------------------------------------------------------------


def step(radix: int, down: bool, last: bool) -> Any:
    """A micro-kernel that makes all short transforms of a step, in place.

    It is called as ``step(memory, at, stride, imaginary, size, length, factors, first)``: the `size` elements are
    transforms of `length` elements each, with factors from `first` on. The last step has no factors.
    """

    @intrinsic
    def short_transforms(typingctx, memory, at, stride, imaginary, size, length, factors, first):
        count = Vector(memory.dtype).count

        def codegen(context, builder, sig, args):
            memory_, at_, stride_, behind, size_, length_, factors_, first_ = args
            data, table = (
                emit.data_of(context, builder, memory, memory_),
                emit.data_of(context, builder, factors, factors_),
            )
            m = builder.sdiv(length_, emit.INT(radix))
            hop = builder.mul(m, stride_)
            with (
                cgutils.for_range_slice(builder, emit.INT(0), size_, length_) as (begin, _),
                cgutils.for_range(builder, m) as loop,
            ):
                start = builder.add(at_, builder.mul(builder.add(begin, loop.index), stride_))
                elements = _Elements(builder, data, start, hop, behind, radix)
                numbers = builder.add(first_, builder.mul(loop.index, emit.INT(2 * (radix - 1))))
                here = builder.gep(table, [numbers])

                def factor(q: int) -> Complex:
                    parts = (builder.load(builder.gep(here, [emit.INT(2 * q - 2 + part)])) for part in (0, 1))
                    return tuple(emit.splat(builder, part, count) for part in parts)

                values = elements.load(count)
                if not (last or down):
                    values[1:] = [_times(builder, values[q], factor(q), True) for q in range(1, radix)]
                values = _transformed(builder, values, -1 if down else 1)
                if down and not last:
                    values[1:] = [_times(builder, values[q], factor(q)) for q in range(1, radix)]
                elements.store(values)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(memory, *[integer] * 5, factors, integer), codegen

    return short_transforms


def filtered() -> Any:
    """A micro-kernel for the last step of `down`, a product with weights, and the first step of `up`, in place.

    It is called as ``filtered(memory, at, stride, imaginary, size, weights, first)``. The weights are pairs of vectors,
    real and imaginary, one for each of the `size` elements, from `first` on.
    """

    @intrinsic
    def multiplied(typingctx, memory, at, stride, imaginary, size, weights, first):
        count = Vector(memory.dtype).count

        def codegen(context, builder, sig, args):
            memory_, at_, stride_, behind, size_, weights_, first_ = args
            data, table = (
                emit.data_of(context, builder, memory, memory_),
                emit.data_of(context, builder, weights, weights_),
            )
            with cgutils.for_range_slice(builder, emit.INT(0), size_, emit.INT(LAST)) as (begin, _):
                start = builder.add(at_, builder.mul(begin, stride_))
                elements = _Elements(builder, data, start, stride_, behind, LAST)
                here = builder.gep(table, [builder.add(first_, builder.mul(begin, emit.INT(2 * count)))])
                values = _transformed(builder, elements.load(count), -1)
                for q in range(LAST):
                    weight = tuple(emit.load(builder, here, emit.INT((2 * q + part) * count), count) for part in (0, 1))
                    values[q] = _times(builder, values[q], weight)
                elements.store(_transformed(builder, values, 1))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(memory, *[integer] * 4, weights, integer), codegen

    return multiplied


# -- whole transforms ----------------------------------------------------------------------------------------

#: Columns of `Transform.steps`.
DOWN, UP, LENGTH, FIRST = range(4)


@jit
def down(memory, at, stride, imaginary, steps, count, factors):
    """Transform: go through the first `count` steps."""
    size = steps[0, LENGTH]
    for k in range(count):
        length, first = steps[k, LENGTH], steps[k, FIRST]
        micro.call(steps[k, DOWN], memory, at, stride, imaginary, size, length, factors, first)


@jit
def up(memory, at, stride, imaginary, steps, count, factors):
    """Transform back: go through the first `count` steps backwards."""
    size = steps[0, LENGTH]
    for k in range(count - 1, -1, -1):
        length, first = steps[k, LENGTH], steps[k, FIRST]
        micro.call(steps[k, UP], memory, at, stride, imaginary, size, length, factors, first)
