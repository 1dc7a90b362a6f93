"""Kernels, their compilation, and what is missing where they cannot run; `streams` launches them.

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

Arguments are bare pointers and numbers: the header of an array, seven words, would double the cost of a launch. A
pointer is indexed like an array, in elements. An index may be negative, and only the kernel keeps it within bounds.

Numba compiles a kernel to PTX (`cuda.compile`), nvJitLink makes machine code of it, and `base.files` keeps that on
disk; nothing is compiled at import. The tests hand this PTX to ptxas where there is no GPU.

Numba's simulator (``NUMBA_ENABLE_CUDASIM=1``) runs kernels as Python. `SIMULATED` is the one switch: with it, plain
twins replace what the simulator lacks, pointers check every index, and a block's threads take turns (`simulator`).
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import config, cuda, types

from ...base.files import cache_folder, read, write
from ...specs.dtypes import is_half

#: Whether Numba's simulator runs the kernels.
SIMULATED = bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]

#: Most blocks of a grid along its first axis, a limit of CUDA.
MOST_BLOCKS = 2**31 - 1

INT32, INT64, FLOAT32, FLOAT64 = types.int32, types.int64, types.float32, types.float64

#: Decorator of a function that kernels call.
device_function = (lambda function: function) if SIMULATED else cuda.jit(device=True)


def pick(real: int, simulated: int) -> int:
    """A tile's size: `real` on a GPU, `simulated` in the simulator, so that small problems have ragged edges, too."""
    return simulated if SIMULATED else real


# -- kernels -------------------------------------------------------------------------------------------------


def storage(dtype: np.dtype) -> np.dtype:
    """The dtype that a pointer to `dtype` reads: bytes for bool, 16 bits for halves (`elements` converts them)."""
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    return np.dtype(np.uint16) if is_half(dtype) else dtype


def pointer(dtype: Any) -> Any:
    """Type of a kernel's argument that points at elements of a dtype."""
    return types.CPointer(getattr(types, storage(np.dtype(dtype)).name))


def scalar(dtype: Any) -> Any:
    """Type of a kernel's argument that is a number of a dtype."""
    return getattr(types, np.dtype(dtype).name)


def scalar_type(dtype: np.dtype) -> Any:
    """The NumPy type of an element that a pointer to `dtype` reads."""
    return storage(dtype).type


def integers(count: int) -> Any:
    """Type of a kernel's argument that is a tuple of `count` integers, such as strides or sizes."""
    return types.UniTuple(types.int64, count)


class Kernel:
    """A function for the GPU, with the types of its arguments."""

    def __init__(self, function: Callable, signature: tuple, key: tuple) -> None:
        self.function = function
        self.signature = signature
        self.key = key
        self._loaded: dict[Any, Any] = {}
        self._allowed: dict[int, int] = {}
        self._converters = tuple(map(_converter, signature))

    def __repr__(self) -> str:
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}{self.key[2:]}"

    def identity(self, capability: tuple[int, int]) -> str:
        """A hash of everything that the kernel's machine code depends on."""
        made_of = self.key, self.signature, arch(capability), _toolchain()
        return hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]

    def ptx(self, capability: tuple[int, int]) -> str:
        """The kernel's PTX for a compute capability."""
        with compiling_for(capability):
            text, _ = cuda.compile(
                self.function, types.void(*self.signature), cc=capability, device=False, abi="numba", output="ptx",
                launch_bounds=getattr(self.function, "launch_bounds", None),  # (threads, blocks a multiprocessor)
            )
        return text

    def cubin(self, capability: tuple[int, int]) -> tuple[bytes, str]:
        """The kernel's machine code, from the disk if it is there, and the name of its entry."""
        from cuda.core import Linker, LinkerOptions, ObjectCode

        file = cache_folder() / f"cuda-{self.function.__name__}-{self.identity(capability)}.cubin"
        entry, _, code = (read(file) or b"").partition(b"\n")
        if code[:4] == b"\x7fELF":
            return code, entry.decode()
        text = self.ptx(capability)
        entry_name = text.partition(".entry ")[2].partition("(")[0].strip()
        linker = Linker(ObjectCode.from_ptx(text.encode()), options=LinkerOptions(arch=arch(capability)))
        code = bytes(linker.link("cubin").code)
        write(file, entry_name.encode() + b"\n" + code)
        return code, entry_name

    def pack(self, arguments: tuple) -> list:
        """Arguments as the driver takes them; tuples become single integers."""
        packed: list = []
        for convert, value in zip(self._converters, arguments, strict=True):
            if convert is None:
                packed.extend(value)  # the driver gets Python's integers as 64 bits
            else:
                packed.append(convert(value))
        return packed

    def loaded(self, device: Any, shared: int) -> Any:
        """The kernel loaded on a device, with `shared` bytes of dynamic shared memory allowed."""
        found = self._loaded.get((device.device_id, shared))
        if found is None:
            from cuda.bindings import driver
            from cuda.core import ObjectCode

            code, entry = self.cubin(tuple(device.compute_capability))
            with _LOADING:
                found = self._loaded.get(device.device_id) or ObjectCode.from_cubin(code).get_kernel(entry)
                self._loaded[device.device_id] = found
                if shared > self._allowed.get(device.device_id, 48 << 10):  # never less than before
                    attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                    kernel, place = driver.CUkernel(int(found.handle)), driver.CUdevice(device.device_id)
                    checked(driver.cuKernelSetAttribute(attribute, shared, kernel, place))
                    self._allowed[device.device_id] = shared
                self._loaded[device.device_id, shared] = found
        return found


