"""Linear filters as sweeps over an image: which passes go together, and in which arithmetic."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..functional.device import filters
from ..specs.boundary import Boundary
from ..specs.filters import DOUBLE, SINGLE, Axis, Pass, arithmetic, factors
from .arguments import Result


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


def _layout(x: np.ndarray, out: np.ndarray) -> Layout:
    return Layout(x.shape, x.dtype, x.strides, out.dtype, out.strides)


def _problem(layout: Layout, axes: tuple[Axis, ...], passes: tuple[Pass, ...], told: Settings, whole: bool) -> Any:
    """The sweep of these passes, whose order is still to be chosen; None if the layout does not suit them."""
    found = arithmetic(passes, layout.dtype, layout.out_dtype, told.cval, told.rule, told.double, whole)
    shape, dtype, strides, out_dtype, out_strides = layout
    problem = filters().Problem(
        shape, strides, out_strides, dtype, out_dtype, found.computed, axes, found.passes, told.cval, told.rule,
        found.between, whole,
    )  # fmt: skip
    return filters().prepared(problem) if filters().fits(problem) else None




# -- passes along one axis each ------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _separable(layout: Layout, lines: tuple[Line, ...], told: Settings) -> tuple[Any, ...]:
    """The sweeps that make the passes, two at a time where they suit each other."""
    axes = tuple(Axis(line.axis, line.taps(), line.before, line.boundary) for line in lines)
    passes = tuple(_pass(line) for line in lines)
    made: list[Any] = []
    at, shape = 0, layout.shape
    while at < len(lines):
        count = 2 if at + 1 < len(lines) else 1
        while True:
            last = at + count == len(lines)
            strides = layout.out_strides if last else _contiguous(shape, _between(layout, told))
            this = layout._replace(out_strides=strides, out_dtype=layout.out_dtype if last else _between(layout, told))
            rule = told if last else told._replace(rule="cast")
            chosen = slice(at, at + count)
            sweep = _problem(this, axes[chosen], passes[chosen], rule, False)
            if sweep is not None or count == 1:
                break
            count = 1
        made.append(sweep)
        at += count
        layout = layout._replace(dtype=this.out_dtype, strides=strides)
    return tuple(made)


def _between(layout: Layout, told: Settings) -> np.dtype:
    """The dtype of an image between two sweeps: the result's, as in SciPy, unless it is rounded once only."""
    return DOUBLE if told.rule == "saturate" else layout.out_dtype


def _pass(line: Line) -> Pass:
    if line.weights:
        return Pass((line.axis,), (line.taps(),), line.weights)
    return Pass((line.axis,), (line.size,), b"", "box", 1.0 / line.size)


def separable(x: np.ndarray, result: Result, lines: tuple[Line, ...], told: Settings) -> np.ndarray:
    """Make the passes, one after the other, as SciPy does: each is stored as the result's dtype."""
    out = result.target
    if not lines:
        if told.rule == "saturate":
            return dense(x, result, (), np.ones(1).tobytes(), told)
        np.copyto(out, x, casting="unsafe")
    if not lines or not x.size:
        return result.deliver()
    sweeps = _separable(_layout(x, out), lines, told)
    if None in sweeps:  # axes behind the window's that do not lie evenly
        x, target = np.ascontiguousarray(x), np.empty(out.shape, out.dtype)
        sweeps = _separable(_layout(x, target), lines, told)
        _run(sweeps, x, target)
        out[...] = target
    else:
        _run(sweeps, x, out)
    return result.deliver()


def _run(sweeps: tuple[Any, ...], x: np.ndarray, out: np.ndarray) -> None:
    for number, sweep in enumerate(sweeps):
        last = number + 1 == len(sweeps)
        target = out if last else filters().between(number % 2, out.shape, sweep.problem.out_dtype)
        sweep.run(x, target)
        x = target


# -- windows along several axes ------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _dense(layout: Layout, axes: tuple[Axis, ...], weights: bytes, told: Settings) -> Any:
    moved = tuple(axis for axis in axes if axis.taps > 1)
    shape = tuple(axis.taps for axis in moved)
    one = Pass(tuple(axis.axis for axis in moved), shape, weights, "window")
    is_float = layout.dtype.kind == "f"
    in_single = is_float and layout.dtype == layout.out_dtype == SINGLE and not told.double
    if len(moved) == 2:
        tolerance = 1.5 * 2.0**-24 if in_single else 4 * 2.0**-52
        rounded = is_float or told.rule == "saturate"
        found = factors(weights, (shape[0], shape[1]), not rounded, tolerance)
        if found is not None:
            passes = tuple(_factor(axis, factor) for axis, factor in zip(moved, found, strict=True))
            sweep = _problem(layout, moved, passes, told, True)
            if sweep is not None and {one.order for one in sweep.problem.passes} <= {"products", "box"}:
                return sweep
    return _problem(layout, moved, (one,), told, True)


def _factor(axis: Axis, weights: bytes) -> Pass:
    values = np.frombuffer(weights, np.float64)
    if values.size > 4 and (values == values[0]).all():
        return Pass((axis.axis,), (axis.taps,), b"", "box", float(values[0]))
    return Pass((axis.axis,), (axis.taps,), weights)


def dense(x: np.ndarray, result: Result, axes: tuple[Axis, ...], weights: bytes, told: Settings) -> np.ndarray:
    """Sums of products over a window along several axes; `weights` are float64, C-contiguous, and some count."""
    if not x.size:
        return result.deliver()
    out = result.target
    sweep = _dense(_layout(x, out), axes, weights, told)
    if sweep is None:
        x, target = np.ascontiguousarray(x), np.empty(out.shape, out.dtype)
        _dense(_layout(x, target), axes, weights, told).run(x, target)
        out[...] = target
    else:
        sweep.run(x, out)
    return result.deliver()
