"""Transposed convolution by a convolution for each phase.

The rows and columns of the result with one remainder by the stride, a phase, are a convolution of `x` without stride
(`fastconv.specs.phases`), as on the CPU. A kernel writes with any steps, so each convolution writes straight to the
places of its phase: nothing is interleaved afterwards, and `x` is read in place.

The planner, which is handed in, chooses an algorithm for each convolution, unless `Phases` has one for all.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4; Shi et
al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from ...planner.choose import Planner
from ...specs.conv_transpose import TransposeSpec
from ...specs.phases import Parts, one_for_each, sample
from ..machine import Machine
from ..shared.convert import exchanged, fill
from ..system.streams import Buffer, Stream, Tensor


class Prepared(NamedTuple):
    """The convolutions, and the algorithm that runs each."""

    parts: Parts
    algorithms: list[Any]


class Packed(NamedTuple):
    """The prepared convolutions, with the packed weights of each."""

    prepared: Prepared
    weights: list[Any]


class Phases:
    """The algorithm of this module; `algorithm` names the one that runs the convolutions, if it is not "auto"."""

    def __init__(self, planner: Planner, algorithm: str = "auto") -> None:
        self.__name__ = "transpose_phases" if algorithm == "auto" else f"transpose_{algorithm}"
        self.automatic = algorithm == "auto"
        self._planner, self._algorithm = planner, algorithm
        self._prepared = lru_cache(maxsize=1024)(self._made)

    def supports(self, spec: TransposeSpec) -> str | None:
        planner, problems = self._planner, [problem for problem, _ in sample(spec.convolution).problems]
        algorithm = self._algorithm if self._algorithm != "auto" else planner.algorithms(f"conv{spec.axes}d")[-1]
        return next(filter(None, (planner.reason(problem, algorithm) for problem in problems)), None)

    def cost(self, spec: TransposeSpec, machine: Machine) -> float:
        problems = sample(spec.convolution).problems
        return sum(share * min(self._planner.candidates(problem).values()) for problem, share in problems)

    def _made(self, spec: TransposeSpec) -> Prepared:
        parts, algorithms = one_for_each(spec.convolution), []
        chosen: dict[tuple[int, ...], Any] = {}
        for part in parts.parts:  # convolutions with equal kernels have one algorithm, where it can run them
            kernel, problem = part.problem.weight_shape, part.problem
            if kernel not in chosen or chosen[kernel].supports(problem) is not None:
                chosen[kernel] = self._planner.choose(problem, self._algorithm).algorithm
            algorithms.append(chosen[kernel])
        return Prepared(parts, algorithms)

    def scratch(self, spec: TransposeSpec) -> int:
        (parts, *_), algorithms = self._prepared(spec)
        pairs = zip(parts, algorithms, strict=True)
        return max((algorithm.scratch(part.problem) for part, algorithm in pairs), default=0)

    def prepare(self, spec: TransposeSpec, weight: Tensor, stream: Stream) -> Packed:
        prepared, groups = self._prepared(spec), spec.convolution.groups
        return Packed(prepared, [
            algorithm.prepare(part.problem, exchanged(weight, groups, part.taps, stream), stream)
            for part, algorithm in zip(prepared.parts.parts, prepared.algorithms, strict=True)
        ])

    def run(self, spec: TransposeSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream) -> None:
        ((parts, _, complete, _), algorithms), weights = packed
        if not complete:
            fill(out, bias, stream)
        for part, algorithm, weight in zip(parts, algorithms, weights, strict=True):
            problem, seen = part.problem.of_images(spec.n), x.part(*part.input_slices[2:])
            made = out.part(*part.output_slices[2:])
            algorithm.run(problem, seen, weight, bias, made, stream)
