"""The instructions of `ptx_device` in plain Python, for Numba's simulator: the same names, arguments and rounding, down
to which lane of a warp holds which value, with what each instruction is for.

Source: NVIDIA, PTX ISA, the sections on ld, cp.async, cvt and mma.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..system.simulator import this

int64 = int


def int32(value: Any) -> Any:
    """A signed integer of 32 bits: Numba's default has 64, and takes two registers."""
    value = int(value)
    return value if -(1 << 31) <= value < 1 << 31 else _signed(value & 0xFFFFFFFF)


def inlined(function: Any) -> Any:
    """Decorator of a function that kernels call, to be inlined."""
    return function


def within(value: Any, size: Any) -> Any:
    """Whether ``0 <= value < size``, in one comparison."""
    return 0 <= value < size


def opaque(value: Any) -> Any:
    """The value, unknown to the compiler: what is derived from it is computed here and not kept from before."""
    return value


def advance(pointer: Any, offset: Any) -> Any:
    """Pointer to ``pointer[offset]``."""
    return pointer.moved(offset)


def _aligned(array: Any, index: Any, size: int) -> None:
    """IndexError where a GPU would stop. (Arrays without an address, in shared memory, begin at a boundary.)"""
    address = array.address(index) if hasattr(array, "address") else int(index) * array.itemsize
    if address % size:
        raise IndexError(f"a kernel takes {size} bytes at once from {address:#x}")


def load4(array: Any, index: Any) -> Any:
    """Four elements from `index` on, in one load; aligned to 16 bytes, or to 4 elements if that is less."""
    _aligned(array, index, min(16, 4 * (array.array if hasattr(array, "array") else array).itemsize))
    return array[index], array[index + 1], array[index + 2], array[index + 3]


def store4(array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """Store ``array[index : index + 4] = a, b, c, d`` at once, aligned as for `load4`."""
    _aligned(array, index, min(16, 4 * (array.array if hasattr(array, "array") else array).itemsize))
    array[index], array[index + 1], array[index + 2], array[index + 3] = a, b, c, d


def copier(size: int) -> Any:
    """Make the function that starts to copy `size` bytes, 4, 8 or 16, to shared memory, where they arrive later.

    It takes the shared array and a place there, a pointer and an index, both aligned to `size`, and whether the
    bytes are wanted: if not, nothing is read, and zeros arrive. In the simulator bytes arrive as late as they may.
    """

    def copy(shared: Any, place: Any, pointer: Any, index: Any, wanted: Any) -> None:
        _aligned(shared, place, size)
        if wanted:
            _aligned(pointer, index, size)
        this().copies[-1].append((size, shared, place, pointer, index, wanted))

    return copy


def commit() -> None:
    """Make a group of the copies that this thread started since the last call."""
    this().copies.append([])


def arrival(newest: int) -> Any:
    """Make the function that waits until all groups of this thread have arrived but the `newest` ones."""

    def wait() -> None:
        groups = this().copies
        while len(groups) - 1 > newest:
            for size, shared, place, pointer, index, wanted in groups.pop(0):
                raw = np.zeros(size // pointer.array.itemsize, pointer.array.dtype)
                if wanted:
                    raw[:] = [pointer[int(index) + i] for i in range(len(raw))]
                for i, value in enumerate(raw.view(shared.dtype)):
                    shared[int(place) + i] = value

    return wait


def word(value: Any) -> Any:
    """The bits of a float32, as an integer of 32 bits."""
    return int(np.float32(value).view(np.int32))


def number(bits: Any) -> Any:
    """The float32 that has these bits."""
    return np.int32(bits).view(np.float32)


def tf32(value: Any) -> Any:
    """The bits of a float32 rounded to the 10 bits of TF32, halves away from zero (``cvt.rna``)."""
    value = np.float32(value)
    return _signed((int(value.view(np.uint32)) + 0x1000) & 0xFFFFE000) if np.isfinite(value) else word(value)


def split(bits: Any) -> Any:
    """A float32 as two TF32 numbers: rounded to the first 10 bits, and the rest. All three are given as bits."""
    big = _signed((int(bits) + 0x1000) & 0xFFFFE000)
    with np.errstate(invalid="ignore"):
        return big, word(number(bits) - number(big))


def mma(kind: str, accumulator: Any) -> Any:
    """Make the function for a step of a warp's matrix product, with factors of a `kind` of `ptx_device.MMA`.

    It takes a lane's words of A (16 rows) and of B (8 columns) and its four sums of C, and returns the sums with
    the products added. A word is one float32, two halves or four bytes along k. Lane 4 g + t holds rows g and g + 8
    of A and column g of B, words t and t + 4 of each; and rows g and g + 8, columns 2t and 2t + 1 of C.
    """

    def step(a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, c0: Any, c1: Any, c2: Any, c3: Any) -> Any:
        thread = this()
        boards, steps = thread.block.boards, thread.steps + 1
        thread.steps = steps
        boards[steps][thread.thread_id] = (a0, a1, a2, a3, b0, b1)
        thread.syncthreads()  # all warps of a block make the same steps
        boards.pop(steps - 1, None)
        lane = thread.thread_id % 32
        words = np.array([boards[steps][thread.thread_id - lane + i] for i in range(32)], np.int64)
        g, t = divmod(lane, 4)
        rows = [_factors(kind, np.concatenate([words[4 * g : 4 * g + 4, i], words[4 * g : 4 * g + 4, i + 2]]))
                for i in (0, 1)]
        cols = [_factors(kind, np.concatenate([words[4 * o : 4 * o + 4, i] for i in (4, 5)]))
                for o in (2 * t, 2 * t + 1)]
        sums = zip((c0, c1, c2, c3), [(row, col) for row in rows for col in cols], strict=True)
        with np.errstate(invalid="ignore", over="ignore"):
            return tuple(np.asarray((row * col).sum() + c).astype(accumulator.name)[()] for c, (row, col) in sums)

    return step


def _factors(kind: str, words: np.ndarray) -> np.ndarray:
    """The factors in words, exact in float64 or in int64."""
    bits = words.astype(np.uint32)
    if kind == "tf32":
        return (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
    if kind == "bf16":
        return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if kind == "f16":
        return bits.view(np.float16).astype(np.float64)
    return bits.view(np.int8 if kind == "s8" else np.uint8).astype(np.int64)


def _signed(bits: int) -> int:
    return bits - (1 << 32) if bits >> 31 else bits
