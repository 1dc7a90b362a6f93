"""Filters of `fastconv.ndimage` on a GPU: which kernel makes each pass, and in which arithmetic.

`fastconv.specs.filters` says what a pass means and in which dtype it is computed, for both devices. Here each pass
along one axis reads the image once and writes it once; what lies between two is scratch memory of the stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..base.devices import on_gpu
from ..specs.filters import DOUBLE, SINGLE, Axis, Pass, arithmetic, between_sweeps, factors
from .algorithms import filter_combine, filter_dense, filter_line, filter_running
from .algorithms.filter_dense import Taps
from .driver import Given, Job, Wanted, run
from .operands import Operand, operand
from .shared.lines import lines
from .system import arrays
from .system.arrays import Array
from .system.streams import Stream, Tensor, dense

_INT64 = np.dtype(np.int64)
#: The smallest weight that counts in a window along several axes, as in SciPy.
_EPS = float(np.finfo(np.float64).eps)


# -- images and results --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    """What is filtered: an array on a GPU, or one of NumPy that travels there and back."""

    operand: Operand

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its axes."""
        return self.operand.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of its elements, in native byte order."""
        return self.operand.dtype.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of its axes."""
        return len(self.operand.shape)

    @property
    def size(self) -> int:
        """Number of its elements."""
        return math.prod(self.operand.shape)

    @property
    def shift(self) -> int:
        """Axes in front that a tensor has beside the image's: it has four at least."""
        return max(0, 4 - self.ndim)


    @property
    def array(self) -> Any:
        """The caller's array."""
        return self.operand.value if isinstance(self.operand, Array) else self.operand

    def __dlpack_device__(self) -> tuple[int, int]:
        """On a GPU: so filters that call others can hand it on."""
        return 2, 0


def image(value: Any) -> Image:
    """The image that filters read, neither copied nor converted."""
    return value if isinstance(value, Image) else Image(operand("input", value))


#: Launches on a stream what makes a result of an image, or of several: the last tensor is the result.
Work = Callable[..., None]


class Target:
    """Where a result goes, as `fastconv.ndimage` sees it; `deliver` returns what the caller is to have."""

    def __init__(self, given: Image, dtype: np.dtype, output: Any = None) -> None:
        self.shape, self.dtype, self.size = given.shape, dtype, given.size
        self._given, self._goal, self._value = given, output, output
        self._output = None if isinstance(output, np.ndarray) else output

    @property
    def target(self) -> Target:
        """What knows the result's shape and dtype."""
        return self

    def deliver(self) -> Any:
        """The array of the caller's library."""
        if isinstance(self._goal, np.ndarray):
            self._goal[...] = self._value
        return self._value if self._goal is None else self._goal

    def zeros(self) -> None:
        """Fill with zeros."""
        self.fill(lambda x, out, stream: _window(x, out, _NO_TAPS, np.empty(0), _Told(DOUBLE), stream))

    def fill(self, work: Work) -> None:
        """Let `work` make the result of the image."""
        self._value = _computed([self._given], self.dtype, self._output, work)

    def combine(self, parts: Sequence[Any], squares: bool) -> None:
        """Make the sum of `parts`, arrays of the result's dtype, or the root of the sum of their `squares`."""
        total, *others = map(image, parts)
        for number, other in enumerate(others or [total]):
            ends, first = number + 1 >= len(others), number == 0
            how = squares and first, squares, squares and ends
            self._value = _computed([total, other][: 1 + len(others)], self.dtype, self._output if ends else None,
                                    partial(_combined, how))  # fmt: skip
            total = image(self._value)


