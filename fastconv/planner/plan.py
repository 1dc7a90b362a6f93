"""What every plan tells of itself, on every device."""

from __future__ import annotations

from typing import Any

from ..specs.conv import ConvSpec


class Plan:
    """A convolution that is checked, decided and packed, to be called again and again.

    Made by `plan_conv2d` and its like. Calls share nothing that is written to, so several threads may call one plan at
    once.

    Attributes
    ----------
    spec : ConvSpec
        The problem; of a transposed convolution the convolution that is transposed: its output has the shape of the
        plan's input, and its input of the plan's output.
    algorithm : str
        Name of the algorithm that runs.
    flops : int
        Multiplications and additions of the definition, whichever algorithm runs.
    scratch_bytes : int
        Memory a call needs beside input and output.
    output_shape : tuple of int
        Shape of the result.
    """

    spec: ConvSpec
    #: Whether the plan is of a transposed convolution.
    is_transposed = False

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
        return self.spec.flops

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.spec.x_shape if self.is_transposed else self.spec.output_shape

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return self.spec.output_shape if self.is_transposed else self.spec.x_shape

    def __call__(self, x: Any, out: Any = None) -> Any:
        """The result for `x`, of the planned shape and of a dtype that converts to the planned one without loss.

        Returns `out` if it is given, a new array otherwise; ValueError or TypeError if either does not fit.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        spec, kind = self.spec, "conv_transpose" if self.is_transposed else "conv"
        return (
            f"<Plan {kind}{spec.axes}d {self.x_shape} * {spec.weight_shape} -> {self.output_shape}, {spec.dtype}, "
            f"stride={spec.strides}, padding={spec.paddings}, dilation={spec.dilations}, groups={spec.groups}: "
            f"algorithm={self.algorithm!r}, flops={self.flops}, scratch_bytes={self.scratch_bytes}>"
        )
