"""The properties and the text that plans of all devices share."""

from __future__ import annotations

from typing import Any

from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from .choose import operation


class Plan:
    """A convolution that is checked and packed and whose algorithm is chosen, to be called again and again.

    `plan_conv2d` and its siblings make plans. Calls write to nothing that they share, so several threads may call one
    plan at once.

    Attributes
    ----------
    spec : ConvSpec
        The problem. For a transposed convolution, the convolution that is transposed: its output has the shape of the
        plan's input, and its input the shape of the plan's output.
    algorithm : str
        Name of the algorithm that runs.
    flops : int
        Multiplications and additions of the definition, whichever algorithm runs.
    scratch_bytes : int
        Memory in bytes that a call needs beside input and output.
    output_shape : tuple of int
        Shape of the result.
    """

    def __init__(self, problem: ConvSpec | TransposeSpec) -> None:
        #: The spec of what is planned.
        self.problem = problem

    @property
    def spec(self) -> ConvSpec:
        """The convolution; for a transposed convolution, the one that is transposed."""
        problem = self.problem
        return problem if isinstance(problem, ConvSpec) else problem.convolution

    @property
    def algorithm(self) -> str:
        """Name of the algorithm that runs."""
        raise NotImplementedError

    @property
    def scratch_bytes(self) -> int:
        """Memory a call needs beside input and output, in bytes."""
        raise NotImplementedError

    @property
    def flops(self) -> int:
        """Multiplications and additions of the definition, whichever algorithm runs."""
        return self.problem.flops

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.problem.output_shape

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return self.problem.x_shape

    def __call__(self, x: Any, out: Any = None) -> Any:
        """The result for `x`, of the planned shape and of a dtype that converts to the planned one without loss.

        Returns `out` if it is given, a new array otherwise; ValueError or TypeError if either does not fit.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        spec, op = self.spec, operation(self.problem)
        return (
            f"<Plan {op} {self.x_shape} * {spec.weight_shape} -> {self.output_shape}, {spec.dtype}, "
            f"stride={spec.strides}, padding={spec.paddings}, dilation={spec.dilations}, groups={spec.groups}: "
            f"algorithm={self.algorithm!r}, flops={self.flops}, scratch_bytes={self.scratch_bytes}>"
        )
