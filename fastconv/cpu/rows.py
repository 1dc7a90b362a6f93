"""The loop nest around the row tile, which `conv_image` and `conv_depthwise` share.

::

    out[o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[c, row(i, a), col(j, b)]

With one output channel at a time there is no second one to share a loaded vector with, so neighbouring rows of the output
share it: a tile is a few rows by a few vectors of pixels (`row_tile`). A band is a tile's rows over the whole width; a
task is a run of bands, through one plane of the output or many. The input is read in place, and nothing is allocated.

The last tile of a band, and the last band of a plane, is moved back to end where the output ends: it computes some
pixels again and needs no exceptions. With vertical dilation a band has every d-th row, such that its rows share inputs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from ..spec import ConvSpec, Pair
from . import simd
from .machine import Machine
from .row_tile import UNROLLED, Shape, row_tile
from .runtime import kernel, num_threads

#: Rows and vectors of a tile: few, as each is compiled. The rows suit planes of 7, 14, 28 and 56 as well as powers of two.
ROWS, VECTORS = (1, 2, 4, 7), (1, 2, 4)


class Blocking(NamedTuple):
    """How a problem is cut up."""

    shape: Shape
    apart: int
    """Output rows from one row of a tile to the next."""
    bands: int
    across: int
    """Bands of a plane, tiles of a band."""
    cycles: float
    """Estimated for one output plane, of a core that begins a vector multiply-add or an aligned load in each."""


@lru_cache(maxsize=4096)
def blocking(spec: ConvSpec) -> Blocking:
    """The tile that takes least time, whatever it computes twice or in vain included."""
    lanes = simd.lanes(spec.acc_dtype)
    vectors = -(-spec.ow // lanes)
    common = math.gcd(spec.stride[0], spec.dilation[0])
    step, apart = spec.stride[0] // common, spec.dilation[0] // common
    if spec.kh == 1 or step > 2:
        step, apart = 1, 1
    budget = 16 if simd.registers() == 32 else 8
    best = None
    for rows in ROWS:
        for width in VECTORS:
            alone = rows == 1
            if rows * width > budget or rows > spec.oh // apart and not alone or width > vectors and width > 1:
                continue
            if not alone and (step == 1) != (spec.stride[0] // common == 1 or spec.kh == 1):
                continue
            unrolled = spec.kh <= UNROLLED
            if not unrolled and (rows > spec.kh or step > 1 and not alone):
                continue
            bands = -(-spec.oh // rows) if alone else apart * -(-(-(-spec.oh // apart)) // rows)
            tiles = bands * -(-vectors // width)
            seen = (rows - 1) * step + spec.kh
            products = rows * width * spec.taps
            loads = spec.taps // spec.kh * seen * width * 2 * (1 if spec.stride[1] == 1 else 1.5) + spec.taps
            cycles = tiles * (max(products, loads) + 4 * rows * width + 20)
            if best is None or cycles < best.cycles:
                shape = Shape(rows, width, spec.kh if unrolled else 0, 1 if alone else step, *_horizontal(spec))
                best = Blocking(shape, 1 if alone else apart, bands, -(-vectors // width), cycles)
    assert best is not None
    return best


def _horizontal(spec: ConvSpec) -> Pair:
    """Stride and columns taken together, as `Shape` has them."""
    if spec.stride[1] == 2:
        return 2, 2 if spec.dilation[1] == 1 else 1
    return (1, 1) if spec.stride[1] == 1 else (0, 1)


def scratch(spec: ConvSpec) -> int:
    """Nothing."""
    return 0


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds."""
    plan = blocking(spec)
    lanes = simd.lanes(spec.acc_dtype)
    planes = spec.n * spec.c_out
    seconds = planes * plan.cycles * 2 * lanes / (machine.row_tile_flops * lanes / 16)
    return machine.call + seconds / machine.threads


class Packed(NamedTuple):
    """A problem made ready to run: all that does not depend on the input."""

    loops: Any
    weight: np.ndarray
    zeros: np.ndarray
    floor: np.generic
    numbers: tuple[int, ...]


def pack(spec: ConvSpec, weight: np.ndarray) -> Packed:
    """Everything `run` needs."""
    return _unpacked(spec, num_threads())._replace(weight=weight)


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, threads: int) -> Packed:
    """All but the weights; kept, because a plain `conv2d` call packs every time."""
    plan = blocking(spec)
    bands = spec.n * spec.c_out * plan.bands
    tasks = 1 if threads == 1 else min(4 * threads, bands)
    return Packed(
        loops=_loops(plan.shape).sized(spec.flops),
        weight=np.empty(0, spec.acc_dtype),
        zeros=np.zeros(spec.w if any(spec.padding[0]) else 1, spec.x_dtype),
        floor=spec.floor,
        numbers=(
            tasks,
            bands,
            plan.bands,
            plan.across,
            plan.apart,
            spec.groups,
            *spec.stride,
            *spec.dilation,
            spec.padding[0][0],
            spec.padding[1][0],
        ),
    )


def run(packed: Packed, x: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Convolve."""
    packed.loops(x, packed.weight, bias, packed.floor, out, packed.zeros, packed.numbers)


@lru_cache(maxsize=64)
def _loops(shape: Shape) -> Any:
    """The kernel for one shape of tile."""
    edge, inner = row_tile(shape, False), row_tile(shape, True)
    rows, lanes_bytes = shape.rows, shape.vectors * simd.register_bytes()

    @kernel(key=shape)
    def _row_loops(x, weight, bias, floor, out, zeros, numbers):
        c_out, oh, ow = out.shape[1:]
        c_in, h, w = x.shape[1:]
        extent = weight.shape[1:]
        tasks, total, bands, across, apart, groups, sh, sw, dh, dw, pad_top, pad_left = numbers
        pixels, taps = lanes_bytes // out.itemsize, extent[0] * extent[1] * extent[2]
        size, dilation = (h, w), (dh, dw)
        reach = pixels * sw - 1 + (extent[2] - 1) * dw
        for task in prange(tasks):
            for band in range(total * task // tasks, total * (task + 1) // tasks):
                plane, number = band // bands, band % bands
                image, o = plane // c_out, plane % c_out
                first = number % apart
                i = first + apart * min(number // apart * rows, (oh - first + apart - 1) // apart - rows)
                at = (image * c_in + o // (c_out // groups) * extent[0]) * h * w
                for tile in range(across):
                    j = max(0, min(tile * pixels, ow - pixels))
                    corner = i * sh - pad_top, j * sw - pad_left
                    to = (plane * oh + i) * ow + j
                    if corner[1] >= 0 and corner[1] + reach < w and ow >= pixels:
                        inner(x, at, zeros, size, corner, dilation, sw, weight, o * taps, extent, bias[o], floor, out, to,
                              apart * ow, ow - j)  # fmt: skip
                    else:
                        edge(x, at, zeros, size, corner, dilation, sw, weight, o * taps, extent, bias[o], floor, out, to,
                             apart * ow, ow - j)  # fmt: skip

    return _row_loops
