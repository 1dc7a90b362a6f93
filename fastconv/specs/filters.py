"""What a linear filter of an image means: windows along its axes, and the arithmetic that gives what is promised.

::

    out[i] = sum over a of weights[a] * image[i - before + a]        beyond the rims as the `Boundary` of each axis says

The promise decides in which dtype and in which order products are added up (`arithmetic`):

* of float32, images and results: in float32, within 2 units in the last place of the window's sum of |weight * pixel|,
  means within 2.5;
* of other floats: in float64;
* of integers: what SciPy's sums in float64 give, of which a cast cuts the fraction off. Where all products are whole
  numbers, and no sum can exceed 2**24 or 2**53, float32 or float64 is exact in any order; else the order is SciPy's.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .boundary import Boundary

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
#: The largest sums of |weight * element| that are made in any order, and again in SciPy's where they are so near a
#: whole number that the order decides: of float32 that is 1 in 80 (of means of bytes 1 in 1300).
MOST_CHECKED = {SINGLE: 2.0**12, DOUBLE: 2.0**36}
#: Roundings, each of at most half a unit in the last place of a window's sum, that sums in any order are off by at
#: most: 17 of each interleaved one, of weights and of what is put away.
ROUNDINGS = 26
#: Weights below, which are finite and no infinity in float32.
LARGEST = float(np.finfo(np.float32).max)


class Axis(NamedTuple):
    """A window's extent along one axis of an image."""

    axis: int
    taps: int
    before: int
    """Taps before the output's place."""
    boundary: Boundary


class Pass(NamedTuple):
    """Sums of products over a window along some axes of an image."""

    axes: tuple[int, ...]
    shape: tuple[int, ...]
    """The window's size along each."""
    weights: bytes
    """Its float64 weights, C-contiguous; none if all are `scale`."""
    order: str = "products"
    """How they are added up: "products", with least rounding, or "window", without those of no weight, as SciPy does
    along several axes; "box", sums of parts of a window whose weights are all `scale`; in SciPy's order "listed",
    "even" or "odd" along one axis, else "listed window"; or "checked" and one of these: in any order, and in SciPy's
    where that decides, of sums of at most `scale` whose fractions are cut off. Or "variance", of a window of equal
    weights: `scale` is how many elements fewer it is divided by, and `weights` say "root" for its square root. Or "max"
    or "min" of a window, no sums at all."""
    scale: float = 1.0

    def array(self) -> np.ndarray:
        """The weights."""
        if self.weights:
            return np.frombuffer(self.weights, np.float64).reshape(self.shape)
        return np.full(self.shape, self.scale)


    def margin(self, computed: np.dtype) -> float:
        """How far the sums of a "checked" pass, computed so, are at most from SciPy's.

        Both have a rounding for each tap, if they are of float64. No order of few taps rounds a sum more often than
        once for each, once for its parts and once for weights.
        """
        taps = math.prod(self.shape)
        each, roundings = taps * 2.0**-53, min(ROUNDINGS, taps + 2)
        return self.scale * (roundings * float(np.finfo(computed).eps) / 2 + (2 * each if computed == DOUBLE else each))


