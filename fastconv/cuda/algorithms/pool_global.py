"""Few large windows, as in global pooling: many threads share a window and combine their results in pairs.

::

    max:  out[n, c, i, j] = max over e of x[n, c, pixel(e)]      e counts the window's pixels inside the input, by rows
    avg:  out[n, c, i, j] = (sum over e of x[n, c, pixel(e)]) / divisor
    lp:   as avg, of the powers of |x| and with the root in the end; of an infinite norm as max, of |x|

What it changes over `pool_rows`, where a thread has a window for itself: neighbouring threads load neighbouring
elements, so that a warp reads whole sectors however far windows are apart, and one large window keeps a whole GPU busy.

One thread takes the elements e, e + `each`, e + 2 `each` ... of a window; then one half of the threads combines its
results with the other half's in shared memory, log2(`each`) times. `each` is 8 for small windows, a warp or a block for
larger ones. Where channels lie side by side (channels last), neighbouring threads have neighbouring channels, and 8
share a window. Where that does not fill a GPU, windows are cut into parts, and a second launch of this kernel makes the
result from the parts, always in one order.

The kernel also does adaptive pooling, with windows of unequal size, and then ignores padding, stride and dilation.

Of sums of more than LONG elements of a thread, what rounding takes is kept.

The index of a maximum is its first occurrence's, or the last NaN's: what is folded has an index, and equals choose by
it. It wins for global pooling and windows that do not overlap. Not measured yet on a GPU.

Source: Harris, Optimizing parallel reduction in CUDA, 2007.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...specs.pool import PoolSpec
from ..machine import Machine, this_machine
from ..shared.pooling import LONG, NORMS, PICKS, above, finish, lanes_last, nothing, plus, power, reduction
from ..system.kernels import INT64, MOST_BLOCKS, cuda, device_function, factory, integers, pick, pointer, scalar
from ..system.streams import Stream, Tensor, dense
from ..tiles.elements import narrow, widen

#: Threads of a block, of a warp, and of those that share a small window, which load a sector of 32 bytes at a time.
THREADS, WARP, FEW = pick(256, 8), pick(32, 4), pick(8, 2)
#: Elements of a window from which on a warp shares it, and from which on a block does; least elements of a part.
MEDIUM, LARGE, PART = pick(256, 8), pick(2048, 24), pick(8192, 16)
#: Threads of a multiprocessor that are enough to hide memory's latency.
BUSY = pick(1024, 1)


class Cut(NamedTuple):
    """A division of windows among threads."""

    each: int
    """Threads that share a window."""
    parts: int
    share: int
    """Most elements of a part."""


def supports(spec: PoolSpec) -> str | None:
    if spec.op == "lp" and spec.norm not in NORMS:
        return f"it is for the norms {', '.join(map(str, NORMS))}, got {spec.norm}"
    if spec.planes * spec.oh * spec.ow > MOST_BLOCKS:
        return f"its blocks are numbered in 32 bits, too few for {spec.planes} planes"
    return None


def _elements(spec: PoolSpec) -> int:
    """Most elements of a window that lie inside the input."""
    return min(spec.kh, spec.h) * min(spec.kw, spec.w)


def _cut(spec: PoolSpec, machine: Machine, last: bool) -> Cut:
    windows, elements = spec.planes * spec.oh * spec.ow, _elements(spec)
    each = FEW if last or elements < MEDIUM else WARP if elements < LARGE else THREADS
    wanted = machine.processors * BUSY // (windows * each or 1)
    parts = max(1, min(wanted, elements // PART, MOST_BLOCKS // (windows or 1)))
    share = -(-elements // parts)
    return Cut(each, -(-elements // share), share)


def _flat(spec: PoolSpec, x: Tensor) -> bool:
    """Whether a window's pixels follow each other at equal steps, because it has whole rows."""
    whole = spec.ow == 1 and spec.kw - spec.padding[1][0] >= spec.w and (spec.dilation[1] == 1 or spec.w == 1)
    rows = spec.h == 1 or (x.strides[2] == spec.w * x.strides[3] and (spec.dilation[0] == 1 or spec.kh == 1))
    return whole and rows


