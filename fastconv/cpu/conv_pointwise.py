"""A 1x1 convolution is a matrix product over the channels: no unrolling, the input is the right-hand factor.

::

    out[n, o, p] = bias[o] + sum over c of weight[o, c] * x[n, c, p]        p = (i, j), all positions at once

What it changes over `im2col`: with one tap the columns are the input itself. With a stride, the positions that count
are gathered first, one image at a time. Numerically it is `im2col`, and it wins wherever it applies.

Source: Lin, Chen and Yan, Network in network, arXiv:1312.4400.
"""

from __future__ import annotations

import numpy as np

from ..spec import ConvSpec
from .machine import Machine


def supports(spec: ConvSpec) -> str | None:
    if (spec.kh, spec.kw) != (1, 1):
        return f"the kernel is {spec.kh}x{spec.kw}, not 1x1"
    if spec.padded:
        return "a padded 1x1 convolution has outputs that see no input"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    size = spec.acc_dtype.itemsize
    channels = spec.c_out // spec.groups
    rate = machine.blas_flops * 4 / size * channels / (channels + 16)
    if spec.acc_dtype.kind != "f":
        rate = machine.loop_flops / machine.threads
    gathered = scratch(spec) * spec.n
    return (spec.flops / rate + 2 * gathered / machine.bandwidth) / machine.threads + spec.n * machine.call


def scratch(spec: ConvSpec) -> int:
    return 0 if spec.stride == (1, 1) else spec.c_in * spec.oh * spec.ow * spec.acc_dtype.itemsize


def prepare(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    return weight.reshape(spec.groups, -1, spec.taps)


def run(spec: ConvSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    for image in range(spec.n):
        seen = x[image, :, :: spec.stride[0], :: spec.stride[1]]
        factor = seen.reshape(spec.groups, -1, spec.oh * spec.ow)
        np.matmul(packed, factor, out=out[image].reshape(spec.groups, -1, spec.oh * spec.ow))
    out += bias[:, None, None]
