"""An image as lines along one axis, cut into strips that blocks of threads hold in shared memory.

An image of any axes is seen as ``[outer axes ...][lane][axis]``: windows move along the axis, neighbouring threads take
neighbouring lanes, the axis whose elements lie closest together, or positions on the axis itself where those do. A
strip has so many `outputs` of each of its `lanes`, and all that their windows see. Its elements are read once,
extended beyond the rims and converted on the way, so the loops over taps know neither modes nor dtypes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..machine import this_machine
from ..system.kernels import MOST_BLOCKS, pick
from ..system.streams import Tensor
from .places import Axes, joined

#: Threads of a block, for strips that are long enough, and threads of a warp.
THREADS, WARP = pick(256, 4), pick(32, 4)
#: Positions of a strip times its lanes, unless a window needs more: four outputs a thread. Not measured yet on a GPU.
POSITIONS = pick(1024, 12)
#: Bytes of shared memory of a block: as many as any GPU has (48 KiB), and for large windows what those of compute
#: capability 8.0 have, if this one has them (8.6 has 99 KiB).
SHARED, MOST_SHARED = 48 << 10, 160 << 10
#: Numbers of outer axes that kernels are compiled for: what images without gaps have, and the most.
OUTER = (1, 7)


class Lines(NamedTuple):
    """Sizes and strides, in elements, of an image and a result."""

    outer: tuple[int, ...]
    x_outer: tuple[int, ...]
    out_outer: tuple[int, ...]
    axis: Axes
    """Size, step in the image, step in the result."""
    lane: Axes


def lines(x: Tensor, out: Tensor, axis: int) -> Lines:
    """The lines along an axis."""
    every: list[Axes] = list(zip(x.shape, x.strides, out.strides, strict=True))
    size, step, out_step = every[axis]
    others = joined(every[:axis]) + joined(every[axis + 1 :])
    closest = min(others, key=lambda one: abs(one[1]), default=(1, 0, 0))
    if size >= WARP and abs(step) <= abs(closest[1]):
        closest = (1, 0, 0)
    elif closest in others:
        others.remove(closest)
    rank = next(count for count in OUTER if count >= len(others))
    others += [(1, 0, 0)] * (rank - len(others))
    sizes, steps, out_steps = zip(*others, strict=True)
    return Lines(sizes, steps, out_steps, (size, step, out_step), closest)


class Strip(NamedTuple):
    """How lines are cut."""

    outputs: int
    """Of a lane."""
    lanes: int
    strips: int
    """Of a line."""
    groups: int
    """Of lanes."""
    taps: int
    before: int

    @property
    def seen(self) -> int:
        """Positions of the axis that a strip's windows see."""
        return self.outputs + self.taps - 1


def strip(of: Lines, taps: int, before: int, itemsize: int) -> Strip | None:
    """The cut for windows of so many taps, with `itemsize` bytes of shared memory a position; None if that has no room
    for them, or a launch none for the blocks."""
    size, width, reach = of.axis[0], of.lane[0], taps - 1
    most = min(MOST_SHARED, this_machine().shared)
    for memory, lanes, share in ((SHARED, WARP, 4), (SHARED, WARP // 4, 4), (most, 1, 2 * taps)):
        lanes = min(width, lanes)
        seen = min(memory // (itemsize * lanes), max(POSITIONS // lanes, 3 * reach))
        count = min(size, seen - reach)
        if count >= max(1, min(size, reach // share)):
            cut = Strip(count, lanes, -(-size // count), -(-width // lanes), taps, before)
            return cut if blocks(of, cut) <= MOST_BLOCKS else None
    return None


def blocks(of: Lines, cut: Strip) -> int:
    """Blocks of all lines."""
    return math.prod(of.outer) * cut.groups * cut.strips


def threads(cut: Strip) -> int:
    """Threads of a block."""
    return min(THREADS, -(-cut.seen * cut.lanes // WARP) * WARP)
