"""Filters of `fastconv.ndimage` inside a caller's ``@njit``: `correlate`, `correlate1d`, `uniform_filter`,
`maximum_filter` and `minimum_filter`.

An image is copied, extended along the axes that a window moves along, in the dtype that sums have; the window's taps
then lie at one distance from all pixels (`windows`). Separable filters do so for one axis after the other, and store
what they made as the image's dtype, as SciPy does.

The promise is that of the plain calls (`fastconv.specs.filters`). Of floats: sums of products within some roundings of
the window's sum of |weight * pixel| (float32 in float32, with an account of what rounding loses; means in float64). Of
integers: SciPy's numbers; in float64 in SciPy's order of additions, or modulo 2**64 where weights are whole numbers and
an image of 64 bits has more digits than float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload

from .. import ndimage
from ..specs.boundary import SCIPY
from .arguments import along_axes, boundary, check_room, dtype_of, flat, given, is_integer
from .parts import OPTIONS, part
from .windows import (
    CONSTANT,
    box_extremes,
    box_sums,
    copy,
    crop,
    empty,
    extend,
    fill,
    inside,
    integers,
    window_sums,
    window_sums_in_order,
    window_sums_of_integers,
)

#: The largest sum of |weight| that windows of integers of 64 bits may have to be exact, as in the plain calls.
MOST_WEIGHT = 2.0**21
#: Weights that are no larger are left out by `correlate`, as in SciPy.
SMALLEST = float(np.finfo(np.float64).eps)
#: Most elements of a window along an axis, as in the plain calls.
MOST_TAPS = 1 << 24

# -- windows along any axes ----------------------------------------------------------------------------------


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


@part
def extended(x, shape, taps, origins, mode, constant, like):
    """An image in the dtype of `like`, extended by what its windows see, and its shape."""
    now, long, is_first = empty(0, like), integers(shape.size, 0), True
    copy(shape, 0, long, 0, shape.size)
    for axis in range(shape.size):
        if taps[axis] > 1:
            lead, size, inner = product(long, 0, axis), shape[axis], product(long, axis + 1, shape.size)
            before = front(taps[axis], origins[axis])
            check_room(lead, size + taps[axis], inner)
            wider = empty(lead * (size + taps[axis] - 1) * inner, like)
            if is_first:
                extend(x, lead, size, inner, before, taps[axis] - 1 - before, mode, constant, wider)
            else:
                extend(now, lead, size, inner, before, taps[axis] - 1 - before, mode, constant, wider)
            now, long[axis], is_first = wider, size + taps[axis] - 1, False
    if is_first:
        now = empty(x.size, like)
        copy(x, 0, now, 0, x.size)
    return now, long


@part
def deliver(now, long, shape, out):
    """Write what windows gave, which lies in an extended image, to an array of any dtype."""
    last = shape.size - 1
    for axis in range(last):
        if long[axis] > shape[axis]:
            lead, inner = product(shape, 0, axis), product(long, axis + 1, shape.size)
            if lead > 1:
                closer = empty(lead * shape[axis] * inner, now)
                crop(now, lead, long[axis], shape[axis], inner, closer)
                now = closer
    crop(now, product(shape, 0, last), long[last], shape[last], 1, out)


@part
def distances(taps, long):
    """Elements from a window's first tap to each of them, in C order."""
    offsets = integers(product(taps, 0, taps.size), 0)
    for t in range(offsets.size):
        rest, step = t, np.int64(1)
        for back in range(taps.size):
            axis = taps.size - 1 - back
            offsets[t] += rest % taps[axis] * step
            rest, step = rest // taps[axis], step * long[axis]
    return offsets


