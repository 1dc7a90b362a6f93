"""A 1x1 convolution is a matrix product over the channels: nothing is unrolled, the input is the right-hand factor.

::

    out[n, o, p] = bias[o] + sum over c of weight[o, c] * x[n, c, p]        p = (i, j), all positions in one row

What it changes over `direct`: without padding there is nothing to copy, and without stride a tile may go on beyond the
end of an image row. A tile reads x where it lies, channels h * w elements apart; the last tile is moved back to end
with the positions, and computes some outputs twice. With a stride a tile may also read x where it lies, the pixels of a
row `stride` elements apart; or, where tiles would leave too much of a row over, a task gathers the positions that
count. With padding a task always gathers.

Loop order: a task is a block of positions of one image and group, of which all channels fit in the second-level cache;
it runs panels of output channels, then tiles along the row, so that a panel of weights stays near. Where there are
fewer blocks than threads, tasks share the panels of a block.

Tiles: with pixels in the lanes, results are written as they are, in whole cache lines, and x is read in vectors. With
output channels in the lanes, results are transposed in registers when written, but a tile may have any number of
pixels: images of 14x14 leave nothing over, and what those of 7x7 leave has a tile of its own. The kind that is
estimated to take less time is used.

Measured on one AVX-512 core of an AMD EPYC (Zen 4): 64 to 256 channels at 56x56 take 0.96 ms, 91% of the FMA ceiling;
256 to 512 channels at 56x56 with stride 2 take 1.90 ms, 91%.

Sources: Lin, Chen and Yan, Network in network, arXiv:1312.4400; Goto and van de Geijn, as in `panels`.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine, this_machine
from ..shared import panels
from ..shared.im2col import gather_address
from ..system import micro
from ..system.kernels import jit, kernel
from ..system.memory import scratch_rows
from ..system.threads import num_threads
from ..tiles import simd
from ..tiles.register_tile import tile_shape

exact = True

#: Bytes of x in one task, and in one of a whole image whose last tile is another: times with 64 KiB to 640 KiB differ
#: by 3%, but a block of the last tile alone would leave threads unequal work.
BLOCK_BYTES, WHOLE_BYTES = 400 << 10, 640 << 10


class Blocking(NamedTuple):
    """The blocks of pixels, panels and tiles that a problem is cut into."""

    tiles: panels.Tiles
    panels: int
    """Panels in a group."""
    pixels: int
    """Output pixels of one task."""
    shares: int
    """Tasks that split the panels of one block."""
    run: int
    """Output pixels that lie equally far apart in x: a row's, or a task's if there is no stride; 0: x is gathered."""
    step: int
    """Elements of x from one of the `run` pixels to the next."""


def supports(spec: ConvSpec) -> str | None:
    if (spec.kh, spec.kw) != (1, 1):
        return f"the kernel is {spec.kh}x{spec.kw}, not 1x1"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return _cost(spec, machine, *_best(spec))


def _cost(spec: ConvSpec, machine: Machine, tiles: panels.Tiles, by_rows: bool) -> float:
    """Estimated seconds: the tiles' multiply-adds, whole tiles counted, writing them, and copying into patches."""
    plan = _cut(spec, tiles, by_rows, machine.threads)
    rows, width = (spec.oh, spec.ow) if by_rows else (1, spec.oh * spec.ow)
    wide = width if tiles.rest else -(-width // tiles.pixels) * tiles.pixels
    computed = spec.n * spec.groups * plan.panels * tiles.panel * rows * wide
    products = 2 * computed * spec.taps / panels.rate(spec, machine)
    products *= panels.slowed(spec, tiles, SLOWED)
    if tiles.vectors == 1:
        products *= ONE_VECTOR
    weights = spec.n * spec.c_out * spec.taps * spec.acc_dtype.itemsize / machine.weight_bandwidth
    products = max(products, weights)  # an image of few pixels waits for the weights
    written = panels.write_cost(spec, tiles, computed, products, machine)
    copied = 0 if plan.run else spec.n * spec.c_in * spec.oh * spec.ow * plan.shares * spec.acc_dtype.itemsize
    copied *= spec.stride[1]  # steps over columns that it reads, too
    return machine.call + (products + written + copied / machine.patch_bandwidth) / machine.threads


#: See `panels.slowed`: pixels that a tile reads lie in as many pages as there are channels. (An AMD EPYC of Zen 3: 75%
#: of the FMA ceiling with 64 to 256 channels, 53% with 512 and 1024, 45% with 2048.)
SLOWED = 1.3, 1.75, 2.0
#: Time of a multiply-add in tiles of one vector a row, which are bound by loads, relative to other tiles.
ONE_VECTOR = 1.25


@lru_cache(maxsize=4096)
def _best(spec: ConvSpec) -> tuple[panels.Tiles, bool]:
    """The cheapest tiles, and whether each has pixels of one row of the image only, which it reads at the stride."""
    pixels, machine = spec.oh * spec.ow, this_machine(1)
    ways = [(panels.pixel_tiles(spec, pixels), False), (_with_rest(spec, panels.channel_tiles(spec, pixels)), False)]
    rows = panels.channel_tiles(spec, spec.ow)
    if spec.stride != (1, 1) and spec.stride[1] <= FARTHEST and not spec.padded and spec.ow >= rows.pixels:
        ways.append((rows, True))
    return min(ways, key=lambda way: _cost(spec, machine, *way))


def _with_rest(spec: ConvSpec, tiles: panels.Tiles) -> panels.Tiles:
    """These tiles, or larger ones beside one for the pixels that they leave over, if those take less time."""
    pixels = spec.oh * spec.ow

    def time(rows: int) -> float:
        """Time of all tiles of so many pixels and the rest, in multiply-adds of vectors in each step."""
        return pixels + -(-pixels // rows) * panels.READ

    rows = min(range(tiles.rows, tile_shape()[0] + 1), key=time)
    alike = -(-pixels // tiles.rows) * (tiles.rows + panels.READ)
    size = spec.c_in // spec.groups * pixels * spec.acc_dtype.itemsize
    if spec.flops < panels.WORTH_COMPILING or size > WHOLE_BYTES or time(rows) > WORTH_A_TILE * alike:
        return tiles
    return tiles._replace(rows=rows, pixels=rows, rest=pixels % rows)


#: A tile for the rest is worth compiling where less than this share of the time is left. (49 pixels: 3 tiles of 14 and
#: one of 7 take 0.97 of the time of 5 tiles of 10.)
WORTH_A_TILE = 0.98
#: Largest horizontal stride that a tile reads in place: each stride is compiled, and soon each pixel is a cache line.
FARTHEST = 4


def _blocking(spec: ConvSpec, threads: int) -> Blocking:
    return _cut(spec, *_best(spec), threads)


@lru_cache(maxsize=4096)
def _cut(spec: ConvSpec, tiles: panels.Tiles, by_rows: bool, threads: int) -> Blocking:
    """The blocking with blocks of whole tiles, or of whole rows, that fit the cache and are enough for all threads."""
    pixels, across = spec.oh * spec.ow, spec.n * spec.groups
    unit, step = (spec.ow, spec.stride[1]) if by_rows else (tiles.pixels, 1)
    count = -(-pixels // unit)
    in_block = BLOCK_BYTES // (spec.c_in // spec.groups * spec.acc_dtype.itemsize * unit * step)
    if tiles.rest:
        in_block = count
    whole = spec.stride == (1, 1) and not spec.padded and pixels >= tiles.pixels
    channels, in_place = spec.c_out // spec.groups, whole or by_rows
    if threads > 1 and not (in_place and channels > pixels):  # tasks have the smaller operand in common
        in_block = min(in_block, -(-count * across // (4 * threads)))
    in_block = max(1, min(in_block, count))
    in_panels = -(-channels // tiles.panel)
    tasks = max(1, across * -(-count // in_block))  # an empty batch has a plan, too
    shares = 1 if tasks >= threads else min(in_panels, -(-threads * (4 if in_place else 1) // tasks))
    run = spec.ow if by_rows else in_block * unit if whole else 0
    return Blocking(tiles, in_panels, in_block * unit, shares, run, step)


def _patch_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of a patch, with room behind for a tile to read, and for `gather` to write whole vectors."""
    behind = max(plan.tiles.pixels, simd.lanes(spec.x_dtype))
    return 0 if plan.run else spec.c_in // spec.groups * plan.pixels + behind


def scratch(spec: ConvSpec) -> int:
    """Bytes of the patches of all threads."""
    threads = num_threads()
    return threads * _patch_size(spec, _blocking(spec, threads)) * spec.x_dtype.itemsize


class Packed(NamedTuple):
    """Weights made ready, and all else of a call that does not depend on its input."""

    loops: Any
    micro: tuple[int, int, int, int]
    """Addresses of `im2col.gather`, if it is needed, `panels.pack_panel`, the register tile and that for the rest."""
    tasks: int
    weight: np.ndarray
    raw: np.ndarray
    """See `panels.pack`."""
    offsets: np.ndarray
    """Elements from the first input channel to each."""
    sizes: tuple[int, ...]
    patch_size: int


prepare_cost = panels.prepare_cost


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    plan = _blocking(spec, num_threads())
    packed, raw = panels.pack(spec, plan.tiles, weight, spec.n * -(-spec.oh * spec.ow // plan.pixels))
    return _unpacked(spec, plan)._replace(weight=packed, raw=raw)


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, plan: Blocking) -> Packed:
    """`Packed` without weights; cached, because a plain `conv2d` call packs every time."""
    tiles, pitch = plan.tiles, spec.h * spec.w if plan.run else plan.pixels
    corner = spec.padding[0][0], spec.padding[1][0]
    cut = spec.groups, plan.panels, plan.pixels, plan.shares, plan.run, tiles.rest
    tile = partial(panels.tile_address, spec, ahead=tiles.x_in_lanes, step=plan.step)
    return Packed(
        loops=_pointwise_loops.sized(spec.flops),
        micro=(
            0 if plan.run else gather_address(spec.x_dtype),
            panels.pack_address(spec.acc_dtype),
            tile(tiles),
            tile(tiles._replace(rows=tiles.rest)) if tiles.rest else 0,
        ),
        tasks=spec.n * spec.groups * -(-spec.oh * spec.ow // plan.pixels) * plan.shares,
        weight=np.empty(0),
        raw=np.empty(0),
        offsets=np.arange(spec.c_in // spec.groups) * pitch,
        sizes=(*cut, *spec.stride, *corner),
        patch_size=_patch_size(spec, plan),
    )


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    biases = panels.panel_biases(spec, packed.weight.shape[-1], bias)
    patches = scratch_rows(packed.patch_size, x.dtype)
    weights = packed.weight, packed.raw
    loops, tasks = packed.loops, packed.tasks
    loops(tasks, packed.micro, x, packed.offsets, *weights, biases, spec.floor, out, patches, packed.sizes)


@jit
def _pointwise_task(job, slot, addresses, x, offsets, packed, raw, bias, floor, out, seen, sizes):
    groups, in_group, block, shares, run, rest = sizes[:6]
    stride, pad, (gather, pack, tile, last) = sizes[6:8], sizes[8:], addresses
    c_all, h, w = x.shape[1:]
    c_out, oh, ow = out.shape[1:]
    c_in, panel = packed.shape[2:]
    channels, count = c_out // groups, oh * ow
    wide = (count + block - 1) // block
    share, index = job % shares, job // shares
    begin = index % wide * block
    end = min(begin + block, count)
    group, image = index // wide % groups, index // (wide * groups)
    first = (image * c_all + group * c_in) * h * w
    source, origin = simd.flat(x), first
    if run == 0:
        for c in range(c_in):
            plane = first + c * h * w
            micro.call(gather, x, plane, h, w, begin, end, ow, stride[0], stride[1], pad[0], pad[1], seen, c * block)
        source, origin = seen, -begin
    for p in range(share * in_group // shares, (share + 1) * in_group // shares):
        plane = (image * c_out + group * channels + p * panel) * count
        inside = min(panel, channels - p * panel)
        number = group * in_group + p
        weights = number * c_in * panel
        if raw.size:
            weights = slot * packed.shape[1] * c_in * panel
            channel = group * channels + p * panel
            micro.call(pack, raw, channel * c_in, c_in, inside, packed, weights, c_in, panel)
        for start in range(begin, end, run if run else block):
            stop = min(start + run, end) if run else end
            here = start // ow * stride[0] * w + start % ow * stride[1] if run else start
            left_over = rest if stop == count else 0
            width, room, to = stop - start - left_over, end - start, plane + start
            # In place, the last tile is moved back: it would read beyond x. (Two tasks may so write equal outputs.)
            # A tile may write anything behind itself, up to the block's end: these outputs are made next.
            if width > 0:
                micro.call(
                    tile, source, origin + here, offsets, packed, weights, bias, number * panel, floor, out, to, count,
                    inside, width, room, 1 if run else 0, 1, 0, width,
                )  # fmt: skip
            if left_over:
                micro.call(
                    last, source, origin + here + width, offsets, packed, weights, bias, number * panel, floor, out,
                    to + width, count, inside, rest, rest, 0, 1, 0, rest,
                )  # fmt: skip


@kernel
def _pointwise_loops(tasks, addresses, x, offsets, packed, raw, bias, floor, out, patches, sizes):
    for job in prange(tasks):
        slot = numba.get_thread_id()
        _pointwise_task(job, slot, addresses, x, offsets, packed, raw, bias, floor, out, patches[slot], sizes)

