"""Register tiles and the panels of weights that go with them: what `conv_direct`, `conv_pointwise` and `conv_winograd`
share.

A panel is the output channels of one tile. What a tile reads of it lies side by side, (taps, panel), so that weights
stream through the first-level cache.

Source: Goto and van de Geijn, Anatomy of high-performance matrix multiplication, ACM TOMS 34(3), 2008.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from ..spec import ConvSpec
from . import simd
from .machine import Machine
from .runtime import kernel, weights_array
from .tile import tile_shape


class Tiles(NamedTuple):
    """The shape of a tile."""

    x_in_lanes: bool
    """Whether a vector holds pixels of a row (and a tile's rows are output channels), or output channels (pixels)."""
    rows: int
    vectors: int
    panel: int
    """Output channels of a tile."""
    pixels: int
    """Pixels of a tile, along a row of output."""


#: Below this many operations a tile of the exact width is not worth compiling: one of two widths is taken, with idle
#: rows.
SMALL = 2e7


def channel_tiles(spec: ConvSpec, width: int) -> Tiles:
    """Output channels in lanes, and a row of `width` pixels in the fewest tiles, all about as wide."""
    most = tile_shape()[0]
    pixels = -(-width // -(-width // most))
    if spec.flops < SMALL or pixels < most // 2:
        pixels = most // 2 if width <= most // 2 else most
    vectors = 1 if spec.c_out // spec.groups <= simd.lanes(spec.acc_dtype) else tile_shape()[1]
    return Tiles(False, pixels, vectors, vectors * simd.lanes(spec.acc_dtype), pixels)


def pixel_tiles(spec: ConvSpec, width: int) -> Tiles:
    """Pixels in lanes: 4 or 8 channels by as many vectors of a row as registers allow, or by one for short rows."""
    lanes, channels, sums = simd.lanes(spec.acc_dtype), spec.c_out // spec.groups, simd.registers() * 3 // 4
    rows = 4 if channels <= 4 or sums < 16 else 8
    vectors = 1 if width <= lanes else sums // rows
    return Tiles(True, rows, vectors, rows, vectors * lanes)


def pack(spec: ConvSpec, tiles: Tiles, weight: np.ndarray) -> np.ndarray:
    """Weights (c_out, c_in / groups, kh, kw) as (groups, panels, taps, panel); zeros fill the last panel."""
    channels = spec.c_out // spec.groups
    panels = -(-channels // tiles.panel)
    packed = weights_array((spec.groups, panels, spec.taps, tiles.panel), spec.acc_dtype)
    packed[:, -1, :, channels - (panels - 1) * tiles.panel :] = 0
    order = _panels_pack.sized(packed.size * PACK_OPERATIONS)
    order(weight.reshape(spec.groups, -1, spec.taps), packed, simd.lanes(spec.acc_dtype))
    return packed


#: What packing one weight costs, in the operations that `Kernel.sized` counts.
PACK_OPERATIONS = 16


def prepare_cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds of `pack`."""
    size = spec.c_out * spec.taps * spec.acc_dtype.itemsize
    return machine.call + size / machine.pack_bandwidth / machine.threads


def panel_biases(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The biases of whole panels, zeros in those that nothing fills; `weight` is (groups, panels, ..., panel)."""
    groups, panels, *_, panel = weight.shape
    padded = np.zeros((groups, panels * panel), bias.dtype)
    padded[:, : bias.size // groups] = bias.reshape(groups, -1)
    return padded


@kernel
def _panels_pack(weight, packed, lanes):
    groups, panels, taps, panel = packed.shape
    channels = weight.shape[1]
    for job in prange(groups * panels):
        group, p = job // panels, job % panels
        for k in range(p * panel, min((p + 1) * panel, channels), lanes):
            rows = min(lanes, min((p + 1) * panel, channels) - k)
            for t in range(0, taps, lanes):
                at, to = (group * channels + k) * taps + t, (job * taps + t) * panel + k - p * panel
                simd.transpose(weight, at, taps, rows, min(lanes, taps - t), packed, to, panel)
