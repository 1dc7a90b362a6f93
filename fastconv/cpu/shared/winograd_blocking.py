"""The way `conv_winograd` cuts a problem up: sizes of tiles, tiles of a block, blocks of an image, and their costs.

Of the sizes that are accurate enough, along both axes, the ones estimated to take least time are chosen. Blocks are as
large as the second-level cache allows or, where the weights do not fit there, so large that streaming them is hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, product
from typing import Any, NamedTuple

from ...specs.arguments import Pair
from ...specs.conv import ConvSpec
from ..machine import Machine, this_machine
from ..tiles import simd
from ..tiles.register_tile import tile_shape
from .panels import WORTH_COMPILING
from .winograd_outline import Outline, outline

#: Bytes of V in one task: half of a 1 MiB second-level cache; the other half is for the weights streaming through.
V_BYTES = 512 << 10
#: Most bytes of V where the weights do not fit beside it, and the tiles that a task then gets if it can: enough uses of
#: a weight for the next ones to arrive from memory meanwhile.
V_MOST, STREAM_TILES = 4 << 20, 56
#: Outputs of a tile, along one axis.
SIZES = (2, 3, 4)
#: Most `Axis.amplification` of both axes, multiplied. A float32 error is 2e-7 to 5e-7 of the largest output times this.
LIMIT = 20


class Tiling(NamedTuple):
    """The blocks and tiles of a problem. A supertile is one tile or, with dilation, the tiles that interlock."""

    axes: tuple[Outline, Outline]
    high: int
    """Supertiles down an image."""
    wide: int
    """Supertiles across an image."""
    block: tuple[int, int, int]
    """Images, supertile rows and supertile columns of one task."""
    rows: int
    """Tiles in one register tile."""
    vectors: int
    """Vectors of output channels in one register tile: a panel."""
    panels: int
    """Panels in a group."""
    shares: int
    """Tasks that split the panels of one block."""
    together: int
    """Panels of which M is kept at a time, one element of all after the other."""
    streams: bool
    """Whether weights of the next product are fetched while one runs."""


@lru_cache(maxsize=4096)
def algorithms(kernel: Pair, stride: Pair) -> tuple[tuple[Outline, Outline], ...]:
    """Pairs of outlines, down and across, whose error is small enough."""
    sides = []
    for taps, step in zip(kernel, stride, strict=True):
        found = [outline(m, taps, step) for m in (SIZES if taps > 1 else (1,))]
        sides.append([one for one in found if one])
    # Tiles are square: others measured up to 4% faster, which is not worth compiling a kernel for.
    return tuple(
        (a, b) for a, b in product(*sides) if (a.m == b.m or 1 in kernel) and a.amplification * b.amplification <= LIMIT
    )


@lru_cache(maxsize=4096)
def fitting(spec: ConvSpec) -> tuple[tuple[Outline, Outline], ...]:
    """The pairs of `algorithms` for which one supertile fits into the scratch that a thread may take."""
    fitting = []
    for axes in algorithms((spec.kh, spec.kw), spec.stride):
        tiling = Tiling(axes, 1, 1, (1, 1, 1), 1, 1, 1, 1, 1, False)
        if sum(buffers(spec, tiling)) * spec.acc_dtype.itemsize <= V_MOST:
            fitting.append(axes)
    return tuple(fitting)


def estimate(spec: ConvSpec, machine: Machine, axes: tuple[Outline, Outline]) -> float:
    """Estimated seconds, from the vector instructions of each step."""
    tiling, lanes, size = _cut(spec, machine.threads, axes), simd.lanes(spec.acc_dtype), spec.acc_dtype.itemsize
    c_in, c_out = spec.c_in // spec.groups, tiling.panels * tiling.vectors * lanes
    elements, slower = axes[0].elements * axes[1].elements, 1 if simd.registers() > 16 else NARROW
    tiles = spec.n * tiling.high * tiling.wide * spec.dilation[0] * spec.dilation[1]
    blocks = max(1, _blocks(spec, tiling))
    padded = blocks * -(-tiles // blocks // tiling.rows) * tiling.rows
    products = elements * padded * c_in * c_out / lanes
    products += elements * padded * c_out / lanes * SUM_WORK
    into, outof = _transform_work(axes, spec.stride)
    transforms = slower * tiles * (INTO * -(-c_in // lanes) * into * tiling.shares + OUT_OF * c_out / lanes * outof)
    weights = elements * c_in * c_out * size / machine.weight_bandwidth * min(blocks, machine.threads)
    second = 32 / machine.tile_flops  # seconds of a vector instruction
    # Weights are read while there are products to make: 512 channels at 7x7 take 0.7 ms, and 0.6 + 0.7 one by one.
    return machine.call + spec.groups * (max(products * second, weights) + transforms * second) / machine.threads


#: Vector instructions to begin and end a vector of sums, which lies in M meanwhile: it counts where a sum has few
#: channels. And times of an instruction of the transforms, in and out, in units of one of the products; and of both
#: with 16 registers. (21 layers of 3 to 256 channels, 3x3 to 11x11, Zen 5: all but 3 within 20%; the last of Zen 3.)
SUM_WORK, INTO, OUT_OF, NARROW = 7, 1.4, 0.7, 1.35


@lru_cache(maxsize=256)
def _transform_work(axes: tuple[Outline, Outline], stride: Pair) -> tuple[float, float]:
    """Vector instructions to transform one tile of input and of output, for a vector of channels."""
    down, across = axes

    def work(operations: int, reads: int, writes: int) -> int:
        return operations + reads + 2 * writes

    pixels = down.m * stride[0] * across.m * stride[1]
    into = across.m * stride[1] * work(down.into, down.elements, down.elements)
    into += down.elements * work(across.into, across.elements, across.elements)
    outof = across.elements * work(down.outof, down.elements, down.m)
    outof += down.m * work(across.outof, across.elements, across.m)
    return into + TRANSPOSE_WORK * pixels, outof + TRANSPOSE_WORK * down.m * across.m


#: Vector instructions to transpose one vector of pixels into channels or back.
TRANSPOSE_WORK = 8


def buffers(spec: ConvSpec, tiling: Tiling) -> tuple[int, int, int, int]:
    """Elements of a task's region, workspace, V and M."""
    lanes = simd.lanes(spec.acc_dtype)
    down, across = tiling.axes
    rows, columns = region_shape(spec, tiling)
    elements = down.elements * across.elements
    region = max(rows, down.m * spec.dilation[0]) * max(columns, tiling.block[2] * across.m * spec.dilation[1])
    work = max(down.elements * columns, across.elements * down.m)
    v_step, m_step = steps(spec, tiling)
    return region * lanes, work * lanes, elements * v_step, tiling.together * elements * m_step


