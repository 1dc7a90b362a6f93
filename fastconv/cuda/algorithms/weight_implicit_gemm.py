"""The gradient for a convolution's weight as a matrix product with neither factor written down.

Index equation, for each group: rows are a weight's channel and tap, columns its output channel, the sum runs over the
output's pixels of the whole batch::

    out[o, (c, a, b)] = sum over k = (n, i, j) of A[(c, a, b), k] * grad[n, o, i, j]
    A[(c, a, b), k] = x[n, c, i * stride_h - top + a * dilation_h, j * stride_w - left + b * dilation_w], zero outside

What it changes over `shared.gemm`, whose register tile it has: both factors are gathered, and k counts pixels. A layer
has few weights and very long sums, so many blocks share the sums of a tile: each takes a part of k, and `partial_sums`
adds the parts in order. Nothing is packed or unrolled: packing grad, as the forward tile packs its weights, would write
and read all of it once more at each call.

Gathering: a thread has one pixel of each slab, whose place it counts up from slab to slab, and a few rows and columns
for this pixel. A row lies at the pixel's place plus an offset that depends on the row alone, from a table (`gather` has
such a table for k). The lanes of a warp are 8 neighbouring pixels of 4 rows, whole sectors of x and grad; or, where
channels lie side by side (channels last), 16 neighbouring channels of 2 pixels, and rows count channels first. Rows of
the slabs in shared memory are padded by 4, or by 16, so that either way a warp stores into 32 different banks.

Operands of the dtype that is computed in are copied to shared memory without passing through registers (`cp.async`),
all others are widened on the way.

Zeros of the padding are multiplied, too; where that makes NaN of an infinity, `weight_naive` makes the sum again.

Compiled for compute capability 9.0 (``python -m benchmarks.ptx --only weight``), float32: the tile of 128x64 has 149
registers (3 blocks, 12 warps a multiprocessor), that of 64x64 has 109, and neither spills or has local memory. In the
loop of the larger one, 512 of 754 PTX instructions are multiply-adds (68%), 12 are copies. Not measured yet on a GPU.

Source: Chetlur et al., cuDNN: Efficient primitives for deep learning, arXiv:1410.0759, section 3.2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine, this_machine
from ..shared.convert import converted
from ..shared.gather import FAR, places
from ..shared.gemm import Tile, tiles
from ..shared.partial_sums import add_parts
from ..shared.pooling import lanes_last
from ..system.kernels import MOST_BLOCKS, cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Stream, Tensor
from ..tiles.elements import widen
from ..tiles.gemm_kernel import multiplier, placement
from ..tiles.ptx import advance, arrival, commit, copier, inlined, int32, int64, load4, opaque, store4, within
from . import weight_naive

#: Least number of slabs in a part: with fewer, adding the parts takes as long as making them.
LEAST = pick(16, 2)
#: Most parts of a sum.
MOST_PARTS = 1024


class Cut(NamedTuple):
    """A division of a problem among blocks of threads."""

    tile: Tile
    parts: int
    share: int
    """Number of slabs in a part."""


def supports(spec: ConvSpec) -> str | None:
    if reason := places(spec):
        return reason
    # The table's offsets go as far as the window, which may reach into the padding.
    if spec.c_in * (spec.h + sum(spec.padding[0])) * (spec.w + sum(spec.padding[1])) >= 1 << 31:
        return "an image that has 2**31 elements with its padding is too large for 32-bit indices"
    if max(_blocks(spec, tile) for tile in _tiles(spec)) > MOST_BLOCKS or spec.taps >= 1 << 28:
        return f"its blocks are numbered in 32 bits, too few for {spec.groups} groups of {spec.taps} weights a channel"
    return None


def _tiles(spec: ConvSpec) -> tuple[Tile, ...]:
    """The tiles of `shared.gemm` but the largest, which has no registers left for two gathers and would spill."""
    return tuple(tile for tile in tiles(spec) if tile.m * tile.n < 128 * 128)


def _blocks(spec: ConvSpec, tile: Tile) -> int:
    """Number of blocks for one part."""
    return -(-spec.taps // tile.m) * -(-(spec.c_out // spec.groups) // tile.n) * spec.groups


def _slabs(spec: ConvSpec, tile: Tile) -> int:
    return -(-spec.n * spec.oh * spec.ow // tile.k)


def _share(tile: Tile) -> float:
    """Share of multiply-adds in the loop over slabs, like `Tile.share`, but for this kernel's longer gathering."""
    products, fetched = tile.k * tile.rows * tile.cols, (tile.m + tile.n) * tile.k / tile.threads
    return products / (products + tile.k * (tile.rows + tile.cols) / 4 + 15 * fetched + 25)


