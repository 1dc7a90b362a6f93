"""Threads, forks and compiled code: everything about running a Numba kernel that is not its loops.

**Threads.** A kernel is compiled once, and `Kernel.__call__` runs it on Numba's threads where the threading layer can
take it now, on the calling thread otherwise. What the layers can take (Numba 0.62-0.68, Linux):

=========== ============================== ==============================================================
layer       several Python threads         in a child forked after the parent has run in parallel
=========== ============================== ==============================================================
tbb         safe                           safe
omp (GNU)   safe                           the child is killed at its first parallel launch: run serially
workqueue   the process is aborted: one    its threads are gone: run serially
            launch at a time, others run
            serially
=========== ============================== ==============================================================

How kernels are compiled, and kept on disk: `building`, `launching`, `micro`, `disk_cache`.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
import threading
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import types
from numba.np.ufunc import parallel as _numba_parallel

from ...base import forks
from . import building, launching

# -- kernels -------------------------------------------------------------------------------------------------


def jit(py_func: Callable | None = None, *, key: tuple = (), **options: Any) -> Any:
    """A function that kernels call; its code is part of theirs.

    A function made by a factory gives the factory's arguments as `key`: its code depends on them.
    """
    if py_func is None:
        return lambda function: jit(function, key=key, **options)
    _check_key(py_func, key)
    return building.Function(py_func, **options)


def compiled(py_func: Callable | None = None, *, key: tuple = (), **options: Any) -> Any:
    """A function without parallel loops that Python calls, and that may return a number."""
    if py_func is None:
        return lambda function: compiled(function, key=key, **options)
    _check_key(py_func, key)
    return launching.compiled(py_func, key, options)


def _check_key(py_func: Callable, key: tuple) -> None:
    if bool(py_func.__closure__) != bool(key):
        raise TypeError(f"{py_func.__qualname__} needs a key if, and only if, it closes over a factory's arguments")


#: Below this a problem runs on the calling thread: a team's start and end take 5 to 20 us, in which one AVX-512 core
#: does some two million operations.
PARALLEL_OPERATIONS = 2e6
#: As many threads as Numba can ever use in this process.
MOST_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined] # set when Numba is imported


_making = threading.Lock()


class Kernel:
    """A compiled loop nest over ``prange``; a call runs it on as many threads as may be used now.

    Arguments are arrays as `checks.kernel_ready` makes them, numbers and tuples of numbers.
    """

    def __init__(self, py_func: Callable, key: tuple = (), **options: Any) -> None:
        _check_key(py_func, key)
        self.__doc__ = py_func.__doc__
        self.name = py_func.__name__
        self._made_of = py_func, key, options

    @cached_property
    def launch(self) -> Any:
        """Called as ``launch(team, threads, *args)``, see `launching.launcher`; made when it is first needed."""
        with _making:  # by one thread
            known = self.__dict__
            if "launch" not in known:
                known["launch"] = launching.launcher(*self._made_of)
            return known["launch"]

    def __call__(self, *args: Any) -> None:
        threads = num_threads()
        if threads == 1 or not _may_launch():
            self.launch(0, 1, *args)
        else:
            _launch(self.launch, threads, args)

    def serial(self, *args: Any) -> None:
        """Run on the calling thread."""
        self.launch(0, 1, *args)

    def sized(self, operations: float) -> Callable[..., None]:
        """What to call for a problem of so many operations: the calling thread alone where threads would not pay."""
        return self if operations >= PARALLEL_OPERATIONS else self.serial


class Launch:
    """A kernel for one problem, called again and again, as ``launch.call(...)``, with arguments of the same types.

    A problem of too few operations for threads runs on the calling thread, and its compiled code is called directly:
    Numba's look at the type of every argument would take longer (0.4 us) than many a small problem. That code does not
    check types: only what `checks.kernel_ready` made, and constants, may be passed.
    """

    __slots__ = ("_kernel", "call")

    def __init__(self, kernel: Kernel, operations: float) -> None:
        self._kernel = kernel
        self.call: Callable[..., None] = kernel if operations >= PARALLEL_OPERATIONS else self._first

    def _first(self, *args: Any) -> None:
        """Compile for these arguments, if need be, and run."""
        launch = self._kernel.launch.compile((types.int64, types.int64, *[numba.typeof(arg) for arg in args]))
        self.call = partial(launch, 0, 1)
        self.call(*args)


def kernel(py_func: Callable | None = None, **options: Any) -> Any:
    """Decorator that makes a `Kernel` of a function whose parallel loops are ``numba.prange``."""
    if py_func is None:
        return lambda function: Kernel(function, **options)
    return Kernel(py_func, **options)


# -- scratch ---------------------------------------------------------------------------------------------------

#: Scratch up to this size is kept for the caller's next call: fresh memory costs a page fault every 4 KiB.
_KEPT_BYTES = 32 << 20
#: So many ready-made views of it are kept, too.
_KEPT_VIEWS = 256


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffer = np.empty(0, np.uint8)
        self.weights = np.empty(0, np.uint8)
        self.once = False
        self.views: dict[tuple, np.ndarray] = {}


_kept = _Kept()


def scratch(size: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised array of one row of at least `size` elements for each of Numba's threads.

    Inside a kernel a task uses row ``numba.get_thread_id()``. It is valid until this Python thread's next call.
    """
    # Not `num_threads`: another thread may raise that limit before the kernel starts.
    key = size, dtype, masked_threads()
    view = _kept.views.get(key)
    return _scratch(*key) if view is None else view


