"""`scipy.ndimage`, its filters computed by this package's kernels: ``import fastconv.ndimage as ndi`` is the whole
change.

Arguments, defaults, result dtypes and rounding are SciPy's. Names that are not filters are SciPy's own functions.
"""

from __future__ import annotations

from typing import Any

from .order import (
    maximum_filter,
    maximum_filter1d,
    median_filter,
    minimum_filter,
    minimum_filter1d,
    percentile_filter,
    rank_filter,
)

__all__ = [
    "maximum_filter",
    "maximum_filter1d",
    "median_filter",
    "minimum_filter",
    "minimum_filter1d",
    "percentile_filter",
    "rank_filter",
]


def __getattr__(name: str) -> Any:
    """SciPy's own, for every name that is not here."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import scipy.ndimage  # late, because it takes longer to load than all of this package

    return getattr(scipy.ndimage, name)


def __dir__() -> list[str]:
    import scipy.ndimage

    return sorted({*globals(), *dir(scipy.ndimage)})
