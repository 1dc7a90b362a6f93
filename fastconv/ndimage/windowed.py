"""Order statistics of windows: from checked arguments to a result, whatever the layouts and dtypes of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..functional.device import elsewhere, orders, refuse
from ..specs.arrays import kernel_ready
from ..specs.boundary import Boundary, sources
from ..specs.filters import Axis
from . import again, reach
from .arguments import Result
from .sweeps import Settings, dense

_BYTE, _DOUBLE = np.dtype(np.uint8), np.dtype(np.float64)


class Window(NamedTuple):
    """A window over all axes of an image: size 1 where it has none."""

    sizes: tuple[int, ...]
    before: tuple[int, ...]
    modes: tuple[Boundary, ...]
    footprint: np.ndarray | None = None
    """Which elements belong to it; None: all."""
    heights: np.ndarray | None = None
    """What is added to them, float64; None: nothing."""
    whole: bool = False
    """Whether SciPy takes it as a whole, not one axis after the other: the constant then is of the image's dtype."""
    order: tuple[int, ...] = ()
    """The axes that it runs along, in the order given."""


def constant(dtype: np.dtype, cval: float) -> Any:
    """The constant outside an image of a kernel's dtype, None if only float64 has it.

    SciPy compares in float64, and converts what it finds: an integer's constant loses its fraction at last, which does
    not change the order; so it may at first.
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(cval)
    limits = np.iinfo(dtype)
    if not limits.min <= cval <= limits.max:  # not a number, too
        return None
    whole = int(cval)
    return dtype.type(whole) if limits.min <= whole <= limits.max else None


def wrapped(dtype: np.dtype, cval: float) -> Any:
    """The constant converted to a kernel's dtype, as SciPy does first where it takes windows whole."""
    found = np.empty((), _BYTE if dtype == np.bool_ else dtype)
    cast(np.array(cval, np.float64), found)
    return found[()]


@lru_cache(maxsize=1024)
def problem(
    shape: tuple[int, ...], dtype: np.dtype, sizes: tuple[int, ...], before: tuple[int, ...],
    modes: tuple[Boundary, ...], cval: float, whole: bool, footprint: bytes | None = None,
) -> Any:  # fmt: skip
    """The problem of `cpu.orders` for an image of this dtype; None if its constant must be a float64. Windows are taken
    `whole`, or one axis after the other."""
    kernels = _BYTE if dtype == np.bool_ else dtype
    value = wrapped(dtype, cval) if whole else constant(kernels, cval)
    if value is None or (not whole and dtype == np.bool_ and not 0 <= cval < 2):
        return None
    return orders().Problem(shape, kernels, sizes, before, modes, kernels.type(value), footprint)


def _problem(x: np.ndarray, window: Window, cval: float, keeps_fractions: bool = False) -> tuple[Any, np.ndarray]:
    """A filter's problem, and the image as kernels take it: float64 if the constant `keeps_fractions`."""
    members, what = None, (window.sizes, window.before, window.modes)
    if window.footprint is not None:
        members = np.ascontiguousarray(window.footprint, bool).tobytes()
    if window.heights is not None:
        found = problem(x.shape, x.dtype, *what, cval, True, members)
    else:
        found = None
        if not keeps_fractions:
            found = problem(x.shape, x.dtype, *what, cval, window.whole, members)
        found = found or problem(x.shape, _DOUBLE, *what, cval, False, members)
    return found, kernel_ready(x, found.dtype)


def convert(x: Any, result: Any) -> None:
    """Write an image to an array of any dtype, as `cast` does."""
    if (calls := elsewhere(x)) is not None:
        calls.window(x, result, (), np.ones(1).tobytes(), 0.0, "cast", True)
    else:
        cast(x, result.target)


