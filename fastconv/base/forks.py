"""Handlers of forks, registered by `import fastconv` before Numba is loaded: they tell a child that its parent had
started threads, and keep it from inheriting a lock that is held or a kernel that is running."""

from __future__ import annotations

import logging  # noqa: F401 # what is registered last runs first before a fork: see `_before`
import os
import sys
import threading
import time
from typing import Any

#: Whether this process is a forked child whose parent had already started Numba's threads.
threads_lost = False

#: Held during a fork, and for a moment at the start of every parallel kernel.
gate = threading.RLock()
_running: set[int] = set()
_held: list[Any] = []


class _KernelRunning:
    """Context of a running parallel kernel: a fork waits for its end, as a child of a busy thread pool could hang."""

    def __enter__(self) -> None:
        with gate:
            _running.add(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        _running.discard(threading.get_ident())


kernel_running = _KernelRunning()


def _before() -> None:
    _hold(gate)
    while _running - {threading.get_ident()}:
        time.sleep(1e-4)
    # A child that inherits Numba's compiler lock from a thread that is compiling would wait for it forever. The lock is
    # taken last: a kernel that still runs may be waiting for it. `logging` takes its own lock before a fork, too, and a
    # thread that compiles may wait for it. So `logging`'s lock must be taken after this one; handlers run in reverse
    # order of registration, so `logging` must be imported before this module registers.
    module = sys.modules.get("numba.core.compiler_lock")
    if module is not None:
        _hold(module.global_compiler_lock)
    # llvmlite's own lock is held without Numba's where compiled code is thrown away; who has it waits for no other.
    library = getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None)
    lock = getattr(getattr(library, "_lock", None), "_lock", None)
    if lock is not None:
        _hold(lock)


def _hold(lock: Any) -> None:
    lock.acquire()
    _held.append(lock)


def _release() -> None:
    while _held:
        _held.pop().release()


def _in_child() -> None:
    global threads_lost
    _running.clear()
    _release()
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    threads_lost = threads_lost or getattr(parallel, "_is_initialized", False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)
