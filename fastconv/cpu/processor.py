"""The processor that Numba compiles for: this one, or what NUMBA_CPU_NAME, NUMBA_CPU_FEATURES and NUMBA_ENABLE_AVX say.

Kernels must not be wider, nor use other instructions, than the code that Numba makes around them.
"""

from __future__ import annotations

from functools import lru_cache

import llvmlite.binding as llvm
import numba
from numba.core.codegen import get_host_cpu_features


def processor_name() -> str:
    """As LLVM calls it, like "znver4"."""
    return numba.config.CPU_NAME or llvm.get_host_cpu_name()  # type: ignore[attr-defined] # Numba reads the environment


@lru_cache(maxsize=1)
def features() -> frozenset[str]:
    """The instruction sets it has, as LLVM calls them, like "avx2"."""
    told = numba.config.CPU_FEATURES  # type: ignore[attr-defined] # likewise
    flags = get_host_cpu_features() if told is None else told
    return frozenset(flag[1:] for flag in flags.split(",") if flag.startswith("+"))
