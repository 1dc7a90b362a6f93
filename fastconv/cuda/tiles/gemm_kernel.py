"""The kernel of `shared.gemm`: it multiplies a slab of both factors in shared memory while it fetches the next slab.

A round of the loop: (1) wait until the copies of this slab have arrived, for all threads (the only barrier; behind it
nobody reads the other half of shared memory); (2) start to fetch the next slab; (3) multiply. Operands of the dtype
that is computed in are copied to shared memory without passing through registers (`cp.async`): weights, and pixels of
1x1 kernels, 16 bytes at a time, other elements one by one, with zeros where the image ends. Operands that must be
widened, and four channels of one load, pass through registers; they are stored once the slab before is multiplied.
"""

from __future__ import annotations

import numpy as np

from ..system.kernels import cuda, factory, integers, pointer, scalar
from .elements import narrow, widen
from .ptx import advance, arrival, commit, copier, inlined, int32, int64, load4, opaque, store4, within


def multiplier(tile, a_pitch, b_pitch):
    """Make the function that multiplies four rows of each factor in shared memory, `a_pitch` and `b_pitch` apart.

    It begins at the places of its lane and adds to a thread's sums, rows * cols of them. `a` and `b` are arrays of the
    thread for its operands. (In the simulator, only the file that has the kernel can make such arrays.)
    """
    ROWS, COLS, (LANES_M, LANES_N) = tile.rows, tile.cols, tile.lanes

    @inlined
    def multiply(a_tile, b_tile, a_at, b_at, a, b, acc):
        for i in range(0, ROWS, 4):
            a[i], a[i + 1], a[i + 2], a[i + 3] = load4(a_tile, a_at + i * LANES_M)
        for j in range(0, COLS, 4):
            b[j], b[j + 1], b[j + 2], b[j + 3] = load4(b_tile, b_at + j * LANES_N)
        for i in range(ROWS):
            for j in range(COLS):
                acc[i * COLS + j] += a[i] * b[j]

    # Four calls, as a loop would not be unrolled, and the thread's arrays would lie in memory.
    @inlined
    def multiply4(a_tile, b_tile, a_at, b_at, a, b, acc):
        multiply(a_tile, b_tile, a_at, b_at, a, b, acc)
        multiply(a_tile, b_tile, a_at + a_pitch, b_at + b_pitch, a, b, acc)
        multiply(a_tile, b_tile, a_at + 2 * a_pitch, b_at + 2 * b_pitch, a, b, acc)
        multiply(a_tile, b_tile, a_at + 3 * a_pitch, b_at + 3 * b_pitch, a, b, acc)

    return multiply4


