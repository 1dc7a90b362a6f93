"""Winograd's minimal filtering: transform tiles of input and weights, multiply element by element, transform back.

Each axis has an algorithm ``y = A (G g * B x)`` of `toom_cook`; applied to rows and columns of a tile, the convolution
becomes a product element by element, and the sum over channels a matrix product for each element e::

    U[e] = G_h weight G_w^T      V[e, t] = B_h x_t B_w^T      M[e, t, o] = sum over c of V[e, t, c] * U[e, c, o]
    out tile t = A_h M A_w^T + bias

What it changes over `direct`: it multiplies less. F(4x4, 3x3) makes 36 multiplications for 16 outputs instead of 144,
F(4x4, 5x5) 64 instead of 400, F(4x4, 3x3) at stride 2 81 instead of 144, F(4, 7) along one axis 10 instead of 28. The
price: the transforms, which pay where some 32 channels on both sides share them, and a larger rounding error. Tile
sizes are chosen such that it is at most about 1e-5 of the largest output in float32 (see `winograd_blocking`).
A dilation d is d x d convolutions of every d-th pixel: a tile takes its pixels d apart.

Layouts: a region of x with channels in lanes (rows, columns, lanes), one block of channels at a time;
V (elements, c_in / lanes, tiles, lanes); U (groups, panels, elements, c_in, panel); M (elements, tiles, panel).

Loop order: tasks are blocks of tiles (of one image, or of several small ones); a task transforms its inputs, then for
each panel of output channels runs the products and transforms the result. V and the weights stay in the second-level
cache; where the weights do not fit there, a block has so many tiles that streaming the weights is hidden. Where V does
not stay there, either, one element after the other is multiplied for several panels.
In a plain call with a single block of tiles, a panel of weights is transformed just before it is used, and never goes
to memory: 512 channels at 7x7 take 2.0 ms in place of 3.6; without transforming weights they take 1.3 (a core of an
EPYC 9004).

An output's error belongs to its own window, as of sums, and a NaN or an infinity reaches just the outputs that see it:
what a tile would spoil beside larger numbers is found, while the input is transposed, and made again
(`fastconv.cpu.shared.own_windows`).

Sources: Lavin and Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308; Huang et al., A
decomposable Winograd method for N-D convolution, arXiv:2002.01721, for strides.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.own_windows import are_tame, finish, marks, pixels_are_even
from ..shared.panels import panel_biases
from ..shared.patch import zeros
from ..shared.winograd_blocking import (
    Outline,
    Tiling,
    algorithms,
    best_axes,
    estimate,
    fitting,
    geometry_of,
    memory_sizes,
    one_block,
    padded_tiles,
    panel_buffers,
    tiling_of,
)
from ..system import micro
from ..system.kernels import jit, kernel
from ..system.memory import is_for_one_call, own_panels, scratch_rows, weights_array
from ..system.threads import num_threads
from ..tiles import simd
from ..tiles.linear_map import map_address, tile_map_address
from ..tiles.product_tile import matrix_product_address


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
    """Estimated seconds to write U, which takes longer than the transforms, and less if U stays in the cache."""
    axes = best_axes(spec)
    size = axes[0].elements * axes[1].elements * spec.c_out * spec.taps // (spec.kh * spec.kw) * spec.acc_dtype.itemsize
    alone = one_block(spec, 1) is not None  # on one thread: the choice must not depend on the number
    faster = KEPT if size <= KEPT_BYTES else PANELS if alone else 1
    return machine.call + size / (machine.pack_bandwidth * faster) / machine.threads


#: How many times as fast as `Machine.pack_bandwidth` a thread writes U: a panel at a time, to its cache; and all of it,
#: if it is so small that it stays there. (Fitted to plain calls of 3x3 layers of 256 to 1024 channels at 7x7 and 14x14
#: beside `direct`, and of 37 to 128 channels, and 2x2x2 of 128 to 64, on an AMD EPYC of Zen 5.)
PANELS, KEPT, KEPT_BYTES = 1.3, 2.0, 2 << 20


def scratch(spec: ConvSpec) -> int:
    threads = num_threads()
    return threads * sum(memory_sizes(spec, tiling_of(spec, threads))) * spec.acc_dtype.itemsize


class Packed(NamedTuple):
    """Weights made ready, and all else of a call that does not depend on its input."""

    tiling: Tiling
    loops: Any
    micro: tuple[int, tuple[int, ...]]
    """Addresses of the register tile and of `Transforms`."""
    weight: np.ndarray
    """U; or room for one panel of it in each thread, if the tasks transform `raw` panel by panel."""
    raw: np.ndarray
    """The weights as they were given, if the tasks transform them: in a plain call with one block of tiles each panel
    is used once, while it is in the cache. Empty otherwise."""
    given: np.ndarray
    """The weights as they were given."""
    wild: bool
    """Whether weights are not finite, or so large that a transform may overflow."""
    offsets: np.ndarray
    """Elements in V from the first channel to each."""
    geometry: tuple[Any, ...]
    """`Geometry`, as a plain tuple."""
    scratch: int


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    tiling, lanes = tiling_of(spec, num_threads()), simd.lanes(spec.acc_dtype)
    down, across = tiling.axes
    # One row more than there are channels: elements must not lie powers of two apart, see `steps`.
    depth, panel = spec.c_in // spec.groups + 1, tiling.vectors * lanes
    shape = down.elements * across.elements, depth, panel
    if is_for_one_call() and (alone := one_block(spec, num_threads())):
        packed = own_panels(shape, spec.acc_dtype)
        return _unpacked(spec, alone)._replace(weight=packed, raw=weight, given=weight)
    packed = weights_array((spec.groups, tiling.panels, *shape), spec.acc_dtype)
    transform = _winograd_weights.sized(16 * packed.size)
    sizes, transforms = panel_buffers(spec, tiling), tuple(_transforms(down, across, spec.acc_dtype))
    scratches = scratch_rows(sum(sizes), spec.acc_dtype)
    wild = np.empty(spec.groups * tiling.panels, np.bool_)
    transform(transforms, weight, packed, scratches, sizes, across.elements, wild, lanes)
    return _unpacked(spec, tiling)._replace(weight=packed, given=weight, wild=any(wild.tolist()))


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, tiling: Tiling) -> Packed:
    """`Packed` without weights; cached, because a plain `conv2d` call packs every time."""
    lanes, channel = simd.lanes(spec.acc_dtype), np.arange(spec.c_in // spec.groups)
    transforms, sizes = tuple(_transforms(*tiling.axes, spec.acc_dtype)), memory_sizes(spec, tiling)
    return Packed(
        tiling,
        _winograd_tiles.sized(spec.flops),
        (matrix_product_address(tiling.rows, tiling.vectors, tiling.streams, spec.acc_dtype), transforms),
        np.empty(0, spec.acc_dtype),
        np.empty((0, 0, 0, 0), spec.acc_dtype),
        np.empty(0),
        False,
        channel // lanes * (padded_tiles(spec, tiling) * lanes) + channel % lanes,
        tuple(geometry_of(spec, tiling)),
        sum(sizes),
    )


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    biases = panel_biases(spec, packed.weight.shape[-1], bias)
    scratches = scratch_rows(packed.scratch, x.dtype)
    operands = x, packed.offsets, packed.weight, packed.raw, biases, spec.floor, out, scratches
    uneven = marks(spec, packed.wild)
    packed.loops(*packed.micro, *operands, packed.geometry, uneven)
    finish(spec, x, packed.given, bias, out, uneven)


class Transforms(NamedTuple):
    """Addresses of the micro-kernels that transform the input, down and across (`linear_map`: tiles overlap, and share
    the first), and tiles of the output and the weights (`tile_map`)."""

    in_down: int
    in_across: int
    out: int
    weights: int


@lru_cache(maxsize=64)
def _transforms(down: Outline, across: Outline, dtype: np.dtype) -> Transforms:
    first, second = down.exact(), across.exact()
    return Transforms(
        in_down=map_address(first.b, dtype),
        in_across=map_address(second.b, dtype),
        out=tile_map_address(first.a, second.a, dtype, finish=True),
        weights=tile_map_address(first.g, second.g, dtype),
    )


@jit
def _winograd_panel(transforms, weight, channel, valid, packed, goal, wide, columns, work, lanes):
    """Transform the weights of `valid` output channels from `channel` on to (elements, depth, panel) from `goal` on."""
    depth, panel = packed.shape[3:]
    c_in, kh, kw = weight.shape[1:]
    taps = kh * kw
    squares = lanes * taps * panel
    zeros(columns, 0, squares + lanes, lanes)  # also for the channels that fill the last panel
    for c0 in range(0, c_in, lanes):
        some = min(lanes, c_in - c0)
        for v in range(0, valid, lanes):
            first, count = ((channel + v) * c_in + c0) * taps, min(lanes, valid - v)
            for t in range(0, some * taps, lanes):
                there = min(lanes, some * taps - t)
                simd.transpose_squares(weight, first + t, c_in * taps, count, there, columns, t * panel + v, panel,
                                       columns, squares)  # fmt: skip
        for v in range(0, panel, lanes):
            micro.call(transforms[3], columns, v, panel, work, packed, goal + c0 * panel + v, depth * panel,
                       wide * depth * panel, some, taps * panel, panel)  # fmt: skip
    return not are_tame(columns, squares, lanes)


@kernel
def _winograd_weights(transforms, weight, packed, scratches, sizes, wide, wild, lanes):
    """Compute U, one panel a task."""
    groups, panels, elements, depth, panel = packed.shape
    channels = weight.shape[0] // groups
    for job in prange(groups * panels):
        first = job % panels * panel
        channel, goal = job // panels * channels + first, job * elements * depth * panel
        valid, memory = min(panel, channels - first), scratches[numba.get_thread_id()]
        columns, work = memory[: sizes[0]], memory[sizes[0] :]
        wild[job] = _winograd_panel(transforms, weight, channel, valid, packed, goal, wide, columns, work, lanes)


@jit
def _winograd_input(transforms, region, columns, high, wide, tile, work, v_tiles, to, step, lanes):
    """Transform the tiles of a region into V.

    In a row, and so in V, lie `wide` tiles of each of the dilation's phases; a call transforms the longer of both rows.
    """
    in_down, in_across = transforms[:2]
    stride, dilation, m_down, m_across, e_down, e_across = tile
    line, apart = columns * lanes, dilation[1] * lanes
    near, hop = stride[1] * lanes, m_across * stride[1] * apart
    calls, count, leap, jump = dilation[1], wide, lanes, apart
    if wide < dilation[1]:
        calls, count, near, hop, leap, jump = wide, dilation[1], hop, near, apart, lanes
    for i in range(high * dilation[0]):
        begin, rows = stride[0] * (i // dilation[0] * m_down * dilation[0] + i % dilation[0]) * line, region
        if e_down > 1:  # else a row of pixels is a row of tiles
            micro.call(in_down, region, begin, dilation[0] * line, work, 0, line, columns, lanes, lanes)
            begin, rows = 0, work
        for e in range(e_down):
            at, goal = begin + e * line, to + e * e_across * step
            for _ in range(calls):
                micro.call(in_across, rows, at, apart, v_tiles, goal, step, count, hop, jump)
                at, goal = at + near, goal + leap
        to += wide * apart


@jit
def _winograd_output(transforms, m_tiles, at, panel, step, wide, tile, work, region, shift, floor, lanes):
    """Transform one row of tiles from M into rows of output, channels in lanes; a call does as `_winograd_input`'s."""
    dilation, m_across = tile[1], tile[3]
    apart = dilation[1] * lanes
    line = wide * m_across * apart
    calls, count, near, hop, leap, jump = dilation[1], wide, panel, dilation[1] * panel, lanes, m_across * apart
    if wide < dilation[1]:
        calls, count, near, hop, leap, jump = wide, dilation[1], hop, near, jump, leap
    for i in range(dilation[0]):
        start, to = at + i * wide * dilation[1] * panel, i * line
        for _ in range(calls):
            micro.call(transforms[2], m_tiles, start, step, work, region, to, apart, dilation[0] * line, count, hop,
                       jump, shift, floor)  # fmt: skip
            start, to = start + near, to + leap


