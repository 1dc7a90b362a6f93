"""Linear filters as sweeps over an image: which passes go together, and in which arithmetic."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from ..functional.device import elsewhere, filters
from ..specs.boundary import Boundary
from ..specs.filters import DOUBLE, SINGLE, Axis, Pass, Problem, arithmetic, between_sweeps, factors
from ..specs.folding import MANY, added, folded, is_far, unlike
from . import again, reach
from .arguments import Result
from .wide import MOST_WEIGHT, in_halves, is_wide, needs_halves


class Line(NamedTuple):
    """A pass along one axis."""

    axis: int
    before: int
    boundary: Boundary
    weights: bytes
    """Float64; none for a window of `size` equal weights."""
    size: int = 0

    def taps(self) -> int:
        return len(self.weights) // 8 or self.size


class Settings(NamedTuple):
    """What a filter is told beside its windows."""

    cval: float = 0.0
    rule: str = "cast"
    """How numbers become the result's: "cast", or "saturate"."""
    double: bool = False
    """Whether float32 is computed in float64."""
    periods: int = 0
    """If not 0, NaN are left out, and results are NaN where a window has fewer elements than that."""


class Layout(NamedTuple):
    """How an image and a result lie in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]
    out_dtype: np.dtype
    out_strides: tuple[int, ...]


def _contiguous(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    strides, step = [], dtype.itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def layout(x: np.ndarray, out: np.ndarray) -> Layout:
    """How both lie."""
    return Layout(x.shape, x.dtype, x.strides, out.dtype, out.strides)


def _problem(lie: Layout, axes: tuple[Axis, ...], passes: tuple[Pass, ...], told: Settings, whole: bool) -> Any:
    """The sweep of these passes, whose order is still to be chosen; None if the layout does not suit them."""
    found = arithmetic(passes, lie.dtype, lie.out_dtype, told.cval, told.rule, told.double, whole)
    shape, dtype, strides, out_dtype, out_strides = lie
    problem = Problem(
        shape, strides, out_strides, dtype, out_dtype, found.computed, axes, found.passes, told.cval, told.rule,
        found.between, whole, told.periods,
    )  # fmt: skip
    return filters().prepared(problem) if filters().fits(problem) else None


# -- passes along one axis each ------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _separable(lie: Layout, lines: tuple[Line, ...], told: Settings) -> tuple[Any, ...]:
    """The sweeps that make the passes, two at a time where they suit each other."""
    exact = _is_exact(lie.dtype, lie.out_dtype)
    lines = tuple(_near(line, lie.shape[line.axis], exact) for line in lines)
    axes, passes = _specs(lines)
    made: list[Any] = []
    at, shape = 0, lie.shape
    while at < len(lines):
        count = 2 if at + 1 < len(lines) else 1
        while True:
            last = at + count == len(lines)
            strides = lie.out_strides if last else _contiguous(shape, _between(lie, told))
            this = lie._replace(out_strides=strides, out_dtype=lie.out_dtype if last else _between(lie, told))
            rule = told if last else told._replace(rule="cast")
            chosen = slice(at, at + count)
            sweep = _problem(this, axes[chosen], passes[chosen], rule, told.periods > 0)
            if sweep is not None or count == 1:
                break
            count = 1
        made.append(sweep)
        at += count
        lie = lie._replace(dtype=this.out_dtype, strides=strides)
    return tuple(made)


def _is_exact(dtype: np.dtype, out_dtype: np.dtype) -> bool:
    """Whether the order of additions shows in a result: it is to be SciPy's."""
    return dtype.kind != "f" or out_dtype.kind != "f"


def _near(line: Line, size: int, exact: bool) -> Line:
    """A pass along an axis of this size whose window does not reach far beyond it."""
    if not is_far(line.taps(), size, exact):
        return line
    axis, places = folded(Axis(line.axis, line.taps(), line.before, line.boundary), size)
    given = np.frombuffer(line.weights) if line.weights else np.ones(line.size)
    if given.size <= MANY and unlike(given, places, axis.taps):
        return line
    weights = added(given, places, axis.taps)
    return line._replace(before=axis.before, weights=(weights / (line.size or 1)).tobytes(), size=0)


