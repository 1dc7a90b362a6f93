"""Row tiles for single channels: depthwise layers.

::

    out[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[n, first + c, row(i, a), col(j, b)]

What it changes over `direct`: with one output channel in a group there is no second channel to share a loaded vector with,
so neighbouring rows of the output share it. A tile is a few rows by a few vectors of pixels; the kernel of each row is
the given one moved down, with zeros around (`blocked.stacked`).

Source: as `blocked`.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np

from ..spec import ConvSpec
from . import blocked
from .machine import Machine

#: Most channels in and out of a group: with more, `direct` shares loads among output channels.
CHANNELS = 4


def supports(spec: ConvSpec) -> str | None:
    if spec.acc_dtype == np.int64:
        return "there are no vectors of 64-bit integers to multiply; only floats and 8-bit integers"
    if spec.c_out // spec.groups > CHANNELS or spec.c_in // spec.groups > CHANNELS:
        return f"more than {CHANNELS} channels in a group"
    return None


def cost(spec: ConvSpec, machine: Machine) -> float:
    tall, plan = _blocking(spec, machine.threads)
    return blocked.cost(tall, plan, machine)


def scratch(spec: ConvSpec) -> int:
    return blocked.scratch(*_blocking(spec, numba.get_num_threads()))


@lru_cache(maxsize=4096)
def _blocking(spec: ConvSpec, threads: int) -> tuple[ConvSpec, blocked.Blocking]:
    down = _down(spec)
    tall = blocked.stacked(spec, down)
    return tall, blocked.blocking(tall, blocked.row_tiles(tall, down), threads)

def _down(spec: ConvSpec) -> int:
    """Rows of a tile: more share more loads, but multiply by more zeros."""
    return min(spec.oh, 2 if spec.kh <= 3 else 4)


def prepare(spec: ConvSpec, weight: np.ndarray) -> blocked.Packed:
    tall, plan = _blocking(spec, numba.get_num_threads())
    return blocked.pack(tall, plan, blocked.stacked_weight(spec, plan.tiles.down, weight))


def run(spec: ConvSpec, x: np.ndarray, packed: blocked.Packed, bias: np.ndarray, out: np.ndarray) -> None:
    blocked.run(packed, x, bias, out)
