"""Mid-size and large kernels: blocks of the image by two-dimensional FFT, two real blocks as one complex one.

Overlap-save: a correlation is a product of spectra where no window meets the other end of its block::

    Z = x[block 2k] + i x[block 2k + 1]                                P x Q elements each
    z = inverse FFT of FFT(Z) * W,   W = conjugate of FFT(weight) / (P Q)
    out[block 2k] = bias + re z,  out[block 2k + 1] = bias + im z      the first P - kh + 1 rows, Q - kw + 1 columns

As weights are real, the two blocks do not mix, and the symmetry of real spectra need not be exploited.

What it changes over `fft`: `fft` keeps the sum over the kernel's rows, 2 * kh multiply-adds an output, and hands whole
rows to SciPy. Here a block stays in the second-level cache, and the transforms (`butterfly`) are of vectors, as many
transforms side by side as there are lanes: of columns as they lie, of rows after a transpose. A vector of outputs takes
some 50 instructions, whatever the kernel, times the ratio of a block to the part of it that is not overlap.

An output's error belongs to its own window, as of sums, and a NaN or an infinity reaches just the outputs that see it:
what a transform would spoil beside larger numbers is found and made again (`fastconv.cpu.shared.own_windows`).

Loop order: one task for each pair of blocks of a plane. It transforms the columns (`down`); then, `lanes` rows at a
time, transposes rows into the first-level cache, transforms them, multiplies by the weights, transforms them back
(`up`) and transposes them back; then transforms the columns back, and writes the result.

Measured, one core of an AMD EPYC 9004: 1024x1024 with 41x41 in float64 in 5.1 ms (`fft` 11.4, OpenCV's DFT 11.1);
512x512 with 41x41 in float32 in 0.47 ms (`fft` 1.4, OpenCV 3.5).

Sources: Oppenheim and Schafer, Discrete-Time Signal Processing, for overlap-save; Van Loan, as for `butterfly`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared import patch
from ..shared.own_windows import are_close, are_wild, cell_of, finish, marks, none_seen, seen_copied
from ..system import micro
from ..system.kernels import compiled, jit, kernel
from ..system.memory import scratch_rows, weights_array
from ..system.threads import num_threads
from ..tiles import simd
from ..tiles.butterfly import Transform, down, filtered_address, radices, transform, up

filters = True

#: Elements that a side of a block may have: whole vectors of at most 16 lanes, with factors that `butterfly` knows.
SIZES = tuple(n for n in range(16, 1025, 16) if 5**9 * 3**9 * 2**10 % n == 0 and n % 25 and n % 27)
#: Most bytes of a block: larger ones are far beyond a second-level cache.
LIMIT_BYTES = 8 << 20
#: Bytes of a block and its weights that stay near the core; with more a block takes `FAR` times as long.
NEAR_BYTES, FAR = 3 << 20, 1.6
#: Time, in vector instructions, that a pair of blocks takes whatever its size, and that each row or column of it adds.
PAIR, LINE = 9000, 90


class Blocking(NamedTuple):
    """The blocks that a plane is cut into."""

    size: tuple[int, int]
    """Rows and columns of a block."""
    blocks: tuple[int, int]
    """Blocks of the output, down and across."""


def supports(spec: ConvSpec) -> str | None:
    if spec.dtype.kind != "f":
        return "an FFT of integers is not exact"
    if spec.stride != (1, 1) or spec.dilation != (1, 1):
        return "only stride 1 and dilation 1"
    if spec.c_in != spec.groups:
        return f"each group must have one input channel; here {spec.c_in} in {spec.groups}"
    if max(spec.kh, spec.kw) > SIZES[-1] // 2 or _best(spec) is None:
        return f"the {spec.kh}x{spec.kw} kernel does not fit a block of {LIMIT_BYTES >> 20} MiB"
    return None


@lru_cache(maxsize=4096)
def _best(spec: ConvSpec) -> tuple[float, Blocking] | None:
    """The vector instructions of a plane and the blocking that takes fewest; None if no block fits. The number of
    threads does not matter: rounding depends on the blocking, and must not depend on threads."""
    lanes, item = simd.lanes(spec.acc_dtype), spec.acc_dtype.itemsize
    options = []
    columns = [(wide, across, _work(wide) + OTHER) for wide, across in _sides(spec.ow, spec.kw)]
    for high, down_ in _sides(spec.oh, spec.kh):
        each, most = _work(high), LIMIT_BYTES // (2 * item * high) - lanes
        for wide, across, other in columns:
            if wide > most:
                break
            work = high * wide // lanes * 2 * (each + other)
            if 4 * item * high * (wide + lanes) > NEAR_BYTES:
                work *= FAR
            options.append(((down_ * across + 1) // 2 * (work + PAIR + LINE * (high + wide)), high, wide))
    if not options:
        return None
    work, high, wide = min(options)
    blocks = -(-spec.oh // (high - spec.kh + 1)), -(-spec.ow // (wide - spec.kw + 1))
    return work, Blocking((high, wide), blocks)


def _sides(outputs: int, taps: int) -> list[tuple[int, int]]:
    """Pairs along an axis: a size of a block, and how many blocks that takes; of each number the smallest size."""
    found: dict[int, int] = {}
    for size in SIZES:
        if size >= taps:
            found.setdefault(-(-outputs // (size - taps + 1)), size)
    return [(size, count) for count, size in found.items()]


#: Vector instructions for an element in a step of a transform, by radix, loads and stores included; in the last step.
STEP_WORK, LAST_WORK = {2: 7, 3: 11, 4: 10, 5: 14, 8: 13}, 9
#: Vector instructions for an element beside its transforms: copies, transposes, the product.
OTHER = 12


@lru_cache(maxsize=64)
def _work(size: int) -> float:
    return LAST_WORK + sum(STEP_WORK[radix] for radix in radices(size))


def _found(spec: ConvSpec) -> tuple[float, Blocking]:
    """`_best` of a spec that is supported."""
    found = _best(spec)
    assert found is not None
    return found


def _blocking(spec: ConvSpec) -> Blocking:
    return _found(spec)[1]


def block(spec: ConvSpec) -> tuple[int, int]:
    """Rows and columns of a block."""
    return _blocking(spec).size


def instructions(spec: ConvSpec) -> float:
    """Vector instructions of a plane."""
    return _found(spec)[0]


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds."""
    work, _ = _found(spec)
    seconds = spec.n * spec.c_out * work * 32 / machine.row_tile_flops
    return machine.call + seconds / machine.threads


