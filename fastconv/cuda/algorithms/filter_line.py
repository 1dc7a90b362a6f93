"""Filters along one axis: sums of products over a window, with the boundary mode as a constant of the compiled code.

::

    out[.., i, ..] = sum over t of weight[t] * x[.., source(i - before + t), ..]    source: `shared.boundaries`

A block takes a strip of lines to shared memory (`shared.lines`): each element is read once, whatever the window is, and
only there is it asked what lies beyond the rims. Then each thread sums up windows, all of whose taps lie at one step
from each other. Neighbouring threads have neighbouring elements of memory, along the axis or across it.

What it changes over `filter_dense`: that reads every tap from memory's caches. Not measured yet on a GPU.
"""

from __future__ import annotations

import numpy as np

from ..shared import lines as cut
from ..shared.boundaries import source
from ..shared.lines import Lines
from ..shared.places import corner, parted
from ..shared.sums import along_line
from ..system.kernels import cuda, factory, integers, pointer, scalar
from ..system.streams import Buffer, Stream, Tensor
from ..tiles.elements import widen
from ..tiles.rounding import settle


def supports(of: Lines, taps: int, kind: np.dtype) -> bool:
    """Whether shared memory has room for a window."""
    return cut.strip(of, taps, 0, kind.itemsize) is not None


def run(
    x: Tensor, out: Tensor, of: Lines, taps: int, before: int, weights: Buffer, order: str, boundary: str, fill: float,
    rule: str, stream: Stream,
) -> None:
    """Filter; `weights` have the dtype that is computed in."""
    kind = weights.dtype
    this = cut.strip(of, taps, before, kind.itemsize)
    assert this is not None
    kernel = _line(x.dtype, kind, out.dtype, boundary, order, rule, len(of.outer))
    stream.launch(
        kernel, cut.blocks(of, this), cut.threads(this), x.pointer, out.pointer, weights.pointer, fill, *of, this,
        shared=this.seen * this.lanes * kind.itemsize,
    )


@factory
def _line(dtype, kind, out_dtype, boundary, order, rule, rank):
    load, store, locate = widen(dtype, kind), settle(kind, out_dtype, rule), source(boundary)
    sums, place, number, value_type = along_line(kind, order), corner(rank), kind.type, scalar(kind)

    def line_filter(x, out, weights, fill, outer, x_outer, out_outer, axis, lane_axis, strip):
        (size, x_step, out_step), (width, x_lane, out_lane) = axis, lane_axis
        count, lanes, strips, groups, taps, before = strip
        block, thread, threads = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x), np.int64(cuda.blockDim.x)
        line, first = parted(block, strips)
        line, lane0 = parted(line, groups)
        first, lane0 = first * count, lane0 * lanes
        start, goal = place(line, outer, x_outer, out_outer)
        outputs = min(count, size - first)

        values = cuda.shared.array(0, value_type)
        at = thread
        while at < (outputs + taps - 1) * lanes:
            row, column = parted(at, lanes)
            position, value = locate(first + row - before, size), number(fill)
            if position >= 0 and lane0 + column < width:
                value = load(x[start + position * x_step + (lane0 + column) * x_lane])
            values[np.uint64(at)] = value
            at += threads
        cuda.syncthreads()

        at = thread
        while at < outputs * lanes:
            row, column = parted(at, lanes)
            if lane0 + column < width:
                total = sums(values, at, lanes, weights, taps)
                out[goal + (first + row) * out_step + (lane0 + column) * out_lane] = store(total)
            at += threads

    several, three = integers(rank), integers(3)
    signature = (pointer(dtype), pointer(out_dtype), pointer(kind), scalar(kind), several, several, several)
    return (*signature, three, three, integers(6)), line_filter
