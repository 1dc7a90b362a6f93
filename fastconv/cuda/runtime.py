"""Kernels, and what they are launched on: a GPU, the simulator, or a list that is only read.

A kernel is written once and compiled per dtype by a *factory*, whose arguments are constants of the compiled code::

    @factory
    def _scale(dtype):
        acc = scalar_type(dtype)
        def scale(x, factor, n):
            i = cuda.grid(1)
            if i < n:
                x[i] = acc(x[i]) * factor
        return (pointer(dtype), scalar(dtype), INT64), scale

    stream.launch(_scale(x.dtype), grid, block, x.pointer, 2.0, n)

Arguments are bare pointers and numbers: an array's seven words of header would double what a launch costs. A pointer is
indexed like an array, in elements. The index may be negative, and nothing but the kernel keeps it within bounds.

A kernel becomes PTX by Numba (`cuda.compile`), machine code by nvJitLink, and is kept in `~/.cache/fastconv`; nothing
is compiled at import. The same PTX is what the tests hand to ptxas where there is no GPU.

Numba's simulator (``NUMBA_ENABLE_CUDASIM=1``) runs kernels as Python. `SIMULATED` is the one switch: what the simulator
lacks has a plain twin behind it. There pointers check every index.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import config, cuda, types

from .._files import cache_folder, write
from ..checks import BFLOAT16

#: Whether Numba's simulator runs the kernels.
SIMULATED = bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]

INT32, INT64, FLOAT32, FLOAT64 = types.int32, types.int64, types.float32, types.float64

#: The argument of `cuda.jit` is the same everywhere: a function that kernels call.
device_function = cuda.jit(device=True)


def pick(real: int, simulated: int) -> int:
    """A tile's size: on a GPU, and in the simulator, where small ones make ragged edges of small problems."""
    return simulated if SIMULATED else real


# -- kernels -------------------------------------------------------------------------------------------------


def storage(dtype: np.dtype) -> np.dtype:
    """What a pointer to `dtype` points at: bool is a byte, halves are their bits (`dtypes` reads and writes them)."""
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    return np.dtype(np.uint16) if dtype == np.float16 or dtype == BFLOAT16 else dtype


def pointer(dtype: Any) -> Any:
    """Type of an argument that points at elements of a dtype."""
    return types.CPointer(getattr(types, storage(np.dtype(dtype)).name))


def scalar(dtype: Any) -> Any:
    """Type of an argument that is a number of a dtype."""
    return getattr(types, np.dtype(dtype).name)


def scalar_type(dtype: np.dtype) -> Any:
    """The NumPy type of what a pointer to `dtype` reads."""
    return storage(dtype).type


def integers(count: int) -> Any:
    """Type of an argument that is a tuple of so many integers: strides, sizes."""
    return types.UniTuple(types.int64, count)


class Kernel:
    """A function for the GPU with the types of its arguments."""

    def __init__(self, function: Callable, signature: tuple, key: tuple) -> None:
        self.function = function
        self.signature = signature
        self.key = key
        self._loaded: dict[Any, Any] = {}
        self._simulated = cuda.jit(function) if SIMULATED else None
        self._converters = tuple(map(_converter, signature))

    def __repr__(self) -> str:
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}{self.key[2:]}"

    def simulate(self, grid: tuple[int, ...], block: tuple[int, ...], shared: int, arguments: tuple) -> None:
        self._simulated[grid, block, 0, shared](*arguments)  # type: ignore[index]

    def ptx(self, capability: tuple[int, int]) -> str:
        """Compiled for a compute capability."""
        with _compiling_for(capability):
            text, _ = cuda.compile(
                self.function, types.void(*self.signature), cc=capability, device=False, abi="numba", output="ptx",
                launch_bounds=getattr(self.function, "launch_bounds", None),  # (threads, blocks a multiprocessor)
            )
        return text

    def cubin(self, capability: tuple[int, int]) -> tuple[bytes, str]:
        """Machine code, from the disk if it is there, and the name of its entry."""
        from cuda.core import Linker, LinkerOptions, ObjectCode

        arch = f"sm_{capability[0]}{capability[1]}"
        identity = hashlib.sha256(repr((self.key, self.signature, arch, _toolchain())).encode()).hexdigest()[:32]
        file = cache_folder() / f"cuda-{self.function.__name__}-{identity}.cubin"
        try:
            entry, _, code = file.read_bytes().partition(b"\n")
            if code[:4] == b"\x7fELF":
                return code, entry.decode()
        except OSError:
            pass
        text = self.ptx(capability)
        entry_name = text.partition(".entry ")[2].partition("(")[0].strip()
        code = bytes(Linker(ObjectCode.from_ptx(text.encode()), options=LinkerOptions(arch=arch)).link("cubin").code)
        write(file, entry_name.encode() + b"\n" + code)
        return code, entry_name

    def pack(self, arguments: tuple) -> list:
        """Arguments as the driver takes them: tuples one by one."""
        packed: list = []
        for convert, value in zip(self._converters, arguments, strict=True):
            if convert is None:
                packed.extend(value)  # Python's integers are passed as 64 bits
            else:
                packed.append(convert(value))
        return packed

    def loaded(self, device: Any, shared: int) -> Any:
        """The kernel on a device, allowed so much dynamic shared memory."""
        found = self._loaded.get((device.device_id, shared))
        if found is None:
            from cuda.bindings import driver
            from cuda.core import ObjectCode

            code, entry = self.cubin(tuple(device.compute_capability))
            with _LOADING:
                found = self._loaded.get(device.device_id) or ObjectCode.from_cubin(code).get_kernel(entry)
                self._loaded[device.device_id] = found
                if shared > 48 << 10:
                    attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                    kernel, place = driver.CUkernel(int(found.handle)), driver.CUdevice(device.device_id)
                    _checked(driver.cuKernelSetAttribute(attribute, shared, kernel, place))
                self._loaded[device.device_id, shared] = found
        return found


