"""Unfolding copies the windows of images as columns (`fastconv.cuda.shared.im2col`).

Source: Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.im2col import unroll
from ..system.streams import Stream, Tensor


def supports(spec: ConvSpec) -> str | None:
    return "it is for images" if spec.axes == 3 else None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return machine.launch + spec.n * spec.taps * spec.oh * spec.ow * spec.dtype.itemsize / machine.bandwidth


def scratch(spec: ConvSpec) -> int:
    return 0


def run(spec: ConvSpec, x: Tensor, out: Tensor, stream: Stream) -> None:
    """Fill `out`, the columns (1, images, rows, pixels)."""
    unroll(spec, x, out, stream)
