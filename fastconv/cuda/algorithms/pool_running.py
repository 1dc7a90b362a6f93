"""Large windows by doubling, first along rows and then down columns: work grows with the logarithm of the window.

Maxima, minima and sums of p taps are put together from those of half as many (d is the dilation, o is max, min or +),
and a window of k taps from those of the binary digits of k, one behind the other::

    m_1(i) = x(i),   m_2p(i) = m_p(i) o m_p(i + p d)
    window(i) = m_p(i) o m_q(i + p d) o m_r(i + (p + q) d) ...                           k = p + q + r + ..., p < q < r

What it changes over `pool_rows`: a block takes a strip of one axis, with all that its windows see, to shared memory,
doubles it there log2(k) times, all threads at once, and writes one result a window. So each pass reads and writes
memory once, whatever the window is. Sums are pairs of pairs, without the subtractions of a running sum, whose error
grows and which spread NaN and infinity.

A strip along the rows is one row. A strip down the columns is LANES neighbouring columns, so that whole sectors are
read. One kernel makes both; it sees memory as (outer, axis, inner). The first pass leaves values (and their columns, if
indices are asked for) in scratch memory, the second makes the result.

Sources: van Herk (1992) and Gil and Werman (1993) for the problem, Hillis and Steele (1986) for doubling. It wins from
windows of about 6x6 with small strides on. Not measured yet on a GPU.
"""
from __future__ import annotations

import math

import numpy as np

from ...specs.pool import PoolSpec
from ..machine import Machine
from ..shared.pooling import NORMS, PICKS, above, finish, nothing, power, reduction
from ..system.kernels import INT64, MOST_BLOCKS, cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Stream, Tensor, dense
from ..tiles.elements import narrow, widen

#: Copies of a strip in shared memory: two in turn, and the windows so far.
COPIES = 3
#: Threads of a block, for strips that are long enough, and threads of a warp.
THREADS, WARP = pick(256, 4), pick(32, 4)
#: Neighbouring columns of a strip down the columns: a sector of 32 bytes.
LANES = pick(8, 2)
#: Bytes of shared memory of a block (48 KiB), and most positions on the axis in it, unless a window needs more.
SHARED, POSITIONS = 48 << 10, pick(1024, 12)