def cast(values: np.ndarray, out: np.ndarray) -> None:
    """Write numbers to an array of any dtype, as SciPy's C does on x86-64: see `cpu.tiles.elements.converter`."""
    with np.errstate(over="ignore", invalid="ignore"):
        if out.dtype.kind in "iu" and not np.can_cast(values.dtype, out.dtype, "safe"):
            if out.dtype.itemsize <= 4 and out.dtype != np.uint32 and not np.can_cast(values.dtype, np.int32, "safe"):
                inside = (values >= -(2.0**31)) & (values < 2.0**31)
                values = np.where(inside, values, np.array(0, values.dtype)).astype(np.int64)
                values[~inside] = -(2**31)
            elif values.dtype.kind == "f" and out.dtype == np.uint64:
                low = values.astype(np.int64).astype(np.uint64)
                values = np.where(values >= 2.0**63, values.astype(np.uint64), low)
            elif values.dtype.kind == "f":
                values = values.astype(np.int64)
        elif out.dtype == np.bool_ and values.dtype.kind == "f":
            values = np.trunc(values)
        np.copyto(out, values, casting="unsafe")


def _target(problem: Any, out: np.ndarray) -> np.ndarray:
    """The array that kernels write: `out` itself if it has the dtype and layout."""
    if out.flags.carray:
        if out.dtype == problem.dtype:
            return out
        if out.dtype == np.bool_ and problem.dtype == _BYTE and problem.constant <= 1:
            return out.view(np.uint8)
    return np.empty(problem.shape, problem.dtype)


def _delivered(made: np.ndarray, result: Result) -> np.ndarray:
    out = result.target
    if made is not out and made.base is not out:
        cast(made, out)
    return result.deliver()


def _holds(dtype: np.dtype, cval: float) -> bool:
    """Whether a result's dtype has the constant, but for a fraction of it."""
    return dtype.kind == "f" or constant(_BYTE if dtype == np.bool_ else dtype, cval) is not None


def _keeps_fractions(given: np.dtype, result: np.dtype, window: Window, cval: float) -> bool:
    """Whether a result has a constant that the image's dtype has not."""
    known = cval % 1 == 0 if given.kind != "f" else float(constant(given, cval)) == cval or cval != cval
    return result.kind == "f" and not window.whole and not known


def extremum(x: np.ndarray, result: Result, window: Window, cval: float, name: str) -> np.ndarray:
    """The "max" or "min" of windows."""
    if reach.listening:
        reach.box(*window[:3])
    if (calls := elsewhere(x)) is not None:
        _steps(calls, x, result, window, cval, name)
        return result.deliver()
    out = result.target
    if not x.size:
        return result.deliver()
    is_box = window.footprint is None and window.heights is None
    if is_box and max(window.sizes, default=1) == 1:
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(out, x, casting="unsafe")
        return result.deliver()
    if window.heights is not None:
        return _not_flat(x, result, window, cval, name)
    if is_box and not (np.can_cast(x.dtype, out.dtype, "safe") and _holds(out.dtype, cval)):
        return _one_axis_after_another(x, result, window, cval, name)
    what, ready = _problem(x, window, cval, _keeps_fractions(x.dtype, out.dtype, window, cval))
    made = _target(what, out)
    if is_box:
        run = orders().swept(what, name)
        run(ready, made)
        _note(x, result, made, what.dtype, run)
        return _delivered(made, result)
    orders().extremum(what, name, ready, made)
    return _delivered(made, result)


def _note(x: np.ndarray, result: Result, made: np.ndarray, dtype: np.dtype, run: Any) -> None:
    """Tell what was run, if the result's own memory was written."""
    out = result.target
    as_it_lies = dtype == (_BYTE if x.dtype == np.bool_ else x.dtype)
    parts = [(dtype, *part) for part in run.parts] if as_it_lies else []
    if made is out:
        again.note(x, out, lambda given, target: run(kernel_ready(given, dtype), target), parts)
    elif made.base is out:
        again.note(x, out, lambda given, target: run(kernel_ready(given, dtype), target.view(dtype)), parts)


