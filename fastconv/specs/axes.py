"""Spatial axes: a signal has one, an image has two, a volume has three."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ..base.values import shown
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
#: Names of layouts with channels first. Defaults are these very objects: a call tells them without `is_last`.
NCW: Final = "NCW"
NCHW: Final = "NCHW"
NCDHW: Final = "NCDHW"
#: Names of layouts with channels first and with channels last, by the number of spatial axes.
FORMATS = {1: (NCW, "NWC"), 2: (NCHW, "NHWC"), 3: (NCDHW, "NDHWC")}


def is_last(data_format: object, axes: int) -> bool:
    """Whether a `data_format` has channels last; ValueError if it is none for so many spatial axes."""
    if isinstance(data_format, str):
        first, last = FORMATS[axes]
        if data_format == first:
            return False
        if data_format == last:
            return True
    raise ValueError(f"data_format must be one of {', '.join(map(repr, FORMATS[axes]))}, got {shown(data_format)}")


def volume(sizes: tuple[Any, ...], missing: Any = 1) -> tuple[Any, Any, Any]:
    """One value for each of depth, height and width, from the values of the last axes; `missing` for the others."""
    depth, high, wide = (missing,) * (3 - len(sizes)) + sizes
    return depth, high, wide


def by(sizes: Sizes) -> str:
    return "x".join(map(str, sizes))
