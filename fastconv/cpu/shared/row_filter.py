"""The loop nest around the row tile, which `conv_image`, `conv_depthwise` and `conv_row` share.

::

    out[o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[c, row(i, a), col(j, b)]

With one output channel at a time there is no second one to share a loaded vector with, so neighbouring rows of the
output share it: a tile is a few rows by a few vectors of pixels (`row_tile`). A band is a tile's rows over the whole
width; a task is a run of bands, through one plane of the output or many. The input is read in place, and nothing is
allocated.

The last tile of a band, and the last band of a plane, is moved back to end where the output ends: it computes some
pixels again and needs no exceptions. With vertical dilation a band has every d-th row, such that its rows share inputs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ...specs.arguments import Pair
from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system.kernels import PARALLEL_OPERATIONS, Launch, kernel
from ..system.threads import MOST_THREADS
from ..tiles import simd
from ..tiles.byte_pairs import pairs, pairs_pay
from ..tiles.row_tile import UNROLLED, Shape, is_shifted, row_tile

#: Rows and half vectors of a tile: few, as each pair is compiled. They suit planes of 7, 14, 28 and 56, and large ones.
ROWS, HALVES = (1, 2, 4, 7, 14), (1, 2, 4, 7, 8)
#: The `HALVES` that make whole vectors, where half a vector would have fewer than four lanes.
EVEN_HALVES = tuple(halves for halves in HALVES if halves % 2 == 0)
#: Below this many operations, in all planes, a tile has one of these heights, a vector's width and masks, and no
#: kernel's columns unrolled: others would save 0.05 us of a call, and take 0.3 s each to compile.
WORTH_COMPILING, FEW_ROWS = 2e4, (1, 4, 7)

#: Times in cycles, of which a vector multiply-add takes one: of a load and of a store at any address (most cross a
#: cache line), to find an input row, and to begin and end a tile (fitted to planes in cache on an AMD EPYC 9004).
UNALIGNED, STORE, ROW, TILE = 1.7, 2.5, 1.5, 20


class Blocking(NamedTuple):
    """The bands and tiles that a plane of the output is cut into."""

    shape: Shape
    dilation: int
    """Input rows from one tap to the next."""
    apart: int
    """Output rows from one row of a tile to the next."""
    bands: int
    across: int
    """Bands of a plane, tiles of a band."""
    cycles: float
    """Estimated cycles for one output plane, on a core that begins a vector multiply-add or an aligned load in each."""


class Plane(NamedTuple):
    """One plane of the output, for which a tile is chosen: batch and output channels are many planes alike."""

    depth: int
    """Input channels that are summed up."""
    h: int
    w: int
    kh: int
    kw: int
    oh: int
    ow: int
    stride: Pair
    dilation: Pair
    top: int
    """Padding above."""
    x_dtype: np.dtype
    acc_dtype: np.dtype
    small: bool = False
    """Whether all planes together are fewer operations than `WORTH_COMPILING`."""


def plane(spec: ConvSpec) -> Plane:
    """A plane of the output."""
    return Plane(
        spec.c_in // spec.groups, spec.h, spec.w, spec.kh, spec.kw, spec.oh, spec.ow, spec.stride, spec.dilation,
        spec.padding[0][0], spec.x_dtype, spec.acc_dtype, spec.flops < WORTH_COMPILING,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def blocking(plane: Plane, *, one_row: bool = False, in_pairs: bool = True, all_rows: bool = False) -> Blocking:
    """The tile that takes least time, all it computes twice or in vain included; pixels of 8 bits may go in pairs.

    With `one_row` it is a tile of one row, which suits any kernel; with `all_rows` none of padding are left out.
    """
    lanes = simd.lanes(plane.acc_dtype)
    if one_row:
        return _best(plane, (1,), HALVES[-1:], False, one_row) or blocking(plane, in_pairs=False)
    paired = in_pairs and plane.kw > 1 and plane.x_dtype.itemsize == 1 and pairs_pay()
    heights, widths = (FEW_ROWS, (2,)) if plane.small else (ROWS, HALVES if lanes >= 8 else EVEN_HALVES)
    best = _best(plane, heights, widths, paired, one_row, all_rows or plane.small)
    assert best is not None  # one row of one vector always fits
    return best


def _best(
    plane: Plane, heights: tuple[int, ...], widths: tuple[int, ...], paired: bool, one_row: bool,
    all_rows: bool = False,
) -> Blocking | None:  # fmt: skip
    """The tile of these heights and widths that takes least time, None if none fits."""
    lanes, most = simd.lanes(plane.acc_dtype), 16 if simd.registers() == 32 else 8
    depth, h, _, kh, kw, oh, ow, (down, stride), (dilation, dilation_w), top, x_dtype, _, small = plane
    if kh == 1:
        dilation = down  # there is no next tap: any distance will do
    common = math.gcd(down, dilation)
    between, beside = down // common, dilation // common
    high = kh <= UNROLLED[-1] and not one_row
    whole = high and kh == kw and kh in UNROLLED and dilation_w == 1 and not small
    whole = whole and stride <= (1 if paired else 2) and kw <= lanes
    columns = 2 if stride == 2 and dilation_w == 1 else 1
    narrow = -(-ow * 2 // lanes)  # half vectors of a row
    unaligned = UNALIGNED if x_dtype.itemsize > 1 else 1  # a quarter of the lines to cross
    together = -(-kw // 2) if paired else kw  # columns that are multiplied at once
    least, best = math.inf, None
    for rows in heights:
        step, apart = (1, 1) if rows == 1 else (between, beside)
        if rows > 1 and (step > min(2, kh) or rows > oh // apart or (not high and (step > 1 or rows > kh))):
            continue  # rows share nothing, or are too few
        bands, reach = apart * -(-oh // (apart * rows)), (rows - 1) * step + kh
        inside = None
        if bands == 1 and rows == oh and high and not all_rows:
            inside = -(-top // dilation), min(-(-(top + h) // dilation), reach)
        seen = len(range(*inside)) if inside else reach if high else rows - 1 + kh
        for halves in widths:
            parts = -(-halves // 2)
            wider = halves > narrow and halves > 2 - lanes // 8 and not (one_row or small)
            if wider or rows * parts > most or (stride == 2 and parts > 2):  # more masks than registers for them
                continue
            if stride > 2:
                loads = kw * parts * lanes
            elif is_shifted(halves, kw if whole else 0, stride, paired):
                loads = stride * parts + 1
            else:
                loads = stride * parts * -(-kw // columns)
            reading = depth * (unaligned * seen * loads + kh * together * (1 if high else rows))
            shuffles = depth * seen * kw * parts if stride == 2 else 0
            if paired:
                shuffles += depth * seen * together * parts
            products = depth * kh * together * rows * halves / 2 * seen / reach
            cycles = max(products + shuffles, reading) + rows * parts * STORE + seen * ROW + TILE
            tiles = -(-narrow // halves)
            if bands * tiles * cycles < least:
                least, best = bands * tiles * cycles, (rows, halves, step, apart, bands, tiles, inside)
    if best is None:
        return None
    rows, halves, step, apart, bands, tiles, inside = best
    unrolled = kh if high else 0, kw if whole else 0
    shape = Shape(rows, halves, *unrolled, step, stride if stride <= 2 else 0, columns, inside, depth > 1, paired)
    return Blocking(shape, dilation, apart, bands, tiles, least)


class Tiles(NamedTuple):
    """Which kinds of tile a row of tiles has; a kernel is compiled for these only."""

    inner: bool
    """Whether some tiles lie in the image with all columns that they read."""
    edge: bool
    """Whether some tiles read columns outside the image."""


def tiles(plan: Blocking, plane: Plane, left: int) -> Tiles:
    """The kinds of tile in rows that have so many columns of padding in front."""
    pixels, stride = plan.shape.pixels(simd.lanes(plane.acc_dtype)), plane.stride[1]
    last = max(0, plane.ow - pixels)
    # The first tile without columns on the left, if there is one; it has the fewest on the right.
    first = min(last, -(-left // (stride * pixels)) * pixels)

    def is_inner(j: int) -> bool:
        return left <= j * stride and j * stride - left + reach(plan.shape, plane) < plane.w

    if plane.ow < pixels or plane.small:
        return Tiles(False, True)
    return Tiles(is_inner(first), left > 0 or not is_inner(last))


def reach(shape: Shape, plane: Plane) -> int:
    """Columns from the first that a tile reads to the last."""
    lanes = simd.lanes(plane.acc_dtype)
    behind = lanes if shape.shifted else (plane.kw - 1) * plane.dilation[1]
    return shape.pixels(lanes) * plane.stride[1] - 1 + behind


def scratch(spec: ConvSpec) -> int:
    return 0


#: Fixed cost of a call, in units of `machine.call`: there is nothing to set up, and there are few arrays to hand over.
CALL = 0.4
#: Bytes of the second-level cache. An image of several channels that does not fit there comes from farther away for
#: each output channel, in this many times the time (64 channels of 128x128 and 256x256, on an AMD EPYC of Zen 5).
CACHE_BYTES, FARTHER = 1 << 20, 3
#: The same for an image that comes from memory and has many channels, whose rows are more than hardware follows: 2.5
#: GB/s. (8 to 64 channels to 1 to 3, by 3x3, on an AMD EPYC of Zen 3, whose last-level cache others share.)
MEMORY_BYTES, MANY, FARTHEST = 8 << 20, 8, 20


def cost(spec: ConvSpec, machine: Machine, *, one_row: bool = False) -> float:
    """Estimated seconds: the tiles' cycles, and the input read again for each output channel."""
    return seconds(plane(spec), spec.n * spec.c_out, machine, one_row=one_row)