def placement(tile):
    """Make functions for kernels: the panel, group and first row of a block; the first row and column of a thread.

    The lanes of a warp are four rows and four columns apart, and warps follow each other down the tile.
    """
    M, _, _, ROWS, COLS, (LANES_M, LANES_N) = tile
    WARPS_M, LANES = M // (LANES_M * ROWS), LANES_M * LANES_N

    @inlined
    def block_place(block, panels, groups):
        return int32(block % panels), int32(block // panels % groups), int32(block // panels // groups * M)

    @inlined
    def lane_place(t):
        warp, lane = int32(t // LANES), int32(t % LANES)
        return (int32(warp % WARPS_M * LANES_M * ROWS + lane % LANES_M * 4),
                int32(warp // WARPS_M * LANES_N * COLS + lane // LANES_M * 4))

    return block_place, lane_place


@factory
def gemm(tile, x_dtype, acc_dtype, out_dtype, gather, store):
    number, load, narrowed = scalar(acc_dtype), widen(x_dtype, acc_dtype), narrow(out_dtype)
    M, N, K, ROWS, COLS, (LANES_M, LANES_N) = tile
    THREADS = tile.threads
    PITCH = M + 4
    block_place, lane_place = placement(tile)
    PARTS = THREADS // M
    QUADS = M * K // 4 // THREADS
    B_QUADS = -(-N * K // 4 // THREADS)
    B_EXACT = N * K // 4 % THREADS == 0
    A_SIZE, B_SIZE = K * PITCH, K * N
    A_FLIP, B_FLIP = 1 << (A_SIZE - 1).bit_length(), 1 << (B_SIZE - 1).bit_length()
    A_TWICE, B_TWICE = A_FLIP + A_SIZE, B_FLIP + B_SIZE
    A_HELD, ACC = 4 * QUADS, ROWS * COLS
    SINGLE, VECTOR, PIXELS = gather == "single", gather == "vector", gather == "pixels"
    COPIED = x_dtype == acc_dtype and not VECTOR
    STORE_PIXELS, STORE_CHANNELS = store == "pixels", store == "channels"
    RUN = M // 4
    ENTRIES = 4 if SINGLE else 1  # entries of the table for four values of k; each has four words
    SIZE = acc_dtype.itemsize
    UNIT = 16 // SIZE
    copy, copy_one, arrived = copier(16), copier(SIZE), arrival(0)
    multiply4 = multiplier(tile, PITCH, N)

    # Loops over a thread's arrays must be unrolled, or the arrays lie in memory; LLVM unrolls only short bodies. So
    # `multiply4` has no loop, and `store_rows` is called twice.

    @inlined
    def copy4(shared, at, pointer, index, wanted):
        for i in range(0, 4, UNIT):
            copy(shared, at + i, pointer, index + i, wanted)

    @inlined
    def copy_a(a_tile, at, x, table, row, col, h, w, step):
        for q in range(QUADS):
            offset, down, across, _ = load4(table, int32(4 * ENTRIES * q * PARTS))
            wanted, place = within(row + down, h) and within(col + across, w), at + 4 * q * PARTS * PITCH
            if SINGLE:
                copy_one(a_tile, place, x, offset, wanted)
                for i in range(1, 4):
                    offset, down, across, _ = load4(table, int32(16 * q * PARTS + 4 * i))
                    wanted = within(row + down, h) and within(col + across, w)
                    copy_one(a_tile, place + i * PITCH, x, offset, wanted)
            else:
                for i in range(4):
                    copy_one(a_tile, place + i * PITCH, x, int64(offset) + i * step, wanted)

    @inlined
    def copy_pixels(a_tile, at, x, valid, k, depth, step):
        for q in range(QUADS):
            apart = q * (THREADS // RUN)
            copy4(a_tile, at + apart * PITCH, x, int64(apart) * step, valid and k + apart < depth)

    @inlined
    def copy_b(b_tile, at, weight, t):
        for q in range(B_QUADS):
            if B_EXACT or q * THREADS + t < B_SIZE // 4:
                copy4(b_tile, at + 4 * q * THREADS, weight, 4 * q * THREADS, True)

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
    def start(a_tile, at, x, step, table, row, col, h, w, valid, k, depth, held):
        if COPIED and PIXELS:
            copy_pixels(a_tile, at, x, valid, k, depth, step)
        elif COPIED:
            copy_a(a_tile, at, x, table, row, col, h, w, int32(step))
        elif PIXELS:
            fetch_pixels(x, valid, k, depth, step, held)
        else:
            fetch_a(x, table, row, col, h, w, int32(step), held)

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

    def implicit_gemm(x, x_steps, weight, table, bias, floor, out, out_steps, image, grid, matrix, stride, pad):
        a_tile = cuda.shared.array(A_TWICE, number, 16)  # by itself, a multiple of an element's size
        b_tile = cuda.shared.array(B_TWICE, number, 16)
        acc = cuda.local.array(ACC, number)
        a_held = cuda.local.array(A_HELD, number)
        a, b = cuda.local.array(ROWS, number), cuda.local.array(COLS, number)
        h, w = int32(image[0]), int32(image[1])
        pixels, oh, ow = int32(grid[0]), int32(grid[1]), int32(grid[2])
        depth, slabs, panels = int32(matrix[0]), int32(matrix[1]), int32(matrix[2])
        groups, o_group = int32(matrix[3]), int32(matrix[4])
        begin = int32(cuda.blockIdx.y * matrix[7])
        mine = int32(min(matrix[7], slabs - begin))
        t = int32(cuda.threadIdx.x)
        panel, group, first = block_place(int32(cuda.blockIdx.x), panels, groups)
        plane = int32(oh * ow)

        # This thread fetches some taps of one pixel, or one tap of four pixels.
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
        start(a_tile, int64(a_write), x, x_steps[1], table, row, col, h, w, valid, k, depth, a_held)
        copy_b(b_tile, int64(b_write), weight, t)
        commit()
        if not COPIED:
            place_a(a_tile, int64(a_write), a_held)
        for left in range(int32(mine - 1), int32(-1), int32(-1)):  # slabs after the one that is multiplied
            arrived()
            cuda.syncthreads()
            a_write, b_write = int32(a_write ^ A_FLIP), int32(b_write ^ B_FLIP)
            if left > 0:
                if PIXELS:
                    x = advance(x, K * x_steps[1])
                    k = int32(k + K)
                else:
                    table = advance(table, ENTRIES * K)
                weight = advance(weight, B_SIZE)
                start(a_tile, int64(a_write), x, x_steps[1], table, row, col, h, w, valid, k, depth, a_held)
                copy_b(b_tile, int64(b_write), weight, t)
                commit()
            a_at, b_at = int64(a_read), int64(b_read)
            for i in range(0, K, 8):
                multiply4(a_tile, b_tile, a_at + i * PITCH, b_at + i * N, a, b, acc)
                if K > 4:
                    multiply4(a_tile, b_tile, a_at + (i + 4) * PITCH, b_at + (i + 4) * N, a, b, acc)
            if not COPIED and left > 0:
                place_a(a_tile, int64(a_write), a_held)
            a_read, b_read = int32(a_read ^ A_FLIP), int32(b_read ^ B_FLIP)

        # Computed again rather than kept, as the loop needs the registers.
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

    # Registers: a multiprocessor has 65536, so 128 for each thread if 256 threads share a tile, 168 if 128 do.
    implicit_gemm.launch_bounds = (THREADS, {256: 2, 128: 3}.get(THREADS, 1))
    pair = integers(2)
    signature = (pointer(x_dtype), integers(4), pointer(acc_dtype), pointer(np.int32), pointer(acc_dtype), number,
                 pointer(out_dtype), integers(4), pair, integers(3), integers(9), pair, pair)
    return signature, implicit_gemm
