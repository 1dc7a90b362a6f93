"""The kernel of `shared.mma`: a ring of slabs in shared memory, which copies fill while tensor cores multiply.

The weights of a slab, and pixels whose 16 bytes follow each other in memory ("vector"), are copied to shared memory
without passing through registers (`cp.async`), two slabs before they are multiplied. Other pixels are put together in
registers, one slab before. A round of the loop: (1) wait until the copies of this slab have arrived, for all threads
(the only barrier; behind it nobody reads the slab before, whose place is free); (2) start the copies for the slab after
the next; (3) multiply.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ..system.kernels import cuda, factory, integers, pointer, scalar, storage
from .elements import narrow
from .ptx import (
    advance,
    arrival,
    commit,
    copier,
    inlined,
    int32,
    int64,
    load4,
    mma,
    opaque,
    split,
    store4,
    tf32,
    within,
    word,
)
from .ptx import number as as_float

#: Words of a slab along k: two steps of the tensor cores.
SLAB = 16
#: Slabs in shared memory: one is multiplied, two are being copied. A block multiplies a slab in some 500 cycles, about
#: as long as memory takes to answer, and two or three blocks share a multiprocessor.
STAGES = 3


def element_bits(kind, halves, dtype):
    """Make the function that converts an element to the bits that tensor cores take, the lowest ones of a word."""
    mask = (1 << 8 * storage(dtype).itemsize) - 1
    whole, rounds = kind == "tf32", halves == 1

    @inlined
    def bits(value):
        if whole:
            return tf32(value) if rounds else word(value)
        return int32(value) & mask

    return bits


@factory
def warp_gemm(tile, kind, halves, x_dtype, acc_dtype, out_dtype, gather):
    number, narrowed, step = scalar(acc_dtype), narrow(out_dtype), mma(kind, scalar(acc_dtype))
    M, N, WARP_M, WARP_N = tile
    THREADS, WARPS_M = tile.threads, M // WARP_M
    PARTS = THREADS // M
    QUADS, B_QUADS = 4 // PARTS, -(-4 * N * halves // THREADS)
    A_SIZE, B_SIZE = M * SLAB, N * SLAB * halves
    B_EXACT = B_SIZE // 4 % THREADS == 0
    STAGE, RING = A_SIZE + B_SIZE, STAGES * (A_SIZE + B_SIZE)
    HELD = 4 * QUADS
    WIDE, TALL = WARP_M // 8, WARP_N // 16
    ACC, P_WORDS = 4 * TALL * WIDE, 4 * WIDE
    SINGLE, VECTOR = gather == "single", gather == "vector"
    SPLIT, ROUND = halves == 2, kind == "tf32" and halves == 1
    PER_WORD = 4 // storage(x_dtype).itemsize
    UNIT, BITS, bits = 4 * PER_WORD, 8 * storage(x_dtype).itemsize, element_bits(kind, halves, x_dtype)
    ENTRIES = UNIT if SINGLE else 1  # entries of the table for a quad
    copy, arrived = copier(16), arrival(STAGES - 2)

    # As in `gemm_kernel`, loops over a thread's arrays must be short to be unrolled; hence the calls of `store_pair`.

    @inlined
    def after(stage):
        return int32(stage + STAGE) if stage + STAGE < RING else int32(0)

    @inlined
    def copy_pixels(ring, at, x, table, row, col, h, w):
        for q in range(QUADS):
            offset, down, across, _ = load4(table, 4 * q)
            copy(ring, at ^ (4 * q), x, offset, within(row + down, h) and within(col + across, w))

    @inlined
    def fetch_pixels(x, table, row, col, h, w, step, held):
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
                    at = int64(offset)
                    for i in range(4):
                        for e in range(PER_WORD):
                            held[4 * q + i] |= int32(bits(x[at]) << (BITS * e))
                            at += step

    @inlined
    def place_pixels(ring, at, held):
        for q in range(QUADS):
            store4(ring, at ^ (4 * q), held[4 * q], held[4 * q + 1], held[4 * q + 2], held[4 * q + 3])

    @inlined
    def copy_weights(ring, at, weight, t):
        for q in range(B_QUADS):
            if B_EXACT or q * THREADS + t < B_SIZE // 4:
                copy(ring, at + 4 * q * THREADS, weight, 4 * q * THREADS, True)

    @inlined
    def products(a0, a1, a2, a3, b0, b1, at, acc):
        c0, c1, c2, c3 = step(a0, a1, a2, a3, b0, b1, acc[at], acc[at + 1], acc[at + 2], acc[at + 3])
        acc[at], acc[at + 1], acc[at + 2], acc[at + 3] = c0, c1, c2, c3

    @inlined
    def multiply(ring, p_at, w_at, acc):
        b = cuda.local.array(P_WORDS, types.int32)
        rest = cuda.local.array(P_WORDS, types.int32)
        for j in range(WIDE):
            b[4 * j], b[4 * j + 1], b[4 * j + 2], b[4 * j + 3] = load4(ring, p_at + j * 8 * SLAB)
        for k in range(P_WORDS):
            if SPLIT:
                b[k], rest[k] = split(b[k])
            elif ROUND and VECTOR:
                b[k] = tf32(as_float(b[k]))
        for i in range(TALL):
            for r in range(2):
                at = w_at + (256 * i + 128 * r) * halves
                a0, a1, a2, a3 = load4(ring, at)
                if SPLIT:
                    s0, s1, s2, s3 = load4(ring, at + 128)
                    for j in range(WIDE):
                        k, c = 4 * j + 2 * r, 4 * (i * WIDE + j)
                        products(s0, s1, s2, s3, b[k], b[k + 1], c, acc)
                        products(a0, a1, a2, a3, rest[k], rest[k + 1], c, acc)
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
        ring = cuda.shared.array(RING, types.int32, 16)  # as in `gemm_kernel`
        acc = cuda.local.array(ACC, number)
        held = cuda.local.array(HELD, types.int32)
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
        p_read = int32((warp_m + lane // 4) * SLAB + 4 * (lane % 4 ^ lane // 8))
        w_read = int32(A_SIZE + warp_n * SLAB * halves + 4 * lane)
        p_write, w_write = int32(m * SLAB + 4 * (part ^ m // 2 % 4)), int32(A_SIZE + 4 * t)
        reading, writing = int32(0), int32(0)
        if not VECTOR:
            fetch_pixels(x, table, row, col, h, w, step_c, held)
            place_pixels(ring, p_write, held)
        for slab in range(int32(1 - STAGES), mine):
            if slab >= 0:
                arrived()
                cuda.syncthreads()
            if slab + STAGES - 1 < mine:
                if VECTOR:
                    copy_pixels(ring, p_write + writing, x, table, row, col, h, w)
                    table = advance(table, 16 * ENTRIES)
                copy_weights(ring, int64(w_write + writing), weight, t)
                weight = advance(weight, B_SIZE)
            commit()
            writing = after(writing)
            if slab >= 0:
                following = after(reading)
                if not VECTOR:
                    table = advance(table, 16 * ENTRIES)
                    if slab + 1 < mine:
                        fetch_pixels(x, table, row, col, h, w, step_c, held)
                multiply(ring, int64(p_read + reading), int64(w_read + reading), acc)
                if not VECTOR and slab + 1 < mine:
                    place_pixels(ring, p_write + following, held)
                reading = following

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
