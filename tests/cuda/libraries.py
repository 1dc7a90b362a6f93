"""Arrays of other libraries for the tests.

In the simulator fakes of the libraries stand in, which have the attributes that are used and memory of this process.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numba import config

SIMULATED = bool(config.ENABLE_CUDASIM)
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


class FakeTensor:
    """What is used of torch.Tensor."""

    def __init__(self, array: np.ndarray, dtype: str = "", grad: bool = False) -> None:
        self.array, self.requires_grad = array, grad
        self.dtype = f"torch.{dtype or array.dtype.name}"
        self.device = SimpleNamespace(index=0)
        self.shape, self.ndim = array.shape, array.ndim

    def __getitem__(self, index: int) -> FakeTensor:
        return FakeTensor(self.array[index], self.dtype.removeprefix("torch."))

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.array.itemsize for step in self.array.strides)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def fake_torch() -> ModuleType:
    torch: Any = ModuleType("torch")
    torch.Tensor = FakeTensor
    torch.channels_last = "channels_last"
    torch.is_grad_enabled = lambda: True
    for name in ("bool", "float16", "float32", "float64", "bfloat16", *INTEGERS):
        setattr(torch, name, name)

    def empty(shape: tuple[int, ...], dtype: str, device: Any, memory_format: str = "") -> FakeTensor:
        kind = np.uint16 if dtype == "bfloat16" else np.dtype(dtype)
        if memory_format:
            n, c, h, w = shape
            return FakeTensor(np.empty((n, h, w, c), kind).transpose(0, 3, 1, 2), dtype)
        return FakeTensor(np.empty(shape, kind), dtype)

    torch.empty = empty
    return torch


class Library:
    """How the tests use one: arrays to it, back from it, and whether something is of its kind."""

    def __init__(self, name: str, put: Any, get: Any, kind: type) -> None:
        self.name, self.put, self.get, self.kind = name, put, get, kind

    def images(self, x: np.ndarray, last: bool) -> Any:
        """Images there, with channels last in memory if asked for."""
        if not last:
            return self.put(x)
        moved = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        if SIMULATED:
            return self.put(moved.transpose(0, 3, 1, 2))
        there = self.put(moved)
        return there.permute(0, 3, 1, 2) if self.name == "torch" else there.transpose((0, 3, 1, 2))


def libraries() -> list[str]:
    return ["torch", "numba"] if SIMULATED else ["torch", "cupy", "numba"]


def bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 rounded to the bits of bfloat16."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)
