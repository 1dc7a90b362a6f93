"""How `weight_channels` cuts a problem into blocks of pixels, runs and tiles."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...specs.conv import ConvSpec
from ..tiles import simd
from ..tiles.register_tile import tile_shape

#: Most pixels of a block, and most columns: a panel of them and what they see stay in the second-level cache.
PIXELS, COLUMNS = 512, 64
#: Most bytes of a patch that the tiles of a run read: where there are many channels, a block has fewer pixels.
PATCH_BYTES = 384 << 10
#: Bytes that are packed at a time, unless one block has more.
PACKED_BYTES = 6 << 20
#: Below this many operations one of two heights of tile is taken, with idle rows: others are not worth compiling.
WORTH_COMPILING = 2e7
#: Numbers of a panel's tasks that are compared: one that gives threads equal parts is mostly among so many.
COMPARED = 8
#: Horizontal stride beyond which, if it exceeds the window, too, only the columns that are seen are packed.
FAR = 8


class Blocking(NamedTuple):
    """The blocks of pixels, runs and tiles that a problem is cut into."""

    rows: int
    """Rows of a tile: elements of a run."""
    vectors: int
    """Vectors of a tile, and of a panel of o."""
    run: int
    """Elements of a run: of x, what a tap, or all taps of a kernel's row, find in one piece."""
    runs: int
    """Runs of a kernel."""
    block_h: int
    block_w: int
    """Output rows and columns of a block."""
    step: tuple[int, int]
    """Rows and columns of a patch between neighbouring outputs."""
    patch: tuple[int, int]
    """Rows and columns of a patch."""


