"""How much memory this process may use: the machine's, or less where Linux limits a control group, as containers do."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path, PurePosixPath


@lru_cache(maxsize=1)
def usable_memory() -> int:
    """Bytes that this process could ever fill; looked up once."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        machine = sys.maxsize
    return min([machine, *group_limits()])


def group_limits(root: Path = Path("/")) -> list[int]:
    """Bytes that the control groups of this process may use, of version 1 or 2, and those that these are in.

    A group that a container has as its root may be told by the path that it has outside: a file is looked for on all of
    the way up, and may be missing.
    """
    limits = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, told = line.partition(":")
        controllers, _, path = told.partition(":")
        if not controllers:
            folder, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        found = [_text(folder / each / file).strip() for each in (group, *group.parents)]
        limits += [int(text) for text in found if text.isdecimal()]  # and not "max"
    return limits


def _text(file: Path) -> str:
    """The text of a file; empty where it is missing or cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