_LOADING, _COMPILING = threading.Lock(), threading.RLock()
_TARGET = [(8, 0)]


def arch(capability: tuple[int, int]) -> str:
    """Name of an architecture for compilers, like "sm_90"."""
    return f"sm_{capability[0]}{capability[1]}"


def target() -> tuple[int, int]:
    """The compute capability that is compiled for now, for intrinsics that depend on it."""
    return _TARGET[-1]


@contextmanager
def compiling_for(capability: tuple[int, int]) -> Iterator[None]:
    """Let Numba compile the functions that a kernel calls for this capability; no such GPU need be there.

    `cuda.compile` takes a capability for the kernel, but takes the current device's for the functions that it calls.
    """
    from numba.cuda import dispatcher
    from numba.cuda.types import functions  # type: ignore[attr-defined] # numba-cuda has it

    this = threading.get_ident()
    known: dict[tuple, Any] = {}

    def device() -> Any:
        return SimpleNamespace(compute_capability=capability) if threading.get_ident() == this else ask()

    def call_type(function: Any, context: Any, args: Any, kws: Any) -> Any:
        """How a call of an operation is typed: Numba looks anew each time, a fifth of all it does for a kernel."""
        if kws or threading.get_ident() != this or not isinstance(function, functions.Function):
            return asked(function, context, args, kws)
        if (call := (function, tuple(args))) not in known:
            known[call] = asked(function, context, args, kws)
        return known[call]

    with _COMPILING:
        ask, asked = dispatcher.get_current_device, functions.BaseFunction.get_call_type
        collects = gc.isenabled()
        dispatcher.get_current_device, functions.BaseFunction.get_call_type = device, call_type
        _TARGET.append(capability)
        gc.disable()  # garbage collection would take a fifth of the time
        try:
            yield
        finally:
            if collects:
                gc.enable()
            _TARGET.pop()
            dispatcher.get_current_device, functions.BaseFunction.get_call_type = ask, asked


def factory(make: Callable[..., tuple[tuple, Callable]]) -> Callable[..., Kernel]:
    """Decorate ``make(*constants)``, which returns argument types and a function, to return a kernel, made once."""

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
    return getattr(ctypes, {"float32": "c_float", "float64": "c_double"}.get(kind.name, f"c_{kind.name}"))


def sources() -> tuple[Path, ...]:
    """The files that compiled code depends on: the folder `cuda`; the matrices that are constants of kernels, and what
    is stored, computed and added up for each dtype. Kernels get everything else of the package as arguments."""
    folder = Path(__file__).resolve().parents[1]
    outside = folder.parent / "base" / "toom_cook.py", folder.parent / "specs" / "dtypes.py"
    return *sorted(folder.rglob("*.py")), *outside


@lru_cache(maxsize=1)
def _toolchain() -> str:
    """A hash of what compiled code depends on beside its own constants: its sources and the compilers."""
    from importlib import metadata

    texts = [file.read_bytes() for file in sources()]
    versions = [metadata.version(name) for name in ("numba", "numba-cuda", "cuda-core")]
    return hashlib.sha256(b"\0".join([*texts, repr(versions).encode()])).hexdigest()


def checked(result: tuple) -> Any:
    if int(result[0]):
        raise RuntimeError(f"CUDA said {result[0].name}")
    return result[1] if len(result) > 1 else None


# -- what is missing -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def missing() -> str | None:
    """The reason why no GPU can be used, and what to do about it; None if one can, or there is the simulator."""
    if SIMULATED:
        return None
    try:
        import numba_cuda  # noqa: F401 # the extra's package, which provides numba.cuda
        from cuda.bindings import driver
        from cuda.core import Device  # noqa: F401
    except ImportError as error:
        return (f"device='cuda' needs the extra of that name ({error}): "
                "pip install 'fastconv[cuda]', or 'fastconv[cuda12]' for a driver older than 580")
    try:
        status = driver.cuInit(0)[0]
    except Exception as error:  # the class differs between releases
        said = str(error).partition(".")[0]
        return f"device='cuda' finds no NVIDIA driver ({said}): install the NVIDIA display driver"
    if int(status) == 100:
        return "device='cuda' finds a driver but no NVIDIA GPU (CUDA_VISIBLE_DEVICES may hide it): it needs one"
    if int(status):
        return f"device='cuda' finds a driver that does not start ({status.name}): install one that fits the GPU"
    return None


def require() -> None:
    """RuntimeError unless there is a GPU or the simulator."""
    reason = missing()
    if reason:
        raise RuntimeError(reason)
