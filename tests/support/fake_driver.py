"""A driver without a GPU: it counts what it is asked for, keeps memory in this process, and says what was launched."""

from __future__ import annotations

import ctypes
import gc
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastconv.cuda import machine, operands
from fastconv.cuda.system import arrays, host_slices, kernels, streams

driver = pytest.importorskip("cuda.bindings.driver", reason="pip install 'fastconv[ptx]' (CI does)")
core = pytest.importorskip("cuda.core")


class Tensor:
    """What is used of torch.Tensor, in memory of this process."""

    def __init__(self, array: np.ndarray, device: int = 0) -> None:
        self.array, self.requires_grad, self.shape = array, False, array.shape
        self.dtype, self.device = f"torch.{array.dtype.name}", SimpleNamespace(index=device)

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.array.itemsize for step in self.array.strides)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.index


class Interface:
    """An array with nothing but __cuda_array_interface__."""

    def __init__(self, array: np.ndarray, stream: int | None = None) -> None:
        self.array = array
        self.__cuda_array_interface__ = dict(array.__array_interface__, stream=stream, version=3)


class Driver:
    """Counts calls, keeps memory in this process, and remembers what was launched where."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.memory: dict[int, Any] = {}
        self.launches: list[tuple[int, str, int]] = []

    def counts(self) -> Counter[str]:
        """Of calls so far, what only a cycle keeps being freed first: a traceback of the first compilation may."""
        gc.collect()
        return self.calls.copy()

    def alloc(self, size: int, stream: Any) -> tuple[Any, int]:
        self.calls["alloc"] += 1
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return driver.CUresult.CUDA_SUCCESS, ctypes.addressof(block)

    def free(self, address: int, *stream: Any) -> tuple[Any]:
        self.calls["free" if stream else "free and wait"] += 1
        del self.memory[int(address)]
        return (driver.CUresult.CUDA_SUCCESS,)

    def copy(self, target: int, source: int, size: int, stream: Any) -> tuple[Any]:
        self.calls["copy"] += 1
        ctypes.memmove(int(target), int(source), size)
        return (driver.CUresult.CUDA_SUCCESS,)

    def counted(self, label: str, *result: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> tuple:
            self.calls[label] += 1
            return (driver.CUresult.CUDA_SUCCESS, *result)

        return call

    def launch(self, stream: Any, config: Any, kernel: Any, *arguments: Any) -> None:
        assert kernel.parameters == len(arguments), kernel.entry
        threads = np.prod(config.block)
        assert threads <= 1024
        assert all(isinstance(value, (int, ctypes._SimpleCData)) for value in arguments)
        self.launches.append((int(stream.handle), kernel.entry, int(threads)))


class FakeStream:
    def __init__(self, fake: Driver, handle: int) -> None:
        self.fake, self.handle = fake, handle

    def sync(self) -> None:
        self.fake.calls["wait"] += 1

    def wait(self, other: Any) -> None:
        self.fake.calls["wait on the device"] += 1


class FakeMemory:
    """Pinned memory."""

    def allocate(self, size: int) -> Any:
        block = ctypes.create_string_buffer(size)
        return SimpleNamespace(handle=ctypes.addressof(block), block=block)


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Driver]:
    """The driver, in place of the real one until it is asked for the next time; `folder` is for compiled kernels."""
    if kernels.SIMULATED or kernels.missing() is None:
        pytest.skip("there is a GPU, which is better")
    found = Driver()

    class Device:
        compute_capability = (9, 0)

        def __init__(self, number: int) -> None:
            self.device_id = number

        def set_current(self) -> None:
            found.calls["set current"] += 1

        def create_stream(self) -> FakeStream:
            found.calls["create"] += 1
            return FakeStream(found, 1000 + found.calls["create"])

    class ObjectCode:
        @staticmethod
        def from_ptx(text: bytes) -> Any:
            found.parameters = len(re.findall(rb"\.param ", text.partition(b"{")[0]))  # type: ignore[attr-defined]
            return real.from_ptx(text)

        @staticmethod
        def from_cubin(code: bytes) -> Any:
            assert code[:4] == b"\x7fELF"
            return SimpleNamespace(get_kernel=lambda entry: SimpleNamespace(
                entry=entry, handle=1, parameters=found.parameters))  # type: ignore[attr-defined]

    real = core.ObjectCode
    for name, value in {
        "cuMemAllocAsync": found.alloc, "cuMemFreeAsync": found.free, "cuMemFree": found.free,
        "cuMemcpyHtoDAsync": found.copy, "cuMemcpyDtoHAsync": found.copy, "cuMemsetD8Async": found.counted("set"),
        "cuCtxGetCurrent": found.counted("current", 7), "cuCtxSetCurrent": found.counted("restored"),
        "cuPointerGetAttribute": found.counted("where", 0), "cuKernelSetAttribute": found.counted("attribute"),
        "cuDeviceGetMemPool": found.counted("pool", 5), "cuMemPoolGetAttribute": found.counted("kept", 0),
        "cuMemPoolSetAttribute": found.counted("keep"),
    }.items():
        monkeypatch.setattr(driver, name, value)
    monkeypatch.setattr(core, "Device", Device)
    monkeypatch.setattr(core, "ObjectCode", ObjectCode)
    monkeypatch.setattr(core, "Stream", SimpleNamespace(from_handle=lambda handle: FakeStream(found, handle)))
    monkeypatch.setattr(core, "LEGACY_DEFAULT_STREAM", FakeStream(found, 1))
    monkeypatch.setattr(core, "LegacyPinnedMemoryResource", FakeMemory)
    monkeypatch.setattr(streams, "_launch", lambda: found.launch)
    monkeypatch.setattr(kernels, "cache_folder", lambda: folder)
    monkeypatch.setattr(kernels, "write", lambda file, data: False)
    monkeypatch.setattr(kernels, "require", lambda: None)
    monkeypatch.setattr(host_slices, "require", lambda: None)
    monkeypatch.setattr(operands, "require", lambda: None)
    monkeypatch.setattr(host_slices, "_FREE", type(host_slices._FREE)())
    caches = arrays.stream_of, machine.this_machine, streams.launch_config, streams._keep_freed_memory
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(kernels.Kernel, "loaded", _freshly(kernels.Kernel.loaded))
    gc.freeze()  # `Driver.counts` looks at what is made from here on: all that was compiled before would take seconds
    yield found
    gc.unfreeze()
    for cache in caches:
        cache.cache_clear()


def _freshly(loaded: Any) -> Any:
    """Kernels loaded by a fake are not left for others to find."""

    def load(self: kernels.Kernel, device: Any, shared: int) -> Any:
        self._loaded.clear()
        return loaded(self, device, shared)

    return load


def torch_on(stream: int) -> Any:
    torch: Any = ModuleType("torch")
    torch.Tensor, torch.is_grad_enabled = Tensor, lambda: True
    torch.float32, torch.int64, torch.uint8 = "float32", "int64", "uint8"
    torch.channels_last = "channels last"
    torch.empty = lambda shape, dtype, device, **order: Tensor(np.empty(shape, dtype), device.index)
    torch.cuda = SimpleNamespace(current_stream=lambda device: SimpleNamespace(cuda_stream=stream))
    return torch


def not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are known by their name and number of arguments: for tests of what is asked for around them."""

    def load(self: kernels.Kernel, device: Any, shared: int) -> Any:
        count = sum(getattr(kind, "count", 1) for kind in self.signature)
        return SimpleNamespace(entry=self.function.__name__, parameters=count)

    monkeypatch.setattr(kernels.Kernel, "loaded", load)
