"""Calls with NumPy arrays: slices travel to the GPU and back, so that copies and kernels overlap.

The slices of a batch use two lanes in turn. A lane is a stream with two pieces of pinned memory: the device reads and
writes them while this thread fills or empties those of the other lane. A batch may exceed the device's memory.
"""

from __future__ import annotations

import ctypes
import math
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .kernels import SIMULATED, checked, require, storage
from .streams import Buffer, GpuStream, SimulatedStream, Stream

#: Bytes of input and output in a slice (64 MiB): enough for copies at full speed and for a kernel to fill the GPU, and
#: little beside any device's memory.
SLICE_BYTES = 64 << 20
#: Share of the device's memory that a slice with its scratch memory may take.
MEMORY_SHARE = 0.25


def slices(count: int, item_bytes: int, item_scratch: int, memory: int) -> int:
    """Number of items in a slice, of `count` items in all."""
    fits = int(MEMORY_SHARE * memory) // max(item_bytes + item_scratch, 1)
    return max(1, min(count, fits, SLICE_BYTES // max(item_bytes, 1)))


def nothing(stream: Stream) -> None:
    """Prepare step of operations without weights."""


def pipeline(
    inputs: Sequence[tuple[np.ndarray, np.dtype]],
    outs: Sequence[np.ndarray],
    step: int,
    run: Callable[[Stream, Any, list[Buffer], list[Buffer], int], None],
    prepare: Callable[[Stream], Any] = nothing,
) -> None:
    """Pass slices of `step` items along the first axes through ``run(stream, prepared, inputs, outs, items)``.

    Each input comes with the dtype that it is converted to on the way. `outs` are C-contiguous arrays, and have the
    shapes and dtypes of what comes back.
    """

    def launch(stream: Stream, prepared: Any, given: list[Buffer], items: int) -> list[Buffer]:
        results = [stream.empty(math.prod(out.shape[1:]) * items, out.dtype) for out in outs]
        run(stream, prepared, given, results, items)
        return results

    def take(first: int, last: int, parts: list[np.ndarray]) -> None:
        for out, part in zip(outs, parts, strict=True):
            target = out[first:last]
            target[...] = part.reshape(target.shape)

    passed(inputs, step, launch, take, prepare)


def passed(
    inputs: Sequence[tuple[np.ndarray, np.dtype]],
    step: int,
    run: Callable[[Stream, Any, list[Buffer], int], list[Buffer]],
    take: Callable[[int, int, list[np.ndarray]], None],
    prepare: Callable[[Stream], Any] = nothing,
) -> None:
    """Pass slices, as `pipeline` does, through ``results = run(stream, prepared, inputs, items)``. The results of each
    are handed to ``take(first, last, results)`` on the host, in order, which must have read them when it returns.
    """
    with _lanes() as lanes:
        prepared = prepare(lanes[0].stream)
        lanes[0].join(lanes[1])
        pending: list[tuple[int, int] | None] = [None, None]
        items = inputs[0][0].shape[0]
        for number, first in enumerate(range(0, items, step)):
            lane, last = lanes[number % 2], min(first + step, items)
            if before := pending[number % 2]:
                take(*before, lane.collect())
            given = [lane.send(f"in {at}", x[first:last], dtype) for at, (x, dtype) in enumerate(inputs)]
            lane.fetch(run(lane.stream, prepared, given, last - first))
            pending[number % 2] = (first, last)
        for lane, part in sorted(zip(lanes, pending, strict=True), key=lambda pair: pair[1] or (0, 0)):
            if part:
                take(*part, lane.collect())


class _Lane:
    """A stream, and pinned memory that the device and this process share."""

    def __init__(self, device: Any) -> None:
        self.stream: Stream = SimulatedStream() if SIMULATED else GpuStream(device, device.create_stream())
        self._pinned: dict[str, tuple[Any, np.ndarray]] = {}
        self._fetched: list[tuple[np.ndarray, np.dtype]] = []

    def join(self, other: _Lane) -> None:
        """Let the other lane's work begin after this lane's."""
        if not SIMULATED:
            other.stream.stream.wait(self.stream.stream)  # type: ignore[attr-defined]

    def send(self, use: str, x: np.ndarray, dtype: np.dtype) -> Buffer:
        """Start to copy an array to the device, without gaps and in `dtype`."""
        flat = self._memory(use, x.size * dtype.itemsize).view(dtype)
        flat.reshape(x.shape)[...] = x
        if SIMULATED:
            return self.stream.upload(flat)
        from cuda.bindings import driver

        buffer = self.stream.empty(flat.size, dtype)
        if flat.size:
            checked(driver.cuMemcpyHtoDAsync(buffer.pointer, flat.ctypes.data, flat.nbytes, self.stream.handle))  # type: ignore[attr-defined]
        return buffer

    def fetch(self, results: list[Buffer]) -> None:
        """Start to copy results to the host."""
        self._fetched = []
        total = sum(-(-result.size * result.dtype.itemsize // 16) * 16 for result in results)
        memory, start = self._memory("out", total), 0
        for result in results:
            size = result.size * result.dtype.itemsize
            part, start = memory[start : start + size], start + -(-size // 16) * 16
            self._fetched.append((part, result.dtype))
            if SIMULATED:
                part.view(storage(result.dtype))[...] = result.pointer.array
            elif size:
                from cuda.bindings import driver

                checked(driver.cuMemcpyDtoHAsync(part.ctypes.data, result.pointer, size, self.stream.handle))  # type: ignore[attr-defined]

    def collect(self) -> list[np.ndarray]:
        """Wait for the fetched results: flat arrays in memory that the lane's next slice overwrites."""
        if not SIMULATED:
            self.stream.stream.sync()  # type: ignore[attr-defined]
        return [part.view(dtype) for part, dtype in self._fetched]

    def _memory(self, use: str, size: int) -> np.ndarray:
        """Pinned bytes for one use, kept for later slices and calls."""
        if use not in self._pinned or self._pinned[use][1].size < size:
            if SIMULATED:
                self._pinned[use] = (None, np.empty(size, np.uint8))
            else:
                from cuda.core import LegacyPinnedMemoryResource

                self.stream.stream.sync()  # type: ignore[attr-defined] # nobody may still use the old memory
                block = LegacyPinnedMemoryResource().allocate(max(size, 1 << 16))
                raw: Any = (ctypes.c_uint8 * max(size, 1 << 16)).from_address(int(block.handle))
                self._pinned[use] = (block, np.frombuffer(raw, np.uint8))
        return self._pinned[use][1][:size]


_FREE: queue.SimpleQueue[list[_Lane]] = queue.SimpleQueue()


@contextmanager
def _lanes() -> Iterator[list[_Lane]]:
    """Two lanes of the first device that no other thread uses. After an error they are not used again."""
    require()
    try:
        lanes = _FREE.get_nowait()
    except queue.Empty:
        lanes = _new_lanes()
    with lanes[0].stream.current():
        yield lanes
    _FREE.put(lanes)


def _new_lanes() -> list[_Lane]:
    if SIMULATED:
        return [_Lane(None), _Lane(None)]
    from cuda.core import Device

    device = Device(0)
    with GpuStream(device, None).current():
        return [_Lane(device), _Lane(device)]
