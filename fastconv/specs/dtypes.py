"""The dtypes that arrays may have, the dtypes that kernels store and add up in, and how float32 is multiplied."""

from __future__ import annotations

import numpy as np

#: The dtype of bfloat16 on a GPU, which NumPy lacks: a structured dtype of two bytes.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])


#: Type codes of bool, the integers and float16/32/64.
SUPPORTED = frozenset("?bBhHiIlLqQefd")


def check_dtype(name: str, dtype: np.dtype) -> np.dtype:
    """`dtype` in native byte order if it is a bool, an integer or float16/32/64; TypeError otherwise."""
    if dtype.char not in SUPPORTED:
        raise TypeError(f"{name} has dtype {dtype}; supported are bool, the integers, float16, float32 and float64")
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def native(name: str, dtype: np.dtype) -> np.dtype:
    """`dtype` in native byte order if the kernels of any device take it; TypeError otherwise."""
    if dtype.char not in SUPPORTED and dtype == BFLOAT16:
        return dtype
    return check_dtype(name, dtype)


def named_dtype(name: str, value: object) -> np.dtype:
    """The supported dtype that `value` names; TypeError naming the argument otherwise."""
    try:
        return check_dtype(name, np.dtype(value))  # type: ignore[call-overload] # the TypeError is what is asked for
    except TypeError as error:
        raise TypeError(f"{name} must name a supported dtype, got {value!r}: {error}") from None


#: How float32 operands are multiplied: exactly, or on a GPU's tensor cores with 10 bits of each factor or about 21.
PRECISIONS = ("float32", "tf32", "tf32x3")


def storage(dtype: np.dtype) -> np.dtype:
    """The dtype that the CPU's kernels read arrays of `dtype` as."""
    if dtype.kind in "fV":
        return np.dtype(np.float32) if dtype.itemsize == 2 else dtype
    if dtype.itemsize == 1:
        return np.dtype(np.int8) if dtype.kind == "i" else np.dtype(np.uint8)
    return np.dtype(np.int64)


def accumulator(dtype: np.dtype) -> np.dtype:
    """The dtype that products of operands of `dtype` are added up in."""
    if dtype.kind in "fV":
        return storage(dtype)
    return np.dtype(np.int32) if dtype.itemsize == 1 else np.dtype(np.int64)
