"""Settings shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cases import threads
from hypothesis import settings

# The same examples on every run: a failure found today must not have hidden yesterday.
settings.register_profile("fastconv", deadline=None, max_examples=100, derandomize=True, print_blob=True)
settings.load_profile("fastconv")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Kernels run in one thread, but where a test says otherwise: serial builds compile three times faster."""
    with threads(1):
        yield
