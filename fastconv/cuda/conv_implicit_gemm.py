"""draft"""

from __future__ import annotations

from ..spec import ConvSpec
from . import gemm_tile
from .implicit import Packed, limits
from .machine import Machine, this_machine
from .runtime import Buffer, Stream, Tensor


def supports(spec: ConvSpec) -> str | None:
    return limits(spec)


def cost(spec: ConvSpec, machine: Machine) -> float:
    return machine.launch + gemm_tile.seconds(spec, machine, gemm_tile.best(spec, machine))


def scratch(spec: ConvSpec) -> int:
    return 0


def prepare(spec: ConvSpec, weight: Tensor, stream: Stream) -> Packed:
    return gemm_tile.prepare(spec, weight, stream, gemm_tile.best(spec, this_machine()))


def run(spec: ConvSpec, x: Tensor, packed: Packed, bias: Buffer, out: Tensor, stream: Stream) -> None:
    gemm_tile.run(spec, x, packed, bias, out, stream)
