"""Forks seen from `import fastconv` on, before Numba is loaded: what a child must know, and what it must not inherit."""

from __future__ import annotations

import os
import sys
from typing import Any

#: Whether this process is a forked child whose parent had already started Numba's threads.
threads_lost = False

_held: list[Any] = []


def _before() -> None:
    # A child that inherits Numba's compiler lock from a thread in mid-compilation would wait for it forever.
    module = sys.modules.get("numba.core.compiler_lock")
    if module is not None:
        module.global_compiler_lock.acquire()
        _held.append(module.global_compiler_lock)


def _release() -> None:
    while _held:
        _held.pop().release()


def _in_child() -> None:
    global threads_lost
    _release()
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    threads_lost = threads_lost or getattr(parallel, "_is_initialized", False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)
