"""Moves elements so that convolutions compute a transposed one: weights change channels, phases are interleaved.

::

    exchanged[g, c, p, o, t] = weight[g, o, c, order[p, t]]    order: which tap of the kernel
    out[plane, z, u, v] = phases[plane, (r(z), r(u), r(v)), m(z), m(u), m(v)]

where r and m are remainder and quotient of a position by the stride of its axis, its padding counted; the phases of a
plane, or the planes of a phase, lie one behind the other. Elements are only moved, so arrays are handed over as
integers of the elements' size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np
from numba import prange

from ...specs.arguments import Sizes
from ..system.kernels import kernel
from ..system.memory import scratch_rows
from ..tiles import simd
from ..tiles.deal import eight_lines, first_half, four_lines, one_line, second_half, two_lines

#: Channels o in a group below which, as in a depthwise layer, weights are moved one by one, not in blocks.
FEW = 4


@kernel
def _shuffle_exchange(weight, order, table, exchanged, blocks, lanes):
    groups, depth, channels, kernel_size = weight.shape
    flat, strips, taps_at = simd.flat(weight), (depth + lanes - 1) // lanes, kernel_size * lanes
    for job in prange(groups * strips):
        g, first = job // strips, job % strips * lanes
        rows = min(lanes, depth - first)
        if depth < FEW:
            for c in range(channels):
                for o in range(depth):
                    at = ((g * depth + o) * channels + c) * kernel_size
                    for p in range(table.shape[0]):
                        begin, taps = table[p, 2], table[p, 3]
                        to = table[p, 0] + (g * channels + c) * table[p, 1] + o * taps
                        for t in range(taps):
                            exchanged[to + t] = flat[at + order[begin + t]]
            continue
        if kernel_size == 1 and table.shape[0] == 1:
            apart = table[0, 1]
            for c in range(0, channels, lanes):
                at, to = (g * depth + first) * channels + c, table[0, 0] + (g * channels + c) * apart + first
                simd.transpose(flat, at, channels, rows, min(lanes, channels - c), exchanged, to, apart)
            continue
        # `block` holds (taps, lanes) of one channel c and, behind them, some of these taps in the order asked for.
        block = blocks[numba.get_thread_id()]
        for c in range(channels):
            for k in range(0, kernel_size, lanes):
                at = ((g * depth + first) * channels + c) * kernel_size + k
                columns = min(lanes, kernel_size - k)
                simd.transpose(flat, at, channels * kernel_size, rows, columns, block, k * lanes, lanes)
            for p in range(table.shape[0]):
                begin, taps = table[p, 2], table[p, 3]
                to = table[p, 0] + (g * channels + c) * table[p, 1] + first * taps
                if rows == lanes and taps == 1:
                    one_line(block, order, begin, exchanged, to, lanes)
                    continue
                if rows == lanes and taps == 2:
                    two_lines(block, order, begin, exchanged, to, lanes)
                    continue
                if rows == lanes and taps == 4:
                    four_lines(block, order, begin, exchanged, to, lanes)
                    continue
                if rows == lanes and taps == 8:
                    eight_lines(block, order, begin, exchanged, to, lanes)
                    continue
                for t in range(0, taps, lanes):
                    some = min(lanes, taps - t)
                    for k in range(some):
                        simd.store(block, taps_at + k * lanes, simd.load(block, order[begin + t + k] * lanes))
                    simd.transpose(block, taps_at, lanes, some, rows, exchanged, to + t, taps)


@kernel
def _shuffle_interleave(phases, strides, pad, first, out, by_phase, lanes):
    planes, d, h, w = out.shape
    s_d, s_h, s_w = strides
    n_d, n_h, n_w = phases.shape[2:]
    size = n_d * n_h * n_w
    apart = size * planes if by_phase else size  # from one phase to the next
    flat_phases, flat_out = simd.flat(phases), simd.flat(out)
    skipped = min(-pad[2] % s_w, w)  # columns before the first of phase 0
    begin = (skipped + pad[2]) // s_w - first[2]
    r_w, m_w = pad[2] % s_w, pad[2] // s_w - first[2]
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
                flat_out[to + v] = flat_phases[row + (r_w + v) * apart + m_w]
            at, to, wide = row + begin, to + skipped, w - skipped
            if s_w == 2 and wide >= 2 * lanes:
                pairs = wide // 2
                for begun in range(0, pairs, lanes):
                    j = min(begun, pairs - lanes)  # the last vectors overlap the ones before: masks cost more
                    even, odd = simd.load(flat_phases, at + j), simd.load(flat_phases, at + apart + j)
                    simd.store(flat_out, to + 2 * j, first_half(even, odd))
                    simd.store(flat_out, to + 2 * j + lanes, second_half(even, odd))
                if wide % 2:
                    flat_out[to + wide - 1] = flat_phases[at + pairs]
            elif s_w == 2:
                even = simd.load_part(flat_phases, at, (wide + 1) // 2)
                odd = simd.load_part(flat_phases, at + apart, wide // 2)
                simd.store_part(flat_out, to, first_half(even, odd), min(wide, lanes))
                if wide > lanes:
                    simd.store_part(flat_out, to + lanes, second_half(even, odd), wide - lanes)
            else:
                for r in range(min(s_w, wide)):
                    for j in range((wide - r + s_w - 1) // s_w):
                        flat_out[to + r + j * s_w] = flat_phases[at + r * apart + j]


#: Cost of moving an element, in the operations that `Kernel.sized` counts: in a new order (measured: 10 to 15 GB/s),
#: and by whole planes (25 GB/s).
MOVE_OPERATIONS, COPY_OPERATIONS = 16.0, 8.0


class Exchange:
    """Exchanges the channels of weights (g, o, c, taps) by the module's first equation, for several orders at once."""

    def __init__(self, groups: int, depth: int, channels: int, orders: Sequence[np.ndarray]) -> None:
        self._order = np.concatenate([order.reshape(-1) for order in orders])
        self._shapes = [(groups, channels, len(order), depth, order.shape[1]) for order in orders]
        self._starts = np.cumsum([0, *map(math.prod, self._shapes)])
        self.size = int(self._starts[-1])
        table, begin = [], 0  # for each phase: its start, the distance of channels, its first tap, its number of taps
        for start, (_, _, phases, _, taps) in zip(self._starts[:-1], self._shapes, strict=True):
            for phase in range(phases):
                table.append((start + phase * depth * taps, phases * depth * taps, begin, taps))
                begin += taps
        self._table = np.array(table, np.int64)
        self._loops = _shuffle_exchange.sized(MOVE_OPERATIONS * self.size)

    def run(self, weight: np.ndarray, exchanged: np.ndarray) -> None:
        """Fill `exchanged`, a flat array of `size` elements."""
        lanes = simd.lanes(weight.dtype)
        blocks = scratch_rows((weight.shape[-1] + lanes) * lanes, weight.dtype)
        self._loops(weight, self._order, self._table, exchanged, blocks, lanes)

    def parts(self, exchanged: np.ndarray) -> list[np.ndarray]:
        """Views of the exchanged weights: an array [g, c, p, o, t] for each order."""
        ends = zip(self._starts[:-1], self._starts[1:], self._shapes, strict=True)
        return [exchanged[start:end].reshape(shape) for start, end, shape in ends]


def interleave(
    phases: np.ndarray, strides: Sizes, pad: Sizes, first: Sizes, out: np.ndarray, by_phase: bool
) -> None:
    """Fill `out` by the module's second equation; `first` is the quotient m of each axis's first position.

    `phases` is (planes, phases, ...) or, `by_phase`, (phases, planes, ...).
    """
    loops = _shuffle_interleave.sized(MOVE_OPERATIONS * out.size)
    loops(phases, strides, pad, first, out, by_phase, simd.lanes(out.dtype))

