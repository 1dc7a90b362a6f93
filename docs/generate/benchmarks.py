"""The benchmarks' history: asv's own pages, below the documentation's, from the results that the repository keeps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def publish(app: Any, exception: Exception | None) -> None:
    """What Sphinx calls when it has finished: asv writes its pages into the folder ``asv`` of the site."""
    if exception is not None or app.builder.name != "html" or not (ROOT / ".git").exists():
        return  # without the history asv has no commits to draw
    sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed
    from benchmarks.publish import publish as asv_pages

    asv_pages(Path(app.outdir) / "asv")
