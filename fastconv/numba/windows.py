"""Loops that functions inside a caller's ``@njit`` are made of, in plain Numba: no threads, no addresses.

An array is flat here, and an axis of it is seen as (lead, size, inner): the elements of all axes before, its own, and
those behind. It is extended beyond its rims by a copy, in which each tap of a window lies at one distance from the
window's first: a filter is a loop over a long row, whatever the number of axes, and the compiler makes vectors of it.

::

    sums[i] = sum over t of weights[t] * extended[place + offsets[t] + i]

What such a loop gives where a window would run over the end of a row is not used.
"""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import overload

from ..specs.boundary import Boundary
from .parts import OPTIONS, fused_part, part

#: Elements of a block of sums: with an account of what rounding loses, and a part, 12 KiB of float32, in the
#: first-level cache beside the rows that a window sees.
BLOCK = 1024
#: Products that are added up before the sum is put away (`put_away`): with these, and 3 additions of four sums each,
#: sums have at most 10 roundings.
PART = 16

# -- what lies outside ---------------------------------------------------------------------------------------

#: Boundary modes by number, as loops compare them.
CODES = {boundary: code for code, boundary in enumerate(Boundary)}
REFLECT, MIRROR, NEAREST, WRAP, CONSTANT = (CODES[Boundary[name]] for name in (
    "REFLECT", "MIRROR", "NEAREST", "WRAP", "CONSTANT"))  # fmt: skip


@part
def inside(mode, at, size):
    """The place inside an axis of some elements that a place stands for; -1 for the constant's."""
    if 0 <= at < size:
        return at
    if mode == CONSTANT:
        return -1
    if mode == NEAREST:
        return 0 if at < 0 else size - 1
    if mode == WRAP:
        return at % size
    period = 2 * size if mode == REFLECT else max(1, 2 * (size - 1))
    at %= period
    return min(at, period - at - 1 if mode == REFLECT else period - at)


# -- arrays --------------------------------------------------------------------------------------------------


@part
def empty(count, like):
    """A new array of so many elements, of another's dtype."""
    return np.empty(count, like.dtype)


@part
def integers(count, value):
    """A new array of so many equal int64."""
    out = np.empty(count, np.int64)
    fill(out, 0, count, np.int64(value))
    return out


# -- copies --------------------------------------------------------------------------------------------------


@part
def copy(given, at, out, to, count):
    """Copy so many elements, converted."""
    source, target = given[at : at + count], out[to : to + count]
    for i in range(count):
        target[i] = source[i]


@part
def fill(out, to, count, value):
    """Write a value to so many elements."""
    target = out[to : to + count]
    for i in range(count):
        target[i] = value


@part
def extend(given, lead, size, inner, before, behind, mode, constant, out):
    """Copy an array, one axis of which becomes longer: it begins `before` elements earlier, and ends later."""
    long = before + size + behind
    for number in range(lead):
        copy(given, number * size * inner, out, (number * long + before) * inner, size * inner)
        for rim in range(before + behind):
            at = rim - before if rim < before else size + rim - before
            source, to = inside(mode, at, size), (number * long + before + at) * inner
            if source < 0:
                fill(out, to, inner, constant)
            else:
                copy(given, (number * size + source) * inner, out, to, inner)


def stored(value, out):
    """A number as an array stores it: a float that becomes an integer loses its fraction, and wraps as in C."""
    raise NotImplementedError  # only compiled code calls it


@overload(stored, jit_options=OPTIONS)
def _stored(value, out):
    kind = out.dtype
    if not isinstance(value, types.Float) or isinstance(kind, types.Float):
        return lambda value, out: value
    if kind == types.boolean:
        return lambda value, out: stored_low(value, 32) & 255 != 0
    if kind == types.uint64:
        return stored_uint64
    bits = 32 if kind.bitwidth <= 32 and kind != types.uint32 else 64
    return lambda value, out: stored_low(value, bits)


@part
def stored_low(value, bits):
    """A float as an integer of so many bits; the smallest where it does not fit."""
    half = 2.0**31 if bits == 32 else 2.0**63
    if -half <= value < half:
        return np.int64(value)
    return np.int64(-half)


def stored_uint64(value, out):
    """A float as an unsigned integer; what is negative wraps around."""
    if value >= 2.0**63:
        return np.uint64(stored_low(value - 2.0**63, 64)) ^ np.uint64(1 << 63)
    return np.uint64(stored_low(value, 64))


@part
def crop(given, lead, long, size, inner, out):
    """Copy an array, one axis of which becomes shorter: the first `size` of `long` elements stay."""
    for number in range(lead):
        at, to, count = number * long * inner, number * size * inner, size * inner
        source, target = given[at : at + count], out[to : to + count]
        for i in range(count):
            target[i] = stored(source[i], out)


# -- sums of products ----------------------------------------------------------------------------------------


@fused_part
def add_products(sums, count, extended, place, offsets, weights, first, stop):
    """Add the products of the taps from `first` to before `stop`, four at a time."""
    t = first
    while t + 4 <= stop:
        a, b = extended[place + offsets[t] :], extended[place + offsets[t + 1] :]
        c, d = extended[place + offsets[t + 2] :], extended[place + offsets[t + 3] :]
        u, v, w, z = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        for i in range(count):
            sums[i] += (u * a[i] + v * b[i]) + (w * c[i] + z * d[i])
        t += 4
    while t < stop:
        a, u = extended[place + offsets[t] :], weights[t]
        for i in range(count):
            sums[i] += u * a[i]
        t += 1


