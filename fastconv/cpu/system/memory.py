"""Memory that lies between two steps of a call, kept for the calling thread's next: fresh memory costs a page fault
every 4 KiB, and is cold in the caches."""

from __future__ import annotations

import math
import threading

import numpy as np

#: Arrays up to this size are kept.
KEPT_BYTES = 32 << 20


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, np.ndarray] = {}


_kept = _Kept()


def kept(step: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array, valid until this thread asks for one of the same step again."""
    size = math.prod(shape) * dtype.itemsize
    buffer = _kept.buffers.get(step)
    if buffer is None or buffer.nbytes < size:
        memory = np.empty(size + 64, np.uint8)
        start = -memory.ctypes.data % 64  # at the beginning of a cache line
        buffer = memory[start : start + size]
        if size <= KEPT_BYTES:
            _kept.buffers[step] = buffer
    return buffer[:size].view(dtype).reshape(shape)
