"""The warp tile on tensor cores: what `gemm_tile` does, with `mma.sync` in place of multiply-adds.

A word is four bytes along k: one float32, two halves or four 8-bit integers; one instruction multiplies 16 rows by 8
words with 8 words by 8 columns, whatever is in them, and so does this file. A slab is 16 words: two such steps.

Which factor is which: weights are the instruction's A (16 channels), pixels its B (8 pixels). A lane wants four words
of A from two rows, and weights can be packed so that these follow each other; of B it wants two words of one pixel,
which do so when k is permuted: lane t takes words 4t to 4t + 3 of a pixel, two for each step, in one 128-bit load. The
weights are permuted alike, and a sum does not mind its order. Pixels are 16 words in shared memory; their 4 quads are
swapped by ``q ^ (pixel // 2) % 4``, so that neither storing nor loading 128 bits meets a bank conflict.

Precisions of float32 operands: "tf32" rounds both to 10 bits of fraction on their way to shared memory (to nearest).
"tf32x3" keeps all, and splits each value that a lane has loaded into a TF32 number and the rest, which is exact and of
which the cores see 10 more bits; big * big + big * small + small * big are three products, each summed in float32. The
fourth is below float32's rounding. Infinities become NaN, as infinity has no rest. float16 and bfloat16 are multiplied
exactly and summed in float32, 8-bit integers exactly in int32.

Compiled for compute capability 9.0 (``python -m benchmarks.ptx --only gemm``), channels by four, the loop over slabs:

=====================  =========  =============  =============================================
tile, precision        registers  blocks a SM    instructions for one slab
=====================  =========  =============  =============================================
128x128, tf32, quad    244        2 (8 warps)    275: 64 HMMA, 16 LDS.128, 16 LDG
128x128, f16, vector   242        2 (8 warps)    193: 64 HMMA, 16 LDS.128, 12 LDG.128
128x64, tf32x3, quad   159        3 (12 warps)   390: 96 HMMA, 12 LDS.128, 137 to split
=====================  =========  =============  =============================================

No spill, no local memory. What bounds it should be shared memory: for one slab the four warps of a block load 32 KB,
256 cycles, and 64 HMMA a warp take as long at an H100's full TF32 rate. No GPU has run it yet: none of this is
measured.

Sources: NVIDIA, PTX ISA, mma.sync; Ootomo and Yokota, Recovering single precision accuracy from tensor cores,
arXiv:2203.03341.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from ..checks import BFLOAT16
from ..spec import ConvSpec
from . import implicit
from .dtypes import narrow
from .implicit import Cut, Packed, cuts, gathering, launch, near, order, zeros
from .machine import Machine
from .ptx import advance, inlined, int32, int64, load4, load_words, mma, opaque, split, store4, tf32, within, word
from .ptx import number as as_float
from .runtime import SIMULATED, Kernel, cuda, factory, integers, pick, pointer, scalar, storage
from .streams import Buffer, Stream, Tensor

#: Words of a slab, along k: two steps of the tensor cores.
SLAB = 16


class Tile(NamedTuple):
    """A block's share of the output, and a warp's."""

    m: int
    """Pixels of a block."""
    n: int
    """Channels of a block."""
    warp_m: int
    """Pixels of a warp, in steps of 8."""
    warp_n: int
    """Channels of a warp, in steps of 16."""

    @property
    def threads(self) -> int:
        return 32 * (self.m // self.warp_m) * (self.n // self.warp_n)


#: 128, 64 and 32 sums a thread.
_TILES = (Tile(128, 128, 64, 64), Tile(128, 64, 32, 64), Tile(64, 64, 32, 32))
_SIMULATED = (Tile(8, 16, 8, 16), Tile(32, 16, 16, 16), Tile(32, 32, 32, 32))


def tiles(split_in_two: bool) -> tuple[Tile, ...]:
    """What there are."""
    if SIMULATED:
        return _SIMULATED
    return _TILES[1:] if split_in_two else _TILES  # the parts of what is split need registers, too


def kind_of(spec: ConvSpec) -> str | None:
    """What the tensor cores would multiply, or None where they cannot."""
    if spec.dtype == np.float32:
        return "tf32" if spec.precision != "float32" else None
    if spec.dtype == BFLOAT16:
        return "bf16"
    return {"float16": "f16", "int8": "s8", "uint8": "u8", "bool": "u8"}.get(spec.dtype.name)


def _slab(spec: ConvSpec) -> int:
    """Values of k in a slab."""
    return SLAB * 4 // storage(spec.dtype).itemsize


def seconds(spec: ConvSpec, machine: Machine, cut: Cut) -> float:
    """Estimated time of the arithmetic."""
    rate = machine.flops(np.float32, "tf32") * _slab(spec) / SLAB / (3 if spec.precision == "tf32x3" else 1)
    # `mma.sync` reaches some 60% of what Hopper's `wgmma` does; smaller tiles load more words a product.
    share = 0.5 * {4096: 1.0, 2048: 0.85}.get(cut.tile.warp_m * cut.tile.warp_n, 0.6)
    return implicit.seconds(spec, machine, cut, _slab(spec), rate * share)


def best(spec: ConvSpec, machine: Machine) -> Cut:
    """What should be the fastest."""
    able = tiles(spec.precision == "tf32x3")
    if spec.dtype.itemsize == 1 and not order(spec, _slab(spec) // 4).quad:
        able = able[-1:]  # looking up 16 bytes one by one takes registers
    found = cuts(spec, able, _slab(spec))
    return min(found, key=lambda cut: seconds(spec, machine, cut))


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream, cut: Cut) -> Packed:
    """Weights as the lanes read them: for 16 channels and 8 words along k, each lane's four words; slab after slab."""
    kind, tile, slab = kind_of(spec), cut.tile, _slab(spec)
    channels, how = spec.c_out // spec.groups, order(spec, slab // 4)
    panels, slabs = -(-channels // tile.n), -(-how.depth // slab)
    lanes = spec.groups * panels * slabs * tile.n * SLAB // 4
    packed = stream.empty(4 * lanes, np.int32)
    stream.launch(_pack(tile.n, kind, spec.precision == "tf32x3", weight.dtype), -(-lanes // PACK_BLOCK), PACK_BLOCK,
                  weight.pointer, weight.strides, packed.pointer, (lanes, panels, slabs, channels),
                  (how.depth, how.block, spec.kh, spec.kw))
    return Packed(packed, cut, how, slab, slabs, panels, slab // 4, zeros(spec, cut, stream), {})


PACK_BLOCK = pick(128, 8)


def _bits(kind, split_in_two, dtype):
    """The function that makes an element the bits that the tensor cores take, in a word's lowest."""
    mask = (1 << 8 * storage(dtype).itemsize) - 1
    whole, rounds = kind == "tf32", not split_in_two

    @inlined
    def bits(value):
        if whole:
            return tf32(value) if rounds else word(value)
        return int32(value) & mask

    return bits


@factory
def _pack(n, kind, split_in_two, dtype):
    per_word = 4 // storage(dtype).itemsize
    width, lanes_of_slab, bits = 8 * storage(dtype).itemsize, n * SLAB // 4, _bits(kind, split_in_two, dtype)

    def pack(weight, steps, packed, sizes, taps):
        (lanes, panels, slabs, channels), (depth, block, kh, kw) = sizes, taps
        at = np.int64(cuda.blockIdx.x) * PACK_BLOCK + cuda.threadIdx.x
        if at < lanes:
            inner, outer = at % lanes_of_slab, at // lanes_of_slab
            lane, step, slab = inner % 32, inner // 32 % 2, outer % slabs
            panel, group = outer // slabs % panels, outer // slabs // panels
            for r in range(4):
                o = panel * n + inner // 64 * 16 + lane // 4 + r % 2 * 8
                value = 0
                for e in range(per_word):
                    k = (slab * SLAB + 4 * (lane % 4) + 2 * step + r // 2) * per_word + e
                    if o < channels and k < depth:
                        c = k // block // kw // kh * block + k % block
                        place = c * steps[1] + k // block // kw % kh * steps[2] + k // block % kw * steps[3]
                        value |= bits(weight[(group * channels + o) * steps[0] + place]) << (width * e)
                packed[4 * at + r] = int32(value)

    return (pointer(dtype), integers(4), pointer(np.int32), integers(4), integers(4)), pack


def run(spec: ConvSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream) -> None:
    """Launch the product."""
    x = near(x, stream)
    gather = gathering(packed.order, x, packed.unit)

    def kernel(dtype: np.dtype, target: Tensor) -> Kernel:
        split_in_two = spec.precision == "tf32x3"
        return warp_gemm(packed.cut.tile, kind_of(spec), split_in_two, x.dtype, spec.acc_dtype, dtype, gather)

    launch(kernel, spec, x, packed, packed.table(spec, x, stream).pointer, bias, out, stream)


# -- kernels -------------------------------------------------------------------------------------------------


@factory
def warp_gemm(tile, kind, split_in_two, x_dtype, acc_dtype, out_dtype, gather):
    number, narrowed, step = scalar(acc_dtype), narrow(out_dtype), mma(kind, scalar(acc_dtype))
    M, N, WARP_M, WARP_N = tile
    THREADS, WARPS_M = tile.threads, M // WARP_M
    PARTS = THREADS // M
    QUADS, B_QUADS = 4 // PARTS, -(-4 * N // THREADS)
    B_EXACT = 4 * N % THREADS == 0
    A_SIZE, B_SIZE = M * SLAB, N * SLAB
    A_TWICE, B_TWICE = 2 * A_SIZE, 2 * B_SIZE
    HELD, B_HELD = 4 * QUADS, 4 * B_QUADS
    WIDE, TALL = WARP_M // 8, WARP_N // 16
    ACC, P_WORDS = 4 * TALL * WIDE, 4 * WIDE
    SINGLE, VECTOR = gather == "single", gather == "vector"
    FLOAT, SPLIT = kind == "tf32", split_in_two
    PER_WORD = 4 // storage(x_dtype).itemsize
    UNIT, BITS, bits = 4 * PER_WORD, 8 * storage(x_dtype).itemsize, _bits(kind, split_in_two, x_dtype)
    ENTRIES = UNIT if SINGLE else 1  # of a quad

    # As in `gemm_tile`, loops over arrays of a thread must be short to be unrolled; hence all the `store_pair`.

    @inlined
    def rounded(value):
        return tf32(as_float(value)) if FLOAT and not SPLIT else value

    @inlined
    def fetch_a(x, table, row, col, h, w, step, held):
        for q in range(QUADS):
            for i in range(4):
                held[4 * q + i] = 0
            if SINGLE:
                for i in range(4):
                    for e in range(PER_WORD):
                        offset, down, across, _ = load4(table, 4 * (UNIT * q + PER_WORD * i + e))
                        if within(row + down, h) and within(col + across, w):
                            held[4 * q + i] |= int32(bits(x[offset]) << (BITS * e))
            else:
                offset, down, across, _ = load4(table, 4 * q)
                if within(row + down, h) and within(col + across, w):
                    if VECTOR:
                        a, b, c, d = load_words(x, offset)
                        held[4 * q], held[4 * q + 1] = rounded(a), rounded(b)
                        held[4 * q + 2], held[4 * q + 3] = rounded(c), rounded(d)
                    else:
                        at = int64(offset)
                        for i in range(4):
                            for e in range(PER_WORD):
                                held[4 * q + i] |= int32(bits(x[at]) << (BITS * e))
                                at += step

    @inlined
    def fetch_b(weight, t, held):
        for q in range(B_QUADS):
            if B_EXACT or q * THREADS + t < B_SIZE // 4:
                held[4 * q], held[4 * q + 1], held[4 * q + 2], held[4 * q + 3] = load4(weight, 4 * q * THREADS)

    @inlined
    def place_a(a_tile, at, held):
        for q in range(QUADS):
            store4(a_tile, at ^ (4 * q), held[4 * q], held[4 * q + 1], held[4 * q + 2], held[4 * q + 3])

    @inlined
    def place_b(b_tile, at, t, held):
        for q in range(B_QUADS):
            if B_EXACT or q * THREADS + t < B_SIZE // 4:
                store4(b_tile, at + 4 * q * THREADS, held[4 * q], held[4 * q + 1], held[4 * q + 2], held[4 * q + 3])

    @inlined
    def products(a0, a1, a2, a3, b0, b1, at, acc):
        c0, c1, c2, c3 = acc[at], acc[at + 1], acc[at + 2], acc[at + 3]
        if SPLIT:
            a0, s0 = split(a0)
            a1, s1 = split(a1)
            a2, s2 = split(a2)
            a3, s3 = split(a3)
            b0, t0 = split(b0)
            b1, t1 = split(b1)
            c0, c1, c2, c3 = step(s0, s1, s2, s3, b0, b1, c0, c1, c2, c3)
            c0, c1, c2, c3 = step(a0, a1, a2, a3, t0, t1, c0, c1, c2, c3)
        c0, c1, c2, c3 = step(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3)
        acc[at], acc[at + 1], acc[at + 2], acc[at + 3] = c0, c1, c2, c3

    @inlined
    def multiply(pixel_tile, weight_tile, p_at, w_at, acc):
        b = cuda.local.array(P_WORDS, types.int32)
        for j in range(WIDE):
            b[4 * j], b[4 * j + 1], b[4 * j + 2], b[4 * j + 3] = load4(pixel_tile, p_at + j * 8 * SLAB)
        for i in range(TALL):
            for r in range(2):
                a0, a1, a2, a3 = load4(weight_tile, w_at + 256 * i + 128 * r)
                for j in range(WIDE):
                    products(a0, a1, a2, a3, b[4 * j + 2 * r], b[4 * j + 2 * r + 1], 4 * (i * WIDE + j), acc)

    @inlined
    def block_place(block, panels, groups):
        return int32(block % panels), int32(block // panels % groups), int32(block // panels // groups * M)

    @inlined
    def warp_place(t):
        warp = int32(t // 32)
        return int32(warp % WARPS_M * WARP_M), int32(warp // WARPS_M * WARP_N)

    @inlined
    def place_of(out_steps, pixel, plane, ow):
        n, at = int32(pixel // plane), int32(pixel % plane)
        return n * out_steps[0] + int32(at // ow) * out_steps[2] + int32(at % ow) * out_steps[3]

    @inlined
    def finish(bias, floor, channel, o_group, acc):
        for i in range(TALL):
            for half in range(2):
                o = int32(channel + 16 * i + 8 * half)
                added = bias[o] if o < o_group else number(0)
                for j in range(WIDE):
                    for e in range(2):
                        value = acc[4 * (i * WIDE + j) + 2 * half + e] + added
                        acc[4 * (i * WIDE + j) + 2 * half + e] = floor if value < floor else value

    @inlined
    def store_pair(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, j):
        for e in range(2):
            if pixel + 8 * j + e < pixels:
                place = place_of(out_steps, int32(pixel + 8 * j + e), plane, ow)
                for i in range(TALL):
                    for half in range(2):
                        o = int32(channel + 16 * i + 8 * half)
                        if o < o_group:
                            out[place + o * out_steps[1]] = narrowed(acc[4 * (i * WIDE + j) + 2 * half + e])

    def implicit_warp_gemm(x, x_steps, weight, table, bias, floor, out, out_steps, image, grid, matrix, stride, pad):
        a_tile = cuda.shared.array(A_TWICE, types.int32)
        b_tile = cuda.shared.array(B_TWICE, types.int32)
        acc = cuda.local.array(ACC, number)
        held = cuda.local.array(HELD, types.int32)
        b_held = cuda.local.array(B_HELD, types.int32)
        h, w = int32(image[0]), int32(image[1])
        pixels, oh, ow = int32(grid[0]), int32(grid[1]), int32(grid[2])
        slabs, panels, groups, o_group = int32(matrix[1]), int32(matrix[2]), int32(matrix[3]), int32(matrix[4])
        begin = int32(cuda.blockIdx.y * matrix[7])
        mine = int32(min(matrix[7], slabs - begin))
        t = int32(cuda.threadIdx.x)
        panel, group, first = block_place(int32(cuda.blockIdx.x), panels, groups)
        plane, step_c = int32(oh * ow), int32(x_steps[1])

        if VECTOR:
            m, part = int32(t // PARTS), int32(t % PARTS * QUADS)
        else:
            m, part = int32(t % M), int32(t // M * QUADS)
        pixel = int32(first + m)
        n, at = int32(pixel // plane), int32(pixel % plane)
        row = int32(at // ow * int32(stride[0]) - int32(pad[0]))
        col = int32(at % ow * int32(stride[1]) - int32(pad[1]))
        x = advance(x, n * x_steps[0] + group * matrix[5] + row * x_steps[2] + col * x_steps[3])
        if pixel >= pixels:
            row = int32(-(1 << 29))
        table = advance(table, 4 * ENTRIES * (4 * begin + part))
        weight = advance(weight, (int64(group * panels + panel) * slabs + begin) * B_SIZE + 4 * t)
        for i in range(ACC):
            acc[i] = 0

        warp_m, warp_n = warp_place(t)
        lane = int32(t % 32)
        a_read = int32(A_SIZE + (warp_m + lane // 4) * SLAB + 4 * (lane % 4 ^ lane // 8))
        b_read = int32(B_SIZE + warp_n * SLAB + 4 * lane)
        a_write, b_write = int32(m * SLAB + 4 * (part ^ m // 2 % 4)), int32(4 * t)
        for slab in range(int32(0), int32(mine + 1)):
            if slab < mine:
                fetch_a(x, table, row, col, h, w, step_c, held)
                table = advance(table, 16 * ENTRIES)
                fetch_b(weight, t, b_held)
                weight = advance(weight, B_SIZE)
            if slab > 0:
                multiply(a_tile, b_tile, int64(a_read), int64(b_read), acc)
            if slab < mine:
                place_a(a_tile, a_write, held)
                place_b(b_tile, int64(b_write), t, b_held)
            a_read, b_read = int32(a_read ^ A_SIZE), int32(b_read ^ B_SIZE)
            a_write, b_write = int32(a_write ^ A_SIZE), int32(b_write ^ B_SIZE)
            cuda.syncthreads()

        panel, group, first = block_place(opaque(int32(cuda.blockIdx.x)), panels, groups)
        t = opaque(int32(cuda.threadIdx.x))
        warp_m, warp_n = warp_place(t)
        channel, pixel = int32(panel * N + warp_n + t % 32 // 4), int32(first + warp_m + t % 4 * 2)
        out = advance(out, group * matrix[6] + cuda.blockIdx.y * matrix[8])
        bias = advance(bias, group * o_group)
        finish(bias, floor, channel, o_group, acc)
        store_pair(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, 0)
        if WIDE > 1:
            store_pair(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, 1)
        if WIDE > 2:
            store_pair(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, 2)
            store_pair(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, 3)
        if WIDE > 4:
            store_pair(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, 4)
            store_pair(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, 5)
            store_pair(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, 6)
            store_pair(out, out_steps, pixel, pixels, plane, ow, channel, o_group, acc, 7)

    implicit_warp_gemm.launch_bounds = (THREADS, 2 if WARP_M * WARP_N == 4096 else 3)
    pair = integers(2)
    signature = (pointer(x_dtype), integers(4), pointer(np.int32), pointer(np.int32), pointer(acc_dtype), number,
                 pointer(out_dtype), integers(4), pair, integers(3), integers(9), pair, pair)
    return signature, implicit_warp_gemm
