"""Negative padding cuts pixels off the input: the operation sees a view of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..specs.arguments import Sizes, crop, crops
from ..specs.arrays import array, result_array


class Cut(NamedTuple):
    """The part of an input that negative padding leaves."""

    shape: Sizes
    """That of the input."""
    parts: tuple[slice, ...]
    """Which pixels are left of each spatial axis."""
    channels_last: bool = False

    def of(self, x: Any) -> Any:
        """A view of what is left of an array."""
        return x[(..., *self.parts, *[slice(None)] * self.channels_last)]

    def places(self, indices: np.ndarray) -> np.ndarray:
        """Flat places in what is left as those in the whole plane or volume."""
        inner = np.unravel_index(indices, [part.stop - part.start for part in self.parts])
        whole = [place + part.start for place, part in zip(inner, self.parts, strict=True)]
        return np.asarray(np.ravel_multi_index(whole, self.shape[-len(self.parts) :]), np.int64)

    def put_back(self, part: np.ndarray, out: Any, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """An array of the input's shape that is zero but for what is left; a `Recorder`'s answer stays what it is."""
        if not isinstance(part, np.ndarray):
            return part
        whole = result_array(self.shape, part.dtype, out, inputs)
        whole[...] = 0
        self.of(whole)[...] = part
        return whole


def cropped_shape(
    shape: Sizes, padding: Any, axes: int, channels_last: bool = False
) -> tuple[Sizes, Any, Cut | None]:
    """The shape that negative padding leaves, the padding of the other sides, and the cut, if any side is negative."""
    if not crops(padding):
        return shape, padding, None
    end = len(shape) - channels_last
    padding, parts = crop(padding, shape[max(0, end - axes) : end], axes)
    if not parts:
        return shape, padding, None
    left = [part.stop - part.start for part in parts]
    return (*shape[: end - axes], *left, *shape[end:]), padding, Cut(shape, parts, channels_last)


def cropped(
    x: Any, padding: Any, axes: int, name: str = "x", channels_last: bool = False
) -> tuple[Any, Any, Cut | None]:
    """The part that negative padding leaves of an array, the argument `name`, and the rest as `cropped_shape`."""
    if not crops(padding):
        return x, padding, None
    given = x if hasattr(x, "shape") else array(name, x)  # arrays on a GPU are cut by their own library
    _, padding, cut = cropped_shape(tuple(given.shape), padding, axes, channels_last)
    return (cut.of(given) if cut else x), padding, cut
