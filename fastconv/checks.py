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

from .devices import on_gpu

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

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


def pair(name: str, value: object, low: int) -> Pair:
    """An int or a pair of ints as (vertical, horizontal)."""
    if type(value) is int and low <= value <= LIMIT:
        return value, value
    if _is_sequence(value):
        if len(value) != 2:
            raise ValueError(f"{name} must be an integer or a pair (vertical, horizontal), got {value!r}")
        return integer(f"{name}[0]", value[0], low), integer(f"{name}[1]", value[1], low)
    number = integer(name, value, low)
    return number, number


def shape(name: str, value: Any) -> tuple[int, ...]:
    """A sequence of sizes as a tuple."""
    try:
        sizes = tuple(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers, got {value!r}") from None
    return tuple(integer(f"{name}[{axis}]", size, 0) for axis, size in enumerate(sizes))


def _is_sequence(value: object) -> TypeGuard[tuple | list | np.ndarray]:
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _is_nested(value: object) -> TypeGuard[tuple | list | np.ndarray]:
    return _is_sequence(value) and any(_is_sequence(item) for item in value)


def paddings(value: object, size: Pair, window: Pair, stride: Pair, name: str = "padding") -> Pads:
    """Any of the accepted forms of padding as ((top, bottom), (left, right)).

    `window` is the effective window, ``dilation * (kernel - 1) + 1``.
    """
    if isinstance(value, str):
        if value == "valid":
            return (0, 0), (0, 0)
        if value in ("same", "same_lower"):
            sides = [_same(*axis, lower=value == "same_lower") for axis in zip(size, window, stride, strict=True)]
            return sides[0], sides[1]
        allowed = "an integer, a pair, two pairs, 'valid', 'same' or 'same_lower'"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    if _is_nested(value):
        if len(value) != 2 or not all(_is_sequence(item) and len(item) == 2 for item in value):
            raise ValueError(f"{name} as nested pairs must be ((top, bottom), (left, right)), got {value!r}")
        return pair(f"{name}[0]", value[0], 0), pair(f"{name}[1]", value[1], 0)
    vertical, horizontal = pair(name, value, 0)
    return (vertical, vertical), (horizontal, horizontal)


def frozen_padding(value: object) -> Any:
    """Padding checked number by number and made hashable, still in the form it was given in."""
    if isinstance(value, str):
        return value
    if _is_nested(value):
        return paddings(value, (1, 1), (1, 1), (1, 1))
    return pair("padding", value, 0)


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
    try:
        result = np.asarray(value)
        check_dtype(name, result.dtype)
    except ValueError as error:
        raise ValueError(f"{name} is not an array of numbers: {error}") from None
    except TypeError:
        if on_gpu(value):
            raise TypeError(f"{name} is on a GPU, but x is not: copy either to where the other is") from None
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
    size = math.prod(shape) * dtype.itemsize
    if not 0 < size <= _SMALL_BYTES:
        check_bytes(shape, dtype, what)
        # An operating system that overcommits hands out such an array, and kills the process when it is filled.
        if size > _physical_memory():
            raise MemoryError(f"{what} of shape {shape} and dtype {dtype} needs {size / 2**30:.1f} GiB, more than this "
                              "machine's memory")
    return np.empty(shape, dtype)


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


