"""Arrays of other libraries: how NumPy reads them, and how results become arrays of theirs. Imports no library.

Known are objects with labels (xarray, pandas), tensors of PyTorch, and arrays of the array API standard (JAX and
others), which share their memory by DLPack; arrays of Dask are only recognised.

Source: Consortium for Python Data API Standards, array API 2024.12, data interchange mechanisms.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


def is_dask(value: object) -> bool:
    """Whether a value is an array of Dask."""
    return _package(value) == "dask" and hasattr(value, "chunks")


class Foreign(NamedTuple):
    """An array of another library."""

    library: str
    """Whose arrays it goes together with."""
    array: Any
    """What NumPy reads: an array of its own, without a copy where that may be, or of Dask."""
    again: Callable[[Any], Any]
    """Makes an array, or each of a tuple of arrays, one of the library."""

    def read(self, name: str, value: Any) -> Any:
        """Another argument as NumPy reads it; TypeError if it is an array of a third library."""
        found = None if type(value) is np.ndarray else foreign(value, name)
        library = "numpy" if isinstance(value, np.ndarray) else None if found is None else found.library
        if library not in (None, self.library):
            raise mixed(name, library, self.library)
        return value if found is None else found.array

    def call(self, function: Callable[..., Any], /, **arguments: Any) -> Any:
        """What a function of NumPy arrays returns, as an array of the library; or the argument that it was put into."""
        read = {name: self.read(name, value) for name, value in arguments.items()}
        made = function(**read)
        for name, value in arguments.items():
            if made is read[name] and made is not None:
                return value
        return self.again(made)


def mixed(name: str, library: Any, other: str) -> TypeError:
    """The error for arrays of two libraries in one call."""
    return TypeError(f"{name} is an array of {library}, but the input is one of {other}: convert one of them")


def check_alike(**arguments: Any) -> None:
    """TypeError if an argument beside a NumPy array is an array of another library."""
    for name, value in arguments.items():
        if type(value) is not np.ndarray and hasattr(value, "__dlpack__"):
            given = foreign(value, name)
            if given is not None and given.library != "numpy":
                raise mixed(name, given.library, "numpy")


def foreign(value: Any, name: str = "x") -> Foreign | None:
    """What an array of another library is made of; None for all else, also for arrays on a GPU. TypeError, which calls
    it by `name`, for a tensor whose gradient is wanted."""
    package = _package(value)
    if package in ("xarray", "pandas"):
        return _labelled(value, package)
    if package in ("numpy", "dask", "builtins"):
        return None
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.requires_grad:
            raise TypeError(f"{name} requires a gradient, which would be lost here: pass {name}.detach(); "
                            "fastconv.grad has the gradients")  # fmt: skip
        return _shared(value, name, "torch", torch)
    if not (hasattr(value, "__array_namespace__") and hasattr(value, "__dlpack__")):
        return None
    namespace = value.__array_namespace__()
    return _shared(value, name, namespace.__name__.partition(".")[0], namespace)


def _package(value: object) -> str:
    """The name of the package that a value's class comes from."""
    return type(value).__module__.partition(".")[0]


def _shared(value: Any, name: str, library: str, namespace: Any) -> Foreign | None:
    """An array whose memory NumPy can share; None if that is not the CPU's. TypeError if NumPy has no such dtype."""
    if int(value.__dlpack_device__()[0]) != 1:
        return None
    try:
        array = np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError):  # it is in pieces, or its dtype is none of DLPack's
        try:
            array = np.asarray(value)
        except (RuntimeError, TypeError) as error:
            raise TypeError(f"{name} cannot be read by NumPy: {error}") from None
    if not array.flags.writeable:  # NumPy before 2.2.5 says so of all arrays that come by DLPack
        array = np.asarray(value)

    def again(made: Any) -> Any:
        if isinstance(made, tuple):
            return tuple(map(again, made))
        return namespace.from_dlpack(made) if isinstance(made, np.ndarray) else made

    return Foreign(library, array, again)


def _labelled(value: Any, package: str) -> Foreign | None:
    """The array in an object of xarray or pandas; a result of another shape, or of none, gets no labels."""
    if package == "xarray" and hasattr(value, "dims") and hasattr(value, "data"):
        again: Callable[[Any], Any] = lambda made: value.copy(data=made)  # noqa: E731 # as the two below
    elif package == "pandas" and hasattr(value, "to_frame"):
        again = lambda made: type(value)(made, value.index, name=value.name)  # noqa: E731
    elif package == "pandas" and hasattr(value, "columns"):
        again = lambda made: type(value)(made, value.index, value.columns)  # noqa: E731
    else:
        return None
    array = value.data if package == "xarray" else value.to_numpy()
    return Foreign("numpy", array, lambda made: again(made) if getattr(made, "shape", None) == value.shape else made)
