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
#: Bytes between what two of Numba's threads write: tiles and transposes fetch what lies up to 6 KB ahead, and lines
#: that another thread writes would go to and fro. (Weights of 256x256x3x3 change channels on two threads in 91 us, in
#: 127 without a gap, and in 385 where cores are far apart; an AMD EPYC of Zen 5.)
GAP_BYTES = 8 << 10
#: Most ready-made views that are kept: calls of a few microseconds find theirs without making it.
KEPT_VIEWS = 256


class _Kept(threading.local):
    def __init__(self) -> None:
        self.memories: dict[str, np.ndarray] = {}
        self.views: dict[tuple, np.ndarray] = {}
        self.for_one_call = False


_kept = _Kept()
_lone = np.empty(0, np.uint8)


def buffer(step: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array for a step of a call, valid until this thread asks for that step's array again."""
    view = _kept.views.get((step, shape, dtype))
    return _new_view(step, shape, dtype) if view is None else view


def _new_view(step: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = math.prod(shape) * dtype.itemsize
    if size > KEPT_BYTES:
        return _aligned(size).view(dtype).reshape(shape)
    memory = _kept.memories.get(step)
    if memory is None or memory.nbytes < size:
        memory = _kept.memories[step] = _aligned(size)
        _kept.views.clear()  # those of the old one would keep it alive
    elif len(_kept.views) >= KEPT_VIEWS:
        _kept.views.clear()
    view = _kept.views[step, shape, dtype] = memory[:size].view(dtype).reshape(shape)
    return view


def scratch_rows(size: int, dtype: np.dtype, name: str = "scratch") -> np.ndarray:
    """An uninitialised array of one row of at least `size` elements for each of Numba's threads; one of each name.

    Inside a kernel a task uses row ``numba.get_thread_id()``. It is valid until this Python thread's next call.
    """
    line = 64 // dtype.itemsize  # rows begin at cache lines
    # Not `num_threads`: another thread may raise that limit before the kernel starts.
    return buffer(name, (masked_threads(), -(-size // line) * line + GAP_BYTES // dtype.itemsize), dtype)


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
    if _kept.for_one_call:
        return buffer("packed weights", shape, dtype)
    return _aligned(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def own_panels(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array (threads, panels, *shape) for one call's packed weights: each of Numba's threads uses its
    first panel, and the others keep it `GAP_BYTES` from the next thread's."""
    between = -(-GAP_BYTES // (math.prod(shape) * dtype.itemsize))
    return weights_array((masked_threads(), 1 + between, *shape), dtype)


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
