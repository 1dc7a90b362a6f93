"""Calls that are repeated: what a filter has run is kept by its arguments, and run again without a look at them.

To check the arguments of a filter and to find its sweeps takes some 10 microseconds, as long as to filter 10,000
pixels. A filter's kernels tell `note` what they have made of what. Where each has read what the one before has made,
the first one the image, and the last one has made the result, the next call with these arguments, and an image that
lies as this one did, is nothing else.

Between calls of other libraries even that takes 50 microseconds: what Python looks at lies in a few hundred places, and
no cache has them any more. So from a third call on kernels that run on one thread are found by `quick_key`, which looks
at little, and get their arguments as `Direct` has them. (Maximum of 3x3, 512x512 uint8, after SciPy's, AMD EPYC 9005:
84 us before, 30 now.)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..functional.device import filters
from ..functional.settings import limit_changed
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
MOST_BYTES, _MOST_CALLS = 16 << 10, 512

#: What makes a result of an image and writes it to an array.
Run = Callable[[np.ndarray, np.ndarray], None]
#: Of each kernel of a run: the dtype of what it makes, the shape that it sees, if it is another, and what has `direct`.
Parts = Sequence[tuple[np.dtype, tuple[int, ...] | None, Any]]


class _Heard(threading.local):
    """What the filter that this thread runs has told; None if nobody listens."""

    steps: list[tuple[np.ndarray, np.ndarray, Run, Parts]] | None = None


_heard = _Heard()


def note(x: np.ndarray, out: np.ndarray, run: Run, parts: Parts = ()) -> None:
    """Tell that ``run(x, out)`` is all that was done to make `out`, whatever the numbers in `x` are; and of which parts
    it consists, if there is nothing else to do."""
    if _heard.steps is not None:
        _heard.steps.append((x, out, run, parts))


class _Call:
    """A call that can be repeated."""

    __slots__ = ("_direct", "_dtypes", "_parts", "_runs", "_shape")

    def __init__(self, shape: tuple[int, ...], steps: list[tuple[np.ndarray, np.ndarray, Run, Parts]]) -> None:
        self._shape, self._runs = shape, [run for _, _, run, _ in steps]
        self._dtypes = [out.dtype for _, out, _, _ in steps]
        self._direct: Quick | None = None
        self._parts: list[tuple[np.dtype, tuple[int, ...] | None, Any]] | None = None
        if all(parts for *_, parts in steps):
            self._parts = [part for *_, parts in steps for part in parts]

    def quick(self, x: np.ndarray) -> Quick | None:
        """The call by `Direct`, if that is possible; made when it is first asked for."""
        parts, self._parts = self._parts, None
        if parts is None or not (x.flags.c_contiguous and x.size):
            return self._direct
        made: list[_Step] = []
        kept: list[Any] = []
        for dtype, shape, one in parts:
            x, target = x.view(np.uint8) if x.dtype == np.bool_ else x, np.empty(self._shape, dtype)
            given = [array if shape is None else array.reshape(shape) for array in (x, target)]
            direct = one.direct(*given) if hasattr(one, "direct") else None
            if direct is None:
                return None
            made.append((direct.entry, direct.record, [], self._shape, dtype))
            kept.append(direct)
            x = target
        entry, record = made[0][:2] if len(made) == 1 else (_in_turn, made)
        self._direct = entry, record, self._shape, self._dtypes[-1], kept
        return self._direct

    def __call__(self, x: np.ndarray) -> np.ndarray:
        out, last = allocate(self._shape, self._dtypes[-1]), len(self._runs) - 1
        if self._direct is not None and self._direct[0](self._direct[1], x, out):
            return out
        for number, run in enumerate(self._runs):
            target = out if number == last else filters().between(2 + number % 2, self._shape, self._dtypes[number])
            run(x, target)
            x = target
        return out


#: What writes a result, ``entry(record, x, out)``, or says False; its record; the result's shape and dtype; and what
#: the record points to.
Quick = tuple[Callable[[Any, np.ndarray, np.ndarray], bool], Any, tuple[int, ...], np.dtype, list[Any]]


#: Bytes of the largest image between two kernels that is kept for one call; larger ones are any call's.
_MOST_BETWEEN = 1 << 20

_Step = tuple[Callable[[Any, np.ndarray, np.ndarray], bool], np.ndarray, list[np.ndarray], tuple[int, ...], np.dtype]


def _in_turn(steps: list[_Step], x: np.ndarray, out: np.ndarray) -> bool:
    """Several kernels, one after the other."""
    *first, (last, end, *_) = steps
    held: list[tuple[list[np.ndarray], np.ndarray]] = []
    for entry, record, spare, shape, dtype in first:
        try:
            made = spare.pop()  # no other thread has it now
        except IndexError:
            large = math.prod(shape) * dtype.itemsize > _MOST_BETWEEN
            made = filters().between(len(held) % 2, shape, dtype) if large else np.empty(shape, dtype)
            spare = [] if large else spare
        held.append((spare, made))
        if not entry(record, x, made):
            return False
        x = made
    done = last(end, x, out)
    for spare, made in held:
        spare.append(made)
    return done


_known: dict[tuple[Any, ...], _Call] = {}
#: Those that are known by `quick_key`, of each filter.
_quick: list[dict[tuple[Any, ...], Quick]] = []


def quick_calls() -> dict[tuple[Any, ...], Quick]:
    """The calls of one filter that `call` finds to be quick, by `quick_key`."""
    _quick.append({})
    return _quick[-1]


def forget() -> None:
    """Forget all calls: that a kernel runs on one thread is part of what is known of them."""
    _known.clear()
    for calls in _quick:
        calls.clear()


limit_changed.append(forget)


def quick_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """What a call is found by, if `key` finds it, too; its types say what equal numbers do not."""
    image, told = args[0], args[1:]
    if len(args) == 2 and type(args[1]) is np.ndarray:  # weights, which may be changed in place
        told = args[1].shape, args[1].dtype, args[1].tobytes()
    what = image.shape, image.strides, image.dtype, told, *map(type, args)
    return (*what, *kwargs.items(), *map(type, kwargs.values())) if kwargs else what


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
        elif number == place and kind is np.ndarray and one.nbytes <= MOST_BYTES and not one.dtype.hasobject:
            told += one.dtype, one.shape, one.tobytes()
        else:
            return None
    return tuple(told)


def call(
    what: tuple[Any, ...], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
    calls: dict[tuple[Any, ...], Quick],
) -> Any:  # fmt: skip
    """A filter's result: as it was made of an image that lies the same, if there was one, or by the filter."""
    found = _known.get(what)
    if found is not None:
        kinds = {*map(type, args[1:]), *map(type, kwargs.values())}
        if len(args) == 2:
            kinds.discard(np.ndarray)  # which `key` takes for weights only
        if (quick := found.quick(args[0])) is not None and kinds <= _PLAIN:
            calls[quick_key(args, kwargs)] = quick
        return found(args[0])
    before, _heard.steps = _heard.steps, []
    try:
        made, steps = function(*args, **kwargs), _heard.steps
    finally:
        _heard.steps = before
    given = [args[0], *(out for _, out, _, _ in steps)]
    if steps and made is given[-1] and all(x is one for (x, *_), one in zip(steps, given, strict=False)):
        if len(_known) >= _MOST_CALLS:
            forget()
        _known[what] = _Call(made.shape, steps)
    return made
