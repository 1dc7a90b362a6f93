"""Filters of images, block by block: a filter sees a block with its surroundings, which are cut off what it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..specs.boundary import Boundary
from .blocks import Operation
from .geometry import Along, Filtered, Interval, Whole
from .graph import known, lazy, rechunked, threads


class Filter(Operation):
    """A filter of blocks."""

    def __init__(self, function: Callable[..., Any], told: dict[str, Any], axes: tuple[Along, ...], count: int) -> None:
        super().__init__()
        self.function, self.told, self.axes, self.threads = function, told, axes, count

    def __dask_tokenize__(self) -> Any:
        steps = getattr(self.function, "steps", None)
        name = self.function.__module__, self.function.__name__, steps
        return "filter", name, sorted(self.told.items(), key=str), [str(one) for one in self.axes], self.threads

    def __reduce__(self) -> Any:
        return Filter, (self.function, self.told, self.axes, self.threads)

    def block(self, inputs: list[Any], box: tuple[Interval, ...], operands: tuple[Any, ...]) -> Any:
        more = {"mask": inputs[1]} if len(inputs) > 1 else {}
        made = self.function(inputs[0], **self.told, **more)
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

        inputs.append(da.asarray(mask).rechunk(image.chunks))
    return lazy(function.__name__, Filter(function, told, tuple(axes), threads()), inputs, image.chunks, dtype)
