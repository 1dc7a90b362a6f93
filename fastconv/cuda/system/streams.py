"""Device memory, and streams that provide it and launch kernels: a GPU's and the simulator's.

A launch takes bare pointers and integers. A caller's array is a `Tensor`: a pointer with sizes and strides.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np

from .kernels import MOST_BLOCKS, Kernel, checked, storage

# -- memory --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Buffer:
    """A piece of device memory without gaps, freed when nobody holds it, in the order of its stream."""

    pointer: Any
    size: int
    """Number of elements."""
    dtype: np.dtype
    owner: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of device memory: a pointer to element (0, 0, 0, 0), sizes, and strides in elements.

    Axes are (n, c, h, w), also for pooling, or (n, c, d, h, w) for volumes; axes that the caller left out have size 1.
    """

    pointer: Any
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    owner: Any = field(default=None, repr=False)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in C order without gaps."""
        return _matches(self.shape, self.strides, tuple(range(len(self.shape)))[::-1])

    @property
    def channels_last(self) -> bool:
        """Whether the elements lie without gaps in the order (n, h, w, c), or (n, d, h, w, c)."""
        return _matches(self.shape, self.strides, (1, *range(len(self.shape) - 1, 1, -1), 0))

    def part(self, *slices: slice) -> Tensor:
        """A view of what slices with positive steps select, one slice for each axis behind the channels."""
        chosen = [range(size)[some] for size, some in zip(self.shape[2:], slices, strict=True)]
        steps = self.strides[2:]
        first = behind(self, sum(some.start * step for some, step in zip(chosen, steps, strict=True)))
        strides = [some.step * step for some, step in zip(chosen, steps, strict=True)]
        return replace(first, shape=(*self.shape[:2], *map(len, chosen)), strides=(*self.strides[:2], *strides))


def _matches(shape: tuple[int, ...], strides: tuple[int, ...], order: tuple[int, ...]) -> bool:
    step = 1
    for axis in order:
        if shape[axis] != 1:
            if strides[axis] != step:
                return False
            step *= shape[axis]
    return True


@lru_cache(maxsize=4096)
def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of an array in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def dense(buffer: Buffer, shape: tuple[int, ...]) -> Tensor:
    """A buffer as a tensor in C order."""
    return Tensor(buffer.pointer, buffer.dtype, shape, row_major(shape), buffer)


def volume(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes or strides of a tensor with an axis of depth, which in images has one element and an unused stride."""
    return axes if len(axes) == 5 else (*axes[:2], 1, *axes[2:])


def behind(x: Tensor, elements: int) -> Tensor:
    """The view that begins `elements` elements behind another."""
    simulated = isinstance(x.pointer, SimulatedPointer)
    return replace(x, pointer=x.pointer.moved(elements) if simulated else x.pointer + elements * x.dtype.itemsize)