def energies_size(spec: ConvSpec, tiling: Tiling) -> int:
    """Elements of the sums of squares of a region's pixels: rows of whole vectors, and one that may begin anywhere."""
    rows, columns = region_shape(spec, tiling)
    lanes = simd.lanes(spec.acc_dtype)
    return rows * (-(-columns // lanes) * lanes + lanes)


def region_shape(spec: ConvSpec, tiling: Tiling) -> Pair:
    """Rows and columns of the input that a block sees."""
    high, wide = (
        (count * one.m * gap - 1) * step + (taps - 1) * gap + 1
        for count, one, gap, step, taps in zip(
            tiling.block[1:], tiling.axes, spec.dilation, spec.stride, (spec.kh, spec.kw), strict=True
        )
    )
    return high, wide


def padded_tiles(spec: ConvSpec, tiling: Tiling) -> int:
    """Tiles of a block, rounded up to whole register tiles."""
    images, down, across = tiling.block
    return -(-images * down * across * spec.dilation[0] * spec.dilation[1] // tiling.rows) * tiling.rows


def steps(spec: ConvSpec, tiling: Tiling) -> Pair:
    """Distances from one element of a tile to the next, in V and in M. They are one vector more than needed: at powers
    of two, what one tile writes would compete for a few places in the cache."""
    lanes, tiles = simd.lanes(spec.acc_dtype), padded_tiles(spec, tiling)
    return (-(-spec.c_in // spec.groups // lanes) * tiles + 1) * lanes, (tiles * tiling.vectors + 1) * lanes


def _blocks(spec: ConvSpec, tiling: Tiling) -> int:
    images, down, across = tiling.block
    return -(-spec.n // images) * -(-tiling.high // down) * -(-tiling.wide // across)


@lru_cache(maxsize=4096)
def best_axes(spec: ConvSpec) -> tuple[Outline, Outline]:
    """The cheapest sizes on one thread: results must not depend on the number of threads."""
    machine = this_machine(1)
    return min(fitting(spec), key=lambda axes: estimate(spec, machine, axes))


def tiling_of(spec: ConvSpec, threads: int) -> Tiling:
    return _cut(spec, threads, best_axes(spec))


@lru_cache(maxsize=4096)
def one_block(spec: ConvSpec, threads: int) -> Tiling | None:
    """The tiling with all tiles in one block, whose panels the threads split; None if the cache does not hold it."""
    tiling = tiling_of(spec, 1)
    if _blocks(spec, tiling) != 1:
        return None
    return tiling._replace(shares=min(tiling.panels, -(-threads // spec.groups)), together=1)


@lru_cache(maxsize=4096)
def _cut(spec: ConvSpec, threads: int, axes: tuple[Outline, Outline]) -> Tiling:
    """The tiling for given sizes of tiles."""
    high, wide = (
        -(-size // (one.m * gap)) for size, one, gap in zip((spec.oh, spec.ow), axes, spec.dilation, strict=True)
    )
    lanes, interlocked = simd.lanes(spec.acc_dtype), spec.dilation[0] * spec.dilation[1]
    most, most_vectors = tile_shape()
    c_in, c_out = spec.c_in // spec.groups, spec.c_out // spec.groups
    vectors = 1 if c_out <= lanes else most_vectors
    panels = -(-c_out // (vectors * lanes))
    element_bytes = axes[0].elements * axes[1].elements * spec.acc_dtype.itemsize
    tile_bytes = element_bytes * -(-c_in // lanes) * lanes
    goal = V_BYTES // tile_bytes
    if element_bytes * c_in * c_out > V_BYTES:
        goal = max(goal, min(STREAM_TILES, V_MOST // tile_bytes))
    goal = max(goal, most)
    split = threads > max(1, spec.n * spec.groups * high)
    if split:  # a task for every thread, but none smaller than a register tile
        goal = max(min(goal, -(-spec.n * spec.groups * high * wide * interlocked // (2 * threads))), min(most, goal))
    goal = max(1, goal // interlocked)
    across = -(-wide // -(-wide // goal))
    down = max(1, min(high, goal // across))
    down = -(-high // -(-high // down))
    images = max(1, min(spec.n, goal // (across * down)))
    heights = (most // 2 + 1,) if spec.flops < WORTH_COMPILING else (most, most // 2 + 1, most // 2)

    def idle(tiles: int) -> int:
        """Time of a register tile beside that of its rows, in units of a row."""
        near = (tiles + vectors * lanes) * c_in * spec.acc_dtype.itemsize <= NEAR_BYTES
        return IDLE if near or simd.registers() > 16 else IDLE_FAR

    def tiling(images: int, down: int) -> Tiling:
        tiles = images * down * across * interlocked
        rows = min(heights, key=lambda rows: -(-tiles // rows) * (rows + idle(tiles)))
        # Tiles of 6 pixels, of 16 registers, read V and weights twice as often as those of 14. (By this 256 channels at
        # 56x56 and batches of 14x14 are 1.2 times as fast, 512 at 7x7 and 14x14 1.3 times, on an AMD EPYC of Zen 3.)
        small_tiles = simd.registers() == 16
        streams = small_tiles and element_bytes * c_in * c_out > V_MOST
        whole = Tiling(axes, high, wide, (images, down, across), rows, vectors, panels, 1, 1, streams)
        tasks = max(1, _blocks(spec, whole) * spec.groups)  # one for an empty batch, too
        shares = 1 if tasks >= threads else min(panels, -(-threads // tasks))
        together = 1
        if small_tiles and tiles * tile_bytes > V_BYTES:
            together = min(-(-panels // shares), max(1, V_MOST // (tiles * element_bytes * vectors * lanes)))
        return whole._replace(shares=shares, together=together)

    if threads == 1 or split:
        return tiling(images, down)

    def last(tiling: Tiling) -> float:
        """Time until the last thread ends, in units of one tile's; all threads get equally many tasks."""
        each = -(-_blocks(spec, tiling) * spec.groups * tiling.shares // threads)
        work = padded_tiles(spec, tiling) // tiling.rows * (tiling.rows + IDLE)
        begin = STREAM_BEGIN if element_bytes * c_in * c_out > V_MOST else 1
        return each * (work * (INPUT_SHARE + (1 - INPUT_SHARE) / tiling.shares) + begin / tiling.shares)

    # Blocks are bands of one image or several whole images: whichever keep all threads busy to the end.
    several = [tiling(some, high) for some in _sizes(spec.n, images)] if images > 1 and down == high else []
    return min([*several, *[tiling(1, rows) for rows in _sizes(high, down)]], key=last)


#: Time of a register tile beside that of its rows, in units of a row; and with 16 vector registers where the pixels and
#: weights of an element take more than so many bytes of the first-level cache: then loads wait, of which small tiles
#: have more. (96 to 1024 channels, 16 to 128 tiles: rows of 6 are up to 1.15 times as fast as 4, an AMD EPYC of Zen 3.)
IDLE, IDLE_FAR, NEAR_BYTES = 1, 4, 20 << 10
#: Most sizes of blocks that are compared: every possible one up to 256 rows of tiles.
MOST_SIZES = 32


def _sizes(size: int, most: int) -> Iterator[int]:
    """The sizes of parts of `size`, all about as large, from `most` down."""
    for _ in range(MOST_SIZES):
        most = -(-size // -(-size // most))
        yield most
        if most == 1:
            return
        most -= 1


#: Share of a task's time that the input's transforms take, which each of the tasks that split the panels repeats; and
#: what it costs a task to begin streaming weights from memory, in units of one tile's time.
INPUT_SHARE, STREAM_BEGIN = 0.2, 9


# -- memory --------------------------------------------------------------------------------------------------


def panel_buffers(spec: ConvSpec, tiling: Tiling) -> tuple[int, int]:
    """Elements of a panel's weights of `lanes` channels, and of a vector of kernels with transformed columns."""
    lanes = simd.lanes(spec.acc_dtype)
    return lanes * (spec.kh * spec.kw * tiling.vectors * lanes + 3), tiling.axes[0].elements * spec.kw * lanes


def memory_sizes(spec: ConvSpec, tiling: Tiling) -> tuple[int, ...]:
    """Elements of the parts of a thread's memory: see `Geometry.begins`."""
    return *buffers(spec, tiling), *panel_buffers(spec, tiling), energies_size(spec, tiling)


class Tile(NamedTuple):
    """How tiles of input and output lie in their planes."""

    stride: Pair
    dilation: Pair
    m_down: int
    m_across: int
    """Rows and columns of a tile of output."""
    e_down: int
    e_across: int
    """Rows and columns of elements of a transformed tile."""


class Geometry(NamedTuple):
    """Sizes that the loops of `conv_winograd` take, as a plain tuple: a class of its own would be slower to call."""

    pad: Pair
    """Padding above and on the left."""
    grid: Pair
    """Tiles down and across an image; with dilation, groups of interlocked ones."""
    block: tuple[int, int, int]
    """Images of a block, and tiles down and across."""
    register: tuple[int, int, int, int]
    """Rows of a register tile, tasks that share a block's panels, panels of which M is kept, and lanes of a vector."""
    region: tuple[int, int, int]
    """Rows and columns of a region, and elements from row to row of its energies."""
    begins: tuple[int, ...]
    """Where the parts of a thread's memory begin: region, work, V, M, a panel's columns, kernels with transformed
    columns, energies."""
    steps: Pair
    """Elements from one element of the tiles to the next, in V and in M."""
    tile: tuple[Any, ...]
    """`Tile`, as a plain tuple."""


def geometry_of(spec: ConvSpec, tiling: Tiling) -> Geometry:
    """All sizes that the tasks need."""
    (rows, columns), (down, across) = region_shape(spec, tiling), tiling.axes
    return Geometry(
        pad=(spec.padding[0][0], spec.padding[1][0]),
        grid=(tiling.high, tiling.wide),
        block=tiling.block,
        register=(tiling.rows, tiling.shares, tiling.together, simd.lanes(spec.acc_dtype)),
        region=(rows, columns, energies_size(spec, tiling) // rows),
        begins=tuple(accumulate(memory_sizes(spec, tiling), initial=0))[:-1],
        steps=steps(spec, tiling),
        tile=tuple(Tile(spec.stride, spec.dilation, down.m, across.m, down.elements, across.elements)),
    )
