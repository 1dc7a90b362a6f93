"""Implicit GEMM: the convolution as a matrix product whose left factor, the unrolled input, is never written down.

Index equation (`gather` has it in full)::

    out[(n, i, j), o] = bias[o] + sum over k = (c, a, b) of x[n, c, row(i, a), col(j, b)] * weight[o, c, a, b]

What it changes over `im2col`: a block of threads unrolls just what its next step multiplies, straight into shared
memory. The input is read where it lies, NCHW or channels last or any other strides, and no memory is taken. Any
kernel, stride, dilation, groups and padding; the cost of zeros around the image is their multiplications.

Which tile multiplies: `gemm` on the arithmetic units, for float32 and float64 and whole integers; `mma` on
tensor cores for float16, bfloat16 and 8-bit integers, and for float32 with precision "tf32" or "tf32x3".

It wins for most layers with a stride, a dilation or a kernel other than 3x3, and wherever tensor cores multiply.
Not measured yet on a GPU; the tiles' docstrings say what their instructions predict.

Source: Chetlur et al., cuDNN: Efficient primitives for deep learning, arXiv:1410.0759.
"""

from __future__ import annotations

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import product
from ..shared.gather import Packed, limits
from ..system.streams import Buffer, Stream, Tensor


def supports(spec: ConvSpec) -> str | None:
    return limits(spec)


def cost(spec: ConvSpec, machine: Machine) -> float:
    return product.cost(spec, machine)


def scratch(spec: ConvSpec) -> int:
    return product.scratch(spec)


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream) -> Packed:
    return product.prepare(spec, weight, stream)


def run(spec: ConvSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream) -> None:
    product.run(spec, x, packed, bias, out, stream)
