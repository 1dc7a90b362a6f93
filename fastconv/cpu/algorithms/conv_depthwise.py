"""Depthwise convolution: each output channel sees one input channel, row tiles run in registers.

::

    out[n, o, i, j] = bias[o] + sum over a, b of weight[o, 0, a, b] * x[n, o // multiplier, row(i, a), col(j, b)]

What it changes over `direct`: with one channel in a group there are no channels to fill a tile with. The loop nest of
`row_filter` fills it with neighbouring rows of the output instead, which share the input's vectors.

Source: Howard et al., MobileNets, arXiv:1704.04861, for the layer. Measured: 144 channels of 56 x 56, 3x3, in 0.145 ms
with a plan, one core (AMD EPYC 9004, 115 GFLOP/s in float32): 56 GFLOP/s; 96 channels, 7x7: 0.30 ms, 100 GFLOP/s.
"""

from __future__ import annotations

from ...specs.conv import ConvSpec
from ..shared.row_filter import cost, prepare, run, scratch

exact = True

__all__ = ["cost", "prepare", "run", "scratch", "supports"]


def supports(spec: ConvSpec) -> str | None:
    if spec.c_in != spec.groups or spec.groups == 1:
        return f"each group must have one input channel, and there must be several; here {spec.c_in} in {spec.groups}"
    return None
