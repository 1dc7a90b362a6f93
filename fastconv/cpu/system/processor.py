"""The processor at hand, as Numba sees it, and the classes of processors that kernels can be made for.

Kernels must not be wider, nor use other instructions, than the code that Numba makes around them. So the variables
NUMBA_CPU_NAME, NUMBA_CPU_FEATURES and NUMBA_ENABLE_AVX count, too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import llvmlite.binding as llvm
import numba
from numba.core.codegen import get_host_cpu_features


class Processor(NamedTuple):
    """A processor to compile kernels for: its name and its instruction sets, as LLVM calls them, like "avx2"."""

    name: str
    features: frozenset[str]

    @property
    def flags(self) -> str:
        """The features as LLVM takes them."""
        return ",".join(f"+{feature}" for feature in sorted(self.features))


_V2 = frozenset({"cx16", "sahf", "popcnt", "sse", "sse2", "sse3", "ssse3", "sse4.1", "sse4.2"})
_V3 = _V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"}
#: The levels of x86-64 with 32 and with 64 bytes in a register: System V ABI, AMD64 supplement, 3.1.1.
CLASSES = {
    one.name: one
    for one in (
        Processor("x86-64-v3", _V3),
        Processor("x86-64-v4", _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    )
}


@lru_cache(maxsize=1)
def host() -> Processor:
    """The processor that Numba compiles for."""
    settings = numba.config
    name = settings.CPU_NAME or llvm.get_host_cpu_name()  # type: ignore[attr-defined] # from the environment
    told = settings.CPU_FEATURES  # type: ignore[attr-defined] # from the environment
    flags = get_host_cpu_features() if told is None else told
    return Processor(name, frozenset(flag[1:] for flag in flags.split(",") if flag.startswith("+")))
