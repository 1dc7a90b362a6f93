"""Dask's workers in processes of their own: one is lost, and kernels are ready before work begins."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from processes import run_code

import fastconv
from fastconv import ndimage as ndi


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_loses_a_worker() -> None:
    from distributed import Client, LocalCluster

    from fastconv.dask import WarmUp

    x = np.random.default_rng(0).random((800, 800), np.float32)
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None, memory_limit=None) as local,
        Client(local) as client,
    ):  # fmt: skip
        client.register_plugin(WarmUp(["ndimage.gaussian_filter"]))
        image = da.from_array(x, chunks=100)
        weight = np.random.default_rng(1).random((2, 1, 3, 3), np.float32)
        slow = image.map_blocks(_slowly, dtype=image.dtype)
        work = client.compute(ndi.gaussian_filter(slow, 2))
        time.sleep(0.5)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        np.testing.assert_array_equal(work.result(timeout=120), ndi.gaussian_filter(x, 2))
        lazy = fastconv.conv2d(image[None], weight, stride=3, padding=1)
        np.testing.assert_array_equal(client.compute(lazy).result(timeout=120), fastconv.conv2d(
            x[None], weight, stride=3, padding=1))  # fmt: skip


def _slowly(block: np.ndarray) -> np.ndarray:
    time.sleep(0.05)
    return block


def test_the_plugin_imports_a_pack_and_compiles(tmp_path: Path) -> None:
    pack = tmp_path / "kernels.zip"
    run_code(f"""
import fastconv, numpy as np
fastconv.avg_pool2d(np.ones((1, 1, 8, 8), np.float32), 2)
fastconv.cache.export_kernels({str(pack)!r})
""", FASTCONV_CACHE_DIR=tmp_path / "one")  # fmt: skip
    run_code(f"""
import fastconv
from fastconv.dask import WarmUp
assert not fastconv.cache.info().kernels.count
plugin = WarmUp(pack={str(pack)!r})
plugin.setup(None)
assert fastconv.cache.info().kernels.count
assert fastconv.warmup("unfold2d") > 0
WarmUp(["unfold2d"]).setup(None)
""", FASTCONV_CACHE_DIR=tmp_path / "two")  # fmt: skip
