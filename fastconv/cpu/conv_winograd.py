"""Winograd's minimal filtering: transform tiles of input and weights, multiply element by element, transform back.

Each axis has an algorithm ``y = A (G g * B x)`` of `toom_cook`; applied to rows and columns of a tile, the convolution
becomes a product element by element, and the sum over channels a matrix product for each element e::

    U[e] = G_h weight G_w^T      V[e, t] = B_h x_t B_w^T      M[e, t, o] = sum over c of V[e, t, c] * U[e, c, o]
    out tile t = A_h M A_w^T + bias

What it changes over `direct`: the multiplications. F(4x4, 3x3) makes 36 for 16 outputs instead of 144, F(4x4, 5x5) 64
instead of 400, F(4x4, 3x3) at stride 2 81 instead of 144, F(4, 7) along one axis 10 instead of 28. The price: the
transforms, which want some 32 channels on both sides to be shared by, and a larger rounding error, which the sizes are
chosen by: at most about 1e-5 of the largest output in float32 (see `winograd_tiling`).
A dilation d is d x d convolutions of every d-th pixel: a tile takes its pixels d apart.

Layouts: a region of x with channels in lanes (rows, columns, lanes), one block of channels at a time;
V (elements, c_in / lanes, tiles, lanes); U (groups, panels, elements, c_in, panel); M (elements, tiles, panel).

Loop order: tasks are blocks of tiles (of one image, or several where these are small); a task transforms its inputs,
then for each panel of output channels runs the products and transforms the result. V stays in the second-level cache
where the weights do, too; where they do not, a block has at least so many tiles that streaming the weights is hidden.
In a plain call all tiles of which are one block, a panel of weights is transformed just before it is used, and never
goes to memory: 512 channels at 7x7 take 2.0 ms in place of 3.6, 1.3 of them without the weights (a core of an EPYC
9004).

Sources: Lavin and Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308; Huang et al., A
decomposable Winograd method for N-D convolution, arXiv:2002.01721, for strides.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ..spec import ConvSpec
from ..toom_cook import Axis
from . import simd
from .linear import linear_map
from .machine import Machine
from .panels import panel_biases
from .runtime import is_used_once, jit, kernel, masked_threads, num_threads, weights_array
from .runtime import scratch as runtime_scratch
from .tile import matrix_product
from .winograd_tiling import (
    Tiling,
    algorithms,
    best_axes,
    buffers,
    estimate,
    fitting,
    one_block,
    padded_tiles,
    region_shape,
    steps,
    tiling_of,
)


def supports(spec: ConvSpec) -> str | None:
    if spec.dtype.kind != "f":
        return "the transforms of integers are not integers"
    if (spec.kh, spec.kw) == (1, 1):
        return "a 1x1 kernel has nothing to save"
    if any(step > 1 and gap > 1 for step, gap in zip(spec.stride, spec.dilation, strict=True)):
        return "no stride and dilation on the same axis"
    if not algorithms((spec.kh, spec.kw), spec.stride):
        return f"no algorithm for a {spec.kh}x{spec.kw} kernel with stride {spec.stride} is accurate enough"
    if not fitting(spec):
        return f"one tile with {spec.c_in // spec.groups} channels and dilation {spec.dilation} would not fit the cache"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    return estimate(spec, machine, best_axes(spec))


def prepare_cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: U is written, which takes longer than the transforms, unless it is to cache."""
    axes = best_axes(spec)
    size = axes[0].elements * axes[1].elements * spec.c_out * spec.taps // (spec.kh * spec.kw) * spec.acc_dtype.itemsize
    alone = one_block(spec, 1) is not None  # for whichever number of threads: the choice must not depend on it
    return machine.call + size / (machine.pack_bandwidth * (IN_CACHE if alone else 1)) / machine.threads


#: How much faster U is written to a thread's cache, one panel at a time (2 to 4 times, on an AMD EPYC 9004).
IN_CACHE = 2.5


