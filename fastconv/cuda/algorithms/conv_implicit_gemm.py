"""Implicit GEMM: the convolution as a matrix product whose left factor, the unrolled input, is never written down.

Index equation (in full in `shared.gather`)::

    out[(n, i, j), o] = bias[o] + sum over k = (c, a, b) of x[n, c, row(i, a), col(j, b)] * weight[o, c, a, b]

What it changes over `conv_im2col`: a block of threads unrolls only what its next step multiplies, straight into shared
memory. The input is read in place, NCHW, channels last or with any other strides, and no memory is taken. Any kernel,
stride, dilation, groups and padding; zeros around the image cost their multiplications.

Tiles: `shared.gemm` on the arithmetic units, for float32, float64 and all integers; `shared.mma` on tensor cores for
float16, bfloat16 and 8-bit integers, and for float32 with precision "tf32" or "tf32x3".

It wins for most layers with a stride, a dilation or a kernel other than 3x3, and wherever tensor cores multiply. Not
measured yet on a GPU; the tiles' docstrings say what their instructions predict.

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
