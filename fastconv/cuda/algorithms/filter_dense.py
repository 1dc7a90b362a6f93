"""Filters of any window along up to 8 axes: sums of products, or maxima and minima over a footprint.

::

    out[i, j, ..] = sum over t of weight[t] * x[source(i + place[t, 0]), source(j + place[t, 1]), ..]

and for maxima and minima in place of the sum the largest or smallest element. A thread makes EACH outputs, BLOCK apart,
so that neighbouring threads have neighbouring outputs. Where all windows of a thread lie inside the image, a tap is
read at an offset that depends on the tap alone, and the tap's table and weight serve EACH outputs. Elsewhere each axis
asks for itself what lies beyond its rim; the modes are constants of the compiled code.

It does everything; the work grows with the number of taps. Not measured yet on a GPU.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from ..shared.boundaries import source
from ..shared.lines import joined
from ..shared.pooling import above
from ..shared.sums import added
from ..system.kernels import FLOAT64, INT64, cuda, device_function, factory, integers, pick, pointer, scalar
from ..system.streams import Buffer, Stream, Tensor
from ..tiles.elements import widen
from ..tiles.rounding import plus, settle, times

BLOCK = pick(256, 4)
#: Outputs of a thread, written out in the kernel.
EACH = 4


class Taps(NamedTuple):
    """A window: for each axis that it moves along, by number, its boundary mode; and the taps' places along these."""

    axes: tuple[int, ...]
    boundaries: tuple[str, ...]
    places: np.ndarray
    """int64, taps by axes: positions from the output's."""


