"""Calls that are repeated: what a filter has run is kept by its arguments, and run again without a look at them.

To check the arguments of a filter and to find its sweeps takes some 10 microseconds, as long as to filter 10,000
pixels. A filter's kernels tell `note` what they have made of what. Where each has read what the one before has made,
the first one the image, and the last one has made the result, the next call with these arguments, and an image that
lies as this one did, is nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..functional.device import filters
from ..specs.arrays import allocate

#: Filters that do nothing to a result after their kernels; and those whose second argument is an array of weights.
FILTERS = {
    "convolve", "convolve1d", "correlate", "correlate1d", "gaussian_filter", "gaussian_filter1d", "grey_closing",
    "grey_dilation", "grey_erosion", "grey_opening", "laplace", "maximum_filter", "maximum_filter1d", "median_filter",
    "minimum_filter", "minimum_filter1d", "percentile_filter", "prewitt", "rank_filter", "sobel", "uniform_filter",
    "uniform_filter1d",
}  # fmt: skip
_WEIGHTED = {"convolve", "convolve1d", "correlate", "correlate1d"}
#: Arguments by which pixels decide what is run, or where.
_OTHERS = {"nan_policy", "mask", "min_periods", "device"}
#: Types of arguments that are what their value is, beside tuples of them; 1, 1.0 and True are not the same argument.
_PLAIN = {int, float, str, bool, type, type(None), np.int64, np.float64}
#: Bytes of the largest weights that are looked up, which takes a microsecond for 4 KiB; and calls that are kept.
_MOST_BYTES, _MOST_CALLS = 16 << 10, 512

#: What makes a result of an image and writes it to an array.
Run = Callable[[np.ndarray, np.ndarray], None]


class _Heard(threading.local):
    """What the filter that this thread runs has told; None if nobody listens."""

    steps: list[tuple[np.ndarray, np.ndarray, Run]] | None = None


_heard = _Heard()


def note(x: np.ndarray, out: np.ndarray, run: Run) -> None:
    """Tell that ``run(x, out)`` is all that was done to make `out`, whatever the numbers in `x` are."""
    if _heard.steps is not None:
        _heard.steps.append((x, out, run))


class _Call:
    """A call that can be repeated."""

    __slots__ = ("_dtypes", "_runs", "_shape")

    def __init__(self, shape: tuple[int, ...], steps: list[tuple[np.ndarray, np.ndarray, Run]]) -> None:
        self._shape, self._runs = shape, [run for _, _, run in steps]
        self._dtypes = [out.dtype for _, out, _ in steps]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        out, last = allocate(self._shape, self._dtypes[-1]), len(self._runs) - 1
        for number, run in enumerate(self._runs):
            target = out if number == last else filters().between(2 + number % 2, self._shape, self._dtypes[number])
            run(x, target)
            x = target
        return out


_known: dict[tuple[Any, ...], _Call] = {}


def key(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """What a call of a filter of this name is found by; None if it is none that can be repeated."""
    if not args or not _OTHERS.isdisjoint(kwargs):
        return None
    image = args[0]
    told = [name, image.shape, image.strides, image.dtype, *kwargs]
    place = -1  # of the weights
    if name in _WEIGHTED:
        place = 0 if len(args) > 1 else [*kwargs, "weights"].index("weights")
    for number, one in enumerate((*args[1:], *kwargs.values())):
        kind = type(one)
        if kind in _PLAIN:
            told += kind, one
        elif kind is tuple:
            kinds = tuple(map(type, one))
            if not _PLAIN.issuperset(kinds):
                return None
            told += kinds, one
        elif number == place and kind is np.ndarray and one.nbytes <= _MOST_BYTES and not one.dtype.hasobject:
            told += one.dtype, one.shape, one.tobytes()
        else:
            return None
    return tuple(told)


def call(what: tuple[Any, ...], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A filter's result: as it was made of an image that lies the same, if there was one, or by the filter."""
    found = _known.get(what)
    if found is not None:
        return found(args[0])
    before, _heard.steps = _heard.steps, []
    try:
        made, steps = function(*args, **kwargs), _heard.steps
    finally:
        _heard.steps = before
    given = [args[0], *(out for _, out, _ in steps)]
    if steps and made is given[-1] and all(x is one for (x, _, _), one in zip(steps, given, strict=False)):
        if len(_known) >= _MOST_CALLS:
            _known.clear()
        _known[what] = _Call(made.shape, steps)
    return made
