"""Poolings, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..specs.pool import PoolSpec, pool_spec
from .blocks import Operation, calls_of
from .geometry import Along, Interval, Pooled, Whole
from .graph import Chunks, strided

Box = tuple[Interval, ...]


class Pooling(Operation):
    """A pooling of blocks by the algorithm that a call with the whole array takes, wherever it can do a block.

    Adaptive windows have sizes that depend on their place: their axes are not cut.
    """

    def __init__(self, spec: PoolSpec, indices: bool, algorithm: str, device: str | None, threads: int) -> None:
        super().__init__()
        self.spec, self.indices, self.algorithm, self.device, self.threads = spec, indices, algorithm, device, threads
        first, depth = 3 - spec.axes, spec.depth
        sizes, taps = (depth.d, spec.h, spec.w)[first:], (depth.kd, spec.kh, spec.kw)[first:]
        self.kernel, self.steps = taps, (depth.stride, *spec.stride)[first:]
        self.dilations, sides = (depth.dilation, *spec.dilation)[first:], (depth.padding, *spec.padding)[first:]
        inner: list[Along] = [
            Whole(size) if spec.adaptive else Pooled(size, step, gap * (count - 1) + 1, *pads)
            for size, step, gap, count, pads in zip(sizes, self.steps, self.dilations, taps, sides, strict=True)
        ]
        self.axes = (*map(Along, spec.lead), *inner)
        self.sizes = sizes

    def __dask_tokenize__(self) -> Any:
        spec = self.spec  # its text does not tell all
        told = spec.op, spec.adaptive, spec.output_shape, spec.count_include_pad, spec.divisor, spec.norm
        return "pooling", str(spec), told, self.indices, self.algorithm, self.device, self.threads

    def __reduce__(self) -> Any:
        return Pooling, (self.spec, self.indices, self.algorithm, self.device, self.threads)

    def chunks(self, given: tuple[Chunks, ...]) -> tuple[Chunks, ...]:
        """Chunks of the result, for those of the input."""
        return strided(self.axes, given, self.spec.output_shape)

    def block(self, inputs: list[Any], box: Box, operands: tuple[Any, ...], kept: bool = False) -> Any:
        (x,), spec = inputs, self.spec
        calls = calls_of(self.device, x)
        if spec.adaptive:
            from dataclasses import replace

            part = replace(spec, lead=x.shape[: len(spec.lead)])
            return calls.pool(part, x, self.indices, self.algorithm, None)
        places = [along.part(*ends) for along, ends in self._inner(box)]
        beyond = any(place[3] for place in places)
        part = pool_spec(
            spec.op, x.shape, x.dtype, self.kernel, self.steps, tuple(place[2] for place in places), self.dilations,
            axes=spec.axes, ceil_mode=beyond, count_include_pad=spec.count_include_pad, divisor_override=spec.divisor,
            norm_type=spec.norm,
        )  # fmt: skip
        made = calls.pool(part, x, self.indices, self._algorithm(calls, part), None)
        here = tuple(slice(ends[0] - place[0], ends[1] - place[0])
                     for place, (_, ends) in zip(places, self._inner(box), strict=True))  # fmt: skip
        if not self.indices:
            return made[(..., *here)]
        values, found = (one[(..., *here)] for one in made)
        starts = [place[1][0] for place in places]
        inside = np.unravel_index(found, x.shape[-spec.axes :])
        whole = [one + start for one, start in zip(inside, starts, strict=True)]
        return values, np.ravel_multi_index(whole, self.sizes).astype(np.int64, copy=False)

    def _inner(self, box: Box) -> list[tuple[Pooled, Interval]]:
        axes = self.spec.axes
        return list(zip(self.axes[-axes:], box[-axes:], strict=True))  # type: ignore[arg-type] # no axis is whole here

    def _algorithm(self, calls: Any, part: PoolSpec) -> str:
        label = self.algorithm
        if label != "auto" or not calls.__name__.endswith("cpu.calls"):
            return label
        from ..planner.choose import name

        if "whole" not in self.plans:
            self.plans["whole"] = name(calls.planner.choose(self.spec, "auto").algorithm)
        label = self.plans["whole"]
        return label if calls.planner.reason(part, label) is None else "auto"