def cost(spec: PoolSpec, machine: Machine) -> float:
    windows, elements = spec.planes * spec.oh * spec.ow, _elements(spec)
    cut = _cut(spec, machine, False)
    filled = min(1.0, windows * cut.each * cut.parts / (machine.processors * BUSY))
    # Some 30 instructions for an element that a division finds, 10 otherwise, and 150 of each thread for combining.
    flat = spec.ow == 1 and spec.kw >= spec.w
    rounds = -(-cut.share // cut.each) * (10 if flat else 30) + 150  # the divisions have 64 bits
    work = windows * cut.parts * cut.each * rounds / 128 / (machine.processors * machine.clock)
    moved = windows * (elements * spec.dtype.itemsize + spec.out_dtype.itemsize)
    launches = 2 if cut.parts > 1 else 1
    return launches * machine.launch + max(work, moved / machine.bandwidth) / max(filled, 1e-6)


def scratch(spec: PoolSpec) -> int:
    cut = _cut(spec, this_machine(), False)
    bytes_each = spec.x_dtype.itemsize + (8 if spec.picks else 0)
    return spec.planes * spec.oh * spec.ow * cut.parts * bytes_each if cut.parts > 1 else 0


def run(spec: PoolSpec, x: Tensor, out: Tensor, indices: Tensor | None, stream: Stream) -> None:
    (top, _), (left, _) = spec.padding
    kind, indexed, last, (op, norm) = spec.x_dtype, indices is not None, lanes_last(x), reduction(spec)
    cut, windows = _cut(spec, this_machine(), last), out.size
    before, counted = zip(*spec.counted[1:], strict=True)
    shape = (1, 1, windows, cut.parts)
    found = dense(stream.empty(windows * cut.parts if indexed and cut.parts > 1 else 0, np.int64), shape)
    result = found if indices is None else indices

    def launch(source: Tensor, source_index: Tensor, target: Tensor, target_index: Tensor, cut: Cut, stage: str,
               flat: bool) -> None:
        kernel = _fold_windows(op, source.dtype, kind, target.dtype, cut.each, last, flat, indexed, norm, stage,
                               spec.adaptive, op not in PICKS and cut.share > LONG * cut.each)
        blocks = -(-windows // (THREADS // cut.each)) * cut.parts
        stream.launch(
            kernel, blocks, THREADS, source.pointer, source.strides, source_index.pointer, target.pointer,
            target.strides, target_index.pointer, target_index.strides, (windows, out.shape[1], cut.parts, cut.share),
            (spec.h, spec.w), (spec.oh, spec.ow), (spec.kh, spec.kw), spec.stride, (top, left), spec.dilation, before,
            counted, 0 if spec.divisor is None else spec.divisor,
        )

    if cut.parts == 1:
        launch(x, found, out, result, cut, "only", _flat(spec, x))
    else:
        partial = dense(stream.empty(windows * cut.parts, kind), shape)
        launch(x, found, partial, found, cut, "first", _flat(spec, x))
        launch(partial, found, out, result, Cut(FEW if last else WARP, 1, cut.parts), "second", True)


@device_function
def _inside(start, dilation, size, taps):
    """The taps of a window inside an axis: the first and the last + 1."""
    return max(0, -(start // dilation)), min(taps, (size - 1 - start) // dilation + 1)


@factory
def _fold_windows(op, dtype, kind, out_dtype, each, last, flat, indexed, norm, stage, adaptive, long):
    number, value_type = kind.type, scalar(kind)
    picks, final, second = op in PICKS, stage != "first", stage == "second"
    to_power = power(0.0 if second else norm, kind)
    load, store, added, finished = widen(dtype, kind), narrow(out_dtype), plus(long, kind), finish(norm, kind)
    lowest, better = nothing(op, kind), above(op)
    slots = THREADS // each
    e_step, w_step = (slots, 1) if last else (1, each)
    room = THREADS if indexed else 1

    def fold_windows(x, x_steps, x_index, out, out_steps, out_index, index_steps, sizes, image, outputs, window, stride,
                     pads, dilation, before, counted, divisor):
        (windows, channels, parts, share), (h, w), (oh, ow) = sizes, image, outputs
        values = cuda.shared.array(THREADS, value_type)
        found = cuda.shared.array(room, INT64)
        thread, block = np.int64(cuda.threadIdx.x), np.int64(cuda.blockIdx.x)
        if last:
            slot, first = thread % slots, thread // slots
        else:
            slot, first = thread // each, thread % each
        this, part = block // parts * slots + slot, block % parts
        inner = channels if last else ow * oh
        other = this // inner
        if last:
            c, j, i, n = this % inner, other % ow, other // ow % oh, other // ow // oh
        else:
            j, i, c, n = this % ow, this // ow % oh, other % channels, other // channels
        top, left = i * stride[0] - pads[0], j * stride[1] - pads[1]
        if adaptive:
            top, left = i * h // oh, j * w // ow
            window = ((i + 1) * h + oh - 1) // oh - top, ((j + 1) * w + ow - 1) // ow - left

        value, lost, index = lowest, number(0), np.int64(-1)
        if this < windows:
            a0, a1 = _inside(top, dilation[0], h, window[0])
            b0, b1 = _inside(left, dilation[1], w, window[1])
            row, col, wide = top + a0 * dilation[0], left + b0 * dilation[1], b1 - b0
            start, count = n * x_steps[0] + c * x_steps[1] + row * x_steps[2] + col * x_steps[3], (a1 - a0) * wide
            if second:
                start, count = this * share, share
            for e in range(part * share + first, min(count, (part + 1) * share), each):
                if flat:
                    at, place = start + e * x_steps[3], row * w + e
                else:
                    down, across = e // wide * dilation[0], e % wide * dilation[1]
                    at, place = start + down * x_steps[2] + across * x_steps[3], (row + down) * w + col + across
                here = to_power(load(x[at]))
                if picks:
                    if second and indexed:
                        place = x_index[at]
                    if place >= 0 and (index < 0 or better(here, value) or here != here):
                        value, index = here, place
                else:
                    value, lost = added(value, lost, here)

        mine = first * e_step + slot * w_step
        values[mine] = value
        if indexed:
            found[mine] = index
        cuda.syncthreads()
        step = each // 2
        while step > 0:
            if first < step:
                a, b = values[mine], values[mine + step * e_step]
                if not picks:
                    values[mine] = number(a + b)
                elif indexed:
                    p, q = found[mine], found[mine + step * e_step]
                    if q >= 0 and (p < 0 or better(b, a) or (b == a and q < p) or (b != b and (a == a or q > p))):
                        values[mine], found[mine] = b, q
                elif better(b, a) or b != b:
                    values[mine] = b
            cuda.syncthreads()
            step //= 2

        if first == 0 and this < windows:
            value = values[mine]
            at = n * out_steps[0] + c * out_steps[1] + i * out_steps[2] + j * out_steps[3]
            if not final:
                at = this * parts + part
            elif not picks:
                value = finished(value, top, left, window, dilation, before, counted, False, divisor)
            out[at] = store(value)
            if indexed:
                if final:
                    at = n * index_steps[0] + c * index_steps[1] + i * index_steps[2] + j * index_steps[3]
                out_index[at] = found[mine]

    pair, four, index = integers(2), integers(4), pointer(np.int64)
    signature = (pointer(dtype), four, index, pointer(out_dtype), four, index, four, four, *(pair,) * 8, INT64)
    return signature, fold_windows