@lru_cache(maxsize=4096)
def blocking_of(spec: ConvSpec) -> Blocking:
    lanes, (most, wide) = simd.lanes(spec.acc_dtype), tile_shape()
    vectors = 1 if spec.c_out // spec.groups <= lanes else wide
    c_group = spec.c_in // spec.groups
    together = spec.dilation[1] == 1 or spec.kw == 1
    run, runs = (spec.kw * c_group, spec.kh) if together else (c_group, spec.kh * spec.kw)
    rows = -(-run // -(-run // most))
    if spec.flops < WORTH_COMPILING:
        rows = most // 2 if run <= most // 2 else most
    window = [(k - 1) * d + 1 for k, d in zip((spec.kh, spec.kw), spec.dilation, strict=True)]
    step = (min(spec.stride[0], window[0]), spec.stride[1] if spec.stride[1] <= max(window[1], FAR) else window[1])

    def patch(block_h: int, block_w: int) -> tuple[int, int]:
        return (block_h - 1) * step[0] + window[0], (block_w - 1) * step[1] + window[1]

    block_w = _even(spec.ow, COLUMNS)
    block_h = _even(spec.oh, max(1, PIXELS // block_w))
    line = ((block_w - 1) * step[1] * c_group + run) * spec.acc_dtype.itemsize
    block_h = _even(spec.oh, max(1, min(block_h, (PATCH_BYTES // line - 1) // step[0] + 1)))
    return Blocking(rows, vectors, run, runs, block_h, block_w, step, patch(block_h, block_w))


def _even(size: int, most: int) -> int:
    """The size of equal parts of `size`, as few as there can be of at most `most` each."""
    return -(-size // -(-size // most))


def patch_size(spec: ConvSpec, plan: Blocking) -> int:
    """Elements of a patch of one group, with room behind for a tile to read."""
    return math.prod(plan.patch) * (spec.c_in // spec.groups) + plan.rows


def panel_size(spec: ConvSpec, plan: Blocking) -> int:
    """Channels of a panel."""
    return plan.vectors * simd.lanes(spec.acc_dtype)


def panel_count(spec: ConvSpec, plan: Blocking) -> int:
    """Panels of a group."""
    return -(-(spec.c_out // spec.groups) // panel_size(spec, plan))


def block_count(spec: ConvSpec, plan: Blocking) -> int:
    return spec.n * -(-spec.oh // plan.block_h) * -(-spec.ow // plan.block_w)


def block_sizes(spec: ConvSpec, plan: Blocking) -> tuple[int, int, int, int]:
    """Elements of the patches and of the panels of one block, blocks packed at a time, and sums of a panel."""
    patches = spec.groups * patch_size(spec, plan)
    panels = spec.groups * panel_count(spec, plan) * plan.block_h * plan.block_w * panel_size(spec, plan)
    together = max(1, min(block_count(spec, plan), PACKED_BYTES // ((patches + panels) * spec.acc_dtype.itemsize)))
    return patches, panels, together, plan.runs * _pitch(plan) * panel_size(spec, plan)


def _pitch(plan: Blocking) -> int:
    """Rows of the sums from one run to the next."""
    return -(-plan.run // plan.rows) * plan.rows


@lru_cache(maxsize=1024)
def task_shares(spec: ConvSpec, plan: Blocking, threads: int) -> tuple[int, int]:
    """Number of tasks of a panel, and of panels whose sums are kept: all, or those in work if each is done at once.

    Each thread takes its part of the tasks, one after another; there are as many as make these parts alike in tiles.
    """
    panels, (_, _, together, _) = spec.groups * panel_count(spec, plan), block_sizes(spec, plan)
    tiles = plan.runs * _pitch(plan) // plan.rows
    most = min(tiles, -(-4 * threads // panels)) if threads > 1 else 1

    def busiest(shares: int) -> int:
        """Tiles of the thread that has most."""
        ends = (panels * shares * thread // threads for thread in range(threads + 1))
        done = (end // shares * tiles + end % shares * tiles // shares for end in ends)
        return max(last - first for first, last in pairwise(done))

    shares = min(range(max(1, most - COMPARED + 1), most + 1), key=busiest)
    at_once = shares == 1 and block_count(spec, plan) <= together
    return shares, min(threads, panels) if at_once else panels


def seen_extent(spec: ConvSpec) -> tuple[int, int]:
    """Rows and columns of the padded input that some output sees."""
    return tuple(
        (count - 1) * stride + (k - 1) * d + 1
        for count, stride, k, d in zip((spec.oh, spec.ow), spec.stride, (spec.kh, spec.kw), spec.dilation, strict=True)
    )  # type: ignore[return-value] # two of them


def pixel_offsets(spec: ConvSpec, plan: Blocking) -> np.ndarray:
    """Elements of a patch from a block's first pixel to each."""
    i, j = np.ogrid[: plan.block_h, : plan.block_w]
    return ((i * plan.step[0] * plan.patch[1] + j * plan.step[1]) * (spec.c_in // spec.groups)).reshape(-1)


def run_starts(spec: ConvSpec, plan: Blocking) -> np.ndarray:
    """Starts of the runs in a patch."""
    a, b = np.ogrid[: spec.kh, : plan.runs // spec.kh]
    return ((a * spec.dilation[0] * plan.patch[1] + b * spec.dilation[1]) * (spec.c_in // spec.groups)).reshape(-1)


def rows_that_see(spec: ConvSpec, plan: Blocking) -> np.ndarray:
    """(runs, 2): the first and the end of the output rows for which a run sees the image, not just padding above or
    below; the other rows are not multiplied."""
    down = np.repeat(np.arange(spec.kh) * spec.dilation[0], plan.runs // spec.kh) - spec.padding[0][0]
    first = np.clip(-(down // spec.stride[0]), 0, spec.oh)
    return np.stack([first, np.clip((spec.h - 1 - down) // spec.stride[0] + 1, first, spec.oh)], axis=1)


def tap_places(spec: ConvSpec, plan: Blocking) -> np.ndarray:
    """Starts of the taps' channels in a panel's sums."""
    a, b = np.divmod(np.arange(spec.kh * spec.kw), spec.kw)
    within = plan.runs == spec.kh  # the taps of a kernel's row are one run
    return a * _pitch(plan) + b * (spec.c_in // spec.groups) if within else (a * spec.kw + b) * _pitch(plan)
