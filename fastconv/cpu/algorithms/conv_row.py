"""Image filters, one row of the output at a time: one compiled tile for kernels and images of all sizes.

::

    out[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[n, first + c, row(i, a), col(j, b)]

What it changes over `image`: `image` compiles a tile (in a second or so) for each height of a kernel, and for some
widths and sizes of the image. `row` has loops in their places, and no rows that share what they load. Both add up the
products of the definition and no others.

It wins where a kernel is used a few times, or on images so small that the loops are a small part of a call. Measured:
`signal.correlate2d` of 64 x 64 with 3 x 3, float32, one core of an AMD EPYC 9004: 7 us, of which the loops take 2.6
(the loops of `image` take 1, of `naive` 70).
"""

from __future__ import annotations

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import row_filter
from ..shared.row_filter import prepare_one_row as prepare
from ..shared.row_filter import run, scratch

exact = True

__all__ = ["cost", "prepare", "run", "scratch", "supports"]


def supports(spec: ConvSpec) -> str | None:
    return None if spec.stride[1] == 1 else "only horizontal stride 1"


def cost(spec: ConvSpec, machine: Machine) -> float:
    return row_filter.cost(spec, machine, one_row=True)