class SimulatedPointer:
    """Memory of this process with the interface of a pointer; an index outside of it is an error."""

    __slots__ = ("array", "base", "start")

    def __init__(self, array: np.ndarray, start: int = 0, base: int = 0) -> None:
        self.array, self.start, self.base = array, start, base or array.ctypes.data

    def address(self, index: Any = 0) -> int:
        """Address of an element, as a GPU would have it."""
        return self.base + (self.start + int(index)) * self.array.itemsize

    def moved(self, offset: Any) -> SimulatedPointer:
        """Pointer to ``self[offset]``."""
        return SimulatedPointer(self.array, self.start + int(offset), self.base)

    def _at(self, index: Any) -> int:
        at = int(index) + self.start
        if not 0 <= at < self.array.size:
            raise IndexError(f"a kernel reached for element {at} of {self.array.size}")
        return at

    def __getitem__(self, index: Any) -> Any:
        return self.array[self._at(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[self._at(index)] = value


# -- streams -------------------------------------------------------------------------------------------------


class Stream(ABC):
    """A stream, on which kernels are launched in order, and from which memory is taken."""

    lasts = False
    """Whether memory taken from it outlives the work that is on it, as a plan's memory does."""

    @abstractmethod
    def launch(self, kernel: Kernel, grid: Any, block: Any, *arguments: Any, shared: int = 0) -> None:
        """Start a kernel; an empty grid starts nothing. `shared` is the size of dynamic shared memory in bytes."""

    @abstractmethod
    def empty(self, size: int, dtype: Any) -> Buffer:
        """Memory for `size` elements, contents unknown; scratch memory comes from here, too."""

    @abstractmethod
    def upload(self, array: np.ndarray) -> Buffer:
        """A copy of an array in C order on the device. The array may be changed once this returns."""

    def download(self, buffer: Buffer) -> np.ndarray:
        """A copy of a buffer here, once all that was launched is done. No call does this."""
        raise NotImplementedError

    @abstractmethod
    def zeros(self, size: int, dtype: Any) -> Buffer:
        """Memory for `size` elements, filled with zeros."""

    def lasting(self) -> Stream:
        """This stream, but with memory that other streams may use, too, and that is freed when all are done with it."""
        return self

    def current(self) -> AbstractContextManager:
        """A context in which the stream's device is the current one."""
        return nullcontext()

    def wait(self) -> None:  # noqa: B027 # only a GPU has something to wait for
        """Wait until everything that was launched is done. This is for planning; no call waits for the device."""


def sizes(value: Any) -> tuple[int, int, int]:
    """Sizes of a grid or a block in three directions."""
    given = (value,) if isinstance(value, int) else tuple(value)
    return (*given, 1, 1)[:3]


def launchable(
    kernel: Kernel, grid: Any, block: Any, arguments: tuple, shared: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Sizes of grid and block, checked as a GPU would, for where there is none. TypeError or ValueError."""
    blocks, threads = sizes(grid), sizes(block)
    if len(arguments) != len(kernel.signature):
        raise TypeError(f"{kernel} takes {len(kernel.signature)} arguments, got {len(arguments)}")
    if not (blocks[0] <= MOST_BLOCKS and max(blocks[1:]) <= 65535):
        raise ValueError(f"{kernel} has a grid of {blocks} blocks")
    if math.prod(threads) > 1024 or threads[2] > 64 or shared > 163 << 10:
        raise ValueError(f"{kernel} has blocks of {threads} threads and {shared} bytes")
    return blocks, threads


class SimulatedStream(Stream):
    """A stream of Numba's simulator, with one launch at a time."""

    _LOCK = threading.RLock()

    def __init__(self, lasts: bool = False) -> None:
        self.lasts = lasts

    def lasting(self) -> SimulatedStream:
        return SimulatedStream(True)

    def launch(self, kernel: Kernel, grid: Any, block: Any, *arguments: Any, shared: int = 0) -> None:
        blocks, threads = launchable(kernel, grid, block, arguments, shared)
        if 0 in blocks:
            return
        values = [_AS_NUMPY[kind.name](value) if kind.name in _AS_NUMPY else value
                  for kind, value in zip(kernel.signature, arguments, strict=True)]
        from . import simulator  # late: Numba has its parts only if it simulates

        with self._LOCK:
            simulator.launch(kernel.function, blocks, threads, shared, tuple(values))

    def empty(self, size: int, dtype: Any) -> Buffer:
        dtype = np.dtype(dtype)
        raw = np.full(size * dtype.itemsize, 0xA5, np.uint8)  # shows if a kernel reads before it writes
        return self._buffer(raw.view(storage(dtype)), dtype)

    def upload(self, array: np.ndarray) -> Buffer:
        return self._buffer(np.ascontiguousarray(array).reshape(-1).view(storage(array.dtype)).copy(), array.dtype)

    def download(self, buffer: Buffer) -> np.ndarray:
        return buffer.pointer.array.view(buffer.dtype).copy()

    def zeros(self, size: int, dtype: Any) -> Buffer:
        return self.upload(np.zeros(size, dtype))

    def _buffer(self, flat: np.ndarray, dtype: np.dtype) -> Buffer:
        return Buffer(SimulatedPointer(flat), flat.size, dtype, flat)


#: Conversions of numbers for the simulator, which passes them on as they are; integers are Python's.
_AS_NUMPY: dict[str, Any] = {f"{sign}int{bits}": int for sign in ("", "u") for bits in (8, 16, 32, 64)}
_AS_NUMPY |= {"float32": np.float32, "float64": np.float64}


class GpuStream(Stream):
    """A stream of a GPU."""

    def __init__(self, device: Any, stream: Any, lasts: bool = False) -> None:
        self.device, self.stream, self.lasts = device, stream, lasts

    def launch(self, kernel: Kernel, grid: Any, block: Any, *arguments: Any, shared: int = 0) -> None:
        blocks = sizes(grid)
        if 0 not in blocks:
            loaded = kernel.loaded(self.device, shared)
            self.start(loaded, launch_config(blocks, sizes(block), shared), kernel.pack(arguments))

    def start(self, loaded: Any, config: Any, packed: list) -> None:
        """Launch a loaded kernel with packed arguments."""
        _launch()(self.stream, config, loaded, *packed)

    def empty(self, size: int, dtype: Any) -> Buffer:
        dtype = np.dtype(dtype)
        memory = _Memory(max(size, 1) * dtype.itemsize, self)
        return Buffer(memory.address, size, dtype, memory)

    def zeros(self, size: int, dtype: Any) -> Buffer:
        from cuda.bindings import driver

        buffer = self.empty(size, dtype)
        if size:
            checked(driver.cuMemsetD8Async(buffer.pointer, 0, size * buffer.dtype.itemsize, self.handle))
        return buffer

    def lasting(self) -> GpuStream:
        return GpuStream(self.device, self.stream, True)

    def current(self) -> _Current:
        return _Current(self.device)

    def upload(self, array: np.ndarray) -> Buffer:
        from cuda.bindings import driver

        array = np.ascontiguousarray(array)
        buffer = self.empty(array.size, array.dtype)
        if array.size:
            # The array's memory is not pinned, so the driver has read it when the call returns.
            checked(driver.cuMemcpyHtoDAsync(buffer.pointer, array.ctypes.data, array.nbytes, self.handle))
        return buffer

    def download(self, buffer: Buffer) -> np.ndarray:
        from cuda.bindings import driver

        array = np.empty(buffer.size, buffer.dtype)
        if array.size:
            checked(driver.cuMemcpyDtoHAsync(array.ctypes.data, buffer.pointer, array.nbytes, self.handle))
        self.wait()
        return array

    def wait(self) -> None:
        self.stream.sync()

    @cached_property
    def handle(self) -> Any:
        from cuda.bindings import driver

        return driver.CUstream(int(self.stream.handle))


class _Current(AbstractContextManager):
    """A context in which a device is the current one."""

    __slots__ = ("_before", "_device")

    def __init__(self, device: Any) -> None:
        self._device = device

    def __enter__(self) -> None:
        from cuda.bindings import driver

        status, before = driver.cuCtxGetCurrent()
        self._before = before if int(status) == 0 and int(before) else None
        self._device.set_current()

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            from cuda.bindings import driver

            driver.cuCtxSetCurrent(self._before)


class _Memory:
    """Device memory from the driver's pool, which also works while a graph is captured."""

    def __init__(self, size: int, stream: GpuStream) -> None:
        from cuda.bindings import driver

        _keep_freed_memory(stream.device.device_id)
        status, address = driver.cuMemAllocAsync(size, stream.handle)
        if int(status) == 2:
            raise MemoryError(f"GPU {stream.device.device_id} has no {size} bytes left")
        checked((status,))
        self.address, self._driver = int(address), driver
        self._stream = None if stream.lasts else stream

    def __del__(self) -> None:
        if hasattr(self, "address"):
            if self._stream is None:
                self._driver.cuMemFree(self.address)  # waits for every stream that may use it
            else:
                self._driver.cuMemFreeAsync(self.address, self._stream.handle)


#: Bytes of free memory that the driver's pool keeps: 1 GiB.
KEPT = 1 << 30


@cache
def _keep_freed_memory(device: int) -> None:
    """Let the pool keep freed memory. By default it gives all back at every wait, and taking it anew is slow."""
    from cuda.bindings import driver

    pool = checked(driver.cuDeviceGetMemPool(driver.CUdevice(device)))
    threshold = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
    if int(checked(driver.cuMemPoolGetAttribute(pool, threshold))) < KEPT:
        checked(driver.cuMemPoolSetAttribute(pool, threshold, driver.cuuint64_t(KEPT)))


@lru_cache(maxsize=1)
def _launch() -> Any:
    from cuda.core import launch

    return launch


@lru_cache(maxsize=4096)
def launch_config(grid: tuple[int, int, int], block: tuple[int, int, int], shared: int) -> Any:
    from cuda.core import LaunchConfig

    return LaunchConfig(grid=grid, block=block, shmem_size=shared)