def target(given: Image, output: Any, dtype: Callable[[], np.dtype]) -> Target:
    """Where a result goes: `output`, an array that is where `given` is, or a new array of a `dtype`."""
    travels, known = isinstance(given.operand, np.ndarray), isinstance(output, np.ndarray)
    if known and not travels:
        raise TypeError("output is a NumPy array, but input is on a GPU: copy either to where the other is")
    if on_gpu(output) and travels:
        raise TypeError("output is on a GPU, but input is a NumPy array: copy either to where the other is")
    if not known and not on_gpu(output):
        found = dtype()
        if found.kind == "c":
            raise TypeError(f"complex numbers are for NumPy arrays, and input is on a GPU: output has dtype {found}")
        return Target(given, found)
    array = output if known else arrays.view("output", output)
    if array.shape != given.shape:
        raise ValueError(f"output shape not correct: it must be {given.shape}, got {array.shape}")
    if known and not output.flags.writeable:
        raise ValueError("output array is read-only")
    return Target(given, array.dtype.newbyteorder("="), output)


def _computed(given: Sequence[Image], dtype: np.dtype, output: Any, work: Work) -> Any:
    """The result of work on images. An output that shares memory with one is written when all else is done."""
    if output is not None and any(_overlap(one.operand, output) for one in given):
        made = image(_computed(given, dtype, None, work))
        return _computed([made], dtype, output, _copy)

    def kernel(items: int, _: Any, inputs: Sequence[Tensor], results: Sequence[Tensor], stream: Stream) -> None:
        work(*inputs, results[0], stream)

    first = given[0]
    shape = (1,) * first.shift + first.shape
    job = Job(kernel, 1, max(2, first.ndim - 2), in_place=True)
    wanted = Wanted(first.shape, shape, dtype)
    return run(job, [Given(one.operand, shape, one.dtype) for one in given], [wanted], output)[0]


def _overlap(a: Operand, output: Any) -> bool:
    if not isinstance(a, Array):
        return False
    (low, end), (first, last) = a.span(), arrays.view("output", output).span()
    return low < last and first < end


def _combined(how: tuple[bool, bool, bool], *tensors: Any) -> None:
    *given, out, stream = tensors
    filter_combine.run(given[0], given[1] if len(given) > 1 else None, out, *how, stream)


def _copy(x: Tensor, out: Tensor, stream: Stream) -> None:
    """Convert each element."""
    kind = _INT64 if x.dtype.kind in "iu" else DOUBLE
    _window(x, out, _ONE_TAP, np.ones(1), _Told(kind, rule="wrap"), stream)


def _between(x: Tensor, dtype: np.dtype, stream: Stream) -> Tensor:
    """Scratch memory for an image between two passes."""
    return dense(stream.empty(x.size, dtype), x.shape)


# -- sums ----------------------------------------------------------------------------------------------------


class _Told(NamedTuple):
    """What a pass is told beside its window."""

    kind: np.dtype
    """The dtype that is computed in."""
    cval: Any = 0.0
    rule: str = "cast"
    order: str = "products"
    divisor: float = 1.0
    op: str = "sum"


_NO_TAPS = Taps((), (), np.empty((0, 0), np.int64))
_ONE_TAP = Taps((), (), np.empty((1, 0), np.int64))


def separable(
    given: Image, result: Target, axes: Sequence[Axis], passes: Sequence[Pass], cval: float, rule: str, double: bool
) -> None:  # fmt: skip
    """Make passes along one axis each, one after the other, as SciPy does: each is stored as the result's dtype."""
    if not passes:
        return window(given, result, (), np.ones(1).tobytes(), cval, rule, double)
    double = double or not given.dtype == result.dtype == SINGLE
    axes = _moved(axes, given.shift)

    def work(x: Tensor, out: Tensor, stream: Stream) -> None:
        for number, (axis, one) in enumerate(zip(axes, passes, strict=True)):
            last = number + 1 == len(passes)
            dtype = DOUBLE if rule == "saturate" else between_sweeps(out.dtype)
            to, this_rule = (out, rule) if last else (_between(x, dtype, stream), "cast")
            _along(x, to, axis, *_arithmetic(one, x.dtype, to.dtype, cval, this_rule, double, False), stream)
            x = to

    return result.fill(work)


