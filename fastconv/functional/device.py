"""The one place that loads a device: `backend` returns the module whose functions compute a call."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import forks  # noqa: F401 # must be there before the first fork, which may come before the first call
from ..base.devices import on_gpu, place
from ..base.libraries import Foreign, foreign, is_dask
from ..specs.arrays import array, as_array


class Recorder:
    """A device that computes nothing: its verbs return their own name, the spec and the operands.

    So whoever wants to know what a call means gets the spec from the public function, which checks it.
    """

    operand = staticmethod(array)

    def __getattr__(self, verb: str) -> Any:
        return lambda spec, *operands: (verb, spec, operands)


class _ForeignCalls:
    """The verbs for an array of another library, of which results are, too."""

    def __init__(self, given: Foreign, calls: Any) -> None:
        self._given, self._calls = given, calls

    def operand(self, name: str, value: Any) -> Any:
        return self._calls.operand(name, self._given.read(name, value))

    def __getattr__(self, verb: str) -> Any:
        function = getattr(self._calls, verb)
        if verb in _WITHOUT_OUT:
            return lambda *told: self._given.again(function(*told))
        return lambda *told: self._given.call(lambda out: function(*told[:-1], out), out=told[-1])


#: The verbs whose last argument is not `out`.
_WITHOUT_OUT = "filter_recipe", "filtered", "plan"


#: The modules `fastconv.cpu.calls`, `fastconv.cpu.filters` and `fastconv.cpu.orders`, once they are loaded.
_cpu: Any = None
_filters: Any = None
_orders: Any = None


def backend(device: Any, x: object, name: str = "x") -> Any:
    """The module `fastconv.cpu.calls` or `fastconv.cuda.calls`, of the named `device` or by default of the one that
    holds `x`; a `Recorder` is returned as it is; arrays of Dask and of other libraries have verbs of their own. Errors
    are those of `base.devices.place`; they call `x` by `name`."""
    if device is None and type(x) is np.ndarray:  # nearly always
        return _cpu or cpu()
    if isinstance(device, Recorder):
        return device
    if is_dask(x):
        from ..dask.calls import Calls

        return Calls(device)
    if (given := foreign(x, name)) is not None:
        return _ForeignCalls(given, backend(device, given.array, name))
    return cpu() if place(device, x, name) == "cpu" else _cuda()


def cpu() -> Any:
    """The module `fastconv.cpu.calls`; an import statement here would look it up at every call."""
    global _cpu
    if _cpu is None:
        from ..cpu import calls

        _cpu = calls
    return _cpu


def filters() -> Any:
    """The module `fastconv.cpu.filters`."""
    global _filters
    if _filters is None:
        from ..cpu import filters

        _filters = filters
    return _filters


def orders() -> Any:
    """The module `fastconv.cpu.orders`."""
    global _orders
    if _orders is None:
        from ..cpu import orders

        _orders = orders
    return _orders


def image(value: Any) -> Any:
    """An image as filters take it: a NumPy array, or a `fastconv.cuda.filters.Image` of an array on a GPU."""
    if type(value) is np.ndarray or not on_gpu(value):
        return as_array("input", value)
    return _cuda_filters().image(value)


def sent(value: Any, device: Any) -> Any:
    """A filter's input, as it is, or what stands for a NumPy array that the `device` named "cuda" is to filter."""
    if device is None:  # nearly always
        return value
    return _cuda_filters().image(value) if place(device, value, "input") == "cuda" else value


def elsewhere(image: Any) -> Any:
    """The module `fastconv.cuda.filters` for an image that is on a GPU; None for a NumPy array."""
    return None if isinstance(image, np.ndarray) else _cuda_filters()


def refuse(what: str, value: Any, name: str = "input") -> None:
    """TypeError if `value`, the argument `name`, is on a GPU, where there is no such function or option."""
    if type(value) is not np.ndarray and on_gpu(value):
        raise TypeError(f"{what}: for NumPy arrays only, but {name} is on a GPU; copy it to the CPU")


def reorder(made: np.ndarray, axes: int, out: np.ndarray | None) -> np.ndarray:
    """A result of the CPU's with channels first, with channels last."""
    from ..cpu.channels_last import reordered

    return reordered(made, axes, out)


def _cuda() -> Any:
    from ..cuda import calls

    return calls


def _cuda_filters() -> Any:
    from ..cuda import filters

    return filters
