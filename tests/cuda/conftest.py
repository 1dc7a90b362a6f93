"""The device suite: in Numba's simulator (started by `tests/test_cuda.py`), or on a GPU by ``pytest -m gpu``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from libraries import SIMULATED, FakeTensor, Library, fake_torch, libraries


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Elsewhere nothing is here to be run: the simulator must be chosen before Numba is imported."""
    asked = "gpu" in (config.getoption("markexpr") or "").replace("not gpu", "")
    return None if SIMULATED or asked or collection_path.name == "conftest.py" else True


@pytest.fixture(scope="session", autouse=True)
def device() -> None:
    from fastconv.cuda.system.kernels import missing

    if reason := missing():
        pytest.skip(reason)


@pytest.fixture(params=libraries())
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Each library that is there."""
    if SIMULATED:
        from fastconv.cuda.system.arrays import SimulatedArray

        if request.param == "torch":
            monkeypatch.setitem(sys.modules, "torch", fake_torch())
            return Library("torch", FakeTensor, lambda x: x.array, FakeTensor)
        return Library("numba", SimulatedArray, lambda x: x.array, SimulatedArray)
    module = pytest.importorskip({"numba": "numba.cuda"}.get(request.param, request.param))
    if request.param == "torch":
        return Library("torch", lambda x: module.from_numpy(x).cuda(), lambda x: x.cpu().numpy(), module.Tensor)
    if request.param == "cupy":
        return Library("cupy", module.asarray, module.asnumpy, module.ndarray)
    return Library("numba", module.to_device, lambda x: x.copy_to_host(), type(module.to_device(np.zeros(1))))
