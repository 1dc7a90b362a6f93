"""Figures kept in files of `docs/measured/`, with their machine and day: the documentation makes tables of them.

A row that is set beside others has "row", its name, "threads", and "ratios": how many times as long another takes, by
the title of what is compared.
"""

from __future__ import annotations

import datetime
import json
import math
import platform
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fastconv.warming.team import cores

#: Cores that this process may use, before benchmarks keep their threads apart.
CORES = cores()
#: Libraries whose versions matter.
LIBRARIES = (
    "numpy", "scipy", "numba", "opencv-python-headless", "torch", "onnxruntime", "openvino", "ncnn", "MNN",
    "scikit-image", "astropy", "bottleneck",
)  # fmt: skip


def save(file: str, module: str, rows: list[dict[str, Any]], **told: Any) -> None:
    """Write rows of figures to a JSON file, with the module's command, the machine, its cores, the day and versions."""
    from fastconv.tools.cli import processor_name

    options = ["FILE" if before == "--json" else option for before, option in pairwise(sys.argv)]
    record = {
        "command": shlex.join(["python", "-m", module, *options]),
        "machine": processor_name(),
        "cores": CORES,
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