_LOADING, _COMPILING = threading.Lock(), threading.RLock()


@contextmanager
def _compiling_for(capability: tuple[int, int]) -> Iterator[None]:
    """Let Numba compile the functions that a kernel calls for this capability, of a GPU that need not be there.

    `cuda.compile` takes a capability for the kernel, but asks the current device for that of the functions it calls.
    """
    from numba.cuda import dispatcher

    this = threading.get_ident()

    def device() -> Any:
        return SimpleNamespace(compute_capability=capability) if threading.get_ident() == this else ask()

    with _COMPILING:
        ask = dispatcher.get_current_device
        dispatcher.get_current_device = device
        try:
            yield
        finally:
            dispatcher.get_current_device = ask


def factory(make: Callable[..., tuple[tuple, Callable]]) -> Callable[..., Kernel]:
    """Make a kernel of ``make(*constants)``, which returns the types of the arguments and the function; once each."""

    @cache
    def kernel(*constants: Any) -> Kernel:
        signature, function = make(*constants)
        return Kernel(function, signature, (make.__module__, make.__qualname__, *constants))

    return kernel


def _converter(kind: Any) -> Callable | None:
    if isinstance(kind, types.UniTuple):
        return None
    if isinstance(kind, types.CPointer) or kind == INT64:
        return int
    return getattr(ctypes, {"int32": "c_int32", "uint8": "c_uint8", "float32": "c_float",
                            "float64": "c_double", "uint64": "c_uint64", "uint32": "c_uint32"}[kind.name])


@lru_cache(maxsize=1)
def _toolchain() -> str:
    """What compiled code depends on beside its own constants: these sources and the compilers."""
    from importlib import metadata

    folder = Path(__file__).parent
    texts = [file.read_bytes() for file in (*sorted(folder.glob("*.py")), folder.parent / "toom_cook.py")]
    versions = [metadata.version(name) for name in ("numba", "numba-cuda", "cuda-core")]
    return hashlib.sha256(b"\0".join([*texts, repr(versions).encode()])).hexdigest()


def _checked(result: tuple) -> Any:
    if int(result[0]):
        raise RuntimeError(f"CUDA said {result[0].name}")
    return result[1] if len(result) > 1 else None


# -- memory --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory in a row on the device, freed when nobody holds it, in the order of its stream."""

    pointer: Any
    size: int
    """Elements."""
    dtype: np.dtype
    owner: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of memory on the device: where element (0, 0, 0, 0) is, and steps in elements from one to the next.

    Axes are (n, c, h, w), for pooling as well; axes the caller left out have size 1.
    """

    pointer: Any
    dtype: np.dtype
    shape: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    owner: Any = field(default=None, repr=False)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in a row in the order of the axes."""
        return _matches(self.shape, self.strides, (3, 2, 1, 0))

    @property
    def channels_last(self) -> bool:
        """Whether they lie in a row in the order (n, h, w, c)."""
        return _matches(self.shape, self.strides, (1, 3, 2, 0))


