"""Maxima, minima and sums of windows along one axis by doubling: work grows with the logarithm of the window.

::

    m_1(i) = x(source(i)),   m_2p(i) = m_p(i) o m_p(i + p)              o is max, min or +; source: `shared.boundaries`
    window(i) = m_p(i) o m_q(i + p) o m_r(i + (p + q)) ...              taps = p + q + r + ..., p < q < r

What it changes over `filter_line`: a strip is doubled in shared memory log2(taps) times, by all threads at once. What
it changes over `pool_running`, which does this for planes: any axis of any image, one pass, and windows that reach
beyond the rims see what the boundary mode puts there. Sums are pairs of pairs: nothing is subtracted, so that neither a
NaN nor a rounding error reaches windows that do not see its element. A NaN is the result of all windows that see it.

Sources: van Herk (1992) and Gil and Werman (1993) for the problem, Hillis and Steele (1986) for doubling. Not measured
yet on a GPU.
"""

from __future__ import annotations

import numpy as np

from ..shared import lines as cut
from ..shared.boundaries import source
from ..shared.lines import Lines
from ..shared.places import corner, parted
from ..shared.pooling import above
from ..system.kernels import FLOAT64, cuda, factory, integers, pointer, scalar
from ..system.streams import Stream, Tensor
from ..tiles.elements import widen
from ..tiles.rounding import settle

#: Copies of a strip in shared memory: two in turn, and the windows so far.
COPIES = 3


def supports(of: Lines, taps: int, kind: np.dtype) -> bool:
    """Whether shared memory has room for a window."""
    return cut.strip(of, taps, 0, COPIES * kind.itemsize) is not None


def run(
    x: Tensor, out: Tensor, of: Lines, taps: int, before: int, kind: np.dtype, op: str, boundary: str, fill: float,
    scale: float, divisor: float, rule: str, stream: Stream,
) -> None:
    """Filter by the operation "max", "min" or "sum": of elements times `scale`, divided by `divisor`."""
    this = cut.strip(of, taps, before, COPIES * kind.itemsize)
    assert this is not None
    kernel = _running(op, x.dtype, kind, out.dtype, boundary, rule, len(of.outer), scale != 1, divisor != 1)
    stream.launch(
        kernel, cut.blocks(of, this), cut.threads(this), x.pointer, out.pointer, fill, scale, divisor, *of, this,
        shared=(2 * this.seen + this.outputs) * this.lanes * kind.itemsize,
    )


@factory
def _running(op, dtype, kind, out_dtype, boundary, rule, rank, scales, divides):
    load, store, locate = widen(dtype, kind), settle(kind, out_dtype, rule), source(boundary)
    number, value_type, place, better, adds = kind.type, scalar(kind), corner(rank), above(op), op == "sum"

    def running_filter(x, out, fill, scale, divisor, outer, x_outer, out_outer, axis, lane_axis, strip):
        (size, x_step, out_step), (width, x_lane, out_lane) = axis, lane_axis
        count, lanes, strips, groups, taps, before = strip
        block, thread, threads = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x), np.int64(cuda.blockDim.x)
        line, first = parted(block, strips)
        line, lane0 = parted(line, groups)
        first, lane0 = first * count, lane0 * lanes
        start, goal = place(line, outer, x_outer, out_outer)
        outputs = min(count, size - first)
        total, results = (outputs + taps - 1) * lanes, outputs * lanes

        # The strip in its two copies, and behind them the windows.
        so_far = 2 * total
        values = cuda.shared.array(0, value_type)
        at = thread
        while at < total:
            row, column = parted(at, lanes)
            position, value = locate(first + row - before, size), number(fill)
            if position >= 0 and lane0 + column < width:
                value = load(x[start + position * x_step + (lane0 + column) * x_lane])
            if scales:
                value = number(value * number(scale))
            values[np.uint64(at)] = value
            at += threads
        cuda.syncthreads()

        here, there, reach, done = np.int64(0), total, np.int64(1), np.int64(0)
        while reach <= taps:
            if taps & reach:  # a digit: add the taps that it stands for to each window
                at = thread
                while at < results:
                    b = values[np.uint64(here + at + done * lanes)]
                    if done:
                        a = values[np.uint64(so_far + at)]
                        if adds:
                            b = number(a + b)
                        elif not (better(b, a) or b != b):
                            b = a
                    values[np.uint64(so_far + at)] = b
                    at += threads
                done += reach
            if 2 * reach <= taps:
                at = thread
                while at < total:
                    # Positions behind the strip do not exist, and no window of this strip sees them.
                    a, b = values[np.uint64(here + at)], values[np.uint64(here + min(at + reach * lanes, total - 1))]
                    if adds:
                        a = number(a + b)
                    elif better(b, a) or b != b:
                        a = b
                    values[np.uint64(there + at)] = a
                    at += threads
                cuda.syncthreads()
                here, there = there, here
            reach *= 2

        at = thread
        while at < results:
            row, column = parted(at, lanes)
            if lane0 + column < width:
                value = values[np.uint64(so_far + at)]
                if divides:
                    value = number(value / number(divisor))
                out[goal + (first + row) * out_step + (lane0 + column) * out_lane] = store(value)
            at += threads

    several, three = integers(rank), integers(3)
    signature = pointer(dtype), pointer(out_dtype), scalar(kind), FLOAT64, FLOAT64, several, several, several
    return (*signature, three, three, integers(6)), running_filter
