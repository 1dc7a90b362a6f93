"""`fastconv.signal` of Dask arrays, block by block: sums over windows that are all there, or made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..base.libraries import is_dask
from ..specs.boundary import Boundary
from .blocks import Operation, extended
from .geometry import Interval, Windows
from .graph import known, lazy, owned, rechunked, threads


class Sums(Operation):
    """Sums in mode "valid" over blocks with their surroundings."""

    def __init__(
        self, function: Callable[..., Any], shape: tuple[int, ...], kernel: tuple[int, ...], before: tuple[int, ...],
        boundary: Boundary, fill: Any, count: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.told = function, shape, kernel, before, boundary, fill, count
        self.function, self.fill, self.threads = function, fill, count
        self.axes = tuple(Windows(size, 1, taps, first, boundary)
                          for size, taps, first in zip(shape, kernel, before, strict=True))  # fmt: skip

    def __dask_tokenize__(self) -> Any:
        return "sums", self.function.__qualname__, *map(str, self.told[1:])

    def __reduce__(self) -> Any:
        return Sums, self.told

    def block(self, inputs: list[Any], box: tuple[Interval, ...], operands: tuple[Any, ...], kept: bool = False) -> Any:
        x = inputs[0].astype(operands[1].dtype, copy=False) if self.fill else inputs[0]
        return self.function(extended(x, self.axes, box, self.fill), operands[0], "valid")


def summed(
    function: Callable[..., Any], image: Any, kernel: Any, before: tuple[int, ...], shape: tuple[int, ...],
    boundary: Boundary, fill: Any,
) -> Any:  # fmt: skip
    """The Dask array of this shape of a function's sums; `fill`, of the result's dtype, is what lies outside."""
    operation = Sums(function, image.shape, kernel.shape, before, boundary, fill[()], threads())
    image = rechunked(known(image, "in1"), operation.axes)
    kernel = kernel.rechunk(kernel.shape) if is_dask(kernel) else kernel
    chunks = tuple(owned(sizes, 1, count) for sizes, count in zip(image.chunks, shape, strict=True))
    return lazy(function.__name__, operation, [image], chunks, fill.dtype, [kernel, fill])
