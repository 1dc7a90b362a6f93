"""Large kernels: the rows transformed by FFT, the sum over the kernel's rows and the channels made in the spectrum.

A correlation along a row is a product of spectra; down the kernel's rows and over the channels it stays a sum::

    Y[n, o, i, f] = sum over c, a of W[o, c, a, f] * X[n, first + c, i * stride_h - top + a * dilation_h, f]
    out[n, o, i, j] = bias[o] + inverse FFT of Y[n, o, i] at j * stride_w

    X = FFT of the rows of x, W = FFT of the rows of the kernels, turned around and placed such that `left` falls away

What it changes over `image`: an output costs 2 * kh multiply-adds in place of kh * kw, and a share of two short FFTs,
which are made once however many rows and output channels use them. With two-dimensional FFTs only the sum over channels
would be left, but their second half costs as much as the sum over 60 rows of a kernel, and rules out a vertical stride.

Zeros around a row are shared by both its ends, for an FFT is circular: 28 columns padded by 15 on both sides need 43,
not 58. The columns that a horizontal stride steps over are computed and dropped.

An output's error belongs to its own window, as of sums, and a NaN or an infinity reaches just the outputs that see it:
what a transform would spoil beside larger numbers is found and made again (`fastconv.cpu.shared.own_windows`).

Loop order: steps of some images, groups and a band of rows, whose spectra stay in the second-level cache; in a step
SciPy's transforms (pocketfft), then each output channel and tile of rows (`spectral_tile`). Threads share the steps:
SciPy's own threads do two transforms of 150 us on two cores no faster than one core does.

Measured: 512x512 with 31x31, float32, in 1.35 ms, of which the two transforms take half (`image` 5.0 ms, OpenCV's DFT
3.7 ms; a core of an EPYC 9005).

Source: Mathieu, Henaff and LeCun, Fast training of convolutional networks through FFTs, arXiv:1312.5851, for sums over
channels in the spectrum.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numba
import numpy as np

from ...specs.conv import ConvSpec
from ..machine import Machine
from ..shared.own_windows import are_wild, finish, look, marks
from ..system import kernels, micro
from ..system.kernels import compiled
from ..system.memory import scratch_rows
from ..system.threads import in_threads, num_threads
from ..tiles import simd
from ..tiles.spectral_tile import spectral_rows, spectral_tile_address

filters = True

#: Bytes of spectra in one step: caches hold them, and their transforms take long beside the calls into SciPy (10 us).
STEP_BYTES = 2 << 20
#: Most bytes of scratch that one step may take, and all threads together.
LIMIT_BYTES, ALL_LIMIT_BYTES = 64 << 20, 256 << 20
#: A thread of Python's must get WAKE times the operations that pay for one of Numba's: it takes 0.1 ms to wake.
WAKE = 40


class Steps(NamedTuple):
    """The steps that a problem is cut into."""

    length: int
    """Real numbers of an FFT."""
    pitch: int
    """Real numbers from one row of a spectrum to the next: whole vectors."""
    tile: int
    """Rows of a register tile."""
    images: int
    groups: int
    band: int
    """Images, groups and output rows of a step; the rows are whole tiles."""
    lines: int
    """Input rows of a step."""


def supports(spec: ConvSpec) -> str | None:
    if spec.dtype.kind != "f":
        return "an FFT of integers is not exact"
    if spec.stride[0] > spec.kh or spec.stride[1] > spec.kw:
        return f"stride {spec.stride} steps over pixels that the {spec.kh}x{spec.kw} kernel never sees"
    if _shortest(spec) * spec.acc_dtype.itemsize > LIMIT_BYTES or _step_bytes(spec, _steps(spec, 1)) > LIMIT_BYTES:
        return f"the spectra of one tile of rows would take more than {LIMIT_BYTES >> 20} MiB"
    return None


def _shortest(spec: ConvSpec) -> int:
    """Least length of an FFT in which no window meets pixels from the other end of the row."""
    left = spec.padding[1][0]
    columns = (spec.ow - 1) * spec.stride[1] + 1
    end = columns - left + (spec.kw - 1) * spec.dilation[1]
    return max(spec.w + left, end, columns)


def _fast(length: int) -> int:
    """The least even number from `length` on without prime factors above five: the least multiple by a power of two of
    any product of threes and fives, of which there are some hundred up to the longest row that `supports` allows."""
    best = 2 << (length - 1).bit_length()
    fives = 2
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << (-(-length // odd) - 1).bit_length())
            odd *= 3
        fives *= 5
    return best


@lru_cache(maxsize=4096)
def _steps(spec: ConvSpec, threads: int) -> Steps:
    """The steps whose spectra fit the cache, and that are enough for all threads."""
    length = _fast(_shortest(spec))
    lanes = simd.lanes(spec.acc_dtype)
    pitch = -(-(length // 2 + 1) * 2 // lanes) * lanes
    most = spectral_rows()
    tile = min((most, most // 2), key=lambda tile: -(-spec.oh // tile) * (tile + 1))
    goal = STEP_BYTES // (pitch * spec.acc_dtype.itemsize)  # rows of spectra, of x and of the output
    steps = _cut(spec, Steps(length, pitch, tile, 1, 1, 1, 1), goal)
    while _count(spec, steps) < threads and goal > 1:
        goal //= 2
        steps = _cut(spec, steps, goal)
    return steps


def _cut(spec: ConvSpec, steps: Steps, goal: int) -> Steps:
    """The steps with images, groups and bands such that each has about `goal` rows of spectra."""
    tile, down, reach = steps.tile, spec.stride[0], (spec.kh - 1) * spec.dilation[0] + 1
    c_in, c_out = spec.c_in // spec.groups, spec.c_out // spec.groups

    def lines(band: int) -> int:
        return (band - 1) * down + reach

    whole = -(-spec.oh // tile) * tile
    band = (goal - c_in * lines(1)) // (c_in * down + c_out)
    # The rows that two bands share are transformed twice: no shorter than the kernel.
    band = min(whole, -(-max(band, reach // down, 1) // tile) * tile)
    band = -(-whole // tile // -(-whole // band)) * tile  # bands of equal height
    each = c_in * lines(band) + c_out * band
    groups = max(1, min(spec.groups, goal // each)) if band == whole else 1
    images = max(1, min(spec.n, goal // (each * groups))) if groups == spec.groups and band == whole else 1
    return steps._replace(images=images, groups=groups, band=band, lines=lines(band))


def _count(spec: ConvSpec, steps: Steps) -> int:
    """Number of steps of a problem."""
    return -(-spec.oh // steps.band) * -(-spec.n // steps.images) * -(-spec.groups // steps.groups)


def _shares(spec: ConvSpec, threads: int) -> int:
    """Number of threads that pay, and that the scratch allows."""
    most = max(1, int(min(threads, spec.flops / max(1, WAKE * kernels.PARALLEL_OPERATIONS))))
    return max(1, min(most, ALL_LIMIT_BYTES // _step_bytes(spec, _steps(spec, 1)), _count(spec, _steps(spec, most))))


def cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds: transforms of all rows, multiply-adds in the spectrum, and calls into SciPy."""
    shares = _shares(spec, machine.threads)
    steps = _steps(spec, shares)
    size, lanes = spec.acc_dtype.itemsize, simd.lanes(spec.acc_dtype)
    bands = -(-spec.oh // steps.band)
    lines = spec.n * (spec.c_in * spec.h + spec.c_out * spec.oh)
    transforms = lines * steps.length * size / machine.fft_bandwidth
    sums = spec.n * spec.c_out * bands * steps.band * steps.pitch * spec.c_in // spec.groups * spec.kh
    products = 1.5 * 4 * sums / (machine.row_tile_flops * lanes / 16)  # operands come from a farther cache
    return (4 * _count(spec, steps) * machine.call + transforms + products) / shares


def prepare_cost(spec: ConvSpec, machine: Machine) -> float:
    """Estimated seconds of the FFTs of all kernels' rows into new memory, which takes three times as long as in place
    (measured on an AMD EPYC 9004)."""
    size = spec.c_out * spec.taps // spec.kw * _steps(spec, 1).length * spec.acc_dtype.itemsize
    return 4 * machine.call + 3 * size / machine.fft_bandwidth


def scratch(spec: ConvSpec) -> int:
    shares = _shares(spec, num_threads())
    return shares * _step_bytes(spec, _steps(spec, shares))


def _step_bytes(spec: ConvSpec, steps: Steps) -> int:
    """Bytes of a step: the spectra of input and output, SciPy's copies of both, and the padded input."""
    seen, sums = _sizes(spec, steps)
    return (3 * seen + 2 * sums) * spec.acc_dtype.itemsize


def _sizes(spec: ConvSpec, steps: Steps) -> tuple[int, int]:
    """Real numbers in the spectra of a step's input and output."""
    row = steps.images * steps.groups * steps.pitch
    return row * (spec.c_in // spec.groups) * steps.lines, row * (spec.c_out // spec.groups) * steps.band


@lru_cache(maxsize=1024)
def _offsets(spec: ConvSpec, steps: Steps) -> np.ndarray:
    """Elements in the spectra of a step's input from the first tap (c, a) to each."""
    channel, row = np.ogrid[: spec.c_in // spec.groups, : spec.kh]
    return (channel * steps.lines * steps.pitch + row * spec.dilation[0] * steps.pitch).reshape(-1)


class Packed(NamedTuple):
    """The kernels' spectra, (c_out, c_in / groups * kh, pitch), the kernels, and the address of the register tile."""

    spectra: np.ndarray
    weight: np.ndarray
    products: int
    wild: bool
    """Whether the kernels may not be transformed."""


def prepare(spec: ConvSpec, weight: np.ndarray) -> Packed:
    from scipy.fft import rfft

    steps = _steps(spec, 1)  # length, pitch and tile do not depend on the number of threads
    taps = spec.c_in // spec.groups * spec.kh
    spectra = np.zeros((spec.c_out, taps, steps.pitch), spec.acc_dtype)
    # Taps that share a place never see the image.
    places = (spec.padding[1][0] - np.arange(spec.kw) * spec.dilation[1]) % steps.length
    block = max(1, STEP_BYTES // (taps * steps.pitch * spec.acc_dtype.itemsize))
    for o in range(0, spec.c_out, block):
        part = weight[o : o + block].reshape(-1, taps, spec.kw)
        reversed_rows = np.zeros((*part.shape[:2], steps.length), spec.acc_dtype)
        reversed_rows[..., places] = part
        _complex(spectra[o : o + block])[..., : steps.length // 2 + 1] = rfft(reversed_rows)
    return Packed(spectra, weight, spectral_tile_address(steps.tile, spec.acc_dtype), are_wild(weight))


def _complex(numbers: np.ndarray) -> np.ndarray:
    """Pairs of real numbers as complex ones, no copy."""
    return numbers.view(np.complex64 if numbers.itemsize == 4 else np.complex128)


def run(spec: ConvSpec, x: np.ndarray, packed: Packed, bias: np.ndarray, out: np.ndarray) -> None:
    shares = _shares(spec, num_threads())
    steps = _steps(spec, shares)
    corners = list(product(range(0, spec.n, steps.images), range(0, spec.groups, steps.groups),
                           range(0, spec.oh, steps.band)))  # fmt: skip
    each = sum(_sizes(spec, steps))
    memory = scratch_rows(-(-shares * each // numba.get_num_threads()), x.dtype).reshape(-1)

    def work(share: int) -> None:
        mine = corners[share * len(corners) // shares : (share + 1) * len(corners) // shares]
        _transformed(spec, steps, mine, memory[share * each :], x, packed, bias, out)

    in_threads(work, shares)
    uneven = marks(spec, packed.wild)
    look(spec, x, uneven)
    finish(spec, x, packed.weight, bias, out, uneven)


@np.errstate(over="ignore", invalid="ignore")  # SciPy would warn of infinities and NaNs; compiled loops do not
def _transformed(
    spec: ConvSpec,
    steps: Steps,
    corners: list[tuple[int, int, int]],
    memory: np.ndarray,
    x: np.ndarray,
    packed: Packed,
    bias: np.ndarray,
    out: np.ndarray,
) -> None:
    """Convolve steps, given by their first image, group and row."""
    from scipy.fft import irfft, rfft

    bins, lanes = steps.length // 2 + 1, simd.lanes(spec.acc_dtype)
    c_in, c_out = spec.c_in // spec.groups, spec.c_out // spec.groups
    sizes = _sizes(spec, steps)
    seen = memory[: sizes[0]].reshape(steps.images, -1, steps.lines, steps.pitch)
    sums = memory[sizes[0] : sum(sizes)].reshape(steps.images, -1, steps.band, steps.pitch)
    seen[..., 2 * bins :] = 0
    line, plane, move = steps.pitch, steps.lines * steps.pitch, steps.band * spec.stride[0]
    before = -1, -1

    for n, g, i in corners:
        images, last = slice(n, min(n + steps.images, spec.n)), min(g + steps.groups, spec.groups)
        ins, outs = slice(g * c_in, last * c_in), slice(g * c_out, last * c_out)
        count = images.stop - n, outs.stop - outs.start
        kept = max(0, steps.lines - move) if before == (n, g) else 0
        before = n, g
        seen[:, :, :kept] = seen[:, :, move : move + kept]
        first = i * spec.stride[0] - spec.padding[0][0]
        low, high = (min(max(edge, kept), steps.lines) for edge in (-first, spec.h - first))
        seen[:, :, kept:low] = 0
        seen[:, :, high:] = 0
        if low < high:
            spectra = _complex(seen)[: count[0], : last * c_in - ins.start, low:high, :bins]
            spectra[...] = rfft(x[images, ins, first + low : first + high], steps.length)
        band = min(steps.band, spec.oh - i)
        _fft_products(
            packed.products,
            steps.tile,
            memory,
            _offsets(spec, steps),
            packed.spectra,
            count,
            (c_in, c_out, outs.start),
            (plane, line, line * spec.stride[0], line * steps.band),
            (seen.shape[1], sums.shape[1], sizes[0]),
            band,
        )
        values = irfft(_complex(sums)[: count[0], : count[1], :band, :bins], steps.length, overwrite_x=True)
        _fft_finish(values, bias, spec.floor, out, (n, outs.start, i), spec.stride[1], lanes)


@compiled(nogil=True)
def _fft_products(products, tile, memory, offsets, weight, count, channels, steps, sizes, band):
    images, planes = count
    c_in, c_out, first = channels
    plane, line, row_step, plane_out = steps
    planes_in, planes_out, out = sizes
    tiles, taps = (band + tile - 1) // tile, weight.shape[1]
    for job in range(images * planes * tiles):
        t, o, image = job % tiles, job // tiles % planes, job // (tiles * planes)
        x_at = (image * planes_in + o // c_out * c_in) * plane + t * tile * row_step
        to = out + (image * planes_out + o) * plane_out + t * tile * line
        at = (first + o) * taps * line
        micro.call(products, memory, x_at, row_step, offsets, weight, at, line, memory, to, line, line, 1, 0, 0)


@compiled(nogil=True)
def _fft_finish(values, bias, floor, out, corner, step, lanes):
    """Write rows of values, every step-th column, with bias and activation to `out` from `corner` on."""
    images, planes, band = values.shape[:3]
    c_out, oh, ow = out.shape[1:]
    least = simd.splat(floor)
    for job in range(images * planes * band):
        i, o, image = job % band, job // band % planes, job // (band * planes)
        shift = bias[corner[1] + o]
        to = (((corner[0] + image) * c_out + corner[1] + o) * oh + corner[2] + i) * ow
        if step == 1:
            at, whole = job * values.shape[3], ow // lanes * lanes
            for j in range(0, whole, lanes):
                simd.store(out, to + j, simd.larger(simd.load(values, at + j) + simd.splat(shift), least))
            if whole < ow:
                value = simd.load_part(values, at + whole, ow - whole) + simd.splat(shift)
                simd.store_part(out, to + whole, simd.larger(value, least), ow - whole)
        else:
            row, goal = values[image, o, i], out[corner[0] + image, corner[1] + o, corner[2] + i]
            for j in range(ow):
                value = row[j * step] + shift
                goal[j] = floor if value < floor else value
