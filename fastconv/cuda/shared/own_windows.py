"""Outputs that a tile's transform would spoil are found, and made again by sums; `fastconv.cpu.shared.own_windows` says
what is promised and why.

A transform's error is a share of the tile's sum of |x|. Two neighbouring 3x3 windows of a tile share rows, or columns,
2p + 1 and 2p + 2 (a window without a neighbour has 2p, too): all windows have one of the tile's cells, 4 of
F(4x4, 3x3). The kernel that transforms tiles has their pixels in registers: it adds up |x| of each cell and of the
tile, a block over its channels, and writes that down (`add_cells`: 5 numbers for the 36 * 8 that are written of 8
channels). A launch at the end, `finish`, adds up the blocks' sums: of all channels, of which hardly ever all are zero
where the image is not. If the tile has at most `RANGE` times as much as each cell, as nearly all tiles, that is all.
Otherwise, if something is not finite or may overflow, and everywhere if weights are or may, a block makes the tile
again: m * m sums a thread, weights and pixels from shared memory.

Registers: 95 (compute capability 8.0: 127), no spill; one launch a call. Not measured yet on a GPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system.kernels import cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Buffer, Stream, Tensor
from ..tiles.ptx import inlined, int64

#: A tile's sum of |x| may be this many times a cell's: nearly that of numbers which differ by 2**8, as on the CPU, and
#: leave 16 of float32's 24 bits.
RANGE = 2.0**11
#: The largest sum of |x|, and weight, of which no transform overflows in float32, as on the CPU.
LARGEST = 1e14
#: Threads of a block that makes tiles again, each with an output channel, and the tiles that it looks after: a sector
#: of 32 bytes.
THREADS, TILES = pick(128, 8), pick(8, 2)
#: Most output channels of a group: a grid has at most 65535 blocks along its second axis, a limit of CUDA.
MOST = 65535 * THREADS
#: Threads that share the sum of a cell.
SHARES = pick(8, 2)
#: Channels whose weights are in shared memory at a time: 19 KB of float32, 38 KB of float64.
CHUNK = pick(4, 2)
#: Padding from which on windows may see nothing but zeros, which a transform rounds to something else.
BLIND = 3


def cells(m: int) -> int:
    """Number of sums of a tile of m x m outputs: of its cells, and of all its pixels."""
    return (m // 2) ** 2 + 1


def parts(spec: ConvSpec, lanes: int) -> int:
    """Sums of a cell: one for each block of `lanes` channels of all groups."""
    return spec.groups * -(-(spec.c_in // spec.groups) // lanes)


@cache
def add_cells(m: int) -> Any:
    """Make the function that puts a thread's sums of |x| to shared memory, `pitch` apart from `place` on; `windows` are
    the rows and columns of the output from the tile's first on."""
    size = m + 2

    @inlined
    def added(pixels, zero, windows, memory, place, pitch):
        whole = zero
        for k in range(size * size):
            whole += abs(pixels[k])
        for p in range(0, m, 2):
            down = p + 1 >= windows[0]
            for q in range(0, m, 2):
                across, total = q + 1 >= windows[1], zero
                for i in range(3):
                    for j in range(3):
                        if (i > 0 or down) and (j > 0 or across):
                            total += abs(pixels[(p + i) * size + q + j])
                memory[place] = total
                place += pitch
        memory[place] = whole

    return added