def _scratch(size: int, dtype: np.dtype, threads: int) -> np.ndarray:
    item = np.dtype(dtype).itemsize
    row = -(-size * item // 64) * 64  # rows begin at cache lines
    needed = row * threads
    keep = needed <= _KEPT_BYTES
    buffer = _kept.buffer
    if buffer.nbytes < needed or not keep:
        buffer = _aligned(needed)
        if keep:
            _kept.buffer, _kept.views = buffer, {}  # views of the old buffer would keep it alive
    view = buffer[:needed].view(dtype).reshape(threads, row // item)
    if keep:
        if len(_kept.views) >= _KEPT_VIEWS:
            _kept.views.clear()
        _kept.views[size, dtype, threads] = view
    return view


def weights_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array for packed weights: new, or within `used_once` in memory kept for this thread's calls."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not _kept.once or size > _KEPT_BYTES:
        return _aligned(size).view(dtype).reshape(shape)
    if _kept.weights.nbytes < size:
        _kept.weights = _aligned(size)
    return _kept.weights[:size].view(dtype).reshape(shape)


def used_once(prepare: Callable[..., Any], *args: Any) -> Any:
    """``prepare(*args)`` for a result that is used before this thread's next call of `used_once`, and not after it."""
    _kept.once = True
    try:
        return prepare(*args)
    finally:
        _kept.once = False


def is_used_once() -> bool:
    """Whether what is prepared now is for one call."""
    return _kept.once


def _aligned(size: int) -> np.ndarray:
    """So many bytes from the beginning of a cache line on."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


# -- threads and forks ---------------------------------------------------------------------------------------

_launching = threading.Lock()
_layer: str | None = None
_parallel_for: int | None = None
_limit: int | None = None


def set_num_threads(threads: int | None) -> None:
    """Let this package use at most so many of Numba's threads; None for all of them."""
    global _limit
    _limit = threads


def num_threads() -> int:
    """Threads a kernel called now may use: Numba's for this Python thread, or fewer by `set_num_threads`."""
    limit = _limit
    if limit == 1:
        return 1
    threads = masked_threads()
    return threads if limit is None else min(threads, limit)


def masked_threads() -> int:
    """`numba.get_num_threads`, which takes two locks at every call to see that the threads are started, without."""
    if _layer is None:
        threading_layer()
    return _numba_parallel._get_num_threads()  # type: ignore[attr-defined] # it is set when the threads start


def threading_layer() -> str:
    """Numba's threading layer: "tbb", "omp" or "workqueue". The first call starts its threads."""
    global _layer, _parallel_for
    if _layer is None:
        with forks.gate:  # a child forked meanwhile would find Numba's locks held
            numba.get_num_threads()
            _layer = numba.threading_layer()
            _parallel_for = llvm.address_of_symbol("numba_parallel_for")
            if _layer == "tbb":  # when it is freed it waits for its threads: for ever, at times, where there were forks
                pool = sys.modules["numba.np.ufunc.tbbpool"]
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool))
    return _layer


def _load_tbb() -> None:
    """Load the tbb that pip put into this environment, where the dynamic linker does not look for it."""
    for prefix in dict.fromkeys((sys.prefix, sys.base_prefix)):
        with contextlib.suppress(OSError):
            ctypes.CDLL(os.path.join(prefix, "lib", "libtbb.so.12"))
            return


def _load_openmp() -> None:
    """Load GNU OpenMP such that its idle threads soon sleep.

    By default they spin for milliseconds, on the cores that NumPy's BLAS needs next: `im2col`, which alternates
    between the two, ran 12 times slower. 300 turns of spinning still catch the next of several small kernels.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ["GOMP_SPINCOUNT"] = "300"  # the library reads it while it is loaded, and only then
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgomp.so.1")
    del os.environ["GOMP_SPINCOUNT"]


# On import, because whatever asks Numba for its number of threads first settles the layer.
_load_tbb()
_load_openmp()


def _may_launch() -> bool:
    """Whether a parallel kernel may run now; see the module's table. If so, `_launch` must follow."""
    if _layer == "tbb":
        return True
    return not forks.threads_lost and (_layer != "workqueue" or _launching.acquire(blocking=False))


def _launch(loops: Callable[..., None], threads: int, args: tuple) -> None:
    """Run a parallel kernel on so many of Numba's threads; a fork waits for it."""
    try:
        with forks.kernel_running:
            loops(_parallel_for, threads, *args)
    finally:
        if _layer == "workqueue":
            _launching.release()
