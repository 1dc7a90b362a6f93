"""Launches in Numba's simulator, in which the threads of a block take turns.

Numba's own launch starts a Python thread for each thread of a block, and asks all of them over and over whether they
have come to a barrier, which takes longer than their work. Here one thread runs until it comes to a barrier or ends,
and only then another. Python's threads are kept from block to block, and a block without barriers needs only one.

The next thread is drawn by lot, anew after each barrier, with equal results in every run. So where a kernel lacks a
barrier, some thread reads a value that is not written yet, or is overwritten already.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numba import types
from numba.cuda.simulator.kernelapi import Dim3, FakeCUDAModule, FakeCUDAShared, swapped_cuda_module
from numba.np.numpy_support import as_dtype

_SHARED = threading.Lock()


def launch(function: Callable, grid: tuple[int, ...], size: tuple[int, ...], shared: int, arguments: tuple) -> None:
    """Run a kernel, block after block of `size` threads, with `shared` bytes of dynamic shared memory."""
    module: Any = FakeCUDAModule(grid, size, shared)
    module._shared = Shared(shared)
    with swapped_cuda_module(function, module):
        for z, y, x in product(*map(range, grid[::-1])):
            Block(function, arguments, Dim3(x, y, z), size).run()


class Shared(FakeCUDAShared):
    """Shared memory of a launch: one array for each line of code that asks. (Numba's class reads the sources.)"""

    def array(self, shape: Any, dtype: Any, alignment: int | None = None) -> np.ndarray:
        if shape == 0:
            return super().array(shape, dtype)
        caller = sys._getframe(1)
        place = caller.f_code.co_filename, caller.f_lineno
        with _SHARED:
            if place not in self._allocations:
                self._allocations[place] = np.empty(shape, as_dtype(dtype) if isinstance(dtype, types.Type) else dtype)
            return self._allocations[place]


class Block:
    """A block, whose threads take turns."""

    def __init__(self, function: Callable, arguments: tuple, place: Dim3, size: tuple[int, ...]) -> None:
        self.function, self.arguments, self.place, self.size = function, arguments, place, size
        self._lot = random.Random(repr(place))
        self.new = self._mixed(list(product(*map(range, size))))
        """Indices of the threads that have not begun."""
        self._waiting: list[Thread] = []
        self._ready: list[Thread] = []
        self.failure: Exception | None = None
        self._ended = _closed()
        self.boards: defaultdict[int, dict[int, tuple]] = defaultdict(dict)
        """Values that threads show one another without shared memory, by the number of the step."""

    def run(self) -> None:
        self.next()
        self._ended.acquire()
        if self.failure:
            raise self.failure

    def _mixed(self, threads: list) -> list:
        self._lot.shuffle(threads)
        return threads

    def next(self) -> None:
        """Let another thread run: a new one, or one from the barrier, which opens when all threads have come."""
        if self.new:
            thread = _IDLE.pop() if _IDLE else Thread()
            thread.block = self
        else:
            if not self._ready:
                self._ready, self._waiting = self._mixed(self._waiting), []
            if not self._ready:
                return self._ended.release()
            thread = self._ready.pop()
        thread.turn.release()

    def wait(self, thread: Thread) -> None:
        """Keep a thread at the barrier until all threads have come."""
        self._waiting.append(thread)
        self.next()
        thread.turn.acquire()
        if self.failure:
            raise RuntimeError("another thread of the block has failed")

    def fail(self, failure: Exception) -> None:
        """Note a failure. The first one is the block's: other threads end at the barrier, or do not begin."""
        self.failure = self.failure or failure
        self.new.clear()


class Thread(threading.Thread):
    """A Python thread that plays one thread of a block after another. What kernels ask of it has Numba's names."""

    block: Block
    threadIdx: Dim3
    thread_id: int

    def __init__(self) -> None:
        super().__init__(name="simulated", daemon=True)
        self.turn = _closed()
        self.start()

    def run(self) -> None:
        np.seterr(all="ignore")  # a GPU does not warn
        while True:
            self.turn.acquire()
            block = self.block
            while block.new:
                self._become(*block.new.pop())
                try:
                    block.function(*block.arguments)
                except Exception as error:
                    error.add_note(f"in thread {tuple(self.threadIdx)} of block {tuple(self.blockIdx)}")
                    block.fail(error)
            _IDLE.append(self)
            block.next()

    def _become(self, x: int, y: int, z: int) -> None:
        width, height, _ = self.block.size
        self.threadIdx, self.thread_id = Dim3(x, y, z), x + width * (y + height * z)
        self.copies: list[list[tuple]] = [[]]
        """Groups of copies that are under way; the last one is still open."""
        self.steps = 0

    @property
    def blockIdx(self) -> Dim3:
        return self.block.place

    def syncthreads(self) -> None:
        self.block.wait(self)


#: Threads that no block uses at the moment.
_IDLE: list[Thread] = []


def this() -> Thread:
    """The simulated thread that calls this function."""
    thread = threading.current_thread()
    assert isinstance(thread, Thread)
    return thread


def _closed() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
