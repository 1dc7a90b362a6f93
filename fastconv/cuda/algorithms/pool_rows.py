"""Small windows read in place: the window is a constant of the compiled code, so all its loads are under way at once.

The equations are those of `pool_naive`; sums are float32 for float32 and halves, which is exact to a few roundings for
a window of at most TAPS elements.

What it changes over `pool_naive`: memory limits pooling, and a direct kernel adds arithmetic on indices. So a thread
finds its place by three divisions in 32 bits, and then makes EACH outputs below each other. Neighbouring threads have
neighbouring columns, or neighbouring channels if these lie together in memory (channels last), so that a warp reads
whole rows. Windows inside the image, nearly all of them, are read without checks; where windows overlap, elements come
from the first-level cache.

It wins for windows up to about 5x5, and wherever windows do not overlap. Not measured yet on a GPU.
"""

from __future__ import annotations

import numpy as np

from ...specs.dtypes import computed
from ...specs.pool import PoolSpec
from ..machine import Machine
from ..shared.pooling import NORMS, above, block_shape, finish, lanes_last, power, reduction
from ..system.kernels import INT64, MOST_BLOCKS, cuda, factory, integers, pointer
from ..system.streams import Stream, Tensor
from ..tiles.elements import narrow, widen
from ..tiles.ptx import inlined

#: Outputs of a thread below each other: enough loads under way to hide memory's latency at full occupancy.
EACH = 2
#: Most loads of a window, which are written out; with more, compiling takes long and `pool_running` is faster.
TAPS = 64


