"""Kernels: functions with a parallel loop, compiled once, that run on Numba's threads or on the calling one.

`building`, `launching`, `micro` and `disk_cache` compile them and keep them on disk; `threads` tells when they may run
on threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from . import building, launching, wrappers
from .plain import PLAIN
from .threads import launch_on_threads, may_launch, num_threads, only_one

# -- kernels -------------------------------------------------------------------------------------------------


def jit(py_func: Callable | None = None, *, key: tuple = (), **options: Any) -> Any:
    """A function that kernels call; its code is part of theirs.

    A function made by a factory gives the factory's arguments as `key`: its code depends on them.
    """
    if py_func is None:
        return lambda function: jit(function, key=key, **options)
    _check_key(py_func, key)
    return py_func if PLAIN else building.Function(py_func, **options)


def compiled(py_func: Callable | None = None, *, key: tuple = (), **options: Any) -> Any:
    """A function without parallel loops that Python calls, and that may return a number."""
    if py_func is None:
        return lambda function: compiled(function, key=key, **options)
    _check_key(py_func, key)
    return launching.compiled(py_func, key, options)


def _check_key(py_func: Callable, key: tuple) -> None:
    if bool(py_func.__closure__) != bool(key):
        raise TypeError(f"{py_func.__qualname__} needs a key if, and only if, it closes over a factory's arguments")


#: Operations below which a problem runs on the calling thread: to start and end a team of threads takes 5 to 20 us, in
#: which one AVX-512 core does some two million operations.
PARALLEL_OPERATIONS = 2e6


_making = threading.Lock()


class Kernel:
    """A compiled loop nest over ``prange``; a call runs it on as many threads as may be used now.

    Arguments are arrays as `arrays.kernel_ready` makes them, numbers and tuples of numbers.
    """

    def __init__(self, py_func: Callable, key: tuple = (), **options: Any) -> None:
        _check_key(py_func, key)
        self.__doc__ = py_func.__doc__
        self.name = py_func.__name__
        self._made_of = py_func, key, options

    @cached_property
    def launch(self) -> Any:
        """The compiled ``launch(team, threads, *args)`` of `launching.launcher`; made when it is first needed."""
        with _making:  # by one thread
            known = self.__dict__
            if "launch" not in known:
                known["launch"] = launching.launcher(*self._made_of)
            return known["launch"]

    def __call__(self, *args: Any) -> None:
        threads = num_threads()
        if threads == 1 or not may_launch():
            self.launch(0, 1, *args)
        else:
            launch_on_threads(self.launch, threads, args)

    def serial(self, *args: Any) -> None:
        """Run on the calling thread."""
        self.launch(0, 1, *args)

    def sized(self, operations: float) -> Callable[..., None]:
        """The function to call for so many operations: it runs on the calling thread where threads would not pay."""
        return self if operations >= PARALLEL_OPERATIONS else self.serial


class Launch:
    """A kernel for one problem, called again and again, as ``launch.call(...)``, with arguments of the same types.

    A problem of too few operations for threads runs on the calling thread, and its compiled code is called directly:
    Numba's look at the type of every argument would take longer (0.4 us) than many a small problem. That code does not
    check types: only what `arrays.kernel_ready` made, and constants, may be passed.
    """

    __slots__ = ("_is_large", "_kernel", "call")

    def __init__(self, kernel: Kernel, operations: float) -> None:
        self._kernel, self._is_large = kernel, operations >= PARALLEL_OPERATIONS
        self.call: Callable[..., None] = kernel if operations >= PARALLEL_OPERATIONS else self._first

    def _first(self, *args: Any) -> None:
        """Compile for these arguments, if need be, and run."""
        launch = self._kernel.launch.compile((types.int64, types.int64, *[numba.typeof(arg) for arg in args]))
        self.call = partial(launch, 0, 1)
        self.call(*args)


    def direct(self, *args: Any) -> Direct | None:
        """The kernel, made ready to run on the calling thread with these arguments, or with others in place of the
        first two that lie as they do; None if threads may pay now."""
        if PLAIN or (self._is_large and not only_one()) or not wrappers.reads_objects():
            return None
        launch, kinds = self._kernel.launch, (types.int64, types.int64, *[numba.typeof(arg) for arg in args])
        entry, size = launch.compile(kinds), np.empty(1, np.int64)
        entry(size.ctypes.data, -1, *args)
        record = np.empty(size[0], np.uint8)
        entry(record.ctypes.data, 0, *args)
        return Direct(launch.direct(kinds), record, args)


class Direct(NamedTuple):
    """A kernel to be called as ``entry(record, x, out)``; see `wrappers.direct`."""

    entry: Callable[[np.ndarray, np.ndarray, np.ndarray], bool]
    record: np.ndarray
    kept: tuple[Any, ...]
    """What the record points to."""


#: Multiply-adds that take as long as moving one element, for `Kernel.sized`.
MOVED = 8.0


def kernel(py_func: Callable | None = None, **options: Any) -> Any:
    """Decorator that makes a `Kernel` of a function whose parallel loops are ``numba.prange``."""
    if py_func is None:
        return lambda function: Kernel(function, **options)
    return Kernel(py_func, **options)
