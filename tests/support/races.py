"""Races between threads, found in Numba's simulator whatever the order is in which threads take turns.

While `watched` lasts, each access of a thread to shared memory is noted with the number of barriers that it has passed.
Two threads of a block race if they access one byte between the same two barriers, and one of them writes. A copy to
shared memory (`cp.async`) writes when it is started and when it is waited for: a GPU writes at any time between. In
global memory nothing orders the threads of a launch: no two may write an element, and none may read it if another does.

The steps of `mma.sync`, at which the simulator's threads wait for each other, are no barriers of a block.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
from numba import types
from numba.cuda.simulator.kernelapi import FakeCUDAShared
from numba.np.numpy_support import as_dtype

from fastconv.cuda.system import simulator
from fastconv.cuda.system.streams import SimulatedPointer
from fastconv.cuda.tiles import ptx_simulated

#: Stands for several threads.
SEVERAL = (-1,)
#: Kernels of which several threads write the same mark to one element.
MARKING = ("winograd_weights",)


class Race(AssertionError):
    """Two threads that race."""


class Notes:
    """Who has accessed the shared memory of a block since the last barrier, what of it has been written, and where a
    copy has not arrived."""

    def __init__(self) -> None:
        self.accesses: dict[int, list[tuple[int, int, bool]]] = {}
        self.written: set[int] = set()
        self.under_way: set[int] = set()

    def clear(self) -> None:
        """Begin with the next block."""
        for one in (self.accesses, self.written, self.under_way):
            one.clear()


class Watched:
    """An array in shared memory whose accesses are noted."""

    def __init__(self, data: np.ndarray, notes: Notes) -> None:
        self.data, self.notes, self.dtype, self.itemsize = data, notes, data.dtype, data.itemsize
        self.start = data.ctypes.data

    def __getitem__(self, index: Any) -> Any:
        self.note(index, False)
        return self.data[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.notes.under_way.difference_update(self.note(index, True))
        self.data[index] = value

    def note(self, index: Any, writes: bool) -> range:
        """Note an access of this thread now; the result are its bytes, or the first of each four."""
        thread: Any = simulator.this()
        place = int(np.ravel_multi_index(index, self.data.shape)) if isinstance(index, tuple) else int(index)
        name = f"element {place} of {self.data.size} in shared memory"
        if not 0 <= place < self.data.size:
            raise Race(f"there is no {name}")
        first = self.start + place * self.itemsize
        touched = range(first, first + self.itemsize, min(4, self.itemsize))
        for byte in touched:
            before = [one for one in self.notes.accesses.get(byte, ()) if one[0] == thread.barriers]
            for _, other, wrote in before:
                if other != thread.thread_id and (writes or wrote):
                    first_did, then_did = ("written" if one else "read" for one in (wrote, writes))
                    raise Race(f"behind barrier {thread.barriers}, {name} is {first_did} by thread {other} and "
                               f"{then_did} by thread {thread.thread_id}")
            if not writes and (byte not in self.notes.written or byte in self.notes.under_way):
                raise Race(f"{name} is read, and nobody has written it, or a copy has not arrived")
            if (thread.barriers, thread.thread_id, writes) not in before:
                self.notes.accesses[byte] = [*before, (thread.barriers, thread.thread_id, writes)]
            if writes:
                self.notes.written.add(byte)
        return touched


class Group(list):
    """Copies that a thread has started: each writes from now on."""

    def append(self, copy: tuple) -> None:
        size, shared, place, *_ = copy
        for element in range(size // shared.itemsize):
            shared.notes.under_way.update(shared.note(int(place) + element, True))
        super().append(copy)


class Groups(list):
    """Groups of copies of a thread."""

    def append(self, group: list) -> None:
        super().append(Group(group))


@contextmanager
def watched() -> Iterator[list[int]]:
    """Races raise from the launch meanwhile. The one number that is yielded counts barriers, of all threads."""
    notes, count = Notes(), [0]
    wrote: dict[tuple[int, int], tuple] = {}
    read: dict[tuple[int, int], tuple] = {}
    run, become, launch = simulator.Block.run, simulator.Thread._become, simulator.launch
    get, put, turn = SimulatedPointer.__getitem__, SimulatedPointer.__setitem__, simulator.Thread.syncthreads

    def shared_array(self: Any, shape: Any, dtype: Any, alignment: int | None = None) -> Watched:
        if shape == 0:
            return Watched(FakeCUDAShared.array(self, shape, dtype), notes)
        caller = sys._getframe(1)
        place = caller.f_code.co_filename, caller.f_lineno
        if place not in self._allocations:
            self._allocations[place] = np.empty(shape, as_dtype(dtype) if isinstance(dtype, types.Type) else dtype)
        return Watched(self._allocations[place], notes)

    def run_block(self: Any) -> None:
        notes.clear()
        run(self)

    def become_another(self: Any, *place: int) -> None:
        become(self, *place)
        self.barriers, self.copies = 0, Groups([Group()])

    def barrier(self: Any) -> None:
        if sys._getframe(1).f_code.co_filename != ptx_simulated.__file__:
            self.barriers += 1
            count[0] += 1
        turn(self)

    def launch_alone(*arguments: Any) -> None:
        wrote.clear()
        read.clear()
        launch(*arguments)

    def me() -> tuple:
        thread: Any = simulator.this()
        return (*thread.blockIdx, thread.thread_id)

    def fetch(self: SimulatedPointer, index: Any) -> Any:
        value, key, mine = get(self, index), (self.array.ctypes.data, self.start + int(index)), me()
        if wrote.get(key, mine) != mine:
            raise Race(f"{mine} reads element {key[1]}, which {wrote[key]} writes in the same launch")
        read[key] = mine if read.get(key, mine) == mine else SEVERAL
        return value

    def store(self: SimulatedPointer, index: Any, value: Any) -> None:
        put(self, index, value)
        key, mine = (self.array.ctypes.data, self.start + int(index)), me()
        if sys._getframe(1).f_code.co_name in MARKING:
            return
        for others in (wrote, read):
            if others.get(key, mine) != mine:
                raise Race(f"{mine} writes element {key[1]}, which {others[key]} accesses in the same launch")
        wrote[key] = mine

    with ExitStack() as stack:
        for place, name, function in (
            (simulator.Shared, "array", shared_array), (simulator.Block, "run", run_block),
            (simulator.Thread, "_become", become_another), (simulator.Thread, "syncthreads", barrier),
            (simulator, "launch", launch_alone), (SimulatedPointer, "__getitem__", fetch),
            (SimulatedPointer, "__setitem__", store),
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(place, name, function))
        yield count
