"""Register tiles and the panels of weights that go with them: what `conv_direct`, `conv_pointwise` and `conv_winograd`
share.

A panel is the output channels of one tile. Its weights lie in the order that the tile reads them in, (taps, panel), so
that they stream through the first-level cache.

Source: Goto and van de Geijn, Anatomy of high-performance matrix multiplication, ACM TOMS 34(3), 2008.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system import micro
from ..system.kernels import jit, kernel
from ..system.memory import is_for_one_call, own_panels, weights_array
from ..tiles import register_tile, simd
from .patch import zeros


class Tiles(NamedTuple):
    """The shape of a tile."""

    x_in_lanes: bool
    """Whether a vector holds pixels and a tile's rows are output channels, or the other way round."""
    rows: int
    vectors: int
    panel: int
    """Output channels of a tile."""
    pixels: int
    """Pixels of a tile, along a row of output."""
    rest: int = 0
    """Pixels of the last tile of a row, if there is another tile for what is left over."""


#: Below this many operations a tile of the exact width is not worth compiling: one of three is taken, with idle rows.
WORTH_COMPILING = 1e7
#: Times of a tile in units of a multiply-add of vectors: to end the loop and write a vector of sums, transposed or as
#: it is; and in each step to read a vector of weights, or of pixels. (512 to 2048 channels and back at 7x7 on an AMD
#: EPYC 9004: tiles of 10 pixels take 3% less time than tiles of 13, of which 3 are idle, and 1% less than tiles of 7.)
WRITE, WRITE_WHOLE, READ, READ_PIXELS = 9.0, 4.5, 0.5, 1.0
#: Planes whole pages apart have all their lines of one place in one set of the first-level cache. The least time of a
#: tile that writes to more of them than a set has ways, for each (3 to 64 channels by 3x3: 64x64 pixels take 2.2 times
#: as long as 65x64, an AMD EPYC with Zen 5).
PAGE, WAYS, EVICTED = 4096, 8, 68.0


def tiles(spec: ConvSpec, width: int, *, pixels_in_lanes: bool = True) -> Tiles:
    """The tiles that take the least time for rows of `width`; with pixels in lanes only if that may be."""
    lanes, channels = simd.lanes(spec.acc_dtype), spec.c_out // spec.groups
    if channels < lanes:
        return pixel_tiles(spec, width) if pixels_in_lanes else channel_tiles(spec, width)
    ways = [channel_tiles(spec, width)] + [pixel_tiles(spec, width)] * pixels_in_lanes
    return min(ways, key=lambda way: row_time(spec, way, width))


