"""Outputs that a tile's transform would spoil are found, and made again by sums; `fastconv.cpu.shared.own_windows` says
what is promised and why.

Every 3x3 window of a tile has a cell of 2x2 pixels that lies at an even place of the tile. The kernel that transforms
tiles has their pixels in registers: it adds up |x| of each cell, a block over its channels, and writes that down
(`add_cells`: 9 numbers for the 36 * 8 that F(4x4, 3x3) writes of 8 channels). A launch at the end, `finish`, adds up
the blocks' sums of a tile, which takes no channel that happens to be zero for a dark cell. Where cells differ by no more
than `RANGE`, as of nearly all tiles, that is all. Otherwise, where something is not finite or may overflow, and
everywhere if weights are, its blocks make the tile again: 16 sums a thread, weights and pixels from shared memory.
"""

from __future__ import annotations

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system.kernels import cuda, device_function, factory, integers, pick, pointer, scalar
from ..system.streams import Buffer, Stream, Tensor
from ..tiles.ptx import int64

#: Sums of |x| of a tile's cells may differ by this factor, as on the CPU: of float32's 24 bits it leaves 16.
RANGE = 2.0**8
#: The largest sum of |x|, and weight, of which no transform overflows in float32, as on the CPU.
LARGEST = 1e14
#: Threads of a block that makes tiles again, each with an output channel, and the tiles that it looks after: a sector
#: of 32 bytes.
THREADS, TILES = pick(128, 8), pick(8, 2)
#: Threads that share the sum of a cell.
SHARES = pick(8, 2)
#: Channels whose weights are in shared memory at a time: 19 KB of float32, 38 KB of float64.
CHUNK = pick(4, 2)
#: Padding from which on windows may see nothing but zeros, which a transform rounds to something else.
BLIND = 3


def cells(m: int) -> int:
    """Number of a tile's cells."""
    return ((m + 2) // 2) ** 2


def parts(spec: ConvSpec, lanes: int) -> int:
    """Sums of a cell: one for each block of `lanes` channels of all groups."""
    return spec.groups * -(-(spec.c_in // spec.groups) // lanes)


@device_function
def add_cells(pixels, memory, lanes, c_lane, t_lane, size):
    """Put a thread's sums of |x| of its tile's cells to shared memory, which has room for ``cells * room(lanes)``."""
    half, pitch = size // 2, np.uint64(lanes[0] * (lanes[1] | 1))
    place = np.uint64(c_lane * (lanes[1] | 1) + t_lane)
    for a in range(half):
        for b in range(half):
            at = size * 2 * a + 2 * b
            total = abs(pixels[at]) + abs(pixels[at + 1]) + abs(pixels[at + size]) + abs(pixels[at + size + 1])
            memory[place] = total
            place += pitch


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


@device_function
def _counted(top, size, windows):
    """The cells of an axis that count: the first one inside the image, and the last + 1 that a stored window has."""
    first = max(0, -top) // 2
    return first, min(max(windows // 2, first) + 1, (size - top + 1) // 2)


@factory
def _own_windows(m, dtype):
    size, number, all_cells = m + 2, scalar(dtype), cells(m)
    half, area, outputs, taps = size // 2, size * size, m * m, CHUNK * 9
    pairs = all_cells * TILES
    room, pitch = pairs * SHARES, taps + 1
    all_kernels, patches = THREADS * pitch, CHUNK * area
    zero, widest, largest = dtype.type(0), dtype.type(RANGE), dtype.type(LARGEST)
    one, infinite = dtype.type(1), dtype.type(float("inf"))

    def own_windows(sums, wild, x, x_steps, weight, steps, bias, floor, out, out_steps, sizes, tiles, image, plane, pads):
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
            a0, a1 = _counted(row - pads[0], h, min(m, oh - row))
            b0, b1 = _counted(col - pads[1], w, min(m, ow - col))
            least, most = infinite, zero
            if wild[last] != zero:
                most = infinite
            for a in range(half):
                for b in range(half):
                    value = shared[(a * half + b) * TILES + thread]
                    if value > most or value != value:  # a NaN stays
                        most = value
                    if a0 <= a < a1 and b0 <= b < b1 and value < least:
                        least = value
            if not (most <= largest and most <= least * widest):
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