def _steps(calls: Any, x: Any, result: Any, window: Window, cval: float, name: str) -> None:
    """The "max" or "min" of windows by the `calls` of another device, in the dtypes that are used here."""
    if window.heights is not None:
        refuse("structure of heights", x)
    places = zip(window.sizes, window.before, window.modes, strict=True)
    axes = [Axis(number, size, first, mode) for number, (size, first, mode) in enumerate(places)]

    def outside(dtype: np.dtype, alone: Window) -> np.generic:
        kept = _keeps_fractions(dtype, result.dtype, alone, cval)
        found = None if kept else problem(x.shape, dtype, *alone[:3], cval, alone.whole)
        return (found or problem(x.shape, _DOUBLE, *alone[:3], cval, False)).constant

    if window.footprint is not None:
        calls.extremum_over(x, result, name, axes, window.footprint, outside(x.dtype, window))
        return
    exact = np.can_cast(x.dtype, result.dtype, "safe") and _holds(result.dtype, cval)
    steps, given = [], x.dtype
    for axis in (axes[number] for number in window.order if window.sizes[number] > 1):
        constant = outside(given, window)
        given = constant.dtype if exact else result.dtype
        steps.append((axis, constant, given))
    calls.extremum(x, result, name, steps)


def _not_flat(x: np.ndarray, result: Result, window: Window, cval: float, name: str) -> np.ndarray:
    """The "max" or "min" of elements with heights added.

    As in SciPy the first of a window's elements is added to in float64, all others in the image's dtype: heights of
    integers lose their fractions, and sums wrap around.
    """
    members = np.ones(window.sizes, bool) if window.footprint is None else window.footprint
    first = np.unravel_index(int(np.argmax(members)), members.shape)
    only, others = np.zeros_like(members), members.copy()
    only[first], others[first] = True, False
    what, ready = _problem(x, window._replace(footprint=only), cval)
    made = np.empty(what.shape, what.dtype)
    orders().extremum(what, name, ready, made)
    best = made + window.heights[first]  # type: ignore[index] # there are heights
    if others.any():
        heights = np.empty(window.sizes, what.dtype)
        cast(window.heights, heights)  # type: ignore[arg-type] # as above
        what, ready = _problem(x, window._replace(footprint=others), cval)
        orders().extremum(what, name, ready, made, heights.tobytes())
        (np.maximum if name == "max" else np.minimum)(best, made, out=best)
    # The bytes of bools are kept as they are, as in SciPy: an opening's dilation goes on with them.
    cast(best, result.target.view(np.uint8) if result.target.dtype == np.bool_ else result.target)
    return result.deliver()


def _one_axis_after_another(x: np.ndarray, result: Result, window: Window, cval: float, name: str) -> np.ndarray:
    """Full windows where the result's dtype may not hold the image's numbers: as in SciPy they are converted after each
    axis."""
    for axis in [axis for axis in window.order if window.sizes[axis] > 1]:
        sizes = tuple(size if number == axis else 1 for number, size in enumerate(window.sizes))
        before = tuple(first if number == axis else 0 for number, first in enumerate(window.before))
        alone = Window(sizes, before, window.modes)
        what, ready = _problem(x, alone, cval, _keeps_fractions(x.dtype, result.target.dtype, alone, cval))
        made = np.empty(what.shape, what.dtype)
        orders().extremum(what, name, ready, made)
        x = np.empty(made.shape, result.target.dtype)
        cast(made, x)
    cast(x, result.target)
    return result.deliver()


def rank(
    x: np.ndarray, result: Result, window: Window, cval: float, number: int, algorithm: str = "auto"
) -> np.ndarray:
    """The element of a rank of windows."""
    if reach.listening:
        reach.box(*window[:3])
    if not x.size:
        return result.deliver()
    what, ready = _problem(x, window, cval)
    made = _target(what, result.target)
    run = orders().ranked(what, number, algorithm)
    run(ready, made)
    _note(x, result, made, what.dtype, run)
    return _delivered(made, result)


# -- elements that are left out ------------------------------------------------------------------------------