class Problem(NamedTuple):
    """A sweep over images of one layout."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    out_strides: tuple[int, ...]
    dtype: np.dtype
    out_dtype: np.dtype
    computed: np.dtype
    """float32 or float64; the images' own for maxima and minima."""
    axes: tuple[Axis, ...]
    passes: tuple[Pass, ...]
    """One of any axes; or two, of one axis each."""
    cval: float = 0.0
    rule: str = "cast"
    """How numbers become the result's (`bands.storer`)."""
    between: str = ""
    """The dtype that numbers are stored as between two passes, if not the computed one."""
    factors: bool = False
    """Whether two passes are factors of one window: then the first sees the constant beyond the rims, too."""
    periods: int = 0
    """If not 0, NaN are left out: sums are divided by those of the weights of what is there, and are NaN where that is
    less than so many elements."""

    def weights(self, one: Pass) -> np.ndarray:
        """The weights of a pass, as the dtype that is computed in has them; of floats their sum is as it was.

        What rounding takes from a weight the next smaller one gets, if that changes its last bits only. Each to its
        nearest, the weights of a Gaussian may be off together by a sixth of a unit of a result's last place, along each
        axis.
        """
        weights = one.array()
        if self.computed == DOUBLE or self.dtype.kind != "f" or not np.abs(weights).max(initial=0) < LARGEST:
            return weights
        found, more = weights.reshape(-1).copy(), 0.0
        for k in np.argsort(-np.abs(found), kind="stable").tolist():
            wanted = float(found[k]) + (more if abs(more) < abs(found[k]) * 2.0**-20 else 0.0)
            found[k] = SINGLE.type(wanted)
            more = wanted - float(found[k])
        return found.reshape(weights.shape)


class Arithmetic(NamedTuple):
    """How passes are computed."""

    computed: np.dtype
    """float32 or float64."""
    between: str
    """The dtype that numbers are stored as between two passes, if not the computed one."""
    passes: tuple[Pass, ...]


@lru_cache(maxsize=4096)
def arithmetic(
    passes: tuple[Pass, ...], dtype: np.dtype, out_dtype: np.dtype, cval: float, rule: str, double: bool, factors: bool
) -> Arithmetic:  # fmt: skip
    """The arithmetic that keeps the promise, for passes whose `order` is "products", "window" or "box".

    By the `rule` "saturate" results are rounded once, so there is none between passes; nor between `factors` of one
    window.
    """
    between = "" if rule == "saturate" or factors else between_sweeps(out_dtype).name
    if not factors:  # a mean is a sum, divided once; of floats scaled by a power of two, so that it stays in range
        whole = dtype.kind != "f"
        passes = tuple(one._replace(order="mean", scale=1.0 if whole else 2.0 ** -one.shape[0].bit_length())
                       if one.order == "box" else one for one in passes)  # fmt: skip
    if dtype.kind == "f":
        if dtype == out_dtype == SINGLE and not double:
            return Arithmetic(SINGLE, "", passes)
        between = "" if out_dtype == DOUBLE else between
        return Arithmetic(DOUBLE, between, passes if out_dtype.kind == "f" else tuple(map(_scipys_order, passes)))
    most = _largest(passes, dtype, out_dtype, cval, bool(between))
    # Quotients are rounded when they are stored; or they are read with more digits than float32 has.
    read = passes if out_dtype == DOUBLE else () if between else passes[:-1]
    wanted = DOUBLE if most > 2.0**24 or any(one.order == "mean" for one in read) else SINGLE
    between = "" if between == wanted.name else between
    if most <= 2.0**24:
        return Arithmetic(wanted, between, passes)
    if most <= 2.0**53 or rule == "saturate":
        return Arithmetic(DOUBLE, between, passes)
    ordered = tuple(map(_scipys_order, passes))
    stored = (between,) * (len(passes) - 1) + (out_dtype.name,)
    largest = _largest_of_checked(passes, dtype, stored, cval)
    if rule == "cast" and largest <= MOST_CHECKED[DOUBLE] and not (factors and len(passes) > 1):
        computed = SINGLE if largest <= MOST_CHECKED[SINGLE] else DOUBLE
        ordered = tuple(one._replace(order=f"checked {one.order}", scale=largest) for one in ordered)
        return Arithmetic(computed, "" if between == computed.name else between, ordered)
    return Arithmetic(DOUBLE, between, ordered)