def row_time(spec: ConvSpec, tiles: Tiles, width: int) -> float:
    """Time of a row of `width` pixels, in units of a multiply-add of vectors."""
    lanes, channels = simd.lanes(spec.acc_dtype), spec.c_out // spec.groups
    if tiles.x_in_lanes:
        each = tiles.vectors * ((tiles.rows + READ_PIXELS) * spec.taps + tiles.rows * WRITE_WHOLE)
    else:
        each = tiles.vectors * ((tiles.rows + READ) * spec.taps + lanes * WRITE)
    return -(-channels // tiles.panel) * -(-width // tiles.pixels) * max(each, _eviction_time(spec, tiles))


def _eviction_time(spec: ConvSpec, tiles: Tiles) -> float:
    """Least time of a tile whose writes evict each other, in units of a multiply-add of vectors; 0 if none do."""
    planes = min(tiles.panel, spec.c_out // spec.groups)
    apart = spec.oh * spec.ow * spec.out_dtype.itemsize
    return planes * EVICTED if planes > WAYS and apart % PAGE == 0 else 0.0


def channel_tiles(spec: ConvSpec, width: int) -> Tiles:
    """Tiles with output channels in lanes, of as many pixels as take the least time for a row of `width`."""
    most, lanes = register_tile.tile_shape()[0], simd.lanes(spec.acc_dtype)
    vectors = 1 if spec.c_out // spec.groups <= lanes else register_tile.tile_shape()[1]
    low = most // 2
    heights = (low, most * 3 // 4, most) if spec.flops < WORTH_COMPILING else range(low, most + 1)
    ways = [Tiles(False, pixels, vectors, vectors * lanes, pixels) for pixels in reversed(heights)]
    return min(ways, key=lambda way: row_time(spec, way, width))


def pixel_tiles(spec: ConvSpec, width: int) -> Tiles:
    """Tiles with pixels in lanes: up to 4 channels, or 8, by the number of vectors that leaves least of a row over; by
    one vector for short rows."""
    lanes, channels, registers = simd.lanes(spec.acc_dtype), spec.c_out // spec.groups, simd.registers()
    rows = 8 if channels > 4 and registers > 16 else 4 if spec.flops < WORTH_COMPILING else min(channels, 4)
    most = min(MOST_VECTORS, (registers - 1 - min(rows, 3)) // rows)
    low = most if spec.flops < WORTH_COMPILING else -(-most * 2 // 3)
    vectors = min(range(most, low - 1, -1), key=lambda vectors: -(-width // (vectors * lanes)) * (vectors + 1))
    return Tiles(True, rows, 1 if width <= lanes else vectors, rows, lanes if width <= lanes else vectors * lanes)


#: Vectors of pixels in a tile of one or two channels, where registers would hold more.
MOST_VECTORS = 8


def tile_address(spec: ConvSpec, tiles: Tiles, *, ahead: bool = False, step: int = 1, lines: int = 1) -> int:
    """The address of the register tile of this shape; of several lines it has the pixels of so many rows of output."""
    rows = tiles.rows if lines == 1 else lines * spec.ow
    kind = rows, tiles.vectors, tiles.x_in_lanes, ahead, step, lines
    return register_tile.tile_address(*kind, spec.x_dtype, spec.acc_dtype)


def pack(
    spec: ConvSpec, tiles: Tiles, weight: np.ndarray, blocks: int, part: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (c_out, c_in / groups, kh, kw) in two forms: panels (groups, panels, taps, panel), and as they came.

    For a plan they are put into panels here. In a plain call whose `blocks` are one, a single task uses a panel: there
    the kernel packs a panel when it comes to it, or a `part` of its taps, while it is in the cache, into its thread's
    first of `own_panels`. The form that is not used is empty.
    """
    channels = spec.c_out // spec.groups
    if blocks == 1 and is_for_one_call():
        return own_panels((part or spec.taps, tiles.panel), spec.acc_dtype), weight.reshape(-1)
    packed = weights_array((spec.groups, -(-channels // tiles.panel), spec.taps, tiles.panel), spec.acc_dtype)
    order = _panels_pack.sized(packed.size * PACK_OPERATIONS)
    order(pack_address(spec.acc_dtype), weight.reshape(-1), packed, channels)
    return packed, weight.reshape(-1)[:0]


#: Cost of packing one weight, in the operations that `Kernel.sized` counts.
PACK_OPERATIONS = 16


#: Time of a multiply-add of integers, in units of one of floats: it is two instructions (measured on an AMD EPYC 9004).
INTEGERS = 1.45


def rate(spec: ConvSpec, machine: Machine) -> float:
    """Operations per second of a tile in the dtype that is computed in."""
    floats = machine.tile_flops * simd.lanes(spec.acc_dtype) / 16
    return floats if spec.acc_dtype.kind == "f" else floats / INTEGERS


#: Bytes of a panel of weights beyond which those of a tile come from the second-level cache, and from the last.
NEAR_WEIGHTS, FAR_WEIGHTS = 16 << 10, 128 << 10


def slowed(spec: ConvSpec, tiles: Tiles, by: tuple[float, float, float]) -> float:
    """How many times as long tiles take that load all weights for a few pixels: `by` level of cache they come from.

    Processors of 32 vector registers have tiles of 14 pixels, which hide that.
    """
    size = spec.taps * tiles.panel * spec.acc_dtype.itemsize
    return 1.0 if simd.registers() > 16 else by[(size > NEAR_WEIGHTS) + (size > FAR_WEIGHTS)]


#: Time to write a vector that is not transposed, relative to one that is.
UNTRANSPOSED = 0.5


def write_cost(spec: ConvSpec, tiles: Tiles, computed: int, products: float, machine: Machine) -> float:
    """Estimated seconds to write so many outputs, whole tiles counted, beside so many seconds of products, which hide
    that writes wait."""
    lanes = simd.lanes(spec.acc_dtype)
    written = computed / lanes * machine.tile_row * (UNTRANSPOSED if tiles.x_in_lanes else 1)
    evicting = computed / tiles.panel / tiles.pixels * _eviction_time(spec, tiles) * 2 * lanes / rate(spec, machine)
    return max(written, evicting - products)


def prepare_cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds of `pack`."""
    size = spec.c_out * spec.taps * spec.acc_dtype.itemsize
    return machine.call + size / machine.pack_bandwidth / machine.threads


def panel_biases(spec: ConvSpec, panel: int, bias: np.ndarray) -> np.ndarray:
    """Biases in whole panels, with zeros for the channels that the last panel lacks."""
    channels = spec.c_out // spec.groups
    if channels % panel == 0:
        return bias.reshape(spec.groups, channels)
    padded = np.zeros((spec.groups, -(-channels // panel) * panel), bias.dtype)
    padded[:, :channels] = bias.reshape(spec.groups, channels)
    return padded


@kernel
def _panels_pack(pack, weight, packed, channels):
    groups, panels, taps, panel = packed.shape
    for job in prange(groups * panels):
        group, p = job // panels, job % panels
        first, rows = group * channels + p * panel, min(panel, channels - p * panel)
        micro.call(pack, weight, first * taps, taps, rows, packed, job * taps * panel, taps, panel)


@lru_cache(maxsize=16)
def pack_address(dtype: np.dtype) -> int:
    """Address of the micro-kernel `pack_panel`, for kernels that call it."""
    row, place = micro.array(dtype), micro.PLACE
    return micro.address(pack_panel, (simd.lanes(dtype),), (row, *[place] * 3, row, *[place] * 3))


def pack_panel(lanes: int) -> Any:
    """A micro-kernel that packs weights of `rows` channels: ``pack(weight, at, pitch, rows, packed, to, taps,
    panel)`` writes `taps` of each, which begin at `at` and a `pitch` apart, as (taps, panel) from `to` on; zeros fill
    the panel."""

    @jit(key=(lanes,))
    def pack(weight, at, pitch, rows, packed, to, taps, panel):
        # Rows powers of two apart compete for places in the cache: where all begin alike, no line is read twice.
        first = -simd.beyond_line(weight, at) if pitch % lanes == 0 else 0
        for k in range(0, rows, lanes):
            count = min(lanes, rows - k)
            for begin in range(first, taps, lanes):
                t = max(0, begin)
                source = at + k * pitch + t
                width = min(begin + lanes, taps) - t
                simd.transpose(weight, source, pitch, count, width, packed, to + t * panel + k, panel)
        for t in range(taps if rows < panel else 0):
            zeros(packed, to + t * panel + rows, panel - rows, lanes)

    return pack
