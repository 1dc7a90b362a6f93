"""Kernels that are an outer product (Sobel, Gauss, box): down the columns, then along the rows, in two short passes.

::

    weight[o, c, a, b] = down[o, c, a] * across[o, c, b]
    line[c, i, col] = sum over a of down[o, c, a] * x[n, first + c, row(i, a), col]
    out[n, o, i, j] = bias[o] + sum over c, b of across[o, c, b] * line[c, i, col(j, b)]

What it changes over `image`: kh * kw multiply-adds an output become kh + kw. Both passes use the row tile, so that one
code does every stride, padding and horizontal dilation.

Whether a kernel is an outer product is a matter of its values, which the planner does not see in the spec. So
``"auto"`` compares costs first, and only where two passes would win does `prepare_if_suited` look for the factors; it
gives up at the first four weights that contradict. Factors of integers, also of integers kept in floats, are integers:
their sums are exact where the definition's are, and wrap around as those do. Factors of floats are found in float64 by
least squares and rounded to the kernel's dtype; their product must give back every weight to two units in the last
place (of float64 to six), so that results differ from `image`'s by no more than rounding. Kernels without such factors
run as `image` does, if this algorithm is asked for by name.

A NaN or an infinity reaches the outputs that see it, but a first pass may overflow where the definition does not. So
the result is searched for one, and if there is any, all is computed again by the definition, as in `fft`.

Loop order: one task for each band of rows of an output channel; in it the pass down for all columns, into lines that
stay in the second-level cache (as many as the band has rows, because this pass comes first), then the pass across.

Measured, float32, one core of an AMD EPYC 9004: 1024 x 1024 with 7x7 in 0.61 ms (`image` 1.09, OpenCV's `filter2D`
1.85, its `sepFilter2D` 0.78), with 31x31 in 1.96 ms (`fft` 5.2, OpenCV 10.9 and 6.3).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import row_filter
from ..system.kernels import compiled, kernel
from ..system.memory import scratch_rows
from ..system.threads import num_threads
from ..tiles import simd
from ..tiles.row_tile import Shape, row_tile

exact = True
filters = True

#: Bytes of the lines of a task: an eighth of a 1 MiB second-level cache.
LINE_BYTES = 128 << 10
#: Most bytes of the lines of a task, where a band of a single tile's rows has more than LINE_BYTES.
LIMIT_BYTES = 8 << 20
#: Integer weights must be smaller than this, or no integer factors are looked for.
LARGEST = 2**31
#: Relative error of the factors' product that is due to float64.
ROUNDING = 4 * 2.0**-52
#: Relative difference of two products of opposite corners that no outer product in float32 has: each of the four
#: corners may be off by 8 roundings of 2**-23.
CORNERS = 2.0**-17


def supports(spec: ConvSpec) -> str | None:
    if min(spec.kh, spec.kw) < 2:
        return f"the kernel is {spec.kh}x{spec.kw}, one row or column: nothing to separate"
    if spec.dilation[0] != 1:
        return "only kernels of neighbouring rows"
    # Bands of short rows always have room: the scratch is worked out for long rows only.
    least = spec.c_in // spec.groups * max(row_filter.ROWS) * spec.w * spec.acc_dtype.itemsize
    if least > LIMIT_BYTES and scratch(spec) > num_threads() * LIMIT_BYTES:
        return f"the lines between the passes would take more than {LIMIT_BYTES >> 20} MiB"
    return None


class Passes(NamedTuple):
    """The two passes of a problem, and the bands of rows that it is cut into."""

    down: row_filter.Plane
    across: row_filter.Plane
    """The planes that the passes make: down, of one input channel; across, of all that are summed up."""
    band: int
    """Output rows of a task."""


@lru_cache(maxsize=4096)
def _passes(spec: ConvSpec, threads: int) -> Passes:
    group = spec.c_in // spec.groups
    (stride_h, stride_w), ((top, _), _) = spec.stride, spec.padding
    dtypes = spec.x_dtype, spec.acc_dtype
    down = row_filter.Plane(1, spec.h, spec.w, spec.kh, 1, spec.oh, spec.w, (stride_h, 1), (1, 1), top, *dtypes)
    across = row_filter.Plane(
        group, spec.oh, spec.w, 1, spec.kw, spec.oh, spec.ow, (1, stride_w), spec.dilation, 0, *dtypes
    )  # fmt: skip
    high, low = row_filter.blocking(down).shape.rows, row_filter.blocking(across, in_pairs=False).shape.rows
    fit = LINE_BYTES // (spec.acc_dtype.itemsize * group * spec.w)
    if threads > 1:
        fit = min(fit, spec.oh * spec.n * spec.c_out // (4 * threads))
    band = max(1, fit // high) * high
    return Passes(down, across, min(spec.oh, max(band, low)))


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds for outer products: of both passes, by `row_filter`, and of searching the result."""
    down, across, _ = _passes(spec, machine.threads)
    planes, lanes = spec.n * spec.c_out, simd.lanes(spec.acc_dtype)
    passes = row_filter.seconds(down, planes * across.depth, machine)
    passes += row_filter.seconds(across, planes, machine, in_pairs=False)
    vectors = planes * spec.oh * -(-spec.ow // lanes)
    return passes + 2 * vectors * 32 / machine.row_tile_flops / machine.threads


def scratch(spec: ConvSpec) -> int:
    threads = num_threads()
    return threads * _lines(spec, _passes(spec, threads)) * spec.acc_dtype.itemsize


def _lines(spec: ConvSpec, passes: Passes) -> int:
    """Elements of a task's lines."""
    return passes.across.depth * passes.band * spec.w


# -- factors -------------------------------------------------------------------------------------------------


def _factors(spec: ConvSpec, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """`down`, (c_out, c_in / groups, kh), and `across`, (c_out, c_in / groups, kw); None if there are none."""
    kernels = weight.reshape(-1, spec.kh, spec.kw)
    if _corners_differ(kernels):
        return None
    down, across = np.empty(kernels.shape[:2], weight.dtype), np.empty((len(kernels), spec.kw), weight.dtype)
    found = _integer_factors(kernels, down, across)
    if not found and weight.dtype.kind == "f":
        room = np.empty(spec.kh), np.empty(spec.kw)
        found = _float_factors(kernels, down, across, float(np.finfo(weight.dtype).eps), *room)
    if not found:
        return None
    return down.reshape(*weight.shape[:2], spec.kh), across.reshape(*weight.shape[:2], spec.kw)


def _corners_differ(kernels: np.ndarray) -> bool:
    """Whether the corners of the first kernel show that it is no outer product. Few that are none get past this test,
    and only kernels that do wait for the code that looks at all weights."""
    if not len(kernels):
        return False
    (a, b), (c, d) = kernels[0, :: kernels.shape[1] - 1, :: kernels.shape[2] - 1].tolist()
    return abs(a * d - b * c) > CORNERS * max(abs(a * d), abs(b * c))


@compiled
def _integer_factors(kernels, down, across):
    """Find factors of integers; `across` has no common divisor, so that `down` is whole if there are factors at all."""
    planes, kh, kw = kernels.shape
    for p in range(planes):
        kernel = kernels[p]
        first, divisor = -1, np.int64(0)
        for a in range(kh):
            for b in range(kw):
                value = kernel[a, b]
                if not -LARGEST < value < LARGEST or value != np.int64(value):
                    return False
                if first >= 0 and kernel[a, b] * kernel[first, 0] != kernel[a, 0] * kernel[first, b]:
                    return False
                if first < 0 or first == a:
                    one, other = abs(np.int64(value)), divisor
                    while one:
                        one, other = other % one, one
                    divisor = other
            if first < 0 and divisor:
                first = a
        down[p, :], across[p, :] = 0, 0
        if first < 0:
            continue
        place = 0
        for b in range(kw):
            across[p, b] = np.int64(kernel[first, b]) // divisor
            if not across[p, place]:
                place = b
        for a in range(kh):
            down[p, a] = np.int64(kernel[a, place]) // np.int64(across[p, place])
            for b in range(kw):
                if down[p, a] * across[p, b] != kernel[a, b]:
                    return False
    return True


@compiled
def _float_factors(kernels, down, across, eps, u, v):
    """Find factors of floats by least squares: from all weights, not just a row and a column with their roundings."""
    planes, kh, kw = kernels.shape
    bound = 2 * eps + ROUNDING
    for p in range(planes):
        kernel = kernels[p]
        top, left, largest = 0, 0, 0.0
        for a in range(kh):
            for b in range(kw):
                value = abs(np.float64(kernel[a, b]))
                if not value < np.inf:
                    return False
                if value > largest:
                    top, left, largest = a, b, value
        down[p, :], across[p, :] = 0, 0
        if largest == 0:
            continue
        pivot = np.float64(kernel[top, left])
        scale = 1 / pivot
        for a in range(kh):
            for b in range(kw):
                value = np.float64(kernel[a, b])
                if abs(kernel[a, left] * scale * kernel[top, b] - value) > 8 * eps * abs(value):
                    return False
        for b in range(kw):
            v[b] = kernel[top, b] * scale
        for turn in range(2):
            square = 0.0
            for b in range(kw):
                if turn:
                    across[p, b] = v[b]
                    v[b] = across[p, b]
                square += v[b] * v[b]
            for a in range(kh):
                total = 0.0
                for b in range(kw):
                    total += kernel[a, b] * scale * v[b]
                u[a] = total / square
            if turn:
                break
            square = 0.0
            for a in range(kh):
                square += u[a] * u[a]
            for b in range(kw):
                total = 0.0
                for a in range(kh):
                    total += kernel[a, b] * scale * u[a]
                v[b] = total / square
        for a in range(kh):
            down[p, a] = u[a] * pivot
            for b in range(kw):
                value = np.float64(kernel[a, b])
                if not abs(np.float64(down[p, a]) * np.float64(across[p, b]) - value) <= bound * abs(value):
                    return False
    return True


# -- the passes ----------------------------------------------------------------------------------------------


class Packed(NamedTuple):
    """Both factors, if there are some, and the kernels."""

    factors: tuple[np.ndarray, np.ndarray] | None
    weight: np.ndarray


def prepare_if_suited(spec: ConvSpec, weight: np.ndarray) -> Packed | None:
    """The factors, if all kernels are outer products."""
    found = _factors(spec, weight)
    return None if found is None else Packed(found, weight)


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    return Packed(_factors(spec, weight), weight)


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    if packed.factors is None or not _in_two_passes(spec, x, packed.factors, bias, out):
        row_filter.run(spec, x, row_filter.prepare(spec, packed.weight), bias, out)


class Prepared(NamedTuple):
    """All that a call needs beside its arrays and factors."""

    loops: Any
    floors: tuple[np.generic, np.generic]
    zeros: tuple[np.ndarray, np.ndarray]
    numbers: tuple[int, ...]
    lines: int
    tasks: int


@lru_cache(maxsize=1024)
def _prepared(spec: ConvSpec, threads: int) -> Prepared:
    passes, lanes = _passes(spec, threads), simd.lanes(spec.acc_dtype)
    pads = spec.padding[0][0], spec.padding[1][0]
    first, second = row_filter.blocking(passes.down), row_filter.blocking(passes.across, in_pairs=False)
    down, across = row_filter.tiles(first, passes.down, 0), row_filter.tiles(second, passes.across, pads[1])
    loops, reach = _loops(first.shape, down.inner, second.shape, across), row_filter.reach(second.shape, passes.across)
    return Prepared(
        loops=loops.sized(spec.flops),
        floors=(spec.lowest, spec.floor),
        zeros=(np.zeros(spec.w, spec.x_dtype), np.zeros(1, spec.acc_dtype)),
        numbers=(spec.groups, passes.band, *spec.stride, spec.dilation[1], *pads, reach, lanes),
        lines=_lines(spec, passes),
        tasks=spec.n * spec.c_out * -(-spec.oh // passes.band),
    )


def _in_two_passes(spec: ConvSpec, x: np.ndarray, factors: tuple, bias: np.ndarray, out: np.ndarray) -> bool:
    """Convolve; False if a sum is not finite."""
    this = _prepared(spec, num_threads())
    lines = scratch_rows(this.lines, spec.acc_dtype)
    signs = np.empty((this.tasks, simd.lanes(spec.acc_dtype)), spec.acc_dtype)
    has_activation = spec.activation is not None
    this.loops(x, *factors, bias, this.floors, out, this.zeros, lines, signs, this.numbers, has_activation)
    return spec.acc_dtype.kind != "f" or not signs.any()


@lru_cache(maxsize=64)
def _loops(first: Shape, inside: bool, second: Shape, tiles: row_filter.Tiles) -> Any:
    """The kernel for the tiles of both passes; `inside` tells whether those of the first lie in the image."""
    down_tile = row_tile(first, inside)
    edge, inner = row_tile(second, False), row_tile(second, True)
    all_inner, any_inner = not tiles.edge, tiles.inner  # constants, as in `row_filter`
    high, low, width = first.rows, second.rows, simd.register_bytes()
    wide, pixels_of = first.pixels(width), second.pixels(width)

    @kernel(key=(first, inside, second, tiles))
    def _separable(x, down, across, bias, floors, out, zeros, scratches, signs, numbers, has_activation):
        n, c_out, oh, ow = out.shape
        c_in, h, w = x.shape[1:]
        group, kh = down.shape[1], down.shape[2]
        groups, band, sh, sw, dw, pad_top, pad_left, reach, lanes = numbers
        lowest, floor = floors
        bands, step, pixels = (oh + band - 1) // band, wide // out.itemsize, pixels_of // out.itemsize
        kw, nothing = across.shape[2], out.dtype.type(0)
        zero, least = simd.splat(nothing), simd.splat(floor)
        for job in prange(n * c_out * bands):
            i0, plane = min(job % bands * band, oh - band), job // bands
            image, o = plane // c_out, plane % c_out
            line = scratches[numba.get_thread_id()]
            for c in range(group):
                at = (image * c_in + o // (c_out // groups) * group + c) * h * w
                for turn in range(0, band, high):
                    i = min(turn, band - high)
                    for begin in range(0, w, step):
                        col = max(0, min(begin, w - step))
                        corner, to = ((i0 + i) * sh - pad_top, col), (c * band + i) * w + col
                        down_tile(
                            x, at, zeros[0], (h, w), corner, (1, 1), 1, down, (o * group + c) * kh, (1, kh, 1),
                            nothing, lowest, line, to, w, w - col,
                        )  # fmt: skip
            start = (plane * oh + i0) * ow
            for turn in range(0, band, low):
                i = min(turn, band - low)
                for begin in range(0, ow, pixels):
                    j = max(0, min(begin, ow - pixels))
                    corner, to = (i, j * sw - pad_left), start + i * ow + j
                    if all_inner or (any_inner and corner[1] >= 0 and corner[1] + reach < w and j + pixels <= ow):
                        inner(
                            line, 0, zeros[1], (band, w), corner, (1, dw), sw, across, o * group * kw, (group, 1, kw),
                            bias[o], lowest, out, to, ow, pixels,
                        )  # fmt: skip
                    else:
                        edge(
                            line, 0, zeros[1], (band, w), corner, (1, dw), sw, across, o * group * kw, (group, 1, kw),
                            bias[o], lowest, out, to, ow, ow - j,
                        )  # fmt: skip
            # The band's rows lie one behind the other.
            total, whole = zero, band * ow // lanes * lanes
            for k in range(0, whole, lanes):
                value = simd.load(out, start + k)
                total = simd.fma(value, zero, total)
                if has_activation:
                    simd.store(out, start + k, simd.larger(value, least))
            if whole < band * ow:
                value = simd.load_part(out, start + whole, band * ow - whole)
                total = simd.fma(value, zero, total)
                if has_activation:
                    simd.store_part(out, start + whole, simd.larger(value, least), band * ow - whole)
            simd.store(signs, job * lanes, total)

    return _separable
