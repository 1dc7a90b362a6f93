"""Transposed convolution by convolutions: one for each phase, or one for all phases together.

A phase is all outputs whose rows, and whose columns, have one remainder by the stride: they see the same few taps. So a
phase is a convolution of `x` without stride, by kernels that are flipped and whose channels are exchanged; the phases
are then interleaved. No zeros are inserted, nothing is multiplied by them (`fastconv.specs.phases` has the geometry).
`Phases` makes the phases one after the other. Where the stride divides the kernel, all phases see equally many taps,
and `Joint` makes them as the channels of one convolution: it reads `x` once, and its tiles are full even where there
are few channels.

The planner, which is handed in, chooses the convolutions' algorithms. `Named` takes one algorithm for all of them, as
`Phases` or as `Joint`: so the name of a convolution's algorithm is one of a transposed convolution's, too.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4; Shi et
al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...planner.choose import Choice, Planner
from ...specs.arguments import Pair
from ...specs.arrays import kernel_ready
from ...specs.conv import ConvSpec
from ...specs.conv_transpose import TransposeSpec
from ...specs.phases import Interleaving, Parts, joint, one_for_all, one_for_each, sample
from ..machine import Machine
from ..shared.interleave import Exchange, interleave
from ..shared.volumes import one_input
from ..system.memory import buffer, for_one_call, is_for_one_call

#: Seconds that a call into a convolution takes beside its estimated cost.
CALL = 1e-5
#: Seconds to interleave one byte of phases (10 GB/s measured, AMD EPYC 9004). Phases of unequal sizes take twice as
#: long: NumPy interleaves them.
INTERLEAVE = 1e-10
#: Seconds to exchange the channels of a byte of weights, up to that many, and of a larger array (AMD EPYC 9005).
EXCHANGE, LARGE_BYTES, EXCHANGE_LARGE = 1e-10, 16 << 20, 3.6e-10


class Prepared(NamedTuple):
    """All that a call needs beside its arrays."""

    parts: Parts
    choices: list[Choice]
    """The algorithm of each part."""
    exchange: Exchange | None
    """Makes the weights of all parts; None if there are no parts."""
    weights: tuple[int, ...]
    """The shape (groups, channels in, channels out, taps) of the weights that are given."""
    for_one_call: bool


class Packed(NamedTuple):
    """All of a call but input and bias: the algorithm of each convolution, with its weights. In a plain call these are
    made one after the other, each to be used before the next."""

    prepared: Prepared
    weights: Iterable[tuple[Any, Any]]


class Phases:
    """One convolution for each phase."""

    plain = True

    def __init__(self, planner: Planner, algorithm: str = "auto") -> None:
        """`planner` chooses the convolutions' algorithms, unless `algorithm` names one for all."""
        self.__name__ = "transpose_phases"
        self._planner, self._algorithm = planner, algorithm
        self._joint = Joint(planner, algorithm) if type(self) is Phases else None
        self._prepared = lru_cache(maxsize=1024)(self._made)

    def supports(self, spec: TransposeSpec) -> str | None:
        if max(spec.convolution.strides) == 1 and joint(spec.convolution):
            return "without a stride there is one phase, as of 'joint'"
        return None

    def cost(self, spec: TransposeSpec, machine: Machine) -> float:
        return self._seconds(spec.convolution, False)

    def prepare_cost(self, spec: TransposeSpec, machine: Machine) -> float:
        """Estimated seconds that a plain call takes longer; packing may make it choose other algorithms."""
        moved = math.prod(spec.weight_shape) * spec.acc_dtype.itemsize
        exchange = moved * (EXCHANGE if moved <= LARGE_BYTES else EXCHANGE_LARGE)
        return exchange + max(0.0, self._seconds(spec.convolution, True) - self._seconds(spec.convolution, False))

    def _seconds(self, spec: ConvSpec, for_one_call: bool) -> float:
        """Estimated seconds; phases with equal kernels take equally long. It stops where `Joint` is known to be faster:
        estimates take time."""
        problems, number, complete, even = sample(spec)
        most = math.inf if self._joint is None else self._joint._seconds(spec, for_one_call)
        made = 0 if number == 1 and complete else sum(share * _output_bytes(problem) for problem, share in problems)
        seconds = made * INTERLEAVE * (1 if even else 2)
        for problem, share in problems:
            if seconds > most:
                break
            seconds += share * self._one(problem, for_one_call)
        return seconds

    def _one(self, problem: ConvSpec, for_one_call: bool) -> float:
        """Estimated seconds of one convolution."""
        return min(self._planner.candidates(problem, for_one_call=for_one_call).values()) + CALL

    def _parts(self, spec: ConvSpec, for_one_call: bool) -> Parts:
        return one_for_each(spec)

    def parts(self, spec: TransposeSpec) -> Iterable[ConvSpec]:
        return decisive(spec.convolution, self._parts(spec.convolution, False)).values()

    def prepare(self, spec: TransposeSpec, weight: np.ndarray) -> Packed:
        prepared = self._prepared(spec, is_for_one_call(), *self._planner.state())
        weights = _packed(prepared, weight)
        return Packed(prepared, weights if prepared.for_one_call else list(weights))

    def _made(self, spec: TransposeSpec, for_one_call: bool, *choice: int) -> Prepared:
        """Make `Prepared`; `choice` is what the planner's choices depend on beside the other arguments."""
        problem = spec.convolution
        parts = self._parts(problem, for_one_call)
        chosen = {kernel: self._choose(one, for_one_call) for kernel, one in decisive(problem, parts).items()}
        choices = [self._alike(chosen[part.problem.kh, part.problem.kw], part.problem, for_one_call)
                   for part in parts.parts]  # fmt: skip
        sizes = problem.groups, problem.c_out // problem.groups, problem.c_in // problem.groups
        exchange = Exchange(*sizes, [part.order for part in parts.parts]) if parts.parts else None
        taps = problem.depth.kd * problem.kh * problem.kw
        return Prepared(parts, choices, exchange, (*sizes, taps), for_one_call)

    def _choose(self, problem: ConvSpec, for_one_call: bool) -> Choice:
        return self._planner.choose(problem, self._algorithm, for_one_call=for_one_call)

    def _alike(self, choice: Choice, problem: ConvSpec, for_one_call: bool) -> Choice:
        """`choice`, made for a problem that differs in its sides only; another if it does not support this problem."""
        if choice.algorithm.supports(problem) is not None:
            return self._choose(problem, for_one_call)
        unfit = choice.special is not None and choice.special.supports(problem) is not None
        return Choice(choice.algorithm) if unfit else choice

    def run(self, spec: TransposeSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
        with one_input() if spec.axes == 3 else contextlib.nullcontext():
            _run(packed, x, bias, out)

    def scratch(self, spec: TransposeSpec) -> int:
        """Bytes of the convolution that needs most, and of the phases that wait to be interleaved."""
        parts, choices, *_ = self._prepared(spec, False, *self._planner.state())
        each, phases = [0], 0
        for part, choice in zip(parts.parts, choices, strict=True):
            problem = part.problem
            needed, written = choice.algorithm.scratch(problem), 0 if parts.whole else _output_bytes(problem)
            if problem.x_shape[2:] != spec.kernel_shapes[0][2:]:  # a part of `x` is copied
                needed += math.prod(problem.x_shape) * problem.x_dtype.itemsize
            if parts.interleaving is None:
                needed += written
            else:
                phases += written
            each.append(needed)
        return max(each) + phases


class Joint(Phases):
    """All phases as the channels of one convolution."""

    def __init__(self, planner: Planner, algorithm: str = "auto") -> None:
        super().__init__(planner, algorithm)
        self.__name__ = "transpose_joint"

    def supports(self, spec: TransposeSpec) -> str | None:
        return None if joint(spec.convolution) else "the phases do not see equally many taps, or not all of the input"

    def _seconds(self, spec: ConvSpec, for_one_call: bool) -> float:
        """Estimated seconds; infinite where the phases are not one convolution."""
        found = joint(spec)
        if found is None:
            return math.inf
        moved = 0.0 if found.whole else _output_bytes(found.problem) * INTERLEAVE
        return self._one(found.problem, for_one_call) + moved

    def _parts(self, spec: ConvSpec, for_one_call: bool) -> Parts:
        parts = one_for_all(spec)
        assert parts is not None
        return parts


class Named(Phases):
    """All phases by one algorithm: as `Joint` or as `Phases`, whichever takes less with the fastest algorithms."""

    automatic = plain = False

    def __init__(self, planner: Planner, algorithm: str) -> None:
        super().__init__(planner, algorithm)
        self.__name__ = f"transpose_{algorithm}"
        self._arrangements = Joint(planner), Phases(planner)

    def _cheaper(self, spec: ConvSpec, for_one_call: bool) -> Phases:
        return min(self._arrangements, key=lambda one: one._seconds(spec, for_one_call))

    def supports(self, spec: TransposeSpec) -> str | None:
        found = joint(spec.convolution) if isinstance(self._cheaper(spec.convolution, False), Joint) else None
        problems = [problem for problem, _ in sample(spec.convolution).problems] if found is None else [found.problem]
        return next(filter(None, (self._planner.reason(problem, self._algorithm) for problem in problems)), None)

    def _one(self, problem: ConvSpec, for_one_call: bool) -> float:
        return self._planner.seconds(problem, self._algorithm, for_one_call=for_one_call) + CALL

    def _parts(self, spec: ConvSpec, for_one_call: bool) -> Parts:
        return self._cheaper(spec, for_one_call)._parts(spec, for_one_call)


def decisive(spec: ConvSpec, parts: Parts) -> dict[Pair, ConvSpec]:
    """For each height and width of kernels the convolution whose algorithm is taken for all with such kernels: one for
    which there is an estimate, if possible."""
    problems = [part.problem for part in parts.parts]
    if len(problems) > 1:
        problems += [problem for problem, _ in sample(spec).problems]
    return {(problem.kh, problem.kw): problem for problem in problems}


def _output_bytes(problem: ConvSpec) -> int:
    return math.prod(problem.output_shape) * problem.acc_dtype.itemsize


# -- running -------------------------------------------------------------------------------------------------


def _packed(prepared: Prepared, weight: np.ndarray) -> Iterator[tuple[Any, Any]]:
    """The algorithm of each convolution, and its weights as it packs them."""
    parts, choices, exchange, shape, once = prepared
    if exchange is None:
        return
    size, dtype = (exchange.size,), weight.dtype
    exchanged = buffer("weights", size, dtype) if once else np.empty(size, dtype)
    exchange.run(_bits(weight.reshape(shape)), _bits(exchanged))
    for part, choice, kernels in zip(parts.parts, choices, exchange.parts(exchanged), strict=True):
        operands = part.problem, kernels.reshape(part.problem.kernel_shapes[1])
        yield for_one_call(choice.prepare, *operands) if once else choice.prepare(*operands)


def _run(packed: Packed, x: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    convolutions, interleaving, complete, whole = packed.prepared.parts
    if not complete:
        out[...] = bias.reshape(-1, *(1,) * (out.ndim - 2))
    results = None
    for number, (part, (algorithm, weights)) in enumerate(zip(convolutions, packed.weights, strict=True)):
        seen, _, made = part.problem.kernel_shapes
        images = kernel_ready(x[part.input_slices], x.dtype).reshape(seen)
        biases = np.repeat(bias, len(part.order)) if len(part.order) > 1 else bias
        if whole:
            algorithm.run(part.problem, images, weights, biases, out.reshape(made))
            continue
        if results is None or interleaving is None:
            results = buffer("phases", (1 if interleaving is None else len(convolutions), *made), out.dtype)
        result = results[0 if interleaving is None else number]
        algorithm.run(part.problem, images, weights, biases, result)
        if interleaving is None:
            out[part.output_slices] = result
    if results is not None and interleaving is not None:
        several = len(convolutions) > 1
        _interleave(results if several else results[0], interleaving, out, several)


def _interleave(results: np.ndarray, interleaving: Interleaving, images: np.ndarray, by_phase: bool) -> None:
    """Interleave the phases, which are channels of `results` or its first axis."""
    missing = (1,) * (5 - images.ndim)
    out = images.reshape(-1, *missing, *images.shape[2:])
    many = math.prod(interleaving.phases)
    order = (many, len(out)) if by_phase else (len(out), many)
    phases = results.reshape(*order, *missing, *results.shape[2 - images.ndim :])
    interleave(_bits(phases), *interleaving, _bits(out), by_phase)


def _bits(array: np.ndarray) -> np.ndarray:
    """An array viewed as integers, for loops that only move its elements."""
    return array.view(f"u{array.itemsize}")