def _matches(shape: tuple[int, ...], strides: tuple[int, ...], order: tuple[int, ...]) -> bool:
    step = 1
    for axis in order:
        if shape[axis] != 1:
            if strides[axis] != step:
                return False
            step *= shape[axis]
    return True


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Steps of an array in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def dense(buffer: Buffer, shape: tuple[int, int, int, int]) -> Tensor:
    """A buffer as a tensor in C order."""
    a, b, c, d = row_major(shape)
    return Tensor(buffer.pointer, buffer.dtype, shape, (a, b, c, d), buffer)


class SimulatedPointer:
    """Memory of this process under the interface of a pointer; an index outside of it is an error."""

    __slots__ = ("array", "start")

    def __init__(self, array: np.ndarray, start: int = 0) -> None:
        self.array, self.start = array, start

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


class Stream:
    """Where kernels are launched, in order, and memory is taken from."""

    def launch(self, kernel: Kernel, grid: Any, block: Any, *arguments: Any, shared: int = 0) -> None:
        """Start a kernel; an empty grid starts nothing. `shared` are bytes of dynamic shared memory."""
        raise NotImplementedError

    def empty(self, size: int, dtype: Any) -> Buffer:
        """Memory for so many elements, contents unknown; also the way to scratch memory."""
        raise NotImplementedError

    def upload(self, array: np.ndarray) -> Buffer:
        """A copy of an array in C order on the device. The array may be changed once this returns."""
        raise NotImplementedError

    def zeros(self, size: int, dtype: Any) -> Buffer:
        """Memory of zeros."""
        raise NotImplementedError

    def lasting(self) -> Stream:
        """The same stream; its memory may be used from other streams too, and is freed when all of them are done."""
        return self

    def current(self) -> AbstractContextManager:
        """Make the stream's device the current one, and afterwards the one that was."""
        return nullcontext()

    def wait(self) -> None:
        """Until all that was launched is done. For planning; no call waits for the device."""


def _sizes(value: Any) -> tuple[int, int, int]:
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return (*sizes, 1, 1)[:3]


class Recorder(Stream):
    """Launches nothing, and lists what would be: so the kernels of a problem are found without a GPU."""

    def __init__(self) -> None:
        self.launches: list[tuple[Kernel, tuple[int, int, int], tuple[int, int, int], int]] = []

    def launch(self, kernel: Kernel, grid: Any, block: Any, *arguments: Any, shared: int = 0) -> None:
        if len(arguments) != len(kernel.signature):
            raise TypeError(f"{kernel} takes {len(kernel.signature)} arguments, got {len(arguments)}")
        self.launches.append((kernel, _sizes(grid), _sizes(block), shared))

    def empty(self, size: int, dtype: Any) -> Buffer:
        return Buffer(0, size, np.dtype(dtype))

    def upload(self, array: np.ndarray) -> Buffer:
        return Buffer(0, array.size, array.dtype)

    zeros = empty


class SimulatedStream(Stream):
    """Numba's simulator, one launch at a time."""

    _LOCK = threading.RLock()

    def launch(self, kernel: Kernel, grid: Any, block: Any, *arguments: Any, shared: int = 0) -> None:
        if 0 in _sizes(grid):
            return
        if len(arguments) != len(kernel.signature):
            raise TypeError(f"{kernel} takes {len(kernel.signature)} arguments, got {len(arguments)}")
        values = [_AS_NUMPY[kind.name](value) if kind.name in _AS_NUMPY else value
                  for kind, value in zip(kernel.signature, arguments, strict=True)]
        with self._LOCK:
            # The simulator's threads wait by looking again and again; taking turns of 5 ms they would hardly get on.
            before = sys.getswitchinterval()
            sys.setswitchinterval(2e-5)
            try:
                kernel.simulate(_sizes(grid), _sizes(block), shared, tuple(values))
            finally:
                sys.setswitchinterval(before)

    def empty(self, size: int, dtype: Any) -> Buffer:
        dtype = np.dtype(dtype)
        raw = np.full(size * dtype.itemsize, 0xA5, np.uint8)  # whoever reads before writing is found out
        return self._buffer(raw.view(storage(dtype)), dtype)

    def upload(self, array: np.ndarray) -> Buffer:
        return self._buffer(np.ascontiguousarray(array).reshape(-1).view(storage(array.dtype)).copy(), array.dtype)

    def zeros(self, size: int, dtype: Any) -> Buffer:
        return self.upload(np.zeros(size, dtype))

    def _buffer(self, flat: np.ndarray, dtype: np.dtype) -> Buffer:
        return Buffer(SimulatedPointer(flat), flat.size, dtype, flat)


#: The simulator passes numbers on as they are; integers are Python's.
_AS_NUMPY = {"int32": int, "int64": int, "uint8": int, "uint32": int, "uint64": int,
             "float32": np.float32, "float64": np.float64}


