"""Texts of numbers with their units."""

from __future__ import annotations

import math


def byte_count(count: int) -> str:
    """A number of bytes as text, like "2.0 MiB"."""
    if count < 1024:
        return f"{count} B"
    power = min(int(math.log2(count)) // 10, 4)
    return f"{count / 1024**power:.1f} {'KMGT'[power - 1]}iB"
