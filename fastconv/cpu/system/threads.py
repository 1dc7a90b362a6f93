"""Threads and forks: how many threads there are, when a kernel may run on Numba's threads, and threads of Python's.

A kernel is compiled once, and `Kernel.__call__` runs it on Numba's threads where the threading layer can
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
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import llvmlite.binding as llvm
import numba
from numba.np.ufunc import parallel as _numba_parallel

from ...base import forks

#: The process that made the threads of `in_threads`, and these threads.
_helpers: tuple[int, ThreadPoolExecutor] | None = None


def in_threads(work: Callable[[int], None], shares: int) -> None:
    """Call `work` with each of 0 ... `shares` - 1, on this thread and others: for work that releases Python's lock.

    It may launch no parallel kernel. A fork waits for it to end.
    """
    global _helpers
    ahead = itertools.count()

    def take() -> None:
        while (share := next(ahead)) < shares:
            work(share)

    if shares == 1:
        take()
        return
    with forks.kernel_running:
        if _helpers is None or _helpers[0] != os.getpid():  # a forked child has none
            _helpers = os.getpid(), ThreadPoolExecutor(os.cpu_count(), "fastconv")
        helping = []
        with contextlib.suppress(RuntimeError):  # at the interpreter's end there are none to be had
            helping = [_helpers[1].submit(take) for _ in range(shares - 1)]
        try:
            take()
        finally:  # helpers that have not begun need not
            failures = [helper.exception() for helper in helping if not helper.cancel()]
        for error in failures:
            if error is not None:
                raise error


#: Most threads that Numba can ever use in this process.
MOST_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined] # set when Numba is imported


#: Held while a kernel runs on threads, where the layer is "workqueue", which aborts if two do.
_launching = threading.Lock()
#: Numba's threading layer, and the address of its function that runs a kernel; None before the threads start.
_layer: str | None = None
_parallel_for: int | None = None
#: The limit of `set_num_threads`.
_limit: int | None = None


def set_num_threads(threads: int | None) -> None:
    """Let this package use at most so many of Numba's threads; None for all of them."""
    global _limit
    _limit = threads


def only_one() -> bool:
    """Whether this package may use one thread only, until the next `set_num_threads`."""
    return _limit == 1


def num_threads() -> int:
    """Threads a kernel called now may use: Numba's for this Python thread, or fewer by `set_num_threads`."""
    limit = _limit
    if limit == 1:
        return 1
    threads = masked_threads()
    return threads if limit is None else min(threads, limit)


def masked_threads() -> int:
    """`numba.get_num_threads` without the two locks that it takes at every call to see that the threads are started."""
    if _layer is None:
        threading_layer()
    return _numba_parallel._get_num_threads()  # type: ignore[attr-defined] # it is set when the threads start


def mask_threads(threads: int) -> int:
    """Let this Python thread use at most so many of Numba's; the answer is how many it could use before.

    As `numba.set_num_threads`, but without two locks that a child forked meanwhile would find held.
    """
    before = masked_threads()
    _numba_parallel._set_num_threads(min(threads, MOST_THREADS))  # type: ignore[attr-defined] # as above
    return before


def threading_layer() -> str:
    """Numba's threading layer: "tbb", "omp" or "workqueue". The first call starts its threads."""
    global _layer, _parallel_for
    if _layer is None:
        with forks.gate:  # a child forked meanwhile would find Numba's locks held
            numba.get_num_threads()
            _layer = numba.threading_layer()
            _parallel_for = llvm.address_of_symbol("numba_parallel_for")
            if _layer == "tbb":  # never freed: that waits for its threads, after a fork at times for ever
                pool = sys.modules["numba.np.ufunc.tbbpool"]
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool))
    return _layer


def _load_tbb() -> None:
    """Load the TBB that pip put into this environment, where the dynamic linker does not look for it."""
    for prefix in dict.fromkeys((sys.prefix, sys.base_prefix)):
        with contextlib.suppress(OSError):
            ctypes.CDLL(os.path.join(prefix, "lib", "libtbb.so.12"))
            return


def _load_openmp() -> None:
    """Load GNU OpenMP such that its idle threads soon sleep.

    By default they spin for milliseconds, on the cores that NumPy's BLAS needs next: `im2col`, which alternates
    between OpenMP and BLAS, ran 12 times slower. 300 turns of spinning still catch the next of several small kernels.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ["GOMP_SPINCOUNT"] = "300"  # the library reads it while it is loaded, and only then
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgomp.so.1")
    del os.environ["GOMP_SPINCOUNT"]


def may_launch() -> bool:
    """Whether a parallel kernel may run now, by the module's table. If so, `launch_on_threads` must follow."""
    if _layer == "tbb":
        return True
    return not forks.threads_lost and (_layer != "workqueue" or _launching.acquire(blocking=False))


def launch_on_threads(loops: Callable[..., None], threads: int, args: tuple) -> None:
    """Run a parallel kernel on so many of Numba's threads; a fork waits for it."""
    try:
        with forks.kernel_running:
            loops(_parallel_for, threads, *args)
    finally:
        if _layer == "workqueue":
            _launching.release()


# On import, because whatever asks Numba for its number of threads first settles the layer.
_load_tbb()
_load_openmp()
