"""The one place that asks for a device: which module's calls compute."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..base import forks  # noqa: F401 # must be there before the first fork, which may come before the first call
from ..base.devices import place


def backend(device: Any, x: object, name: str = "x") -> Any:
    """`fastconv.cpu.calls` or `fastconv.cuda.calls`: of a device by name, or by default where `x`, the argument `name`,
    is; ValueError or TypeError if there is a contradiction."""
    if device is None and type(x) is np.ndarray:  # nearly always
        return cpu()
    return cpu() if place(device, x, name) == "cpu" else _cuda()


@lru_cache(maxsize=1)
def cpu() -> Any:
    """`fastconv.cpu.calls`, which an import statement would look up at every call."""
    from ..cpu import calls

    return calls


@lru_cache(maxsize=1)
def _cuda() -> Any:
    from ..cuda import calls

    return calls
