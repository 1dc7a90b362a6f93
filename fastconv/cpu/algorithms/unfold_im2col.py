"""Unfolding copies the windows of images as columns, in runs of contiguous elements (`fastconv.cpu.shared.im2col`).

Source: Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

import numpy as np

from ...specs.conv import ConvSpec
from ...specs.dtypes import is_half
from ..machine import Machine
from ..shared.im2col import unroll
from ..system.kernels import MOVED

plain = True


def supports(spec: ConvSpec) -> str | None:
    return "it is for images" if spec.axes == 3 else None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return machine.call + spec.n * spec.taps * spec.oh * spec.ow * spec.dtype.itemsize / machine.stream


def scratch(spec: ConvSpec) -> int:
    return 0


def run(spec: ConvSpec, x: np.ndarray, out: np.ndarray) -> None:
    if spec.dtype.kind != "f" or is_half(spec.dtype):  # elements are only moved
        x, out = x.view(f"u{spec.dtype.itemsize}"), out.view(f"u{spec.dtype.itemsize}")
    window, pads = (spec.kh, spec.kw, spec.ow), (spec.padding[0][0], spec.padding[1][0])
    unroll.sized(MOVED * out.size)(x, out, 0, window, spec.stride, pads, spec.dilation)