def scratch(spec: ConvSpec) -> int:
    threads = num_threads()
    return threads * sum(buffers(spec, tiling_of(spec, threads))) * spec.acc_dtype.itemsize


class Packed(NamedTuple):
    """All that does not depend on the input."""

    tiling: Tiling
    loops: Any
    weight: np.ndarray
    """U; or room for a panel of it in each thread, if a task is to transform the panels when it comes to them."""
    raw: np.ndarray
    """The weights, if they are to be transformed by the tasks: for one call with one block of tiles, so that each is
    used once, while it is in the cache. Empty otherwise."""
    offsets: np.ndarray
    """Distance of each channel in V."""
    geometry: tuple
    scratch: int


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    tiling, lanes = tiling_of(spec, num_threads()), simd.lanes(spec.acc_dtype)
    down, across = tiling.axes
    # One row more than needed, for the reason that `steps` gives.
    depth, panel = spec.c_in // spec.groups + 1, tiling.vectors * lanes
    shape = down.elements * across.elements, depth, panel
    if is_used_once() and (alone := one_block(spec, num_threads())):
        packed = weights_array((masked_threads(), 1, *shape), spec.acc_dtype)
        return _unpacked(spec, alone)._replace(weight=packed, raw=weight)
    packed = weights_array((spec.groups, tiling.panels, *shape), spec.acc_dtype)
    _weights_kernel(down.exact(), across.exact(), lanes).sized(16 * packed.size)(weight, packed)
    return _unpacked(spec, tiling)._replace(weight=packed)


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, tiling: Tiling) -> Packed:
    """All but the weights; kept, because a plain `conv2d` call packs every time."""
    lanes, channel = simd.lanes(spec.acc_dtype), np.arange(spec.c_in // spec.groups)
    sizes = buffers(spec, tiling)
    return Packed(
        tiling,
        _tiles_kernel(*[one.exact() for one in tiling.axes], tiling.rows, tiling.vectors, lanes).sized(spec.flops),
        np.empty(0, spec.acc_dtype),
        np.empty((0, 0, 0, 0), spec.acc_dtype),
        channel // lanes * (padded_tiles(spec, tiling) * lanes) + channel % lanes,
        (
            (spec.padding[0][0], spec.padding[1][0]),
            spec.stride,
            spec.dilation,
            (tiling.high, tiling.wide),
            tiling.block,
            tiling.shares,
            region_shape(spec, tiling),
            sizes,
            steps(spec, tiling),
        ),
        sum(sizes),
    )


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    biases = panel_biases(spec, packed.weight.shape[-1], bias)
    scratches = runtime_scratch(packed.scratch, x.dtype)
    packed.loops(x, packed.offsets, packed.weight, packed.raw, biases, spec.floor, out, scratches, packed.geometry)


@lru_cache(maxsize=64)
def _weights_panel(down: Axis, across: Axis, lanes: int) -> Any:
    """The function, for kernels, that transforms the weights of one panel."""
    columns_map, rows_map = linear_map(down.g), linear_map(across.g)
    high, wide = down.elements, across.elements

    @jit(key=(down, across, lanes))
    def _winograd_panel(weight, channel, valid, packed, goal):
        """Those of `valid` output channels from `channel` on, as (elements, depth, panel) from `goal` on."""
        depth, panel = packed.shape[3:]
        c_in, kh, kw = weight.shape[1:]
        taps = kh * kw
        columns = np.zeros(lanes * taps * panel, packed.dtype)  # zeros for the channels that fill the last panel
        half = np.empty(high * kw * lanes, packed.dtype)
        for c0 in range(0, c_in, lanes):
            some = min(lanes, c_in - c0)
            for v in range(0, valid, lanes):
                first, count = ((channel + v) * c_in + c0) * taps, min(lanes, valid - v)
                for t in range(0, some * taps, lanes):
                    there = min(lanes, some * taps - t)
                    simd.transpose(weight, first + t, c_in * taps, count, there, columns, t * panel + v, panel)
            for c in range(some):
                for v in range(0, panel, lanes):
                    for b in range(kw):
                        at = (c * taps + b) * panel + v
                        columns_map(columns, at, kw * panel, half, b * lanes, kw * lanes)
                    for i in range(high):
                        to = goal + (i * wide * depth + c0 + c) * panel + v
                        rows_map(half, i * kw * lanes, lanes, packed, to, depth * panel)

    return _winograd_panel


@lru_cache(maxsize=64)
def _weights_kernel(down: Axis, across: Axis, lanes: int) -> Any:
    """U from the weights."""
    transform = _weights_panel(down, across, lanes)

    @kernel(key=(down, across, lanes))
    def _winograd_weights(weight, packed):
        groups, panels, elements, depth, panel = packed.shape
        channels = weight.shape[0] // groups
        for index in prange(groups * panels):
            job = np.int64(index)  # a parallel loop's index is unsigned: functions called with it would compile twice
            first = job % panels * panel
            channel, goal = job // panels * channels + first, job * elements * depth * panel
            transform(weight, channel, min(panel, channels - first), packed, goal)

    return _winograd_weights


@lru_cache(maxsize=64)
def _tiles_kernel(down: Axis, across: Axis, rows: int, vectors: int, lanes: int) -> Any:
    """The convolution, for one pair of algorithms and one register tile."""
    in_down, in_across = linear_map(down.b), linear_map(across.b)
    out_down, out_across = linear_map(down.a), linear_map(across.a, finish=True)
    products, transform = matrix_product(rows, vectors), _weights_panel(down, across, lanes)
    m_down, m_across, e_down, e_across = down.m, across.m, down.elements, across.elements

    @jit(key=(down, across, lanes))
    def _winograd_input(region, columns, high, wide, stride, dilation, work, v_tiles, to, step):
        """Transform the tiles of a region into V."""
        for i in range(high * dilation[0]):
            first = stride[0] * (i // dilation[0] * m_down * dilation[0] + i % dilation[0])
            for j in range(columns):
                at = (first * columns + j) * lanes
                in_down(region, at, dilation[0] * columns * lanes, work, j * lanes, columns * lanes)
            for j in range(wide * dilation[1]):
                at = stride[1] * (j // dilation[1] * m_across * dilation[1] + j % dilation[1]) * lanes
                for e in range(e_down):
                    row = at + e * columns * lanes
                    in_across(work, row, dilation[1] * lanes, v_tiles, to + e * e_across * step, step)
                to += lanes

    @jit(key=(down, across, lanes))
    def _winograd_output(m_tiles, at, panel, step, wide, dilation, work, region, shift, floor):
        """Transform one row of tiles from M into rows of output, channels in lanes."""
        line = wide * m_across * dilation[1]
        for i in range(dilation[0]):
            for j in range(wide * dilation[1]):
                for e in range(e_across):
                    out_down(m_tiles, at + e * step, e_across * step, work, e * lanes, e_across * lanes)
                to = i * line + j // dilation[1] * m_across * dilation[1] + j % dilation[1]
                for r in range(m_down):
                    row = (to + r * dilation[0] * line) * lanes
                    out_across(work, r * e_across * lanes, lanes, region, row, dilation[1] * lanes, shift, floor)
                at += panel

    @kernel(key=(down, across, rows, vectors, lanes))
    def _winograd_tiles(x, offsets, packed, raw, bias, floor, out, scratches, geometry):
        pad, stride, dilation, grid, block, shares, (region_h, region_w), sizes, (v_step, m_step) = geometry
        n, c_all, h, w = x.shape
        c_out, oh, ow = out.shape[1:]
        elements, depth, panel = packed.shape[2:]
        groups, panels = bias.shape[0], bias.shape[1] // panel
        c_in, channels = c_all // groups, c_out // groups
        images, down, across = block
        bn, bh, bw = (n + images - 1) // images, (grid[0] + down - 1) // down, (grid[1] + across - 1) // across
        tiles = (m_step - lanes) // panel
        super_h, super_w = m_down * dilation[0], m_across * dilation[1]
        least = simd.splat(floor)
        for task in prange(bn * groups * bh * bw * shares):
            job = np.int64(task)
            share, index = job % shares, job // shares
            s0, t0 = index % bw * across, index // bw % bh * down
            group, n0 = index // (bw * bh) % groups, index // (bw * bh * groups) * images
            n1, t1, s1 = min(n0 + images, n), min(t0 + down, grid[0]), min(s0 + across, grid[1])
            high, wide = t1 - t0, s1 - s0
            each = high * wide * dilation[0] * dilation[1]  # tiles of an image
            buffers = scratches[numba.get_thread_id()]
            region, work = buffers[: sizes[0]], buffers[sizes[0] : sizes[0] + sizes[1]]
            v_tiles = buffers[sizes[0] + sizes[1] : sizes[0] + sizes[1] + sizes[2]]
            m_tiles = buffers[sizes[0] + sizes[1] + sizes[2] :]
            corner = stride[0] * t0 * super_h - pad[0], stride[1] * s0 * super_w - pad[1]
            seen = region_h - stride[0] * super_h * (down - high), region_w - stride[1] * super_w * (across - wide)
            for image in range(n0, n1):
                for c in range(0, c_in, lanes):
                    at = (image * c_all + group * c_in + c) * h * w
                    _region(x, at, min(lanes, c_in - c), corner, seen, region, lanes)
                    to = (c // lanes * tiles + (image - n0) * each) * lanes
                    _winograd_input(region, seen[1], high, wide, stride, dilation, work, v_tiles, to, v_step)
            for p in range(share * panels // shares, (share + 1) * panels // shares):
                first = (group * panels + p) * elements * depth * panel
                if raw.size:
                    first = np.int64(numba.get_thread_id()) * elements * depth * panel
                    transform(raw, group * channels + p * panel, min(panel, channels - p * panel), packed, first)
                for e in range(elements):
                    for t in range(0, (n1 - n0) * each, rows):
                        weights, goal = first + e * depth * panel, e * m_step + t * panel
                        products(v_tiles, e * v_step + t * lanes, offsets, packed, weights, m_tiles, goal)
                for v in range(0, min(panel, channels - p * panel), lanes):
                    channel, count = p * panel + v, min(lanes, channels - p * panel - v)
                    shift = simd.load(bias, group * panels * panel + channel)
                    for image in range(n0, n1):
                        plane = (image * c_out + group * channels + channel) * oh
                        for t in range(high):
                            at = ((image - n0) * each + t * wide * dilation[0] * dilation[1]) * panel + v
                            _winograd_output(
                                m_tiles, at, panel, m_step, wide, dilation, work, region, shift, least
                            )
                            top, left = (t0 + t) * super_h, s0 * super_w
                            for i in range(min(super_h, oh - top)):
                                for j in range(0, min(wide * super_w, ow - left), lanes):
                                    length = min(lanes, min(wide * super_w, ow - left) - j)
                                    source = (i * wide * super_w + j) * lanes
                                    to = (plane + top + i) * ow + left + j
                                    simd.transpose(region, source, lanes, length, count, out, to, oh * ow)

    return _winograd_tiles


@jit
def _region(x, at, count, corner, shape, region, lanes):
    """Copy a rectangle of `count` channels, whose planes begin at `at`, channels innermost; zeros outside the image."""
    h, w = x.shape[2:]
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
                source, to = at + row * w + corner[1] + j, (i * shape[1] + j) * lanes
                simd.transpose(x, source, h * w, count, min(lanes, last - j), region, to, lanes)
