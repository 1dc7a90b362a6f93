"""The input unrolled into columns, then one matrix product a group: two kernels that are each easy to make fast.

Index equation (symbols in `fastconv.specs.conv`; k runs over a group's taps (c, a, b), p over output pixels (i, j))::

    columns[n, g, k, p] = x[n, g * c_group + c, row, col]
    row = i * stride_h - top + a * dilation_h,   col = j * stride_w - left + b * dilation_w
    out[n, o, p] = bias[o] + sum over k of weight[o, k] * columns[n, g, k, p]

Unrolling (in `shared.im2col`): one thread for each element; neighbours have neighbouring pixels. The columns are
kh * kw times the input, so a few images are taken at a time. Each value is written and read once more than by kernels
that do not unroll.

Product: a block makes a tile of TILE_O channels by TILE_P pixels. TILE_K rows of both operands at a time are copied to
shared memory, where 16 threads read each value; each thread keeps 4x4 sums in registers, so two loads of four values
feed 16 multiply-adds. This is the second step of Boehm's ladder (How to Optimize a CUDA Matmul Kernel, 2022).

It wins nothing over kernels that gather; it is the classic (Chellapilla, Puri and Simard, 2006), for any dtype and
geometry.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.im2col import unroll
from ..system.kernels import cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Stream, Tensor, behind, dense
from ..tiles.elements import narrow, widen

#: Sums of a thread in each direction: 16 sums and 8 operands are well within its registers.
EACH = pick(4, 2)
#: Threads of a block in each direction; the tile that they make together.
SIDE = pick(16, 2)
TILE_O = TILE_P = EACH * SIDE
#: Taps copied at a time: each thread copies one value of each operand for each of its sums in one direction.
TILE_K = pick(16, 2)
#: Bytes of columns that are made at a time (128 MiB), unless one image alone has more.
COLUMN_BYTES = 128 << 20


def supports(spec: ConvSpec) -> str | None:
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    columns = spec.n * _column_elements(spec) * spec.dtype.itemsize
    launches = 2 * -(-spec.n // _images(spec)) * machine.launch
    rate = machine.flops(spec.dtype) * 0.5 * machine.gemm_share
    return launches + 2 * columns / machine.bandwidth + spec.flops / rate


def scratch(spec: ConvSpec) -> int:
    return _images(spec) * _column_elements(spec) * spec.dtype.itemsize


def _column_elements(spec: ConvSpec) -> int:
    """Elements of the columns of one image."""
    return spec.groups * spec.taps * spec.oh * spec.ow


def _images(spec: ConvSpec) -> int:
    """Number of images that are unrolled at a time."""
    return max(1, min(spec.n, COLUMN_BYTES // (_column_elements(spec) * spec.dtype.itemsize)))


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream) -> Tensor:
    return weight


def run(spec: ConvSpec, x: Tensor, packed: Tensor, bias: Any, out: Tensor, stream: Stream) -> None:
    step, pixels, channels = _images(spec), spec.oh * spec.ow, spec.c_out // spec.groups
    columns = stream.empty(step * _column_elements(spec), x.dtype)
    for first in range(0, spec.n, step):
        count = min(step, spec.n - first)
        images = behind(x, first * x.strides[0])
        unroll(spec, images, dense(columns, (1, count, spec.groups * spec.taps, pixels)), stream)
        grid = -(-pixels // TILE_P) * -(-channels // TILE_O) * count * spec.groups
        stream.launch(
            _im2col_product(x.dtype, spec.acc_dtype, out.dtype), grid, (SIDE, SIDE),
            packed.pointer, columns.pointer, bias.pointer, spec.floor, out.pointer, out.strides,
            (first, spec.groups, channels, spec.taps), (pixels, spec.ow),
        )


@factory
def _im2col_product(dtype, acc_dtype, out_dtype):
    acc, load, store = acc_dtype.type, widen(dtype, acc_dtype), narrow(out_dtype)
    threads, rounds = SIDE * SIDE, TILE_K * TILE_O // (SIDE * SIDE)
    kind = scalar(acc_dtype)

    def im2col_product(weight, columns, bias, floor, out, out_steps, sizes, pixels):
        (first, groups, channels, taps), (count, ow) = sizes, pixels
        tiles_o, tiles_p = (channels + TILE_O - 1) // TILE_O, (count + TILE_P - 1) // TILE_P
        block = np.int64(cuda.blockIdx.x)
        o0, p0 = block % tiles_o * TILE_O, block // tiles_o % tiles_p * TILE_P
        product = block // tiles_o // tiles_p
        n, g = product // groups, product % groups
        weights_tile = cuda.shared.array((TILE_K, TILE_O), kind)
        columns_tile = cuda.shared.array((TILE_K, TILE_P), kind)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        thread = ty * SIDE + tx
        weights = (g * channels + o0) * taps
        column = product * taps * count + p0
        sums = cuda.local.array((EACH, EACH), kind)
        for r in range(EACH):
            for q in range(EACH):
                sums[r, q] = acc(0)
        for k0 in range(0, taps, TILE_K):
            for turn in range(rounds):
                # Neighbouring threads read neighbouring taps of a channel's weights, and neighbouring pixels.
                at = thread + turn * threads
                k, o = at % TILE_K, at // TILE_K
                value = acc(0)
                if k0 + k < taps and o0 + o < channels:
                    value = load(weight[weights + o * taps + k0 + k])
                weights_tile[k, o] = value
                p, k = at % TILE_P, at // TILE_P
                value = acc(0)
                if k0 + k < taps and p0 + p < count:
                    value = load(columns[column + (k0 + k) * count + p])
                columns_tile[k, p] = value
            cuda.syncthreads()
            for k in range(TILE_K):
                for r in range(EACH):
                    for q in range(EACH):
                        sums[r, q] = acc(sums[r, q] + weights_tile[k, ty + r * SIDE] * columns_tile[k, tx + q * SIDE])
            cuda.syncthreads()
        for r in range(EACH):
            o = o0 + ty + r * SIDE
            for q in range(EACH):
                p = p0 + tx + q * SIDE
                if o < channels and p < count:
                    total = acc(sums[r, q] + bias[g * channels + o])
                    total = floor if total < floor else total
                    at = (first + n) * out_steps[0] + (g * channels + o) * out_steps[1]
                    out[at + p // ow * out_steps[2] + p % ow * out_steps[3]] = store(total)

    signature = (pointer(dtype), pointer(dtype), pointer(acc_dtype), scalar(acc_dtype), pointer(out_dtype), integers(4),
                 integers(4), integers(2))
    return signature, im2col_product
