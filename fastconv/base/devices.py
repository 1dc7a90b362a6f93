"""Where an array is, found out without loading anything: NumPy's on the CPU, others by their device protocols."""

from __future__ import annotations

from typing import Any

import numpy as np

from .values import shown

#: DLPack's numbers of memory that a GPU computes on: its own, and managed.
_GPU = (2, 13)


def on_gpu(value: object) -> bool:
    """Whether `value` is an array on a GPU, by ``__dlpack_device__`` or ``__cuda_array_interface__``."""
    if isinstance(value, np.ndarray):
        return False
    kind = getattr(value, "__dlpack_device__", None)
    if kind is not None:
        return int(kind()[0]) in _GPU
    return hasattr(value, "__cuda_array_interface__")


def place(device: Any, x: object, name: str = "x") -> str:
    """`device`, or by default where `x`, the argument `name`, is: "cpu" or "cuda"; ValueError or TypeError if there is
    a contradiction."""
    if device is None:
        device = "cuda" if on_gpu(x) else "cpu"
    if not isinstance(device, str) or device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu', 'cuda' or None (where {name} is), got {shown(device)}")
    if device == "cpu" and on_gpu(x):
        raise TypeError(f"{name} is on a GPU, but device='cpu': leave device out, or copy {name} to the CPU")
    return device