@part
def correlate_floats(x, shape, taps, origins, mode, cval, offsets_of, weights, out):
    """Correlate an image of floats in its own dtype; `weights` are of the taps in `offsets_of`, by number."""
    now, long = extended(x, shape, taps, origins, mode, x.dtype.type(cval), x)
    every, offsets, values = distances(taps, long), integers(weights.size, 0), empty(weights.size, x)
    for t in range(weights.size):
        offsets[t], values[t] = every[offsets_of[t]], weights[t]
    window_sums(now, now.size - every[-1], offsets, values)
    deliver(now, long, shape, out)


@part
def correlate_in_order(x, shape, taps, origins, mode, cval, firsts, seconds, sign, weights, out):
    """Correlate an image of integers in float64 and SciPy's order; of pairs of taps the second is times the `sign`."""
    now, long = extended(x, shape, taps, origins, mode, np.float64(cval), weights)
    every, offsets, others = distances(taps, long), integers(weights.size, 0), integers(weights.size, 0)
    for t in range(weights.size):
        offsets[t], others[t] = every[firsts[t]], every[seconds[t]]
    window_sums_in_order(now, now.size - every[-1], offsets, others, sign, weights)
    deliver(now, long, shape, out)


@part
def correlate_wide(x, shape, taps, origins, mode, cval, offsets_of, weights, out):
    """Correlate an image of integers of 64 bits with whole numbers, modulo 2**64."""
    values = integers(weights.size, 0)
    now, long = extended(x, shape, taps, origins, mode, np.int64(cval), values)
    every, offsets = distances(taps, long), integers(weights.size, 0)
    for t in range(weights.size):
        offsets[t], values[t] = every[offsets_of[t]], np.int64(weights[t])
    window_sums_of_integers(now, now.size - every[-1], offsets, values)
    deliver(now, long, shape, out)


@part
def are_whole(weights, cval):
    """Whether sums of products are whole numbers, and few enough for those of 64 bits to be exact."""
    total = 0.0
    for weight in weights:
        if weight != np.rint(weight):
            return False
        total += abs(weight)
    return total <= MOST_WEIGHT and cval == np.floor(cval) and abs(cval) < 2.0**63


@part
def listed(weights):
    """The taps of a window that have a weight, and the weights."""
    numbers, kept, count = integers(weights.size, 0), empty(weights.size, weights), 0
    for t in range(weights.size):
        if abs(weights[t]) > SMALLEST or weights[t] != weights[t]:
            numbers[count], kept[count] = t, weights[t]
            count += 1
    return numbers[:count], kept[:count]


@part
def listed_along_axis(weights):
    """The taps of a window along one axis in SciPy's order, as pairs of which the second is times a sign, and the
    weights: the last first or, of (anti)symmetric weights, the one in the middle and then pairs."""
    size, half = weights.size, weights.size // 2
    even = odd = size % 2 == 1
    for t in range(half):
        even = even and abs(weights[size - 1 - t] - weights[t]) <= SMALLEST
        odd = odd and abs(weights[size - 1 - t] + weights[t]) <= SMALLEST
    sign, count = 0, size
    if even or odd:
        sign, count = 1 if even else -1, half + 1
    firsts, seconds, kept = integers(count, 0), integers(count, 0), empty(count, weights)
    for t in range(count):
        number = (t - 1 if t else half if sign != 0 else size - 1)
        firsts[t], kept[t] = number, weights[number]
        seconds[t] = size - 1 - number if sign != 0 else number
    return firsts, seconds, sign, kept


def _correlation(dtype: np.dtype, along_one: bool) -> Callable:
    """The function that correlates images of this dtype with windows along any axes, or along one as SciPy does it."""
    floats, is_wide = dtype.kind == "f", dtype.kind in "iu" and dtype.itemsize == 8

    def correlate(x, shape, taps, origins, mode, cval, weights, out):
        for axis in range(shape.size):
            front(taps[axis], origins[axis])
        if x.size == 0:
            return
        numbers, kept = listed(weights)
        if floats:
            if along_one:
                numbers, kept = np.arange(weights.size), weights
            correlate_floats(x, shape, taps, origins, mode, cval, numbers, kept, out)
            return
        if is_wide and are_whole(weights, cval):
            correlate_wide(x, shape, taps, origins, mode, cval, numbers, kept, out)
            return
        if along_one:
            firsts, seconds, sign, values = listed_along_axis(weights)
            correlate_in_order(x, shape, taps, origins, mode, cval, firsts, seconds, sign, values, out)
        else:
            correlate_in_order(x, shape, taps, origins, mode, cval, numbers, numbers, 0, kept, out)

    return part(correlate)


