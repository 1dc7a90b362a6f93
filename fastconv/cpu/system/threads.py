"""Python threads, for algorithms whose time goes into compiled code that is not this package's own."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ...base import forks

#: The process that made them, and the threads.
_helpers: tuple[int, ThreadPoolExecutor] | None = None


def in_threads(work: Callable[[int], None], shares: int) -> None:
    """Call `work` with each of 0 ... `shares` - 1, on this thread and others: for work that lets go of Python's lock.

    It may launch no parallel kernel. A fork waits for it.
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
        finally:  # whoever has not come yet need not
            failures = [helper.exception() for helper in helping if not helper.cancel()]
        for error in failures:
            if error is not None:
                raise error
