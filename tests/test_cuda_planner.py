"""What the GPU's planner picks. (Not in the simulator, whose tiles and slices are toys.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv.planner import choose
from fastconv.specs.conv import conv_spec
from fastconv.specs.pool import pool_spec

machine = pytest.importorskip("fastconv.cuda.machine", reason="the extra 'cuda' is not installed")
planner = pytest.importorskip("fastconv.cuda", reason="the extra 'cuda' is not installed").planner


def test_what_the_planner_picks() -> None:
    """By estimates for an H200, for layers whose answer is plain."""
    gpu = machine.Machine()
    table = planner.table("conv2d")

    def picked(x: tuple[int, ...], weight: tuple[int, ...], **options: Any) -> str:
        spec = conv_spec(x, weight, [np.dtype(options.pop("dtype", "float32"))], **options)
        able = [module for module in table if module.supports(spec) is None]
        return choose.name(min(able, key=lambda module: module.cost(spec, gpu)))

    assert picked((32, 256, 14, 14), (256, 256, 3, 3), padding=1) == "winograd"
    assert picked((32, 256, 14, 14), (256, 256, 3, 3), padding=1, precision="tf32") == "implicit_gemm"
    assert picked((32, 256, 14, 14), (256, 256, 3, 3), padding=1, dtype="float16") == "implicit_gemm"
    assert picked((32, 3, 224, 224), (64, 3, 7, 7), padding=3, stride=2) == "implicit_gemm"
    assert picked((32, 256, 56, 56), (64, 256, 1, 1)) == "pointwise"
    assert picked((32, 128, 56, 56), (128, 128, 3, 3), padding=1, stride=2) == "implicit_gemm"
    assert picked((32, 64, 56, 56), (64, 1, 3, 3), padding=1, groups=64) == "depthwise"

    def differentiated(x: tuple[int, ...], weight: tuple[int, ...], **options: Any) -> str:
        spec = conv_spec(x, weight, [np.dtype(np.float32)], **options)
        able = [module for module in planner.table("conv2d_weight") if module.supports(spec) is None]
        return choose.name(min(able, key=lambda module: module.cost(spec, gpu)))

    assert differentiated((32, 256, 14, 14), (256, 256, 3, 3), padding=1) == "implicit_gemm"
    assert differentiated((32, 3, 224, 224), (64, 3, 7, 7), padding=3, stride=2) == "implicit_gemm"
    assert differentiated((32, 64, 56, 56), (64, 1, 3, 3), padding=1, groups=64) == "pixels"

    def pooled(x: tuple[int, ...], window: int, **options: Any) -> str:
        spec = pool_spec("max", x, np.dtype(np.float32), window, **options)
        able = [module for module in planner.table("max_pool2d") if module.supports(spec) is None]
        return choose.name(min(able, key=lambda module: module.cost(spec, gpu)))

    assert pooled((32, 64, 112, 112), 2) == pooled((32, 64, 112, 112), 3, stride=2, padding=1) == "rows"
    assert pooled((32, 512, 14, 14), 13, stride=1, padding=6) == "running"
    assert pooled((32, 2048, 7, 7), 7) == pooled((8, 64, 112, 112), 112) == pooled((1, 3, 4096, 4096), 4096) == "global"
