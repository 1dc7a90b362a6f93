"""Arrays of other libraries: views of them, the stream that each is on, and new arrays from its library.

Nothing is copied and nothing waits. A library is imported only if a caller gives an array of it.
"""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ...specs.dtypes import BFLOAT16, label, named, native
from .kernels import SIMULATED, cuda, storage
from .streams import GpuStream, SimulatedPointer, SimulatedStream, Stream, Tensor, row_major


@dataclass(frozen=True, slots=True)
class Array:
    """A view of an array on a GPU: `address` of its first element, `strides` in elements."""

    name: str
    """Name of the argument in messages."""
    value: Any
    library: str
    """"torch", "cupy", "numba", or "other" for anything else with an interface."""
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    device: int
    stream: int | None
    """The stream that the array's interface asks callers to wait for."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def tensor(self, shape: tuple[int, ...], axes: int = 2) -> Tensor:
        """The array as (n, c, h, w), or for 3 `axes` (n, c, d, h, w). Axes in front that it lacks have size 1, and so
        has the height of signals (1 of `axes`)."""
        sizes, strides = image_layout(self.shape, self.strides, axes)
        if sizes != shape:
            raise AssertionError(f"{self.name} of shape {self.shape} is no {shape}")
        pointer = _pointer(self.address, storage(self.dtype), self.shape, self.strides) if SIMULATED else self.address
        return Tensor(pointer, self.dtype, shape, strides, self.value)

    def span(self) -> tuple[int, int]:
        """Addresses of the first byte and of the byte behind the last."""
        low, end = _reach(self.shape, self.strides)
        return self.address + low * self.dtype.itemsize, self.address + end * self.dtype.itemsize


# Results that depend only on sizes and strides are kept: a call on small arrays spends most of its time on them.


@lru_cache(maxsize=4096)
def image_layout(
    shape: tuple[int, ...], strides: tuple[int, ...], axes: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and strides of an array as (n, c, h, w), or with three spatial axes (n, c, d, h, w)."""
    if axes == 1:
        shape, strides = (*shape[:-1], 1, shape[-1]), (*strides[:-1], 0, strides[-1])
    missing = max(4, axes + 2) - len(shape)
    return (1,) * missing + shape, (0,) * missing + strides


