"""Elements that are left out of a window: NaN, and those that a mask names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..base.values import shown
from ..functional.device import refuse
from ..specs.arguments import integer
from ..specs.arrays import as_array
from . import arguments

_POLICIES = ("propagate", "omit", "raise")


class Given(NamedTuple):
    """An image, and what is left out of it."""

    image: np.ndarray
    """With NaN for what is left out."""
    periods: int
    """0 if nothing is; else the least elements of a window."""
    output: Any
    """The caller's `output`; float64 for an image of integers that is left out of, unless the caller says otherwise."""
    propagating: np.ndarray | None = None
    """Where NaN lie that are to spread, beside elements that are left out."""

    def spread(self, result: np.ndarray, windows: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Put NaN where windows see one that spreads; `windows` counts elements of an image of ones and zeros."""
        if self.propagating is not None:
            result[windows(self.propagating.astype(np.float32)) > 0.5] = np.nan
        return result


def given(
    value: Any, output: Any, nan_policy: Any = "propagate", mask: Any = None, min_periods: Any = 1, *,
    complex_too: bool = True,
) -> Given:  # fmt: skip
    """Check the arguments about what is missing, and mark it."""
    if not isinstance(nan_policy, str) or nan_policy not in _POLICIES:
        raise ValueError(f"nan_policy must be one of {', '.join(map(repr, _POLICIES))}, got {shown(nan_policy)}")
    periods = integer("min_periods", min_periods, 1)
    if mask is None and nan_policy == "propagate" and periods == 1 and not isinstance(value, np.ma.MaskedArray):
        return Given(arguments.image(value, complex_too=complex_too), 0, output)  # nearly always
    refuse("leaving elements out of windows (nan_policy, mask, min_periods)", value)
    masked = np.ma.getmaskarray(value) if isinstance(value, np.ma.MaskedArray) else None
    image = arguments.image(np.ma.getdata(value) if masked is not None else value, complex_too=complex_too)
    if mask is not None:
        more = as_array("mask", mask)
        if more.dtype != np.bool_:
            raise TypeError(f"mask must be an array of bools, True for what is left out, got {shown(mask)}")
        if more.shape != image.shape:
            raise ValueError(f"mask must have the shape of input, {image.shape}, got {more.shape}")
        masked = more if masked is None else masked | more
    is_float = image.dtype.kind == "f"
    missing = np.isnan(image) if image.dtype.kind in "fc" else None
    if nan_policy == "raise" and missing is not None and (missing if masked is None else missing & ~masked).any():
        raise ValueError('The input contains nan values: nan_policy="raise" allows none in input')
    if masked is None and not (nan_policy == "omit" or periods > 1):
        return Given(image, 0, output)
    if image.dtype.kind == "c":
        raise TypeError(f"nan_policy, mask and min_periods are for real numbers, got input of dtype {image.dtype}")
    propagating = None
    if nan_policy != "omit" and missing is not None:
        spreading = missing if masked is None else missing & ~masked
        propagating = spreading if spreading.any() else None
    if masked is not None and masked.any():
        image = image.astype(image.dtype if is_float else np.float64)
        image[masked] = np.nan
    elif not is_float and periods > 1:
        image = image.astype(np.float64)
    if not is_float and output is None:
        output = np.float64
    return Given(image, periods, output, propagating)