@kernel
def _winograd_tiles(products, transforms, x, offsets, packed, raw, bias, floor, out, scratches, geometry, uneven):
    """Convolve: for each block of tiles compute V, then for each panel the products M and the output."""
    pad, grid, block, register, (region_h, region_w, pitch), begins, (v_step, m_step), tile = geometry
    rows, shares, together, lanes = register
    stride, dilation, m_down, m_across, _, e_across = tile
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
    for job in prange(bn * groups * bh * bw * shares):
        share, index = job % shares, job // shares
        s0, t0 = index % bw * across, index // bw % bh * down
        group, n0 = index // (bw * bh) % groups, index // (bw * bh * groups) * images
        n1, t1, s1 = min(n0 + images, n), min(t0 + down, grid[0]), min(s0 + across, grid[1])
        high, wide = t1 - t0, s1 - s0
        each = high * wide * dilation[0] * dilation[1]  # tiles of an image
        buffers = scratches[numba.get_thread_id()]
        region, work = buffers[: begins[1]], buffers[begins[1] : begins[2]]
        v_tiles, m_tiles = buffers[begins[2] : begins[3]], buffers[begins[3] : begins[4]]
        corner = stride[0] * t0 * super_h - pad[0], stride[1] * s0 * super_w - pad[1]
        seen = region_h - stride[0] * super_h * (down - high), region_w - stride[1] * super_w * (across - wide)
        energies = buffers[begins[6] :]
        for image in range(n0, n1):
            zeros(energies, 0, seen[0] * pitch, lanes)
            for c in range(0, c_in, lanes):
                at = (image * c_all + group * c_in + c) * h * w
                _region(x, at, min(lanes, c_in - c), corner, seen, region, lanes, energies, pitch)
                to = (c // lanes * tiles + (image - n0) * each) * lanes
                _winograd_input(transforms, region, seen[1], high, wide, tile, work, v_tiles, to, v_step, lanes)
            if not pixels_are_even(energies, pitch, corner, seen, (h, w), lanes):
                uneven[image] = True
        begin, end = share * panels // shares, (share + 1) * panels // shares
        register_tiles = ((n1 - n0) * each + rows - 1) // rows
        for p0 in range(begin, end, together):
            first = (group * panels + p0) * elements * depth * panel
            if raw.size:
                first = numba.get_thread_id() * packed.shape[1] * elements * depth * panel
                channel = group * channels + p0 * panel
                valid = min(panel, channels - p0 * panel)
                columns, other = buffers[begins[4] : begins[5]], buffers[begins[5] : begins[6]]
                if _winograd_panel(transforms, raw, channel, valid, packed, first, e_across, columns, other, lanes):
                    for image in range(n0, n1):
                        uneven[image] = True
            some = min(together, end - p0)
            for e in range(elements):
                for q in range(some):
                    place = q * elements + e
                    following = (place + elements if q + 1 < some else e + 1) - place
                    weights = first + place * depth * panel
                    micro.call(products, v_tiles, e * v_step, offsets, packed, weights, following * depth * panel,
                               m_tiles, place * m_step, register_tiles)  # fmt: skip
            for q in range(some):
                p, m0 = p0 + q, q * elements * m_step
                for v in range(0, min(panel, channels - p * panel), lanes):
                    channel, count = p * panel + v, min(lanes, channels - p * panel - v)
                    shift = simd.load(bias, group * panels * panel + channel)
                    for image in range(n0, n1):
                        plane = (image * c_out + group * channels + channel) * oh
                        for t in range(high):
                            at = m0 + ((image - n0) * each + t * wide * dilation[0] * dilation[1]) * panel + v
                            _winograd_output(
                                transforms, m_tiles, at, panel, m_step, wide, tile, work, region, shift, least, lanes
                            )
                            top, left = (t0 + t) * super_h, s0 * super_w
                            for i in range(min(super_h, oh - top)):
                                for j in range(0, min(wide * super_w, ow - left), lanes):
                                    length = min(lanes, min(wide * super_w, ow - left) - j)
                                    source = (i * wide * super_w + j) * lanes
                                    to = (plane + top + i) * ow + left + j
                                    simd.transpose(region, source, lanes, length, count, out, to, oh * ow)


@jit
def _region(x, at, count, corner, shape, region, lanes, energies, pitch):
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
                simd.transpose_squares(x, source, h * w, count, min(lanes, last - j), region, to, lanes, energies,
                                       i * pitch + j)  # fmt: skip
