"""The rates of a GPU, from which costs are estimated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .system.kernels import SIMULATED, missing
from .system.streams import GpuStream


@dataclass(frozen=True)
class Machine:
    """The rates of a GPU. Defaults are an H200's, for where there is none; shares are estimates, not measured yet."""

    name: str = "NVIDIA H200"
    capability: tuple[int, int] = (9, 0)
    processors: int = 132
    """Number of streaming multiprocessors."""
    clock: float = 1.98e9
    """Cycles a second."""
    bandwidth: float = 4.3e12
    """Bytes a second read and written by a copy."""
    memory: int = 141 << 30
    """Bytes of the device's memory."""
    shared: int = 227 << 10
    """Bytes of shared memory that a block may ask for."""
    launch: float = 4e-6
    """Seconds that a launch takes when kernels follow each other on one stream."""
    gemm_share: float = 0.7
    """Share of the peak that this package's matrix products in shared memory reach."""
    naive_share: float = 0.04
    """Share of the peak that is reached if a thread loads both operands of each multiply-add."""

    def flops(self, dtype: Any, precision: str = "float32") -> float:
        """Operations a second, two for a multiply-add: of arithmetic units, or of tensor cores in other precisions."""
        fp32 = self.processors * 128 * 2 * self.clock
        wide = self.capability in ((8, 0), (9, 0), (10, 0))  # data-centre GPUs: half as many float64 units as float32
        if precision in ("tf32", "tf32x3"):
            return fp32 * (8 if wide else 2) / (1 if precision == "tf32" else 3)
        if np.dtype(dtype) == np.float64:
            return fp32 / (2 if wide else 64)
        return fp32 / 16 if np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize == 8 else fp32

    def naive(self, outputs: int, taps: int, dtype: Any, moved: int) -> float:
        """Estimated seconds of a definition with a thread for each output: it finds its place by 64-bit divisions, some
        300 instructions, and takes its taps in turn, some 40 cycles each. At least `moved` bytes are moved."""
        places = 300 / 128 / (self.processors * self.clock)
        work = outputs * (places + 2 * taps / (self.naive_share * self.flops(dtype)))
        return self.launch + max(work, taps * 40 / self.clock, moved / self.bandwidth)


@lru_cache(maxsize=16)
def this_machine(device: int = 0) -> Machine:
    """The rates of a device."""
    if SIMULATED or missing():
        return Machine()
    from cuda.bindings import driver
    from cuda.core import Device

    found = Device(device)
    with GpuStream(found, None).current():
        properties = found.properties
    # The memory's pins move data twice a clock; a copy reaches nine tenths of that.
    bandwidth = 0.9 * 2 * properties.memory_clock_rate * 1e3 * properties.global_memory_bus_width / 8
    memory = driver.cuDeviceTotalMem(driver.CUdevice(device))[1]
    return Machine(found.name, tuple(found.compute_capability), properties.multiprocessor_count,
                   properties.clock_rate * 1e3, bandwidth, int(memory),
                   shared=properties.max_shared_memory_per_block_optin)
