"""Spatial axes: a signal has one, an image has two, a volume has three."""

from __future__ import annotations

from typing import Any, NamedTuple

from .arguments import Pair, Sizes

#: Names of the spatial axes in messages, by their number.
AXES = {1: ("horizontal",), 2: ("vertical", "horizontal"), 3: ("depth", "vertical", "horizontal")}


class Depth(NamedTuple):
    """The depth axis of a volume; by default the one of an image, which is a volume of one plane."""

    d: int = 1
    kd: int = 1
    stride: int = 1
    padding: Pair = (0, 0)
    """(front, back)."""
    dilation: int = 1
    od: int = 1


FLAT = Depth()


#: Layout of an input in messages, by its number of spatial axes.
LAYOUTS = {1: "(N, C, W)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


def volume(sizes: tuple[Any, ...], missing: Any = 1) -> tuple[Any, Any, Any]:
    """One value for each of depth, height and width, from the values of the last axes; `missing` for the others."""
    depth, high, wide = (missing,) * (3 - len(sizes)) + sizes
    return depth, high, wide


def by(sizes: Sizes) -> str:
    return "x".join(map(str, sizes))
