"""The element of any rank of small windows, by selection networks in vector registers.

::

    out[o, i, j] = the rank-th smallest of x[plane(o, t), row(i + a), pixel(j + b)], t < taps, a < kh, b < kw

The network, a micro-kernel of straight vector code (`tiles.selection`), runs over strips of each row of results. It
reads the image in place; only margins are extended into scratch, the rows of windows that see a row of constants, and
rows that are short. What it changes over `order_ranked`: no memory is read or written at a place that depends on a
value, and no branch taken; so all pixels of a vector are done at once. The work grows with the windows' size, faster
than linearly: it wins up to some hundred elements.

A NaN makes minima and maxima of vectors meaningless: whether there is one is told the caller, who sets right the
windows that see one.

Loop order: a task is a block of columns of a band of rows; its margins, then a row after the other, from the left.
1080x1920, one core of an AMD EPYC 9005: 5x5 uint8 0.37 ms (OpenCV 0.8), 9x9 float32 9.5 (SciPy 1,600).

Source: see `tiles.selection`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange

from ...specs.windows import Windows
from ..shared.lines import loader
from ..system import micro
from ..system.kernels import Direct, Launch, jit, kernel
from ..system.memory import buffer, lone_row, scratch_rows
from ..system.threads import masked_threads
from ..tiles import across_lanes, simd
from ..tiles.elements import at as element
from ..tiles.elements import put
from ..tiles.selection import MOST_VECTORS, arguments, operations, selection, strip

#: Bytes of the image that a band's rows take: a third of a 1 MiB second-level cache, as each is read kh times.
BAND_BYTES = 320 << 10
#: Rows of results of a band, if its bytes allow.
BAND_ROWS = 32
#: Vectors of a row from which it is read in place: networks of its margins take the time of some vectors more than
#: copying shorter rows does. 5x5 and more, and 3x3, whose columns stay in registers.
IN_PLACE = 40, 10
#: Most minima and maxima of a network: larger ones would take a second to compile, and more time than `order_ranked`.
MOST_OPERATIONS = 1500
#: Most elements of a window for which a network is planned: beyond, its size need not be known.
MOST_ELEMENTS = 200


def _lines(windows: Windows, footprint: np.ndarray | None) -> tuple[int, int]:
    """Rows and pixels of the network's windows; the elements of a footprint are so many rows of one pixel."""
    if footprint is None:
        return windows.taps * windows.kh, windows.kw
    return int(footprint.sum()), 1


def supports(windows: Windows, footprint: np.ndarray | None, rank: int) -> bool:
    lines, kw = _lines(windows, footprint)
    return 1 < lines * kw <= MOST_ELEMENTS and operations(lines, kw, rank) <= MOST_OPERATIONS


