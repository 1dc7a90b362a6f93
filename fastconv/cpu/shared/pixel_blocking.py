"""How `weight_pixels` cuts a problem into blocks of shifted rows, and the tables of its products."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...specs.conv import ConvSpec
from ..tiles import simd
from . import patch

#: Bytes of a block's runs of `x` and `grad`: they stay in the first-level cache, if it is large enough, or the second.
BLOCK_BYTES = 48 << 10
#: Bytes of a larger block: a second-level cache. (The gradient of 64 channels to 1 to 4, 3x3 to 9x9 on
#: 128x128 and 256x256, takes a quarter to a third of the time; an AMD EPYC of Zen 5.)
LARGER_BYTES = 1 << 20
#: Most vectors along a run: a float32 sum of so few products loses no accuracy that matters.
STEPS = 256
#: Below this many operations one of two tiles is taken, with idle rows: others are not worth compiling.
WORTH_COMPILING = 5e6


class Blocking(NamedTuple):
    """The blocks of rows and the tiles that a problem is cut into."""

    rows: int
    columns: int
    """Rows and columns of a tile."""
    row_blocks: int
    column_blocks: int
    """Numbers of rows and columns of tiles."""
    block_h: int
    """Output rows of a block."""
    pitch: int
    """Elements from row to row in a run."""
    plane: int
    """Elements of a phase of one channel of x."""
    margin: int
    """Zeros before and behind a channel of `grad`."""
    signal: int
    """Elements of a channel of `grad`, zeros included."""


def _tile(rows: int, columns: int) -> tuple[int, int]:
    """The tile that stays in registers and has the least idle products for so many rows and columns."""
    room = simd.registers() - 1
    shapes = [(r, min(12, (room - r) // r)) for r in range(1, 6) if r <= rows]

    def work(shape: tuple[int, int]) -> float:
        r, s = shape
        s = min(s, columns)
        high, wide = -(-rows // r), -(-columns // s)
        s = -(-columns // wide)
        return high * wide * max(r * s, 1.6 * (r + s))  # unaligned loads take longer than products

    r, s = min(shapes, key=work)
    wide = -(-columns // min(s, columns))
    return r, -(-columns // wide)


@lru_cache(maxsize=1024)
def _row_phases(spec: ConvSpec) -> list[list[tuple[int, int]]]:
    """For each row phase its taps: (tap, how many rows down it lies in the phase's plane)."""
    rows = np.arange(spec.kh) * spec.dilation[0]
    return [
        [(int(tap), int(rows[tap] // spec.stride[0])) for tap in np.flatnonzero(rows % spec.stride[0] == phase)]
        for phase in patch.phases(spec.kh, spec.dilation[0], spec.stride[0])
    ]


def _row_blocks(spec: ConvSpec, size: int) -> list[tuple[int, list[tuple[int, int, int]]]]:
    """The rows of tiles: for each the number of its phase, and its up to `size` rows (o, tap, rows down)."""
    blocks = []
    for number, taps in enumerate(_row_phases(spec)):
        every = [(o, tap, down) for o in range(spec.c_out // spec.groups) for tap, down in taps]
        blocks += [(number, every[at : at + size]) for at in range(0, len(every), size)]
    return blocks


class Tables(NamedTuple):
    """The places of the runs that tiles multiply, and of the weights that they are summed for."""

    left: np.ndarray
    """(row blocks, rows): offsets in `grad`."""
    begin: np.ndarray
    """(row blocks, 2): where the runs begin in `x`, and how many vectors long they are."""
    right: np.ndarray
    """(column blocks, columns): offsets in `x`."""
    left_places: np.ndarray
    """(row blocks, rows): elements in a group's weights from (o = 0, 0, a = 0, 0) on; -1 for an idle row."""
    right_places: np.ndarray
    """(column blocks, columns): elements from (0, c = 0, 0, b = 0) on, which add to those; -1 for an idle column."""


def row_spans(spec: ConvSpec, size: int) -> list[tuple[int, int]]:
    """Pairs: a number of blocks of `_row_blocks`, and how many rows further down the last tap of each of these blocks
    lies than the first.

    Taps of a phase are equally far apart. A block of fewer rows than a phase has taps holds the last tap of a channel
    and the first of the next, if it begins in one channel and ends in another; else it holds neighbouring taps.
    """
    channels, phases = spec.c_out // spec.groups, patch.phase_count(spec.kh, spec.dilation[0], spec.stride[0])
    apart = spec.dilation[0] // math.gcd(spec.dilation[0], spec.stride[0])
    least, more = divmod(spec.kh, phases)
    spans = []
    for taps, number in ((least, phases - more), (least + 1, more)):
        blocks, rest = divmod(channels * taps, size)
        if size >= taps:
            spans += [(number * blocks, taps - 1), (number * (rest > 0), min(rest, taps) - 1)]
            continue
        both = channels - 1 - (channels - 1) // (size // math.gcd(taps, size))
        spans += [(number * both, taps - 1), (number * (blocks - both), size - 1), (number * (rest > 0), rest - 1)]
    return [(count, span * apart) for count, span in spans if count]


@lru_cache(maxsize=4096)
def blocking_of(spec: ConvSpec) -> Blocking:
    lanes, size = simd.lanes(spec.acc_dtype), spec.acc_dtype.itemsize
    phases = patch.phase_count(spec.kh, spec.dilation[0], spec.stride[0])
    channels, c_group = spec.c_out // spec.groups, spec.c_in // spec.groups
    high = channels * -(-spec.kh // phases)
    rows, columns = _tile(high, c_group * spec.kw)
    if spec.flops < WORTH_COMPILING:
        rows, columns = (3, 4) if high > 2 else (1, 8)
    pitch = spec.ow + (spec.kw - 1) * spec.dilation[1] // spec.stride[1]
    reach = (spec.kh - 1) * spec.dilation[0] // spec.stride[0]
    blocks = row_spans(spec, rows)
    span = max(rows for _, rows in blocks)
    across = patch.phase_count(spec.kw, spec.dilation[1], spec.stride[1])

    # The most rows that fit, shared out evenly; one, if not even that fits. Rows that two blocks see are copied twice:
    # if those were most of a block's, it may fill the second-level cache.
    each = c_group * phases * across
    for block_bytes in (BLOCK_BYTES, LARGER_BYTES):
        room = block_bytes // (size * pitch) - each * reach - 2 * channels * span
        most = min(room // (each + channels), STEPS * lanes // pitch - span)
        if most >= 2 * reach:
            break
    block_h = -(-spec.oh // -(-spec.oh // max(1, min(most, spec.oh))))
    margin = span * pitch
    signal = -(-(2 * margin + block_h * pitch) // lanes) * lanes + lanes
    return Blocking(
        rows, columns, sum(count for count, _ in blocks), -(-c_group * spec.kw // columns), block_h, pitch,
        (block_h + reach) * pitch, margin, signal,
    )  # fmt: skip


@lru_cache(maxsize=256)
def tables_of(spec: ConvSpec) -> Tables:
    plan, lanes = blocking_of(spec), simd.lanes(spec.acc_dtype)
    c_group = spec.c_in // spec.groups
    across = patch.phases(spec.kw, spec.dilation[1], spec.stride[1])
    down = len(_row_phases(spec))
    left, begin, left_places = [], [], []
    for number, block in _row_blocks(spec, plan.rows):
        least, most = min(rows for *_, rows in block), max(rows for *_, rows in block)
        offsets = [o * plan.signal + plan.margin - (rows - least) * plan.pitch for o, _, rows in block]
        idle = plan.rows - len(block)
        left.append(offsets + offsets[:1] * idle)
        left_places.append([(o * c_group * spec.kh + tap) * spec.kw for o, tap, _ in block] + [-1] * idle)
        length = (plan.block_h + most - least) * plan.pitch
        begin.append((number * across.size * plan.plane + least * plan.pitch, -(-length // lanes)))
    column = np.arange(spec.kw) * spec.dilation[1]
    places = np.searchsorted(across, column % spec.stride[1]) * plan.plane + column // spec.stride[1]
    right = (np.arange(c_group)[:, None] * down * across.size * plan.plane + places).reshape(-1)
    idle = plan.column_blocks * plan.columns - right.size
    taps = np.arange(c_group)[:, None] * spec.kh * spec.kw + np.arange(spec.kw)
    right_places = np.append(taps, np.full(idle, -1)).reshape(plan.column_blocks, -1)
    right_table = np.append(right, np.full(idle, right[0])).reshape(plan.column_blocks, -1)
    return Tables(np.array(left), np.array(begin), right_table, np.array(left_places), right_places)
