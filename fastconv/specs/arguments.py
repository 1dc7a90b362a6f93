"""Checks of single arguments that are numbers, with every error message about one; the specs combine them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeGuard

import numpy as np

from ..base.values import shown

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
#: One number for each spatial axis; a pair of numbers for each.
Sizes = tuple[int, ...]
Sides = tuple[Pair, ...]

#: Greatest stride, dilation, window and padding: with these, index arithmetic in int64 cannot overflow.
LIMIT = 2**31 - 1


# -- numbers -------------------------------------------------------------------------------------------------


def integer(name: str, value: object, low: int) -> int:
    """`value` as an int of at least `low`; TypeError or ValueError naming the argument otherwise."""
    if type(value) is int and low <= value <= LIMIT:  # nearly always, and every call has several
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got the bool {value}")
    try:
        number = operator.index(value)  # type: ignore[arg-type] # the TypeError is what is asked for
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {shown(value)} of type {type(value).__name__}") from None
    if not low <= number <= LIMIT:
        raise ValueError(f"{name} must be between {low} and {LIMIT}, got {shown(number)}")
    return number


def per_axis(name: str, value: object, low: int, axes: int) -> Sizes:
    """A tuple with one integer for each of `axes` spatial axes, from one integer for all or a sequence."""
    if type(value) is int and low <= value <= LIMIT:
        return (value,) * axes
    if _is_sequence(value):
        if len(value) != axes:
            raise ValueError(f"{name} must be an integer or {_some(axes)}, got {shown(value)}")
        return tuple([integer(f"{name}[{axis}]", number, low) for axis, number in enumerate(value)])
    return (integer(name, value, low),) * axes


def _some(axes: int) -> str:
    return ("a tuple of one", "a pair (vertical, horizontal)", "three (depth, vertical, horizontal)")[axes - 1]


def pair(name: str, value: object, low: int) -> Pair:
    """A pair of integers (vertical, horizontal), from one integer for both or a sequence."""
    vertical, horizontal = per_axis(name, value, low, 2)
    return vertical, horizontal


def shape(name: str, value: Any) -> tuple[int, ...]:
    """A shape as a tuple of integers."""
    if type(value) is tuple and {*map(type, value)} == {int} and min(value) >= 0 and max(value) <= LIMIT:
        return value  # nearly always: another array's shape
    try:
        is_one = not isinstance(value, (str, bytes, Set, Mapping)) and getattr(value, "ndim", 1) == 1
        sizes = tuple(value) if is_one else None
    except TypeError:
        sizes = None
    if sizes is None:
        raise TypeError(f"{name} must be a sequence of integers, got {shown(value)}")
    return tuple(integer(f"{name}[{axis}]", size, 0) for axis, size in enumerate(sizes))


def _is_sequence(value: object) -> TypeGuard[tuple[Any, ...] | list[Any] | np.ndarray]:
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _is_nested(value: object) -> TypeGuard[tuple[Any, ...] | list[Any] | np.ndarray]:
    return _is_sequence(value) and any(_is_sequence(item) for item in value)


#: Text of messages, by the number of axes: the form of padding with a number for each side.
_NESTED = {
    1: "a pair in a tuple must be ((left, right),)",
    2: "nested pairs must be ((top, bottom), (left, right))",
    3: "nested pairs must be ((front, back), (top, bottom), (left, right))",
}


def window_size(kernel: Sequence[int], dilation: Sizes) -> Sizes:
    """The pixels along each axis from the first that a window covers to the last: dilation moves its taps apart."""
    return tuple([gap * (taps - 1) + 1 for taps, gap in zip(kernel, dilation, strict=True)])


def paddings(
    value: object, size: Sizes, window: Sizes, stride: Sizes, name: str = "padding", low: int = 0
) -> Sides:  # fmt: skip
    """Padding in any accepted form as two numbers for each axis of `size`: before the input and behind it.

    `window` is the `window_size`, and `low` the least of numbers in pairs.
    """
    axes = len(size)
    if isinstance(value, str):
        if value == "valid":
            return ((0, 0),) * axes
        if value in ("same", "same_lower"):
            lower = value == "same_lower"
            return tuple([_same(*axis, lower=lower) for axis in zip(size, window, stride, strict=True)])
        allowed = "an integer, one for each axis, two for each axis, 'valid', 'same' or 'same_lower'"
        raise ValueError(f"{name} must be {allowed}, got {shown(value)}")
    if _is_nested(value):
        if len(value) != axes or not all(_is_sequence(item) and len(item) == 2 for item in value):
            raise ValueError(f"{name} as {_NESTED[axes]}, got {shown(value)}")
        return tuple([pair(f"{name}[{axis}]", sides, low) for axis, sides in enumerate(value)])
    return tuple([(side, side) for side in per_axis(name, value, 0, axes)])


def crops(padding: Any) -> bool:
    """Whether padding by side has a negative side; not of what is no padding, which others refuse."""
    if type(padding) is int or isinstance(padding, str):
        return False
    try:
        for sides in padding:
            if type(sides) is int:
                return False
            if min(sides) < 0:
                return True
    except (TypeError, ValueError):
        pass
    return False


def crop(padding: Any, size: Sizes, axes: int) -> tuple[Any, tuple[slice, ...]]:
    """Padding that `crops` with 0 for negative sides, and which part of each axis these leave; none where `size` has
    not so many axes."""
    ones, parts = (1,) * axes, []
    sides = paddings(padding, ones, ones, ones, low=-LIMIT)
    padded = tuple([(max(0, before), max(0, behind)) for before, behind in sides])
    if len(size) != axes:
        return padded, ()
    for axis, (pixels, (before, behind)) in enumerate(zip(size, sides, strict=True)):
        parts.append(slice(max(0, -before), pixels - max(0, -behind)))
        if pixels and parts[-1].start >= parts[-1].stop:
            raise ValueError(f"padding[{axis}] cuts off all {pixels} pixels of its axis, got {(before, behind)}")
    return padded, tuple(parts)


def frozen_padding(value: object, axes: int = 2) -> Any:
    """Padding with each number checked, made hashable, still in the form in which it was given."""
    if isinstance(value, str):
        return value
    if _is_nested(value):
        ones = (1,) * axes
        return paddings(value, ones, ones, ones)
    return per_axis("padding", value, 0, axes)


def _same(size: int, window: int, stride: int, *, lower: bool) -> Pair:
    """Padding that makes the output ceil(size / stride) long; an odd element goes behind, or before if `lower`."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def extent(size: int, window: int, pads: Pair, stride: int, *, ceil_mode: bool = False) -> int:
    """The number of windows that fit along one axis; zero or less if none does."""
    room = size + pads[0] + pads[1] - window
    if room < 0:
        return 0
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    # A window that would start in the padding behind the input is dropped, as in PyTorch.
    return count - 1 if (count - 1) * stride >= size + pads[0] else count


def flag(name: str, value: object) -> bool:
    if value is True or value is False:
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)
