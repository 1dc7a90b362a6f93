"""Checks of the arguments that filters share, with every error message about one: SciPy's meanings and defaults.

What SciPy refuses with a RuntimeError is an `ArgumentError`, which is one, and a ValueError as everywhere in this
package.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..base.values import shown
from ..functional import device
from ..specs.arrays import allocate, as_array
from ..specs.boundary import SCIPY, Boundary, named

#: Most axes of an image; kernels keep the place of a row in so many numbers.
MOST_AXES = 8
#: Most elements of a window along an axis, and of one that is taken whole all together, whose time grows with them: a
#: median of 2048x2048 elements takes a small image half a second.
MOST_TAPS, MOST_WHOLE = 1 << 24, 1 << 22
#: Type codes of the dtypes that SciPy's filters read and write, but for complex ones.
REAL = "?bBhHiIlLqQfd"


class ArgumentError(ValueError, RuntimeError):
    """An argument that does not fit the others."""


# -- images --------------------------------------------------------------------------------------------------


def image(value: Any, *, complex_too: bool = False) -> Any:
    """The image as an array in native byte order, neither copied nor converted where it need not be; or what stands for
    an array on a GPU (`device.image`)."""
    array = value if type(value) is np.ndarray else device.image(value)
    kind = array.dtype.char
    if kind not in REAL and not (complex_too and kind in "FD"):
        if kind in "FDG":
            raise TypeError(f"Complex type not supported: input has dtype {array.dtype}, got {shown(value)}")
        raise ArgumentError(f"array type {array.dtype!r} not supported: input must be bool, integers, float32 or "
                            f"float64, got {shown(value)}")  # fmt: skip
    if array.ndim > MOST_AXES:
        raise ArgumentError(f"input must have at most {MOST_AXES} axes, got {shown(value)}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def shape(value: Any) -> tuple[int, ...]:
    """The image's sizes."""
    return value.shape if type(value) is np.ndarray else image(value).shape


def per_axis(name: str, value: Any, count: int) -> list[Any]:
    """One value an axis, from one for all or a sequence of as many."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise ArgumentError("sequence argument must have length equal to input rank: "
                            f"{name} must be one value, or {count} for so many axes, got {shown(value)}")  # fmt: skip
    return values


def sizes(value: Any, count: int, *, whole: bool = False) -> list[int]:
    """Sizes of windows along the axes, which are no larger than any filter can be; `whole`: all elements together, and
    each at least 1. Otherwise there is no window along an axis whose size is less than 2."""
    found = []
    for one in per_axis("size", value, count):
        length = number("size", one)
        if length != length or (1 < length < math.inf and length != int(length)):
            raise TypeError(f"size must be of integers, got {shown(value)}")
        if length > MOST_TAPS or (whole and length < 1):
            raise ArgumentError(f"size must be {'from 1' if whole else 'up'} to {MOST_TAPS}, got {shown(value)}")
        found.append(int(max(length, 1)))
    if whole and math.prod(found) > MOST_WHOLE:
        raise ArgumentError(f"size must be at most {MOST_WHOLE}, all axes together, got {shown(value)}")
    return found


def index(name: str, value: Any, of: Any = None) -> int:
    """A value, one `of` several, as an integer."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} must be of integers: {error}, got {shown(value if of is None else of)}") from None


def axis(value: Any, shape: tuple[int, ...], name: str = "axis", ndim: int | None = None) -> int:
    """The number of an axis of the input, or of so many of its axes, counted from the front."""
    number, ndim = index(name, value), len(shape) if ndim is None else ndim
    if not -ndim <= number < ndim:
        raise np.exceptions.AxisError(f"{name} {shown(value)} is out of bounds for array of dimension {ndim}: input "
                                      f"has shape {shape}")  # fmt: skip
    return number % ndim


