"""Large kernels on short rows: rows are transformed by a product with a matrix, in registers, and summed as spectra.

A correlation along a row is a product of spectra; down the kernel's rows and over the channels it stays a sum::

    X[n, c, r, f] = sum over p of forward[p, f] * x[n, c, r, p]
    Y[n, o, i, f] = sum over c, a of W[o, c, a, f] * X[n, first + c, i * stride_h - top + a * dilation_h, f]
    out[n, o, i, j] = bias[o] + sum over f of inverse[f, j] * Y[n, o, i, f]

What it changes over `fft`: the transforms. A fast transform of L numbers takes some 5 L log2 L operations, in short
loops with strides. A product with a matrix takes 2 L for each number that goes in or is wanted, at the full rate of the
register tile: less time for up to some 100 numbers (rows of 28 by 31x31: a quarter). It reads x in place, computes only
columns that exist and are wanted (with stride 2 every other one), and writes no array between the steps: the sums of a
few rows are transformed back from the first-level cache. The weights are transformed by a product, too.

The frequencies are f + 1/2, f = 0 ... L / 2 - 1. A real row has L / 2 complex values there, none of them real, so all
lanes do equal work, and L may be any even number. Pixels that wrap around from a row's other end change their sign; as
in `fft`, L is so large that only zeros wrap around. Wider images are cut into blocks of columns.

An output's error belongs to its own window, as of sums, and a NaN or an infinity reaches just the outputs that see it:
what a transform would spoil beside larger numbers is found and made again (`fastconv.cpu.shared.own_windows`).

Measured: 128 planes of 28x28 by 31x31, float32, in 0.40 ms (`fft` 0.99 ms, `depthwise` 1.95 ms; a core of an EPYC
9004).

Loop order: a task is a band of rows of a block of columns, of one image and group. It transforms the rows of its input
channels; their spectra stay in the second-level cache. Then, for OUTS output channels at a time, it sums over the taps
(`spectral_tile`), a few rows by a vector of frequencies at a time, whose input the first-level cache keeps for all
these channels; and it transforms the sums back.

Sources: Mathieu et al., as for `fft`; Li et al., tcFFT, arXiv:2104.11471, for short transforms as matrix products.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.own_windows import add_energies, are_even, are_wild, cell_of, channel_is_even, finish, marks, room
from ..shared.patch import zeros
from ..system import micro
from ..system.kernels import jit, kernel
from ..system.memory import scratch_rows, weights_array
from ..system.threads import num_threads
from ..tiles import simd
from ..tiles.spectral_tile import row_product_address, spectral_rows, spectral_tile_address

filters = True

#: Numbers of the longest transform: its matrices, 64 KiB each in float32, stay in the second-level cache.
MOST = 128
#: Bytes of a task's spectra: the goal, half of a 1 MiB second-level cache, and the most that a thread may take.
GOAL_BYTES, LIMIT_BYTES = 512 << 10, 4 << 20
#: Output channels whose sums a task keeps at a time, before it transforms them back.
OUTS = 8


class Cut(NamedTuple):
    """The blocks of columns, bands of rows and register tiles that a problem is cut into."""

    length: int
    """Numbers of a transform: whole register tiles."""
    block: int
    """Output columns of a task."""
    rows: int
    """Rows of a register tile."""
    wide: tuple[int, int]
    """Vectors of a register tile: of the transform forth, and of the transform back."""
    band: int
    """Output rows of a task, whole tiles."""
    shares: int
    """Tasks that split the output channels of one band."""


def supports(spec: ConvSpec) -> str | None:
    if spec.dtype.kind != "f":
        return "a transform of integers is not exact"
    if spec.stride[0] > spec.kh or spec.stride[1] > spec.kw:
        return f"stride {spec.stride} steps over pixels that the {spec.kh}x{spec.kw} kernel never sees"
    if not _row(spec)[0]:
        return f"a row of {spec.w} pixels and a kernel of {spec.kw} need more than {MOST} frequencies"
    if _memory(spec, _cut(spec, MOST_TASKS)) * spec.acc_dtype.itemsize > LIMIT_BYTES:
        return f"the spectra of one tile of rows would take more than {LIMIT_BYTES >> 20} MiB"
    return None


#: More threads than any machine has: for so many, `_cut` makes the smallest tasks.
MOST_TASKS = 1 << 30


@lru_cache(maxsize=4096)
def _row(spec: ConvSpec) -> tuple[int, int]:
    """Length of the transform and output columns of a block that take the least work; zeros if it would be too long.

    For each length of a transform, forth or back, only the least number of blocks that it allows is tried.
    """
    lanes, reach = simd.lanes(spec.acc_dtype), (spec.kw - 1) * spec.dilation[1] + 1
    lengths = [vectors * lanes for vectors in range(2, MOST // lanes + 1) if not (vectors % 2 and vectors % 3)]
    largest = [(length - reach) // spec.stride[1] + 1 for length in lengths] + lengths
    numbers = {1} | {-(-spec.ow // block) for block in largest if block > 0}
    best, least = (0, 0), np.inf
    for blocks in sorted(number for number in numbers if number <= -(-spec.ow // lanes)):
        block = -(-spec.ow // blocks)
        length = _whole(_shortest(spec, block), lanes)
        if length <= MOST:
            each = _row_work(spec, length, block, lanes)
            work = -(-spec.ow // block) * (spec.c_in * spec.h * each[0] + spec.c_out * spec.oh * (each[1] + each[2]))
            if work < least:
                best, least = (length, block), work
    return best


def _shortest(spec: ConvSpec, block: int) -> int:
    """Least length of a transform in which no window meets pixels from the other end of the row."""
    span = (block - 1) * spec.stride[1] + (spec.kw - 1) * spec.dilation[1] + 1
    if block < spec.ow:
        return span
    left = spec.padding[1][0]
    return max(min(span, spec.w + left), span - left, (block - 1) * spec.stride[1] + 1)


def _whole(size: int, lanes: int) -> int:
    """`size` rounded up to whole register tiles of two or three vectors."""
    vectors = -(-size // lanes)
    while vectors % 2 and vectors % 3:
        vectors += 1
    return vectors * lanes


def _wide(size: int, lanes: int) -> int:
    return 3 if size // lanes % 3 == 0 else 2


def _row_work(spec: ConvSpec, length: int, block: int, lanes: int) -> tuple[float, float, float]:
    """Vector multiply-adds of a row of a block: to transform an input row; to make the products of an output row; and
    to transform an output row back."""
    span = (block - 1) * spec.stride[1] + (spec.kw - 1) * spec.dilation[1] + 1
    vectors = length // lanes
    taps = spec.c_in // spec.groups * spec.kh
    return min(span, spec.w) * vectors, 2 * taps * vectors, length * (_whole(block, lanes) // lanes)


@lru_cache(maxsize=4096)
def _cut(spec: ConvSpec, threads: int) -> Cut:
    """The cut whose bands' spectra fit the cache, with enough tasks for all threads."""
    lanes = simd.lanes(spec.acc_dtype)
    length, block = _row(spec)
    most = spectral_rows()
    tile = min((most, most - 1), key=lambda tile: -(-spec.oh // tile) * (tile + 1))
    cut = Cut(length, block, tile, (_wide(length, lanes), _wide(_whole(block, lanes), lanes)), tile, 1)
    tiles = -(-spec.oh // tile)
    room = GOAL_BYTES // (spec.acc_dtype.itemsize * length) - _memory(spec, cut) // length  # rows beside one tile's
    count = max(1, min(tiles, room // (spec.c_in // spec.groups * spec.stride[0] * tile) + 1))
    others = max(1, spec.n * spec.groups * -(-spec.ow // block))
    # Rows that two bands share are transformed twice: more bands than the cache wants only where threads would idle.
    bands = max(-(-tiles // count), min(tiles, -(-threads // others)))
    cut = cut._replace(band=-(-tiles // bands) * tile)
    tasks = others * -(-spec.oh // cut.band)
    return cut._replace(shares=1 if tasks >= threads else min(spec.c_out // spec.groups, -(-threads // tasks)))


def _lines(spec: ConvSpec, cut: Cut) -> int:
    """Input rows of a band."""
    return (cut.band - 1) * spec.stride[0] + (spec.kh - 1) * spec.dilation[0] + 1


def _memory(spec: ConvSpec, cut: Cut) -> int:
    """Numbers in a task's spectra: those of its input, and of one tile of rows of up to OUTS output channels."""
    outs = min(OUTS, spec.c_out // spec.groups)
    return (spec.c_in // spec.groups * _lines(spec, cut) + outs * cut.rows) * cut.length


def scratch(spec: ConvSpec) -> int:
    threads = num_threads()
    return threads * _memory(spec, _cut(spec, threads)) * spec.acc_dtype.itemsize


#: Times in units of a vector multiply-add: to begin and end a register tile; of a multiply-add of the products, whose
#: operands mostly come from the second-level cache (fitted on an AMD EPYC 9004); and of one with 16 registers (Zen 3).
TILE, PRODUCT, NARROW_PRODUCT = 20, 1.15, 1.5
#: Time of a transform's multiply-add, in units of a vector multiply-add: operands may come from farther, or be masked.
#: And how many times as long float64 takes: its matrices and spectra exceed the first-level cache. (From 100 problems.)
TRANSFORM, DOUBLE = 1.4, 1.4


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds, from the vector instructions of each step."""
    cut, lanes = _cut(spec, machine.threads), simd.lanes(spec.acc_dtype)
    forth, products, back = _row_work(spec, cut.length, cut.block, lanes)
    blocks, bands = -(-spec.ow // cut.block), -(-spec.oh // cut.band)
    tiles = spec.n * blocks * bands * -(-cut.band // cut.rows)  # of output rows, in each channel
    lines = spec.n * blocks * spec.c_in * cut.shares * min(bands * _lines(spec, cut), spec.h + (bands - 1) * spec.kh)
    vectors, pieces = cut.length // lanes, _whole(cut.block, lanes) // lanes / cut.wide[1]
    work = TRANSFORM * lines * (forth + TILE * vectors / cut.wide[0] / cut.rows)
    product = PRODUCT if simd.registers() > 16 else NARROW_PRODUCT
    work += spec.c_out * tiles * (cut.rows * (product * products + TRANSFORM * back) + TILE * (vectors + pieces))
    if spec.acc_dtype.itemsize == 8:
        work *= DOUBLE
    return machine.call + work * 32 / machine.tile_flops / machine.threads


def prepare_cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds to multiply the kernels' rows by a matrix, and to write the spectra."""
    length, _ = _row(spec)
    lines, size = spec.c_out * spec.taps // spec.kw, spec.acc_dtype.itemsize
    products = lines * spec.kw * length // simd.lanes(spec.acc_dtype) * 32 / machine.tile_flops
    return machine.call + (products + lines * length * size / machine.pack_bandwidth) / machine.threads


class Packed(NamedTuple):
    """Weights made ready, and all else of a call that does not depend on its input."""

    loops: Any
    forth: tuple[int, int]
    """Addresses of the micro-kernels that transform `Cut.rows` rows, and one row."""
    products: int
    back: int
    """Addresses of the micro-kernels of the sums over taps, and of the transform back."""
    spectra: np.ndarray
    """The kernels' spectra, (c_out, c_in / groups * kh, length)."""
    weight: np.ndarray
    forward: np.ndarray
    inverse: np.ndarray
    offsets: np.ndarray
    """Elements in the spectra of a task's input from the first tap (c, a) to each."""
    sizes: tuple[int, ...]
    tasks: int
    memory: int
    wild: bool = False
    """Whether the weights may not be transformed."""


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    cut = _cut(spec, num_threads())
    packed = _unpacked(spec, cut)
    spectra = weights_array((spec.c_out, packed.offsets.size, cut.length), spec.acc_dtype)
    matrix = _matrix(spec.kw, cut.length, spec.dilation[1], spec.acc_dtype)
    transform = _dft_weights.sized(2 * spectra.size * spec.kw)
    transform(packed.forth, cut.rows, weight.reshape(-1), matrix.reshape(-1), spectra, spec.kw)
    return packed._replace(spectra=spectra, weight=weight, wild=are_wild(weight))


@lru_cache(maxsize=1024)
def _unpacked(spec: ConvSpec, cut: Cut) -> Packed:
    """`Packed` without weights; cached, because a plain `conv2d` call packs every time."""
    length, lanes, c_in = cut.length, simd.lanes(spec.acc_dtype), spec.c_in // spec.groups
    width = _whole(cut.block, lanes)
    inverse = np.zeros((length, width), spec.acc_dtype)
    inverse[:, : cut.block] = 2 / length * _matrix(cut.block, length, spec.stride[1], np.dtype(np.float64)).T
    inverse[1::2] *= -1
    forward = _matrix(length, length, 1, spec.acc_dtype).copy()
    forward[:, 1::2] *= -1
    lines = _lines(spec, cut)
    channel, row = np.ogrid[:c_in, : spec.kh]
    tasks = spec.n * spec.groups * -(-spec.ow // cut.block) * -(-spec.oh // cut.band) * cut.shares
    forth = partial(row_product_address, vectors=cut.wide[0], dtype=spec.acc_dtype)
    return Packed(
        loops=_dft_loops.sized(spec.flops),
        forth=(forth(cut.rows), forth(1)),
        products=spectral_tile_address(cut.rows, spec.acc_dtype),
        back=row_product_address(cut.rows, cut.wide[1], spec.acc_dtype),
        spectra=np.empty(0),
        weight=np.empty(0),
        forward=forward.reshape(-1),
        inverse=inverse.reshape(-1),
        offsets=(channel * lines * length + row * spec.dilation[0] * length).reshape(-1),
        sizes=(
            *(spec.groups, spec.kh, cut.rows, cut.block, cut.band, cut.shares, lines, length, width, lanes),
            (spec.kw - 1) * spec.dilation[1] + 1,
            *spec.stride,
            spec.dilation[0],
            spec.padding[0][0],
            spec.padding[1][0],
        ),
        tasks=tasks,
        memory=_memory(spec, cut) + room((lines, spec.w), cell_of(spec), lanes),
    )


@lru_cache(maxsize=256)
def _matrix(size: int, length: int, step: int, dtype: np.dtype) -> np.ndarray:
    """The cosine and, beside it, the sine of each frequency f + 1/2 (columns) at each position * step (rows)."""
    half_turns = np.outer(np.arange(size, dtype=np.int64) * step, np.arange(1, length, 2)) % (2 * length)
    angles = half_turns * (np.pi / length)
    return np.stack((np.cos(angles), np.sin(angles)), -1).reshape(size, length).astype(dtype)


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    uneven = marks(spec, packed.wild)
    packed.loops(
        packed.forth, packed.products, packed.back, x, packed.forward, packed.inverse, packed.offsets, packed.spectra,
        bias, spec.floor, out, scratch_rows(packed.memory, x.dtype), uneven, packed.tasks, packed.sizes, cell_of(spec),
    )  # fmt: skip
    finish(spec, x, packed.weight, bias, out, uneven)


@jit
def _dft_rows(forth, tile, x, at, row_step, count, steps, matrix, matrix_at, length, to, out):
    """Transform `count` rows of `steps` numbers; the last tile is moved back to end where they end."""
    zero, least = out.dtype.type(0), out.dtype.type(-np.inf)
    several, one = forth
    call, high = (several, tile) if count >= tile else (one, 1)
    for i in range(0, count, high):
        r = min(i, count - high)
        micro.call(call, x, at + r * row_step, row_step, steps, matrix, matrix_at, length, zero, least, out,
                   to + r * length, length, high, length)  # fmt: skip


@kernel
def _dft_weights(forth, tile, weight, matrix, spectra, kw):
    c_out, taps, length = spectra.shape
    for o in prange(c_out):
        _dft_rows(forth, tile, weight, o * taps * kw, kw, taps, kw, matrix, 0, length, o * taps * length, spectra)


@jit
def _fetch_next(x, at, pitch, shape, lanes):
    """Bring a rectangle, the next channel's, into the cache: no hardware foresees short runs of rows far apart."""
    for r in range(shape[0]):
        for i in range(0, shape[1] + lanes - 1, lanes):
            simd.fetch(x, at + r * pitch + i)


@jit
def _dft_task(job, forth, products, back, x, forward, inverse, offsets, spectra, bias, floor, out, memory, sizes, cell):
    """Compute one task; False if its input's energies differ so much that outputs may be spoiled."""
    groups, kh, tile, block, band, shares, lines, length, width, lanes, reach = sizes[:11]
    stride_h, stride_w, dilation, top, left = sizes[11:]
    c_all, h, w = x.shape[1:]
    c_out, oh, ow = out.shape[1:]
    c_in, outs, taps = c_all // groups, c_out // groups, offsets.size
    high, across = (oh + band - 1) // band, (ow + block - 1) // block
    share, job = job % shares, job // shares
    i0, job = job % high * band, job // high
    j0, job = job % across * block, job // across
    group, image = job % groups, job // groups
    columns = min(block, ow - j0)

    # The rectangle of the image that the task sees: columns begin + first ... begin + last, rows above ... below.
    begin, start = j0 * stride_w - left, i0 * stride_h - top
    first = max(0, -begin)
    last = min((columns - 1) * stride_w + reach, w - begin)
    above = min(max(0, -start), lines)
    below = max(above, min(lines, h - start)) if first < last else above
    rectangle, energies, empty = (below - above, last - first), c_in * lines * length, first >= last or above >= below
    even = True
    for c in range(c_in):
        to = c * lines * length
        zeros(memory, to, above * length, lanes)
        zeros(memory, to + below * length, (lines - below) * length, lanes)
        at = ((image * c_all + group * c_in + c) * h + start + above) * w + begin + first
        if c + 1 < c_in and not empty:
            _fetch_next(x, at + h * w, w, rectangle, lanes)
        _dft_rows(forth, tile, x, at, w, below - above, last - first, forward, first * length, length,
                  to + above * length, memory)  # fmt: skip
        if c_in == 1:  # the rectangle is in the first-level cache now
            even = empty or channel_is_even(x, at, w, rectangle, cell, lanes)
        elif not empty:
            add_energies(x, at, w, rectangle, cell.high, memory, energies, lanes, c == 0)

    if c_in > 1:
        even = empty or are_even(memory, energies, rectangle, cell, lanes)
    sums = c_in * lines * length
    end = (share + 1) * outs // shares
    for o0 in range(share * outs // shares, end, OUTS):
        some = min(OUTS, end - o0)
        for t in range(0, min(band, oh - i0), tile):
            a, b = 0, taps
            if c_in == 1:  # taps that all see rows of zeros are left out
                a = min(max(0, -((t + tile - 1) * stride_h - above) // dilation), kh - 1)
                b = max(a + 1, min(kh, -((t * stride_h - below) // dilation)))
            weights = ((group * outs + o0) * taps + a) * length
            micro.call(products, memory, t * stride_h * length, stride_h * length, offsets[a:b], spectra, weights,
                       length, memory, sums, length, length, some, taps * length, tile * length)  # fmt: skip
            for k in range(some):
                o = group * outs + o0 + k
                to = ((image * c_out + o) * oh + i0 + t) * ow + j0
                micro.call(back, memory, sums + k * tile * length, length, length, inverse, 0, width, bias[o], floor,
                           out, to, ow, oh - i0 - t, columns)  # fmt: skip
    return even


@kernel
def _dft_loops(
    forth, products, back, x, forward, inverse, offsets, spectra, bias, floor, out, scratches, uneven, tasks, sizes,
    cell,
):
    each = tasks // x.shape[0]
    for job in prange(tasks):
        memory = scratches[numba.get_thread_id()]
        if not _dft_task(
            job, forth, products, back, x, forward, inverse, offsets, spectra, bias, floor, out, memory, sizes, cell
        ):
            uneven[job // each] = True
