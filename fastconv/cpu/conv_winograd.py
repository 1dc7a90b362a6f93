"""Winograd's minimal filtering for 3x3 kernels: a quarter of the multiplications, as 36 small matrix products.

An m x m tile of outputs needs (m + 2) x (m + 2) inputs. Transforming both, the convolution becomes a product element
by element, and the sum over channels a matrix product for each of the (m + 2)^2 elements::

    U[e] = G weight G^T      V[e] = B^T x B      M[e, t, o] = sum over c of V[e, t, c] * U[e, c, o]
    out tile = A^T M A + bias                    e = element of the tile, t = tile

What it changes over `direct`: 9 multiplications an output become (m + 2)^2 / m^2: 2.25 for F(4x4, 3x3), 4 for
F(2x2, 3x3), at the price of the transforms and of a rounding error some 3 to 10 times larger (reported by `compare`).
F(4x4) is used but where the image is so small that its tiles would be mostly empty.

Layouts: a region of x with channels in lanes (rows, columns, lanes), one block of channels at a time;
V (elements, c_in / lanes, tiles, lanes); U (panels, elements, c_in, panel); M (elements, tiles, panel).

Loop order: tasks are blocks of tiles (of one image, or several where these are small), so that V stays in the
second-level cache; a task transforms its inputs, then for each panel of output channels runs the products and
transforms the result.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ..spec import ConvSpec
from . import simd
from .machine import Machine
from .runtime import jit, kernel, num_threads
from .runtime import scratch as runtime_scratch
from .tile import tile, tile_shape

#: Bytes of V in one task: half of a 1 MiB second-level cache; the other half is for the weights streaming through.
V_BYTES = 512 << 10
#: Most input channels for F(4x4) in float32: the error grows with the sum, from 6e-6 of the largest output at 64 to
#: 1e-5 at 256 and 2e-5 at 512.
LONGEST_SUM = 256
#: Multiply-adds of both transforms, per element of V and of M.
TRANSFORM_OPS = 12


class Tiling(NamedTuple):
    """How a problem is cut up."""

    m: int
    """Rows and columns of output a tile covers."""
    high: int
    """Tiles down an image."""
    wide: int
    """Tiles across an image."""
    block: tuple[int, int, int]
    """Images, tile rows and tile columns of one task."""
    rows: int
    """Tiles in one register tile."""
    panels: int
    shares: int
    """Tasks that split the panels of one block."""


def supports(spec: ConvSpec) -> str | None:
    if (spec.kh, spec.kw) != (3, 3):
        return f"the kernel is {spec.kh}x{spec.kw}, not 3x3"
    if spec.stride != (1, 1) or spec.dilation != (1, 1):
        return "only stride 1 and dilation 1"
    if spec.groups != 1:
        return "only groups=1: with few channels in a group the transforms cost more than they save"
    if spec.dtype.kind != "f":
        return "the transforms of integers are not integers"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return min(_cost(spec, machine, m) for m in _sizes(spec))


def _sizes(spec: ConvSpec) -> tuple[int, ...]:
    """Sizes m that keep the error below 2e-5 of the largest output in float32 (1e-13 in float64)."""
    return (2, 4) if spec.c_in <= LONGEST_SUM or spec.acc_dtype == np.float64 else (2,)


def _cost(spec: ConvSpec, machine: Machine, m: int) -> float:
    size, lanes = spec.acc_dtype.itemsize, simd.lanes(spec.acc_dtype)
    tiles = spec.n * -(-spec.oh // m) * -(-spec.ow // m)
    elements = (m + 2) ** 2
    rate = machine.tile_flops * lanes / 16
    products = 2 * elements * tiles * spec.c_in * spec.c_out / rate
    transforms = elements * tiles * (spec.c_in + spec.c_out) * TRANSFORM_OPS / (rate / 4)
    weights = elements * spec.c_in * spec.c_out * size / machine.weight_bandwidth
    return machine.call + (products + transforms + weights) / machine.threads


def scratch(spec: ConvSpec) -> int:
    threads = num_threads()
    tiling = _tiling(spec, threads)
    return threads * sum(_buffers(spec, tiling)) * spec.acc_dtype.itemsize


def _buffers(spec: ConvSpec, tiling: Tiling) -> tuple[int, int, int, int]:
    """Elements of a task's region, V, M and workspace."""
    lanes, panel, elements = simd.lanes(spec.acc_dtype), _panel(spec), (tiling.m + 2) ** 2
    images, high, wide = tiling.block
    tiles = -(-images * high * wide // tiling.rows) * tiling.rows
    region = (tiling.m * high + 2) * (tiling.m * wide + 2) * lanes
    return region, elements * -(-spec.c_in // lanes) * tiles * lanes, elements * tiles * panel, elements * lanes


def _panel(spec: ConvSpec) -> int:
    return tile_shape()[1] * simd.lanes(spec.acc_dtype)


@lru_cache(maxsize=4096)
def _tiling(spec: ConvSpec, threads: int) -> Tiling:
    m = min(_sizes(spec), key=lambda m: _cost(spec, Machine(threads), m))
    high, wide = -(-spec.oh // m), -(-spec.ow // m)
    lanes = simd.lanes(spec.acc_dtype)
    most = tile_shape()[0]
    goal = max(most, V_BYTES // ((m + 2) ** 2 * -(-spec.c_in // lanes) * lanes * spec.acc_dtype.itemsize))
    if threads > 1:  # enough tasks to go round, but none smaller than a register tile
        goal = max(min(goal, -(-spec.n * high * wide // (2 * threads))), min(most, goal))
    across = -(-wide // -(-wide // max(1, goal)))
    down = max(1, min(high, goal // across))
    down = -(-high // -(-high // down))
    images = max(1, min(spec.n, goal // (across * down)))
    tiles = images * down * across
    rows = min((most, most // 2), key=lambda rows: -(-tiles // rows) * (rows + 1))
    panels = -(-spec.c_out // _panel(spec))
    tasks = max(1, -(-spec.n // images)) * -(-high // down) * -(-wide // across)  # one for an empty batch, too
    shares = 1 if tasks >= threads else min(panels, -(-threads // tasks))
    return Tiling(m, high, wide, (images, down, across), rows, panels, shares)


def prepare(spec: ConvSpec, weight: np.ndarray) -> Any:
    tiling, panel = _tiling(spec, num_threads()), _panel(spec)
    packed = np.empty((tiling.panels, (tiling.m + 2) ** 2, spec.c_in, panel), spec.acc_dtype)
    lanes = simd.lanes(spec.acc_dtype)
    _kernels(tiling.m, tiling.rows, lanes)[0](weight, packed)
    return packed


def run(spec: ConvSpec, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    tiling = _tiling(spec, num_threads())
    lanes = simd.lanes(spec.acc_dtype)
    tiles = -(-int(np.prod(tiling.block)) // tiling.rows) * tiling.rows
    channel = np.arange(spec.c_in)
    offsets = channel // lanes * (tiles * lanes) + channel % lanes
    biases = np.zeros(tiling.panels * _panel(spec), spec.acc_dtype)
    biases[: spec.c_out] = bias
    (top, _), (left, _) = spec.padding
    grid = (tiling.high, tiling.wide)
    sizes = _buffers(spec, tiling)
    scratches = runtime_scratch(sum(sizes), x.dtype)
    loops = _kernels(tiling.m, tiling.rows, lanes)[1].sized(spec.flops)
    loops(x, offsets, packed, biases, spec.floor, out, scratches, (top, left), grid, tiling.block, tiling.shares, sizes)


# -- the transforms, along one axis --------------------------------------------------------------------------
# Vectors are read at `at`, `at + step`, ... and written at `to`, `to + stride`, ...


@jit
def _input_2(x, at, step, y, to, stride):
    d0, d1, d2, d3 = (
        simd.load(x, at),
        simd.load(x, at + step),
        simd.load(x, at + 2 * step),
        simd.load(x, at + 3 * step),
    )
    simd.store(y, to, d0 - d2)
    simd.store(y, to + stride, d1 + d2)
    simd.store(y, to + 2 * stride, d2 - d1)
    simd.store(y, to + 3 * stride, d1 - d3)


@jit
def _weight_2(x, at, step, y, to, stride):
    half = simd.splat(x.dtype.type(0.5))
    g0, g1, g2 = simd.load(x, at), simd.load(x, at + step), simd.load(x, at + 2 * step)
    even = half * (g0 + g2)
    simd.store(y, to, g0)
    simd.store(y, to + stride, even + half * g1)
    simd.store(y, to + 2 * stride, even - half * g1)
    simd.store(y, to + 3 * stride, g2)


@jit
def _output_2(x, at, step, y, to, stride):
    m0, m1, m2, m3 = simd.load(x, at), simd.load(x, at + step), simd.load(x, at + 2 * step), simd.load(x, at + 3 * step)
    simd.store(y, to, m0 + m1 + m2)
    simd.store(y, to + stride, m1 - m2 - m3)


@jit
def _input_4(x, at, step, y, to, stride):
    two, four, five = simd.splat(x.dtype.type(2)), simd.splat(x.dtype.type(4)), simd.splat(x.dtype.type(5))
    d0, d1, d2 = simd.load(x, at), simd.load(x, at + step), simd.load(x, at + 2 * step)
    d3, d4, d5 = simd.load(x, at + 3 * step), simd.load(x, at + 4 * step), simd.load(x, at + 5 * step)
    a, b = d4 - four * d2, d3 - four * d1
    c, d = d4 - d2, two * (d3 - d1)
    simd.store(y, to, four * d0 - five * d2 + d4)
    simd.store(y, to + stride, a + b)
    simd.store(y, to + 2 * stride, a - b)
    simd.store(y, to + 3 * stride, c + d)
    simd.store(y, to + 4 * stride, c - d)
    simd.store(y, to + 5 * stride, four * d1 - five * d3 + d5)


@jit
def _weight_4(x, at, step, y, to, stride):
    kind = x.dtype.type
    quarter, sixth, twelfth = simd.splat(kind(1 / 4)), simd.splat(kind(-1 / 6)), simd.splat(kind(1 / 12))
    g0, g1, g2 = simd.load(x, at), simd.load(x, at + step), simd.load(x, at + 2 * step)
    even, odd = sixth * (g0 + g2), sixth * g1
    far, near = simd.splat(kind(1 / 24)) * g0 - sixth * g2, twelfth * g1
    simd.store(y, to, quarter * g0)
    simd.store(y, to + stride, even + odd)
    simd.store(y, to + 2 * stride, even - odd)
    simd.store(y, to + 3 * stride, far + near)
    simd.store(y, to + 4 * stride, far - near)
    simd.store(y, to + 5 * stride, g2)


@jit
def _output_4(x, at, step, y, to, stride):
    two, four, eight = simd.splat(x.dtype.type(2)), simd.splat(x.dtype.type(4)), simd.splat(x.dtype.type(8))
    m0, m1, m2 = simd.load(x, at), simd.load(x, at + step), simd.load(x, at + 2 * step)
    m3, m4, m5 = simd.load(x, at + 3 * step), simd.load(x, at + 4 * step), simd.load(x, at + 5 * step)
    a, b, c, d = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    simd.store(y, to, m0 + a + c)
    simd.store(y, to + stride, b + two * d)
    simd.store(y, to + 2 * stride, a + four * c)
    simd.store(y, to + 3 * stride, b + eight * d + m5)


_TRANSFORMS = {2: (_input_2, _weight_2, _output_2), 4: (_input_4, _weight_4, _output_4)}


@lru_cache(maxsize=64)
def _kernels(m: int, rows: int, lanes: int) -> tuple[Any, Any]:
    """The two kernels for F(m x m, 3x3) and one height of the register tile."""
    transform_input, transform_weight, transform_output = _TRANSFORMS[m]
    products = tile(rows, 2, x_step=lanes)
    size = m + 2

    @kernel(key=(m, lanes))
    def _winograd_weights(weight, packed):
        panels, elements, c_in, panel = packed.shape
        c_out, vectors = weight.shape[0], panel // lanes
        for index in prange(panels * vectors):
            job = np.int64(index)  # a parallel loop's index is unsigned: functions called with it would compile twice
            p, v = job // vectors, job % vectors
            first = p * panel + v * lanes
            columns = np.zeros(c_in * 9 * lanes, packed.dtype)
            half = np.empty(size * 3 * lanes, packed.dtype)
            if first < c_out:
                for t in range(0, c_in * 9, lanes):
                    count = min(lanes, c_out - first)
                    simd.transpose(
                        weight,
                        first * c_in * 9 + t,
                        c_in * 9,
                        count,
                        min(lanes, c_in * 9 - t),
                        columns,
                        t * lanes,
                        lanes,
                    )
            for c in range(c_in):
                for b in range(3):
                    transform_weight(columns, (c * 9 + b) * lanes, 3 * lanes, half, b * lanes, 3 * lanes)
                for i in range(size):
                    to = ((p * elements + i * size) * c_in + c) * panel + v * lanes
                    transform_weight(half, i * 3 * lanes, lanes, packed, to, c_in * panel)

    @kernel(key=(m, rows, lanes))
    def _winograd_tiles(x, offsets, packed, bias, floor, out, scratches, pad, grid, block, shares, sizes):
        n, c_in = x.shape[:2]
        c_out, oh, ow = out.shape[1:]
        panels, elements, _, panel = packed.shape
        images, down, across = block
        bn, bh, bw = (n + images - 1) // images, (grid[0] + down - 1) // down, (grid[1] + across - 1) // across
        tiles = sizes[2] // elements // panel
        nothing = np.zeros(panel, x.dtype)
        none, least = x.dtype.type(-np.inf), simd.splat(floor)
        for task in prange(bn * bh * bw * shares):
            job = np.int64(task)
            share, index = job % shares, job // shares
            n0, t0, s0 = index // (bh * bw) * images, index // bw % bh * down, index % bw * across
            n1, t1, s1 = min(n0 + images, n), min(t0 + down, grid[0]), min(s0 + across, grid[1])
            high, wide = t1 - t0, s1 - s0
            count = (n1 - n0) * high * wide
            buffers = scratches[numba.get_thread_id()]
            region, v_tiles = buffers[: sizes[0]], buffers[sizes[0] : sizes[0] + sizes[1]]
            m_tiles = buffers[sizes[0] + sizes[1] : sizes[0] + sizes[1] + sizes[2]]
            work = buffers[sizes[0] + sizes[1] + sizes[2] :]
            pitch = (wide * m + 2) * lanes
            for image in range(n0, n1):
                for c in range(0, c_in, lanes):
                    _region(
                        x, image, c, (t0 * m - pad[0], s0 * m - pad[1]), (high * m + 2, wide * m + 2), region, lanes
                    )
                    for t in range(high * wide):
                        at = t // wide * m * pitch + t % wide * m * lanes
                        for j in range(size):
                            transform_input(region, at + j * lanes, pitch, work, j * lanes, size * lanes)
                        to = (c // lanes * tiles + (image - n0) * high * wide + t) * lanes
                        step = (c_in + lanes - 1) // lanes * tiles * lanes
                        for i in range(size):
                            transform_input(work, i * size * lanes, lanes, v_tiles, to + i * size * step, step)
            for p in range(share * panels // shares, (share + 1) * panels // shares):
                step = (c_in + lanes - 1) // lanes * tiles * lanes
                for e in range(elements):
                    for t in range(0, count, rows):
                        products(
                            v_tiles,
                            e * step + t * lanes,
                            offsets,
                            packed,
                            (p * elements + e) * c_in * panel,
                            nothing,
                            0,
                            none,
                            m_tiles,
                            (e * tiles + t) * panel,
                            panel,
                            rows,
                            panel,
                        )
                for v in range(0, min(panel, c_out - p * panel), lanes):
                    channel = p * panel + v
                    shift = simd.load(bias, channel)
                    line = wide * m
                    for image in range(n0, n1):
                        for t in range(high * wide):
                            at = ((image - n0) * high * wide + t) * panel + v
                            for j in range(size):
                                transform_output(
                                    m_tiles, at + j * tiles * panel, size * tiles * panel, work, j * lanes, size * lanes
                                )
                            to = (t // wide * m * line + t % wide * m) * lanes
                            for i in range(m):
                                transform_output(work, i * size * lanes, lanes, region, to + i * line * lanes, lanes)
                        for i in range(min(high * m, oh - t0 * m)):
                            for j in range(0, min(line, ow - s0 * m), lanes):
                                at = (i * line + j) * lanes
                                length = min(lanes, min(line, ow - s0 * m) - j)
                                for k in range(length):
                                    value = simd.load(region, at + k * lanes) + shift
                                    simd.store(region, at + k * lanes, simd.larger(value, least))
                                to = ((image * c_out + channel) * oh + t0 * m + i) * ow + s0 * m + j
                                simd.transpose(region, at, lanes, length, min(lanes, c_out - channel), out, to, oh * ow)

    return _winograd_weights, _winograd_tiles


@jit
def _region(x, image, c, corner, shape, region, lanes):
    """Copy a rectangle of `lanes` channels from `c` on, channels innermost; zeros outside the image."""
    c_in, h, w = x.shape[1:]
    count = min(lanes, c_in - c)
    zero = simd.splat(x.dtype.type(0))
    first = min(max(0, -corner[1]), shape[1])
    last = max(min(shape[1], w - corner[1]), first)
    for i in range(shape[0]):
        row = corner[0] + i
        inside = 0 <= row < h
        for j in range(first if inside else shape[1]):
            simd.store(region, (i * shape[1] + j) * lanes, zero)
        for j in range(last, shape[1] if inside else last):
            simd.store(region, (i * shape[1] + j) * lanes, zero)
        if inside:
            for j in range(first, last, lanes):
                at = ((image * c_in + c) * h + row) * w + corner[1] + j
                to = (i * shape[1] + j) * lanes
                simd.transpose(x, at, h * w, count, min(lanes, last - j), region, to, lanes)
