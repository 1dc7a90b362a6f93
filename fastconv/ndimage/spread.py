"""Variances and standard deviations of windows, which SciPy lacks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..functional.device import filters, refuse
from ..specs.arguments import integer
from ..specs.filters import DOUBLE, Axis, Pass, Problem
from ..typing import Boundaries, NanPolicy, Output, PerAxis, like_input
from . import arguments, reach
from .linear import settings
from .missing import given
from .sweeps import Layout, Settings, layout

__all__ = ["std_filter", "variance_filter"]


@like_input
def variance_filter(
    input: ArrayLike, size: PerAxis = 3, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None, ddof: int = 0,
    nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None, min_periods: int = 1,
) -> NDArray[Any]:  # fmt: skip
    """Variances of windows: the mean squared difference from a window's mean.

    Parameters
    ----------
    input, output, mode, cval, nan_policy, mask, min_periods
        As in `correlate1d`.
    size, origin, axes, channel_axis
        As in `uniform_filter`; a window has at most 2**22 elements.
    ddof : int
        Squares are divided by so many fewer than there are elements; windows without more than that are NaN.

    Returns
    -------
    ndarray
        As large as `input`; float64, or float32 for a float32 `input`, unless `output` says otherwise.

    Raises
    ------
    ValueError, TypeError
        As `correlate1d`.

    Notes
    -----
    Computed in float64. Parts of a window are made one by their means (Chan, Golub and LeVeque, 1979): no digits
    cancel, however large the mean is beside the differences, and the result is never negative. A window's cost grows
    with the logarithm of its size.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.variance_filter([1e9, 1e9 + 3, 1e9, 1e9, 1e9 + 6], size=3)
    array([2., 2., 2., 8., 8.])
    """
    return _spread(input, size, output, mode, cval, origin, axes, channel_axis, ddof,
                   (nan_policy, mask, min_periods), b"")  # fmt: skip


@like_input
def std_filter(
    input: ArrayLike, size: PerAxis = 3, output: Output = None, mode: Boundaries = "reflect", cval: float = 0.0,
    origin: PerAxis = 0, *, axes: PerAxis | None = None, channel_axis: int | None = None, ddof: int = 0,
    nan_policy: NanPolicy = "propagate", mask: ArrayLike | None = None, min_periods: int = 1,
) -> NDArray[Any]:  # fmt: skip
    """Standard deviations of windows: the square roots of what `variance_filter` gives.

    Parameters
    ----------
    input, size, output, mode, cval, origin, axes, channel_axis, ddof, nan_policy, mask, min_periods
        As in `variance_filter`.

    Returns
    -------
    ndarray
        As from `variance_filter`.

    Raises
    ------
    ValueError, TypeError
        As `correlate1d`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.std_filter([0, 3, 0, 0, 3, 3], size=2, mode="nearest")
    array([0. , 1.5, 1.5, 0. , 1.5, 0. ])
    """
    return _spread(input, size, output, mode, cval, origin, axes, channel_axis, ddof,
                   (nan_policy, mask, min_periods), b"root")  # fmt: skip


def _spread(
    input: Any, size: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any, channel_axis: Any, ddof: Any,
    missing: tuple[Any, ...], what: bytes,
) -> np.ndarray:  # fmt: skip
    refuse("std_filter" if what else "variance_filter", input)
    this = given(input, output, *missing, complex_too=False)
    image, output = this.image, this.output
    if output is None and image.dtype.kind != "f":
        output = np.float64
    result, fewer = arguments.result(output, image), integer("ddof", ddof, 0)
    along = arguments.axes(axes, image.shape, channel_axis)
    sizes = arguments.sizes(size, len(along), whole=True)
    origins, modes = arguments.per_axis("origin", origin, len(along)), arguments.modes(mode, len(along))
    windows = [
        Axis(axis, taps, arguments.before(taps, shift), boundary)
        for axis, taps, shift, boundary in zip(along, sizes, origins, modes, strict=True)
    ]
    told = settings(cval, False, None, this.periods)
    if reach.listening:
        reach.windows(windows)
    if image.size:
        # Axes in the image's order, so that those before rows and columns come first.
        moved = tuple(sorted(window for window in windows if window.taps > 1))
        target = result.target
        sweep = _sweep(layout(image, target), moved, fewer, what, told)
        if sweep is None:
            image, target = np.ascontiguousarray(image), np.empty(image.shape, result.target.dtype)
            _sweep(layout(image, target), moved, fewer, what, told).run(image, target)
            result.target[...] = target
        else:
            sweep.run(image, target)
    found = result.deliver()
    if this.propagating is None:
        return found
    told = Settings()

    def counts(ones: np.ndarray) -> np.ndarray:
        sums = np.empty(ones.shape, np.float32)
        ones = np.ascontiguousarray(ones)
        _sweep(layout(ones, sums), tuple(sorted(windows)), 0, b"", told).run(ones, sums)
        return (sums > 0) | (ones > 0)  # windows of different elements, or of ones only

    return this.spread(found, counts)


@lru_cache(maxsize=1024)
def _sweep(lie: Layout, axes: tuple[Axis, ...], fewer: int, what: bytes, told: Settings) -> Any:
    one = Pass(tuple(axis.axis for axis in axes), tuple(axis.taps for axis in axes), what, "variance", float(fewer))
    problem = Problem(
        lie.shape, lie.strides, lie.out_strides, lie.dtype, lie.out_dtype, DOUBLE, axes, (one,),
        told.cval, told.rule, "", True, told.periods,
    )  # fmt: skip
    return filters().prepared(problem) if filters().fits(problem) else None