def supports(spec: PoolSpec) -> str | None:
    if spec.kh * spec.kw > TAPS:
        return f"it is for windows of at most {TAPS} elements, got {spec.kh}x{spec.kw}"
    if spec.op == "lp" and spec.norm not in NORMS:
        return f"it is for the norms {', '.join(map(str, NORMS))}, got {spec.norm}"
    if spec.planes * spec.ow >= 1 << 32 or spec.planes * -(-spec.oh // EACH) * -(-spec.ow // 8) > MOST_BLOCKS:
        return f"its blocks are numbered in 32 bits, too few for {spec.planes} planes"
    return None


def cost(spec: PoolSpec, machine: Machine) -> float:
    outputs = spec.planes * spec.oh * spec.ow
    read = spec.planes * spec.h * spec.w * spec.dtype.itemsize
    read = min(read, outputs * spec.kh * spec.kw * 32)  # whole sectors, if strides leave out elements
    # A multiprocessor loads 32 values a cycle from its cache and does 128 other instructions a cycle; an output takes
    # about 40 of these. Threads without an output take as long.
    across, down, deep = block_shape(spec.ow)
    threads = -(-spec.ow // across) * across * -(-spec.oh // (down * EACH)) * down * -(-spec.planes // deep) * deep
    loads = EACH * threads * (spec.kh * spec.kw / 32 + 40 / 128) / (machine.processors * machine.clock)
    return machine.launch + max(loads, (read + outputs * spec.out_dtype.itemsize) / machine.bandwidth)


def scratch(spec: PoolSpec) -> int:
    return 0


def run(spec: PoolSpec, x: Tensor, out: Tensor, indices: Tensor | None, stream: Stream) -> None:
    (top, _), (left, _) = spec.padding
    n, c, oh, ow = out.shape
    last = lanes_last(x)
    lanes, depth = (c, n * ow) if last else (ow, n * c)
    across, down, deep = block = block_shape(lanes)
    tiles = -(-lanes // across), -(-oh // (down * EACH))
    blocks = tiles[0] * tiles[1] * -(-depth // deep)
    geometry = (lanes, depth, oh, ow if last else c), (spec.h, spec.w), (top, left), tiles
    window = (spec.kh, spec.kw), spec.stride, spec.dilation
    if spec.picks:
        found = out if indices is None else indices  # a pointer that is not written to
        kernel = _rows_pick(spec.op, x.dtype, *window, block, last, indices is not None)
        arrays = x.pointer, x.strides, out.pointer, out.strides, found.pointer, found.strides
        stream.launch(kernel, blocks, block, *arrays, *geometry)
    else:
        before, counted = zip(*spec.counted[1:], strict=True)
        kernel = _rows_sum(x.dtype, out.dtype, *window, block, last, reduction(spec)[1])
        stream.launch(kernel, blocks, block, x.pointer, x.strides, out.pointer, out.strides, *geometry,
                      before, counted, 0 if spec.divisor is None else spec.divisor)


@inlined
def _thread(tiles, across, down, deep):
    """The lane, the first row and the depth that are this thread's."""
    number, tiles_l, tiles_h = np.uint32(cuda.blockIdx.x), np.uint32(tiles[0]), np.uint32(tiles[1])
    lane = np.int64(number % tiles_l) * across + cuda.threadIdx.x
    first = (np.int64(number // tiles_l % tiles_h) * down + cuda.threadIdx.y) * EACH
    return lane, first, np.int64(number // tiles_l // tiles_h) * deep + cuda.threadIdx.z


@factory
def _rows_pick(op, dtype, window, stride, dilation, block, last, with_indices):
    (kh, kw), (step_h, step_w), (gap_h, gap_w), (across, down, deep) = window, stride, dilation, block
    load, better = widen(dtype, computed(dtype)), above(op)

    def rows_pick(x, x_steps, out, out_steps, indices, index_steps, sizes, image, pad, tiles):
        (lanes, depth, oh, inner), (h, w) = sizes, image
        lane, first, z = _thread(tiles, across, down, deep)
        if lane >= lanes or z >= depth:
            return
        n, other = np.int64(np.uint32(z) // np.uint32(inner)), np.int64(np.uint32(z) % np.uint32(inner))
        j, c = (other, lane) if last else (lane, other)
        left = j * step_w - pad[1]
        for r in range(EACH):
            i = first + r
            if i < oh:
                top = i * step_h - pad[0]
                at = n * x_steps[0] + c * x_steps[1] + top * x_steps[2] + left * x_steps[3]
                whole = top >= 0 and left >= 0 and top + (kh - 1) * gap_h < h and left + (kw - 1) * gap_w < w
                if whole:
                    bits = x[at]
                    best, found = load(bits), np.int64(0)
                    for a in range(kh):
                        for b in range(kw):
                            raw = x[at + a * gap_h * x_steps[2] + b * gap_w * x_steps[3]]
                            value = load(raw)
                            if better(value, best) or value != value:
                                best, bits, found = value, raw, np.int64(a * gap_h * w + b * gap_w)
                    found += top * w + left
                else:
                    # Some tap is inside, as the spec's checks make sure; the search begins at the first one.
                    a = max(0, -(top // gap_h))
                    b = max(0, -(left // gap_w))
                    found = (top + a * gap_h) * w + left + b * gap_w
                    bits = x[at + a * gap_h * x_steps[2] + b * gap_w * x_steps[3]]
                    best = load(bits)
                    for a in range(kh):
                        for b in range(kw):
                            row, col = top + a * gap_h, left + b * gap_w
                            if 0 <= row < h and 0 <= col < w:
                                raw = x[at + a * gap_h * x_steps[2] + b * gap_w * x_steps[3]]
                                value = load(raw)
                                if better(value, best) or value != value:
                                    best, bits, found = value, raw, row * w + col
                out[n * out_steps[0] + c * out_steps[1] + i * out_steps[2] + j * out_steps[3]] = bits
                if with_indices:
                    indices[n * index_steps[0] + c * index_steps[1] + i * index_steps[2] + j * index_steps[3]] = found

    pair, index = integers(2), pointer(np.int64 if with_indices else dtype)
    four = integers(4)
    signature = (pointer(dtype), four, pointer(dtype), four, index, four, four, *(pair,) * 3)
    return signature, rows_pick


@factory
def _rows_sum(dtype, out_dtype, window, stride, dilation, block, last, norm):
    (kh, kw), (step_h, step_w), (gap_h, gap_w), (across, down, deep) = window, stride, dilation, block
    number_type = computed(out_dtype).type
    load, store, finished = widen(dtype, computed(out_dtype)), narrow(out_dtype), finish(norm, computed(out_dtype))
    to_power, largest = power(norm, computed(out_dtype)), norm == np.inf

    def rows_sum(x, x_steps, out, out_steps, sizes, image, pad, tiles, before, counted, divisor):
        (lanes, depth, oh, inner), (h, w) = sizes, image
        lane, first, z = _thread(tiles, across, down, deep)
        if lane >= lanes or z >= depth:
            return
        n, other = np.int64(np.uint32(z) // np.uint32(inner)), np.int64(np.uint32(z) % np.uint32(inner))
        j, c = (other, lane) if last else (lane, other)
        left = j * step_w - pad[1]
        for r in range(EACH):
            i = first + r
            if i < oh:
                top = i * step_h - pad[0]
                at = n * x_steps[0] + c * x_steps[1] + top * x_steps[2] + left * x_steps[3]
                whole = top >= 0 and left >= 0 and top + (kh - 1) * gap_h < h and left + (kw - 1) * gap_w < w
                total = number_type(0)
                for a in range(kh):
                    for b in range(kw):
                        row, col = top + a * gap_h, left + b * gap_w
                        if whole or (0 <= row < h and 0 <= col < w):
                            value = to_power(load(x[at + a * gap_h * x_steps[2] + b * gap_w * x_steps[3]]))
                            if not largest:
                                total = number_type(total + value)
                            elif value > total or value != value:
                                total = value
                value = total
                if not largest:
                    value = finished(total, top, left, window, dilation, before, counted, whole, divisor)
                out[n * out_steps[0] + c * out_steps[1] + i * out_steps[2] + j * out_steps[3]] = store(value)

    pair = integers(2)
    signature = (pointer(dtype), integers(4), pointer(out_dtype), integers(4), integers(4), *(pair,) * 5, INT64)
    return signature, rows_sum
