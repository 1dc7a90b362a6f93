"""What a plan's call launches, written down once for a layout, for arrays in C order when planning, and repeated.

An algorithm in Python decides on grids, constants and arguments every time, which for a small layer takes longer than
the kernels. All of it follows from shapes, strides and how pointers are aligned; only where input, output and scratch
memory are changes from call to call. So the algorithm is run once on a stream that launches nothing, with made-up
addresses that tell themselves from others, and where one of them is an argument, its number and offset are noted.
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

#: Made-up memory begins in the middle between multiples of this, above all addresses that there are.
_APART = 1 << 64
#: Two pointers with the same remainder are aligned alike.
ALIGNED = 256


class _Launch(NamedTuple):
    kernel: Any
    """As loaded on the device."""
    config: Any
    arguments: list
    moved: tuple[tuple[int, int, int], ...]
    """Place in the arguments, number of the memory, and how far behind its beginning."""


class _Empty(NamedTuple):
    number: int
    size: int


class _Free(NamedTuple):
    number: int


class Program:
    """Launches of one layout on one device, to be repeated."""

    def __init__(
        self, run: Callable[[Stream, Tensor, Tensor], None], stream: GpuStream, x: Tensor, out: Tensor
    ) -> None:
        recorder = _Recorder(stream.device)
        given = (replace(tensor, pointer=_begin(number) + tensor.pointer % ALIGNED, owner=None)
                 for number, tensor in enumerate((x, out), 1))
        run(recorder, *given)
        self._steps = tuple(recorder.steps)

    def run(self, stream: GpuStream, x: int, out: int) -> None:
        """Launch it for an input and an output at these addresses."""
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


class _Recorder(Stream):
    """Writes down what it is asked for."""

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
    """Goes when made-up memory is no longer held."""


__all__ = ["ALIGNED", "Program"]
