"""Pooling by windows of unequal size: of n elements and m outputs, from floor(i n / m) to ceil((i + 1) n / m).

::

    avg:  out[p, i, j] = mean of x[p, r, c] over rows[i] <= r < rows_end[i], columns[j] <= c < columns_end[j]
    max:  out[p, i, j] = max of these; the index is that of its first occurrence, or of the last NaN, as in PyTorch

Loop order: one task per row of output; sums and maxima go down the rows of the windows in vectors, then across their
columns; places are looked for tap by tap. Where windows are equal, the poolings of `POOL2D` are taken instead.

Of sums along more than `PART` rows or columns, what rounding takes is kept.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange

from ...specs.pool import PoolSpec, bounds
from ..machine import Machine
from ..system.kernels import kernel
from ..system.memory import scratch_rows
from ..tiles.simd_pool import PART, put_away

plain = True


def supports(spec: PoolSpec) -> str | None:
    return None if spec.adaptive else "its windows are told by the size of the output"


def cost(spec: PoolSpec, machine: Machine) -> float:
    moved = (spec.planes * spec.h * spec.w + math.prod(spec.output_shape)) * spec.x_dtype.itemsize
    return machine.call + moved / machine.stream


def scratch(spec: PoolSpec) -> int:
    """A row of sums or maxima a thread, and of what rounding took from sums."""
    return 2 * spec.w * spec.x_dtype.itemsize


def run(spec: PoolSpec, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
    axes = *bounds(spec.h, spec.oh), *bounds(spec.w, spec.ow)
    if indices is not None:
        _adaptive_places.sized(16.0 * x.size)(x, out, indices, *axes)
        return
    kernel = _average_loops(max(spec.kh, spec.kw) > PART) if spec.op == "avg" else _adaptive_maximum
    kernel.sized(2.0 * x.size + 8.0 * out.size)(x, out, *axes, scratch_rows(2 * spec.w, out.dtype))


@lru_cache(maxsize=2)
def _average_loops(long: bool) -> Any:
    """The loops, for sums that are `long` with what rounding took from each."""
    key = (long,)

    @kernel(key=key)
    def _adaptive_average(x, out, rows, rows_end, columns, columns_end, lines):
        planes, oh, ow = out.shape
        w, zero = x.shape[2], out.dtype.type(0)
        for job in prange(planes * oh):
            plane, i = job // oh, job % oh
            line, lost = lines[numba.get_thread_id()][:w], lines[numba.get_thread_id()][w:]
            for c in range(w):
                line[c] = x[plane, rows[i], c]
                if long:
                    lost[c] = zero
            for r in range(rows[i] + 1, rows_end[i]):
                seen = x[plane, r]
                for c in range(w):
                    if long:
                        line[c], lost[c] = put_away((line[c], lost[c]), seen[c])
                    else:
                        line[c] += seen[c]
            high = rows_end[i] - rows[i]
            for j in range(ow):
                total, rest = line[columns[j]], zero
                for c in range(columns[j] + 1, columns_end[j]):
                    if long:
                        total, rest = put_away((total, rest), line[c])
                    else:
                        total += line[c]
                out[plane, i, j] = total / (high * (columns_end[j] - columns[j]))

    return _adaptive_average


@kernel
def _adaptive_maximum(x, out, rows, rows_end, columns, columns_end, lines):
    planes, oh, ow = out.shape
    w = x.shape[2]
    for job in prange(planes * oh):
        plane, i = job // oh, job % oh
        line = lines[numba.get_thread_id()][:w]
        for c in range(w):
            line[c] = x[plane, rows[i], c]
        for r in range(rows[i] + 1, rows_end[i]):
            seen = x[plane, r]
            for c in range(w):
                line[c] = line[c] if line[c] >= seen[c] or line[c] != line[c] else seen[c]
        for j in range(ow):
            best = line[columns[j]]
            for c in range(columns[j] + 1, columns_end[j]):
                best = best if best >= line[c] or best != best else line[c]
            out[plane, i, j] = best


@kernel
def _adaptive_places(x, out, indices, rows, rows_end, columns, columns_end):
    planes, oh, ow = out.shape
    w = x.shape[2]
    for job in prange(planes * oh):
        plane, i = job // oh, job % oh
        for j in range(ow):
            best, at = x[plane, rows[i], columns[j]], rows[i] * w + columns[j]
            for r in range(rows[i], rows_end[i]):
                for c in range(columns[j], columns_end[j]):
                    value = x[plane, r, c]
                    if value > best or value != value:
                        best, at = value, r * w + c
            out[plane, i, j], indices[plane, i, j] = best, at

