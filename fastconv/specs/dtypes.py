"""The dtypes that arrays may have, the dtypes that kernels store and add up in, and how float32 is multiplied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..base.values import shown

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
    if (dtype.char in SUPPORTED and dtype.isnative) or dtype == BFLOAT16:
        return dtype
    return check_dtype(name, dtype)


def named_dtype(name: str, value: object, check: Callable[[str, np.dtype], np.dtype] = check_dtype) -> np.dtype:
    """The supported dtype that `value` names; TypeError naming the argument otherwise."""
    try:
        return check(name, named(value))
    except Exception as error:  # NumPy has several for what it cannot read
        raise TypeError(f"{name} must name a supported dtype, got {shown(value)}: {error}") from None


def named(given: Any) -> np.dtype:
    """The dtype of this name or type in NumPy or PyTorch; TypeError if there is none."""
    text = str(given).removeprefix("torch.")
    if text == "bfloat16":
        return BFLOAT16
    return np.dtype(given if text == str(given) else text)


def label(dtype: np.dtype) -> str:
    """The name of a dtype in messages."""
    return "bfloat16" if dtype == BFLOAT16 else str(dtype)


def is_half(dtype: np.dtype) -> bool:
    """Whether a dtype is a float of 16 bits."""
    return dtype.kind in "fV" and dtype.itemsize == 2


def computed(dtype: np.dtype) -> np.dtype:
    """The dtype that elements are compared and added up in: float32 for halves, otherwise `dtype` itself."""
    return np.dtype(np.float32) if is_half(dtype) else dtype


def promoted(dtypes: Sequence[np.dtype]) -> np.dtype:
    """The common dtype of several operands, by NumPy's rules; TypeError if bfloat16 is mixed with another dtype."""
    if BFLOAT16 in dtypes:
        if any(dtype != BFLOAT16 for dtype in dtypes):
            raise TypeError(f"bfloat16 operands mix with none of another dtype, got {', '.join(map(label, dtypes))}")
        return BFLOAT16
    return np.result_type(*dtypes).newbyteorder("=")


def converts(given: np.dtype, wanted: np.dtype) -> bool:
    """Whether every value of the dtype `given` can be converted to `wanted` without loss."""
    return given == wanted or (BFLOAT16 not in (given, wanted) and np.can_cast(given, wanted))


def gradient_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a pooling's gradient, from that of the gradient for its output: float64 for integers."""
    return dtype.newbyteorder("=") if dtype.kind in "fV" else np.dtype(np.float64)


#: How float32 operands are multiplied: exactly, or on a GPU's tensor cores with 10 bits of each factor or about 21.
PRECISIONS = ("float32", "tf32", "tf32x3")


def storage(dtype: np.dtype) -> np.dtype:
    """The dtype that the CPU's kernels read arrays of `dtype` as."""
    if dtype.kind in "fV":
        return computed(dtype)
    if dtype.itemsize == 1:
        return np.dtype(np.int8) if dtype.kind == "i" else np.dtype(np.uint8)
    return np.dtype(np.int64)


def accumulator(dtype: np.dtype) -> np.dtype:
    """The dtype that products of operands of `dtype` are added up in."""
    if dtype.kind in "fV":
        return storage(dtype)
    return np.dtype(np.int32) if dtype.itemsize == 1 else np.dtype(np.int64)
