"""Mid-size and large kernels on few channels: a fifth of the multiplications, by Toom and Cook's short correlations.

The kernel is cut into chunks of 4x4 taps, the output into tiles of 4x4. A chunk's share of a tile takes 7x7 products
in place of 16x16 (F(4x4, 4x4), see `toom_cook`), of an element of the transformed chunk and one of the input tile that
lies under it. As chunks and tiles are of one size, chunk (a, b) lies over the input tile that is a down and b to the
right, so each of the 49 elements is a correlation of its own, of 16 times fewer taps with a 16 times smaller image::

    V[e, c, p, q] = B x[n, first + c, 4p .. 4p + 6, 4q .. 4q + 6] B^T              element e of input tile (p, q)
    U[o, e, c, a, b] = G weight[o, c, 4a .. 4a + 3, 4b .. 4b + 3] G^T
    M[e, i, j] = sum over c, a, b of U[o, e, c, a, b] * V[e, c, i + a, j + b]
    out[n, o, 4i .. 4i + 3, 4j .. 4j + 3] = A M[:, i, j] A^T + bias[o]

What it changes over `image`: kh * kw multiply-adds an output become (kh / 4) * (kw / 4) * 49 / 16, and the transforms
add the time of some 80: from 9x9 on that is less, and from 31x31 on `fft` takes over. What it changes over `winograd`:
chunks take the place of channels, so that one transform serves all of them. The rounding error is 5e-6 of the largest
output in float32, some five times that of `image`. Measured: 512x512 with 15x15, float32, in 0.58 ms, where the
definition's multiply-adds alone take 1.0 ms at the ceiling of 118 GFLOP/s (`image` 1.24 ms; a core of an EPYC 9005).

A NaN, an infinity or an overflow would spread over a tile. Where one is found in the result, all is computed again
without a transform: so they reach just the outputs that see them, as in `image`.

Layouts: a patch of x with zeros around; V, U and M as above, the rows of tiles along the vectors: a row of x is taken
apart into its four phases (`plane_tile`), so that the lanes of a vector are neighbouring tiles.

Loop order: one task for each block of tiles, image and group; in it the transform of the input; for each output channel
the products, one element after the other, whose planes then lie in the first-level cache; the transform of the result.

Sources: as `toom_cook`; Huang et al., DWM: a decomposable Winograd method for convolution acceleration,
arXiv:2002.00552, for the chunks.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ..spec import ConvSpec, Pair
from ..toom_cook import Axis, axis
from . import patch, rows, simd
from .linear import linear_map, operations
from .machine import Machine
from .plane_tile import join_map, plane_tile, split_map, tile_vectors
from .runtime import kernel, num_threads
from .runtime import scratch as runtime_scratch

#: Outputs of a tile and taps of a chunk along an axis: 49 products take the place of 256. With 3 it is 25 of 81, more
#: from 10x10 on; with 5 it is 81 of 625, but the error would pass 2e-5.
SIZE = 4
#: Elements of a transformed tile along an axis.
LENGTH = 2 * SIZE - 1
#: Bytes of V and M of one task: from 0.75 to 4 MiB makes no difference with a 1 MiB second-level cache, less transforms
#: more tiles twice.
BLOCK_BYTES = 1 << 20
#: Most register tiles side by side in a task.
WIDEST = 16
#: Most scratch of a thread: what a kernel of some thousand taps on a side would ask for is more.
LIMIT_BYTES = 8 << 20
#: Most input channels in a group: with many, `direct` and `fft` share what they load among output channels.
CHANNELS = 8


def _short() -> Axis:
    """The short correlation of both axes."""
    result = axis(SIZE, SIZE, 1)
    assert result is not None
    return result


class Blocking(NamedTuple):
    """How a problem is cut up; of each pair the first is vertical."""

    chunks: tuple[int, int]
    tile: tuple[int, int]
    """Rows and vectors of a register tile."""
    block: tuple[int, int]
    """Rows and columns of tiles of one task: whole register tiles."""


def supports(spec: ConvSpec) -> str | None:
    if spec.dtype.kind != "f":
        return "the transforms of integers are not integers"
    if spec.stride != (1, 1) or spec.dilation != (1, 1):
        return "only stride 1 and dilation 1"
    if min(spec.kh, spec.kw) <= SIZE:
        return f"the kernel is {spec.kh}x{spec.kw}; up to {SIZE} rows or columns are one chunk, which saves too little"
    if spec.c_in // spec.groups > CHANNELS:
        return f"at most {CHANNELS} input channels in a group; here {spec.c_in // spec.groups}"
    if scratch(spec) > num_threads() * LIMIT_BYTES:
        return f"the transform of so large a kernel's input takes more than {LIMIT_BYTES >> 20} MiB of scratch"
    return None


@lru_cache(maxsize=4096)
def _blocking(spec: ConvSpec, threads: int) -> Blocking:
    lanes = simd.lanes(spec.acc_dtype)
    chunks = -(-spec.kh // SIZE), -(-spec.kw // SIZE)
    high, wide = -(-spec.oh // SIZE), -(-spec.ow // (SIZE * lanes))  # tiles down, vectors of them across
    down = min(4, chunks[0])
    vectors = tile_vectors(wide)
    best, least = (down, vectors * lanes), math.inf
    for across in range(1, min(-(-wide // vectors), WIDEST) + 1):
        columns = across * vectors * lanes
        each, extra = _bytes(spec, chunks, columns)
        tall = max(1, (BLOCK_BYTES - extra) // each // down) * down
        tall = min(tall, -(-high // down) * down)
        if threads > 1:
            tasks = spec.n * spec.groups * -(-wide // (across * vectors))
            tall = min(tall, max(1, high * tasks // (4 * threads) // down) * down)
        tall = -(-high // down // -(-high // tall)) * down  # blocks of equal height
        # Input tiles transformed for a tile of output, counting what lies beyond the image.
        share = -(-high // tall) * (tall + chunks[0] - 1) * -(-wide // (across * vectors)) * (columns + chunks[1])
        if share < least:
            best, least = (tall, columns), share
    return Blocking(chunks, (down, vectors), best)


def _bytes(spec: ConvSpec, chunks: Pair, columns: int) -> tuple[int, int]:
    """Bytes of V and M for a row of tiles, and of what V has beside."""
    elements = LENGTH**2 * spec.acc_dtype.itemsize
    line = elements * spec.c_in // spec.groups * _pitch(spec, chunks, columns)
    return line + elements * columns, line * (chunks[0] - 1)


def _pitch(spec: ConvSpec, chunks: Pair, columns: int) -> int:
    """Input tiles of a row: those under the chunks and one more, in whole vectors."""
    lanes = simd.lanes(spec.acc_dtype)
    return -(-(columns + chunks[1]) // lanes) * lanes


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: multiply-adds of whole vectors, and the transforms with the copying around them."""
    plan = _blocking(spec, machine.threads)
    lanes = simd.lanes(spec.acc_dtype)
    (down, vectors), (tall, columns) = plan.tile, plan.block
    elements, group = LENGTH**2, spec.c_in // spec.groups
    high = -(-spec.oh // (SIZE * down)) * down  # tiles down, vectors of them across
    wide = -(-spec.ow // (SIZE * vectors * lanes)) * vectors
    tiles = spec.n * spec.c_out * high * wide
    rate = machine.row_tile_flops / 32  # vector instructions a second
    products = tiles * elements * (group * math.prod(plan.chunks) + 1) / rate
    starts = tiles * elements / (down * vectors) * machine.tile
    blocks = spec.n * spec.groups * -(-high // tall) * -(-wide // (columns // lanes))
    inputs = blocks * group * (tall + plan.chunks[0] - 1) * _pitch(spec, plan.chunks, columns) / lanes
    forward, back = _work()
    transforms = (inputs * forward + tiles * back) / rate
    return machine.call + (products + starts + transforms) / machine.threads


@lru_cache(maxsize=1)
def _work() -> Pair:
    """Vector instructions, loads and stores counted, to transform a vector of input tiles, and one of output tiles."""
    short = _short()
    apart = SIZE * SIZE.bit_length()  # to take a row apart, or to join it
    forward = SIZE * (operations(short.b) + 2 * LENGTH) + LENGTH * (apart + operations(short.b) + 2 * LENGTH)
    back = LENGTH * (operations(short.a) + LENGTH + SIZE) + SIZE * (apart + operations(short.a) + LENGTH + 4 * SIZE)
    return forward, back


def scratch(spec: ConvSpec) -> int:
    threads = num_threads()
    return threads * sum(_buffers(spec, _blocking(spec, threads))) * spec.acc_dtype.itemsize


def _buffers(spec: ConvSpec, plan: Blocking) -> tuple[int, ...]:
    """Elements of a task's patch, transformed lines, V and M. Each begins at a cache line."""
    (tall, columns), group = plan.block, spec.c_in // spec.groups
    lanes, pitch = simd.lanes(spec.acc_dtype), _pitch(spec, plan.chunks, plan.block[1])
    under = tall + plan.chunks[0] - 1
    sizes = (
        group * (SIZE * (under + 1) - 1) * SIZE * pitch,
        max(LENGTH * SIZE * pitch + lanes, SIZE * LENGTH * columns),
        LENGTH**2 * group * under * pitch + plan.tile[1] * lanes,
        LENGTH**2 * tall * columns,
    )
    return tuple(-(-size // lanes) * lanes for size in sizes)


class Packed(NamedTuple):
    """The transformed chunks, (c_out, elements, c_in / groups, chunks), and the kernels."""

    chunks: np.ndarray
    weight: np.ndarray


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    down, across = _blocking(spec, num_threads()).chunks
    g = np.array(_short().g, np.float64)
    planes = np.zeros((spec.c_out, spec.c_in // spec.groups, down * SIZE, across * SIZE))
    planes[:, :, : spec.kh, : spec.kw] = weight
    planes = planes.reshape(spec.c_out, -1, down, SIZE, across, SIZE) @ g.T
    planes = np.moveaxis(planes, 3, -1) @ g.T  # (c_out, c, down, across, elements along a row, elements down)
    packed = planes.transpose(0, 5, 4, 1, 2, 3).reshape(-1).astype(spec.acc_dtype)
    return Packed(packed, weight)


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    plan = _blocking(spec, num_threads())
    lanes, sizes = simd.lanes(spec.acc_dtype), _buffers(spec, plan)
    tasks = spec.n * spec.groups * -(-spec.oh // (SIZE * plan.block[0])) * -(-spec.ow // (SIZE * plan.block[1]))
    signs = np.empty((tasks, lanes), x.dtype)
    scratches = runtime_scratch(sum(sizes), x.dtype)
    pads = spec.padding[0][0], spec.padding[1][0]
    pitch = _pitch(spec, plan.chunks, plan.block[1])
    loops = _kernel(*plan.tile).sized(spec.flops)
    loops(
        x,
        packed.chunks,
        bias,
        spec.floor,
        out,
        scratches,
        signs,
        spec.groups,
        pads,
        plan.chunks,
        plan.block,
        pitch,
        sizes,
        lanes,
    )
    if signs.any():
        rows.run(spec, x, rows.prepare(spec, packed.weight), bias, out)


@lru_cache(maxsize=32)
def _kernel(down: int, vectors: int) -> Any:
    """The kernel for one register tile."""
    m, length, short = SIZE, LENGTH, _short()
    into_rows, into_columns = linear_map(short.b), split_map(short.b, SIZE)
    from_rows, from_columns, last_columns = linear_map(short.a), join_map(short.a, m, True), join_map(short.a, m, False)
    products, fill = plane_tile(down, vectors), patch.fill

    @kernel(key=(down, vectors))
    def _toom_cook(x, weight, bias, floor, out, scratches, signs, groups, pads, chunks, block, pitch, sizes, lanes):
        n, c_out, oh, ow = out.shape
        group, outs = x.shape[1] // groups, c_out // groups
        tall, columns = block
        blocks_h = (oh + tall * m - 1) // (tall * m)
        blocks_w = (ow + columns * m - 1) // (columns * m)
        under, line = tall + chunks[0] - 1, m * pitch
        element, element_out = group * under * pitch, tall * columns
        depth = m * (under + 1) - 1
        offsets = np.empty((chunks[0] + down - 1) * chunks[1], np.int64)
        for i in range(offsets.size):
            offsets[i] = i // chunks[1] * pitch + i % chunks[1]
        one = np.zeros(1, np.int64)
        zero, least = simd.splat(x.dtype.type(0)), simd.splat(floor)
        for index in prange(n * groups * blocks_h * blocks_w):
            job = np.int64(index)  # a parallel loop's index is unsigned: functions called with it would compile twice
            j0, i0 = job % blocks_w * columns, job // blocks_w % blocks_h * tall
            g, image = job // (blocks_w * blocks_h) % groups, job // (blocks_w * blocks_h * groups)
            memory = scratches[numba.get_thread_id()]
            lines = sizes[0]
            v_tiles = lines + sizes[1]
            m_tiles = v_tiles + sizes[2]
            count = min(tall, (oh - i0 * m + m - 1) // m)
            count = (count + down - 1) // down * down
            corner = i0 * m - pads[0], j0 * m - pads[1]
            fill(x, image, g * group, corner, group, depth, one, one, (1, 1), line, memory, lanes)
            for c in range(group):
                for p in range(count + chunks[0] - 1):
                    at = (c * depth + p * m) * line
                    for q in range(0, line, lanes):
                        into_rows(memory, at + q, line, memory, lines + q, line)
                    for d in range(length):
                        to = v_tiles + d * length * element + (c * under + p) * pitch
                        for q in range(0, pitch, lanes):
                            into_columns(memory, lines + d * line + q * m, memory, to + q, element)
            total = zero
            for o in range(g * outs, (g + 1) * outs):
                for e in range(length * length):
                    at = (o * length * length + e) * group * chunks[0] * chunks[1]
                    for i in range(0, count, down):
                        for j in range(0, columns, vectors * lanes):
                            products(
                                memory,
                                v_tiles + e * element + i * pitch + j,
                                offsets,
                                chunks[1],
                                group,
                                under * pitch,
                                weight,
                                at,
                                memory,
                                m_tiles + e * element_out + i * columns + j,
                                columns,
                                lanes,
                            )
                shift = simd.splat(bias[o])
                for i in range(count):
                    for e in range(length):
                        for j in range(0, columns, lanes):
                            at, to = m_tiles + e * element_out + i * columns + j, lines + e * columns + j
                            from_rows(memory, at, length * element_out, memory, to, length * columns)
                    rest = ow - j0 * m
                    for k in range(min(m, oh - (i0 + i) * m)):
                        to = ((image * c_out + o) * oh + (i0 + i) * m + k) * ow + j0 * m
                        at = lines + k * length * columns
                        for j in range(0, min(columns, (rest + m - 1) // m), lanes):
                            valid = rest - j * m
                            if valid >= m * lanes:
                                total = total + from_columns(
                                    memory, at + j, columns, out, to + j * m, valid, shift, least
                                )
                            else:
                                total = total + last_columns(
                                    memory, at + j, columns, out, to + j * m, valid, shift, least
                                )
            simd.store(signs, job * lanes, total)

    return _toom_cook