def seconds(plane: Plane, planes: int, machine: Machine, *, one_row: bool = False, in_pairs: bool = True) -> float:
    """Estimated seconds of so many planes of output."""
    cycles = planes * blocking(plane, one_row=one_row, in_pairs=in_pairs).cycles
    image = plane.depth * plane.h * plane.w * plane.x_dtype.itemsize
    times = 1 if plane.depth == 1 or image <= CACHE_BYTES else FARTHER
    times = FARTHEST if plane.depth >= MANY and image >= MEMORY_BYTES else times
    read = planes * image * times
    # A vector multiply-add a cycle is 32 operations in float32 with 16 lanes, whatever the dtype and the registers.
    each = 32 * cycles / machine.row_tile_flops + read / machine.read_bandwidth
    return CALL * machine.call + each / machine.threads


class Ready:
    """A problem made ready to run: all that depends on neither its arrays nor the number of threads."""

    __slots__ = ("floor", "launch", "paired", "sizes", "skips", "zeros")

    def __init__(self, spec: ConvSpec, one_row: bool = False, all_rows: bool = False) -> None:
        one = plane(spec)
        plan = blocking(one, one_row=one_row, all_rows=all_rows)
        left = spec.padding[1][0]
        bands = spec.n * spec.c_out * plan.bands
        parallel = spec.flops >= PARALLEL_OPERATIONS
        sizes = (
            min(4 * MOST_THREADS, bands) if parallel else 1,
            bands,
            plan.bands,
            plan.across,
            plan.apart,
            spec.groups,
            *spec.stride,
            plan.dilation,
            spec.dilation[1],
            spec.padding[0][0],
            left,
            reach(plan.shape, one),
        )
        self.launch = Launch(_loops(plan.shape, tiles(plan, one, left)), spec.flops)
        self.zeros = np.zeros(spec.w if any(spec.padding[0]) else 1, spec.x_dtype)
        self.floor = spec.floor
        self.paired = plan.shape.paired
        #: Whether rows of padding are left out, which only weights that are not finite would show: 0 * inf is NaN.
        self.skips = plan.shape.seen is not None and any(spec.padding[0]) and spec.dtype.kind == "f"
        self.sizes = np.array(sizes, np.int64)


