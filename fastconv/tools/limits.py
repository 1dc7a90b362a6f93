"""Limits of the threads that kernels, BLAS and OpenCV use while they are compared."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from ..functional.settings import get_num_threads
from ..specs.arguments import integer


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[tuple[int, bool]]:
    """Limit kernels and, with threadpoolctl, BLAS to `threads` threads; yields the number, and whether BLAS obeys."""
    import numba

    from ..cpu.system.threads import MOST_THREADS, threading_layer

    threading_layer()  # it must choose the layer, not Numba at the next line
    before = numba.get_num_threads()
    try:
        if threads is not None:
            number = integer("threads", threads, 1)
            if number > MOST_THREADS:
                raise ValueError(f"threads must be at most {MOST_THREADS}, as many as Numba has, got {number}")
            numba.set_num_threads(number)
        used = get_num_threads()  # fewer than asked for if `set_num_threads` says so
        with _blas_team(used) as limited:
            yield used, limited
    finally:
        numba.set_num_threads(before)


@contextlib.contextmanager
def _blas_team(threads: int) -> Iterator[bool]:
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        yield False
        return
    blas = ThreadpoolController().select(user_api="blas")
    with blas.limit(limits=threads):
        yield bool(blas.info())


@contextlib.contextmanager
def opencv_team(threads: int) -> Iterator[None]:
    """Limit OpenCV, if it is loaded, to so many threads."""
    cv2 = sys.modules.get("cv2")
    if cv2 is None:
        yield
        return
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
