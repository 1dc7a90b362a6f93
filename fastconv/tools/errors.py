"""How far a result is from the right one."""

from __future__ import annotations

from typing import Any

import numpy as np


def error(label: str, result: Any, reference: np.ndarray) -> float:
    """The largest difference from the reference, float64 or int64, as a fraction of its largest value.

    Where the reference has NaN the result must have some, too: else the error is NaN, as where it has others.
    ValueError if the shapes differ.
    """
    result = np.asarray(result)
    if result.shape != reference.shape:
        raise ValueError(f"{label} gives shape {result.shape}, but the result has shape {reference.shape}")
    known = ~np.isnan(reference)
    if not np.isnan(result[~known]).all():
        return np.nan
    difference = np.abs(result.astype(reference.dtype) - reference)[known].max(initial=0)
    return float(difference / (largest(reference) or 1))


def largest(values: np.ndarray) -> float:
    """The largest absolute value of those that are not NaN; 0 if there are none."""
    return float(np.abs(values[~np.isnan(values)]).max(initial=0))


def half_of_the_digits(dtype: np.dtype) -> float:
    """The error of a float that has lost half of its digits."""
    return float(np.finfo(dtype).eps) ** 0.5
