"""The element of any rank of small windows, by selection networks in vector registers.

::

    out[o, i, j] = the rank-th smallest of x[plane(o, t), row(i + a), pixel(j + b)], t < taps, a < kh, b < kw

The rows of a band of the image are extended into memory of the second-level cache; then the network, a micro-kernel of
straight vector code (`tiles.selection`), runs over strips of each row of results. What it changes over `order_ranked`:
no memory is read or written at a place that depends on a value, and no branch taken; so all pixels of a vector are done
at once. The work grows with the windows' size, faster than linearly: it wins up to some hundred elements.

A NaN makes minima and maxima of vectors meaningless: whether there is one is told the caller, who sets right the
windows that see one.

Loop order: a task is a block of columns of a band of rows. MEASURED

Source: see `tiles.selection`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange

from ...specs.windows import Windows
from ..shared.lines import load_line
from ..shared.pooling import Prepared
from ..system import micro
from ..system.kernels import kernel
from ..tiles import simd
from ..tiles.selection import arguments, operations, selection, strip

#: Bytes of a band: a third of a 1 MiB second-level cache.
BAND_BYTES = 320 << 10
#: Rows of results of a band, if its bytes allow.
BAND_ROWS = 32
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


def prepared(
    windows: Windows, footprint: np.ndarray | None, dtype: np.dtype, rank: int, constant: Any
) -> Prepared:
    """All that a call needs beside its arrays: `x` and `out` of shape `windows.shape`, and a flag that is set to 1 if a
    NaN is found. A footprint has the axes taps, rows, pixels; None: all."""
    planes, h, length = windows.shape
    lanes, step, kh, kw, taps = simd.lanes(dtype), windows.step, windows.kh, windows.kw, windows.taps
    rim = (kw - 1) * step
    key = *_lines(windows, footprint), rank, step if footprint is None else 1
    each = strip(*key, lanes)
    rows = min(h, max(1, min(BAND_ROWS, BAND_BYTES // dtype.itemsize // taps // (4 * lanes + rim)) - kh + 1, 2 * kh))
    most = max(4 * lanes, 2 * rim, BAND_BYTES // dtype.itemsize // (taps * (rows + kh - 1)))
    blocks = -(-length // most)
    columns = min(length, -(-length // blocks // lanes) * lanes)
    line = -(-(columns + rim) // (2 * lanes)) * 2 * lanes + lanes
    high = rows + kh - 1
    if footprint is None:
        distances = [(tap * high + row) * line for tap in range(taps) for row in range(kh)]
    else:
        distances = [(tap * high + row) * line + b * step for tap, row, b in np.argwhere(footprint).tolist()]
    size = taps * high * line
    sizes = np.array(
        [kh, rim, windows.left, rows, columns, line, each.vectors * lanes, size, lanes], np.int64
    )
    return Prepared(
        loops=_kernel(dtype.kind == "f"),
        arguments=(
            windows.planes, windows.rows, windows.columns, np.array(distances, np.int64), dtype.type(constant), sizes,
            micro.address(selection, key, arguments(dtype)),
        ),
        dtype=dtype,
        scratch=size + lanes + each.scratch,
        work=4.0 * planes * h * length * operations(*key[:3]),
    )  # fmt: skip


@lru_cache(maxsize=2)
def _kernel(with_nan: bool) -> Any:
    @kernel(key=(with_nan,))
    def _network(x, out, found, seen, rows, columns, distances, constant, sizes, network, scratches):
        planes, h, length = out.shape
        kh, rim, left, high, wide, line = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        strip, size, lanes = sizes[6], sizes[7], sizes[8]
        flat, flat_out, taps = simd.flat(x), simd.flat(out), seen.shape[1]
        bands, beside = (h + high - 1) // high, (length + wide - 1) // wide
        for job in prange(planes * bands * beside):
            plane, i0, j0 = job // (bands * beside), job // beside % bands * high, job % beside * wide
            height, count = min(high, h - i0), min(wide, length - j0)
            band = scratches[numba.get_thread_id()]
            lists = band[size + lanes :]
            nan = 0
            for t in range(taps):
                there = seen[plane, t]
                for r in range(height + kh - 1):
                    row = rows[i0 + r]
                    start = (there * h + row) * length if there >= 0 and row >= 0 else -1
                    to = (t * (high + kh - 1) + r) * line
                    load_line(flat, start, length, left, columns, constant, j0, count + rim, band, to, lanes)
                    if with_nan:
                        end = count + rim
                        for q in range(end, (end + lanes - 1) // lanes * lanes):
                            band[to + q] = constant
                        for q in range(0, end, lanes):
                            nan |= simd.with_nan(simd.load(band, to + q))
            if nan:
                found[0] = 1
            for i in range(height):
                for q in range(0, count, strip):
                    to = (plane * h + i0 + i) * length + j0 + q
                    micro.call(network, band, i * line + q, distances, lists, flat_out, to, min(strip, count - q))

    return _network