@lru_cache(maxsize=4096)
def _reach(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """The first element and the one behind the last, counted from where an array begins."""
    if 0 in shape:
        return 0, 0
    steps = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    return sum(min(0, step) for step in steps), sum(max(0, step) for step in steps) + 1


def _pointer(address: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """The simulator's pointer to an array."""
    if 0 in shape:
        return SimulatedPointer(np.empty(0, dtype))
    low, end = _reach(shape, strides)
    raw: Any = (ctypes.c_char * ((end - low) * dtype.itemsize)).from_address(address + low * dtype.itemsize)
    return SimulatedPointer(np.frombuffer(raw, dtype), -low)


# -- views ---------------------------------------------------------------------------------------------------


def view(name: str, value: Any) -> Array:
    """The view of an array on a GPU; TypeError if it is none, or of an unsupported dtype."""
    library = _library(value)
    if library == "torch":
        found = _torch(name, value)
    elif hasattr(value, "__cuda_array_interface__"):
        found = _interface(name, value, library)
    else:
        found = _dlpack(name, value)
    if found.dtype != native(name, found.dtype):
        raise TypeError(f"{name} has dtype {found.dtype}; on a GPU only native byte order is supported")
    if found.address % found.dtype.itemsize:
        raise ValueError(f"{name} is not aligned to its {found.dtype.itemsize} bytes")
    return found


def _library(value: Any) -> str:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return "torch"
    root = type(value).__module__.partition(".")[0]
    return {"cupy": "cupy", "numba": "numba", "numba_cuda": "numba"}.get(root, "other")


def _torch(name: str, value: Any) -> Array:
    import torch  # type: ignore[import-not-found,unused-ignore]

    if value.requires_grad and torch.is_grad_enabled():
        raise TypeError(f"{name} requires grad, which fastconv does not compute: detach it, or use torch.no_grad()")
    dtype = _torch_dtype(value.dtype)
    if dtype is None:
        raise TypeError(f"{name} has dtype {value.dtype}, which is not supported")
    return Array(name, value, "torch", value.data_ptr(), tuple(value.shape), tuple(value.stride()), dtype,
                 value.device.index or 0, None)


@lru_cache(maxsize=64)
def _torch_dtype(kind: Any) -> np.dtype | None:
    try:
        return named(kind)
    except TypeError:
        return None


def _interface(name: str, value: Any, library: str) -> Array:
    described = value.__cuda_array_interface__
    text = described["typestr"]
    dtype = BFLOAT16 if text[1:] == "V2" else np.dtype(text)
    if described.get("mask") is not None:
        raise TypeError(f"{name} is a masked array, which is not supported on a GPU")
    shape, steps, address = tuple(described["shape"]), described.get("strides"), described["data"][0] or 0
    if steps is None:
        strides = row_major(shape)
    else:
        if any(step % dtype.itemsize for step in steps):
            raise ValueError(f"{name} has strides {tuple(steps)} that are no multiples of its {dtype.itemsize} bytes")
        strides = tuple(step // dtype.itemsize for step in steps)
    return Array(name, value, library, address, shape, strides, dtype, _device_of(address), described.get("stream"))


def _dlpack(name: str, value: Any) -> Array:
    if SIMULATED or not hasattr(value, "__dlpack__"):
        raise TypeError(f"{name} of type {type(value).__name__} has neither __cuda_array_interface__ nor __dlpack__")
    from cuda.core.utils import StridedMemoryView

    # LEGACY is where an array without a stream of its own will be used; its library makes that stream wait.
    seen = StridedMemoryView.from_dlpack(value, stream_ptr=LEGACY)
    dtype = BFLOAT16 if seen.dtype is None or "bfloat16" in str(seen.dtype) else np.dtype(seen.dtype)
    shape = tuple(seen.shape)
    strides = row_major(shape) if seen.strides is None else tuple(seen.strides)
    return Array(name, seen, "other", int(seen.ptr), shape, strides, dtype, seen.device_id, None)


def _device_of(address: int) -> int:
    if SIMULATED or not address:
        return 0
    from cuda.bindings import driver

    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    status, device = driver.cuPointerGetAttribute(attribute, address)
    if int(status):
        raise ValueError(f"address {address:#x} is not known to the driver ({status.name})")
    return int(device)


# -- streams -------------------------------------------------------------------------------------------------

#: CUDA's handle of the legacy default stream, which waits for all blocking streams.
LEGACY = 1


def current_stream(x: Array) -> Stream:
    """The stream that the caller works on: torch's or CuPy's current one, else the one that the interface names."""
    if SIMULATED:
        return SimulatedStream()
    if x.library == "torch":
        import torch  # type: ignore[import-not-found,unused-ignore]

        handle = torch.cuda.current_stream(x.device).cuda_stream
    elif x.library == "cupy":
        import cupy  # type: ignore[import-not-found,unused-ignore]

        with cupy.cuda.Device(x.device):
            handle = cupy.cuda.get_current_stream().ptr
    else:
        handle = x.stream or LEGACY
    return stream_of(x.device, handle or LEGACY)


@lru_cache(maxsize=256)
def stream_of(device: int, handle: int) -> Stream:
    from cuda.core import LEGACY_DEFAULT_STREAM, PER_THREAD_DEFAULT_STREAM, Device
    from cuda.core import Stream as CoreStream

    known = {1: LEGACY_DEFAULT_STREAM, 2: PER_THREAD_DEFAULT_STREAM}
    return GpuStream(Device(device), known.get(handle) or CoreStream.from_handle(handle))


# -- new arrays ----------------------------------------------------------------------------------------------


def result(
    x: Array, shape: tuple[int, ...], dtype: np.dtype, out: Any, inputs: tuple[Array, ...], channels_last: bool = False
) -> Array:
    """The array for a result: a new one of the kind of `x`, or `out` if it is given and fits."""
    return empty_like(x, shape, dtype, channels_last) if out is None else check_out(out, x, shape, dtype, inputs)


def empty_like(x: Array, shape: tuple[int, ...], dtype: np.dtype, channels_last: bool = False) -> Array:
    """A new array of the kind and on the device of `x`, from its library's own allocator.

    `channels_last` chooses torch's layout of that name. For an unknown library the result is a Numba device array.
    """
    if x.library == "torch":
        import torch  # type: ignore[import-not-found,unused-ignore]

        kind = getattr(torch, label(dtype))
        last = {4: "channels_last", 5: "channels_last_3d"}.get(len(shape)) if channels_last else None
        options: Any = {"memory_format": getattr(torch, last)} if last else {}
        return _torch("out", torch.empty(shape, dtype=kind, device=x.value.device, **options))
    if x.library == "cupy":
        import cupy  # type: ignore[import-not-found,unused-ignore]

        with cupy.cuda.Device(x.device):
            return _interface("out", cupy.empty(shape, storage(dtype) if dtype == BFLOAT16 else dtype), "cupy")
    return _numba_empty(x, shape, dtype)


def _numba_empty(x: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    kind = np.dtype("V2") if dtype == BFLOAT16 else dtype
    if SIMULATED:
        value: Any = SimulatedArray(np.empty(shape, kind))
    else:
        with cuda.gpus[x.device]:
            value = cuda.device_array(shape, kind)
    return _interface("out", value, "numba")


class SimulatedArray:
    """Memory of this process with the interface of a GPU's array, for the simulator."""

    def __init__(self, array: np.ndarray, stream: int | None = None) -> None:
        self.array, self.stream, self.shape, self.ndim = array, stream, array.shape, array.ndim

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        given = self.array.__array_interface__
        return {"shape": given["shape"], "typestr": given["typestr"], "data": given["data"],
                "strides": given["strides"], "version": 3, "stream": self.stream}

    def __getitem__(self, index: Any) -> SimulatedArray:
        return SimulatedArray(self.array[index], self.stream)

    def copy_to_host(self) -> np.ndarray:
        return self.array.copy()


def check_out(out: Any, x: Array, shape: tuple[int, ...], dtype: np.dtype, inputs: tuple[Array, ...]) -> Array:
    """`out` if a kernel may write the result there; TypeError or ValueError otherwise."""
    if isinstance(out, np.ndarray):
        raise TypeError("out is a NumPy array, but x is on a GPU")
    found = view("out", out)
    if found.shape != shape:
        raise ValueError(f"out has shape {found.shape}, but the result has shape {shape}")
    if found.dtype != dtype:
        raise ValueError(f"out has dtype {label(found.dtype)}, but the result has dtype {label(dtype)}")
    if found.device != x.device:
        raise ValueError(f"out is on GPU {found.device}, x on GPU {x.device}")
    if math.prod(found.shape) and _folds(found.shape, found.strides):
        raise ValueError("out has elements that share memory with each other")
    interface = getattr(out, "__cuda_array_interface__", None) if found.library != "torch" else None
    if interface and interface["data"][1]:
        raise ValueError("out is read-only")
    low, high = found.span()
    for given in inputs:
        first, last = given.span()
        if low < last and first < high:
            raise ValueError("out shares memory with an input")
    return found


@lru_cache(maxsize=4096)
def _folds(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether two indices may mean one element: false if each stride exceeds all that the smaller strides span."""
    reach = 0
    for step, size in sorted((abs(step), size) for step, size in zip(strides, shape, strict=True) if size > 1):
        if step <= reach:
            return True
        reach += step * (size - 1)
    return False
