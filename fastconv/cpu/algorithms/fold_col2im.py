"""Folding adds columns up to images, one task for each plane (`fastconv.cpu.shared.im2col`).

Source: Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.im2col import fold
from ..system.kernels import MOVED
from ..tiles.simd import lanes

plain = True


def supports(spec: ConvSpec) -> str | None:
    return "it is for images" if spec.axes == 3 else None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return machine.call + spec.n * spec.taps * spec.oh * spec.ow * spec.acc_dtype.itemsize / machine.stream


def scratch(spec: ConvSpec) -> int:
    return 0


def run(spec: ConvSpec, x: np.ndarray, out: np.ndarray) -> None:
    window, pads = (spec.kh, spec.kw, spec.oh, spec.ow), (spec.padding[0][0], spec.padding[1][0])
    fold.sized(MOVED * x.size)(x, out, window, spec.stride, pads, spec.dilation, lanes(spec.acc_dtype))
