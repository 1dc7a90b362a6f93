"""Images of other libraries: of Dask, whose filters are lazy, and of xarray and pandas, whose labels stay."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base.libraries import check_alike, foreign, is_dask
from ..base.values import shown
from ..specs.boundary import Boundary
from . import again, reach
from .reach import Side

#: Filters of what a filter has made: how far they see adds up. Others see one image, if they make several passes.
CHAINS = ("grey_opening", "grey_closing", "white_tophat", "black_tophat", "binary_opening", "binary_closing")
#: Filters that call a function of the caller's, which may see any distance.
UNKNOWN = ("generic_gradient_magnitude", "generic_laplace")


def of_any_library(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes such images, too."""
    repeats, quick, ndarray, empty = function.__name__ in again.FILTERS, again.quick_calls(), np.ndarray, np.empty

    @functools.wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        image = args[0] if args else kwargs.get("input")
        if type(image) is ndarray:  # nearly always
            if args and quick:
                # As `again.quick_key`, to which a call would take longer here than all that is done.
                more = args[1:]
                if len(args) == 2 and type(args[1]) is ndarray and args[1].nbytes <= again.MOST_BYTES:
                    more = args[1].shape, args[1].dtype, args[1].tobytes()
                told = image.shape, image.strides, image.dtype, more, *map(type, args)
                if kwargs:
                    told = *told, *kwargs.items(), *map(type, kwargs.values())
                try:
                    found = quick.get(told)
                except TypeError:  # an argument has no hash
                    found = None
                if found is not None:
                    entry, record, shape, dtype, _ = found
                    out = empty(shape, dtype)
                    if entry(record, image, out):
                        return out
            if repeats and not reach.listening and (what := again.key(function.__name__, args, kwargs)) is not None:
                return again.call(what, function, args, kwargs, quick)
            if any(hasattr(one, "__dlpack__") and type(one) is not np.ndarray for one in (*args, *kwargs.values())):
                check_alike(**_signature(function).bind(*args, **kwargs).arguments)
            return _telling(function, args, kwargs) if reach.listening else function(*args, **kwargs)
        if is_dask(image):
            return lazily(function, args, kwargs)
        if (given := foreign(image, "input")) is not None:
            return given.call(filtered, **_signature(function).bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    filtered.__module__ = "fastconv.ndimage"  # where it is found under its name, as when it is unpickled
    return filtered


def _telling(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A filter's result, while somebody listens: all passes of a filter tell together."""
    made, sides = reach.of(lambda: function(*args, **kwargs))
    several = combined(sides, made.ndim, function.__name__ in CHAINS)
    reach.tell((axis, *one) for axis, one in enumerate(several))
    return made


def fuse(*steps: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several filters, one after the other, as one: of a Dask array its blocks overlap once, by what all of them see.

    Parameters
    ----------
    *steps : callables
        Filters of `fastconv.ndimage` with all arguments but the image, such as ``partial(ndi.sobel, axis=0)``, or
        functions of each element on its own, such as ``numpy.sqrt``. A step may call several filters.

    Returns
    -------
    callable
        A function of an array. Its result is that of the steps, also where the image ends.

    Raises
    ------
    TypeError
        If a step cannot be called.

    Examples
    --------
    >>> from functools import partial
    >>> import dask.array as da, numpy as np, fastconv.ndimage as ndi
    >>> from fastconv.dask import fuse
    >>> edges = fuse(partial(ndi.gaussian_filter, sigma=1), partial(ndi.sobel, axis=0), np.abs)
    >>> edges(da.ones((40, 40), chunks=20))
    dask.array<fused, shape=(40, 40), dtype=float64, chunksize=(20, 20), chunktype=numpy.ndarray>
    """
    if not all(map(callable, steps)):
        raise TypeError(f"steps must be functions of an array, got {shown(steps)}")
    chain = Fused(steps)

    def fused(image: Any) -> Any:
        if not is_dask(image):
            return chain(image)
        from ..dask.filters import filtered

        made, sides = reach.of(lambda: chain(np.empty((0,) * image.ndim, image.dtype)))
        return filtered(chain, {}, image, None, made.dtype, combined(sides, image.ndim, True))

    return fused


class Fused:
    """Functions of an image, one after the other."""

    __name__ = "fused"

    def __init__(self, steps: tuple[Callable[[Any], Any], ...]) -> None:
        self.steps = steps

    def __call__(self, image: Any) -> Any:
        for step in self.steps:
            image = step(image)
        return image


def lazily(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The lazy result of a filter of a Dask array."""
    from ..dask.filters import filtered

    name = function.__name__
    if name in UNKNOWN:
        raise TypeError(f"{name} calls a function that may see any distance: give it the blocks of a Dask array, by "
                        "dask.array.map_overlap")  # fmt: skip
    told = _signature(function).bind(*args, **kwargs).arguments
    image, mask = told.pop("input"), told.pop("mask", None)
    if hasattr(told.get("output"), "__array__") and not isinstance(told["output"], type):
        raise TypeError("output must be a dtype or None for a Dask array, whose result is lazy")
    none = (0,) * image.ndim
    if mask is not None:
        mask = mask if is_dask(mask) else np.asarray(mask)
        if mask.shape != image.shape:
            raise ValueError(f"mask must have the shape of input, {image.shape}, got {mask.shape}")
    more = {} if mask is None else {"mask": np.empty(none, mask.dtype)}
    made, sides = reach.of(lambda: function(np.empty(none, image.dtype), **told, **more))
    return filtered(function, told, image, mask, made.dtype, combined(sides, image.ndim, name in CHAINS))


_signature = functools.lru_cache(maxsize=64)(inspect.signature)


def combined(filters: list[list[Side]], ndim: int, chained: bool) -> list[tuple[int, int, Boundary | None]]:
    """How far several filters see together along each axis, and what lies outside; None where they disagree."""
    found = []
    for axis in range(ndim):
        some = [side for one in filters for side in one if side.axis == axis and (side.before or side.behind)]
        outside = {side.boundary for side in some}
        wraps = outside & {Boundary.WRAP, None}
        both = sum if chained else max
        before, behind = both([0, *[one.before for one in some]]), both([0, *[one.behind for one in some]])
        mode = None if wraps and outside != {Boundary.WRAP} else Boundary.WRAP if wraps else Boundary.CONSTANT
        found.append((before, behind, mode))
    return found
