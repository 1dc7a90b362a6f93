"""Numbers rounded and converted as SciPy's C does on x86-64: products rounded before they are added, floats cut off to
integers, integers that wrap around, and results rounded half to even and cut off at the limits of their dtype.

A compiler for GPUs would contract ``a + b * c`` to one instruction with one rounding: where a fraction is cut off
next, that decides about a whole number. Here both operations are named, with their rounding.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..system.kernels import SIMULATED, device_function

if SIMULATED:

    def times(a, b):
        return a * b

    def plus(a, b):
        return a + b

    def nearest_even(value):
        return np.rint(value)

    def root(value):
        return np.sqrt(value)

else:
    from numba.cuda import libdevice

    times, plus, nearest_even, root = libdevice.dmul_rn, libdevice.dadd_rn, libdevice.rint, libdevice.dsqrt_rn


@cache
def settle(source: np.dtype, target: np.dtype, rule: str) -> Any:
    """Make the function that converts a number of `source` to what is stored through a pointer to `target`.

    By the `rule` "cast" a float loses its fraction; a number too large for an integer of up to 32 bits becomes the low
    bits of the smallest int32 (of uint32, of the smallest int64), as `fastconv.cpu.shared.bands` says. By "wrap"
    integers wrap around. By "saturate" a float is rounded, half to even, to the nearest that there is; NaN to 0.
    """
    is_bool = target == np.bool_
    other = np.dtype(np.uint8) if is_bool else target
    if other.kind == "f":
        return _plain(other)
    if rule == "saturate" and source.kind == "f" and not is_bool:
        return _saturated(other)
    clips = rule == "cast" and other.itemsize <= 4 and other != np.uint32 and not np.can_cast(source, np.int32)
    convert = _whole(other) if source.kind == "f" else _clipped(other) if clips else _plain(other)

    @device_function
    def settled(value):
        number = convert(value)
        if is_bool:
            return np.uint8(number != 0)
        return number

    return settled


@cache
def _plain(target: np.dtype) -> Any:
    number = target.type

    @device_function
    def converted(value):
        return number(value)

    return converted


@cache
def _clipped(target: np.dtype) -> Any:
    """An integer as one of up to 32 bits."""
    number, smallest = target.type, np.int64(-(2**31))

    @device_function
    def clipped(value):
        return number(value) if smallest <= value <= -(smallest + 1) else number(smallest)

    return clipped


@cache
def _whole(target: np.dtype) -> Any:
    """A float as an integer."""
    number = target.type
    bits = 32 if target.itemsize <= 4 and target != np.uint32 else 64
    half, smallest, unsigned = 2.0 ** (bits - 1), np.int64(-(2 ** (bits - 1))), target == np.uint64

    @device_function
    def whole(value):
        upper = unsigned and value >= half
        given = value - half if upper else np.float64(value)
        found = np.int64(given) if -half <= given < half else smallest
        return number(found ^ smallest if upper else found)

    return whole


@cache
def _saturated(target: np.dtype) -> Any:
    """The nearest integer to a float."""
    limits, number, convert = np.iinfo(target), target.type, _whole(target)
    # The largest float that is no larger than the largest integer: 2**63 does not fit, and rounds to it.
    top = np.float64(limits.max)
    if int(top) > limits.max:
        top = np.nextafter(top, 0)
    bottom, most, least = np.float64(limits.min), number(limits.max), number(limits.min)

    @device_function
    def saturated(value):
        given = nearest_even(np.float64(value))
        if given != given:
            return number(0)
        if given > top:
            return most
        if given < bottom:
            return least
        return convert(given)

    return saturated