class Prepared:
    """All that a call needs beside its arrays: of shape `windows.shape`, and a flag that is set to 1 if a NaN is found.
    A footprint has the axes taps, rows, pixels; None: all."""

    __slots__ = ("_arguments", "_launch", "_lines", "_scratch")

    def __init__(
        self, windows: Windows, footprint: np.ndarray | None, dtype: np.dtype, rank: int, constant: Any
    ) -> None:
        planes, h, length = windows.shape
        lanes, step, kh, kw, taps = simd.lanes(dtype), windows.step, windows.kh, windows.kw, windows.taps
        rim = (kw - 1) * step
        key = *_lines(windows, footprint), rank, step if footprint is None else 1
        each = strip(*key, lanes)
        rows = min(h, max(1, BAND_ROWS, 2 * kh))
        most = max(4 * lanes, 2 * rim, BAND_BYTES // dtype.itemsize // (taps * (rows + kh - 1)))
        blocks = -(-length // most)
        columns = min(length, -(-length // blocks // lanes) * lanes)
        line = (-(-(columns + rim) // lanes) + 3) * lanes
        is_copied = columns < IN_PLACE[each.vectors > MOST_VECTORS] * lanes
        margin = 0 if is_copied else (-(-2 * rim // lanes) + 5) * lanes
        pitch = line if is_copied else 2 * margin
        if footprint is None:
            members = [(tap, row, 0) for tap in range(taps) for row in range(kh)]
        else:
            members = [(tap, row, b * step) for tap, row, b in np.argwhere(footprint).tolist()]
        high = rows + kh - 1
        near = [(tap * high + row) * pitch + shift for tap, row, shift in members]
        whole = [(tap * kh + row) * line + shift for tap, row, shift in members]
        margins = taps * high * pitch
        sizes = [
            kh, rim, windows.left, rows, columns, line, margin, each.vectors * lanes, margins, taps * kh * line, lanes,
            pitch, columns if is_copied else 0,
        ]  # fmt: skip
        self._arguments = (
            windows.planes, windows.rows, windows.columns, np.array(members, np.int64), np.array(near, np.int64),
            np.array(whole, np.int64), dtype.type(constant), np.array(sizes, np.int64),
            loader(dtype), micro.address(selection, key, arguments(dtype)),
        )  # fmt: skip
        self._scratch = margins + taps * kh * line + each.scratch
        self._lines = len(members)
        self._launch = Launch(_kernel(dtype.kind == "f"), 4.0 * planes * h * length * operations(*key[:3]))

    def run(self, x: np.ndarray, out: np.ndarray, found: np.ndarray) -> None:
        """Filter `x` into `out`."""
        lines = buffer("order lines", (masked_threads(), self._lines), np.dtype(np.int64))
        self._launch.call(x, out, found, *self._arguments, scratch_rows(self._scratch, x.dtype), lines)

    def direct(self, x: np.ndarray, out: np.ndarray) -> Direct | None:
        """What does the same for arrays that lie as these two, on the calling thread, until it has found a NaN."""
        lines, scratch = np.empty((1, self._lines), np.int64), lone_row(self._scratch, x.dtype)
        found = np.zeros(1, np.uint8)
        made = self._launch.direct(x, out, found, *self._arguments, scratch, lines)
        if made is None or x.dtype.kind != "f":
            return made
        filtered = made.entry

        def numbers(record: np.ndarray, x: np.ndarray, out: np.ndarray) -> bool:
            return filtered(record, x, out) and not found[0]  # never set back: another thread may look at it

        return made._replace(entry=numbers)


@lru_cache(maxsize=2)
def _kernel(with_nan: bool) -> Any:
    @jit
    def strips(network, source, place, distances, lists, out, to, begin, end, size):
        """Results from `begin` to before `end` of a row."""
        q = begin
        while q < end:
            micro.call(network, source, place + q, distances, lists, out, to + q, min(size, end - q))
            q += size

    @jit
    def search(x, to, count, lanes):
        """A number that is not 0 if there is a NaN."""
        nan, q = 0, 0
        while q + lanes <= count:
            nan |= across_lanes.with_nan(simd.load(x, to + q))
            q += lanes
        while q < count:
            value = element(x, to + q)
            nan |= int(value != value)
            q += 1
        return nan

    @kernel(key=(with_nan,))
    def _network(
        x, out, found, seen, rows, columns, members, near, whole, constant, sizes, load, network, scratches,
        all_places,
    ):  # fmt: skip
        planes, h, length = out.shape
        kh, rim, left, high, wide, line = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        margin, strip, margins, all_lines, lanes = sizes[6], sizes[7], sizes[8], sizes[9], sizes[10]
        pitch, least = sizes[11], sizes[12]
        flat, flat_out, taps = simd.flat(x), simd.flat(out), seen.shape[1]
        bands, beside = (h + high - 1) // high, (length + wide - 1) // wide
        if with_nan and constant != constant:
            found[0] = 1
        for job in prange(planes * bands * beside):
            plane, i0, j0 = job // (bands * beside), job // beside % bands * high, job % beside * wide
            height, count = min(high, h - i0), min(wide, length - j0)
            band, places = scratches[numba.get_thread_id()], all_places[numba.get_thread_id()]
            lines = band[margins:]
            lists = band[margins + all_lines :]
            # Results from `low` to before `top` are made in place: vectors that are read for them lie in the row.
            low = min(count, max(least, (max(0, left - j0) + lanes - 1) // lanes * lanes))
            top = min(count, low + max(0, left + length - j0 - rim - lanes - low) // lanes * lanes)
            for t in range(taps):
                there = seen[plane, t]
                micro.call(load, flat, there * h if there >= 0 else -1, rows, i0, i0 + height + kh - 1, length, left,
                           columns, constant, j0, low + rim if low > 0 else 0, j0 + top,
                           count - top + rim if top < count else 0, band, t * (high + kh - 1) * pitch, margin, pitch,
                           lanes)  # fmt: skip
            for i in range(height):
                to = (plane * h + i0 + i) * length + j0
                if with_nan and search(flat, to, count, lanes):
                    found[0] = 1
                if low == count:
                    strips(network, band, i * pitch, near, lists, flat_out, to, 0, count, strip)
                    continue
                missing = False
                for k in range(members.shape[0]):
                    there, row = seen[plane, members[k, 0]], rows[i0 + i + members[k, 1]]
                    missing = missing or there < 0 or row < 0
                    put(places, k, (there * h + row) * length + members[k, 2])
                if missing:
                    for t in range(taps):
                        there = seen[plane, t]
                        micro.call(load, flat, there * h if there >= 0 else -1, rows, i0 + i, i0 + i + kh, length, left,
                                   columns, constant, j0, count + rim, 0, 0, lines, t * kh * line, 0, line,
                                   lanes)  # fmt: skip
                    strips(network, lines, 0, whole, lists, flat_out, to, 0, count, strip)
                    continue
                place = i * pitch
                strips(network, band, place, near, lists, flat_out, to, 0, low, strip)
                strips(network, flat, j0 - left, places, lists, flat_out, to, low, top, strip)
                strips(network, band, place + margin - top, near, lists, flat_out, to, top, count, strip)

    return _network