def run(
    x: Tensor, out: Tensor, taps: Taps, weights: Buffer, op: str, order: str, fill: float, divisor: float, rule: str,
    stream: Stream,
) -> None:
    """Filter by the operation "sum", "max" or "min"; `weights` have the dtype that is computed in."""
    sizes, steps, out_steps, modes, columns = _arranged(x, out, taps)
    places = np.zeros((max(1, len(taps.places)), len(sizes)), np.int64)
    for number, column in enumerate(columns):
        if column >= 0 and len(taps.places):
            places[:, number] = taps.places[:, column]
    low, high = -places.min(0), places.max(0)
    # Behind the places along each axis, the offset in memory of every tap.
    table = stream.upload(np.concatenate([places.reshape(-1), places @ np.array(steps, np.int64)]))
    kind = weights.dtype
    kernel = _dense(op, x.dtype, kind, out.dtype, modes, order, rule, divisor != 1)
    stream.launch(
        kernel, -(-out.size // (BLOCK * EACH)), BLOCK, x.pointer, out.pointer, weights.pointer, table.pointer, fill,
        divisor, sizes, steps, out_steps, tuple(low.tolist()), tuple(high.tolist()), out.size, len(taps.places),
    )


def _arranged(x: Tensor, out: Tensor, taps: Taps) -> tuple[tuple, tuple, tuple, tuple[str, ...], list[int]]:
    """Sizes, steps and modes of the axes, of which those without a window are joined where they can be, and which of
    the window's axes each is."""
    found: list[tuple[tuple[int, int, int], str, int]] = []
    between: list[tuple[int, int, int]] = []
    every = list(zip(x.shape, x.strides, out.strides, strict=True))
    for axis, one in enumerate([*every, None]):
        if one is not None and axis not in taps.axes:
            between.append(one)
            continue
        found += [(each, "", -1) for each in joined(between)]
        between = []
        if one is not None:
            number = taps.axes.index(axis)
            found.append((one, taps.boundaries[number], number))
    found = found or [((1, 0, 0), "", -1)]
    axes, modes, columns = zip(*found, strict=True)
    sizes, steps, out_steps = zip(*axes, strict=True)
    return sizes, steps, out_steps, modes, list(columns)


# -- places of any number of axes -------------------------------------------------------------------------------


@cache
def _indices(rank: int):
    """The function that makes a number the index along each of so many axes."""
    if rank == 1:

        @device_function
        def one(at, sizes):
            return (at,)

        return one
    last, outer = rank - 1, _indices(rank - 1)

    @device_function
    def several(at, sizes):
        return outer(at // sizes[last], sizes) + (at % sizes[last],)

    return several


@cache
def _dot(rank: int):
    """The function that sums the products of two tuples of so many numbers."""
    last = rank - 1
    outer = _dot(last) if last else None

    @device_function
    def alone(a, b):
        return a[0] * b[0]

    @device_function
    def several(a, b):
        return outer(a, b) + a[last] * b[last]

    return several if last else alone


@cache
def _within(modes: tuple[str, ...]):
    """The function that tells whether a window lies inside along the axes that have a mode."""
    last, outer = len(modes) - 1, _within(modes[:-1]) if len(modes) > 1 else None
    has_mode = modes[-1] != ""

    @device_function
    def inside(index, sizes, low, high):
        here = True
        if has_mode:
            here = index[last] >= low[last] and index[last] + high[last] < sizes[last]
        return here and outer(index, sizes, low, high)

    @device_function
    def first(index, sizes, low, high):
        return not has_mode or (index[0] >= low[0] and index[0] + high[0] < sizes[0])

    return inside if last else first


@cache
def _sought(modes: tuple[str, ...]):
    """The function that finds the element that a tap sees; -1 if that is the constant."""
    rank = len(modes)
    last, outer = rank - 1, _sought(modes[:-1]) if rank > 1 else None
    locate, has_mode = source(modes[-1]), modes[-1] != ""

    @device_function
    def offset(index, sizes, steps, table, at):
        position = index[last]
        if has_mode:
            position = locate(position + table[at + last], sizes[last])
        if position < 0:
            return np.int64(-1), np.int64(0)
        return np.int64(1), position * steps[last]

    @device_function
    def several(index, sizes, steps, table, at):
        there, place = outer(index, sizes, steps, table, at)
        here, more = offset(index, sizes, steps, table, at)
        return min(there, here), place + more

    return several if last else offset


# -- kernels -----------------------------------------------------------------------------------------------------


@cache
def _joins(op: str, kind: np.dtype, order: str):
    """The function ``(total, lost, weight, value)`` that takes a tap into a total; and what a total begins with."""
    number, grow, better = kind.type, added(kind), above(op)

    @device_function
    def picked(total, lost, weight, value):
        return (value if better(value, total) or value != value else total), lost

    @device_function
    def summed(total, lost, weight, value):
        return grow(total, lost, number(weight * value))

    @device_function
    def listed(total, lost, weight, value):
        return plus(total, times(weight, value)), lost

    if op != "sum":
        return picked
    return listed if order == "listed" else summed


@factory
def _dense(op, dtype, kind, out_dtype, modes, order, rule, divides):
    rank = len(modes)
    load, store, number = widen(dtype, kind), settle(kind, out_dtype, rule), kind.type
    indices, dot, inside, sought = _indices(rank), _dot(rank), _within(modes), _sought(modes)
    join, adds = _joins(op, kind, order), op == "sum"

    @device_function
    def alone(x, weights, table, fill, index, sizes, steps, taps):
        """The reduction of one window, wherever it lies."""
        start = np.int64(0)
        total, lost = number(0), number(0)
        for t in range(taps):
            there, place = sought(index, sizes, steps, table, t * rank)
            value = fill
            if there > 0:
                value = load(x[start + place])
            if adds or t > 0:
                total, lost = join(total, lost, weights[t], value)
            else:
                total = value
        return number(total + lost) if adds else total

    def dense_filter(x, out, weights, table, fill, divisor, sizes, steps, out_steps, low, high, outputs, taps):
        first = np.int64(cuda.blockIdx.x) * (BLOCK * EACH) + cuda.threadIdx.x
        if first >= outputs:
            return
        # An output behind the last is the last one, once more.
        last, offsets = outputs - 1, taps * rank
        i0, i1 = indices(first, sizes), indices(min(first + BLOCK, last), sizes)
        i2, i3 = indices(min(first + 2 * BLOCK, last), sizes), indices(min(first + 3 * BLOCK, last), sizes)
        total0, total1, total2, total3 = number(0), number(0), number(0), number(0)
        if (inside(i0, sizes, low, high) and inside(i1, sizes, low, high)
                and inside(i2, sizes, low, high) and inside(i3, sizes, low, high)):  # fmt: skip
            x0, x1, x2, x3 = dot(i0, steps), dot(i1, steps), dot(i2, steps), dot(i3, steps)
            lost0, lost1, lost2, lost3 = number(0), number(0), number(0), number(0)
            begin = 0
            if not adds:
                begin, at = 1, table[offsets]
                total0, total1, total2, total3 = load(x[x0 + at]), load(x[x1 + at]), load(x[x2 + at]), load(x[x3 + at])
            for t in range(begin, taps):
                at, weight = table[offsets + t], weights[t]
                total0, lost0 = join(total0, lost0, weight, load(x[x0 + at]))
                total1, lost1 = join(total1, lost1, weight, load(x[x1 + at]))
                total2, lost2 = join(total2, lost2, weight, load(x[x2 + at]))
                total3, lost3 = join(total3, lost3, weight, load(x[x3 + at]))
            if adds:
                total0, total1 = number(total0 + lost0), number(total1 + lost1)
                total2, total3 = number(total2 + lost2), number(total3 + lost3)
        else:
            total0 = alone(x, weights, table, fill, i0, sizes, steps, taps)
            total1 = alone(x, weights, table, fill, i1, sizes, steps, taps)
            total2 = alone(x, weights, table, fill, i2, sizes, steps, taps)
            total3 = alone(x, weights, table, fill, i3, sizes, steps, taps)
        if divides:
            total0, total1 = number(total0 / number(divisor)), number(total1 / number(divisor))
            total2, total3 = number(total2 / number(divisor)), number(total3 / number(divisor))
        out[dot(i0, out_steps)] = store(total0)
        out[dot(i1, out_steps)] = store(total1)
        out[dot(i2, out_steps)] = store(total2)
        out[dot(i3, out_steps)] = store(total3)

    several = integers(rank)
    signature = pointer(dtype), pointer(out_dtype), pointer(kind), pointer(np.int64), scalar(kind), FLOAT64
    return (*signature, *(several,) * 5, INT64, INT64), dense_filter
