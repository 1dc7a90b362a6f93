"""Random problems for `fastconv.ndimage`: images of any layout, and what differs between float results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

MODES = ("reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap")
INTEGERS = ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")
FLOATS = ("f4", "f8")
DTYPES = INTEGERS + FLOATS


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Numbers all over the range of a dtype; of 64 bits such that float64 has no sum rounded."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4)).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    bound = np.iinfo(dtype)
    low, high = max(int(bound.min), -(2**40)), min(int(bound.max), 2**40)
    return rng.integers(low, high, shape, dtype=dtype.newbyteorder("="), endpoint=True)


def image(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An image as it may come: any strides, byte order, alignment, read-only."""
    base = values(rng, shape, dtype)
    layout = rng.integers(7)
    if layout == 0:
        return base
    if layout == 1:
        base = np.asfortranarray(base)
    elif layout == 2:  # every other element, some axes backwards
        wide = np.zeros(tuple(2 * size + 1 for size in shape), base.dtype)
        steps = tuple(slice(1, None, 2) if rng.random() < 0.5 else slice(2 * size - 1 if size else None, 0, -2)
                      for size in shape)  # fmt: skip
        view = wide[tuple(slice(0, 0) if not size else step for size, step in zip(shape, steps, strict=True))]
        view[...] = base
        base = view
    elif layout == 3:
        base = base.astype(base.dtype.newbyteorder(">"))
    elif layout == 4:
        base.flags.writeable = False
    elif layout == 5 and base.size:  # not aligned
        memory = np.zeros(base.nbytes + 1, np.uint8)
        view = memory[1:].view(base.dtype).reshape(shape)
        view[...] = base
        base = view
    elif layout == 6:
        order = tuple(rng.permutation(len(shape)))
        base = np.ascontiguousarray(base.transpose(order)).transpose(np.argsort(order))
    return base


def shape(rng: np.random.Generator, most: int = 4, longest: int = 17) -> tuple[int, ...]:
    """A shape of at least one axis; now and then with axes of 0 or 1 elements."""
    axes = int(rng.integers(1, most + 1))
    sizes = rng.integers(2, max(4, longest // axes + 3), axes)
    for axis in range(axes):
        if (odd := rng.random()) < 0.12:
            sizes[axis] = 0 if odd < 0.03 else 1
    return tuple(map(int, sizes))


def origin(rng: np.random.Generator, size: int, turned: bool = False) -> int:
    """An origin of a window, both ends included; of one that is `turned` round."""
    found = int(rng.integers(-(size // 2), (size - 1) // 2 + 1))
    return -found - (size % 2 == 0) if turned else found


def off(result: np.ndarray, exact: np.ndarray, scale: np.ndarray) -> float:
    """The largest error in units in the last place of `scale`: 2**-23 of it, of float32."""
    errors = np.abs(result.astype(np.float64) - exact) / np.abs(scale)
    return float(errors.max(initial=0) / np.finfo(result.dtype).eps)


def same(result: np.ndarray, expected: np.ndarray, told: Callable[[], object]) -> None:
    """AssertionError unless both are equal, bit by bit but for NaN."""
    assert result.dtype == expected.dtype, told()
    assert result.shape == expected.shape, told()
    np.testing.assert_array_equal(result, expected, err_msg=str(told()))
