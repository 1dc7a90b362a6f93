"""Planes of volumes gathered for convolutions of images, and spread to where their results belong."""

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
                patch.copy_row(x, at, 1, gathered, to, pixels, lanes)
            else:
                patch.zeros(gathered, to, pixels, lanes)


@kernel
def _shuffle_spread(made, start, out, lanes):
    planes, channels, pixels = made.shape
    depth = out.shape[2]
    for job in prange(planes * channels):
        image, k = (start + job // channels) // depth, (start + job // channels) % depth
        to = ((image * channels + job % channels) * depth + k) * pixels
        patch.copy_row(made, job * pixels, 1, out, to, pixels, lanes)


def gather(x: np.ndarray, gathered: np.ndarray, start: int, depth: Depth) -> None:
    """The module's third equation; `x` is (n, c, d, pixels), `gathered` (planes, c, kd, pixels)."""
    loops = _shuffle_gather.sized(COPY_OPERATIONS * gathered.size)
    loops(x, gathered, start, depth.od, depth.stride, depth.padding[0], depth.dilation, simd.lanes(x.dtype))


def spread(made: np.ndarray, start: int, out: np.ndarray) -> None:
    """The module's fourth equation; `made` is (planes, c, pixels), `out` (n, c, od, pixels)."""
    _shuffle_spread.sized(COPY_OPERATIONS * made.size)(made, start, out, simd.lanes(made.dtype))
