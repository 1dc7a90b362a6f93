"""The device suite: in Numba's simulator (started by `tests/test_cuda.py`), or on a GPU by ``pytest -m gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest
from numba import config as numba_config

SIMULATED = bool(numba_config.ENABLE_CUDASIM)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Elsewhere nothing is here to be run: the simulator must be chosen before Numba is imported."""
    asked = "gpu" in (config.getoption("markexpr") or "").replace("not gpu", "")
    return None if SIMULATED or asked or collection_path.name == "conftest.py" else True


@pytest.fixture(scope="session", autouse=True)
def device() -> None:
    from fastconv.cuda.runtime import missing

    if reason := missing():
        pytest.skip(reason)