def window(
    given: Image, result: Target, axes: Sequence[Axis], weights: bytes, cval: float, rule: str, double: bool
) -> None:  # fmt: skip
    """Sums of products over a window along several axes; `weights` are float64, C-contiguous."""
    axes = _moved([axis for axis in axes if axis.taps > 1], given.shift)
    shape = tuple(axis.taps for axis in axes)
    one, told = _arithmetic(Pass(tuple(axis.axis for axis in axes), shape, weights, "window"), given.dtype,
                            result.dtype, cval, rule, double, True)  # fmt: skip
    parts = _factors(given, result, axes, weights, cval, rule, double)
    values = one.array()
    counts = np.abs(values) > _EPS

    def work(x: Tensor, out: Tensor, stream: Stream) -> None:
        if parts is not None:
            (first, second), (down, across), kind = axes, parts, told.kind
            between = _between(x, kind, stream)
            _along(x, between, first, down, _Told(kind, told.cval), stream)
            outside = told.cval * float(down.array().sum())  # what the first pass makes of the constant
            _along(between, out, second, across, _Told(kind, kind.type(outside).item(), rule), stream)
        elif len(axes) == 1 and told.order == "products" and counts.all():
            _along(x, out, axes[0], one, told, stream)
        else:
            places = np.stack(np.nonzero(counts), 1) - [axis.before for axis in axes] if axes else _ONE_TAP.places
            modes = tuple(axis.boundary.value for axis in axes)
            _window(x, out, Taps(tuple(axis.axis for axis in axes), modes, places), values[counts], told, stream)

    return result.fill(work)


def _factors(
    given: Image, result: Target, axes: Sequence[Axis], weights: bytes, cval: float, rule: str, double: bool
) -> tuple[Pass, ...] | None:  # fmt: skip
    """Two passes that a window is the outer product of, where they keep what is promised of results."""
    if len(axes) != 2 or not math.isfinite(cval):
        return None
    is_float = given.dtype.kind == "f"
    in_single = given.dtype == result.dtype == SINGLE and not double
    tolerance = 1.5 * 2.0**-24 if in_single else 4 * 2.0**-52
    shape = axes[0].taps, axes[1].taps
    found = factors(weights, shape, not (is_float or rule == "saturate"), tolerance)
    if found is None:
        return None
    passes = tuple(Pass((axis.axis,), (axis.taps,), one) for axis, one in zip(axes, found, strict=True))
    told = arithmetic(passes, given.dtype, result.dtype, cval, rule, double, True)
    return passes if {one.order for one in told.passes} == {"products"} else None


def _moved(axes: Sequence[Axis], shift: int) -> list[Axis]:
    """Axes by their numbers in a tensor."""
    return [axis._replace(axis=axis.axis + shift) for axis in axes]


def _arithmetic(
    one: Pass, dtype: np.dtype, out_dtype: np.dtype, cval: float, rule: str, double: bool, factors: bool
) -> tuple[Pass, _Told]:  # fmt: skip
    """A pass with what `specs.filters.arithmetic` chooses.

    Where the CPU makes sums in any order, and again in SciPy's if they are near a whole number, all are made in SciPy's
    here. Integers of 64 bits are added up as such, modulo 2**64, where weights are whole numbers.
    """
    wide = dtype.kind in "biu" and out_dtype.kind in "iu" and max(dtype.itemsize, out_dtype.itemsize) == 8
    if wide and out_dtype.itemsize == 8 and one.weights and rule == "cast" and abs(cval) < 2.0**63:
        weights = one.array()
        if cval == math.floor(cval) and (weights == np.rint(weights)).all() and np.abs(weights).max() < 2.0**63:
            return one._replace(order="products"), _Told(_INT64, int(cval))
    found = arithmetic((one,), dtype, out_dtype, cval, rule, double, factors)
    (made,), kind = found.passes, found.computed
    if made.order.startswith("checked"):
        made, kind = made._replace(order=made.order.removeprefix("checked "), scale=1.0), DOUBLE
    order = {"window": "products", "listed window": "listed"}.get(made.order, made.order)
    return made, _Told(kind, cval, rule, order)


