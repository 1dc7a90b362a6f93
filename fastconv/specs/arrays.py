"""Checks of arrays, copies that kernels can take, and arrays for results, with every error message about one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..base.devices import on_gpu
from ..base.memory import usable_memory
from ..base.units import byte_count
from ..base.values import shown
from .dtypes import SUPPORTED, check_dtype


def array(name: str, value: object) -> np.ndarray:
    """`value` as an ndarray of a supported dtype (not copied, not converted)."""
    if type(value) is np.ndarray and value.dtype.char in SUPPORTED:  # nearly always
        return value
    try:
        result = as_array(name, value)
        check_dtype(name, result.dtype)
    except TypeError as error:
        if on_gpu(value):
            raise TypeError(f"{name} is on a GPU, but the input is not: copy either to where the other is") from None
        raise TypeError(f"{error}, got {shown(value)}") from None
    if _is_masked(value, result.ndim):
        raise TypeError(f"{name} is or has in it a masked array, whose mask would be ignored: pass its .filled(...), "
                        "or its .data if the mask does not matter")  # fmt: skip
    return result


def _is_masked(value: object, axes: int) -> bool:
    """Whether a value is a masked array, or a list with one in it that has some of the `axes`."""
    if isinstance(value, list | tuple):
        return axes > 1 and any(_is_masked(one, axes - 1) for one in value)
    return isinstance(value, np.ma.MaskedArray)


def as_array(name: str, value: object) -> np.ndarray:
    """`value` as an ndarray of any dtype."""
    try:
        return np.asarray(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not an array of numbers: {error}, got {shown(value)}") from None


def kernel_ready(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`x` in the form that the kernels take: C-contiguous, aligned, of native `dtype`, and writeable by its type.

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


#: Arrays of up to this many bytes (1 MiB) are made without a look at how much memory there is.
_SMALL_BYTES = 1 << 20


def allocate(shape: tuple[int, ...], dtype: np.dtype, what: str = "a result", of: object = None) -> np.ndarray:
    """An empty array; MemoryError if this process could never fill it, which tells what it is, and `of` what spec."""
    if not is_small(shape, dtype):
        check_bytes(shape, dtype, what, of)
        size = math.prod(shape) * dtype.itemsize
        if size > usable_memory():  # only then into words: shape and dtype as text take 5 microseconds
            raise _too_large(size, f"{what} of shape {shape} and dtype {dtype}", of)
    return np.empty(shape, dtype)


def check_memory(size: int, what: str, of: object = None) -> None:
    """MemoryError if `size` bytes are more than this process could ever fill.

    An operating system that overcommits memory hands out such an array, and kills the process when it is filled.
    """
    if size > usable_memory():
        raise _too_large(size, what, of)


def _too_large(size: int, what: str, of: object) -> MemoryError:
    allowed = f"the {byte_count(usable_memory())} of this machine, or of this process's control group"
    return MemoryError(f"{what} needs {byte_count(size)}, more than {allowed}{_of(of)}")


def _of(spec: object) -> str:
    return "" if spec is None else f" (of {spec})"


def copied(name: str, given: np.ndarray) -> np.ndarray:
    """A copy that nobody else changes."""
    result = allocate(given.shape, given.dtype, f"a copy of {name}")
    result[...] = given
    return result


def is_small(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether any machine has room for an array of this shape and dtype."""
    return 0 < math.prod(shape) * dtype.itemsize <= _SMALL_BYTES


#: Bytes of the largest array that NumPy can describe.
MAX_BYTES = 2**63 - 1


class _Header:
    """The memory of a read-only array, under an array interface that calls it writeable."""

    def __init__(self, owner: np.ndarray) -> None:
        self.owner = owner
        self.__array_interface__ = owner.__array_interface__ | {"data": (owner.ctypes.data, False)}


def result_array(
    shape: tuple[int, ...], dtype: np.dtype, out: object, inputs: Sequence[np.ndarray], of: object = None
) -> np.ndarray:
    """The array for a result `of` a spec: a new one, or `out` if it is given and fits."""
    return allocate(shape, dtype, of=of) if out is None else check_out(out, shape, dtype, inputs)


def check_out(out: object, shape: tuple[int, ...], dtype: np.dtype, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """`out` if a kernel may write the result there; TypeError or ValueError otherwise."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {shown(out)}")
    if type(out) is not np.ndarray and isinstance(out, np.matrix | np.ma.MaskedArray):
        raise TypeError(f"out must be a NumPy array of any number of axes and without a mask, got {type(out).__name__}")
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


def check_bytes(shape: Sequence[int], dtype: np.dtype, what: str, of: object = None) -> None:
    """MemoryError if NumPy cannot describe an array of this shape, in which empty axes count as one."""
    if math.prod(size or 1 for size in shape) * dtype.itemsize > MAX_BYTES:
        raise MemoryError(f"{what} of shape {tuple(shape)} and dtype {dtype} is larger than any array can be{_of(of)}")


def computed_array(result: np.ndarray, computed: np.dtype) -> np.ndarray:
    """The array that a kernel writes to: the result itself, or an array of the dtype that is computed in."""
    if result.dtype == computed:
        return result
    return result.view(computed) if result.dtype == np.bool_ else allocate(result.shape, computed)


def hand_over(target: np.ndarray, result: np.ndarray) -> None:
    """Move what a kernel wrote to `target` into `result`, unless both are one array."""
    if target is not result and result.dtype != np.bool_:
        with np.errstate(over="ignore"):  # a float16 that overflows is inf, as in any framework
            result[...] = target.reshape(result.shape)
