"""draft"""

from __future__ import annotations

from typing import Any

from ..spec import ConvSpec
from . import gemm_tile, mma_tile
from .implicit import Packed, limits
from .machine import Machine, this_machine
from .runtime import Buffer, Stream, Tensor


def supports(spec: ConvSpec) -> str | None:
    return limits(spec)


def _tiles(spec: ConvSpec, machine: Machine) -> Any:
    """The tile that computes: on tensor cores, where there are some for the dtype and precision."""
    return mma_tile if mma_tile.kind_of(spec) and machine.capability >= (8, 0) else gemm_tile


def cost(spec: ConvSpec, machine: Machine) -> float:
    how = _tiles(spec, machine)
    return machine.launch + how.seconds(spec, machine, how.best(spec, machine))


def scratch(spec: ConvSpec) -> int:
    return 0


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream) -> Packed:
    machine = this_machine()
    how = _tiles(spec, machine)
    return how.prepare(spec, weight, stream, how.best(spec, machine))


def run(spec: ConvSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream) -> None:
    (mma_tile if isinstance(packed.tile, mma_tile.Tile) else gemm_tile).run(spec, x, packed, bias, out, stream)