def _between(lie: Layout, told: Settings) -> np.dtype:
    """The dtype of an image between two sweeps: the result's, as in SciPy, unless it is rounded once only."""
    return DOUBLE if told.rule == "saturate" else between_sweeps(lie.out_dtype)


def _specs(lines: tuple[Line, ...]) -> tuple[tuple[Axis, ...], tuple[Pass, ...]]:
    axes = tuple(Axis(line.axis, line.taps(), line.before, line.boundary) for line in lines)
    return axes, tuple(_pass(line) for line in lines)


def _pass(line: Line) -> Pass:
    if line.weights:
        return Pass((line.axis,), (line.taps(),), line.weights)
    return Pass((line.axis,), (line.size,), b"", "box", 1.0 / line.size)


def separable(x: np.ndarray, result: Result, lines: tuple[Line, ...], told: Settings) -> np.ndarray:
    """Make the passes, one after the other, as SciPy does: each is stored as the result's dtype."""
    if reach.listening:
        reach.windows(_specs(lines)[0])
    if (calls := elsewhere(x)) is not None:
        exact = _is_exact(x.dtype, result.target.dtype)
        lines = tuple(_near(line, x.shape[line.axis], exact) for line in lines)
        calls.separable(x, result, *_specs(lines), told.cval, told.rule, told.double)
        return result.deliver()
    out = result.target
    if not lines:
        if told.rule == "saturate":
            return dense(x, result, (), np.ones(1).tobytes(), told)
        np.copyto(out, np.nan if told.periods > 1 else x, casting="unsafe")  # windows of one element
    if not lines or not x.size:
        return result.deliver()
    if told.rule == "cast" and not told.periods and _needs_halves(x, out, lines, told):
        return _in_halves(x, result, lines, told)
    if told.periods and (len(lines) > 1 or _counts_far(x, lines, told)):
        return _leaving_out(x, result, lines, told)
    whole = x.dtype.kind != "f" or out.dtype.kind != "f"
    if whole and not told.periods and any(line.size > MANY for line in lines):
        return _far_means(x, result, lines, told)
    sweeps = _separable(layout(x, out), lines, told)
    if None in sweeps:  # axes behind the window's that do not lie evenly
        x, target = np.ascontiguousarray(x), np.empty(out.shape, out.dtype)
        sweeps = _separable(layout(x, target), lines, told)
        _run(sweeps, x, target)
        out[...] = target
    else:
        _run(sweeps, x, out)
        if not (told.periods or is_wide(x.dtype) or is_wide(out.dtype)):
            again.note(x, out, partial(_run, sweeps), [(one.problem.out_dtype, None, one) for one in sweeps])
    return result.deliver()


def _needs_halves(x: np.ndarray, out: np.ndarray, lines: tuple[Line, ...], told: Settings) -> bool:
    if not (is_wide(x.dtype) or is_wide(out.dtype)):
        return False  # nearly always
    growth = 1.0
    for line in lines:
        weights = _pass(line).array() if line.weights else np.ones(line.size)
        if (weights != np.rint(weights)).any() or np.abs(weights).sum() > MOST_WEIGHT:
            return False
        growth *= float(np.abs(weights).sum())
        if len(lines) > 1 and out.dtype.kind == "u" and ((weights < 0).any() or told.cval < 0 or x.dtype.kind == "i"):
            growth = math.inf  # what is stored between passes may have wrapped around
    return needs_halves(x, out.dtype, growth, told.cval)


def _in_halves(x: np.ndarray, result: Result, lines: tuple[Line, ...], told: Settings) -> np.ndarray:
    """Passes of integers of 64 bits, one by one."""
    dtype = result.target.dtype
    for line in lines:
        size = 1 if line.weights else line.size
        sums = line._replace(weights=line.weights or np.ones(line.size).tobytes(), size=0)

        def run(half: np.ndarray, cval: float, sums: Line = sums) -> np.ndarray:
            return separable(half, Result(np.empty(half.shape), ()), (sums,), told._replace(cval=cval))

        if _needs_halves(x, result.target, (line,), told):
            x = in_halves(x, told.cval, dtype, size, run)
        else:
            x = separable(x, Result(np.empty(x.shape, dtype), ()), (line,), told)
    result.target[...] = x
    return result.deliver()


