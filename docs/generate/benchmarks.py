"""The benchmarks' pages: asv's own site, built below the documentation's from the results that the repository keeps."""

from __future__ import annotations

from typing import Any


def publish(app: Any, exception: Exception | None) -> None:
    """What Sphinx calls when it has finished."""
