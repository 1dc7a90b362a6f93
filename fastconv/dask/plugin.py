"""What a Dask worker does before its first task."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin
from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from ..warming.warmup import Problems

__all__ = ["WarmUp"]


class WarmUp(WorkerPlugin):
    """A plugin of Dask's workers that has kernels ready before work begins: imported from a pack, or compiled.

    Parameters
    ----------
    problems, dtypes
        As in `fastconv.warmup`; None as `problems` compiles nothing.
    pack : str or path, optional
        A pack that `fastconv.cache.export_kernels` wrote, which each worker can read; it is imported first.

    Notes
    -----
    Workers of one machine share the cache: what one has compiled, the others load. One that cannot prepare its kernels
    does not start.

    Examples
    --------
    >>> from fastconv.dask import WarmUp
    >>> WarmUp(["ndimage.gaussian_filter"]).name
    'fastconv-warmup'

    With a cluster: ``client.register_plugin(WarmUp(["ndimage.gaussian_filter", "conv2d"]))``.
    """

    name = "fastconv-warmup"

    def __init__(
        self, problems: Problems | None = None, *, dtypes: DTypeLike | Iterable[DTypeLike] = ("float32",),
        pack: str | os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        self.problems, self.dtypes, self.pack = problems, dtypes, pack

    def setup(self, worker: Any) -> None:
        """Called by Dask when a worker starts, or when the plugin is registered."""
        from .. import cache
        from ..warming.warmup import warmup

        if self.pack is not None:
            cache.import_kernels(self.pack)
        if self.problems is not None:
            warmup(self.problems, dtypes=self.dtypes)
