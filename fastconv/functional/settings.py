"""Which algorithms there are, and how many threads they may use."""

from __future__ import annotations

from ..base.values import shown
from ..specs.arguments import integer
from .device import backend, cpu

__all__ = ["algorithms", "get_num_threads", "set_num_threads"]


def algorithms(op: str = "conv2d", device: str = "cpu") -> tuple[str, ...]:
    """Names of the algorithms there are for an operation.

    Parameters
    ----------
    op : str
        The operation: "conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "lp_pool2d", likewise with 1d and 3d;
        gradients are "conv2d_weight", "conv2d_input", "max_pool2d_input" and "avg_pool2d_input"; and
        "adaptive_max_pool2d", "adaptive_avg_pool2d", "max_unpool2d", "unfold2d", "fold2d", of which there is one each.
    device : {"cpu", "cuda"}
        Where it runs.

    Returns
    -------
    tuple of str
        In table order: the most specialised first, the readable definition last.

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
    if not isinstance(device, str) or device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {shown(device)}")
    return backend(device, None).planner.algorithms(op)


def set_num_threads(threads: int | None) -> None:
    """Limit how many threads this package uses in this process.

    Parameters
    ----------
    threads : int or None
        At most so many; None for as many as Numba uses (``NUMBA_NUM_THREADS``, all cores by default).

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a positive integer.

    Notes
    -----
    Results do not depend on it. Numba's own ``numba.set_num_threads``, which holds for one Python thread, counts too:
    the smaller number is used. The matrix products of ``im2col`` run in NumPy's BLAS, which has its own threads.

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


def get_num_threads() -> int:
    """How many threads a call from this Python thread may use.

    Returns
    -------
    int
        Numba's number, or less by `set_num_threads`.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_num_threads() >= 1
    True
    """
    return cpu().num_threads()