def finish(
    spec: ConvSpec, m: int, sums: Buffer, lanes: int, wild: Buffer, x: Tensor, weight: Tensor, bias: Buffer,
    out: Tensor, stream: Stream,
) -> None:  # fmt: skip
    """Make tiles of m x m outputs again: where `sums`, of blocks of `lanes` channels, tell to, or all if the last
    element of `wild` is not zero."""
    high, wide = -(-spec.oh // m), -(-spec.ow // m)
    tiles, outs = spec.n * high * wide, spec.c_out // spec.groups
    stream.launch(
        _own_windows(m, spec.acc_dtype), (-(-tiles // TILES) * spec.groups, -(-outs // THREADS)), THREADS,
        sums.pointer, wild.pointer, x.pointer, x.strides, weight.pointer, weight.strides, bias.pointer, spec.floor,
        out.pointer, out.strides,
        (tiles, parts(spec, lanes) // spec.groups, spec.c_in // spec.groups, outs, wild.size - 1),
        (high, wide), (spec.h, spec.w), (spec.oh, spec.ow), (spec.padding[0][0], spec.padding[1][0]),
    )  # fmt: skip


def sums_of_cells(spec: ConvSpec, m: int, lanes: int) -> int:
    """Number of the sums that `finish` reads."""
    return spec.n * -(-spec.oh // m) * -(-spec.ow // m) * parts(spec, lanes) * cells(m)


def seconds(spec: ConvSpec, m: int, lanes: int, machine: Machine) -> float:
    """Estimated seconds that looking takes: sums that are written and, for each THREADS output channels, read."""
    moved = sums_of_cells(spec, m, lanes) * spec.acc_dtype.itemsize
    return machine.launch + moved * (1 + -(-spec.c_out // spec.groups // THREADS)) / machine.bandwidth


@factory
def _own_windows(m, dtype):
    size, number, all_cells = m + 2, scalar(dtype), cells(m)
    half, area, outputs, taps = m // 2, size * size, m * m, CHUNK * 9
    pairs = all_cells * TILES
    room, pitch = pairs * SHARES, taps + 1
    all_kernels, patches = THREADS * pitch, CHUNK * area
    zero, widest, largest = dtype.type(0), dtype.type(RANGE), dtype.type(LARGEST)
    one, infinite = dtype.type(1), dtype.type(float("inf"))

    def own_windows(sums, wild, x, x_steps, weight, steps, bias, floor, out, out_steps, sizes, tiles, image, plane,
                    pads):
        (all_tiles, blocks, channels, outs, last), (high, wide), (h, w), (oh, ow) = sizes, tiles, image, plane
        shared = cuda.shared.array(room, number)
        kernels = cuda.shared.array(all_kernels, number)
        patch = cuda.shared.array(patches, number)
        values = cuda.local.array(outputs, number)
        thread = int64(cuda.threadIdx.x)
        across = (all_tiles + TILES - 1) // TILES
        tile0, group = int64(cuda.blockIdx.x) % across * TILES, int64(cuda.blockIdx.x) // across
        first = int64(cuda.blockIdx.y) * THREADS
        mine = first + thread < outs

        for at in range(thread, room, THREADS):
            pair, total = at % pairs, zero
            cell, tile = pair // TILES, tile0 + pair % TILES
            if tile < all_tiles:
                for part in range(at // pairs, blocks, SHARES):
                    total += sums[((group * blocks + part) * all_cells + cell) * all_tiles + tile]
            shared[at] = total
        cuda.syncthreads()
        for at in range(thread, pairs, THREADS):
            total = shared[at]
            for share in range(1, SHARES):
                total += shared[share * pairs + at]
            shared[at] = total
        cuda.syncthreads()
        spoiled = zero
        if thread < TILES and tile0 + thread < all_tiles:
            tile = tile0 + thread
            row, col = tile // wide % high * m, tile % wide * m
            most, least = shared[half * half * TILES + thread], infinite
            for p in range(half):
                for q in range(half):
                    if row + 2 * p < oh and col + 2 * q < ow:
                        least = min(least, shared[(p * half + q) * TILES + thread])
            if wild[last] != zero or not (most <= largest and most <= least * widest):
                spoiled = one
        cuda.syncthreads()
        if thread < TILES:
            shared[thread] = spoiled
        cuda.syncthreads()

        for k in range(TILES):
            if shared[k] == zero:
                continue
            tile = tile0 + k
            n, row, col = tile // wide // high, tile // wide % high * m, tile % wide * m
            top, left = row - pads[0], col - pads[1]
            start = n * x_steps[0] + group * channels * x_steps[1] + top * x_steps[2] + left * x_steps[3]
            for e in range(outputs):
                values[e] = zero
            for c0 in range(0, channels, CHUNK):
                some = min(CHUNK, channels - c0)
                cuda.syncthreads()
                for at in range(thread, some * area, THREADS):
                    c, i, j = at // area, at // size % size, at % size
                    value = zero
                    if 0 <= top + i < h and 0 <= left + j < w:
                        value = x[start + (c0 + c) * x_steps[1] + i * x_steps[2] + j * x_steps[3]]
                    patch[at] = value
                for at in range(thread, THREADS * taps, THREADS):
                    o, c, tap = at // taps, at % taps // 9, at % 9
                    if first + o < outs and c < some:
                        place = (group * outs + first + o) * steps[0] + (c0 + c) * steps[1]
                        kernels[o * pitch + at % taps] = weight[place + tap // 3 * steps[2] + tap % 3 * steps[3]]
                cuda.syncthreads()
                for c in range(some if mine else 0):
                    for a in range(3):
                        for b in range(3):
                            factor = kernels[thread * pitch + c * 9 + 3 * a + b]
                            for i in range(m):
                                for j in range(m):
                                    values[m * i + j] += factor * patch[c * area + (i + a) * size + j + b]
            if mine:
                o = group * outs + first + thread
                place = n * out_steps[0] + o * out_steps[1] + row * out_steps[2] + col * out_steps[3]
                for i in range(m):
                    for j in range(m):
                        if row + i < oh and col + j < ow:
                            value = values[m * i + j] + bias[o]
                            out[place + i * out_steps[2] + j * out_steps[3]] = floor if value < floor else value

    pair, four = integers(2), integers(4)
    signature = (pointer(dtype), pointer(dtype), pointer(dtype), four, pointer(dtype), four, pointer(dtype),
                 scalar(dtype), pointer(dtype), four, integers(5), *(pair,) * 4)
    return signature, own_windows