class GpuStream(Stream):
    """A stream of a device."""

    def __init__(self, device: Any, stream: Any, lasts: bool = False) -> None:
        self.device, self.stream, self.lasts = device, stream, lasts

    def launch(self, kernel: Kernel, grid: Any, block: Any, *arguments: Any, shared: int = 0) -> None:
        sizes = _sizes(grid)
        if 0 not in sizes:
            loaded = kernel.loaded(self.device, shared)
            _launch()(self.stream, _config(sizes, _sizes(block), shared), loaded, *kernel.pack(arguments))

    def empty(self, size: int, dtype: Any) -> Buffer:
        dtype = np.dtype(dtype)
        memory = _Memory(max(size, 1) * dtype.itemsize, self)
        return Buffer(memory.address, size, dtype, memory)

    def zeros(self, size: int, dtype: Any) -> Buffer:
        from cuda.bindings import driver

        buffer = self.empty(size, dtype)
        if size:
            _checked(driver.cuMemsetD8Async(buffer.pointer, 0, size * buffer.dtype.itemsize, self.handle))
        return buffer

    def lasting(self) -> GpuStream:
        return GpuStream(self.device, self.stream, True)

    @contextmanager
    def current(self) -> Iterator[None]:
        from cuda.bindings import driver

        status, before = driver.cuCtxGetCurrent()
        self.device.set_current()
        try:
            yield
        finally:
            if int(status) == 0 and int(before):
                driver.cuCtxSetCurrent(before)

    def upload(self, array: np.ndarray) -> Buffer:
        from cuda.bindings import driver

        array = np.ascontiguousarray(array)
        buffer = self.empty(array.size, array.dtype)
        if array.size:
            # From memory that is not pinned, the driver has read the array when the call returns.
            _checked(driver.cuMemcpyHtoDAsync(buffer.pointer, array.ctypes.data, array.nbytes, self.handle))
        return buffer

    def wait(self) -> None:
        self.stream.sync()

    @cached_property
    def handle(self) -> Any:
        from cuda.bindings import driver

        return driver.CUstream(int(self.stream.handle))


class _Memory:
    """Memory of a device from the driver's pool, also within the capture of a graph."""

    def __init__(self, size: int, stream: GpuStream) -> None:
        from cuda.bindings import driver

        status, address = driver.cuMemAllocAsync(size, stream.handle)
        if int(status) == 2:
            raise MemoryError(f"GPU {stream.device.device_id} has no {size} bytes left")
        _checked((status,))
        self.address, self._driver = int(address), driver
        self._stream = None if stream.lasts else stream

    def __del__(self) -> None:
        if hasattr(self, "address"):
            if self._stream is None:
                self._driver.cuMemFree(self.address)  # waits for all who may use it
            else:
                self._driver.cuMemFreeAsync(self.address, self._stream.handle)


@lru_cache(maxsize=1)
def _launch() -> Any:
    from cuda.core import launch

    return launch


@lru_cache(maxsize=4096)
def _config(grid: tuple[int, int, int], block: tuple[int, int, int], shared: int) -> Any:
    from cuda.core import LaunchConfig

    return LaunchConfig(grid=grid, block=block, shmem_size=shared)


# -- which of the three is missing ---------------------------------------------------------------------------


@lru_cache(maxsize=1)
def missing() -> str | None:
    """Why there is no GPU to run on, and what to do about it; None if there is one, or the simulator."""
    if SIMULATED:
        return None
    try:
        import numba_cuda  # noqa: F401 # what numba.cuda of the extra comes from
        from cuda.bindings import driver
        from cuda.core import Device  # noqa: F401
    except ImportError as error:
        return (f"device='cuda' needs the extra of that name ({error}): "
                "pip install 'fastconv[cuda]', or 'fastconv[cuda12]' for a driver older than 580")
    try:
        status = driver.cuInit(0)[0]
    except Exception as error:  # its class differs from release to release
        said = str(error).partition(".")[0]
        return f"device='cuda' finds no NVIDIA driver ({said}): install the NVIDIA display driver"
    if int(status) == 100:
        return "device='cuda' finds a driver but no NVIDIA GPU (CUDA_VISIBLE_DEVICES may hide it): it needs one"
    if int(status):
        return f"device='cuda' finds a driver that does not start ({status.name}): install one that fits the GPU"
    return None


def require() -> None:
    """RuntimeError unless there is a GPU, or the simulator."""
    reason = missing()
    if reason:
        raise RuntimeError(reason)