def _far_means(x: np.ndarray, result: Result, lines: tuple[Line, ...], told: Settings) -> np.ndarray:
    """Passes one by one, of which some are means of more elements than there are: exact sums, each divided once."""
    out = result.target
    for number, line in enumerate(lines):
        last, size = number + 1 == len(lines), line.size or 1
        dtype = DOUBLE if told.rule == "saturate" else between_sweeps(out.dtype)
        goal, rule = (out, told) if last else (np.empty(x.shape, dtype), told._replace(rule="cast"))
        if line.size:
            line = line._replace(weights=np.ones(line.size).tobytes(), size=0)
            sums = separable(x, Result(np.empty(x.shape), ()), (line,), rule._replace(rule="cast"))
            dense(sums / size, Result(goal, ()), (), np.ones(1).tobytes(), Settings(rule=rule.rule))
        else:
            separable(x, Result(goal, ()), (line,), rule)
        x = goal
    return result.deliver()


def _counts_far(x: np.ndarray, lines: tuple[Line, ...], told: Settings) -> bool:
    """Whether elements are counted that windows see more than once."""
    return told.periods > 1 and any(is_far(line.taps(), x.shape[line.axis], False) for line in lines)


def _leaving_out(x: np.ndarray, result: Result, lines: tuple[Line, ...], told: Settings) -> np.ndarray:
    """Passes that leave NaN out, of one window as large as they are together."""
    out = result.target
    given, target = x, out
    sweeps: tuple[Any, ...] = ()
    if not _counts_far(x, lines, told):
        sweeps = _separable(layout(given, target), lines, told)
    if None in sweeps:
        given, target = np.ascontiguousarray(x), np.empty(out.shape, out.dtype)
        sweeps = _separable(layout(given, target), lines, told)
    if len(sweeps) == 1:
        sweeps[0].run(given, target)
        if target is not out:
            out[...] = target
        return result.deliver()
    computed = SINGLE if x.dtype == out.dtype == SINGLE and not told.double else DOUBLE
    there = ~np.isnan(x)
    plain = told._replace(periods=0, rule="cast")
    image = np.where(there, x, 0).astype(computed)
    outside = plain if told.cval == told.cval else plain._replace(cval=0.0)
    ones = plain._replace(cval=float(told.cval == told.cval))

    def made(values: np.ndarray, some: tuple[Line, ...], constant: Settings) -> np.ndarray:
        # Beyond the rims each pass sees what those before made of the constant.
        for line in some:
            values = separable(values, Result(np.empty(x.shape, computed), ()), (line,), constant)
            constant = constant._replace(cval=constant.cval * float(_pass(line).array().sum()))
        return values

    sums, weights = made(image, lines, outside), made(there.astype(computed), lines, ones)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = sums / weights * math.prod(float(_pass(line).array().sum()) for line in lines)
        if told.periods > 1:
            counting = tuple(counted(line) for line in lines)
            found[made(there.astype(computed), counting, ones) < told.periods - 0.5] = np.nan
        one = Result(out, ())
        dense(found, one, (), np.ones(1).tobytes(), Settings(rule=told.rule))
    return result.deliver()


def counted(line: Line) -> Line:
    """The pass that counts the elements that a pass gives a weight."""
    weights = np.frombuffer(line.weights, np.float64) if line.weights else np.ones(line.size)
    return line._replace(weights=(weights != 0).astype(np.float64).tobytes(), size=0)


def _run(sweeps: tuple[Any, ...], x: np.ndarray, out: np.ndarray) -> None:
    for number, sweep in enumerate(sweeps):
        last = number + 1 == len(sweeps)
        target = out if last else filters().between(number % 2, out.shape, sweep.problem.out_dtype)
        sweep.run(x, target)
        x = target


