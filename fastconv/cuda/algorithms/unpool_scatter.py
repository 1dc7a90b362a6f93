"""Unpooling puts maxima back to their places in planes of zeros.

::

    out[n, c, place[n, c, i, j]] = x[n, c, i, j], places counted along the rows of a plane; zeros elsewhere

One thread for each maximum. Places outside a plane are left out.

Source: Zeiler and Fergus, Visualizing and understanding convolutional networks, arXiv:1311.2901.
"""

from __future__ import annotations

import math

import numpy as np

from ...specs.dtypes import computed
from ...specs.unpool import UnpoolSpec
from ..machine import Machine
from ..shared.convert import fill
from ..shared.im2col import BLOCK
from ..system.kernels import cuda, factory, integers, pointer
from ..system.streams import Stream, Tensor


def supports(spec: UnpoolSpec) -> str | None:
    return None


def cost(spec: UnpoolSpec, machine: Machine) -> float:
    return machine.launch + math.prod(spec.output_shape) * spec.dtype.itemsize / machine.bandwidth


def scratch(spec: UnpoolSpec) -> int:
    return 0


def run(spec: UnpoolSpec, x: Tensor, indices: Tensor, out: Tensor, stream: Stream) -> None:
    _, c, oh, ow = x.shape
    fill(out, stream.zeros(c, computed(out.dtype)), stream)
    stream.launch(
        _unpool(x.dtype), -(-x.size // BLOCK), BLOCK, x.pointer, x.strides, indices.pointer, indices.strides,
        out.pointer, out.strides, (x.size, c, oh, ow), out.shape[2:],
    )


@factory
def _unpool(dtype):
    def unpool(x, x_steps, places, place_steps, out, out_steps, sizes, plane):
        (size, channels, oh, ow), (h, w) = sizes, plane
        at = np.int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at >= size:
            return
        j, i, c, n = at % ow, at // ow % oh, at // ow // oh % channels, at // ow // oh // channels
        place = places[n * place_steps[0] + c * place_steps[1] + i * place_steps[2] + j * place_steps[3]]
        if 0 <= place < h * w:
            value = x[n * x_steps[0] + c * x_steps[1] + i * x_steps[2] + j * x_steps[3]]
            out[n * out_steps[0] + c * out_steps[1] + place // w * out_steps[2] + place % w * out_steps[3]] = value

    four = integers(4)
    return (pointer(dtype), four, pointer(np.int64), four, pointer(dtype), four, four, integers(2)), unpool
