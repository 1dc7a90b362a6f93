"""Settings shared by all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import threads
from hypothesis import settings

from fastconv.cpu import planner
from fastconv.planner import remember

# What compiling leaves lives to the end, millions of objects: to look through them took a twentieth of all tests' time.
gc.set_threshold(100_000, 50, 100)

# The same examples on every run: a failure found today must not have hidden yesterday.
settings.register_profile("fastconv", deadline=None, max_examples=100, derandomize=True, print_blob=True)
settings.load_profile("fastconv")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Kernels run in one thread, but where a test says otherwise: the code is the same, and tests run side by side."""
    with threads(1):
        yield


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel of `conv2d`'s and `max_pool2d`'s algorithms may run: what is wrong is told before."""
    for module in (*planner.table("conv2d"), *planner.table("max_pool2d")):
        monkeypatch.setattr(module, "run", lambda *args: pytest.fail("a kernel ran"))


@pytest.fixture(scope="session", autouse=True)
def wisdom_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Wisdom of the tests' own: the user's is neither followed nor changed."""
    folder = tmp_path_factory.mktemp("wisdom")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remember, "_root", lambda: folder)
        yield folder
