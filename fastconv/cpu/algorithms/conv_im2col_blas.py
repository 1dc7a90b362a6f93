"""Convolution as a matrix product of NumPy's: the input unrolled into columns ("im2col"), then BLAS.

::

    columns[(c, a, b), p] = x[n, first + c, i * stride_h - top + a * dilation_h, j * stride_w - left + b * dilation_w]
    out[n, o, p] = weight[o, (c, a, b)] @ columns + bias[o]

What it changes over `im2col`: the product is one call of BLAS for each block of columns, as fast as the BLAS that NumPy
was built with. That has threads of its own, which fight with Numba's for the cores; it is here to be compared.

Loop order: images, groups, blocks of positions; in a block one task per row of the columns, each a run of contiguous
copies.

Source: Chellapilla, Puri and Simard, High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.im2col import unroll
from ..tiles import simd

exact = True
automatic = False  # the threads of BLAS are neither those that a user asks for nor those that a caller keeps for itself
plain = True

#: Bytes of columns in one block: of 0.25 to 16 MiB, 2 MiB measured best for 3x3 layers of 64 to 512 channels (the
#: block should stay in the second-level caches while BLAS reads it, and still be wide enough for a fast product).
BLOCK_BYTES = 2 << 20
#: Most scratch an image may ask for: reached only where one column alone is longer than a block.
LIMIT_BYTES = 32 << 20


def supports(spec: ConvSpec) -> str | None:
    if spec.taps * spec.acc_dtype.itemsize > LIMIT_BYTES:
        return f"one unrolled column of {spec.taps} taps is larger than the {LIMIT_BYTES >> 20} MiB it may take"
    return None


#: Most of the FMA ceiling that a product by BLAS reaches. (1x1 layers of 512 to 2048 channels on an AMD EPYC of Zen 3.)
BLAS_SHARE = 0.8


def cost(spec: ConvSpec, machine: Machine) -> float:
    size = spec.acc_dtype.itemsize
    matrix = spec.n * spec.oh * spec.ow * spec.taps * spec.groups * size
    # The product has one long side and one short one, the channels: BLAS is slow where these are few.
    channels = spec.c_out // spec.groups
    rate = min(machine.blas_flops, BLAS_SHARE * machine.peak * simd.lanes(np.float32) / 16)
    rate *= 4 / size * channels / (channels + 16)
    if spec.acc_dtype.kind != "f":
        rate = machine.loop_flops / machine.threads  # NumPy has no BLAS for integers: one thread, scalar
    products = spec.n * spec.groups * -(-spec.oh * spec.ow // _block(spec))
    weights = spec.n * spec.c_out * spec.taps * size / machine.weight_bandwidth  # longer, with few positions
    written = spec.n * spec.c_out * spec.oh * spec.ow * size / machine.patch_bandwidth  # counts with few taps
    seconds = max(spec.flops / rate, weights) + written + 2 * matrix / machine.bandwidth
    return seconds / machine.threads + 2 * products * machine.call


def scratch(spec: ConvSpec) -> int:
    return spec.taps * _block(spec) * spec.acc_dtype.itemsize


def _block(spec: ConvSpec) -> int:
    """Output positions unrolled at a time."""
    return min(spec.oh * spec.ow, max(1, BLOCK_BYTES // (spec.taps * spec.acc_dtype.itemsize)))


def prepare(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    return weight.reshape(spec.groups, spec.c_out // spec.groups, spec.taps)


@np.errstate(over="ignore", invalid="ignore")  # NumPy would warn of infinities and NaNs; compiled loops do not
def run(spec: ConvSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    (top, _), (left, _) = spec.padding
    positions, block = spec.oh * spec.ow, _block(spec)
    columns = np.empty((spec.taps * block,), spec.acc_dtype)
    grouped = out.reshape(spec.n, spec.groups, -1, positions)
    channels = x.reshape(spec.n, spec.groups, -1, spec.h, spec.w)
    window = (spec.kh, spec.kw, spec.ow)
    for image in range(spec.n):
        for group in range(spec.groups):
            for start in range(0, positions, block):
                stop = min(start + block, positions)
                part = columns[: spec.taps * (stop - start)].reshape(spec.taps, stop - start)
                # On this thread: beside the threads of BLAS, which spin for a while, Numba's would wait for a core.
                one = channels[image, group : group + 1]
                unroll.serial(one, part[None], start, window, spec.stride, (top, left), spec.dilation)
                np.matmul(packed[group], part, out=grouped[image, group, :, start:stop])
    out += bias[:, None, None]
    if spec.activation:
        np.maximum(out, spec.floor, out=out)
