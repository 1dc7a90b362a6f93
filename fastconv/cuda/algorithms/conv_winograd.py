"""Winograd's minimal filtering in three passes: F(2x2, 3x3) and F(4x4, 3x3), with exact matrices from `toom_cook`.

Index equation, for each element e of a transformed tile (16 or 36 of them) and each tile t of m x m outputs::

    U[e, o, c] = (G weight[o, c] G^T)[e]      V[e, c, t] = (B x[c, tile t] B^T)[e]      made by `prepare`, and pass 1
    M[e, o, t] = sum over c of U[e, o, c] * V[e, c, t]                                  pass 2
    out[o, tile t] = A M[:, o, t] A^T + bias[o]                                         pass 3

What it changes over `conv_implicit_gemm`: the number of multiplications, 16 or 36 for 4 or 16 outputs instead of 36 or
144. Pass 2 is a 1x1 convolution of one row of tiles, with a group for each element; `shared.gemm` runs it as it is.
Passes 1 and 3 keep a tile in a thread's registers; neighbouring threads have neighbouring tiles, or neighbouring
channels where these lie side by side.

V and M are 2.25 (F(4x4)) or 4 (F(2x2)) times the input and output. A few images are taken at a time, so that both stay
in the second-level cache; whether that is worth its launches is an estimate, as are the costs of the sizes. The error
in float32 is some 5e-7 times `Axis.amplification` squared (1.7 and 6.9) of the largest output; `LIMIT` keeps it below
1e-5.

An output's error belongs to its own window, as of sums, and a NaN or an infinity reaches just the outputs that see it:
what a tile would spoil beside larger numbers is found by pass 1 and made again at the end (`shared.own_windows`). For
that a block of pass 1 has channels of one group. Ordinary tiles pay a launch a call, and 2% more traffic in passes 1
and 3 (0.5% with channels last).

It wins for 3x3 layers with some 100 channels and more. Not measured yet on a GPU. Registers: 64 and 48, no spill.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...base.toom_cook import Axis, axis
from ...specs.conv import ConvSpec
from ...specs.dtypes import is_half
from ..machine import Machine, this_machine
from ..shared import gemm, own_windows
from ..shared.gather import Packed, limits
from ..system.kernels import cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Buffer, Stream, Tensor
from ..tiles.linear_map import transform
from ..tiles.ptx import inlined, int32, int64, opaque, within

#: Outputs of a tile along one axis.
SIZES = (2, 4)

#: Largest product of both axes' `Axis.amplification`, as on the CPU.
LIMIT = 20
#: Bytes of V and M together (24 MiB): half of the second-level cache of an H100.
SLICE_BYTES = pick(24 << 20, 8 << 10)
BLOCK = pick(128, 8)
#: Threads of a block of pass 1, and most of its channels: neighbouring threads have neighbouring tiles, or, where these
#: lie side by side, neighbouring channels. A warp stores whole lines.
INPUTS, FIRST, LAST = pick(256, 8), pick(8, 2), pick(32, 4)


class Plan(NamedTuple):
    """Weights as they were given, and transformed and packed."""

    algorithm: Axis
    product: Packed
    zeros: Buffer
    """A bias of zeros for the products, and behind it whether weights are not finite, or a transform may overflow."""
    weight: Tensor


def supports(spec: ConvSpec) -> str | None:
    if spec.dtype.kind != "f" or is_half(spec.dtype):
        return f"tiles are transformed in float32 or float64, and {spec.dtype} is neither"
    if spec.precision != "float32":
        return "the sums of a transformed tile cancel, for which tensor cores have too few digits"
    if (spec.kh, spec.kw) != (3, 3) or spec.stride != (1, 1) or spec.dilation != (1, 1):
        return "it is for 3x3 kernels without stride and dilation"
    if max(map(max, spec.padding)) >= own_windows.BLIND:
        return f"it is for padding of less than {own_windows.BLIND}, with which every window sees some of the input"
    if spec.c_out // spec.groups > own_windows.MOST:
        return f"it is for at most {own_windows.MOST} output channels a group, got {spec.c_out // spec.groups}"
    # For a very large image, V has more elements than the image.
    return limits(spec) or next(filter(None, (limits(_product(spec, algorithm)) for algorithm in _sizes())), None)


def _sizes() -> tuple[Axis, ...]:
    found = [axis(m, 3, 1) for m in SIZES]
    return tuple(one for one in found if one and one.amplification**2 <= LIMIT)


def _lanes(spec: ConvSpec, last: bool) -> tuple[int, int]:
    """Channels and tiles of a block of pass 1."""
    channels = min(LAST if last else FIRST, 1 << (spec.c_in // spec.groups - 1).bit_length())
    return channels, INPUTS // channels


def _tiles(spec: ConvSpec, algorithm: Axis) -> tuple[int, int]:
    return -(-spec.oh // algorithm.m), -(-spec.ow // algorithm.m)


def _images(spec: ConvSpec, algorithm: Axis) -> int:
    """Number of images whose V and M fit into a slice."""
    high, wide = _tiles(spec, algorithm)
    image = (spec.c_in + spec.c_out) * algorithm.elements**2 * high * wide * spec.acc_dtype.itemsize
    return max(1, min(spec.n, SLICE_BYTES // image))


def _product(spec: ConvSpec, algorithm: Axis) -> ConvSpec:
    """The products as a 1x1 convolution: a group for each element (and group), an image of one row of tiles."""
    high, wide = _tiles(spec, algorithm)
    count, width = algorithm.elements**2, -(-_images(spec, algorithm) * high * wide // 4) * 4
    none = ((0, 0), (0, 0))
    return replace(spec, batched=True, n=1, c_in=count * spec.c_in, c_out=count * spec.c_out, h=1, w=width, kh=1, kw=1,
                   groups=count * spec.groups, padding=none, oh=1, ow=width, activation=None)


def cost(spec: ConvSpec, machine: Machine) -> float:
    return min(_cost(spec, machine, algorithm) for algorithm in _sizes())


def _cost(spec: ConvSpec, machine: Machine, algorithm: Axis) -> float:
    product, slices = _product(spec, algorithm), -(-spec.n // _images(spec, algorithm))
    high, wide = _tiles(spec, algorithm)
    tiles = spec.n * high * wide
    size, count = spec.acc_dtype.itemsize, algorithm.elements**2
    outside = size * (spec.n * (spec.c_in * spec.h * spec.w + spec.c_out * spec.oh * spec.ow))
    between = 2 * size * count * tiles * (spec.c_in + spec.c_out)
    # V and M are written and read in the second-level cache, which is some twice as fast as memory.
    moved = (outside + between / 2) / machine.bandwidth
    cut = gemm.best(product, machine, whole=True)
    looking = own_windows.seconds(spec, algorithm.m, _lanes(spec, False)[0], machine)
    return slices * (3 * machine.launch + gemm.seconds(product, machine, cut)) + moved + looking


@lru_cache(maxsize=1024)
def _algorithm(spec: ConvSpec) -> Axis:
    machine = this_machine()
    return min(_sizes(), key=lambda algorithm: _cost(spec, machine, algorithm))


def scratch(spec: ConvSpec) -> int:
    algorithm = _algorithm(spec)
    product, lanes = _product(spec, algorithm), _lanes(spec, False)[0]
    sums = own_windows.sums_of_cells(spec, algorithm.m, lanes)
    return ((product.c_in + product.c_out) * product.w + sums) * spec.acc_dtype.itemsize


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream) -> Plan:
    algorithm = _algorithm(spec)
    product, number = _product(spec, algorithm), spec.acc_dtype
    channels = spec.c_in // spec.groups
    pairs, count = spec.c_out * channels, algorithm.elements**2
    u, zeros = stream.empty(count * pairs, number), stream.zeros(product.c_out + 1, number)
    stream.launch(_weights(algorithm.m, number), -(-pairs // BLOCK), BLOCK,
                  weight.pointer, weight.strides, u.pointer, zeros.pointer, (pairs, channels, product.c_out))
    shape = (count * spec.c_out, channels, 1, 1)
    packed = gemm.prepare(product, Tensor(u.pointer, number, shape, (channels, 1, 1, 1), u), stream,
                               gemm.best(product, this_machine(), whole=True))
    ready = packed.ready(product, ((1, 0, channels),), stream)
    return Plan(algorithm, ready, zeros, weight)


def run(spec: ConvSpec, x: Tensor, packed: Plan, bias: Buffer, out: Tensor, stream: Stream) -> None:
    algorithm, number = packed.algorithm, spec.acc_dtype
    product, tiles, images = _product(spec, algorithm), _tiles(spec, algorithm), _images(spec, algorithm)
    x_last, out_last = x.strides[1] == 1, out.strides[1] == 1
    v, v_steps = _between(product.c_in, product, x_last, stream)
    m, m_steps = _between(product.c_out, product, out_last, stream)
    pads, lanes = (spec.padding[0][0], spec.padding[1][0]), _lanes(spec, x_last)
    sums = stream.empty(own_windows.sums_of_cells(spec, algorithm.m, lanes[0]), number)
    pieces = own_windows.parts(spec, lanes[0])
    shared = own_windows.cells(algorithm.m) * lanes[0] * (lanes[1] | 1) * number.itemsize
    for first in range(0, spec.n, images):
        sizes = (first, min(images, spec.n - first), product.w, spec.groups)
        stream.launch(
            _inputs(algorithm.m, number, x_last), -(-product.w // lanes[1]) * pieces, INPUTS,
            x.pointer, x.strides, v.pointer, v_steps, sums.pointer, sizes, (*lanes, pieces // spec.groups, spec.n),
            spec.c_in // spec.groups, tiles, (spec.h, spec.w), (spec.oh, spec.ow), pads, shared=shared,
        )
        gemm.run(product, v, packed.product, packed.zeros, m, stream, pixels=True,
                      group_steps=(v_steps[0], m_steps[0]))
        stream.launch(
            _outputs(algorithm.m, number, out_last), -(-spec.c_out * product.w // BLOCK), BLOCK,
            m.pointer, m_steps, bias.pointer, spec.floor, out.pointer, out.strides, sizes, spec.c_out // spec.groups,
            tiles, (spec.oh, spec.ow),
        )
    own_windows.finish(spec, algorithm.m, sums, lanes[0], packed.zeros, x, packed.weight, bias, out, stream)


def _between(channels: int, product: ConvSpec, last: bool, stream: Stream) -> tuple[Tensor, tuple[int, int, int]]:
    """Memory for V or M, with the channels of each group last or first, and its steps (group, channel, tile)."""
    buffer = stream.empty(channels * product.w, product.acc_dtype)
    own = channels // product.groups
    c, t = (1, own) if last else (product.w, 1)
    tensor = Tensor(buffer.pointer, product.acc_dtype, (1, channels, 1, product.w), (0, c, 0, t), buffer)
    return tensor, (own * product.w, c, t)


# -- kernels -------------------------------------------------------------------------------------------------


@factory
def _weights(m, dtype):
    algorithm = axis(m, 3, 1)
    count, length = algorithm.elements**2, 9
    number, apply, largest = scalar(dtype), transform(algorithm.g, algorithm.g), dtype.type(own_windows.LARGEST)

    def winograd_weights(weight, steps, u, wild, sizes):
        pairs, channels, last = sizes
        at = int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if at < pairs:
            taps = cuda.local.array(length, number)
            elements = cuda.local.array(count, number)
            first = at // channels * steps[0] + at % channels * steps[1]
            for a in range(3):
                for b in range(3):
                    taps[3 * a + b] = weight[first + a * steps[2] + b * steps[3]]
            for k in range(length):
                if not abs(taps[k]) <= largest:
                    wild[last] = 1
            apply(taps, elements)
            for e in range(count):
                u[e * pairs + at] = elements[e]

    return (pointer(dtype), integers(4), pointer(dtype), pointer(dtype), integers(3)), winograd_weights


@factory
def _inputs(m, dtype, last):
    algorithm = axis(m, 3, 1)
    count, size, step = algorithm.elements**2, algorithm.length, algorithm.m
    area, number, apply, zero = size * size, scalar(dtype), transform(algorithm.b, algorithm.b), dtype.type(0)
    cells, added = own_windows.cells(m), own_windows.add_cells(m)

    @inlined
    def place(thread, block, width, c_lanes, t_lanes, pieces):
        """The lane of a channel and of a tile, the block's piece of the channels, and its first tile."""
        c_lanes, t_lanes, pieces = int32(c_lanes), int32(t_lanes), int32(pieces)
        if last:
            c_lane, t_lane, piece, at = thread % c_lanes, thread // c_lanes, block % pieces, block // pieces
        else:
            across = int32((width + t_lanes - 1) // t_lanes)
            c_lane, t_lane, piece, at = thread // t_lanes, thread % t_lanes, block // across, block % across
        return int32(c_lane), int32(t_lane), int32(piece), int32(at * t_lanes)

    def winograd_inputs(x, x_steps, v, v_steps, sums, sizes, lanes, channels, tiles, image, plane, pads):
        (first, images, width, groups), (c_lanes, t_lanes, parts, all_images) = sizes, lanes
        high, wide, h, w = int32(tiles[0]), int32(tiles[1]), int32(image[0]), int32(image[1])
        thread, block = int32(cuda.threadIdx.x), int32(cuda.blockIdx.x)
        c_lane, t_lane, piece, t = place(thread, block, width, c_lanes, t_lanes, groups * parts)
        group, c, t = int32(piece // int32(parts)), int32(piece % int32(parts) * c_lanes + c_lane), int32(t + t_lane)
        memory = cuda.shared.array(0, number)
        pixels = cuda.local.array(area, number)
        elements = cuda.local.array(count, number)
        n, row = int32(t // wide // high), int32(t // wide % high)
        top, left = int32(row * step - pads[0]), int32(t % wide * step - pads[1])
        if n >= images or c >= channels:
            top = h  # the tiles that fill up the row are zero
        start = (first + n) * x_steps[0] + (group * channels + c) * x_steps[1] + top * x_steps[2] + left * x_steps[3]
        for i in range(size):
            for j in range(size):
                pixels[size * i + j] = 0
                if within(top + i, h) and within(left + j, w):
                    pixels[size * i + j] = x[start + i * x_steps[2] + j * x_steps[3]]
        windows = int32(plane[0] - row * step), int32(plane[1] - t % wide * step)
        pitch, line = c_lanes * (t_lanes | 1), t_lanes | 1
        added(pixels, zero, windows, memory, np.uint64(c_lane * line + t_lane), np.uint64(pitch))
        if c < channels and t < width:
            apply(pixels, elements)
            to, apart = int32(group * v_steps[0] + c * v_steps[1] + t * v_steps[2]), int32(groups * v_steps[0])
            for e in range(count):
                v[to + e * apart] = elements[e]
        cuda.syncthreads()
        # Computed again rather than kept, as the transform needs the registers.
        thread, block = opaque(int32(cuda.threadIdx.x)), opaque(int32(cuda.blockIdx.x))
        _, _, piece, t0 = place(thread, block, width, c_lanes, t_lanes, groups * parts)
        for at in range(thread, cells * t_lanes, INPUTS):
            cell, t = int32(at // int32(t_lanes)), int32(at % int32(t_lanes))
            if t0 + t < images * tiles[0] * tiles[1]:
                total = memory[cell * pitch + t]
                for k in range(1, c_lanes):
                    total += memory[cell * pitch + k * line + t]
                sums[((piece * cells + cell) * all_images + first) * tiles[0] * tiles[1] + t0 + t] = total

    # Registers: a multiprocessor has 65536, so 64 for each of 1024 threads; float64 takes 120.
    winograd_inputs.launch_bounds = (INPUTS, 4 if dtype.itemsize == 4 else 2)
    pair, triple, four = integers(2), integers(3), integers(4)
    signature = (pointer(dtype), four, pointer(dtype), triple, pointer(dtype), four, four, scalar(np.int64), pair, pair,
                 pair, pair)
    return signature, winograd_inputs


@factory
def _outputs(m, dtype, last):
    algorithm = axis(m, 3, 1)
    count, step = algorithm.elements**2, algorithm.m
    area, number, apply = step * step, scalar(dtype), transform(algorithm.a, algorithm.a)

    def winograd_outputs(products, steps, bias, floor, out, out_steps, sizes, channels, tiles, plane):
        first, images, width, groups = sizes
        (high, wide), (oh, ow) = tiles, plane
        at = int64(cuda.blockIdx.x) * BLOCK + cuda.threadIdx.x
        if last:
            o, t = at % (groups * channels), at // (groups * channels)
        else:
            t, o = at % width, at // width
        n = t // wide // high
        if at < groups * channels * width and n < images:
            elements = cuda.local.array(count, number)
            values = cuda.local.array(area, number)
            place = o // channels * steps[0] + o % channels * steps[1] + t * steps[2]
            for e in range(count):
                elements[e] = products[place + e * groups * steps[0]]
            apply(elements, values)
            row, col, added = t // wide % high * step, t % wide * step, bias[o]
            start = (first + n) * out_steps[0] + o * out_steps[1] + row * out_steps[2] + col * out_steps[3]
            for i in range(step):
                for j in range(step):
                    if row + i < oh and col + j < ow:
                        value = values[step * i + j] + added
                        out[start + i * out_steps[2] + j * out_steps[3]] = floor if value < floor else value

    pair, triple = integers(2), integers(3)
    signature = (pointer(dtype), triple, pointer(dtype), scalar(dtype), pointer(dtype), integers(4), integers(4),
                 scalar(np.int64), pair, pair)
    return signature, winograd_outputs
