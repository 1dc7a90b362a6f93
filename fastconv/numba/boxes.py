"""Windows of equal weights inside a caller's ``@njit``: `uniform_filter`, `maximum_filter`, `minimum_filter`.

One axis after the other is filtered, and what was made stored as the image's dtype, as SciPy does. Of an axis some
columns are copied, extended, in the dtype that sums have; windows of 1, 2, 4, ... elements are made of two of half the
size, so that a window costs the logarithm of its size.

Results are those of the plain calls (`fastconv.specs.filters`): means of floats within some roundings, from float64,
those of integers with their fractions cut off, and exact also of 64 bits.

One core of an AMD EPYC 9005, float32, 1080 x 1920, 15 x 15: maxima in 3.5 ms, means in 12 (plain calls in 1.7 and 2.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload

from .. import ndimage
from .arguments import along_axes, check_room, flat, given, image
from .parts import OPTIONS, part
from .windows import (
    CONSTANT,
    copy,
    crop,
    empty,
    extend,
    fill,
    front,
    further,
    inside,
    integers,
    product,
    sizes,
)

#: Most elements of a window along an axis, as in the plain calls.
MOST_TAPS = 1 << 24
#: Elements of a strip: with all that is made of it, most of a 1 MiB second-level cache; and its fewest columns.
STRIP, FEWEST = 1 << 14, 64


# -- windows of lines -----------------------------------------------------------------------------------------


@part
def box_sums(extended, taps, distance):
    """Sums of so many elements, some distance apart, from each element on: of 1, 2, 4, ... elements, and of those that
    make the window.

    Nothing is subtracted: no element leaves a trace in windows that do not see it.
    """
    last = extended.size - (taps - 1) * distance
    total, some, other = empty(last, extended), extended, empty(extended.size, extended)
    fill(total, 0, last, total.dtype.type(0))
    size, done = 1, 0
    while True:
        if taps & size:
            seen = some[done * distance :]
            for i in range(last):
                total[i] += seen[i]
            done += size
        if done == taps:
            return total
        count, ahead = some.size - size * distance, some[size * distance :]
        for i in range(count):
            other[i] = some[i] + ahead[i]
        some, other = other[:count], some
        size *= 2


@part
def box_extremes(extended, taps, distance, largest):
    """The largest or the smallest of so many elements, some distance apart, from each element on."""
    some, other, size = extended, empty(extended.size, extended), 1
    while size < taps:
        shift = min(size, taps - size) * distance
        count, ahead = some.size - shift, some[shift:]
        for i in range(count):
            other[i] = further(some[i], ahead[i], largest)
        some, other = other[:count], some
        size = min(2 * size, taps)
    return some


# -- an axis ------------------------------------------------------------------------------------------------


@part
def check_windows(shape, taps, origins):
    for axis in range(shape.size):
        if not 1 <= taps[axis] <= MOST_TAPS:
            raise ValueError("size must be from 1 to 2**24")
        front(taps[axis], origins[axis])


@part
def strip(inner, long):
    """Columns that are filtered at once, of `inner` elements behind an axis that is so long: all of them, or some."""
    return inner if inner * long <= STRIP else min(inner, max(FEWEST, STRIP // long))


@part
def load(x, number, size, inner, first, count, before, behind, mode, constant, out):
    """Copy `count` columns of an array seen as (lead, size, inner), from `first` on, extended along the axis."""
    if count == inner:
        extend(x[number * size * inner :], 1, size, inner, before, behind, mode, constant, out)
        return
    for p in range(before + size + behind):
        source = inside(mode, p - before, size)
        if source < 0:
            fill(out, p * count, count, constant)
        else:
            copy(x, (number * size + source) * inner + first, out, p * count, count)


@part
def store(found, number, size, inner, first, count, out):
    """Write columns to an array seen as (lead, size, inner)."""
    if count == inner:
        crop(found, 1, size, size, inner, out[number * size * inner :])
        return
    for p in range(size):
        crop(found[p * count :], 1, 1, 1, count, out[(number * size + p) * inner + first :])


@part
def mean_along(x, shape, axis, taps, origin, mode, cval, out):
    """Write the means of windows along an axis, from float64 sums, scaled by a power of two to stay in range."""
    lead, size, inner = product(shape, 0, axis), shape[axis], product(shape, axis + 1, shape.size)
    before, long, scale = front(taps, origin), size + taps - 1, 1.0
    wide = strip(inner, long)
    check_room(1, long, wide)
    while scale * taps > 1.0:
        scale *= 0.5
    scratch, divisor = np.empty(long * wide, np.float64), taps * scale
    for number in range(lead):
        for first in range(0, inner, wide):
            count = min(wide, inner - first)
            sums = scratch[: long * count]
            load(x, number, size, inner, first, count, before, taps - 1 - before, mode, cval, sums)
            for i in range(sums.size):
                sums[i] *= scale
            found = box_sums(sums, taps, count)
            for i in range(found.size):
                found[i] /= divisor
            store(found, number, size, inner, first, count, out)


@part
def mean_of_wide(x, shape, axis, taps, origin, mode, cval, out):
    """`mean_along` of integers of 64 bits: exact, from sums of their upper and lower halves."""
    upper, lower, half = integers(x.size, 0), integers(x.size, 0), np.int64(0xFFFFFFFF)
    for i in range(x.size):
        upper[i], lower[i] = x[i] >> 32, np.int64(x[i]) & half
    outside = np.floor(cval / 2.0**32)
    lead, size, inner = product(shape, 0, axis), shape[axis], product(shape, axis + 1, shape.size)
    before, long = front(taps, origin), size + taps - 1
    wide = strip(inner, long)
    check_room(1, long, wide)
    above, below = integers(long * wide, 0), integers(long * wide, 0)
    for number in range(lead):
        for first in range(0, inner, wide):
            count, behind = min(wide, inner - first), taps - 1 - before
            high, low = above[: long * count], below[: long * count]
            load(upper, number, size, inner, first, count, before, behind, mode, np.int64(outside), high)
            load(lower, number, size, inner, first, count, before, behind, mode, np.int64(cval - outside * 2.0**32),
                 low)  # fmt: skip
            high, low = box_sums(high, taps, count), box_sums(low, taps, count)
            for i in range(high.size):
                negative = high[i] + (low[i] >> 32) < 0
                whole, rest = high[i] // taps, high[i] % taps
                rest = (rest << 32) + low[i]
                high[i] = (whole << 32) + rest // taps + (1 if negative and rest % taps != 0 else 0)
            store(high, number, size, inner, first, count, out)


@overload(ndimage.uniform_filter, jit_options=OPTIONS)
def uniform_filter(input, size=3, output=None, mode="reflect", cval=0.0, origin=0):
    dtype, code = image(locals())
    windows, origins = along_axes("size", size, input.ndim), along_axes("origin", origin, input.ndim)
    is_wide, is_bool = dtype.kind in "iu" and dtype.itemsize == 8, dtype.kind == "b"
    between = np.uint8 if is_bool else dtype.type

    def uniform_filter(input, size=3, output=None, mode="reflect", cval=0.0, origin=0):
        shape, taps, before, outside = sizes(input.shape), windows(size), origins(origin), np.float64(cval)
        check_windows(shape, taps, before)
        now = np.empty(input.size, between)
        copy(flat(input), 0, now, 0, now.size)
        for axis in range(shape.size):
            if taps[axis] > 1 and now.size > 0:
                made = np.empty(now.size, between)
                if is_wide:
                    if outside == np.floor(outside) and abs(outside) < 2.0**63:
                        mean_of_wide(now, shape, axis, taps[axis], before[axis], code, outside, made)
                    else:
                        mean_along(now, shape, axis, taps[axis], before[axis], code, outside, made)
                else:
                    mean_along(now, shape, axis, taps[axis], before[axis], code, outside, made)
                now = made
        if is_bool:
            out = np.empty(input.size, np.bool_)
            for i in range(out.size):
                out[i] = now[i] != 0
            return out.reshape(input.shape)
        return now.reshape(input.shape)

    return uniform_filter


@part
def extreme_along(x, shape, axis, taps, origin, mode, constant, largest, like, is_bool, out):
    """Write the extremes of windows along an axis, found in the dtype of `like`."""
    lead, size, inner = product(shape, 0, axis), shape[axis], product(shape, axis + 1, shape.size)
    before, long = front(taps, origin), size + taps - 1
    wide = strip(inner, long)
    check_room(1, long, wide)
    scratch = empty(long * wide, like)
    for number in range(lead):
        for first in range(0, inner, wide):
            count = min(wide, inner - first)
            some = scratch[: long * count]
            load(x, number, size, inner, first, count, before, taps - 1 - before, mode, constant, some)
            found = box_extremes(some, taps, count, largest)
            if is_bool:  # any number but zero is True, also one whose lowest byte is zero
                for i in range(found.size):
                    found[i] = 0 if -1 < found[i] < 1 else 1
            store(found, number, size, inner, first, count, out)


def _extreme(largest: bool, told: dict[str, Any]) -> Callable:
    """The function of an image and its windows that finds the extremes of images of this type."""
    input, footprint = told["input"], given(told["footprint"])
    if not isinstance(footprint, types.NoneType):
        raise TypingError("footprint must be None inside @njit: windows are full, of a size along each axis")
    if isinstance(given(told["size"]), types.NoneType):
        raise TypingError("size must be given")
    dtype, code = image(told)
    windows, origins = along_axes("size", told["size"], input.ndim), along_axes("origin", told["origin"], input.ndim)
    kind, has_constant, floats = dtype.type, code == CONSTANT, dtype.kind == "f"
    is_bool, is_wide, lowest, highest = dtype.kind == "b", not floats and dtype.itemsize == 8, 0.0, 1.0
    if dtype.kind in "iu":
        lowest, highest = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)

    def extreme(input, size, cval, origin):
        shape, taps, before = sizes(input.shape), windows(size), origins(origin)
        check_windows(shape, taps, before)
        now = flat(input)
        wide, held = np.empty(0, np.float64), True
        if has_constant and not floats:
            # 2**63 and 2**64 are no integers of so many bits, though float64 rounds the largest ones to them.
            held = lowest <= cval <= highest and not (is_wide and cval == highest)
        outside = kind(cval) if held and has_constant else kind(0)
        for axis in range(shape.size):
            if taps[axis] > 1 and now.size > 0:
                made = np.empty(now.size, kind)
                if has_constant and not floats:
                    if held:
                        extreme_along(now, shape, axis, taps[axis], before[axis], code, outside, largest, made,
                                  False, made)  # fmt: skip
                    else:
                        extreme_along(now, shape, axis, taps[axis], before[axis], code, cval, largest, wide,
                                      is_bool, made)  # fmt: skip
                else:
                    extreme_along(now, shape, axis, taps[axis], before[axis], code, outside, largest, made,
                                  False, made)  # fmt: skip
                now = made
        out = np.empty(input.size, kind)
        copy(now, 0, out, 0, out.size)
        return out.reshape(input.shape)

    return part(extreme)


@overload(ndimage.maximum_filter, jit_options=OPTIONS)
def maximum_filter(input, size=None, footprint=None, output=None, mode="reflect", cval=0.0, origin=0):
    run = _extreme(True, locals())

    def maximum_filter(input, size=None, footprint=None, output=None, mode="reflect", cval=0.0, origin=0):
        return run(input, size, np.float64(cval), origin)

    return maximum_filter


@overload(ndimage.minimum_filter, jit_options=OPTIONS)
def minimum_filter(input, size=None, footprint=None, output=None, mode="reflect", cval=0.0, origin=0):
    run = _extreme(False, locals())

    def minimum_filter(input, size=None, footprint=None, output=None, mode="reflect", cval=0.0, origin=0):
        return run(input, size, np.float64(cval), origin)

    return minimum_filter
