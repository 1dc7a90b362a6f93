"""Intrinsics for what CUDA Python lacks: 128-bit loads and stores, asynchronous copies to shared memory (`cp.async`),
rounding to TF32, and the tensor cores' `mma.sync`.

On a GPU they are those of `ptx_device`; Numba's simulator runs neither LLVM IR nor PTX, and gets `ptx_simulated`.

Source: NVIDIA, PTX ISA, the sections on ld, cp.async, cvt and mma.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system.kernels import SIMULATED

if SIMULATED or TYPE_CHECKING:
    from .ptx_simulated import (
        advance,
        arrival,
        commit,
        copier,
        inlined,
        int32,
        int64,
        load4,
        mma,
        number,
        opaque,
        split,
        store4,
        tf32,
        within,
        word,
    )
else:
    from .ptx_device import (
        advance,
        arrival,
        commit,
        copier,
        inlined,
        int32,
        int64,
        load4,
        mma,
        number,
        opaque,
        split,
        store4,
        tf32,
        within,
        word,
    )

__all__ = [
    "advance",
    "arrival",
    "commit",
    "copier",
    "inlined",
    "int32",
    "int64",
    "load4",
    "mma",
    "number",
    "opaque",
    "split",
    "store4",
    "tf32",
    "within",
    "word",
]