def prepare_cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: a kernel takes half as long as a pair of blocks."""
    work, plan = _found(spec)
    pairs = (math.prod(plan.blocks) + 1) // 2
    return machine.call + spec.c_out * work / pairs / 2 * 32 / machine.row_tile_flops


def scratch(spec: ConvSpec) -> int:
    return num_threads() * _sizes(_blocking(spec), spec.acc_dtype)[2] * spec.acc_dtype.itemsize


def _sizes(plan: Blocking, dtype: np.dtype) -> tuple[int, int, int]:
    """Elements of a block's real part, of the real part of `lanes` transposed rows, and of all memory of a task."""
    (high, wide), lanes = plan.size, simd.lanes(dtype)
    # Lines are a vector longer than they need be: at powers of two all elements of a column would share a cache set.
    block, line = high * (wide + lanes), (wide + 1) * lanes
    return block, line, 2 * block + 2 * line


class Packed(NamedTuple):
    """The kernels' spectra, the kernels, and whether these may not be transformed."""

    spectra: np.ndarray
    weight: np.ndarray
    wild: bool


class Ready(NamedTuple):
    """The transforms and addresses that the loops take for blocks of one size."""

    columns: Transform
    rows: Transform
    filtered: int
    transposed: int
    fill: int
    """Addresses of the other micro-kernels."""


