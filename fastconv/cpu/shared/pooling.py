"""Parts of the pooling algorithms: taps of a window inside the input, dealt lines, divisors, and ways to combine."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...specs.pool import PoolSpec
from ..system.kernels import Direct, Kernel, Launch, jit
from ..system.memory import lone_row, scratch_rows
from ..tiles import powers, simd, simd_pool


@jit(forceinline=True)
def inside(start, dilation, size, taps):
    """The taps of a window, first and last + 1, that lie inside an axis."""
    if dilation == 1:
        return max(0, -start), min(taps, size - start)
    return max(0, -(start // dilation)), min(taps, (size - 1 - start) // dilation + 1)


#: Largest stride by which columns are dealt out in registers, in stride * (stride - 1) shuffles a vector of outputs.
#: With larger ones a tap's elements are loaded one by one. AVX-512 shuffles any two vectors in one instruction.
MOST_DEALT = 8 if simd.register_bytes() == 64 else 4


#: Time of a shuffle, in units of loading and combining a vector.
DEAL = 0.3


class Lines(NamedTuple):
    """The layout of the columns of a row that neighbouring outputs see: dealt to one line for each remainder by the
    stride, so that neighbouring outputs read neighbouring elements. Beyond MOST_DEALT they stay in one line."""

    dealt: int
    """Lines of a row."""
    every: int
    """Elements of a line from what one output reads to what the next one reads."""
    left: int
    """Columns of padding before the input that one of the `number` taps can see."""
    number: int
    """Taps of a window, without those first and last ones that see nothing but padding in all windows."""
    dilation: int
    groups: int
    """Elements of a line."""
    pitch: int
    """Elements from one line to the next: `groups`, and room for a vector that begins at the last one."""

    @property
    def last(self) -> int:
        """Column of a window's last tap, from its first."""
        return (self.number - 1) * self.dilation

    @property
    def taps(self) -> np.ndarray:
        """Columns of all taps, from the window's first."""
        return np.arange(self.number, dtype=np.int64) * self.dilation

    @property
    def offsets(self) -> np.ndarray:
        """Distances of all taps in the lines, from the window's first."""
        return self.taps % self.dealt * self.pitch + self.taps // self.dealt


