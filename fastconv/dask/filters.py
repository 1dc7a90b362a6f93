"""Filters of images, block by block: a filter sees a block with its surroundings, which are cut off what it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..specs.boundary import Boundary
from .blocks import Operation, scratch
from .geometry import Along, Filtered, Interval, Whole
from .graph import known, lazy, rechunked, threads


class Filter(Operation):
    """A filter of blocks."""

    def __init__(
        self, function: Callable[..., Any], told: dict[str, Any], axes: tuple[Along, ...], count: int, dtype: np.dtype
    ) -> None:  # fmt: skip
        super().__init__()
        self.function, self.told, self.axes, self.threads, self.dtype = function, told, axes, count, dtype
        self._writes = not hasattr(function, "steps") and dtype != np.float16
        """Whether the filter can be told where its result goes."""

    def __dask_tokenize__(self) -> Any:
        steps = getattr(self.function, "steps", None)
        name = self.function.__module__, self.function.__name__, steps
        return "filter", name, sorted(self.told.items(), key=str), [str(one) for one in self.axes], self.threads

    def __reduce__(self) -> Any:
        return Filter, (self.function, self.told, self.axes, self.threads, self.dtype)

    def block(self, inputs: list[Any], box: tuple[Interval, ...], operands: tuple[Any, ...], kept: bool = False) -> Any:
        told = {**self.told, "mask": inputs[1]} if len(inputs) > 1 else self.told
        if kept and self._writes and type(inputs[0]) is np.ndarray:
            told = {**told, "output": scratch("filtered", inputs[0].shape, self.dtype)}
        made = self.function(inputs[0], **told)
        here = []
        for along, (first, last) in zip(self.axes, box, strict=True):
            at = along.offset(first, last) if isinstance(along, Filtered) else 0
            here.append(slice(at, at + last - first))
        return made[tuple(here)]


def filtered(
    function: Callable[..., Any], told: dict[str, Any], image: Any, mask: Any, dtype: Any,
    sides: Sequence[tuple[int, int, Boundary | None]],
) -> Any:  # fmt: skip
    """The Dask array that a filter makes of an image, and perhaps of a mask; `sides` says how far it sees."""
    image = known(image, "input")
    axes: list[Along] = []
    for size, (before, behind, boundary) in zip(image.shape, sides, strict=True):
        if boundary is None:
            axes.append(Whole(size))
        else:
            seen = before or behind
            axes.append(Filtered(size, before, behind, boundary is Boundary.WRAP) if seen else Along(size))
    image = rechunked(image, axes)
    inputs = [image]
    if mask is not None:
        import dask.array as da

        asarray: Any = da.asarray  # has no types
        inputs.append(asarray(mask).rechunk(image.chunks))
    operation = Filter(function, told, tuple(axes), threads(), np.dtype(dtype))
    return lazy(function.__name__, operation, inputs, image.chunks, dtype)
