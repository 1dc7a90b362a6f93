"""Figures kept in files of `docs/measured/`, with their machine and day: the documentation makes tables of them."""

from __future__ import annotations

import datetime
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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
        "rows": rows,
    }
    Path(file).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
