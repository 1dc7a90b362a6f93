"""The properties and the text that plans of all devices share."""

from __future__ import annotations

from typing import Any, ClassVar, overload

from numpy.typing import ArrayLike, NDArray

from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from ..typing import Foreign, OutArray, OwnArray
from .choose import Planner, operation


class Plan:
    """A convolution that is checked and packed and whose algorithm is chosen, to be called again and again.

    `plan_conv2d` and its siblings make plans. Calls write to nothing that they share, so several threads may call one
    plan at once. A plan can be copied and pickled: it travels as its problem, its weights and its algorithm, and is
    packed again where it arrives.

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

    #: The planner of the device that the plan runs on.
    planner: ClassVar[Planner]

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

    @overload
    def __call__(self, x: OwnArray, out: OutArray | None = None) -> NDArray[Any]: ...
    @overload
    def __call__(self, x: Foreign, out: OutArray | None = None) -> Foreign: ...
    @overload
    def __call__(self, x: ArrayLike, out: OutArray | None = None) -> NDArray[Any]: ...
    def __call__(self, x: Any, out: Any = None) -> Any:
        """The result for `x`, of the planned shape and of a dtype that converts to the planned one without loss.

        Returns `out` if it is given, a new array otherwise; ValueError or TypeError if either does not fit.
        """
        raise NotImplementedError

    def _given(self) -> tuple[Any, Any]:
        """Weight and bias as NumPy's arrays, of which the plan can be made again."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (type(self), self.problem, *self._given(), self.algorithm)

    def __repr__(self) -> str:
        spec, op = self.spec, operation(self.problem)
        mode = "" if spec.padding_mode == "zeros" else f", padding_mode={spec.padding_mode!r}"
        mode += f", data_format={spec.data_format!r}" if spec.channels_last else ""
        return (
            f"<Plan {op} {self.x_shape} * {spec.weight_shape} -> {self.output_shape}, {spec.dtype}, "
            f"stride={spec.strides}, padding={spec.paddings}{mode}, dilation={spec.dilations}, groups={spec.groups}: "
            f"algorithm={self.algorithm!r}, flops={self.flops}, scratch_bytes={self.scratch_bytes}>"
        )


def _arrived(kind: Any, problem: ConvSpec | TransposeSpec, weight: Any, bias: Any, algorithm: str) -> Plan:
    """A plan that was copied or pickled. It has another algorithm where its own cannot do the problem: one that needs
    sums longer than a vector cannot, on a processor whose vectors are wider."""
    able = kind.planner.reason(problem, algorithm) is None
    return kind(problem, weight, bias, algorithm if able else "auto")
