"""Unpooling puts maxima back to their places in planes of zeros.

::

    out[p, indices[p, k]] = x[p, k], zeros elsewhere

Loop order: one task per plane, which no other task writes to.

Source: Zeiler and Fergus, Visualizing and understanding convolutional networks, arXiv:1311.2901.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ...specs.unpool import UnpoolSpec
from ..machine import Machine
from ..system.kernels import MOVED, kernel

plain = True


def supports(spec: UnpoolSpec) -> str | None:
    return None


def cost(spec: UnpoolSpec, machine: Machine) -> float:
    return machine.call + math.prod(spec.output_shape) * spec.dtype.itemsize / machine.stream


def scratch(spec: UnpoolSpec) -> int:
    return 0


def run(spec: UnpoolSpec, x: np.ndarray, indices: np.ndarray, out: np.ndarray) -> None:
    bits = f"u{out.itemsize}"  # elements are only moved
    _unpool_scatter.sized(MOVED * out.size)(x.view(bits), indices, out.view(bits))


@kernel
def _unpool_scatter(x, indices, out):
    """`x` and `indices` are (planes, outputs), `out` is (planes, h * w)."""
    planes, count = x.shape
    for plane in prange(planes):
        out[plane] = 0
        for k in range(count):
            out[plane, indices[plane, k]] = x[plane, k]
