"""Finds out on which device an array is, without importing a library: by its type or its device protocol."""

from __future__ import annotations

from typing import Any

import numpy as np

from .values import shown

#: The values of `device`: the names of the folders that compute.
DEVICES = ("cpu", "cuda")
#: DLPack's device types of memory that a CUDA GPU computes on: its own (2) and managed memory (13).
_GPU = (2, 13)


def on_gpu(value: object) -> bool:
    """Whether `value` is an array on a GPU, by ``__dlpack_device__`` or ``__cuda_array_interface__``."""
    if isinstance(value, np.ndarray):
        return False
    kind = getattr(value, "__dlpack_device__", None)
    if kind is not None:
        return int(kind()[0]) in _GPU
    return hasattr(value, "__cuda_array_interface__")


def check_device(device: object, otherwise: str = "") -> None:
    """ValueError unless this is the name of a device; the message says what else is allowed."""
    if not isinstance(device, str) or device not in DEVICES:
        *others, last = [*map(repr, DEVICES), *([otherwise] if otherwise else [])]
        raise ValueError(f"device must be {', '.join(others)} or {last}, got {shown(device)}")


def place(device: Any, x: object, name: str = "x") -> str:
    """The device to compute on, "cpu" or "cuda": `device` if it is given, otherwise the one that holds `x`.

    `name` is the argument's name for messages. ValueError if `device` is neither; TypeError if it contradicts `x`."""
    if device is None:
        device = "cuda" if on_gpu(x) else "cpu"
    check_device(device, f"None (where {name} is)")
    if device == "cpu" and on_gpu(x):
        raise TypeError(f"{name} is on a GPU, but device='cpu': leave device out, or copy {name} to the CPU")
    return device
