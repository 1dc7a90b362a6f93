"""The warp tile on tensor cores: `mma.sync` takes the place of `gemm`'s multiply-adds.

A word is four bytes along k: one float32, two halves or four 8-bit integers. One instruction multiplies 16 rows by 8
words with 8 words by 8 columns, whatever the words hold, and so does this file. A slab is 16 words: two such steps.

Factors: weights are the instruction's A (16 channels), pixels its B (8 pixels). A lane needs four words of A from two
rows; weights are packed so that these follow each other. It needs two words of B from one pixel; these follow each
other because k is permuted: lane t takes words 4t to 4t + 3 of a pixel, two for each step, in one 128-bit load. The
weights are permuted alike, and a sum does not mind its order. A pixel is 16 words in shared memory; its 4 quads are
swapped by ``q ^ (pixel // 2) % 4``, so that neither storing nor loading 128 bits meets a bank conflict.

Precisions of float32 operands: "tf32" rounds both to 10 bits of fraction (to nearest). "tf32x3" keeps all bits: each
value is split into a TF32 number and the rest, which is exact and of which the cores see 10 more bits; big * big +
big * small + small * big are three products, each summed in float32. The fourth is below float32's rounding. Weights
are split when they are packed, which costs twice their bytes in shared memory and saves two thirds of the splitting;
pixels are split when a lane has loaded them. Infinities become NaN, as infinity has no rest. float16 and bfloat16 are
multiplied exactly and summed in float32, 8-bit integers exactly in int32.

`mma_kernel` is the kernel. Compiled for compute capability 9.0 (``python -m benchmarks.ptx --tiles``), the loop over
slabs, by SASS:

=======================  =========  =============  ==========================================================
tile, precision, gather  registers  blocks a SM    instructions for one slab
=======================  =========  =============  ==========================================================
128x128, tf32, vector    200        2 (8 warps)    245: 64 HMMA, 16 LDS.128, 8 LDGSTS.128, 64 to round
128x128, tf32, quad      228        2 (8 warps)    303: 64 HMMA, 16 LDS.128, 4 LDGSTS.128, 16 LDG, 32 to round
128x128, f16, vector     210        2 (8 warps)    180: 64 HMMA, 16 LDS.128, 8 LDGSTS.128
128x64, tf32x3, vector   150        3 (12 warps)   264: 96 HMMA, 20 LDS.128, 8 LDGSTS.128, 48 to split
128x64, tf32x3, quad     168        3 (12 warps)   337: 96 HMMA, 20 LDS.128, 4 LDGSTS.128, 16 LDG, 48 to split
=======================  =========  =============  ==========================================================

(Through registers instead of `cp.async`, the second took 244 registers, and the last 390 instructions.) There is no
spill and no local memory. The cores should be the limit: `mma.sync` is said to reach some 60% of an H100's peak, at
which 64 HMMA of four warps take 430 cycles and the 96 of tf32x3 take 640; shared memory needs 384 and 450 cycles for
them, and instructions at most 300 and 340. No GPU has run it yet: none of this is measured.

Sources: NVIDIA, PTX ISA, mma.sync; Ootomo and Yokota, Recovering single precision accuracy from tensor cores,
arXiv:2203.03341.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...specs.conv import ConvSpec
from ...specs.dtypes import label
from ..machine import Machine
from ..system.kernels import SIMULATED, Kernel, cuda, factory, integers, pick, pointer, storage
from ..system.streams import Buffer, Stream, Tensor
from ..tiles.mma_kernel import SLAB, element_bits, warp_gemm
from ..tiles.ptx import int32, split
from . import gather
from .gather import Cut, Packed, cuts, gathering, launch, near, order, zeros


class Tile(NamedTuple):
    """Shares of the output: a block's and a warp's."""

    m: int
    """Pixels of a block."""
    n: int
    """Channels of a block."""
    warp_m: int
    """Pixels of a warp, in steps of 8."""
    warp_n: int
    """Channels of a warp, in steps of 16."""

    @property
    def threads(self) -> int:
        return 32 * (self.m // self.warp_m) * (self.n // self.warp_n)


#: Tiles with 128, 64 and 32 sums in a thread.
_TILES = (Tile(128, 128, 64, 64), Tile(128, 64, 32, 64), Tile(64, 64, 32, 32))
_SIMULATED = (Tile(8, 16, 8, 16), Tile(32, 16, 16, 16), Tile(32, 32, 32, 32))


def tiles(spec: ConvSpec, quad: bool) -> tuple[Tile, ...]:
    """The tiles for a problem; `quad` tells whether 16 bytes along k share an entry of the table."""
    if SIMULATED:
        return _SIMULATED
    split_in_two = spec.precision == "tf32x3"
    if not quad and (split_in_two or spec.dtype.itemsize < 4):
        return _TILES[-1:]  # looking up single elements and joining them to words takes registers
    # The parts of split values take registers, too, and ptxas keeps some sums of integers twice.
    return _TILES[1:] if split_in_two or spec.dtype.itemsize == 1 else _TILES


def kind_of(spec: ConvSpec) -> str | None:
    """The kind of factors that the tensor cores would multiply; None where they cannot."""
    if spec.dtype == np.float32:
        return "tf32" if spec.precision != "float32" else None
    kinds = {"float16": "f16", "bfloat16": "bf16", "int8": "s8", "uint8": "u8", "bool": "u8"}
    return kinds.get(label(spec.dtype))


def _slab(spec: ConvSpec) -> int:
    """Number of values of k in a slab."""
    return SLAB * 4 // storage(spec.dtype).itemsize


def seconds(spec: ConvSpec, machine: Machine, cut: Cut) -> float:
    """Estimated seconds of the arithmetic."""
    rate = machine.flops(np.float32, "tf32") * _slab(spec) / SLAB / (3 if spec.precision == "tf32x3" else 1)
    # `mma.sync` reaches some 60% of what Hopper's `wgmma` does. Smaller tiles load more words for each product, and
    # tf32x3 has three products.
    small = {4096: 1.0, 2048: 0.85}.get(cut.tile.warp_m * cut.tile.warp_n, 0.6)
    share = 0.5 * (max(small, 0.95) if spec.precision == "tf32x3" and small > 0.6 else small)
    return gather.seconds(spec, machine, cut, _slab(spec), rate * share)


def best(spec: ConvSpec, machine: Machine) -> Cut:
    """The division that should be the fastest."""
    found = cuts(spec, tiles(spec, order(spec, _slab(spec) // 4).quad), _slab(spec))
    return min(found, key=lambda cut: seconds(spec, machine, cut))


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream, cut: Cut) -> Packed:
    """Weights as the lanes read them: slab after slab, for 16 channels and 8 words along k each lane's four words."""
    kind, tile, slab = kind_of(spec), cut.tile, _slab(spec)
    channels, how = spec.c_out // spec.groups, order(spec, slab // 4)
    panels, slabs = -(-channels // tile.n), -(-how.depth // slab)
    halves = 2 if spec.precision == "tf32x3" else 1
    lanes = spec.groups * panels * slabs * tile.n * SLAB // 4 * halves
    packed = stream.empty(4 * lanes, np.int32)
    stream.launch(_pack(tile.n, kind, halves, weight.dtype), -(-lanes // PACK_BLOCK), PACK_BLOCK,
                  weight.pointer, weight.strides, packed.pointer, (lanes, panels, slabs, channels),
                  (how.depth, how.block, spec.kh, spec.kw))
    return Packed(packed, cut, how, slab, slabs, panels, slab // 4, zeros(spec, cut, stream), {})


PACK_BLOCK = pick(128, 8)


@factory
def _pack(n, kind, halves, dtype):
    per_word = 4 // storage(dtype).itemsize
    width, lanes_of_slab, bits = 8 * storage(dtype).itemsize, n * SLAB // 4 * halves, element_bits(kind, halves, dtype)

    def pack(weight, steps, packed, sizes, taps):
        (lanes, panels, slabs, channels), (depth, block, kh, kw) = sizes, taps
        at = np.int64(cuda.blockIdx.x) * PACK_BLOCK + cuda.threadIdx.x
        if at < lanes:
            inner, outer = at % lanes_of_slab, at // lanes_of_slab
            lane, half, fragment = inner % 32, inner // 32 % halves, inner // 32 // halves
            panel, group, slab = outer // slabs % panels, outer // slabs // panels, outer % slabs
            for r in range(4):
                o = panel * n + fragment // 2 * 16 + lane // 4 + r % 2 * 8
                value = 0
                for e in range(per_word):
                    k = (slab * SLAB + 4 * (lane % 4) + 2 * (fragment % 2) + r // 2) * per_word + e
                    if o < channels and k < depth:
                        c = k // block // kw // kh * block + k % block
                        place = c * steps[1] + k // block // kw % kh * steps[2] + k // block % kw * steps[3]
                        value |= bits(weight[(group * channels + o) * steps[0] + place]) << (width * e)
                if halves > 1:
                    big, small = split(int32(value))
                    value = small if half else big
                packed[4 * at + r] = int32(value)

    return (pointer(dtype), integers(4), pointer(np.int32), integers(4), integers(4)), pack


def run(spec: ConvSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream) -> None:
    """Launch the product."""
    x = near(spec, x, stream)
    gather = gathering(packed.order, x, packed.unit)

    def kernel(dtype: np.dtype, target: Tensor) -> Kernel:
        halves = 2 if spec.precision == "tf32x3" else 1
        return warp_gemm(packed.cut.tile, kind_of(spec), halves, x.dtype, spec.acc_dtype, dtype, gather)

    launch(kernel, spec, x, packed, packed.table(spec, x, stream).pointer, bias, out, stream)