def _along(x: Tensor, out: Tensor, axis: Axis, one: Pass, told: _Told, stream: Stream) -> None:
    """A pass along one axis."""
    of, kind, mode = lines(x, out, axis.axis), told.kind, axis.boundary.value
    if one.order == "mean":
        divisor = axis.taps * one.scale
        if filter_running.supports(of, axis.taps, kind):
            filter_running.run(x, out, of, axis.taps, axis.before, kind, "sum", mode, told.cval, one.scale, divisor,
                               told.rule, stream)  # fmt: skip
            return
        one, told = one._replace(weights=np.full(axis.taps, one.scale).tobytes()), told._replace(divisor=divisor)
        told = told._replace(order="products")
    elif filter_line.supports(of, axis.taps, kind):
        weights = stream.upload(one.array().astype(kind))
        filter_line.run(x, out, of, axis.taps, axis.before, weights, told.order, mode, told.cval, told.rule, stream)
        return
    places = np.arange(axis.taps, dtype=np.int64)[:, None] - axis.before
    order = "products" if told.order == "products" else "listed"
    _window(x, out, Taps((axis.axis,), (mode,), places), one.array(), told._replace(order=order), stream)


def _window(x: Tensor, out: Tensor, taps: Taps, weights: np.ndarray, told: _Told, stream: Stream) -> None:
    """A pass along several axes, or along one with a window that is too large for shared memory."""
    ready = stream.upload(weights.astype(told.kind))
    filter_dense.run(x, out, taps, ready, told.op, told.order, told.cval, told.divisor, told.rule, stream)


# -- maxima and minima ---------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A pass of maxima or minima along one axis."""

    axis: Axis
    constant: np.generic
    """What lies outside, of the dtype that elements are compared in."""
    out_dtype: np.dtype


def extremum(given: Image, result: Target, name: str, steps: Sequence[Step]) -> None:
    """The "max" or "min" of full windows, one axis after the other."""
    shift = given.shift

    def work(x: Tensor, out: Tensor, stream: Stream) -> None:
        for number, (axis, constant, dtype) in enumerate(steps):
            to = out if number + 1 == len(steps) else _between(x, dtype, stream)
            (moved,), kind, mode = _moved([axis], shift), constant.dtype, axis.boundary.value
            of, fill = lines(x, to, moved.axis), constant.item()
            if filter_running.supports(of, axis.taps, kind):
                filter_running.run(x, to, of, axis.taps, axis.before, kind, name, mode, fill, 1, 1, "cast", stream)
            else:
                places = np.arange(axis.taps, dtype=np.int64)[:, None] - axis.before
                _window(x, to, Taps((moved.axis,), (mode,), places), np.ones(axis.taps), _Told(kind, fill, op=name),
                        stream)  # fmt: skip
            x = to

    return result.fill(work if steps else _copy)


def extremum_over(
    given: Image, result: Target, name: str, axes: Sequence[Axis], members: np.ndarray, constant: np.generic
) -> None:  # fmt: skip
    """The "max" or "min" of the elements of a footprint: the `members`, with an axis for each of `axes`."""
    axes = _moved(axes, given.shift)
    places = np.stack(np.nonzero(members), 1) - [axis.before for axis in axes]
    taps = Taps(tuple(axis.axis for axis in axes), tuple(axis.boundary.value for axis in axes), places)
    told = _Told(constant.dtype, constant.item(), op=name)
    result.fill(lambda x, out, stream: _window(x, out, taps, np.ones(len(places)), told, stream))