def axes(value: Any, shape: tuple[int, ...], channel_axis: Any = None) -> tuple[int, ...]:
    """The axes of the input that a filter runs along: all of them, those given, or all but the one of the channels."""
    ndim = len(shape)
    channel = None if channel_axis is None else axis(channel_axis, shape, "channel_axis")
    if value is None:
        return tuple(number for number in range(ndim) if number != channel)
    several = isinstance(value, Iterable) and not (isinstance(value, np.ndarray) and not value.ndim)
    if not np.isscalar(value) and not several:
        raise ValueError(f"axes must be an integer, iterable of integers, or None, got {shown(value)}")
    given: Any = value if isinstance(value, Iterable) else (value,)
    found = [index("axes", one, value) for one in given]
    for number in found:
        if not -ndim <= number < ndim:
            raise ValueError(f"specified axis: {shown(number)} is out of range: axes must be {-ndim} or more, below "
                             f"{ndim}, got {shown(value)}")  # fmt: skip
    found = [number % ndim for number in found]
    if len({*found}) != len(found):
        raise ValueError(f"axes must be unique, got {shown(value)}")
    if channel in found:
        raise ValueError(f"axes must be unique and without channel_axis={channel_axis}, got {shown(value)}")
    return tuple(found)


def one_axis(value: Any, shape: tuple[int, ...], channel_axis: Any = None) -> int:
    """The axis of a filter along one, counted without the one of the channels."""
    if channel_axis is None:
        return axis(value, shape)
    others = axes(None, shape, channel_axis)
    return others[axis(value, shape, ndim=len(others))]


# -- windows -------------------------------------------------------------------------------------------------


def mode(value: Any) -> Boundary:
    """The boundary that a mode of SciPy's is."""
    return named("mode", value, SCIPY)


def modes(value: Any, count: int) -> list[Boundary]:
    """One boundary an axis."""
    return [mode(one) for one in per_axis("mode", value, count)]


def one_mode(value: Any) -> Boundary:
    """The boundary of all axes, for windows that are taken whole."""
    if not isinstance(value, str) and isinstance(value, Iterable):
        raise ArgumentError(f"A sequence of modes is not supported: mode must be one name, got {shown(value)}")
    return mode(value)


