"""The register tile on the arithmetic units: a slab of the sum in shared memory, the next on its way.

A block of threads makes `m` pixels by `n` channels. Slab by slab of `k` products of the sum it (1) starts to load the
next slab of both factors from memory into registers, (2) multiplies the slab that lies in shared memory, (3) puts the
loaded values into the other half of shared memory, and waits for the others. So a load has a whole slab's arithmetic
to arrive.

Multiplying: per value of k a thread loads `rows` + `cols` values, in 128-bit loads, and makes `rows` x `cols`
multiply-adds. Its rows are two runs of four, 4 * lanes apart, so that the lanes of a warp read neighbouring 16 bytes:
no bank conflict. Rows of the pixels' slab are padded by 4, so that neither do the stores conflict when 4 channels of a
pixel come at once.

Fetching: `implicit` explains the four ways. Storing: four pixels or four channels as one 128-bit store where they
follow each other, else one by one. Bias and activation are applied to the sums in registers.

What it changes over `im2col`'s product: no columns; twice the sums a thread; 128-bit loads; the overlap of (1) and (2).

Compiled for compute capability 9.0 (``python -m benchmarks.ptx --only gemm``), float32, the loop over slabs, by SASS:

====================  =========  ================  ===========================  ==========================
tile, gather          registers  blocks a SM       instructions for one slab    of them multiply-adds
====================  =========  ================  ===========================  ==========================
128x128, pixels       128        2 (16 warps)      585                          512 (88%), 2 LDG.128
128x128, vector       128        2 (16 warps)      613                          512 (84%), 3 LDG.128
128x64, quad          143        3 (12 warps)      about 650                    512 (79%), 32 LDS.128
64x64, quad           95         5 (20 warps)      371                          256 (69%), 24 LDS.128
====================  =========  ================  ===========================  ==========================

A processor issues one instruction a cycle and scheduler, so these shares bound what it can reach of the FP32 peak;
shared memory is busy half of the time at most. There is no local memory and no spill. No GPU has run it yet: none is
measured.

Sources: Volkov and Demmel, Benchmarking GPUs to tune dense linear algebra, 2008; Boehm, How to optimize a CUDA matmul
kernel, 2022; Chetlur et al., arXiv:1410.0759, for the gathering.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..spec import ConvSpec
from . import implicit
from .dtypes import narrow, widen
from .implicit import Cut, Packed, cuts, gathering, launch, near, order, pixelwise, storing, zeros
from .machine import Machine
from .ptx import advance, inlined, int32, int64, load4, opaque, store4, within
from .runtime import SIMULATED, Kernel, cuda, factory, integers, pick, pointer, scalar
from .streams import Buffer, Stream, Tensor


class Tile(NamedTuple):
    """A block's share of the output, and a thread's."""

    m: int
    """Pixels of a block."""
    n: int
    """Channels of a block."""
    k: int
    """Products of a slab, what lies in shared memory at once (and once more, being filled)."""
    rows: int
    """Pixels of a thread."""
    cols: int
    """Channels of a thread."""
    lanes: tuple[int, int]
    """Threads of a warp along pixels and channels. (4 by 2 in the simulator, where warps are nothing.)"""

    @property
    def threads(self) -> int:
        return self.m * self.n // (self.rows * self.cols)

    @property
    def share(self) -> float:
        """Multiply-adds among the instructions of the loop over slabs, of which a processor issues one a cycle."""
        products = self.k * self.rows * self.cols
        loads = self.k * (self.rows + self.cols) / 4
        fetched = (self.m + self.n) * self.k / self.threads / 4
        return products / (products + loads + 10 * fetched + 55)


#: 64 sums of a thread are what 128 registers hold beside two vectors of operands and what is on its way; smaller tiles
#: for layers with few channels, or too few pixels to fill the GPU.
_WIDE = (Tile(128, 128, 8, 8, 8, (8, 4)), Tile(128, 64, 8, 8, 8, (8, 4)), Tile(64, 64, 8, 8, 4, (8, 4)),
         Tile(128, 32, 8, 8, 4, (8, 4)))
#: A 64-bit value takes two registers.
_DOUBLE = (Tile(64, 64, 8, 8, 4, (8, 4)),)
#: Several warps of 2 by 2, and one.
_SIMULATED = (Tile(16, 16, 8, 4, 4, (2, 2)), Tile(8, 16, 4, 4, 4, (2, 4)))


def tiles(dtype: np.dtype) -> tuple[Tile, ...]:
    """What there are for sums of a dtype."""
    if SIMULATED:
        return _SIMULATED
    return _WIDE if dtype.itemsize == 4 else _DOUBLE


def seconds(spec: ConvSpec, machine: Machine, cut: Cut) -> float:
    """Estimated time of the arithmetic."""
    return implicit.seconds(spec, machine, cut, cut.tile.k, machine.flops(spec.acc_dtype) * cut.tile.share)


def best(spec: ConvSpec, machine: Machine, *, whole: bool = False) -> Cut:
    """What should be the fastest; for `whole` sums only, if asked for.

    Those are products of transformed tiles, which need no table. The largest tile has no register left for one.
    """
    able = tiles(spec.acc_dtype)
    found = [cut for tile in (able if whole else able[-3:]) for cut in cuts(spec, (tile,), tile.k)]
    return min((cut for cut in found if cut.parts == 1 or not whole), key=lambda cut: seconds(spec, machine, cut))


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream, cut: Cut) -> Packed:
    """Weights as panels of a tile's channels, slab after slab, zeros where there are none."""
    channels, how, tile = spec.c_out // spec.groups, order(spec), cut.tile
    panels, slabs = -(-channels // tile.n), -(-how.depth // tile.k)
    rows = spec.groups * panels * slabs * tile.k
    packed = stream.empty(rows * tile.n, spec.acc_dtype)
    stream.launch(_pack(tile.n, weight.dtype, spec.acc_dtype), -(-rows // PACK_BLOCK), PACK_BLOCK,
                  weight.pointer, weight.strides, packed.pointer, (rows, panels, slabs * tile.k, channels),
                  (how.depth, how.block, spec.kh, spec.kw))
    return Packed(packed, cut, how, tile.k, slabs, panels, 4, zeros(spec, cut, stream), {})


PACK_BLOCK = pick(128, 8)


@factory
def _pack(n, dtype, acc_dtype):
    number, load = scalar(acc_dtype), widen(dtype, acc_dtype)

    def pack(weight, steps, packed, sizes, taps):
        (rows, panels, length, channels), (depth, block, kh, kw) = sizes, taps
        row = np.int64(cuda.blockIdx.x) * PACK_BLOCK + cuda.threadIdx.x
        if row < rows:
            k, panel, group = row % length, row // length % panels, row // length // panels
            c = k // block // kw // kh * block + k % block
            at = group * channels * steps[0] + c * steps[1]
            at += k // block // kw % kh * steps[2] + k // block % kw * steps[3]
            for i in range(n):
                o = panel * n + i
                value = number(0)
                if o < channels and k < depth:
                    value = load(weight[at + o * steps[0]])
                packed[row * n + i] = value

    return (pointer(dtype), integers(4), pointer(acc_dtype), integers(4), integers(4)), pack


def run(
    spec: ConvSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream, *,
    pixels: bool = False, group_steps: tuple[int, int] | None = None,
) -> None:
    """Launch the product. `pixels` allows loads of four pixels; `group_steps` are from one group to the next, in x and
    out, where they are not what the channels' steps say."""
    x = near(x, stream)
    gather = "pixels" if pixels and pixelwise(spec, x) else gathering(packed.order, x)
    offsets = packed.table(spec, x, stream).pointer if gather != "pixels" else bias.pointer

    def kernel(dtype: np.dtype, target: Tensor) -> Kernel:
        return gemm(packed.cut.tile, x.dtype, spec.acc_dtype, dtype, gather, storing(spec, target))

    launch(kernel, spec, x, packed, offsets, bias, out, stream, group_steps)


# -- kernels -------------------------------------------------------------------------------------------------


@factory
def gemm(tile, x_dtype, acc_dtype, out_dtype, gather, store):
    number, load, narrowed = scalar(acc_dtype), widen(x_dtype, acc_dtype), narrow(out_dtype)
    M, N, K, ROWS, COLS, (LANES_M, LANES_N) = tile
    THREADS = tile.threads
    PITCH = M + 4
    WARPS_M, LANES = M // (LANES_M * ROWS), LANES_M * LANES_N
    PARTS = THREADS // M
    QUADS = M * K // 4 // THREADS
    B_QUADS = -(-N * K // 4 // THREADS)
    B_EXACT = N * K // 4 % THREADS == 0
    A_SIZE, B_SIZE = K * PITCH, K * N
    A_FLIP, B_FLIP = 1 << (A_SIZE - 1).bit_length(), 1 << (B_SIZE - 1).bit_length()
    A_TWICE, B_TWICE = A_FLIP + A_SIZE, B_FLIP + B_SIZE
    A_HELD, B_HELD, ACC = 4 * QUADS, 4 * B_QUADS, ROWS * COLS
    SINGLE, VECTOR, PIXELS = gather == "single", gather == "vector", gather == "pixels"
    STORE_PIXELS, STORE_CHANNELS = store == "pixels", store == "channels"
    RUN = M // 4
    ENTRIES = 4 if SINGLE else 1  # for four values of k; each has four words

    # Loops over arrays of a thread must be unrolled, or these lie in memory; LLVM unrolls short bodies only. Therefore
    # `multiply4` is no loop, and `store_rows` is called twice.

    @inlined
    def fetch_a(x, table, row, col, h, w, step, held):
        for q in range(QUADS):
            if SINGLE:
                for i in range(4):
                    offset, down, across, _ = load4(table, int32(16 * q * PARTS + 4 * i))
                    held[4 * q + i] = 0
                    if within(row + down, h) and within(col + across, w):
                        held[4 * q + i] = load(x[offset])
            else:
                offset, down, across, _ = load4(table, int32(4 * q * PARTS))
                for i in range(4):
                    held[4 * q + i] = 0
                if within(row + down, h) and within(col + across, w):
                    if VECTOR:
                        a, b, c, d = load4(x, offset)
                    else:
                        at = int64(offset)
                        a = x[at]
                        b = x[at + step]
                        c = x[at + 2 * step]
                        d = x[at + 3 * step]
                    held[4 * q], held[4 * q + 1] = load(a), load(b)
                    held[4 * q + 2], held[4 * q + 3] = load(c), load(d)

    @inlined
    def fetch_pixels(x, valid, k, depth, step, held):
        for q in range(QUADS):
            a, b, c, d = number(0), number(0), number(0), number(0)
            if valid and k + q * (THREADS // RUN) < depth:
                a, b, c, d = load4(x, int64(q * (THREADS // RUN)) * step)
            held[4 * q], held[4 * q + 1], held[4 * q + 2], held[4 * q + 3] = load(a), load(b), load(c), load(d)

    @inlined
    def fetch(x, step, table, row, col, h, w, valid, k, depth, held):
        if PIXELS:
            fetch_pixels(x, valid, k, depth, step, held)
        else:
            fetch_a(x, table, row, col, h, w, int32(step), held)

    @inlined
    def fetch_b(weight, t, held):
        for q in range(B_QUADS):
            if B_EXACT or q * THREADS + t < B_SIZE // 4:
                at = int32(4 * q * THREADS)
                held[4 * q], held[4 * q + 1], held[4 * q + 2], held[4 * q + 3] = load4(weight, at)

    @inlined
    def place_a(a_tile, at, held):
        for q in range(QUADS):
            if PIXELS:
                store4(a_tile, at + q * (THREADS // RUN) * PITCH,
                       held[4 * q], held[4 * q + 1], held[4 * q + 2], held[4 * q + 3])
            else:
                for i in range(4):
                    a_tile[at + (4 * q * PARTS + i) * PITCH] = held[4 * q + i]

    @inlined
    def place_b(b_tile, at, t, held):
        for q in range(B_QUADS):
            if B_EXACT or q * THREADS + t < B_SIZE // 4:
                store4(b_tile, at + 4 * q * THREADS,
                       held[4 * q], held[4 * q + 1], held[4 * q + 2], held[4 * q + 3])

    @inlined
    def multiply(a_tile, b_tile, a_at, b_at, acc):
        a = cuda.local.array(ROWS, number)
        b = cuda.local.array(COLS, number)
        for i in range(0, ROWS, 4):
            a[i], a[i + 1], a[i + 2], a[i + 3] = load4(a_tile, a_at + i * LANES_M)
        for j in range(0, COLS, 4):
            b[j], b[j + 1], b[j + 2], b[j + 3] = load4(b_tile, b_at + j * LANES_N)
        for i in range(ROWS):
            for j in range(COLS):
                acc[i * COLS + j] += a[i] * b[j]

    @inlined
    def multiply4(a_tile, b_tile, a_at, b_at, acc):
        multiply(a_tile, b_tile, a_at, b_at, acc)
        multiply(a_tile, b_tile, a_at + PITCH, b_at + N, acc)
        multiply(a_tile, b_tile, a_at + 2 * PITCH, b_at + 2 * N, acc)
        multiply(a_tile, b_tile, a_at + 3 * PITCH, b_at + 3 * N, acc)

    @inlined
    def finish(bias, floor, channel, o_group, acc):
        for j in range(COLS):
            o = int32(channel + j // 4 * 4 * LANES_N + j % 4)
            added = bias[o] if o < o_group else number(0)
            for i in range(ROWS):
                value = acc[i * COLS + j] + added
                acc[i * COLS + j] = floor if value < floor else value

    @inlined
    def place_of(out_steps, pixel, plane, ow):
        n, at = int32(pixel // plane), int32(pixel % plane)
        return n * out_steps[0] + int32(at // ow) * out_steps[2] + int32(at % ow) * out_steps[3]

    @inlined
    def store_rows(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, r):
        if STORE_PIXELS:
            if pixel < pixels:
                place = place_of(out_steps, pixel, plane, ow)
                for j in range(COLS):
                    o = int32(channel + j // 4 * 4 * LANES_N + j % 4)
                    if o < o_group:
                        store4(out, place + o * out_steps[1], narrowed(acc[r + j]), narrowed(acc[r + COLS + j]),
                               narrowed(acc[r + 2 * COLS + j]), narrowed(acc[r + 3 * COLS + j]))
        else:
            for i in range(4):
                if pixel + i < pixels:
                    place = place_of(out_steps, int32(pixel + i), plane, ow)
                    if STORE_CHANNELS:
                        for j in range(0, COLS, 4):
                            o = int32(channel + j * LANES_N)
                            if o < o_group:
                                q = r + i * COLS + j
                                store4(out, place + o, narrowed(acc[q]), narrowed(acc[q + 1]), narrowed(acc[q + 2]),
                                       narrowed(acc[q + 3]))
                    else:
                        for j in range(COLS):
                            o = int32(channel + j // 4 * 4 * LANES_N + j % 4)
                            if o < o_group:
                                out[place + o * out_steps[1]] = narrowed(acc[r + i * COLS + j])

    @inlined
    def block_place(block, panels, groups):
        return int32(block % panels), int32(block // panels % groups), int32(block // panels // groups * M)

    @inlined
    def lane_place(t):
        warp, lane = int32(t // LANES), int32(t % LANES)
        return (int32(warp % WARPS_M * LANES_M * ROWS + lane % LANES_M * 4),
                int32(warp // WARPS_M * LANES_N * COLS + lane // LANES_M * 4))

    def implicit_gemm(x, x_steps, weight, table, bias, floor, out, out_steps, image, grid, matrix, stride, pad):
        a_tile = cuda.shared.array(A_TWICE, number)
        b_tile = cuda.shared.array(B_TWICE, number)
        acc = cuda.local.array(ACC, number)
        a_held = cuda.local.array(A_HELD, number)
        b_held = cuda.local.array(B_HELD, number)
        h, w = int32(image[0]), int32(image[1])
        pixels, oh, ow = int32(grid[0]), int32(grid[1]), int32(grid[2])
        depth, slabs, panels = int32(matrix[0]), int32(matrix[1]), int32(matrix[2])
        groups, o_group = int32(matrix[3]), int32(matrix[4])
        begin = int32(cuda.blockIdx.y * matrix[7])
        mine = int32(min(matrix[7], slabs - begin))
        t = int32(cuda.threadIdx.x)
        panel, group, first = block_place(int32(cuda.blockIdx.x), panels, groups)
        plane = int32(oh * ow)

        # What this thread fetches: of one pixel some taps, or of one tap four pixels.
        if PIXELS:
            m, part = int32(t % RUN * 4), int32(t // RUN)
            a_place = int32(part * PITCH + m)
        elif VECTOR:
            m, part = int32(t // PARTS), int32(t % PARTS)
            a_place = int32(4 * part * PITCH + m)
        else:
            m, part = int32(t % M), int32(t // M)
            a_place = int32(4 * part * PITCH + m)
        pixel = int32(first + m)
        valid = pixel < pixels
        n, at = int32(pixel // plane), int32(pixel % plane)
        x = advance(x, n * x_steps[0] + group * matrix[5])
        row = int32(at // ow * int32(stride[0]) - int32(pad[0]))
        col = int32(at % ow * int32(stride[1]) - int32(pad[1]))
        if PIXELS:
            x = advance(x, at + (begin * K + part) * x_steps[1])
        else:
            x = advance(x, row * x_steps[2] + col * x_steps[3])
            table = advance(table, ENTRIES * (begin * K + 4 * part))
            if not valid:
                row = int32(-(1 << 29))
        weight = advance(weight, (int64(group * panels + panel) * slabs + begin) * B_SIZE + 4 * t)
        for i in range(ACC):
            acc[i] = 0

        a_lane, b_lane = lane_place(t)
        a_read, b_read, a_write, b_write = a_lane, b_lane, a_place, int32(4 * t)
        k = int32(begin * K + part)
        fetch(x, x_steps[1], table, row, col, h, w, valid, k, depth, a_held)
        fetch_b(weight, t, b_held)
        place_a(a_tile, int64(a_write), a_held)
        place_b(b_tile, int64(b_write), t, b_held)
        cuda.syncthreads()
        for left in range(int32(mine - 1), int32(-1), int32(-1)):  # slabs after the one that is multiplied
            a_write, b_write = int32(a_write ^ A_FLIP), int32(b_write ^ B_FLIP)
            if left > 0:
                if PIXELS:
                    x = advance(x, K * x_steps[1])
                    k = int32(k + K)
                else:
                    table = advance(table, ENTRIES * K)
                weight = advance(weight, B_SIZE)
                fetch(x, x_steps[1], table, row, col, h, w, valid, k, depth, a_held)
                fetch_b(weight, t, b_held)
            a_at, b_at = int64(a_read), int64(b_read)
            for i in range(0, K, 8):
                multiply4(a_tile, b_tile, a_at + i * PITCH, b_at + i * N, acc)
                if K > 4:
                    multiply4(a_tile, b_tile, a_at + (i + 4) * PITCH, b_at + (i + 4) * N, acc)
            if left > 0:
                place_a(a_tile, int64(a_write), a_held)
                place_b(b_tile, int64(b_write), t, b_held)
            a_read, b_read = int32(a_read ^ A_FLIP), int32(b_read ^ B_FLIP)
            cuda.syncthreads()

        # Found again rather than kept: the loop needs their registers.
        panel, group, first = block_place(opaque(int32(cuda.blockIdx.x)), panels, groups)
        a_lane, b_lane = lane_place(opaque(int32(cuda.threadIdx.x)))
        channel = int32(panel * N + b_lane)
        out = advance(out, group * matrix[6] + opaque(int32(cuda.blockIdx.y)) * matrix[8])
        plane = int32(opaque(int32(grid[1])) * ow)
        bias = advance(bias, group * o_group)
        finish(bias, floor, channel, o_group, acc)
        pixel = int32(first + a_lane)
        store_rows(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, 0)
        if ROWS > 4:
            store_rows(out, out_steps, int32(pixel + 4 * LANES_M), pixels, plane, ow, channel, o_group, acc, 4 * COLS)

    # Registers: 65536 of a multiprocessor, 128 a thread where 256 threads share a tile, 168 where 128 do.
    implicit_gemm.launch_bounds = (THREADS, {256: 2, 128: 3}.get(THREADS, 1))
    pair = integers(2)
    signature = (pointer(x_dtype), integers(4), pointer(acc_dtype), pointer(np.int32), pointer(acc_dtype), number,
                 pointer(out_dtype), integers(4), pair, integers(3), integers(9), pair, pair)
    return signature, implicit_gemm
