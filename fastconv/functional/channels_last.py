"""Poolings of images whose channels are last: such images are volumes, whose windows are one channel deep.

The axes (H, W, C) are those of a volume, so that no element is moved: kernels pool along rows and columns, and the
channels are their vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.libraries import foreign
from ..base.values import shown
from ..specs.arguments import frozen_padding, per_axis
from ..specs.arrays import array

#: Arguments of a pooling: x, kernel_size, stride, padding, dilation, out.
Arguments = tuple[Any, Any, Any, Any, Any, Any]

#: The axis of channels that a volume of channels has in front of its own.
_ONE = (..., None, *[slice(None)] * 3)
_FIRST = (..., 0, *[slice(None)] * 3)


def as_volumes(x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, out: Any) -> Arguments:
    """The arguments of the pooling of volumes that pools images (N, H, W, C) or (H, W, C)."""
    if (given := foreign(x)) is not None:
        x = given.array
    x = x if hasattr(x, "shape") else array("x", x)
    if len(x.shape) not in (3, 4):
        raise ValueError(f"x must have shape (N, H, W, C) or (H, W, C), got {shown(tuple(x.shape))}")
    sides = frozen_padding(padding) if isinstance(padding, str) else _sides(padding)
    if isinstance(out, np.ndarray) and out.ndim == len(x.shape):
        out = out[_ONE]
    return (
        x[_ONE],
        (*per_axis("kernel_size", kernel_size, 1, 2), 1),
        None if stride is None else (*per_axis("stride", stride, 1, 2), 1),
        sides,
        (*per_axis("dilation", dilation, 1, 2), 1),
        out,
    )


def _sides(padding: Any) -> Any:
    """Padding by number or by side with none along the channels."""
    if isinstance(padding, list | tuple | np.ndarray) and any(np.ndim(sides) for sides in padding):
        return (*padding, (0, 0)) if len(padding) == 2 else padding
    return (*per_axis("padding", padding, 0, 2), 0)


def as_images(made: Any, out: Any) -> Any:
    """The pooled images of pooled volumes: `out` if it was given."""
    return made[_FIRST] if out is None else out


def pixels(places: Any, channels: int) -> Any:
    """Places in volumes as places in the planes of images."""
    return places[_FIRST] // channels
