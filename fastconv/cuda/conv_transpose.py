"""Transposed convolutions on a GPU, from arguments to results, and the gradient of one for its input.

As on the CPU (`transposed`), the rows and columns of the result of each remainder by the stride are a convolution of
`x` without stride (`phases`). A kernel writes with any steps, so each convolution writes where its results belong:
nothing is interleaved afterwards, and `x` is read where it is.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from ..planner.choose import choose, name, operation
from ..planner.transposed import TransposedPlan
from ..specs.arguments import shape as check_shape
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import Geometry, transpose_spec
from ..specs.phases import separate
from .calls import DevicePlan, operand, planned_dtype
from .shared.convert import exchanged, fill
from .system.streams import Buffer, Stream, Tensor


def conv_transpose(
    axes: int, x: Any, weight: Any, bias: Any, geometry: Geometry, groups: int, algorithm: str, out: Any
) -> Any:
    """`fastconv.conv_transpose2d` along so many axes on the GPU."""
    x, weight = operand("x", x), operand("weight", weight)
    bias = None if bias is None else operand("bias", bias)
    spec = transpose_spec(axes, x.shape, x.dtype, weight, bias, geometry, groups)
    return TransposedDevicePlan(spec, weight, bias, algorithm, wait=False).run_on_gpu(x, out)


def plan_conv_transpose(
    axes: int, x_shape: Any, weight: Any, bias: Any, dtype: Any, geometry: Geometry, groups: int, algorithm: str
) -> TransposedDevicePlan:
    """`fastconv.plan_conv_transpose2d` along so many axes for the GPU."""
    weight = operand("weight", weight)
    bias = None if bias is None else operand("bias", bias)
    x_dtype = weight.dtype if dtype is None else planned_dtype(dtype)
    spec = transpose_spec(axes, check_shape("x_shape", x_shape), x_dtype, weight, bias, geometry, groups)
    return TransposedDevicePlan(spec, weight, bias, algorithm)


class Convolutions:
    """Those that a transposed one is made of, with the contract of an algorithm: `x` is an output of the convolution
    that is transposed, and `out` an input."""

    def __init__(self, spec: ConvSpec, algorithm: str) -> None:
        self.__name__ = __name__
        self._parts, _, self._complete, _ = separate(spec)
        self._modules: list[Any] = []
        chosen: dict[tuple[int, ...], Any] = {}
        for part in self._parts:  # of equal kernels all have one algorithm, if it can
            kernel, problem = part.problem.weight_shape, part.problem
            if kernel not in chosen or chosen[kernel].supports(problem) is not None:
                chosen[kernel], _ = choose(operation(problem), problem, algorithm, "cuda")
            self._modules.append(chosen[kernel])

    @property
    def names(self) -> str:
        """What runs."""
        return "+".join(sorted({name(module) for module in self._modules})) or "none"

    def scratch(self, spec: ConvSpec) -> int:
        pairs = zip(self._parts, self._modules, strict=True)
        return max((module.scratch(replace(part.problem, n=spec.n)) for part, module in pairs), default=0)

    def prepare(self, spec: ConvSpec, weight: Tensor, stream: Stream) -> list[Any]:
        return [module.prepare(part.problem, exchanged(weight, spec.groups, part.taps, stream), stream)
                for part, module in zip(self._parts, self._modules, strict=True)]

    def run(self, spec: ConvSpec, x: Tensor, packed: list[Any], bias: Buffer, out: Tensor, stream: Stream) -> None:
        if not self._complete:
            fill(out, bias, stream)
        for part, module, weight in zip(self._parts, self._modules, packed, strict=True):
            problem = part.problem if part.problem.n == spec.n else replace(part.problem, n=spec.n)
            module.run(problem, x.part(*part.seen[2:]), weight, bias, out.part(*part.at[2:]), stream)


#: Kept, because a plain call decides every time.
convolutions = lru_cache(maxsize=1024)(Convolutions)


class TransposedDevicePlan(DevicePlan):
    """A transposed convolution whose weights are packed on a GPU; it tells what a `TransposedPlan` does."""

    def _chosen(self, algorithm: str) -> Convolutions:
        return convolutions(self.spec, algorithm)

    def _sizes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, ...], ...]]:
        images, weights, signals = self.spec.kernel_shapes
        return self.spec.output_shape, self.spec.x_shape, (signals, weights, images)

    @property
    def algorithm(self) -> str:
        """What runs: the names of one or several convolutions."""
        return self._module.names

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self._out_shape

    def __repr__(self) -> str:
        return TransposedPlan.__repr__(self)  # type: ignore[arg-type] # both tell the same


__all__ = ["Convolutions", "TransposedDevicePlan", "conv_transpose", "plan_conv_transpose"]
