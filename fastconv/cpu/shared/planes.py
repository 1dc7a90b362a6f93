"""Moves planes so that a convolution of images computes one of volumes: gathers its input, spreads its results.

::

    gathered[p, c, e] = x[n, c, k * stride - front + e * dilation], zeros outside         (n, k) = divmod(start + p, od)
    out[n, o, k] = made[p, o]
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ...specs.axes import Depth
from ..shared import patch
from ..system.kernels import kernel
from ..tiles import simd
from .interleave import COPY_OPERATIONS


@kernel
def _shuffle_gather(x, gathered, start, out_depth, stride, front, dilation, lanes):
    channels, d, pixels = x.shape[1:]
    planes, _, kd, _ = gathered.shape
    for job in prange(planes * channels):
        image, k = (start + job // channels) // out_depth, (start + job // channels) % out_depth
        for e in range(kd):
            z, to = k * stride - front + e * dilation, (job * kd + e) * pixels
            if 0 <= z < d:
                at = ((image * channels + job % channels) * d + z) * pixels
                patch.copy_row(x, at, 1, gathered, to, pixels, lanes, False)
            else:
                patch.zeros(gathered, to, pixels, lanes)


@kernel
def _shuffle_spread(made, start, out, lanes):
    planes, channels, pixels = made.shape
    depth = out.shape[2]
    for job in prange(planes * channels):
        image, k = (start + job // channels) // depth, (start + job // channels) % depth
        to = ((image * channels + job % channels) * depth + k) * pixels
        patch.copy_row(made, job * pixels, 1, out, to, pixels, lanes, False)


def gather(x: np.ndarray, gathered: np.ndarray, start: int, depth: Depth) -> None:
    """Gather planes by the module's first equation; `x` is (n, c, d, pixels), `gathered` (planes, c, kd, pixels)."""
    loops = _shuffle_gather.sized(COPY_OPERATIONS * gathered.size)
    loops(x, gathered, start, depth.od, depth.stride, depth.padding[0], depth.dilation, simd.lanes(x.dtype))


def spread(made: np.ndarray, start: int, out: np.ndarray) -> None:
    """Spread planes by the module's second equation; `made` is (planes, c, pixels), `out` (n, c, od, pixels)."""
    _shuffle_spread.sized(COPY_OPERATIONS * made.size)(made, start, out, simd.lanes(made.dtype))