def _enough(x: np.ndarray, window: Window, cval: float, least: int) -> np.ndarray:
    """Which windows have at least so many elements that are not NaN; the constant outside counts, too."""
    present, outside = ~np.isnan(x), int(cval == cval)
    if least == 1:  # by the kernels that are there already
        found = Result(np.empty(x.shape, x.dtype), ())
        return extremum(present.astype(x.dtype), found, window._replace(heights=None), outside, "max") != 0
    places = list(enumerate(zip(window.sizes, window.before, window.modes, strict=True)))
    if window.footprint is not None:
        made, axes = Result(np.empty(x.shape), ()), tuple(Axis(axis, *place) for axis, place in places)
        dense(present.astype(float), made, axes, window.footprint.astype(float).tobytes(), Settings(float(outside)))
        return made.target >= least
    counts = present.astype(np.int64)
    for axis, (size, first, mode) in places:
        counts = np.moveaxis(_counted(np.moveaxis(counts, axis, -1), size, first, mode, outside), -1, axis)
        outside *= size
    return counts >= least


def _counted(values: np.ndarray, size: int, first: int, mode: Boundary, outside: int) -> np.ndarray:
    """Sums of integers over windows along the last axis, each a difference of two running sums, however far beyond the
    axis a window reaches."""
    length = values.shape[-1]
    start = np.arange(length) - first
    if mode in (Boundary.CONSTANT, Boundary.NEAREST):
        ends = (outside, outside) if mode is Boundary.CONSTANT else (values[..., :1], values[..., -1:])
        sums = np.insert(np.cumsum(values, -1), 0, 0, -1)
        low, high = (
            sums[..., np.clip(at, 0, length)] + np.minimum(at, 0) * ends[0] + np.maximum(at - length, 0) * ends[1]
            for at in (start, start + size)
        )
        return high - low
    period = {Boundary.WRAP: length, Boundary.REFLECT: 2 * length, Boundary.MIRROR: max(1, 2 * length - 2)}[mode]
    sums = np.insert(np.cumsum(values[..., sources(mode, length, 0, period - length)], -1), 0, 0, -1)
    low, high = (sums[..., at % period] + at // period * sums[..., -1:] for at in (start, start + size))
    return high - low


def extremum_of_present(x: np.ndarray, window: Window, cval: float, name: str, least: int) -> np.ndarray:
    """The "max" or "min" of what is no NaN in windows of an image of floats; NaN where that is less than `least`."""
    if reach.listening:
        reach.box(*window[:3])
    loses = -np.inf if name == "max" else np.inf
    made = Result(np.empty(x.shape, x.dtype), ())
    if x.size:
        filled = np.where(np.isnan(x), x.dtype.type(loses), x)
        extremum(filled, made, window, loses if cval != cval else cval, name)
        if least > 1 or (made.array == loses).any():  # a window with a finite element has one
            made.array[~_enough(x, window, cval, least)] = np.nan
    return made.array


def median_of_present(x: np.ndarray, window: Window, cval: float, least: int) -> np.ndarray:
    """The median of what is no NaN in windows of an image of floats; NaN where that is less than `least`."""
    if reach.listening:
        reach.box(*window[:3])
    made = np.empty(x.shape, x.dtype)
    if x.size:
        what, ready = _problem(x, window, cval)
        orders().median_of_present(what, least, ready, made)
    return made


def seen(window: Window) -> Callable[[np.ndarray], np.ndarray]:
    """A function of an image of ones and zeros: 1 where a window sees a one."""

    def windows(marks: np.ndarray) -> np.ndarray:
        found = Result(np.empty(marks.shape, marks.dtype), ())
        return extremum(marks, found, window._replace(heights=None), 0.0, "max")

    return windows


def along(ndim: int, axes: Sequence[int], values: Sequence[Any], others: Any) -> tuple[Any, ...]:
    """One value for each axis: of those that a window runs along the given ones."""
    found = [others] * ndim
    for axis, value in zip(axes, values, strict=True):
        found[axis] = value
    return tuple(found)
