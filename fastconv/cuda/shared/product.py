"""The matrix product of a convolution, on the tile for its dtype and precision: arithmetic units or tensor cores.

`conv_implicit_gemm` and `conv_pointwise` share it.
"""

from __future__ import annotations

import math
from typing import Any

from ...specs.conv import ConvSpec
from ..machine import Machine, this_machine
from ..system.streams import Buffer, Stream, Tensor
from . import gather, gemm, mma
from .gather import Packed, layouts


def _tiles(spec: ConvSpec, machine: Machine) -> Any:
    """The module of the tile: tensor cores multiply TF32, halves and bytes from compute capability 8.0 on."""
    return mma if mma.kind_of(spec) and machine.capability >= (8, 0) else gemm


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: a launch, the longer of arithmetic and traffic, and a tenth of the shorter, not all hidden."""
    tiles = _tiles(spec, machine)
    arithmetic = tiles.seconds(spec, machine, tiles.best(spec, machine))
    moved = (math.prod(spec.x_shape) * spec.dtype.itemsize + math.prod(spec.output_shape) * spec.out_dtype.itemsize
             + spec.c_out * spec.taps * spec.dtype.itemsize) / machine.bandwidth
    return machine.launch + max(arithmetic, moved) + 0.1 * min(arithmetic, moved)


def scratch(spec: ConvSpec) -> int:
    """Bytes of scratch memory while it runs."""
    machine = this_machine()
    return gather.scratch(spec, _tiles(spec, machine).best(spec, machine))


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream) -> Packed:
    """Weights as the tile reads them."""
    machine = this_machine()
    tiles = _tiles(spec, machine)
    return tiles.prepare(spec, weight, stream, tiles.best(spec, machine)).ready(spec, layouts(spec), stream)


def run(
    spec: ConvSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream, *, pixels: bool = False
) -> None:
    """Launch the product. With `pixels`, four pixels may be one load (for a 1x1 kernel)."""
    if isinstance(packed.cut.tile, mma.Tile):
        mma.run(spec, x, packed, bias, out, stream)
    else:
        gemm.run(spec, x, packed, bias, out, stream, pixels=pixels)