@part
def put_away(total, lost, some, count):
    """Add sums to totals, with an account of what rounding loses.

    Source: Knuth, The Art of Computer Programming, volume 2, 4.2.2, theorem B.
    """
    for i in range(count):
        new = total[i] + some[i]
        arrived = new - total[i]
        lost[i] += (total[i] - (new - arrived)) + (some[i] - arrived)
        total[i] = new


@part
def sum_products(total, lost, some, count, extended, place, offsets, weights):
    """Write sums of products of floats to `total`; many taps do not lose more than few."""
    taps, zero = weights.size, total.dtype.type(0)
    fill(total, 0, count, zero)
    fill(lost, 0, count, zero)
    for first in range(0, taps, PART):
        sums = some if taps > PART else total
        fill(sums, 0, count, zero)
        add_products(sums, count, extended, place, offsets, weights, first, min(first + PART, taps))
        if taps > PART:
            put_away(total, lost, some, count)
    for i in range(count):
        if lost[i] == lost[i]:  # infinities lose what is no number
            total[i] += lost[i]


@part
def window_sums(extended, last, offsets, weights):
    """Replace each of the first `last` elements by the sum of products of the window that begins there."""
    total, lost, some = empty(BLOCK, extended), empty(BLOCK, extended), empty(BLOCK, extended)
    for place in range(0, last, BLOCK):
        count = min(BLOCK, last - place)
        sum_products(total, lost, some, count, extended, place, offsets, weights)
        copy(total, 0, extended, place, count)


@part
def window_sums_of_integers(extended, last, offsets, weights):
    """`window_sums` of integers of 64 bits, modulo 2**64."""
    total, zero = empty(BLOCK, extended), np.int64(0)
    for place in range(0, last, BLOCK):
        count = min(BLOCK, last - place)
        fill(total, 0, count, zero)
        for t in range(weights.size):
            source, weight = extended[place + offsets[t] :], weights[t]
            for i in range(count):
                total[i] += source[i] * weight
        copy(total, 0, extended, place, count)


@part
def window_sums_in_order(extended, last, offsets, others, sign, weights):
    """`window_sums` in SciPy's order of additions, each product rounded; taps come in pairs where `sign` is not 0.

    Of a pair the second element, times the sign, is added to the first; the first tap is single.
    """
    total, zero = empty(BLOCK, extended), 0.0
    for place in range(0, last, BLOCK):
        count = min(BLOCK, last - place)
        fill(total, 0, count, zero)
        for t in range(weights.size):
            source, other, weight = extended[place + offsets[t] :], extended[place + others[t] :], weights[t]
            if sign == 0 or t == 0:
                for i in range(count):
                    total[i] += source[i] * weight
            else:
                for i in range(count):
                    total[i] += (source[i] + sign * other[i]) * weight
        copy(total, 0, extended, place, count)


# -- one of two numbers, and shapes -------------------------------------------------------------------------


@part
def further(one, other, largest):
    """The larger or the smaller of two numbers; NaN if one is."""
    if largest:
        return one if one >= other or one != one else other
    return one if one <= other or one != one else other


@part
def sizes(shape):
    """A shape as an array."""
    found = integers(len(shape), 0)
    for axis in range(len(shape)):
        found[axis] = shape[axis]
    return found


@part
def product(numbers, first, stop):
    """The product of some numbers of an array."""
    found = np.int64(1)
    for number in numbers[first:stop]:
        found *= number
    return found


@part
def front(taps, origin):
    """The taps of a window that lie before its output."""
    if not -(taps // 2) <= origin <= (taps - 1) // 2:
        raise ValueError("origin must satisfy -(size // 2) <= origin <= (size - 1) // 2")
    return taps // 2 + origin


# -- planes whose windows step -------------------------------------------------------------------------------


@part
def deal(given, start, pitch, high, wide, top, left, mode, constant, rows, columns, step, out, to):
    """Copy a plane, extended to so many rows and columns, from `top` and `left` on; the columns of a row are dealt to
    `step` lines: what windows see that are a step apart lies side by side.

    ::

        out[to + (r * step + q) * line + k] = plane[r - top, k * step + q - left],    line = ceil(columns / step)
    """
    line = -(-columns // step)
    for r in range(rows):
        row = inside(mode, r - top, high)
        for q in range(step):
            goal = to + (r * step + q) * line
            if row < 0:
                fill(out, goal, line, constant)
                continue
            begin = start + row * pitch
            low = min(max(-(-(left - q) // step), 0), line)
            end = min(max(-(-(left + wide - q) // step), low), line)
            if step == 1:
                copy(given, begin + low - left, out, goal + low, end - low)
            else:
                source, target = given[begin + low * step + q - left :], out[goal + low : goal + end]
                for k in range(end - low):
                    target[k] = source[k * step]
            for rim in range(low + line - end):
                k = rim if rim < low else end + rim - low
                column = inside(mode, k * step + q - left, wide)
                out[goal + k] = given[begin + column] if column >= 0 else constant


@part
def window_offsets(channels, plane, kh, kw, down, across, step, line):
    """Where the taps of a window lie in dealt planes, from the window's first on; `down` and `across` are dilations."""
    offsets, t = integers(channels * kh * kw, 0), 0
    for c in range(channels):
        for a in range(kh):
            for b in range(kw):
                column = b * across
                offsets[t] = c * plane + (a * down * step + column % step) * line + column // step
                t += 1
    return offsets


@part
def store_rows(sums, begin, count, pitch, wide, out, to):
    """Write sums, some of a long row in which rows of `wide` elements begin `pitch` elements apart, to an array."""
    for r in range(begin // pitch, (begin + count - 1) // pitch + 1):
        low, high = max(0, begin - r * pitch), min(wide, begin + count - r * pitch)
        if low < high:
            copy(sums, r * pitch + low - begin, out, to + r * wide + low, high - low)
