"""A kernel that covers the image, as in a fully connected layer: one output a channel, a scalar product.

::

    out[n, o] = bias[o] + sum over t of weight[o, t] * x[n, t]        t = (c, i, j), all of an image or group

What it changes over `pointwise`: images take the place of pixels, so that a batch shares the weights that are read; and
nothing need be packed. An image and a channel's weights are runs of memory as they are, and vectors lie along them. For
each of a few images and channels a tile keeps a vector of sums in registers, whose lanes it adds up at the end.

Loop order: a task is the channels of one tile; it runs over the images, four at a time. Each weight is read from memory
once, and for further images from the second-level cache. One image is bound by the weights' bandwidth.

Measured on one AVX-512 core of an AMD EPYC (Zen 4): 2048 to 1000 channels of one image take 0.11 ms, 77
GB/s of the last-level cache; of 16 images 0.62 ms, 90% of the FMA ceiling.

Source: Williams, Waterman and Patterson, Roofline, CACM 52(4), 2009, for what bounds it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import panels
from ..system import micro
from ..system.kernels import Launch, kernel
from ..system.memory import is_for_one_call, weights_array
from ..tiles import simd
from ..tiles.dot_tile import scalar_products_address

exact = True


def _shape(images: int) -> tuple[int, int]:
    """Images and channels of a tile.

    Its sums, a vector of each channel's weights and one of x stay in registers. For one image a vector of weights is
    used once, and 8 sums are enough not to wait for each other (measured: 4, 12 and 16 take 13% to 40% longer).
    """
    if images == 1:
        return 1, 8
    return (4, 6) if simd.registers() == 32 else (2, 4)


def supports(spec: ConvSpec) -> str | None:
    if (spec.kh, spec.kw) != (spec.h, spec.w) or spec.padded:
        return f"the kernel is {spec.kh}x{spec.kw}, not as large as the image, {spec.h}x{spec.w} without padding"
    if spec.taps > spec.c_in // spec.groups and spec.dilation != (1, 1):
        return "the kernel is dilated"
    if spec.taps < simd.lanes(spec.acc_dtype):
        return f"{spec.taps} products a sum are fewer than the {simd.lanes(spec.acc_dtype)} of a vector"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: the tiles' multiply-adds and additions at their ends, or reading the weights."""
    lanes, channels = simd.lanes(spec.acc_dtype), spec.c_out // spec.groups
    images, columns = _shape(spec.n)
    sums = spec.groups * -(-channels // columns) * columns * -(-spec.n // images) * images
    products = 2 * sums * (-(-spec.taps // lanes) + TOTAL) * lanes / panels.rate(spec, machine)
    weights = spec.c_out * spec.taps * spec.acc_dtype.itemsize / machine.weight_bandwidth
    return machine.call + max(products, weights) / machine.threads


#: Time to add up a vector and write the sum, in units of a multiply-add of vectors.
TOTAL = 10


def scratch(spec: ConvSpec) -> int:
    return 0


class Packed(NamedTuple):
    """Weights made ready, and all else of a call that does not depend on its input."""

    launch: Launch
    products: int
    """Address of the register tile."""
    sizes: tuple[int, ...]
    weight: np.ndarray


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    """A plan copies the weights to the beginning of a cache line: vectors that cross lines take 1.2 times as long."""
    flat = weight.reshape(-1)
    if not is_for_one_call():
        flat = weights_array(flat.shape, flat.dtype)
        flat[:] = weight.reshape(-1)
    return _unpacked(spec)._replace(weight=flat)


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec) -> Packed:
    """`Packed` without weights; cached, because a plain `conv2d` call packs every time."""
    products = scalar_products_address(*_shape(spec.n), spec.x_dtype, spec.acc_dtype)
    sizes = spec.n, spec.groups, spec.c_out // spec.groups, spec.taps, *_shape(spec.n)
    return Packed(Launch(_dense_loops, spec.flops), products, sizes, np.empty(0))


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    packed.launch.call(packed.products, x.reshape(-1), packed.weight, bias, spec.floor, out.reshape(-1), packed.sizes)


@kernel
def _dense_loops(products, x, weight, bias, floor, out, sizes):
    n, groups, channels, taps, images, columns = sizes
    blocks = (channels + columns - 1) // columns
    for job in prange(groups * blocks):
        group, first = job // blocks, job % blocks * columns
        channel, wide = group * channels + first, min(columns, channels - first)
        for image in range(0, n, images):
            at, to, high = (image * groups + group) * taps, image * groups * channels + channel, min(images, n - image)
            micro.call(products, x, at, groups * taps, weight, channel * taps, taps, bias, channel, floor, out, to,
                       groups * channels, high, wide)  # fmt: skip
