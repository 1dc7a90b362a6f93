"""What lies outside an image: boundary modes, and the position inside that each position outside stands for.

For an axis ``a b c d``:

========== ======================== ============================ ==================
mode       before, inside, behind   in SciPy                     in PyTorch
========== ======================== ============================ ==================
reflect    d c b a | a b c d | d c  "reflect", "grid-mirror"
mirror     a d c b | a b c d | c b  "mirror"                     "reflect"
nearest    a a a a | a b c d | d d  "nearest"                    "replicate"
wrap       a b c d | a b c d | a b  "wrap", "grid-wrap"          "circular"
constant   k k k k | a b c d | k k  "constant", "grid-constant"  "zeros" (k = 0)
========== ======================== ============================ ==================

A kernel reads an image through a table of each axis (`sources`), so that no kernel knows a mode.

Source: the documentation of `scipy.ndimage` and of `torch.nn.Conv2d`.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

import numpy as np

from ..base.values import shown


class Boundary(Enum):
    """What the positions outside an axis stand for."""

    REFLECT = "reflect"
    MIRROR = "mirror"
    NEAREST = "nearest"
    WRAP = "wrap"
    CONSTANT = "constant"


#: SciPy's names, as its filters mean them.
SCIPY = {
    "reflect": Boundary.REFLECT,
    "constant": Boundary.CONSTANT,
    "nearest": Boundary.NEAREST,
    "mirror": Boundary.MIRROR,
    "wrap": Boundary.WRAP,
    "grid-mirror": Boundary.REFLECT,
    "grid-constant": Boundary.CONSTANT,
    "grid-wrap": Boundary.WRAP,
}
#: PyTorch's names.
TORCH = {
    "zeros": Boundary.CONSTANT,
    "reflect": Boundary.MIRROR,
    "replicate": Boundary.NEAREST,
    "circular": Boundary.WRAP,
}


def named(argument: str, value: object, names: dict[str, Boundary]) -> Boundary:
    """The boundary of this name; ValueError naming the argument if there is none."""
    found = names.get(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"boundary mode not supported: {argument} must be one of {', '.join(map(repr, names))}, "
                         f"got {shown(value)}")  # fmt: skip
    return found


#: The source of a position that has none: it counts as the constant.
OUTSIDE = -1


@lru_cache(maxsize=1024)
def sources(boundary: Boundary, size: int, before: int, behind: int) -> np.ndarray:
    """The position inside an axis that each position from -`before` to before `size` + `behind` stands for.

    An int64 array, not to be written to; `OUTSIDE` where there is none: of a constant, and of an axis without elements.
    A mode is repeated as often as it takes to get there.
    """
    at = np.arange(-before, size + behind, dtype=np.int64)
    if size == 0:
        at[:] = OUTSIDE
    elif boundary is Boundary.CONSTANT:
        at[(at < 0) | (at >= size)] = OUTSIDE
    elif boundary is Boundary.NEAREST:
        np.clip(at, 0, size - 1, out=at)
    elif boundary is Boundary.WRAP:
        at %= size
    elif boundary is Boundary.REFLECT:
        at %= 2 * size
        np.minimum(at, 2 * size - 1 - at, out=at)
    else:  # MIRROR: the outermost elements stand once
        period = max(1, 2 * (size - 1))
        at %= period
        np.minimum(at, period - at, out=at)
        if size == 1:
            at[:] = 0
    return at
