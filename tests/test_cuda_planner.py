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


def test_no_kernel_counts_further_than_it_can() -> None:
    """Sizes at which numbers of 32 bits would end, of arrays that a GPU may hold."""
    gather = pytest.importorskip("fastconv.cuda.shared.gather")
    byte = [np.dtype(np.int8)]
    assert gather.limits(conv_spec((1, 1, 1, 1), (2**30 - 1, 1, 1, 1), byte)) is None
    assert "channels" in gather.limits(conv_spec((1, 1, 1, 1), (2**30, 1, 1, 1), byte))
    # A tap that leads from the row of a missing pixel, -2**29, into the image.
    deep = {"padding": ((2**28 - 1, 2**28 - 1), (0, 0)), "dilation": (2**29, 1), "stride": (2**26, 1)}
    assert "rows" in gather.limits(conv_spec((1, 1, 2**27, 1), (1, 1, 2, 1), byte, **deep))


def test_winograd_looks_after_as_many_channels_as_a_grid_has_blocks() -> None:
    ptx = pytest.importorskip("benchmarks.ptx")
    winograd = next(module for module in planner.table("conv2d") if choose.name(module) == "winograd")
    for channels in (65535 * 128, 65535 * 128 + 1):
        spec = conv_spec((1, 1, 4, 4), (channels, 1, 3, 3), [np.dtype(np.float32)])
        if channels % 2:
            assert "output channels" in winograd.supports(spec)
            with pytest.raises(ValueError, match="has a grid of"):
                ptx.launches("conv2d", winograd, spec)
        else:
            assert winograd.supports(spec) is None
            assert max(grid[1] for _, grid, *_ in ptx.launches("conv2d", winograd, spec)) == 65535


def test_many_channels_in_few_blocks_are_counted_in_64_bits() -> None:
    gradient = pytest.importorskip("fastconv.cuda.algorithms.gradient_gather")
    streams = pytest.importorskip("fastconv.cuda.system.streams")
    half = np.dtype(np.float16)
    for channels, wide in ((2**28 - 1, False), (2**31, True)):
        x = streams.Tensor(0, half, (1, channels, 1, 2), (2 * channels, 1, 2 * channels, channels))
        rows, cols = gradient._axes(pool_spec("max", x.shape, half, (1, 2)))
        assert gradient._layout(rows, cols, x)[-1][-1] is wide


def test_strips_are_as_large_as_the_gpu_and_a_launch_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = pytest.importorskip("fastconv.cuda.shared.lines")
    whole = lines.Lines((1,), (0,), (0,), (100_000, 1, 1), (1, 0, 0))
    for memory in (227 << 10, 99 << 10, 64 << 10):
        monkeypatch.setattr(lines, "this_machine", lambda memory=memory: machine.Machine(shared=memory))
        found = [(taps, cut) for taps in range(1, 30_000, 37) if (cut := lines.strip(whole, taps, 0, 8))]
        assert max(8 * cut.seen * cut.lanes for _, cut in found) <= min(memory, lines.MOST_SHARED)
        assert 0.9 * min(memory, lines.MOST_SHARED) < 8 * max(taps for taps, _ in found)
    many = lines.Lines((2**31,), (6,), (6,), (3, 2, 2), (2, 1, 1))
    assert lines.strip(many._replace(outer=(2**31 - 1,)), 3, 1, 8) is not None
    assert lines.strip(many, 3, 1, 8) is None
