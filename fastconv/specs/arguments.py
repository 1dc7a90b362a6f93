"""Checks of single arguments, numbers and arrays, and every error message about one; `spec` puts them together.

Nothing here imports Numba.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeGuard

import numpy as np

from ..base.devices import on_gpu

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
#: One number for each spatial axis; two for each.
Sizes = tuple[int, ...]
Sides = tuple[Pair, ...]

#: The spatial axes of so many, as messages name them.
AXES = {1: ("horizontal",), 2: ("vertical", "horizontal"), 3: ("depth", "vertical", "horizontal")}

#: Strides, dilations, windows and paddings stay below this, so that index arithmetic in int64 cannot overflow.
LIMIT = 2**31 - 1
#: The dtype of bfloat16, which NumPy lacks, on a GPU: two bytes of a kind of their own.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
#: The largest array NumPy can describe.
MAX_BYTES = 2**63 - 1


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
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}") from None
    if not low <= number <= LIMIT:
        raise ValueError(f"{name} must be between {low} and {LIMIT}, got {number}")
    return number


def per_axis(name: str, value: object, low: int, axes: int) -> Sizes:
    """An int, or one for each of so many spatial axes, as a tuple."""
    if type(value) is int and low <= value <= LIMIT:
        return (value,) * axes
    if _is_sequence(value):
        if len(value) != axes:
            raise ValueError(f"{name} must be an integer or {_some(axes)}, got {value!r}")
        return tuple([integer(f"{name}[{axis}]", number, low) for axis, number in enumerate(value)])
    return (integer(name, value, low),) * axes


def _some(axes: int) -> str:
    return ("a tuple of one", "a pair (vertical, horizontal)", "three (depth, vertical, horizontal)")[axes - 1]


def pair(name: str, value: object, low: int) -> Pair:
    """An int or a pair of ints as (vertical, horizontal)."""
    vertical, horizontal = per_axis(name, value, low, 2)
    return vertical, horizontal


def shape(name: str, value: Any) -> tuple[int, ...]:
    """A sequence of sizes as a tuple."""
    if type(value) is tuple and {*map(type, value)} == {int} and min(value) >= 0 and max(value) <= LIMIT:
        return value  # nearly always: another array's shape
    try:
        sizes = tuple(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers, got {value!r}") from None
    return tuple(integer(f"{name}[{axis}]", size, 0) for axis, size in enumerate(sizes))


def _is_sequence(value: object) -> TypeGuard[tuple | list | np.ndarray]:
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _is_nested(value: object) -> TypeGuard[tuple | list | np.ndarray]:
    return _is_sequence(value) and any(_is_sequence(item) for item in value)


#: What a form of padding with a number for each side is called.
_NESTED = {
    1: "a pair in a tuple must be ((left, right),)",
    2: "nested pairs must be ((top, bottom), (left, right))",
    3: "nested pairs must be ((front, back), (top, bottom), (left, right))",
}


def paddings(value: object, size: Sizes, window: Sizes, stride: Sizes, name: str = "padding") -> Sides:
    """Any of the accepted forms of padding as two numbers for each axis of `size`: before it and behind.

    `window` is the effective window, ``dilation * (kernel - 1) + 1``.
    """
    axes = len(size)
    if isinstance(value, str):
        if value == "valid":
            return ((0, 0),) * axes
        if value in ("same", "same_lower"):
            lower = value == "same_lower"
            return tuple([_same(*axis, lower=lower) for axis in zip(size, window, stride, strict=True)])
        allowed = "an integer, one for each axis, two for each axis, 'valid', 'same' or 'same_lower'"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    if _is_nested(value):
        if len(value) != axes or not all(_is_sequence(item) and len(item) == 2 for item in value):
            raise ValueError(f"{name} as {_NESTED[axes]}, got {value!r}")
        return tuple([pair(f"{name}[{axis}]", sides, 0) for axis, sides in enumerate(value)])
    return tuple([(side, side) for side in per_axis(name, value, 0, axes)])


def frozen_padding(value: object, axes: int = 2) -> Any:
    """Padding checked number by number and made hashable, still in the form it was given in."""
    if isinstance(value, str):
        return value
    if _is_nested(value):
        ones = (1,) * axes
        return paddings(value, ones, ones, ones)
    return per_axis("padding", value, 0, axes)


def _same(size: int, window: int, stride: int, *, lower: bool) -> Pair:
    """Padding that makes the output ceil(size / stride) long; the odd one goes last, or first if `lower`."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def extent(size: int, window: int, pads: Pair, stride: int, *, ceil_mode: bool = False) -> int:
    """How many windows fit along one axis; zero or less if none does."""
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
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


# -- arrays --------------------------------------------------------------------------------------------------

#: Type codes of bool, the integers and float16/32/64.
_SUPPORTED = frozenset("?bBhHiIlLqQefd")


