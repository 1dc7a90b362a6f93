"""What a transposed convolution needs around its convolution: weights exchanged, phases interleaved.

::

    exchanged[g, c, p, o, t] = weight[g, o, c, order[p, t]]          order: which tap of the kernel
    out[plane, z, u, v] = phases[plane, (r(z), r(u), r(v)), m(z), m(u), m(v)]

where r and m are remainder and quotient of a position by the stride of its axis, its padding counted; the phases of a
plane, or the planes of a phase, lie one behind the other. Both only move elements, so they are called with integers of
the elements' size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from ..checks import Sizes
from . import simd
from .runtime import kernel
from .simd import _I32, _INT, Vector, _data, _load_masked, _mask, _store_masked


@kernel
def _shuffle_exchange(weight, order, exchanged, lanes):
    groups, channels, phases, depth, taps = exchanged.shape
    kernel_size = weight.shape[3]
    flat, blocks = weight.reshape(-1), (depth + lanes - 1) // lanes
    for job in prange(groups * blocks):
        g, first = job // blocks, job % blocks * lanes
        rows = min(lanes, depth - first)
        block = np.empty(kernel_size * lanes, weight.dtype)  # (taps, lanes) of one channel
        for c in range(channels):
            for k in range(0, kernel_size, lanes):
                at = ((g * depth + first) * channels + c) * kernel_size + k
                columns = min(lanes, kernel_size - k)
                simd.transpose(flat, at, channels * kernel_size, rows, columns, block, k * lanes, lanes)
            for p in range(phases):
                line = exchanged[g, c, p, first : first + rows]
                if taps == 1:
                    values = block[order[p, 0] * lanes : order[p, 0] * lanes + rows]
                    for o in range(rows):
                        line[o, 0] = values[o]
                else:
                    for t in range(taps):
                        values = block[order[p, t] * lanes : order[p, t] * lanes + rows]
                        for o in range(rows):
                            line[o, t] = values[o]


@kernel
def _shuffle_interleave(phases, strides, pad, first, out, by_phase, lanes):
    planes, d, h, w = out.shape
    s_d, s_h, s_w = strides
    n_d, n_h, n_w = phases.shape[2:]
    size = n_d * n_h * n_w
    apart = size * planes if by_phase else size  # from one phase to the next
    flat_phases, flat_out = phases.reshape(-1), out.reshape(-1)
    skipped = min(-pad[2] % s_w, w)  # columns before the first of phase 0
    begin = (skipped + pad[2]) // s_w - first[2]
    for job in prange(planes * d):
        plane, z = job // d, job % d
        r_d, m_d = (z + pad[0]) % s_d, (z + pad[0]) // s_d - first[0]
        r_h, m_h = pad[1] % s_h, pad[1] // s_h - first[1]
        origin = plane * (size if by_phase else size * s_d * s_h * s_w)
        for u in range(h):
            row = origin + (r_d * s_h + r_h) * s_w * apart + (m_d * n_h + m_h) * n_w
            to = (job * h + u) * w
            r_h += 1
            if r_h == s_h:
                r_h, m_h = 0, m_h + 1
            for v in range(skipped):
                at = (v + pad[2]) % s_w * apart + (v + pad[2]) // s_w - first[2]
                flat_out[to + v] = flat_phases[row + at]
            at = row + begin
            if s_w == 2:
                for j in range(0, (w - skipped + 1) // 2, lanes):
                    to_j = to + skipped + 2 * j
                    _pairs(flat_phases, at + j, at + apart + j, flat_out, to_j, w - skipped - 2 * j)
            else:
                for r in range(min(s_w, w - skipped)):
                    for j in range((w - skipped - r + s_w - 1) // s_w):
                        flat_out[to + skipped + r + j * s_w] = flat_phases[at + r * apart + j]


@intrinsic
def _pairs(typingctx: Any, source: Any, even: Any, odd: Any, out: Any, to: Any, valid: Any) -> Any:
    """Two vectors of `source`, element by element in turns, as the first `valid` elements of two of `out`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source_, first, second, out_, goal, wide = args
        count = Vector(out.dtype).count
        data, target = _data(context, builder, source, source_), _data(context, builder, out, out_)
        evens = builder.ashr(builder.add(wide, _INT(1)), _INT(1))
        odds = builder.ashr(wide, _INT(1))
        even_row = _load_masked(builder, data, first, _mask(builder, count, evens))
        odd_row = _load_masked(builder, data, second, _mask(builder, count, odds))
        for half in (0, 1):
            lanes = range(half * count // 2, (half + 1) * count // 2)
            order = ir.Constant(ir.VectorType(_I32, count), [lane for k in lanes for lane in (k, count + k)])
            mask = _mask(builder, count, builder.sub(wide, _INT(half * count)))
            value = builder.shuffle_vector(even_row, odd_row, order)
            _store_masked(builder, value, target, builder.add(goal, _INT(half * count)), mask)
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, out, types.int64, types.int64), codegen


def exchange(weight: np.ndarray, order: np.ndarray, exchanged: np.ndarray) -> None:
    """The module's first equation."""
    _shuffle_exchange.sized(4.0 * exchanged.size)(weight, order, exchanged, simd.lanes(weight.dtype))


def interleave(
    phases: np.ndarray, strides: Sizes, pad: Sizes, first: Sizes, out: np.ndarray, by_phase: bool
) -> None:
    """The module's second equation, `first` being the quotient of the first position of each axis.

    `phases` is (planes, phases, ...) or, `by_phase`, (phases, planes, ...).
    """
    loops = _shuffle_interleave.sized(4.0 * out.size)
    loops(phases, strides, pad, first, out, by_phase, simd.lanes(out.dtype))
