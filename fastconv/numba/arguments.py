"""Arguments of functions inside a caller's ``@njit``: what their types must be, and checks of their values.

Types are checked when the caller is compiled, and a wrong one is Numba's TypingError, which names the argument. Values
are checked at each call; Numba wants constant messages, so a ValueError names the argument and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload
from numba.np.numpy_support import as_dtype

from ..specs.arguments import LIMIT
from ..specs.boundary import SCIPY, Boundary
from .parts import OPTIONS, part
from .windows import CODES, integers

# -- types ---------------------------------------------------------------------------------------------------


def given(kind: Any) -> Any:
    """The type of an argument: that of its default, which Numba hands over as it is, where it was not given."""
    kind = kind.value if isinstance(kind, types.Omitted) else kind
    return kind if isinstance(kind, types.Type) else numba.typeof(kind)


def constant(name: str, kind: Any) -> Any:
    """The value of an argument that must be a constant."""
    kind = kind.value if isinstance(kind, types.Omitted) else kind
    if not isinstance(kind, types.Type):
        return kind
    if isinstance(kind, types.NoneType):
        return None
    if isinstance(kind, types.Literal):
        return kind.literal_value
    raise TypingError(f"{name} must be a constant inside @njit, got a value of type {kind}")


def dtype_of(name: str, kind: Any, axes: tuple[int, ...]) -> np.dtype:
    """The dtype of an argument that must be an array of some number of axes, of bool, integers or floats."""
    wanted = f"{name} must be an array of {' or '.join(map(str, axes))} axes inside @njit"
    if not isinstance(kind, types.Array) or kind.ndim not in axes:
        raise TypingError(f"{wanted}, got {kind}")
    if kind.dtype not in (types.boolean, *types.integer_domain, types.float32, types.float64):
        raise TypingError(f"{wanted}, of bool, integers, float32 or float64, got {kind}")
    return as_dtype(kind.dtype)


def boundary(name: str, kind: Any, names: dict[str, Boundary]) -> int:
    """The number, in `windows.CODES`, of a boundary mode that must be a constant."""
    value = constant(name, kind)
    if value not in names:
        raise TypingError(f"{name} must be one of {', '.join(map(repr, names))}, got {value!r}")
    return CODES[names[value]]


def image(told: dict[str, Any]) -> tuple[np.dtype, int]:
    """The dtype of an image, and the number of a boundary mode."""
    if not isinstance(given(told["output"]), types.NoneType):
        raise TypingError("output must be None inside @njit: the result is a new array of the dtype of input")
    if not isinstance(given(told["cval"]), types.Integer | types.Float):
        raise TypingError(f"cval must be a number, got {told['cval']}")
    return dtype_of("input", given(told["input"]), tuple(range(1, 9))), boundary("mode", told["mode"], SCIPY)


def is_integer(kind: Any) -> bool:
    return isinstance(kind, types.Integer)


def members(kind: Any) -> tuple[Any, ...]:
    """The types of what is in a tuple; none of another type."""
    return tuple(getattr(kind, "types", ())) if isinstance(kind, types.BaseTuple) else ()


def is_pair(kind: Any, count: int = 2) -> bool:
    """Whether a type is that of a tuple of so many integers."""
    return len(members(kind)) == count and all(map(is_integer, members(kind)))


# -- numbers along axes --------------------------------------------------------------------------------------


def pair(name: str, kind: Any, axes: int) -> Callable:
    """A compiled function that makes (vertical, horizontal) of an argument: an integer, or one for each axis."""
    kind = given(kind)
    if is_integer(kind):
        return _both if axes == 2 else _horizontal
    if is_pair(kind, axes):
        return _two if axes == 2 else _one
    raise TypingError(f"{name} must be an integer or {axes} in a tuple, got {kind}")


def sides(kind: Any, axes: int) -> Callable:
    """A compiled function of padding, and of size, window and stride as pairs (vertical, horizontal): (top, bottom,
    left, right)."""
    kind = given(kind)
    if isinstance(kind, types.StringLiteral | types.UnicodeType):
        value = constant("padding", kind)
        if value not in ("valid", "same", "same_lower"):
            raise TypingError(f"padding must be integers, 'valid', 'same' or 'same_lower', got {value!r}")
        return {"valid": _no_sides, "same": _same, "same_lower": _same_lower}[value]
    if is_integer(kind):
        return _sides_of_one if axes == 2 else _sides_of_horizontal
    if is_pair(kind, axes):
        return _sides_of_pair if axes == 2 else _sides_of_single
    if len(members(kind)) == axes and all(map(is_pair, members(kind))):
        return _sides_as_given if axes == 2 else _sides_of_signal
    raise TypingError(f"padding must be an integer, one for each axis, two for each axis, or a name, got {kind}")


@part
def _both(value):
    return np.int64(value), np.int64(value)


@part
def _horizontal(value):
    return np.int64(1), np.int64(value)


@part
def _two(value):
    return np.int64(value[0]), np.int64(value[1])


@part
def _one(value):
    return np.int64(1), np.int64(value[0])


@part
def _checked_sides(top, bottom, left, right):
    if top < 0 or bottom < 0 or left < 0 or right < 0:
        raise ValueError("padding must be at least 0; in pairs a side may be negative")
    return _limited(top, bottom, left, right)


@part
def _limited(top, bottom, left, right):
    if max(abs(top), abs(bottom), abs(left), abs(right)) > LIMIT:
        raise ValueError("padding must be at most 2**31 - 1")
    return np.int64(top), np.int64(bottom), np.int64(left), np.int64(right)


@part
def _sides_of_one(value, size, window, stride):
    return _checked_sides(value, value, value, value)


@part
def _sides_of_horizontal(value, size, window, stride):
    return _checked_sides(0, 0, value, value)


@part
def _sides_of_pair(value, size, window, stride):
    return _checked_sides(value[0], value[0], value[1], value[1])


@part
def _sides_of_single(value, size, window, stride):
    return _checked_sides(0, 0, value[0], value[0])


@part
def _sides_as_given(value, size, window, stride):
    return _limited(value[0][0], value[0][1], value[1][0], value[1][1])


@part
def _sides_of_signal(value, size, window, stride):
    return _limited(0, 0, value[0][0], value[0][1])


@part
def _no_sides(value, size, window, stride):
    return np.int64(0), np.int64(0), np.int64(0), np.int64(0)


@part
def _same(value, size, window, stride):
    high = max((-(-size[0] // stride[0]) - 1) * stride[0] + window[0] - size[0], 0)
    wide = max((-(-size[1] // stride[1]) - 1) * stride[1] + window[1] - size[1], 0)
    return high // 2, high - high // 2, wide // 2, wide - wide // 2


@part
def _same_lower(value, size, window, stride):
    top, bottom, left, right = _same(value, size, window, stride)
    return bottom, top, right, left


def along_axes(name: str, kind: Any, axes: int) -> Callable:
    """A compiled function that makes an array of an argument: an integer for all axes, or one for each."""
    kind = given(kind)
    if is_integer(kind):
        return part(lambda value: integers(axes, value))
    if is_pair(kind, axes):

        @part
        def each(value):
            numbers = integers(axes, 0)
            for axis in range(axes):
                numbers[axis] = value[axis]
            return numbers

        return each
    raise TypingError(f"{name} must be an integer, or a tuple of {axes}, one for each axis, got {kind}")


@part
def check_steps(stride, dilation):
    """Check strides and dilations, which are pairs."""
    if not 1 <= min(stride[0], stride[1]) <= max(stride[0], stride[1]) <= LIMIT:
        raise ValueError("stride must be from 1 to 2**31 - 1")
    if not 1 <= min(dilation[0], dilation[1]) <= max(dilation[0], dilation[1]) <= LIMIT:
        raise ValueError("dilation must be from 1 to 2**31 - 1")


#: Elements of scratch, at most: memory that a processor can address.
_MOST = 2.0**44


@part
def check_room(planes, rows, columns):
    """Check that an image with its padding can be addressed."""
    if np.float64(planes) * np.float64(rows) * np.float64(columns) > _MOST:
        raise MemoryError("x, as far as its windows see it with its padding, is too large")


# -- arrays --------------------------------------------------------------------------------------------------


def flat(array):
    """An array's elements in C order, of which nothing is written."""
    raise NotImplementedError  # only compiled code calls it


@overload(flat, jit_options=OPTIONS)
def _flat(array):
    if array.layout == "C":
        return lambda array: array.reshape(array.size)
    return lambda array: np.ascontiguousarray(array).reshape(array.size)