@lru_cache(maxsize=64)
def _ready(size: tuple[int, int], dtype: np.dtype) -> Ready:
    columns, along_rows = (transform(side, dtype) for side in size)
    others = filtered_address(dtype), patch.transposed_address(dtype), patch.fill_address(dtype)
    return Ready(columns, along_rows, *others)


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    plan = _blocking(spec)
    sizes = _sizes(plan, spec.acc_dtype)
    spectra = weights_array((spec.c_out * 2 * math.prod(plan.size),), spec.acc_dtype)
    memory = scratch_rows(sizes[2], spec.acc_dtype)[0]
    ready = _ready(plan.size, spec.acc_dtype)
    _fft2d_weights(weight, spectra, memory, plan.size, sizes, ready, simd.lanes(spec.acc_dtype), patch.ONE_PHASE)
    return Packed(spectra, weight, are_wild(weight))


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    uneven = marks(spec, packed.wild)
    transformed(spec, x, packed, bias, out, uneven)
    finish(spec, x, packed.weight, bias, out, uneven)


def transformed(
    spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray, uneven: np.ndarray | None = None
) -> None:  # fmt: skip
    """Convolve, with an error that belongs to a whole block; tell in `uneven` where it may exceed that of sums."""
    plan, lanes = _blocking(spec), simd.lanes(spec.acc_dtype)
    sizes = _sizes(plan, spec.acc_dtype)
    scratches = scratch_rows(sizes[2], spec.acc_dtype)
    corner = spec.padding[0][0], spec.padding[1][0]
    inner = plan.size[0] - spec.kh + 1, plan.size[1] - spec.kw + 1
    ready = _ready(plan.size, spec.acc_dtype)
    told = np.zeros(spec.n, np.bool_) if uneven is None else uneven
    _fft2d.sized(spec.flops)(
        x, packed.spectra, bias, spec.floor, out, scratches, told, corner, plan.size, plan.blocks, inner, sizes,
        ready, lanes, patch.ONE_PHASE, cell_of(spec),
    )  # fmt: skip


@jit
def _zeros_round(memory, start, pitch, high, begin, shape, lanes):
    """Write zeros round a rectangle in a block of `high` rows, where its own rows are whole vectors."""
    (above, before), (rows, columns) = begin, shape
    patch.zeros(memory, start, above * pitch, lanes)
    end = before + (columns + lanes - 1) // lanes * lanes
    for row in range(above, above + rows):
        patch.zeros(memory, start + row * pitch, before, lanes)
        patch.zeros(memory, start + row * pitch + end, pitch - end, lanes)
    patch.zeros(memory, start + (above + rows) * pitch, (high - above - rows) * pitch, lanes)


@jit
def _transpose_rows(transposed, memory, at, lines, size, sizes, lanes):
    """Transpose `lanes` rows of a block, real and imaginary parts, to `lines`."""
    wide = size[1]
    for part in range(2):
        here, there = at + part * sizes[0], lines + part * sizes[1]
        micro.call(transposed, memory, here, wide + lanes, lanes, wide, memory, there, lanes)


@compiled
def _fft2d_weights(weight, spectra, memory, size, sizes, ready, lanes, one):
    """Compute the spectra of all kernels, as `butterfly.filtered` takes them."""
    high, wide = size
    kh, kw = weight.shape[2:]
    block, line = sizes[0], sizes[1]
    pitch, lines = wide + lanes, 2 * block
    scale = simd.splat(weight.dtype.type(1) / weight.dtype.type(high * wide))
    minus = simd.splat(weight.dtype.type(-1)) * scale
    (column_steps, column_factors), (steps, factors) = ready.columns, ready.rows
    for o in range(weight.shape[0]):
        micro.call(
            ready.fill, weight, o * kh * kw, kh, kw, 0, 0, 1, high, one, one, 1, 1, pitch, memory, 0
        )
        patch.zeros(memory, block, block, lanes)
        for column in range(0, wide, lanes):
            down(memory, column, pitch, block, column_steps, column_steps.shape[0], column_factors)
        for row in range(0, high, lanes):
            _transpose_rows(ready.transposed, memory, row * pitch, lines, size, sizes, lanes)
            down(memory, lines, lanes, line, steps, steps.shape[0], factors)
            to = (o * high + row) * wide * 2
            for column in range(wide):
                at = lines + column * lanes
                simd.store(spectra, to + 2 * column * lanes, simd.load(memory, at) * scale)
                simd.store(spectra, to + (2 * column + 1) * lanes, simd.load(memory, at + line) * minus)


