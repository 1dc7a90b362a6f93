"""The register tile on the arithmetic units: a slab of the sum is in shared memory, the next is on its way.

A block of threads makes `m` pixels by `n` channels. For each slab of `k` products of the sum it (1) starts to copy the
next slab of both factors from memory into one half of shared memory, (2) multiplies the slab in the other half, (3)
waits for its copies, and for the other threads. So a copy has a whole slab's arithmetic to arrive. `gemm_kernel` is the
kernel.

Multiplying: for each value of k a thread loads `rows` + `cols` values, in 128-bit loads, and makes `rows` x `cols`
multiply-adds. Its rows are two runs of four, 4 * lanes apart, so that the lanes of a warp read neighbouring 16 bytes,
without a bank conflict. Rows of the pixels' slab are padded by 4, so that stores do not conflict either when 4 channels
of a pixel come at once (a test counts the conflicts of all accesses).

Fetching: `gather` explains the four ways. Storing: four pixels or four channels as one 128-bit store where they
follow each other, else one by one. Bias and activation are applied to the sums in registers.

What it changes over `im2col`'s product: no columns; twice the sums a thread; 128-bit loads; (1) and (2) overlap.

Compiled for compute capability 9.0 (``python -m benchmarks.ptx --tiles``), float32, the loop over slabs, by SASS:

====================  =========  ================  ===========================  ==========================
tile, gather          registers  blocks a SM       instructions for one slab    of them multiply-adds
====================  =========  ================  ===========================  ==========================
128x128, pixels       126        2 (16 warps)      583                          512 (88%), 2 LDGSTS.128
128x128, quad         125        2 (16 warps)      592                          512 (86%), 4 LDGSTS
128x128, vector       128        2 (16 warps)      615                          512 (83%), 4 STS
128x128, single       128        2 (16 warps)      613                          512 (84%), 4 LDGSTS
128x64, quad          123        4 (16 warps)      611                          512 (84%), 8 LDGSTS
64x64, quad           95         5 (20 warps)      327                          256 (78%), 4 LDGSTS
====================  =========  ================  ===========================  ==========================

A scheduler issues one instruction a cycle, so these shares bound what can be reached of the FP32 peak; shared memory is
busy half of the time at most. (Through registers instead of `cp.async`, 128x64 took 143 registers and 650 instructions,
and the largest tile had no register left for a table.) There is no local memory and no spill. No GPU has run it yet:
nothing is measured.

Sources: Volkov and Demmel, Benchmarking GPUs to tune dense linear algebra, 2008; Boehm, How to optimize a CUDA matmul
kernel, 2022; Chetlur et al., arXiv:1410.0759, for the gathering.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..system.kernels import SIMULATED, Kernel, cuda, factory, integers, pick, pointer, scalar
from ..system.streams import Buffer, Stream, Tensor
from ..tiles.elements import widen
from ..tiles.gemm_kernel import gemm
from . import gather
from .gather import Cut, Packed, cuts, gathering, launch, near, order, pixelwise, storing, zeros


class Tile(NamedTuple):
    """Shares of the output: a block's and a thread's."""

    m: int
    """Pixels of a block."""
    n: int
    """Channels of a block."""
    k: int
    """Products of a slab in shared memory, which holds one that is multiplied and one that is being filled."""
    rows: int
    """Pixels of a thread."""
    cols: int
    """Channels of a thread."""
    lanes: tuple[int, int]
    """Threads of a warp along pixels and channels. (The simulator, which has no warps, takes fewer.)"""

    @property
    def threads(self) -> int:
        return self.m * self.n // (self.rows * self.cols)

    @property
    def share(self) -> float:
        """Share of multiply-adds among the instructions of the loop over slabs; one instruction is issued a cycle."""
        products = self.k * self.rows * self.cols
        loads = self.k * (self.rows + self.cols) / 4
        fetched = (self.m + self.n) * self.k / self.threads / 4
        return products / (products + loads + 19 * fetched + 10)


#: Tiles for 32-bit sums. A thread's 64 sums are what 128 registers hold beside two vectors of operands; smaller tiles
#: are for layers with few channels, or too few pixels to fill the GPU.
_WIDE = (Tile(128, 128, 8, 8, 8, (8, 4)), Tile(128, 64, 8, 8, 8, (8, 4)), Tile(64, 64, 8, 8, 4, (8, 4)),
         Tile(128, 32, 8, 8, 4, (8, 4)))
#: Tiles for 64-bit sums, which take two registers each.
_DOUBLE = (Tile(64, 64, 8, 8, 4, (8, 4)),)
#: Tiles for the simulator: several warps of 2 by 2 threads, and one warp.
_SIMULATED = (Tile(16, 16, 8, 4, 4, (2, 2)), Tile(8, 16, 4, 4, 4, (2, 4)))


def tiles(spec: ConvSpec) -> tuple[Tile, ...]:
    """The tiles for a problem."""
    if SIMULATED:
        return _SIMULATED
    if spec.acc_dtype.itemsize > 4:
        return _DOUBLE
    return _WIDE if spec.dtype == spec.acc_dtype else _WIDE[1:]  # the first has no registers left for widening


def seconds(spec: ConvSpec, machine: Machine, cut: Cut) -> float:
    """Estimated seconds of the arithmetic."""
    return gather.seconds(spec, machine, cut, cut.tile.k, machine.flops(spec.acc_dtype) * cut.tile.share)


def best(spec: ConvSpec, machine: Machine, *, whole: bool = False) -> Cut:
    """The division that should be the fastest; with `whole`, only among divisions whose sums are in one part."""
    found = [cut for tile in tiles(spec) for cut in cuts(spec, (tile,), tile.k)]
    return min((cut for cut in found if cut.parts == 1 or not whole), key=lambda cut: seconds(spec, machine, cut))


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream, cut: Cut) -> Packed:
    """Weights as panels of a tile's channels, slab after slab, filled up with zeros."""
    channels, how, tile = spec.c_out // spec.groups, order(spec), cut.tile
    panels, slabs = -(-channels // tile.n), -(-how.depth // tile.k)
    rows = spec.groups * panels * slabs * tile.k
    packed = stream.empty(rows * tile.n, spec.acc_dtype)
    stream.launch(_pack(tile.n, weight.dtype, spec.acc_dtype), -(-rows // PACK_BLOCK), PACK_BLOCK,
                  weight.pointer, weight.strides, packed.pointer, (rows, panels, slabs * tile.k, channels),
                  (how.depth, how.block, spec.kh, spec.kw))
    return Packed(packed, cut, how, tile.k, slabs, panels, 4, zeros(spec, cut, stream), {})


PACK_BLOCK = pick(128, 8)


@factory
def _pack(n, dtype, acc_dtype):
    number, load = scalar(acc_dtype), widen(dtype, acc_dtype)

    def pack(weight, steps, packed, sizes, taps):
        (rows, panels, length, channels), (depth, block, kh, kw) = sizes, taps
        row = np.int64(cuda.blockIdx.x) * PACK_BLOCK + cuda.threadIdx.x
        if row < rows:
            k, panel, group = row % length, row // length % panels, row // length // panels
            c = k // block // kw // kh * block + k % block
            at = group * channels * steps[0] + c * steps[1]
            at += k // block // kw % kh * steps[2] + k // block % kw * steps[3]
            for i in range(n):
                o = panel * n + i
                value = number(0)
                if o < channels and k < depth:
                    value = load(weight[at + o * steps[0]])
                packed[row * n + i] = value

    return (pointer(dtype), integers(4), pointer(acc_dtype), integers(4), integers(4)), pack


def run(
    spec: ConvSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream, *,
    pixels: bool = False, group_steps: tuple[int, int] | None = None,
) -> None:
    """Launch the product. `pixels` allows loads of four pixels; `group_steps` are the steps from group to group, in x
    and out, where they do not follow from the channels' strides."""
    x = near(spec, x, stream)
    gather = "pixels" if pixels and pixelwise(spec, x) else gathering(packed.order, x)
    offsets = packed.table(spec, x, stream).pointer if gather != "pixels" else bias.pointer

    def kernel(dtype: np.dtype, target: Tensor) -> Kernel:
        return gemm(packed.cut.tile, x.dtype, spec.acc_dtype, dtype, gather, storing(spec, target))

    launch(kernel, spec, x, packed, offsets, bias, out, stream, group_steps)
