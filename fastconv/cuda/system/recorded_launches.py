"""Launches of a plan's call, recorded once for each layout, and repeated; for arrays in C order recorded at planning.

An algorithm in Python decides on grids, constants and arguments at every run, which for a small layer takes longer than
the kernels. All of that follows from shapes, strides and the alignment of pointers; only the addresses of input, output
and scratch memory change from call to call. So the algorithm runs once on a stream that launches nothing, with made-up
addresses that cannot be mistaken for others. Where an argument is one of them, its number and offset are noted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .kernels import Kernel
from .streams import Buffer, GpuStream, Stream, Tensor, launch_config, sizes

#: Made-up addresses lie in the middle between multiples of this, above all real addresses.
_APART = 1 << 64
#: Pointers that leave equal remainders by this number of bytes are aligned alike.
ALIGNED = 256


class _Launch(NamedTuple):
    kernel: Any
    """The kernel as it is loaded on the device."""
    config: Any
    arguments: list
    moved: tuple[tuple[int, int, int], ...]
    """For each pointer: its place in the arguments, the number of its memory, and its offset there in bytes."""


class _Empty(NamedTuple):
    number: int
    size: int


class _Free(NamedTuple):
    number: int


class Program:
    """The launches for one layout on one device."""

    def __init__(
        self, run: Callable[[Stream, Tensor, Tensor], None], stream: GpuStream, x: Tensor, out: Tensor
    ) -> None:
        recorder = _RecordingStream(stream.device)
        given = (replace(tensor, pointer=_begin(number) + tensor.pointer % ALIGNED, owner=None)
                 for number, tensor in enumerate((x, out), 1))
        run(recorder, *given)
        self._steps = tuple(recorder.steps)

    def run(self, stream: GpuStream, x: int, out: int) -> None:
        """Repeat the launches for an input and an output at these addresses."""
        addresses = {1: x - x % ALIGNED, 2: out - out % ALIGNED}
        memory: dict[int, Buffer] = {}
        for step in self._steps:
            if isinstance(step, _Launch):
                arguments = step.arguments.copy()
                for place, number, offset in step.moved:
                    arguments[place] = addresses[number] + offset
                stream.start(step.kernel, step.config, arguments)
            elif isinstance(step, _Empty):
                memory[step.number] = buffer = stream.empty(step.size, np.uint8)
                addresses[step.number] = buffer.pointer
            else:
                del memory[step.number]


def _begin(number: int) -> int:
    """The made-up address of a piece of memory."""
    return number * _APART + _APART // 2


class _RecordingStream(Stream):
    """A stream that notes what is asked of it."""

    def __init__(self, device: Any) -> None:
        self._device, self._count = device, 2
        self.steps: list[_Launch | _Empty | _Free] = []

    def launch(self, kernel: Kernel, grid: Any, block: Any, *arguments: Any, shared: int = 0) -> None:
        if 0 in sizes(grid):
            return
        moved, place = [], 0
        for kind, value in zip(kernel.signature, arguments, strict=True):
            if isinstance(kind, types.CPointer) and value >= _APART:
                number = value // _APART
                moved.append((place, number, value - _begin(number)))
            place += getattr(kind, "count", 1)
        config = launch_config(sizes(grid), sizes(block), shared)
        self.steps.append(_Launch(kernel.loaded(self._device, shared), config, kernel.pack(arguments), tuple(moved)))

    def empty(self, size: int, dtype: Any) -> Buffer:
        self._count += 1
        dtype, owner = np.dtype(dtype), _Owner()
        weakref.finalize(owner, self.steps.append, _Free(self._count))
        self.steps.append(_Empty(self._count, max(size, 1) * dtype.itemsize))
        return Buffer(_begin(self._count), size, dtype, owner)

    def upload(self, array: np.ndarray) -> Buffer:
        raise NotImplementedError("an algorithm copies nothing to the device when it runs: that is for planning")

    def zeros(self, size: int, dtype: Any) -> Buffer:
        raise NotImplementedError("an algorithm makes its zeros when it is planned")


class _Owner:
    """An object that ends when nobody holds its made-up memory any more."""


__all__ = ["ALIGNED", "Program"]