def _pitch(spec: ConvSpec, tile: Tile) -> int:
    """Number of a group's rows, filled up to whole tiles."""
    return -(-spec.taps // tile.m) * tile.m


@lru_cache(maxsize=1024)
def _best(spec: ConvSpec, machine: Machine) -> tuple[Cut, float]:
    """The division that should be the fastest, and its estimated seconds."""
    found = []
    for tile in _tiles(spec):
        slabs, parts = _slabs(spec, tile), 1
        while parts == 1 or (parts <= MOST_PARTS and slabs >= LEAST * parts):
            share = max(1, -(-slabs // parts))
            cut = Cut(tile, max(1, -(-slabs // share)), share)  # no part is empty
            found.append((cut, _seconds(spec, machine, cut)))
            parts *= 2
    return min(found, key=lambda pair: pair[1])


def _seconds(spec: ConvSpec, machine: Machine, cut: Cut) -> float:
    """Estimated seconds on the multiprocessor with the most blocks, and of adding the parts."""
    tile, parts, share = cut
    most = -(-_blocks(spec, tile) * parts // machine.processors)
    alone = 0.7 if most == 1 else 1.0  # nothing is computed while the only block of a multiprocessor waits
    flops = 2 * tile.m * tile.n * tile.k * share
    rate = machine.flops(spec.acc_dtype) * _share(tile) / machine.processors * alone
    moved = 2 * parts * spec.c_out * _pitch(spec, tile) * spec.acc_dtype.itemsize
    return most * flops / rate + moved / machine.bandwidth


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: launches, the longer of arithmetic and traffic, and a tenth of the shorter, not all hidden."""
    _, arithmetic = _best(spec, machine)
    moved = spec.dtype.itemsize * spec.n * (spec.c_in * spec.h * spec.w + spec.c_out * spec.oh * spec.ow)
    traffic = moved / machine.bandwidth
    launches = 3 + weight_naive.zeros_count(spec)
    return launches * machine.launch + max(arithmetic, traffic) + 0.1 * min(arithmetic, traffic)


def scratch(spec: ConvSpec) -> int:
    (tile, parts, _), _ = _best(spec, this_machine())
    pitch = _pitch(spec, tile)
    return parts * spec.c_out * pitch * spec.acc_dtype.itemsize + 16 * pitch


def run(spec: ConvSpec, x: Tensor, grad: Tensor, out: Tensor, stream: Stream) -> None:
    (tile, parts, share), _ = _best(spec, this_machine())
    channels, pitch, window = spec.c_in // spec.groups, _pitch(spec, tile), (spec.kh, spec.kw)
    if _reach(spec, x) >= 1 << 31:
        x = converted(x, x.dtype, stream, copy=True)
    last = lanes_last(x) and lanes_last(grad)
    table = stream.empty(4 * pitch, np.int32)
    stream.launch(_rows_table(last), -(-pitch // BLOCK), BLOCK, table.pointer, (pitch, spec.taps, channels), window,
                  spec.dilation, x.strides[1:])
    sums = stream.empty(parts * spec.c_out * pitch, spec.acc_dtype)
    panels = -(-(spec.c_out // spec.groups) // tile.n)
    stream.launch(
        _weight_gemm(tile, x.dtype, spec.acc_dtype, last), (_blocks(spec, tile), parts), tile.threads,
        x.pointer, x.strides, grad.pointer, grad.strides, table.pointer, sums.pointer,
        (spec.h, spec.w), (spec.n, spec.oh, spec.ow),
        (_slabs(spec, tile), share, panels, spec.groups, spec.c_out // spec.groups, channels, pitch),
        spec.stride, (spec.padding[0][0], spec.padding[1][0]),
    )
    taps = spec.kh * spec.kw
    add_parts(sums, parts, pitch, (1, channels) if last else (taps, 1), out, stream)
    weight_naive.make_again(spec, x, grad, out, stream)


def _reach(spec: ConvSpec, x: Tensor) -> int:
    """The largest offset in the table."""
    c, h, w = map(abs, x.strides[1:])
    return x.shape[1] * c + (spec.kh - 1) * spec.dilation[0] * h + (spec.kw - 1) * spec.dilation[1] * w


BLOCK = pick(128, 8)


@factory
def _rows_table(last):
    def rows_table(table, sizes, window, dilation, steps):
        (pitch, rows, channels), (kh, kw) = sizes, window
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < pitch:
            c, tap = (at % channels, at // channels) if last else (at // (kh * kw), at % (kh * kw))
            offset, down, across = np.int64(0), np.int64(FAR), np.int64(FAR)
            if at < rows:
                down, across = tap // kw * dilation[0], tap % kw * dilation[1]
                offset = c * steps[0] + down * steps[1] + across * steps[2]
            store4(table, 4 * at, np.int32(offset), np.int32(down), np.int32(across), np.int32(0))

    pair = integers(2)
    return (pointer(np.int32), integers(3), pair, pair, integers(3)), rows_table


@factory
def _weight_gemm(tile, dtype, acc_dtype, last):
    number, load = scalar(acc_dtype), widen(dtype, acc_dtype)
    M, N, K, ROWS, COLS, (LANES_M, LANES_N) = tile
    THREADS = tile.threads
    APART = THREADS // K  # rows or columns that are fetched at a time: each thread has one, of its pixel
    A_EACH, B_EACH = M // APART, N // APART
    A_PITCH, B_PITCH = (M + 16, N + 16) if last else (M + 4, N + 4)
    A_SIZE, B_SIZE = K * A_PITCH, K * B_PITCH
    A_FLIP, B_FLIP = 1 << (A_SIZE - 1).bit_length(), 1 << (B_SIZE - 1).bit_length()
    A_TWICE, B_TWICE = A_FLIP + A_SIZE, B_FLIP + B_SIZE
    ACC = ROWS * COLS
    block_place, lane_place = placement(tile)
    COPIED = dtype == acc_dtype
    copy, arrived = copier(acc_dtype.itemsize), arrival(0)
    multiply4 = multiplier(tile, A_PITCH, B_PITCH)

    # As in `gemm_kernel`, loops over a thread's arrays must be short to be unrolled.

    @inlined
    def copy_rows(a_tile, at, x, table, row, col, h, w):
        for r in range(A_EACH):
            offset, down, across, _ = load4(table, 4 * r * APART)
            copy(a_tile, at + r * APART, x, offset, within(row + down, h) and within(col + across, w))

    @inlined
    def copy_cols(b_tile, at, grad, valid, o, o_group, step):
        for r in range(B_EACH):
            copy(b_tile, at + r * APART, grad, int64(r * APART) * step, valid and o + r * APART < o_group)

    @inlined
    def fetch_rows(x, table, row, col, h, w, held):
        for r in range(A_EACH):
            offset, down, across, _ = load4(table, 4 * r * APART)
            held[r] = 0
            if within(row + down, h) and within(col + across, w):
                held[r] = load(x[offset])

    @inlined
    def fetch_cols(grad, valid, o, o_group, step, held):
        for r in range(B_EACH):
            held[r] = 0
            if valid and o + r * APART < o_group:
                held[r] = load(grad[int64(r * APART) * step])

    @inlined
    def place(slab, at, held, count):
        for r in range(count):
            slab[at + r * APART] = held[r]

    @inlined
    def pixel_place(steps, n, row, col):
        return n * steps[0] + row * steps[2] + col * steps[3]

    @inlined
    def store_rows(sums, at, o, o_group, pitch, acc, r):
        for j in range(COLS):
            if o + j // 4 * 4 * LANES_N + j % 4 < o_group:
                store4(sums, at + (j // 4 * 4 * LANES_N + j % 4) * pitch, acc[r + j], acc[r + COLS + j],
                       acc[r + 2 * COLS + j], acc[r + 3 * COLS + j])

    def weight_gemm(x, x_steps, grad, grad_steps, table, sums, image, outputs, matrix, stride, pad):
        a_tile = cuda.shared.array(A_TWICE, number, 16)  # as in `gemm_kernel`
        b_tile = cuda.shared.array(B_TWICE, number, 16)
        acc = cuda.local.array(ACC, number)
        a, b = cuda.local.array(ROWS, number), cuda.local.array(COLS, number)
        a_held = cuda.local.array(A_EACH, number)
        b_held = cuda.local.array(B_EACH, number)
        h, w = int32(image[0]), int32(image[1])
        images, oh, ow = int32(outputs[0]), int32(outputs[1]), int32(outputs[2])
        panels, groups, o_group = int32(matrix[2]), int32(matrix[3]), int32(matrix[4])
        begin = int32(cuda.blockIdx.y * matrix[1])
        mine = int32(min(matrix[1], matrix[0] - begin))
        t = int32(cuda.threadIdx.x)
        panel, group, first = block_place(int32(cuda.blockIdx.x), panels, groups)

        # This thread fetches pixel (n, i, j) of each slab: every APART-th row and column for it.
        if last:
            k, m = int32(t // APART), int32(t % APART)
        else:
            k, m = int32(t % K), int32(t // K)
        pixel, o = int32(begin * K + k), int32(panel * N + m)
        n, i, j = int32(pixel // ow // oh), int32(pixel // ow % oh), int32(pixel % ow)
        next_n, next_i, next_j = int32(K // ow // oh), int32(K // ow % oh), int32(K % ow)
        x = advance(x, group * matrix[5] * x_steps[1])
        grad = advance(grad, (group * matrix[4] + o) * grad_steps[1])
        table = advance(table, 4 * (first + m))
        for q in range(ACC):
            acc[q] = 0

        a_read, b_read = lane_place(t)
        a_write, b_write = int32(k * A_PITCH + m), int32(k * B_PITCH + m)
        for left in range(mine, int32(-1), int32(-1)):  # slabs that are not multiplied yet, after a round to begin
            if left < mine:
                if not COPIED:
                    place(a_tile, int64(a_write), a_held, A_EACH)
                    place(b_tile, int64(b_write), b_held, B_EACH)
                arrived()
                cuda.syncthreads()
                a_write, b_write = int32(a_write ^ A_FLIP), int32(b_write ^ B_FLIP)
            if left > 0:
                row, col = int32(i * int32(stride[0]) - int32(pad[0])), int32(j * int32(stride[1]) - int32(pad[1]))
                seen = advance(x, pixel_place(x_steps, n, row, col))
                signal = advance(grad, pixel_place(grad_steps, n, i, j))
                valid = n < images
                if not valid:
                    row = int32(-(1 << 29))
                if COPIED:
                    copy_rows(a_tile, int64(a_write), seen, table, row, col, h, w)
                    copy_cols(b_tile, int64(b_write), signal, valid, o, o_group, grad_steps[1])
                    commit()
                else:
                    fetch_rows(seen, table, row, col, h, w, a_held)
                    fetch_cols(signal, valid, o, o_group, grad_steps[1], b_held)
                n, i, j = int32(n + next_n), int32(i + next_i), int32(j + next_j)
                if j >= ow:
                    i, j = int32(i + 1), int32(j - ow)
                if i >= oh:
                    n, i = int32(n + 1), int32(i - oh)
            if left < mine:
                a_at, b_at = int64(a_read), int64(b_read)
                for q in range(0, K, 8):
                    multiply4(a_tile, b_tile, a_at + q * A_PITCH, b_at + q * B_PITCH, a, b, acc)
                    if K > 4:
                        multiply4(a_tile, b_tile, a_at + (q + 4) * A_PITCH, b_at + (q + 4) * B_PITCH, a, b, acc)
                a_read, b_read = int32(a_read ^ A_FLIP), int32(b_read ^ B_FLIP)

        # Computed again rather than kept, as the loop needs the registers.
        panel, group, first = block_place(opaque(int32(cuda.blockIdx.x)), panels, groups)
        a_lane, b_lane = lane_place(opaque(int32(cuda.threadIdx.x)))
        o, pitch = int32(panel * N + b_lane), matrix[6]
        channel = int64(opaque(int32(cuda.blockIdx.y))) * groups * o_group + group * o_group + o
        at = channel * pitch + first + a_lane
        store_rows(sums, at, o, o_group, pitch, acc, 0)
        if ROWS > 4:
            store_rows(sums, at + 4 * LANES_M, o, o_group, pitch, acc, 4 * COLS)

    # Registers: 128 or 168 a thread, as in `gemm_kernel`.
    weight_gemm.launch_bounds = (THREADS, {256: 2, 128: 3}.get(THREADS, 1))
    pair, three, four = integers(2), integers(3), integers(4)
    signature = (pointer(dtype), four, pointer(dtype), four, pointer(np.int32), pointer(acc_dtype), pair, three,
                 integers(7), pair, pair)
    return signature, weight_gemm
