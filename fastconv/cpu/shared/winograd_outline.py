"""What planning knows of the algorithms of `conv_winograd` for one axis, before their matrices are worked out."""

from __future__ import annotations

import math
from typing import NamedTuple

from ...base.toom_cook import Axis, axis

#: Most elements of a tile, along one axis: F(4, 16) with stride 4 has 28. Windows of 64 taps every 32 would have 96:
#: compiled code grows with the elements, and `direct` is estimated to be faster.
MOST_ELEMENTS = 32
#: For F(m, r) without stride: `Axis.amplification`, squared, times m * r; and the vector instructions to multiply by A
#: and by B, as `linear_map.operations` counts them. So matrices are worked out for the chosen algorithm only.
UNITS = {
    (1, 1): (1, 0, 0),
    (2, 1): (2, 0, 0),
    (2, 2): (8, 2, 2),
    (2, 3): (10, 4, 4),
    (2, 4): (51.222222, 6, 11),
    (2, 5): (77.777778, 8, 22),
    (2, 6): (231.354167, 10, 29),
    (2, 7): (346.708333, 12, 30),
    (2, 8): (3644.658653, 14, 62),
    (2, 9): (7305.009138, 16, 82),
    (3, 1): (7, 2, 2),
    (3, 2): (10, 4, 4),
    (3, 3): (54, 7, 11),
    (3, 4): (83.333333, 10, 22),
    (3, 5): (249.060833, 12, 29),
    (3, 6): (371.375, 14, 30),
    (3, 7): (4202.878614, 17, 62),
    (3, 8): (8019.196698, 20, 82),
    (4, 1): (8, 4, 4),
    (4, 2): (51.222222, 8, 11),
    (4, 3): (83.333333, 12, 22),
    (4, 4): (254.131944, 14, 29),
    (4, 5): (381.375, 16, 30),
    (4, 6): (4482.491265, 20, 62),
    (4, 7): (8324.910881, 24, 82),
}


class Outline(NamedTuple):
    """The facts about a `toom_cook.axis` that planning needs, known before its matrices are worked out."""

    m: int
    """Outputs of a tile."""
    taps: int
    stride: int
    elements: int
    """Multiplications of a tile, and as many inputs."""
    amplification: float
    """`Axis.amplification`."""
    outof: int
    into: int
    """Vector instructions to multiply by A and by B; by A up to a tenth less, where phases have something in common."""

    def exact(self) -> Axis:
        """The algorithm with its matrices."""
        found = axis(self.m, self.taps, self.stride)
        assert found is not None
        return found


def outline(m: int, taps: int, stride: int) -> Outline | None:
    """The outline for m outputs of a correlation; None where it saves nothing or is too large."""
    elements = min(stride, taps) * (m - 1) + taps
    if (taps > 1 and (stride >= taps or elements >= m * taps)) or elements > MOST_ELEMENTS:
        return None
    phases = min(stride, taps)  # each has the algorithm of its taps, and A adds them up
    least, more = divmod(taps, phases)
    if (m, least + (more > 0)) not in UNITS:
        return None
    grown, outof, into = ((phases - more) * few + (more * UNITS[m, least + 1][k] if more else 0)
                          for k, few in enumerate(UNITS[m, least]))  # fmt: skip
    amplification = math.sqrt(grown / (m * taps))
    return Outline(m, taps, stride, elements, amplification, int(outof) + m * (phases - 1), int(into))
