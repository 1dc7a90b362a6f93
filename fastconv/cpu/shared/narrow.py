"""The least dtypes that a linear filter's sums fit in, and how they are divided there: for `cpu.in_place`."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...specs.boundary import Boundary
from ...specs.filters import Pass, Problem
from .steps import reciprocal


class Chosen(NamedTuple):
    """In which dtype sums are made, and in which those of a first pass are stored."""

    computed: np.dtype
    between: np.dtype
    cut: bool = False
    """Whether those of a first pass lose their fractions, though they are stored as floats."""


def chosen(problem: Problem, order: tuple[Pass, ...]) -> Chosen | None:
    """The dtypes for passes in some order; None if that may not be theirs, or there is none.

    Passes over floats, and those whose sums are whole numbers that are not cut off, may be made in any order.
    """
    computed, constant = problem.computed, any(one.boundary is Boundary.CONSTANT for one in problem.axes)
    swapped = order != problem.passes
    if order[0].order in ("max", "min"):
        return Chosen(problem.dtype, problem.dtype)
    if swapped and constant and not problem.factors:
        return None
    if problem.dtype.kind == "f":
        if problem.between not in ("", computed.name) or problem.out_dtype.kind != "f":
            return None
        narrow = constant and float(problem.dtype.type(problem.cval)) != problem.cval
        return None if narrow and problem.dtype != computed else Chosen(computed, computed)
    limits, cval = np.iinfo(problem.dtype), problem.cval if constant else 0.0
    if cval != math.floor(cval) or not limits.min <= cval <= limits.max:
        return None
    if problem.passes[0].order.startswith("checked"):
        between = np.dtype(problem.between or computed)
        fits = between.kind == "f" or np.iinfo(between).min <= cval <= np.iinfo(between).max
        if not fits or swapped or _largest(order, problem) >= 2.0**31:
            return None
        cut = between.kind != "f" and len(order) == 2 and _stays(order[0], problem.dtype, between)
        return Chosen(computed, computed if cut else between, cut)
    if any(one.order == "mean" for one in order):
        if swapped or problem.dtype.kind != "u" or problem.dtype != problem.out_dtype:
            return None
        most = float(max(limits.max * one.shape[0] for one in order))
        computed = _least(most, 0, computed, 2.0**24)
        return Chosen(computed, problem.out_dtype)
    if any((one.array() != np.rint(one.array())).any() for one in order):
        return None
    most, least = _largest(order, problem), min(limits.min, *(one.array().min() for one in order))
    if len(order) == 2 and not problem.factors:  # what SciPy stores between passes neither wraps around nor is rounded
        stored = np.dtype(problem.between or problem.out_dtype)
        if stored.kind != "f" and (most > np.iinfo(stored).max or (least < 0 and stored.kind == "u")):
            return None
        if stored == np.float32 and most > 2.0**24:
            return None
    computed = _least(most, least, computed, 0.0)
    if computed.kind == "f" and problem.out_dtype.kind != "f" and most >= 2.0**31:
        return None
    return Chosen(computed, computed)


def _stays(one: Pass, dtype: np.dtype, stored: np.dtype) -> bool:
    """Whether no sum of a pass over integers is beyond the range of the integers that it is stored as."""
    weights, limits, most = one.array(), np.iinfo(dtype), np.iinfo(stored)
    ends = weights * limits.max, weights * limits.min
    low, high = (float(bound(*ends).sum()) for bound in (np.minimum, np.maximum))
    return most.min - 0.5 < low and high < most.max + 0.5


def _largest(passes: tuple[Pass, ...], problem: Problem) -> float:
    """A bound of the sums of |weight * integer|."""
    if passes[0].order.startswith("checked"):
        return max(one.scale for one in passes)
    limits = np.iinfo(problem.dtype)
    return float(max(limits.max, -limits.min)) * math.prod(float(np.abs(one.array()).sum()) for one in passes)


def _least(most: float, least: float, computed: np.dtype, more: float) -> np.dtype:
    """The least dtype of sums up to `most`, none negative if `least` is not; of 32 bits only of fewer than `more`."""
    for name, top in (("uint16", 2.0**16 if least >= 0 else 0.0), ("int16", 2.0**15), ("int32", more)):
        if most < top:
            return np.dtype(name)
    return computed


# -- quotients -----------------------------------------------------------------------------------------------


def scaling(divisor: float, problem: Problem, computed: np.dtype, stored: np.dtype) -> tuple[str, float, int] | None:
    """How sums become what is stored, as `tiles.converted.vector_writer` has it; None if there is no way."""
    if divisor == 1:
        return "", 1, 0
    if computed.kind != "f":
        most = int(np.iinfo(problem.dtype).max)
        found = (_multiplier if computed == np.uint16 else _reciprocal)(int(divisor), most)
        return None if found is None else ("times", *found)
    factor = reciprocal(divisor, problem, stored.name)
    whole = "whole " if stored.kind == "f" and problem.dtype.kind != "f" else ""
    return (f"{whole}over", divisor, 0) if factor is None else (f"{whole}times", factor, 0)


@lru_cache(maxsize=256)
def _multiplier(divisor: int, most: int) -> tuple[int, int] | None:
    """The factor whose product, of 32 bits, gives by its upper half quotients up to `most`; and how many of its bits
    are left out; None if there is none."""
    most *= divisor
    for shift in range(16):
        factor = -(-(1 << (16 + shift)) // divisor)
        if factor >= 1 << 16:
            continue
        if most * (factor * divisor - (1 << (16 + shift))) < 1 << (16 + shift):
            return factor, shift
    return None


@lru_cache(maxsize=256)
def _reciprocal(divisor: int, most: int) -> tuple[int, int] | None:
    """The bits of the float32 whose products give quotients up to `most`, without fractions; None if there is none.

    Products grow with what is divided, so it is enough to look at the first and the last number of each quotient.
    """
    near = np.float32(1 / divisor)
    factor = near if float(near) * divisor >= 1 else np.nextafter(near, np.float32(1))
    quotients = np.arange(most + 1.0)
    for number in (quotients * divisor, (quotients + 1) * divisor - 1):
        if (np.trunc(number.astype(np.float32) * factor) != quotients).any():
            return None
    return int(factor.view(np.int32)), 0