def _largest_of_checked(passes: tuple[Pass, ...], dtype: np.dtype, stored: tuple[str, ...], cval: float) -> float:
    """A bound of the sums of |weight * element| of passes that are stored as integers; infinite if some are not."""
    value, most = max(magnitude(dtype), abs(cval)), 0.0
    for one, name in zip(passes, stored, strict=True):
        if one.order == "mean" or name.startswith("float") or not name:
            return math.inf
        most = max(most, value * float(np.abs(one.array()).sum()))
        value = max(magnitude(np.dtype(name)), abs(cval))
    return most if most == most else math.inf


def between_sweeps(out_dtype: np.dtype) -> np.dtype:
    """The dtype that results of a pass are stored as for the next one: a bool of SciPy's keeps all bits of its byte."""
    return np.dtype(np.uint8) if out_dtype == np.bool_ else out_dtype


def _largest(passes: tuple[Pass, ...], dtype: np.dtype, out_dtype: np.dtype, cval: float, stored: bool) -> float:
    """A bound of all sums of whole numbers; infinite if some are none."""
    value = max(magnitude(dtype), abs(cval))
    if cval != math.floor(cval):
        return math.inf
    most = value
    for one in passes:
        weights = one.array()
        if not np.isfinite(weights).all() or (weights != np.rint(weights)).any():
            return math.inf
        whole = value * float(np.abs(weights).sum())
        most, value = max(most, whole), value if one.order == "mean" else whole
        if stored and out_dtype.kind != "f":
            value = max(value if value < 2.0**31 else magnitude(out_dtype), magnitude(out_dtype), abs(cval))
    return most


def magnitude(dtype: np.dtype) -> float:
    """The largest absolute value that a dtype has."""
    if dtype.kind == "b":
        return 1.0
    if dtype.kind == "f":
        return math.inf
    return float(max(np.iinfo(dtype).max, -np.iinfo(dtype).min))


def _scipys_order(one: Pass) -> Pass:
    """The pass with the order of additions that SciPy takes: along one axis it looks whether weights are symmetric."""
    if one.order in ("window", "mean"):
        return one._replace(order="listed window" if one.order == "window" else "mean")
    weights, order = one.array(), "listed"
    if weights.size % 2:
        middle, eps = weights.size // 2, np.finfo(np.float64).eps
        left, right = weights[:middle], weights[:middle:-1]
        if (np.abs(right - left) <= eps).all():
            order = "even"
        elif (np.abs(right + left) <= eps).all():
            order = "odd"
    return one._replace(order=order, weights=weights.tobytes())


# -- outer products ------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def factors(weights: bytes, shape: tuple[int, int], whole: bool, tolerance: float) -> tuple[bytes, bytes] | None:
    """Two windows of one axis each whose outer product this window is; None if there are none, or one pass is as fast.

    Whole numbers have whole factors, exactly, if they are to be `whole`. Others are found by least squares, and no
    weight may be off by more than `tolerance` of itself, or be zero: zero times infinity would show.
    """
    high, wide = shape
    if min(shape) < 2 or high * wide <= high + wide + 3:
        return None
    kernel = np.frombuffer(weights, np.float64).reshape(shape)
    if not np.isfinite(kernel).all() or not kernel.any():
        return None
    i, j = np.unravel_index(np.abs(kernel).argmax(), shape)
    if whole:
        if (kernel != np.rint(kernel)).any() or np.abs(kernel).max() > 2.0**31:
            return None
        across = kernel[i] / np.gcd.reduce(kernel[i].astype(np.int64))
        down = np.rint(kernel[:, j] / across[j])
        return (down.tobytes(), across.tobytes()) if (np.outer(down, across) == kernel).all() else None
    if (np.abs(kernel) <= np.finfo(np.float64).eps).any():  # SciPy leaves these out
        return None
    across = kernel[i] / kernel[i, j]
    down = kernel @ across / (across @ across)
    across = down @ kernel / (down @ down)
    if (np.abs(np.outer(down, across) - kernel) <= tolerance * np.abs(kernel)).all():
        return down.tobytes(), across.tobytes()
    return None