def check_dtype(name: str, dtype: np.dtype) -> np.dtype:
    """`dtype` in native byte order if it is a bool, an integer or float16/32/64; TypeError otherwise."""
    if dtype.char not in _SUPPORTED:
        raise TypeError(f"{name} has dtype {dtype}; supported are bool, the integers, float16, float32 and float64")
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def array(name: str, value: object) -> np.ndarray:
    """`value` as an ndarray of a supported dtype (not copied, not converted)."""
    if type(value) is np.ndarray and value.dtype.char in _SUPPORTED:  # nearly always
        return value
    try:
        result = np.asarray(value)
        check_dtype(name, result.dtype)
    except ValueError as error:
        raise ValueError(f"{name} is not an array of numbers: {error}") from None
    except TypeError:
        if on_gpu(value):
            raise TypeError(f"{name} is on a GPU, but the input is not: copy either to where the other is") from None
        raise
    return result


def kernel_ready(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`x` as the kernels take it: C-contiguous, aligned, native `dtype`, of a type that reads as writeable.

    Numba compiles a second copy of a kernel for read-only arrays. No kernel writes to its inputs, so a
    read-only array is passed under a second, writeable header instead; its data is neither copied nor changed.
    """
    if x.dtype == dtype and x.flags.carray:  # C-contiguous, aligned and writeable
        return x
    if x.dtype == np.bool_ and dtype == np.uint8:
        x = x.view(np.uint8)
    if x.dtype != dtype or not (x.flags.c_contiguous and x.flags.aligned):
        x, given = allocate(x.shape, dtype, "a copy of the input"), x
        x[...] = given
    if not x.flags.writeable:
        x = np.asarray(_Header(x))
    return x


#: Arrays of up to this many bytes are asked for without looking at how much memory there is.
_SMALL_BYTES = 1 << 20


def allocate(shape: tuple[int, ...], dtype: np.dtype, what: str = "a result") -> np.ndarray:
    """An empty array; MemoryError if this machine could never fill it."""
    if not is_small(shape, dtype):
        check_bytes(shape, dtype, what)
        check_memory(math.prod(shape) * dtype.itemsize, f"{what} of shape {shape} and dtype {dtype}")
    return np.empty(shape, dtype)


def check_memory(size: int, what: str) -> None:
    """MemoryError if so many bytes are more than this machine could ever fill.

    An operating system that overcommits hands out such an array, and kills the process when it is filled.
    """
    if size > _physical_memory():
        raise MemoryError(f"{what} needs {size / 2**30:.1f} GiB, more than this machine's memory")


def copied(name: str, given: np.ndarray) -> np.ndarray:
    """A copy that no one else changes."""
    result = allocate(given.shape, given.dtype, f"a copy of {name}")
    result[...] = given
    return result


def is_small(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether any machine has room for such an array."""
    return 0 < math.prod(shape) * dtype.itemsize <= _SMALL_BYTES


@lru_cache(maxsize=1)
def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return MAX_BYTES


class _Header:
    """The memory of a read-only array under an array interface that does not say so."""

    def __init__(self, owner: np.ndarray) -> None:
        self.owner = owner
        self.__array_interface__ = owner.__array_interface__ | {"data": (owner.ctypes.data, False)}


def result_array(
    shape: tuple[int, ...], dtype: np.dtype, out: object, inputs: Sequence[np.ndarray]
) -> np.ndarray:
    """Where a result goes: a new array, or `out` if it can be."""
    return allocate(shape, dtype) if out is None else check_out(out, shape, dtype, inputs)


def check_out(out: object, shape: tuple[int, ...], dtype: np.dtype, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """`out` if a kernel may write the result there; TypeError or ValueError otherwise."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, but the result has shape {shape}")
    if out.dtype != dtype:
        raise ValueError(f"out has dtype {out.dtype}, but the result has dtype {dtype}")
    if not out.flags.carray:
        if not (out.flags.c_contiguous and out.flags.aligned):
            raise ValueError("out must be C-contiguous and aligned")
        raise ValueError("out is read-only")
    for given in inputs:
        if _overlap(given, out):
            raise ValueError("out shares memory with an input")
    return out


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    if a is not b and a.flags.owndata and b.flags.owndata:  # each has memory of its own
        return False
    if not np.may_share_memory(a, b):  # compares the first and last byte, and is done in most cases
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type] # any int will do
    except np.exceptions.TooHardError:
        return True


def check_bytes(shape: Sequence[int], dtype: np.dtype, what: str) -> None:
    """MemoryError if NumPy cannot describe an array of this shape, for which an empty axis counts as one."""
    if math.prod(size or 1 for size in shape) * dtype.itemsize > MAX_BYTES:
        raise MemoryError(f"{what} of shape {tuple(shape)} and dtype {dtype} is larger than any array can be")


