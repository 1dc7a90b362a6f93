"""A 1x1 convolution is a matrix product over the channels: the input itself is the left factor.

Index equation::

    out[n, o, p] = bias[o] + sum over c of weight[o, c] * x[n, c, p]        p = (i, j)

What it changes over `conv_implicit_gemm`: without stride and padding, pixels that follow each other in the output also
do so in the input. A thread of the float32 tile copies four of them at once (128 bits) to shared memory, where
`conv_implicit_gemm` looks up and copies each: 583 instructions for 512 multiply-adds instead of 592. With a stride or
padding, with channels last, and on tensor cores it computes as `conv_implicit_gemm` does.

It wins for 1x1 layers. Not measured yet on a GPU.

Source: Lin, Chen and Yan, Network in network, arXiv:1312.4400.
"""

from __future__ import annotations

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import product
from ..shared.gather import Packed, limits
from ..system.streams import Buffer, Stream, Tensor

#: Time relative to `conv_implicit_gemm`, from instruction counts.
SHARE = 583 / 592


def supports(spec: ConvSpec) -> str | None:
    if (spec.kh, spec.kw) != (1, 1):
        return f"the kernel is {spec.kh}x{spec.kw}, not 1x1"
    return limits(spec)


def cost(spec: ConvSpec, machine: Machine) -> float:
    return SHARE * product.cost(spec, machine)


def scratch(spec: ConvSpec) -> int:
    return product.scratch(spec)


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream) -> Packed:
    return product.prepare(spec, weight, stream)


def run(spec: ConvSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream) -> None:
    product.run(spec, x, packed, bias, out, stream, pixels=True)