@kernel
def _fft2d(
    x, spectra, bias, floor, out, scratches, uneven, corner, size, blocks, inner, sizes, ready, lanes, one, cell
):
    n, c_out, oh, ow = out.shape
    h, w = x.shape[2:]
    (high, wide), (tall, broad) = size, inner
    block, line = sizes[0], sizes[1]
    pitch, lines, multiplier = wide + lanes, 2 * block, c_out // x.shape[1]
    pairs = (blocks[0] * blocks[1] + 1) // 2
    (column_steps, column_factors), (steps, factors) = ready.columns, ready.rows
    least = simd.splat(floor)
    for job in prange(n * c_out * pairs):
        pair, plane = job % pairs, job // pairs
        count = min(2, blocks[0] * blocks[1] - 2 * pair)
        memory = scratches[numba.get_thread_id()]
        extremes = none_seen(memory)
        for part in range(count):
            number, to = 2 * pair + part, part * block
            top, left = number // blocks[1] * tall - corner[0], number % blocks[1] * broad - corner[1]
            above, before = min(max(0, -top), high), min(max(0, -left), wide)
            seen = max(0, min(h - top, high) - above), max(0, min(w - left, wide) - before)
            at = (plane // multiplier * h + top + above) * w + left + before
            goal = to + above * pitch + before
            extremes = seen_copied(extremes, x, at, w, seen, cell, memory, goal, pitch, lanes)
            _zeros_round(memory, to, pitch, high, (above, before), seen, lanes)
        if not are_close(extremes):  # of both blocks: one transform rounds them
            uneven[plane // c_out] = True
        if count < 2:
            patch.zeros(memory, block, block, lanes)
        for column in range(0, wide, lanes):
            down(memory, column, pitch, block, column_steps, column_steps.shape[0], column_factors)
        for row in range(0, high, lanes):
            _transpose_rows(ready.transposed, memory, row * pitch, lines, size, sizes, lanes)
            down(memory, lines, lanes, line, steps, steps.shape[0] - 1, factors)
            at = (plane % c_out * high + row) * wide * 2
            micro.call(ready.filtered, memory, lines, lanes, line, wide, spectra, at)
            up(memory, lines, lanes, line, steps, steps.shape[0] - 1, factors)
            for part in range(2):
                here, there = row * pitch + part * block, lines + part * line
                micro.call(ready.transposed, memory, there, lanes, wide, lanes, memory, here, pitch)
        for column in range(0, broad, lanes):
            up(memory, column, pitch, block, column_steps, column_steps.shape[0], column_factors)
        shift = simd.splat(bias[plane % c_out])
        for part in range(count):
            number = 2 * pair + part
            i, j = number // blocks[1] * tall, number % blocks[1] * broad
            width = min(broad, ow - j)
            whole = width // lanes * lanes
            for row in range(min(tall, oh - i)):
                at, to = part * block + row * pitch, (plane * oh + i + row) * ow + j
                for column in range(0, whole, lanes):
                    value = simd.load(memory, at + column)
                    simd.store(out, to + column, simd.larger(value + shift, least))
                if whole < width:
                    value = simd.load_part(memory, at + whole, width - whole)
                    simd.store_part(out, to + whole, simd.larger(value + shift, least), width - whole)
