"""Lazy results for Dask arrays: what `fastconv`, `fastconv.ndimage` and `fastconv.signal` make of them.

Nothing here needs to be called: the functions take Dask arrays as they take NumPy's, and load this package when one
comes. For workers there is `WarmUp`.
"""

from typing import Any

__all__ = ["WarmUp"]


def __getattr__(name: str) -> Any:
    """`WarmUp`, late: whoever computes without a cluster needs no package for one."""
    if name != "WarmUp":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .plugin import WarmUp

    return WarmUp
