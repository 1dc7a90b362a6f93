"""Maxima put back to their places in planes of zeros."""

from __future__ import annotations

from numba import prange

from ..system.kernels import kernel


@kernel
def unpool(x, indices, out):
    """out[p, indices[p, k]] = x[p, k], zeros elsewhere; `x`, `indices` are (planes, outputs), `out` (planes, h * w)."""
    planes, count = x.shape
    for plane in prange(planes):
        out[plane] = 0
        for k in range(count):
            out[plane, indices[plane, k]] = x[plane, k]