def _image(told: dict[str, Any]) -> tuple[np.dtype, int]:
    """The dtype of an image, and the number of a boundary mode."""
    if not isinstance(given(told["output"]), types.NoneType):
        raise TypingError("output must be None inside @njit: the result is a new array of the dtype of input")
    if not isinstance(given(told["cval"]), types.Integer | types.Float):
        raise TypingError(f"cval must be a number, got {told['cval']}")
    return dtype_of("input", given(told["input"]), tuple(range(1, 9))), boundary("mode", told["mode"], SCIPY)


@overload(ndimage.correlate, jit_options=OPTIONS)
def correlate(input, weights, output=None, mode="reflect", cval=0.0, origin=0):
    dtype, code = _image(locals())
    dtype_of("weights", weights, (input.ndim,))
    origins, run = along_axes("origin", origin, input.ndim), _correlation(dtype, False)
    kind, nothing = dtype.type, dtype.type(0)

    def correlate(input, weights, output=None, mode="reflect", cval=0.0, origin=0):
        if weights.size == 0:
            raise ValueError("weights must not be empty")
        out, values = np.empty(input.size, kind), np.empty(weights.size, np.float64)
        fill(out, 0, out.size, nothing)
        copy(flat(weights), 0, values, 0, values.size)
        run(flat(input), sizes(input.shape), sizes(weights.shape), origins(origin), code, np.float64(cval), values,
            out)  # fmt: skip
        return out.reshape(input.shape)

    return correlate


@overload(ndimage.correlate1d, jit_options=OPTIONS)
def correlate1d(input, weights, axis=-1, output=None, mode="reflect", cval=0.0, origin=0):
    dtype, code = _image(locals())
    dtype_of("weights", weights, (1,))
    for name, kind in (("axis", axis), ("origin", origin)):
        if not is_integer(given(kind)):
            raise TypingError(f"{name} must be an integer, got {kind}")
    run, kind, nothing = _correlation(dtype, True), dtype.type, dtype.type(0)

    def correlate1d(input, weights, axis=-1, output=None, mode="reflect", cval=0.0, origin=0):
        if weights.size == 0:
            raise ValueError("weights must not be empty")
        if not -input.ndim <= axis < input.ndim:
            raise ValueError("axis must be an axis of input")
        out, values = np.empty(input.size, kind), np.empty(weights.size, np.float64)
        fill(out, 0, out.size, nothing)
        copy(flat(weights), 0, values, 0, values.size)
        shape = sizes(input.shape)
        taps, origins = integers(shape.size, 1), integers(shape.size, 0)
        taps[axis], origins[axis] = weights.size, origin
        run(flat(input), shape, taps, origins, code, np.float64(cval), values, out)
        return out.reshape(input.shape)

    return correlate1d


# -- windows of equal weights, one axis after the other ------------------------------------------------------


@part
def check_windows(shape, taps, origins):
    for axis in range(shape.size):
        if not 1 <= taps[axis] <= MOST_TAPS:
            raise ValueError("size must be from 1 to 2**24")
        front(taps[axis], origins[axis])


#: Elements of a strip: with all that is made of it, most of a 1 MiB second-level cache; and its fewest columns.
STRIP, FEWEST = 1 << 14, 64


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
    dtype, code = _image(locals())
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
    dtype, code = _image(told)
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


__all__ = ["correlate", "correlate1d", "maximum_filter", "minimum_filter", "uniform_filter"]