def lines(spec: PoolSpec, width: int) -> Lines:
    lanes, dilation = simd.lanes(spec.x_dtype), spec.dilation[1]
    stride = spec.stride[1] if spec.ow > 1 else 1
    dealt, every = (stride, 1) if stride <= MOST_DEALT else (1, stride)
    left = spec.padding[1][0]
    skipped = max(0, -((left - (spec.ow - 1) * stride) // -dilation))
    left -= skipped * dilation
    number = min(spec.kw - skipped, (spec.w - 1 + left) // dilation + 1)
    groups = (width - 1) * every + (number - 1) * dilation // dealt + 1
    pitch = -(-(groups + lanes * every) // lanes) * lanes
    return Lines(dealt, every, left, number, dilation, groups, pitch)


def counts(spec: PoolSpec) -> np.ndarray:
    """The divisors of a mean as two factors: one for each row of the output, then one for each column; and some more,
    so that a vector can be read from the last one on. In Lp pooling the divisors are divided by the window's size.
    """
    if kind(spec)[0] != "sum":
        return np.empty(0, spec.x_dtype)
    factors = np.ones(spec.oh + spec.ow + simd.lanes(spec.x_dtype), spec.x_dtype)
    rows, columns = factors[: spec.oh], factors[spec.oh : spec.oh + spec.ow]
    lp = spec.op == "lp"
    if spec.divisor is None:
        rows[:] = spec.divisors(1) / (spec.kh if lp else 1)
        columns[:] = spec.divisors(2) / (spec.kw if lp else 1)
    else:
        rows[:], columns[:] = spec.divisor / (spec.kh if lp else 1), 1 / (spec.kw if lp else 1)
    return factors


class Prepared:
    """All that a call of a pooling needs beside its arrays."""

    __slots__ = ("_arguments", "_launch", "_none", "scratch")

    def __init__(
        self,
        *,
        loops: Kernel,
        arguments: tuple[Any, ...],
        dtype: np.dtype,
        scratch: int,
        work: float,
    ) -> None:
        self.scratch = scratch
        """Elements for each thread."""
        self._launch = Launch(loops, work)
        self._arguments = arguments
        self._none = None if scratch else np.empty((1, 0), dtype)

    def run(self, *arrays: np.ndarray) -> None:
        """Pool the first of the arrays into the others."""
        scratches = scratch_rows(self.scratch, arrays[0].dtype) if self._none is None else self._none
        self._launch.call(*arrays, *self._arguments, scratches)

    def direct(self, x: np.ndarray, out: np.ndarray) -> Direct | None:
        """What does the same for arrays that lie as these two, on the calling thread."""
        scratches = lone_row(self.scratch, x.dtype) if self._none is None else self._none
        return self._launch.direct(x, out, *self._arguments, scratches)


def _zero(dtype: np.dtype) -> np.generic:
    return dtype.type(0)


def _least(dtype: np.dtype) -> np.generic:
    return dtype.type(-np.inf if dtype.kind == "f" else np.iinfo(dtype).min)


def _greatest(dtype: np.dtype) -> np.generic:
    return dtype.type(np.inf if dtype.kind == "f" else np.iinfo(dtype).max)


class Combine(NamedTuple):
    """How a window becomes one value: `nothing` begins, `power` maps elements, `vectors` combines, `finish` ends."""

    name: str
    nothing: Any
    """A function that tells what loses against every value of a dtype."""
    power: Any
    vectors: Any
    finish: Any


@jit(forceinline=True)
def _plus(a, b):
    return a + b


@jit(forceinline=True)
def _untouched(vector, norm):
    return vector


@jit(forceinline=True)
def _as_it_is(value, counts, row, column, norm):
    return value


@jit(forceinline=True)
def _divided(total, counts, row, column, norm):
    return total / (simd.load(counts, column) * simd.splat(counts[row]))


@jit(forceinline=True)
def _root(total, counts, row, column, norm):
    return powers.root(_divided(total, counts, row, column, norm), norm)


@jit(forceinline=True)
def _square_root(total, counts, row, column, norm):
    return powers.square_root(_divided(total, counts, row, column, norm), norm)


#: For each power of elements that is combined (none; the absolute value; its square; its `norm`-th power): the function
#: that makes it, and the one that makes an output of a sum. Squares have kernels of their own: others compile longer.
POWERS = {
    "": (_untouched, _divided),
    "magnitude": (powers.magnitude, _divided),
    "square": (powers.square, _square_root),
    "power": (powers.power, _root),
}


@lru_cache(maxsize=8)
def combine(name: str, power: str) -> Combine:
    each, finish = POWERS[power]
    if name == "max":
        return Combine("max", _zero if power else _least, each, simd.larger, _as_it_is)
    if name == "min":
        return Combine("min", _greatest, each, simd.smaller, _as_it_is)
    if name == "sum":
        return Combine("sum", _zero, each, _plus, finish)
    raise ValueError(f"there is no way to combine elements by {name!r}")


def kind(spec: PoolSpec) -> tuple[str, str]:
    """The arguments of `combine` for a pooling: "max", "min" or "sum", and one of `POWERS`. Poolings of one kind share
    their kernels."""
    if spec.op != "lp":
        return {"avg": "sum"}.get(spec.op, spec.op), ""
    if spec.norm in (1, math.inf):
        return "sum" if spec.norm == 1 else "max", "magnitude"
    return "sum", "square" if spec.norm == 2 else "power"


def in_parts(spec: PoolSpec, additions: int) -> bool:
    """Whether values that are combined one by one are sums, and so many that they are to be added up in parts."""
    return kind(spec)[0] == "sum" and additions > simd_pool.PART


def constants(spec: PoolSpec) -> tuple[np.generic, np.generic]:
    """The value that a window begins with, and the exponent of Lp pooling, in the dtype that is computed in."""
    return combine(*kind(spec)).nothing(spec.x_dtype), spec.x_dtype.type(spec.norm)


#: Time of powers, in units of loading and combining a vector: of one double; of a vector of floats, for each byte.
POWER, POWER_BYTE = 30, 0.6


def power_cost(spec: PoolSpec) -> tuple[float, float]:
    """The amounts that powers add to the cost of a vector of input and of a vector of output, counted in vectors."""
    if kind(spec)[1] not in ("square", "power"):
        return 0, 0
    lanes = simd.lanes(spec.x_dtype)
    each = POWER * lanes if spec.x_dtype.itemsize == 8 else POWER_BYTE * 4 * lanes
    return (0 if spec.norm in (2, 3) else each), (5 if spec.norm == 2 else each)