# -- windows along several axes ------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _dense(lie: Layout, axes: tuple[Axis, ...], weights: bytes, told: Settings) -> Any:
    if told.periods < 2:
        axes, weights = _near_window(axes, weights, lie.shape, _is_exact(lie.dtype, lie.out_dtype))
    moved = tuple(axis for axis in axes if axis.taps > 1)
    shape = tuple(axis.taps for axis in moved)
    one = Pass(tuple(axis.axis for axis in moved), shape, weights, "window")
    is_float = lie.dtype.kind == "f"
    in_single = is_float and lie.dtype == lie.out_dtype == SINGLE and not told.double
    if len(moved) == 2:
        tolerance = 1.5 * 2.0**-24 if in_single else 4 * 2.0**-52
        rounded = is_float or told.rule == "saturate"
        found = factors(weights, (shape[0], shape[1]), not rounded, tolerance)
        if found is not None:
            passes = _factors(moved, found)
            sweep = _problem(lie, moved, passes, told, True)
            if sweep is not None and {one.order for one in sweep.problem.passes} <= {"products", "box"}:
                return sweep
    return _problem(lie, moved, (one,), told, True)


def _near_window(
    axes: tuple[Axis, ...], weights: bytes, shape: tuple[int, ...], exact: bool
) -> tuple[tuple[Axis, ...], bytes]:  # fmt: skip
    """A window that does not reach far beyond the image; as it is where weights of an element cancel, or, of few taps,
    where their signs differ."""
    far = [is_far(axis.taps, shape[axis.axis], exact) for axis in axes]
    if not any(far):
        return axes, weights
    values = np.frombuffer(weights, np.float64).reshape([axis.taps for axis in axes])
    above, below = ((sign * values > np.finfo(np.float64).eps).astype(float) for sign in (1, -1))
    size, values, near = values.size, values * (above + below), []
    for number, axis in enumerate(axes):
        if far[number]:
            axis, places = folded(axis, shape[axis.axis])
            values, above, below = (added(one, places, axis.taps, number) for one in (values, above, below))
        near.append(axis)
    differ = (above > 0) & (below > 0)
    if size > MANY:
        differ &= np.abs(values) <= np.finfo(np.float64).eps
    return (axes, weights) if differ.any() else (tuple(near), values.tobytes())


def _factors(axes: tuple[Axis, ...], weights: tuple[bytes, bytes]) -> tuple[Pass, ...]:
    """Passes of two factors; where both are of equal weights, the second takes the weight of both."""
    values = [np.frombuffer(one, np.float64) for one in weights]
    even = [one.size > 4 and bool((one == one[0]).all()) for one in values]
    scales = [1.0, float(values[0][0] * values[1][0])] if all(even) else [float(one[0]) for one in values]
    return tuple(
        Pass((axis.axis,), (axis.taps,), b"", "box", scale) if is_even else Pass((axis.axis,), (axis.taps,), given)
        for axis, given, is_even, scale in zip(axes, weights, even, scales, strict=True)
    )


def dense(x: np.ndarray, result: Result, axes: tuple[Axis, ...], weights: bytes, told: Settings) -> np.ndarray:
    """Sums of products over a window along several axes; `weights` are float64, C-contiguous, and some count."""
    if reach.listening:
        reach.windows(axes)
    if (calls := elsewhere(x)) is not None:
        axes, weights = _near_window(axes, weights, x.shape, _is_exact(x.dtype, result.target.dtype))
        calls.window(x, result, axes, weights, told.cval, told.rule, told.double)
        return result.deliver()
    if not x.size:
        return result.deliver()
    out = result.target
    if told.rule == "cast" and not told.periods and (is_wide(x.dtype) or is_wide(out.dtype)):
        values = np.frombuffer(weights, np.float64)
        growth = float(np.abs(values).sum())
        whole = growth <= MOST_WEIGHT and bool((values == np.rint(values)).all())
        if whole and needs_halves(x, out.dtype, growth, told.cval):

            def run(half: np.ndarray, cval: float) -> np.ndarray:
                return dense(half, Result(np.empty(half.shape), ()), axes, weights, told._replace(cval=cval))

            out[...] = in_halves(x, told.cval, out.dtype, 1, run)
            return result.deliver()
    sweep = _dense(layout(x, out), axes, weights, told)
    if sweep is None:
        x, target = np.ascontiguousarray(x), np.empty(out.shape, out.dtype)
        _dense(layout(x, target), axes, weights, told).run(x, target)
        out[...] = target
    else:
        sweep.run(x, out)
        if not (told.periods or is_wide(x.dtype) or is_wide(out.dtype)):
            again.note(x, out, sweep.run, [(out.dtype, None, sweep)])
    return result.deliver()
