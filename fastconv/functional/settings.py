"""Settings: the names of the algorithms, and the number of threads that they may use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ContextDecorator

from ..base.devices import check_device
from ..specs.arguments import integer
from ..typing import Device, Operation
from .device import backend, cpu

__all__ = ["algorithms", "get_num_threads", "num_threads", "set_num_threads"]


def algorithms(op: Operation = "conv2d", device: Device = "cpu") -> tuple[str, ...]:
    """Names of the algorithms of an operation.

    Parameters
    ----------
    op : str
        The operation: "conv2d", "conv_transpose2d", "max_pool2d", "min_pool2d", "avg_pool2d" or "lp_pool2d", or one of
        these with 1d or 3d instead; a gradient, "conv2d_weight", "conv2d_input", "max_pool2d_input",
        "min_pool2d_input" or "avg_pool2d_input"; or "adaptive_max_pool2d", "adaptive_avg_pool2d", "max_unpool2d",
        "unfold2d" or "fold2d", which have one algorithm.
    device : {"cpu", "cuda"}
        The device that they run on.

    Returns
    -------
    tuple of str
        The names in table order: the most specialised first, the readable definition last.

    Raises
    ------
    ValueError
        If `op` or `device` is unknown.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.algorithms("max_pool2d")
    ('global', 'across', 'running', 'rows', 'naive')
    """
    check_device(device)
    return backend(device, None).planner.algorithms(op)


#: What is called when `set_num_threads` was.
limit_changed: list[Callable[[], None]] = []


def set_num_threads(threads: int | None) -> None:
    """Limit how many threads this package uses in this process.

    Parameters
    ----------
    threads : int or None
        The limit; None for the number that Numba uses (``NUMBA_NUM_THREADS``, all cores by default).

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a positive integer.

    Notes
    -----
    Results do not depend on the limit. ``numba.set_num_threads``, which holds for one Python thread, counts too: the
    smaller number is used. The matrix products of ``im2col`` run in NumPy's BLAS, which has its own threads.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.set_num_threads(1)
    >>> fastconv.get_num_threads()
    1
    >>> fastconv.set_num_threads(None)
    """
    limit = None if threads is None else integer("threads", threads, 1)
    cpu().set_num_threads(limit)
    for told in limit_changed:
        told()


class num_threads(ContextDecorator):
    """A context that limits how many threads the calls of one Python thread use, as a decorator those of a function.

    So the threads of a server or a task engine share the cores: eight of them, on sixteen cores, two each.

    Parameters
    ----------
    threads : int
        At most so many, while this Python thread is in the context; of nested contexts the innermost counts.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a positive integer.

    Notes
    -----
    Results do not depend on it, unless algorithms were measured for this number (`fastconv.wisdom`). It sets Numba's
    own number for this Python thread, and gives it back; `set_num_threads` counts too: the smaller number is used. One
    object may be entered several times, also by several threads at once. The matrix products of ``im2col`` run in
    NumPy's BLAS, which has its own threads.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.num_threads(1):
    ...     fastconv.get_num_threads()
    1
    """

    def __init__(self, threads: int) -> None:
        self._threads = integer("threads", threads, 1)

    def __enter__(self) -> None:
        _outside.numbers.append(cpu().mask_threads(self._threads))

    def __exit__(self, *_: object) -> None:
        cpu().mask_threads(_outside.numbers.pop())


class _Outside(threading.local):
    """How many threads this Python thread may use outside of each context that it is in."""

    def __init__(self) -> None:
        self.numbers: list[int] = []


_outside = _Outside()


def get_num_threads() -> int:
    """The number of threads that a call from this Python thread may use.

    Returns
    -------
    int
        Numba's number, or the limit of `set_num_threads` or `num_threads` if that is less.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_num_threads() >= 1
    True
    """
    return cpu().num_threads()
