"""One channel in a group (depthwise layers, image filters): tiles of the input in shared memory or the first-level
cache, columns of sums in registers.

Index equation (symbols in `fastconv.specs.conv`; every output channel reads one channel of the input)::

    out[n, o, i, j] = bias[o] + sum over a, b of weight[o, a, b] * x[n, o // multiplier, row, col]

A block makes a tile of one plane's output. It first copies the part of the input that the tile sees, with zeros
outside, to shared memory, so that each value is read from memory only once. A thread makes EACH outputs below each
other. It walks over the kernel's columns, and in each over chunks of its rows: it loads the (EACH - 1) * stride + rows
values of the input below each other that a chunk needs once into registers, for EACH * rows multiply-adds. With EACH =
8 and 7 rows these are 14 loads of the tile and 7 of the weights for 56 multiply-adds; shared memory gives 32 values a
cycle to a multiprocessor that does 128. Window, stride and dilation are constants of the compiled code, so offsets are
parts of the instructions.

Small planes get smaller tiles, several planes to a block.

With channels last, neighbouring pixels of a plane lie far apart, and one pixel's values of 32 channels lie together.
There neighbouring threads have neighbouring channels, and every load of a warp is a whole line of 128 bytes. Each
thread makes outputs below each other, but from x itself: values that its neighbours in the block have loaded are in
the first-level cache. The kernels of the block's channels lie in shared memory, tap by tap.

It wins wherever it applies. Not measured yet on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.pooling import lanes_last
from ..system.kernels import MOST_BLOCKS, cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Stream, Tensor
from ..tiles.elements import narrow, widen
from ..tiles.ptx import advance, inlined

#: Tiles by width of the output: threads across, threads down, planes of a block, and outputs below each other a thread.
#: A warp is as wide as the tile if it can be, so that it reads rows; blocks have 128 threads.
TILES: tuple[tuple[int, int, int, int], ...] = ((32, 4, 1, 8), (16, 4, 2, 4), (8, 4, 4, 2))
if pick(0, 1):
    TILES = ((4, 2, 1, 3), (2, 2, 2, 2), (1, 1, 2, 2))
#: Blocks for channels last: threads along channels and along columns.
LAST: tuple[tuple[int, int], ...] = ((32, 8), (16, 16), (8, 32))
if pick(0, 1):
    LAST = ((4, 2), (2, 4))
#: Rows of the kernel in a chunk: with more, a thread's values of a column do not fit beside its sums.
ROWS = 8
#: Bytes of shared memory that a block may have without asking for more (48 KiB).
SHARED = 48 << 10


def _tile(spec: ConvSpec) -> tuple[int, int, int, int]:
    for tile in TILES[:-1]:
        if spec.ow > tile[0] // 2:
            return tile
    return TILES[-1]


def _seen(spec: ConvSpec) -> tuple[int, int]:
    """Rows and columns of the input that a tile sees."""
    across, down, _, each = _tile(spec)
    rows = (down * each - 1) * spec.stride[0] + (spec.kh - 1) * spec.dilation[0] + 1
    return rows, (across - 1) * spec.stride[1] + (spec.kw - 1) * spec.dilation[1] + 1


def _shared(spec: ConvSpec) -> int:
    rows, cols = _seen(spec)
    return (rows * cols + spec.kh * spec.kw) * _tile(spec)[2] * spec.acc_dtype.itemsize


def supports(spec: ConvSpec) -> str | None:
    if spec.c_in != spec.groups:
        return f"it is for one input channel a group, got {spec.c_in // spec.groups}"
    if _shared(spec) > SHARED:
        return f"a tile of the input takes {_shared(spec)} bytes, more than the {SHARED} of shared memory"
    if _blocks(spec) > MOST_BLOCKS:
        return f"its blocks are numbered in 32 bits, too few for {spec.n} images of {spec.c_out} channels"
    return None


def _blocks(spec: ConvSpec) -> int:
    across, down, planes, each = _tile(spec)
    return -(-spec.ow // across) * -(-spec.oh // (down * each)) * -(-spec.n * spec.c_out // planes)


def cost(spec: ConvSpec, machine: Machine) -> float:
    rows, cols = _seen(spec)
    across, down, _, each = _tile(spec)
    tiles = spec.n * spec.c_out * -(-spec.oh // (down * each)) * -(-spec.ow // across)
    outputs = tiles * across * down * each
    taps = spec.kh * spec.kw
    # Loads from shared memory for each multiply-add of a chunk's column; the multiply-add counts as a quarter load.
    chunk = min(spec.kh, ROWS) if spec.dilation[0] == 1 else 1
    loads = ((each - 1) * min(spec.stride[0], chunk) + 2 * chunk) / (each * chunk) + 0.25
    work = 4 * outputs * taps * 2 * loads / (machine.flops(spec.dtype) * machine.gemm_share)
    written = spec.n * spec.c_out * spec.oh * spec.ow * spec.out_dtype.itemsize
    traffic = tiles * rows * cols * spec.dtype.itemsize + written
    return machine.launch + max(work, traffic / machine.bandwidth)


def scratch(spec: ConvSpec) -> int:
    return 0


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream) -> Tensor:
    return weight


def run(spec: ConvSpec, x: Tensor, packed: Tensor, bias: Any, out: Tensor, stream: Stream) -> None:
    (top, _), (left, _) = spec.padding
    if lanes_last(x) and _run_last(spec, x, packed, bias, out, stream):
        return
    across, down, planes, each = _tile(spec)
    tiles = -(-spec.ow // across), -(-spec.oh // (down * each))
    geometry = (spec.kh, spec.kw), spec.stride, spec.dilation
    kernel = _depthwise_tile(x.dtype, spec.acc_dtype, out.dtype, _tile(spec), *geometry, _seen(spec))
    stream.launch(
        kernel, _blocks(spec), (across, down, planes),
        x.pointer, x.strides, packed.pointer, bias.pointer, spec.floor, out.pointer, out.strides,
        (spec.n * spec.c_out, spec.c_out, spec.c_out // spec.groups), (spec.h, spec.w), (spec.oh, spec.ow), (top, left),
        tiles, shared=_shared(spec),
    )


def _run_last(spec: ConvSpec, x: Tensor, packed: Tensor, bias: Any, out: Tensor, stream: Stream) -> bool:
    """Launch the kernel for channels last; False if its weights or blocks are too many, and nothing was launched."""
    across, down = next((block for block in LAST if spec.c_out > block[0] // 2), LAST[-1])
    each = {1: 8, 2: 4}.get(spec.stride[0], 2)
    shared = across * spec.kh * spec.kw * spec.acc_dtype.itemsize
    tiles = -(-spec.c_out // across), -(-spec.ow // down), -(-spec.oh // each)
    blocks = spec.n * tiles[0] * tiles[1] * tiles[2]
    if shared > SHARED or blocks > MOST_BLOCKS:
        return False
    geometry = (spec.kh, spec.kw), spec.stride, spec.dilation
    stream.launch(
        _depthwise_last(x.dtype, spec.acc_dtype, out.dtype, (across, down, each), *geometry), blocks, (across, down),
        x.pointer, x.strides, packed.pointer, bias.pointer, spec.floor, out.pointer, out.strides,
        (spec.c_out, spec.c_out // spec.groups), (spec.h, spec.w), (spec.oh, spec.ow),
        (spec.padding[0][0], spec.padding[1][0]), tiles, shared=shared,
    )
    return True


@factory
def _depthwise_last(dtype, acc_dtype, out_dtype, tile, window, stride, dilation):
    (across, down, each), (kh, kw), (step_h, step_w), (gap_h, gap_w) = tile, window, stride, dilation
    acc, load, store, kind = acc_dtype.type, widen(dtype, acc_dtype), narrow(out_dtype), scalar(acc_dtype)
    rows = min(kh, ROWS) if gap_h == 1 else 1
    chunks, rest = kh // rows, kh % rows
    values_of_chunk = (each - 1) * step_h + rows

    def adder(taps):
        """Make the function that adds the products of so many rows of a kernel, whose first tap is `tap`."""

        @inlined
        def add(x, x_steps, top, left, h, w, memory, tap, values, sums):
            for b in range(kw):
                inside = 0 <= left + b * gap_w < w
                for v in range((each - 1) * step_h + taps):
                    values[v] = acc(0)
                    if inside and 0 <= top + v < h:
                        values[v] = load(x[v * x_steps[2] + b * gap_w * x_steps[3]])
                for a in range(taps):
                    factor = memory[tap + np.uint64(a * kw * across)]
                    for r in range(each):
                        sums[r] = acc(sums[r] + factor * values[r * step_h + a])
                tap += np.uint64(across)

        return add

    add_chunk, add_rest = adder(rows), adder(rest)

    def depthwise_last(x, x_steps, weight, bias, floor, out, out_steps, channels, image, outputs, pad, tiles):
        (c_out, multiplier), (h, w), (oh, ow), (tiles_o, tiles_w, tiles_h) = channels, image, outputs, tiles
        tx, ty = np.uint32(cuda.threadIdx.x), np.uint32(cuda.threadIdx.y)
        block = np.int64(cuda.blockIdx.x)
        o, j = block % tiles_o * across + tx, block // tiles_o % tiles_w * down + ty
        rest_of_block = block // tiles_o // tiles_w
        i0, n = rest_of_block % tiles_h * each, rest_of_block // tiles_h

        memory = cuda.shared.array(0, kind)
        if o < c_out:
            for tap in range(ty, kh * kw, down):
                memory[np.uint32(tap * across + tx)] = load(weight[o * (kh * kw) + tap])
        cuda.syncthreads()
        if o >= c_out or j >= ow:
            return

        sums, values = cuda.local.array(each, kind), cuda.local.array(values_of_chunk, kind)
        for r in range(each):
            sums[r] = bias[o]
        top, left = i0 * step_h - pad[0], j * step_w - pad[1]
        x = advance(x, n * x_steps[0] + o // multiplier * x_steps[1] + top * x_steps[2] + left * x_steps[3])
        tap = np.uint64(tx)
        for _ in range(chunks):
            add_chunk(x, x_steps, top, left, h, w, memory, tap, values, sums)
            tap += np.uint64(rows * kw * across)
            top += rows * gap_h
            x = advance(x, rows * gap_h * x_steps[2])
        if rest:
            add_rest(x, x_steps, top, left, h, w, memory, tap, values, sums)

        for r in range(each):
            if i0 + r < oh:
                total = floor if sums[r] < floor else sums[r]
                place = n * out_steps[0] + o * out_steps[1] + (i0 + r) * out_steps[2] + j * out_steps[3]
                out[place] = store(total)

    pair = integers(2)
    signature = (pointer(dtype), integers(4), pointer(dtype), pointer(acc_dtype), scalar(acc_dtype), pointer(out_dtype),
                 integers(4), *(pair,) * 4, integers(3))
    return signature, depthwise_last


@factory
def _depthwise_tile(dtype, acc_dtype, out_dtype, tile, window, stride, dilation, seen):
    across, down, planes, each = tile
    (kh, kw), (step_h, step_w), (gap_h, gap_w), (seen_h, seen_w) = window, stride, dilation, seen
    acc, load, store, kind = acc_dtype.type, widen(dtype, acc_dtype), narrow(out_dtype), scalar(acc_dtype)
    rows = min(kh, ROWS) if gap_h == 1 else 1
    chunks, rest = kh // rows, kh % rows
    values_of_chunk = (each - 1) * step_h + rows

    def adder(taps):
        """Make the function that adds the products of so many rows of a kernel, whose first tap is `tap`."""

        @inlined
        def add(memory, base, tap, values, sums):
            for _ in range(kw):
                for v in range((each - 1) * step_h + taps):
                    values[v] = memory[base + np.uint64(v * seen_w)]
                for a in range(taps):
                    factor = memory[tap + np.uint64(a * kw)]
                    for r in range(each):
                        sums[r] = acc(sums[r] + factor * values[r * step_h + a])
                base, tap = base + np.uint64(gap_w), tap + np.uint64(1)

        return add

    add_chunk, add_rest = adder(rows), adder(rest)

    def depthwise_tile(x, x_steps, weight, bias, floor, out, out_steps, channels, image, outputs, pad, tiles):
        (count, c_out, multiplier), (h, w), (oh, ow), (tiles_w, tiles_h) = channels, image, outputs, tiles
        tx, ty, tz = np.uint32(cuda.threadIdx.x), np.uint32(cuda.threadIdx.y), np.uint32(cuda.threadIdx.z)
        block = np.int64(cuda.blockIdx.x)
        j0, i0 = block % tiles_w * across, block // tiles_w % tiles_h * (down * each)
        plane = block // tiles_w // tiles_h * planes + tz
        n, o = plane // c_out, plane % c_out
        inside = plane < count

        memory = cuda.shared.array(0, kind)
        start = np.uint32(tz * (seen_h * seen_w + kh * kw))
        taps = np.uint32(start + seen_h * seen_w)
        if inside:
            first = n * x_steps[0] + o // multiplier * x_steps[1]
            for r in range(ty, seen_h, down):
                row = i0 * step_h - pad[0] + r
                for q in range(tx, seen_w, across):
                    col = j0 * step_w - pad[1] + q
                    value = acc(0)
                    if 0 <= row < h and 0 <= col < w:
                        value = load(x[first + row * x_steps[2] + col * x_steps[3]])
                    memory[np.uint32(start + r * seen_w + q)] = value
            for tap in range(ty * across + tx, kh * kw, across * down):
                memory[np.uint32(taps + tap)] = load(weight[o * (kh * kw) + tap])
        cuda.syncthreads()
        if not inside:
            return

        sums, values = cuda.local.array(each, kind), cuda.local.array(values_of_chunk, kind)
        for r in range(each):
            sums[r] = bias[o]
        # With unsigned 64 bits Numba does not check for negative indices, and constants become parts of addresses.
        line, tap = np.uint64(start + ty * (each * step_h * seen_w) + tx * step_w), np.uint64(taps)
        for _ in range(chunks):
            add_chunk(memory, line, tap, values, sums)
            line, tap = line + np.uint64(rows * gap_h * seen_w), tap + np.uint64(rows * kw)
        if rest:
            add_rest(memory, line, tap, values, sums)

        j = j0 + tx
        for r in range(each):
            i = i0 + ty * each + r
            if i < oh and j < ow:
                total = floor if sums[r] < floor else sums[r]
                out[n * out_steps[0] + o * out_steps[1] + i * out_steps[2] + j * out_steps[3]] = store(total)

    pair = integers(2)
    signature = (pointer(dtype), integers(4), pointer(dtype), pointer(acc_dtype), scalar(acc_dtype), pointer(out_dtype),
                 integers(4), integers(3), *(pair,) * 4)
    return signature, depthwise_tile
