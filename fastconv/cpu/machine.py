"""This machine: the rates that costs are estimated from, and its measured ceilings."""

from __future__ import annotations

import ctypes
import math
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange

from ..base.files import cache_folder, read, write
from .system import micro
from .system.disk_cache import identity
from .system.kernels import kernel
from .system.plain import PLAIN, refused
from .system.threads import in_threads, num_threads
from .tiles import ceiling, simd


@dataclass(frozen=True)
class Machine:
    """The rates, per thread, that costs are estimated from. Only their ratios decide which algorithm is picked.

    A register tile reaches a share of the `peak`, which is measured on each machine. The other rates differ less from
    machine to machine. They are rounded medians of this package's benchmarks on an AMD EPYC 9005 (peak 214e9), November
    2026. ``python -m benchmarks.fit`` on an EPYC of the generation before (116e9) found equal shares, BLAS, bandwidth,
    call and pooling's two rates within 10%, and 0.6 to 0.9 times the rates of patches and of scalar loops.
    """

    threads: int
    known_peak: float | None = 214e9
    """The `peak`; None to measure it where it is first needed: costs of pooling do not need it."""
    blas_flops: float = 90e9
    """Floating-point operations a second of a large float32 matrix product."""
    loop_flops: float = 1.2e9
    """Operations a second of a scalar loop nest, whose additions wait for each other."""
    tile_share: float = 0.94
    """Share of the peak that the register tile reaches in whole layers."""
    weight_bandwidth: float = 25e9
    """Bytes a second of weights read once from the last-level cache or memory."""
    pack_bandwidth: float = 12e9
    """Bytes a second of weights written in the order that tiles read them in."""
    patch_bandwidth: float = 20e9
    """Bytes a second copied from an image into a patch."""
    read_bandwidth: float = 80e9
    """Bytes a second of an image read again and again by the row tile."""
    tile_row: float = 2e-9
    """Seconds to write one vector of a finished tile."""
    row_tile_share: float = 0.93
    """Share of the peak that the row tile reaches where only multiply-adds take time; `row_filter` counts the rest."""
    tile: float = 10e-9
    """Seconds to begin and end a tile."""
    stream: float = 50e9
    """Bytes a second that pooling reads and writes."""
    vector: float = 0.55e-9
    """Seconds to load a vector from the first-level cache and combine it with another."""
    fft_bandwidth: float = 2.2e9
    """Bytes a second of the input of a real FFT along rows, or of the output of its inverse, and of the copies around
    it. Measured on filters of 256x256 to 1024x1024 by 21x21 to 41x41, on an EPYC of the generation before."""
    bandwidth: float = 8e9
    """Bytes a second that are written and read back."""
    call: float = 5e-6
    """Seconds to start one parallel loop or one matrix product."""

    @property
    def peak(self) -> float:
        """Float32 operations a second of multiply-adds in registers, with 16 lanes."""
        return _peak() if self.known_peak is None else self.known_peak

    @property
    def tile_flops(self) -> float:
        """Float32 operations a second of the register tile, with 16 lanes."""
        return self.tile_share * self.peak

    @property
    def row_tile_flops(self) -> float:
        """Float32 operations a second of the row tile, with 16 lanes."""
        return self.row_tile_share * self.peak


def this_machine(threads: int | None = None) -> Machine:
    """This machine with so many threads, by default those that a kernel may use now."""
    rates = NARROW if simd.registers() == 16 else {}
    return Machine(num_threads() if threads is None else threads, Machine.known_peak if PLAIN else None, **rates)


#: Rates of processors whose vectors have half the size, as far as they differ. (An AMD EPYC of Zen 3.)
NARROW = {"weight_bandwidth": 15e9, "read_bandwidth": 70e9}


@lru_cache(maxsize=1)
def _peak() -> float:
    """`Machine.peak`, measured once (in 20 ms) and kept beside the compiled kernels.

    It is the fastest of several runs, rounded, so that the planner's choices do not waver on a busy machine.
    """
    file = cache_folder() / f"peak-{identity()}.txt"
    try:
        known = float(read(file) or b"nan")
    except ValueError:
        known = math.nan
    if 1e8 < known < 1e13:
        return known
    measured = fma_ceiling(np.dtype(np.float32), 1) * 16 / simd.lanes(np.float32)
    rounded = float(f"{measured:.1e}")
    write(file, str(rounded).encode())
    return rounded


@lru_cache(maxsize=16)
def fma_ceiling(dtype: np.dtype, threads: int) -> float:
    """Operations a second (two a multiply-add) of independent multiply-adds in registers; no kernel exceeds it."""
    if PLAIN:
        raise refused("the measurement of the machine's ceiling")
    dtype, real = np.dtype(dtype), micro.scalar(dtype)
    steps, results = 400_000, np.zeros(threads, dtype)
    address = micro.address(_chains, (), (micro.PLACE, real, micro.array(dtype), micro.PLACE))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    number = ctypes.c_float if dtype == np.float32 else ctypes.c_double
    chains = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, integer, number, pointer, integer, integer)(address)

    def one_thread(thread: int) -> None:
        chains(None, None, steps, 0.5, results.ctypes.data, threads, thread)

    operations = threads * steps * ceiling.CEILING_CHAINS * simd.lanes(dtype) * 2
    return operations / _least_seconds(lambda: in_threads(one_thread, threads), threads)


def _chains() -> Any:
    """The micro-kernel of `fma_ceiling`."""
    return ceiling.fma_chains


@lru_cache(maxsize=16)
def copy_bandwidth(threads: int) -> float:
    """Bytes a second, read and written together, of copying arrays far larger than the caches."""
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / _least_seconds(lambda: _copy(source, target), threads)


def _least_seconds(call, threads: int) -> float:
    """The fastest of nine calls on that many threads, after one that warms up: a ceiling is what can be reached.

    For one thread the time in which it runs is taken: on a busy machine a sixth of its peak was measured without that.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        seconds = []
        for _ in range(10):
            start = clock()
            call()
            seconds.append(clock() - start)
        return min(seconds[1:])
    finally:
        numba.set_num_threads(before)


@kernel
def _copy(source, target):
    chunk = 1 << 16
    for part in prange((source.size + chunk - 1) // chunk):
        for i in range(part * chunk, min(source.size, (part + 1) * chunk)):
            target[i] = source[i]