#: `Ready`, cached, because a plain `conv2d` call packs every time.
_ready = lru_cache(maxsize=1024)(Ready)

Packed = tuple[Ready, np.ndarray]


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    """Everything `run` needs; weights are read as they are, or in pairs."""
    ready = _ready(spec)
    if ready.skips and not np.isfinite(weight).all():
        ready = _ready(spec, False, True)
    return ready, pairs(weight) if ready.paired else weight


def prepare_one_row(spec: ConvSpec, weight: np.ndarray) -> Packed:
    """Everything `run` needs for the tile of one row, which suits any kernel."""
    return _ready(spec, True), weight


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    """Convolve."""
    ready, weight = packed
    ready.launch.call(x, weight, bias, ready.floor, out, ready.zeros, ready.sizes)


@lru_cache(maxsize=64)
def _loops(shape: Shape, tiles: Tiles) -> Any:
    """The kernel for one shape of tile."""
    edge, inner = row_tile(shape, False), row_tile(shape, True)
    all_inner, any_inner = not tiles.edge, tiles.inner  # constants: a branch that none takes is not compiled
    rows, pixels_of = shape.rows, shape.pixels(simd.register_bytes())

    @kernel(key=(shape, tiles))
    def _row_loops(x, weight, bias, floor, out, zeros, sizes):
        c_out, oh, ow = out.shape[1:]
        c_in, h, w = x.shape[1:]
        extent = weight.shape[1:]
        tasks, total, bands, across, apart, groups = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        sh, sw, dh, dw, pad_top, pad_left, reach = (
            sizes[6], sizes[7], sizes[8], sizes[9], sizes[10], sizes[11], sizes[12])  # fmt: skip
        pixels, taps = pixels_of // out.itemsize, extent[0] * extent[1] * extent[2]
        size, dilation = (h, w), (dh, dw)
        for task in prange(tasks):
            band, stop = total * task // tasks, total * (task + 1) // tasks
            while band < stop:
                plane, begin = band // bands, band % bands
                end = min(bands, begin + stop - band)
                band += end - begin
                image, o = plane // c_out, plane % c_out
                at, weight_at = (image * c_in + o // (c_out // groups) * extent[0]) * h * w, o * taps
                for number in range(begin, end):
                    turn = number if apart == 1 else number // apart
                    first = number - turn * apart
                    last = oh - rows if apart == 1 else (oh - first + apart - 1) // apart - rows
                    i = first + apart * min(turn * rows, last)
                    top, row = i * sh - pad_top, (plane * oh + i) * ow
                    for tile in range(across):
                        j = max(0, min(tile * pixels, ow - pixels))
                        corner = top, j * sw - pad_left
                        if all_inner or (any_inner and corner[1] >= 0 and corner[1] + reach < w and j + pixels <= ow):
                            inner(
                                x, at, zeros, size, corner, dilation, sw, weight, weight_at, extent, bias[o], floor,
                                out, row + j, apart * ow, ow - j,
                            )  # fmt: skip
                        else:
                            edge(
                                x, at, zeros, size, corner, dilation, sw, weight, weight_at, extent, bias[o], floor,
                                out, row + j, apart * ow, ow - j,
                            )  # fmt: skip

    return _row_loops
