"""Memory that is kept for the calling thread's next call: fresh memory costs a page fault every 4 KiB, and is cold.

It is of three kinds: scratch for Numba's threads, weights packed for one call, and buffers between two steps of a call.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .threads import masked_threads

#: Bytes of the largest array that is kept, a guess at what a process can spare for good.
KEPT_BYTES = 32 << 20
#: Least bytes of the row that kernels share: few small ones are kept, then, by those who have asked before it grew.
LONE_BYTES = 256 << 10
#: Most ready-made views of scratch that are kept: calls of a few microseconds find theirs without making it.
KEPT_VIEWS = 256


class _Kept(threading.local):
    def __init__(self) -> None:
        self.scratch = np.empty(0, np.uint8)
        self.views: dict[tuple, np.ndarray] = {}
        self.weights = np.empty(0, np.uint8)
        self.for_one_call = False
        self.buffers: dict[str, np.ndarray] = {}


_kept = _Kept()
_lone = np.empty(0, np.uint8)


def buffer(step: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array for a step of a call, valid until this thread asks for that step's array again."""
    size = math.prod(shape) * dtype.itemsize
    memory = _kept.buffers.get(step)
    if memory is None or memory.nbytes < size:
        memory = _aligned(size)
        if size <= KEPT_BYTES:
            _kept.buffers[step] = memory
    return memory[:size].view(dtype).reshape(shape)


def scratch_rows(size: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised array of one row of at least `size` elements for each of Numba's threads.

    Inside a kernel a task uses row ``numba.get_thread_id()``. It is valid until this Python thread's next call.
    """
    # Not `num_threads`: another thread may raise that limit before the kernel starts.
    key = size, dtype, masked_threads()
    view = _kept.views.get(key)
    return _new_rows(*key) if view is None else view


def _new_rows(size: int, dtype: np.dtype, threads: int) -> np.ndarray:
    item = np.dtype(dtype).itemsize
    row = -(-size * item // 64) * 64  # rows begin at cache lines
    needed = row * threads
    keep = needed <= KEPT_BYTES
    memory = _kept.scratch
    if memory.nbytes < needed or not keep:
        memory = _aligned(needed)
        if keep:
            _kept.scratch, _kept.views = memory, {}  # views of the old one would keep it alive
    view = memory[:needed].view(dtype).reshape(threads, row // item)
    if keep:
        if len(_kept.views) >= KEPT_VIEWS:
            _kept.views.clear()
        _kept.views[size, dtype, threads] = view
    return view


def lone_row(size: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised array of one row for kernels that run at once, holding Python's lock (`kernels.Direct`): all of
    them share it. None of more than `KEPT_BYTES` is shared."""
    global _lone
    needed = -(-size * dtype.itemsize // 64) * 64
    memory = _lone
    if memory.nbytes < needed:
        memory = _aligned(max(needed, LONE_BYTES))
        if needed <= KEPT_BYTES:
            _lone = memory
    return memory[:needed].view(dtype).reshape(1, -1)


def weights_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array for packed weights: new or, for one call, in memory that this thread keeps."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not _kept.for_one_call or size > KEPT_BYTES:
        return _aligned(size).view(dtype).reshape(shape)
    if _kept.weights.nbytes < size:
        _kept.weights = _aligned(size)
    return _kept.weights[:size].view(dtype).reshape(shape)


def for_one_call(prepare: Callable[..., Any], *args: Any) -> Any:
    """``prepare(*args)`` for a result that is used before this thread's next call of `for_one_call`, not after it."""
    _kept.for_one_call = True
    try:
        return prepare(*args)
    finally:
        _kept.for_one_call = False


def is_for_one_call() -> bool:
    """Whether what is prepared now is for one call."""
    return _kept.for_one_call


def _aligned(size: int) -> np.ndarray:
    """An uninitialised array of so many bytes that begins at a cache line."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]
