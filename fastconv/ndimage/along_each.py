"""Correlation along each of several axes, with a window of its own: `separable_filter`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.values import shown
from ..functional.device import refuse, sent
from ..specs.arrays import as_array
from ..typing import Boundaries, Device, FilterPrecision, Output, PerAxis, like_input
from . import arguments
from .arguments import ArgumentError
from .linear import given_weights, settings, window_of
from .sweeps import Line, separable

__all__ = ["separable_filter"]


@like_input
def separable_filter(
    input: ArrayLike, weights: ArrayLike | Sequence[ArrayLike], *, axes: PerAxis | None = None, output: Output = None,
    mode: Boundaries = "reflect", cval: float = 0.0, origin: PerAxis = 0, channel_axis: int | None = None,
    saturate: bool = False, precision: FilterPrecision | None = None, device: Device | None = None,
) -> NDArray[Any]:  # fmt: skip
    """Correlation along each of several axes with a window of its own, two axes in one sweep over the image.

    Parameters
    ----------
    input, output, cval, saturate, precision, device
        As in `ndimage.correlate1d`.
    weights : sequence of array_like
        A window of shape (K,) for each axis; or one window, for all.
    axes : tuple of ints, optional
        The axes, in the order of the passes, by default all.
    mode, origin : one value, or a sequence of one for each axis
        As in `ndimage.correlate1d`.
    channel_axis : int, optional
        The one axis that there is no pass along.

    Returns
    -------
    ndarray
        What `ndimage.correlate1d` along one axis after the other gives. An integer result is stored as such after each
        pass, as SciPy's filters do, but with `saturate`, which rounds once.

    Raises
    ------
    ValueError, TypeError
        As `ndimage.correlate1d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> image = np.zeros((3, 5)); image[1, 2] = 1
    >>> fastconv.separable_filter(image, ([1, 2, 1], [-1, 0, 1]), axes=(0, 1))
    array([[ 0.,  1.,  0., -1.,  0.],
           [ 0.,  2.,  0., -2.,  0.],
           [ 0.,  1.,  0., -1.,  0.]])
    """
    image = arguments.image(sent(input, device))
    refuse("weights of a filter", weights, "weights")
    along = arguments.axes(axes, image.shape, channel_axis)
    if not (isinstance(weights, Sequence) or (isinstance(weights, np.ndarray) and weights.ndim)) or not len(weights):
        raise TypeError(f"weights must be a window, or a sequence of one for each axis, got {shown(weights)}")
    each = [weights] * len(along) if np.ndim(as_array("weights", weights[0])) == 0 else list(weights)
    if len(each) != len(along):
        raise ArgumentError(f"weights must be one window, or {len(along)} for so many axes, got {shown(weights)}")
    windows = [window_of(given_weights(one)) for one in each]
    for one in windows:
        if one.ndim != 1 or not one.size:
            raise ArgumentError(f"weights must be windows of one axis, of an element at least, got {shown(weights)}")
    origins, modes = arguments.per_axis("origin", origin, len(along)), arguments.modes(mode, len(along))
    lines = tuple(
        Line(axis, arguments.before(one.size, shift), boundary, one.tobytes())
        for axis, one, shift, boundary in zip(along, windows, origins, modes, strict=True)
    )
    return separable(image, arguments.result(output, image), lines, settings(cval, saturate, precision))
