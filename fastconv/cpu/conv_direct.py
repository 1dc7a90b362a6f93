"""Blocked direct convolution on the register tile: no unrolled matrix; any kernel, stride, dilation and groups.

::

    out[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[n, first + c, row, col]     (see `spec`)

What it changes over `im2col`: the columns are never built. The loop nest of `blocked` copies each input element once
into a small patch and finds the taps there by a table of offsets; the sum runs in the registers of `simd.tile`.

Tiles: where a group has enough output channels these lie in the vectors' lanes, and a tile is up to 14 pixels of a row
by 2 vectors of channels: a broadcast may read any address, so every stride and every small image is as fast, and widths
of 7, 14, 28, 56, ... leave no remainder. Where a group has few output channels, pixels lie in the lanes, and a tile is
all the group's channels by a few vectors of a row.

It wins for kernels that `winograd` cannot do, and for small channel counts. Measured: see README.

Source: as `blocked`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..spec import ConvSpec
from . import blocked, simd
from .machine import Machine
from .runtime import num_threads


def supports(spec: ConvSpec) -> str | None:
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return blocked.cost(spec, _blocking(spec, machine.threads), machine)


def scratch(spec: ConvSpec) -> int:
    return blocked.scratch(spec, _blocking(spec, num_threads()))


@lru_cache(maxsize=4096)
def _blocking(spec: ConvSpec, threads: int) -> blocked.Blocking:
    lanes, channels = simd.lanes(spec.acc_dtype), spec.c_out // spec.groups
    in_lanes = channels < lanes and spec.ow >= lanes // 2
    tiles = blocked.pixel_tiles(spec) if in_lanes else blocked.channel_tiles(spec)
    return blocked.blocking(spec, tiles, threads)


def prepare(spec: ConvSpec, weight: np.ndarray) -> blocked.Packed:
    return blocked.pack(spec, _blocking(spec, num_threads()), weight)


def run(spec: ConvSpec, x: np.ndarray, packed: blocked.Packed, bias: np.ndarray, out: np.ndarray) -> None:
    blocked.run(packed, x, bias, out)
