"""Works of filters of images: calls of each, with windows that meet the common kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import ndimage
from ..ndimage.along_each import separable_filter
from ..ndimage.arguments import REAL
from .team import Unit, Work

#: Images on which windows have room.
SHAPE = (96, 128)
SHARPEN = ((0, -1, 0), (-1, 5, -1), (0, -1, 0))
#: What filters are told behind the image, call by call; all others sizes.
TOLD: dict[str, tuple[tuple[Any, ...], ...]] = {
    "separable_filter": ((((1, 2, 1), (-1, 0, 1)),),),
    **{f"ndimage.{name}": ((SHARPEN,), (((1, 2, 3, 2, 1),) * 5,)) for name in ("correlate", "convolve")},
    **{f"ndimage.{name}1d": (((1, 2, 1),), ((1, 2, 3, 2, 1),)) for name in ("correlate", "convolve")},
    **{f"ndimage.gaussian_{name}": ((1.0,), (3.0,))
       for name in ("filter", "filter1d", "gradient_magnitude", "laplace")},
    **{f"ndimage.{name}": ((),) for name in (
        "sobel", "prewitt", "laplace", "binary_erosion", "binary_dilation", "binary_opening", "binary_closing")},
    "ndimage.generic_laplace": ((ndimage.sobel,),),
    "ndimage.generic_gradient_magnitude": ((ndimage.sobel,),),
    "ndimage.rank_filter": ((2, 3), (7, 5)),
    "ndimage.percentile_filter": ((30, 3), (30, 5)),
}  # fmt: skip
SIZES = ((3,), (5,), (9,))
#: Names of the operations.
NAMES = ("separable_filter", *(f"ndimage.{name}" for name in ndimage.__all__))


class Call(NamedTuple):
    """A call of a filter."""

    name: str
    told: tuple[Any, ...]
    dtype: str


def run(call: Call, _: str) -> None:
    """Make a call."""
    name = call.name.removeprefix("ndimage.")
    function = separable_filter if name == call.name else getattr(ndimage, name)
    function(np.zeros(SHAPE, call.dtype), *call.told)


def works(op: str, dtype: np.dtype) -> Iterator[tuple[Unit, Work]]:
    """The works of a filter; none for a dtype that filters do not take."""
    if dtype.char in REAL:
        for told in TOLD.get(op, SIZES):
            yield (op, "", str(dtype)), Work(run, Call(op, told, str(dtype)))
