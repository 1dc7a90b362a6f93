"""What the cost estimates and the comparison table know about this machine."""

from __future__ import annotations

from dataclasses import dataclass

import numba


@dataclass(frozen=True)
class Machine:
    """Rates an algorithm's cost is estimated from. Only their ratios decide which algorithm is picked.

    The defaults are rounded medians of this package's benchmarks on a two-core AVX-512 server (AMD EPYC 9005,
    November 2026), per thread.
    """

    threads: int
    blas_flops: float = 90e9
    """Floating-point operations a second of a large float32 matrix product."""
    loop_flops: float = 1.2e9
    """Operations a second of a scalar loop nest, whose additions wait for each other."""
    row_flops: float = 40e9
    """Float32 operations a second of a vectorised loop over rows in the first-level cache."""
    bandwidth: float = 8e9
    """Bytes a second that are written and read back."""
    call: float = 5e-6
    """Seconds to start one parallel loop or one matrix product."""


def this_machine() -> Machine:
    """This machine with the number of threads Numba uses now."""
    return Machine(numba.get_num_threads())
