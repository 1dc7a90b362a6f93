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
from ..shared.places import NARROW, Axes, dot, indices, joined
from ..shared.pooling import above, nothing
from ..shared.sums import added
from ..system.kernels import FLOAT64, cuda, device_function, factory, integers, pick, pointer, scalar
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
    table, offsets = stream.upload(places), stream.upload(places @ np.array(steps, np.int64))
    kernel = _dense(op, x.dtype, weights.dtype, out.dtype, modes, order, rule, divisor != 1, out.size >= NARROW)
    stream.launch(
        kernel, -(-out.size // (BLOCK * EACH)), BLOCK, x.pointer, out.pointer, weights.pointer, table.pointer,
        offsets.pointer, fill, divisor, sizes, steps, out_steps, tuple(low.tolist()), tuple(high.tolist()),
        (out.size, len(taps.places)),
    )


def _arranged(x: Tensor, out: Tensor, taps: Taps) -> tuple[tuple, tuple, tuple, tuple[str, ...], list[int]]:
    """Sizes, steps and modes of the axes, of which those without a window are joined where they can be, and which of
    the window's axes each is."""
    found: list[tuple[Axes, str, int]] = []
    between: list[Axes] = []
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


# -- windows --------------------------------------------------------------------------------------------------


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
def _taken(op: str, dtype: np.dtype, kind: np.dtype, order: str):
    """Functions that take a tap into a total with what it has lost: a value, an element of an image, and four of these.
    """
    number, grow, better, load = kind.type, added(kind), above(op), widen(dtype, kind)
    picks, in_order = op != "sum", order == "listed"

    @device_function
    def value(total, lost, weight, element):
        if picks:
            return (element if better(element, total) or element != element else total), lost
        if in_order:
            return plus(total, times(weight, element)), lost
        return grow(total, lost, number(weight * element))

    @device_function
    def one(total, lost, x, start, offsets, weights, t):
        return value(total, lost, weights[t], load(x[start + offsets[t]]))

    @device_function
    def four(total, lost, x, start, a, b, c, d, weights, t):
        if picks or in_order:
            total, lost = value(total, lost, weights[t], load(x[start + a]))
            total, lost = value(total, lost, weights[t + 1], load(x[start + b]))
            total, lost = value(total, lost, weights[t + 2], load(x[start + c]))
            return value(total, lost, weights[t + 3], load(x[start + d]))
        part = number(weights[t] * load(x[start + a]))
        part = number(part + weights[t + 1] * load(x[start + b]))
        part = number(part + weights[t + 2] * load(x[start + c]))
        part = number(part + weights[t + 3] * load(x[start + d]))
        return grow(total, lost, part)

    return value, one, four


@factory
def _dense(op, dtype, kind, out_dtype, modes, order, rule, divides, wide):
    rank = len(modes)
    load, settled, number = widen(dtype, kind), settle(kind, out_dtype, rule), kind.type
    index_of, place_of, inside, sought = indices(rank, wide), dot(rank), _within(modes), _sought(modes)
    value, one, four = _taken(op, dtype, kind, order)
    # What loses against every element, or adds nothing.
    nought = nothing("avg" if op == "sum" else op, kind)

    @device_function
    def finished(total, lost, divisor):
        if op == "sum":
            total = number(total + lost)
        return settled(number(total / number(divisor)) if divides else total)

    def dense_filter(x, out, weights, places, offsets, fill, divisor, sizes, steps, out_steps, low, high, counts):
        outputs, taps = counts
        first = np.int64(cuda.blockIdx.x) * (BLOCK * EACH) + cuda.threadIdx.x
        if first >= outputs:
            return
        # An output behind the last is the last one, once more.
        at1, at2, at3 = (min(first + BLOCK, outputs - 1), min(first + 2 * BLOCK, outputs - 1),
                         min(first + 3 * BLOCK, outputs - 1))  # fmt: skip
        i0, i1, i2, i3 = index_of(first, sizes), index_of(at1, sizes), index_of(at2, sizes), index_of(at3, sizes)
        if (inside(i0, sizes, low, high) and inside(i1, sizes, low, high)
                and inside(i2, sizes, low, high) and inside(i3, sizes, low, high)):  # fmt: skip
            x0, x1, x2, x3 = place_of(i0, steps), place_of(i1, steps), place_of(i2, steps), place_of(i3, steps)
            total0, total1, total2, total3 = nought, nought, nought, nought
            lost0, lost1, lost2, lost3 = number(0), number(0), number(0), number(0)
            t = np.int64(0)
            while t + 4 <= taps:
                a, b, c, d = offsets[t], offsets[t + 1], offsets[t + 2], offsets[t + 3]
                total0, lost0 = four(total0, lost0, x, x0, a, b, c, d, weights, t)
                total1, lost1 = four(total1, lost1, x, x1, a, b, c, d, weights, t)
                total2, lost2 = four(total2, lost2, x, x2, a, b, c, d, weights, t)
                total3, lost3 = four(total3, lost3, x, x3, a, b, c, d, weights, t)
                t += 4
            while t < taps:
                total0, lost0 = one(total0, lost0, x, x0, offsets, weights, t)
                total1, lost1 = one(total1, lost1, x, x1, offsets, weights, t)
                total2, lost2 = one(total2, lost2, x, x2, offsets, weights, t)
                total3, lost3 = one(total3, lost3, x, x3, offsets, weights, t)
                t += 1
            # The last output is another thread's, which may find it in the other branch, rounded differently.
            out[place_of(i0, out_steps)] = finished(total0, lost0, divisor)
            if first + BLOCK < outputs:
                out[place_of(i1, out_steps)] = finished(total1, lost1, divisor)
            if first + 2 * BLOCK < outputs:
                out[place_of(i2, out_steps)] = finished(total2, lost2, divisor)
            if first + 3 * BLOCK < outputs:
                out[place_of(i3, out_steps)] = finished(total3, lost3, divisor)
            return
        for at in range(first, min(first + BLOCK * EACH, outputs), BLOCK):
            index, total, lost = index_of(at, sizes), nought, number(0)
            for t in range(taps):
                there, place = sought(index, sizes, steps, places, t * rank)
                element = number(fill)
                if there > 0:
                    element = load(x[place])
                total, lost = value(total, lost, weights[t], element)
            out[place_of(index, out_steps)] = finished(total, lost, divisor)

    several, table = integers(rank), pointer(np.int64)
    signature = pointer(dtype), pointer(out_dtype), pointer(kind), table, table, scalar(kind), FLOAT64
    return (*signature, *(several,) * 5, integers(2)), dense_filter
