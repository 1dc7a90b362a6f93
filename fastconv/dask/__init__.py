"""Lazy results for Dask arrays: what `fastconv`, `fastconv.ndimage` and `fastconv.signal` make of them.

Nothing here needs to be called: the functions take Dask arrays as they take NumPy's, and load this package when one
comes. For workers there is `WarmUp`, and for several filters with one overlap `fuse`.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["WarmUp", "fuse"]


if TYPE_CHECKING:  # a type checker that saw `__getattr__` would believe every name to be there
    from ..ndimage.others import fuse
    from .plugin import WarmUp
else:

    def __getattr__(name: str) -> Any:
        """What is here, late: whoever computes without a cluster needs no package for one."""
        if name == "WarmUp":
            from .plugin import WarmUp

            return WarmUp
        if name == "fuse":
            from ..ndimage.others import fuse

            return fuse
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