def supports(spec: PoolSpec) -> str | None:
    if spec.op == "lp" and spec.norm not in NORMS:
        return f"it is for the norms {', '.join(map(str, NORMS))}, got {spec.norm}"
    for axis, lanes, lines in ((1, 1, spec.h), (0, LANES, -(-spec.ow // LANES))):
        windows, _ = _strip(spec, axis, lanes, True)
        if windows < 1:
            return f"the window spans more than shared memory holds: {_reach(spec, axis) + 1} on one axis"
        if spec.planes * lines * -(-(spec.oh, spec.ow)[axis] // windows) > MOST_BLOCKS:
            return f"its blocks are numbered in 32 bits, too few for {spec.planes} planes"
    return None


def _reach(spec: PoolSpec, axis: int) -> int:
    return ((spec.kh, spec.kw)[axis] - 1) * spec.dilation[axis]


def _strip(spec: PoolSpec, axis: int, lanes: int, with_indices: bool) -> tuple[int, int]:
    """Windows of a strip, and the positions that they see."""
    bytes_each = COPIES * lanes * (spec.x_dtype.itemsize + (8 if with_indices and spec.picks else 0))
    step, reach, windows = spec.stride[axis], _reach(spec, axis), (spec.oh, spec.ow)[axis]
    room = SHARED // bytes_each - 16
    positions = min(room, max(POSITIONS // lanes, 2 * reach))
    count = min(windows, (positions - reach - 1) // step + 1) if positions > reach else 0
    return count, (count - 1) * step + reach + 1


def cost(spec: PoolSpec, machine: Machine) -> float:
    seconds = 2 * machine.launch
    size = spec.x_dtype.itemsize
    for axis, (rows, cols) in ((1, (spec.h, spec.w)), (0, (spec.h, spec.ow))):
        count, seen = _strip(spec, axis, 1 if axis else LANES, True)
        strips = -(-(spec.oh, spec.ow)[axis] // count)
        elements = spec.planes * (rows if axis else cols) * strips * seen
        steps = math.log2(2 * max((spec.kh, spec.kw)[axis], 1)) + 1
        shared = elements * (3 * steps / 32 + 10 * steps / 128) / (machine.processors * machine.clock)
        seconds += max(shared, elements * 2 * size / machine.bandwidth)
    return seconds


def scratch(spec: PoolSpec) -> int:
    index = 8 if spec.picks else 0
    return spec.planes * spec.h * spec.ow * (spec.x_dtype.itemsize + index)


def run(spec: PoolSpec, x: Tensor, out: Tensor, indices: Tensor | None, stream: Stream) -> None:
    (top, _), (left, _) = spec.padding
    n, c, oh, ow = out.shape
    kind, indexed = spec.x_dtype, indices is not None
    between = dense(stream.empty(n * c * spec.h * ow, kind), (n, c, spec.h, ow))
    columns = dense(stream.empty(n * c * spec.h * ow if indexed else 0, np.int64), between.shape)
    op, norm = reduction(spec)

    def launch(axis, source, source_index, target, target_index, final):
        lanes = 1 if axis else LANES
        count, seen = _strip(spec, axis, lanes, indexed)
        kernel = _running_pass(op, source.dtype, kind, target.dtype, axis, lanes, indexed, norm, final)
        inner = 1 if axis else ow
        lines = n * c * (spec.h if axis else 1) * -(-inner // lanes)
        strips = -(-(oh, ow)[axis] // count)
        taps, step, gap, pad = (spec.kh, spec.kw)[axis], spec.stride[axis], spec.dilation[axis], (top, left)[axis]
        before, counted = zip(*spec.counted[1:], strict=True)
        memory = (2 * seen + count) * lanes * (kind.itemsize + (8 if indexed else 0)) + 16
        arguments = (
            source.pointer, source.strides, source_index.pointer, target.pointer, target.strides, target_index.pointer,
            target_index.strides, (strips, lines, c, spec.h), ((spec.h, spec.w)[axis], (oh, ow)[axis], inner, spec.w),
            (taps, step, gap, pad), (count, seen),
        )
        if final and op not in PICKS:
            arguments += ((spec.kh, spec.kw), spec.stride, (top, left), spec.dilation, before, counted,
                          0 if spec.divisor is None else spec.divisor)
        else:
            arguments += ((1, 1),) * 6 + (0,)
        threads = min(THREADS, -(-seen * lanes // WARP) * WARP)
        stream.launch(kernel, strips * lines, threads, *arguments, shared=memory)

    launch(1, x, columns, between, columns, False)
    launch(0, between, columns, out, columns if indices is None else indices, True)


@factory
def _running_pass(op, dtype, kind, out_dtype, axis, lanes, indexed, norm, final):
    number, value_type = kind.type, scalar(kind)
    picks, along_rows, to_power = op in PICKS, axis == 1, power(0.0 if final else norm, kind)
    load, store, finished = widen(dtype, kind), narrow(out_dtype), finish(norm, kind)
    lowest, better = nothing(op, kind), above(op)
    bytes_each = kind.itemsize

    def running_pass(x, x_steps, x_index, out, out_steps, out_index, index_steps, lines, axes, taps_of_axis, strip,
                     window, stride, pads, dilation, before, counted, divisor):
        (strips, _, channels, rows), (size, windows, inner, width) = lines, axes
        (taps, step, gap, pad), (count, seen) = taps_of_axis, strip
        block, thread, threads = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x), np.int64(cuda.blockDim.x)
        line, w0 = block // strips, block % strips * count
        if along_rows:
            row, plane, lane0 = line % rows, line // rows, np.int64(0)
        else:
            groups = (inner + lanes - 1) // lanes
            row, plane, lane0 = np.int64(0), line // groups, line % groups * lanes
        n, c = plane // channels, plane % channels

        # Values in their copies, and indices behind them; the copy of the windows begins at `so_far`.
        total, results = seen * lanes, count * lanes
        so_far = 2 * total
        values = cuda.shared.array(0, value_type)
        found = cuda.shared.array(0, INT64)
        behind = ((so_far + results) * bytes_each + 7) // 8

        for at in range(thread, total, threads):
            position, lane = w0 * step - pad + at // lanes, lane0 + at % lanes
            value, index = lowest, np.int64(-1)
            if 0 <= position < size and lane < inner:
                offset = n * x_steps[0] + c * x_steps[1]
                if along_rows:
                    offset += row * x_steps[2] + position * x_steps[3]
                    index = position
                else:
                    offset += position * x_steps[2] + lane * x_steps[3]
                    if indexed:
                        index = position * width + x_index[offset]
                value = to_power(load(x[offset]))
            values[np.uint64(at)] = value
            if indexed:
                found[np.uint64(behind + at)] = index
        for at in range(thread, results, threads):
            values[np.uint64(so_far + at)] = lowest
            if indexed:
                found[np.uint64(behind + so_far + at)] = np.int64(-1)
        cuda.syncthreads()

        here, there, reach, done = np.int64(0), total, np.int64(1), np.int64(0)
        while reach <= taps:
            if taps & reach:  # a digit: add the taps that it stands for to each window
                for at in range(thread, results, threads):
                    one, other = so_far + at, here + (at // lanes * step + done * gap) * lanes + at % lanes
                    a, b = values[np.uint64(one)], values[np.uint64(other)]
                    if not picks:
                        values[np.uint64(one)] = number(a + b)
                    elif indexed:
                        i, k = found[np.uint64(behind + one)], found[np.uint64(behind + other)]
                        if k >= 0 and (better(b, a) or b != b or i < 0):
                            values[np.uint64(one)], found[np.uint64(behind + one)] = b, k
                    elif better(b, a) or b != b:
                        values[np.uint64(one)] = b
                done += reach
            if 2 * reach <= taps:
                ahead = reach * gap * lanes
                for at in range(thread, total, threads):
                    # Positions behind the strip do not exist, and no window of this strip sees them.
                    one, other = here + at, here + min(at + ahead, total - 1)
                    a, b = values[np.uint64(one)], values[np.uint64(other)]
                    if not picks:
                        a = number(a + b)
                    elif indexed:
                        i, k = found[np.uint64(behind + one)], found[np.uint64(behind + other)]
                        if k >= 0 and (better(b, a) or b != b or i < 0):
                            a, i = b, k
                        found[np.uint64(behind + there + at)] = i
                    elif better(b, a) or b != b:
                        a = b
                    values[np.uint64(there + at)] = a
                cuda.syncthreads()
                here, there = there, here
            reach *= 2

        for at in range(thread, results, threads):
            k, lane = w0 + at // lanes, lane0 + at % lanes
            if k < windows and lane < inner:
                i, j = (row, k) if along_rows else (k, lane)
                value = values[np.uint64(so_far + at)]
                if final and not picks:
                    top, left = i * stride[0] - pads[0], j * stride[1] - pads[1]
                    value = finished(value, top, left, window, dilation, before, counted, False, divisor)
                out[n * out_steps[0] + c * out_steps[1] + i * out_steps[2] + j * out_steps[3]] = store(value)
                if indexed:
                    place = n * index_steps[0] + c * index_steps[1] + i * index_steps[2] + j * index_steps[3]
                    out_index[place] = found[np.uint64(behind + so_far + at)]

    pair, index = integers(2), pointer(np.int64)
    signature = (pointer(dtype), integers(4), index, pointer(out_dtype), integers(4), index, integers(4),
                 integers(4), integers(4), integers(4), *(pair,) * 7, INT64)
    return signature, running_pass
