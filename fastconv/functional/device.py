"""The one place that asks for a device: which module's calls compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import forks  # noqa: F401 # must be there before the first fork, which may come before the first call
from ..base.devices import place
from ..specs.arrays import array


class Recorder:
    """A device that computes nothing: a verb answers with its own name and what it is asked for.

    So whoever wants to know what a call means has the spec from the public function itself, which checks it.
    """

    operand = staticmethod(array)

    def __getattr__(self, verb: str) -> Any:
        return lambda spec, *operands: (verb, spec, operands)


#: `fastconv.cpu.calls`, once it is loaded.
_cpu: Any = None


def backend(device: Any, x: object, name: str = "x") -> Any:
    """`fastconv.cpu.calls` or `fastconv.cuda.calls`: of a device by name, or by default where `x`, the argument `name`,
    is; ValueError or TypeError if there is a contradiction. A `Recorder` stays what it is."""
    if device is None and type(x) is np.ndarray:  # nearly always
        return _cpu or cpu()
    if isinstance(device, Recorder):
        return device
    return cpu() if place(device, x, name) == "cpu" else _cuda()


def cpu() -> Any:
    """`fastconv.cpu.calls`; an import statement would look it up at every call."""
    global _cpu
    if _cpu is None:
        from ..cpu import calls

        _cpu = calls
    return _cpu


def _cuda() -> Any:
    from ..cuda import calls

    return calls