def before(size: int, origin: Any, of: Any = None, *, turned: bool = False) -> int:
    """The elements of a window of this size, `turned` around or not, that lie before its output; the others lie behind,
    or are the output. `of` is what the caller gave, if that is not `origin`."""
    number = index("origin", origin, of)
    if turned:
        number = mirrored(size, number)
    if not -(size // 2) <= number <= (size - 1) // 2:
        least, most = sorted(mirrored(size, one) if turned else one for one in (-(size // 2), (size - 1) // 2))
        raise ValueError(f"invalid origin: origin of a window of {size} must be from {least} to {most}: -(size // 2) "
                         f"<= origin <= (size - 1) // 2, got {shown(origin if of is None else of)}")  # fmt: skip
    return size // 2 + number


def mirrored(size: int, origin: int) -> int:
    """The origin of a window of this size that is turned around."""
    return -origin - (size % 2 == 0)


def members(name: str, value: Any) -> np.ndarray:
    """What belongs to a window, as bools."""
    device.refuse(f"{name} of a filter", value, name)
    array = as_array(name, value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be an array of bools, got {shown(value)}")
    return array.astype(bool)


def heights(name: str, value: Any) -> np.ndarray:
    """What is added to a window's elements, as float64."""
    array = as_array(name, value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, got {shown(value)}")
    return array.astype(np.float64)


def fitting(name: str, value: Any, ndim: int, over: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Check that an array about a window has as many axes as the window runs along those of the input."""
    if ndim != len(over):
        raise ArgumentError("sequence argument must have length equal to input rank, structure and input must have "
                            f"same dimensionality: {name}.ndim ({ndim}) must match len(axes) ({len(over)}), got {name} "
                            f"{shown(value)} for axes {over} of input of shape {shape}")  # fmt: skip


def window_size(value: Any, name: str = "size") -> int:
    """The size of a window along an axis, at least 1."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be an integer, got {shown(value)}") from None
    if not 1 <= number <= MOST_TAPS:
        raise ArgumentError(f"incorrect filter size: {name} must be from 1 to {MOST_TAPS}, got {shown(value)}")
    return number


def number(name: str, value: Any) -> float:
    """A real number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number, got {shown(value)}") from None


def fill_value(value: Any) -> float:
    """The constant outside an image of real numbers: of both zeros the positive one, as what is kept between calls is
    found by numbers that are equal."""
    if np.iscomplexobj(as_array("cval", value)):
        raise ValueError(f"Cannot provide a complex-valued cval when the input is real, got {shown(value)}")
    return number("cval", value) + 0.0


def flag(name: str, value: Any) -> bool:
    """True or False, also as a number."""
    if not isinstance(value, bool | int | float | np.bool_ | np.number):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(number(name, value))


# -- results -------------------------------------------------------------------------------------------------


class Result:
    """The array for a result: `target` is written, and `deliver` returns what the caller is to have."""

    __slots__ = ("array", "target")

    def __init__(self, array: np.ndarray, inputs: Sequence[np.ndarray]) -> None:
        self.array = array
        writable = array.dtype.isnative and array.flags.aligned
        shared = any(np.may_share_memory(array, given) for given in inputs)
        self.target = array if writable and not shared else np.empty(array.shape, array.dtype.newbyteorder("="))

    def zeros(self) -> None:
        """Fill with zeros."""
        self.target[...] = 0

    def deliver(self) -> np.ndarray:
        if self.target is not self.array:
            self.array[...] = self.target
        return self.array


def result(output: Any, given: Any, *others: np.ndarray, complex_result: bool = False) -> Any:
    """Where the result goes: a new array of the dtype of `given`, or of the one that `output` names, or `output`.

    One that overlaps `given` or the others is computed as if it did not. Numbers are complex if `complex_result`.
    """
    if (calls := device.elsewhere(given)) is not None:
        return _checked(calls.target(given, output, lambda: _dtype(output, given.dtype, complex_result)), output)
    inputs, named = (given, *others), isinstance(output, type | str)
    if isinstance(output, np.ndarray) or (not named and hasattr(output, "__array_interface__")):
        array = np.asarray(output)
        if array.shape != given.shape:
            raise ArgumentError(f"output shape not correct: it must be {given.shape}, got {array.shape}")
        if complex_result and array.dtype.kind != "c":
            raise ArgumentError(f"output must have complex dtype, got {array.dtype}")
        if not array.flags.writeable:
            raise ValueError("output array is read-only")
        return Result(_checked(array, output), inputs)
    return Result(_checked(allocate(given.shape, _dtype(output, given.dtype, complex_result)), output), ())


def check_output(output: Any, given: Any) -> None:
    """Check an `output` before the first of several filters runs."""
    if output is not None:
        result(output, image(given))


def _dtype(output: Any, given: np.dtype, complex_result: bool) -> np.dtype:
    """The dtype of a new array for a result of an image of the dtype `given`."""
    if output is None:
        return np.promote_types(given, np.complex64) if complex_result else given
    device.refuse("input and output", output, "output")
    try:
        dtype = np.dtype(output)
    except (TypeError, ValueError, RecursionError):
        raise TypeError(f"output must be an array, a dtype or None, got {shown(output)}") from None
    if isinstance(output, str) and not issubclass(dtype.type, np.number):
        raise ArgumentError(f"output must have numeric dtype, got {output!r}")
    if complex_result and dtype.kind != "c":
        if isinstance(output, str):
            raise ArgumentError(f"output must have complex dtype, got {output!r}")
        warnings.warn("promoting specified output dtype to complex", stacklevel=6)
        dtype = np.promote_types(dtype, np.complex64)
    return dtype


def _checked(array: Any, output: Any) -> Any:
    if array.dtype.char not in REAL + "FD":
        raise ArgumentError(f"array type {array.dtype!r} not supported: output must be bool, integers or floats of 32 "
                            f"or 64 bits, or complex numbers of them, got {shown(output)}")  # fmt: skip
    return array
