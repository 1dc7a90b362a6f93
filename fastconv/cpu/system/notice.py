"""One line on stderr while a first call compiles, so that nobody takes the wait for the time of every call.

It is written once a process, in a terminal or a notebook, when one call's kernels have been compiled for `PATIENCE`.
``FASTCONV_QUIET=1`` silences it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...base.files import cache_folder, untrusted

#: Seconds of compiling before anything is said: about when one notices a wait.
PATIENCE = 0.5
#: Most seconds between two builds that belong to one call.
PAUSE = 0.2

_silent = False
#: Seconds of compiling in this call, and when that ended.
_spent, _ended = 0.0, 0.0


@contextmanager
def noticed() -> Iterator[None]:
    """A block that builds one function. Numba's compiler lock is held, so there is one at a time."""
    global _spent, _ended
    if not _wanted():
        yield
        return
    began = time.monotonic()
    if began - _ended > PAUSE:
        _spent = 0.0
    timer = threading.Timer(max(0.0, PATIENCE - _spent), _tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _ended = time.monotonic()
        _spent += _ended - began


@contextmanager
def silenced() -> Iterator[None]:
    """A block in which nothing is said, as compiling is what was asked for."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


def _wanted() -> bool:
    if _silent or os.environ.get("FASTCONV_QUIET", "0") not in ("", "0"):
        return False
    if "ipykernel" in sys.modules:
        return True
    with suppress(AttributeError, ValueError):  # there is no stderr, or it is closed
        return sys.stderr.isatty()
    return False


def _tell() -> None:
    global _silent
    if not _silent:
        _silent = True
        folder = cache_folder()
        kept = f"not kept: {problem}" if (problem := untrusted(folder)) else f"kept in {folder}"
        print(f"fastconv: kernels are being compiled; it is done once, and they are {kept}. To do it in advance: "
              "python -m fastconv warmup", file=sys.stderr, flush=True)  # fmt: skip
