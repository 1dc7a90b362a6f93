"""Spatial axes: a signal has one, an image two, a volume three."""

from __future__ import annotations

from typing import Any, NamedTuple

from .arguments import Pair, Sizes

#: The spatial axes of so many, as messages name them.
AXES = {1: ("horizontal",), 2: ("vertical", "horizontal"), 3: ("depth", "vertical", "horizontal")}


class Depth(NamedTuple):
    """The axis of a volume before its height; by default that of an image, which is one plane."""

    d: int = 1
    kd: int = 1
    stride: int = 1
    padding: Pair = (0, 0)
    """(front, back)."""
    dilation: int = 1
    od: int = 1


FLAT = Depth()


#: How an input of so many spatial axes is laid out.
LAYOUTS = {1: "(N, C, W)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


def volume(sizes: tuple[Any, ...], missing: Any = 1) -> tuple[Any, Any, Any]:
    """Something for each spatial axis as one for depth, height and width."""
    depth, high, wide = (missing,) * (3 - len(sizes)) + sizes
    return depth, high, wide


def by(sizes: Sizes) -> str:
    return "x".join(map(str, sizes))
