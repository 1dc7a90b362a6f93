"""Figures kept in files of `docs/measured/`, with their machine and day: the documentation makes tables of them.

A row that is set beside others has "row", its name, "threads", and "ratios": how many times as long another takes, by
the title of what is compared.
"""

from __future__ import annotations

import datetime
import json
import math
import platform
import statistics
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

#: Libraries whose versions matter.
LIBRARIES = ("numpy", "scipy", "numba", "opencv-python-headless", "torch", "scikit-image", "astropy")


def save(file: str, command: str, rows: list[dict[str, Any]], **told: Any) -> None:
    """Write rows of figures to a JSON file, with the command, the machine, its cores, the day and the versions."""
    from fastconv.tools.cli import processor_name
    from fastconv.warming.team import cores

    record = {
        "command": command,
        "machine": processor_name(),
        "cores": cores(),
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), **_versions()},
        **told,
    }
    head = json.dumps(record, indent=1).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    Path(file).write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def summary(rows: list[dict[str, Any]], below: Mapping[str, float] = MappingProxyType({})) -> Iterator[str]:
    """Of each title the geometric mean, the worst row, and how many are below 1, or below another number, in words."""
    for title in dict.fromkeys(title for row in rows for title in row["ratios"]):
        found = {row["row"]: row["ratios"][title] for row in rows if title in row["ratios"]}
        mean, worst = math.exp(statistics.fmean(map(math.log, found.values()))), min(found, key=found.__getitem__)
        least = below.get(title, 1.0)
        missed = sum(value < least for value in found.values())
        yield (f"{title}: geometric mean {mean:.2f}, worst {found[worst]:.2f} ({worst}), {missed} of {len(found)} rows "
               f"below {least:g}")  # fmt: skip


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
