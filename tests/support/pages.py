"""What is in the pages of explanations."""

from __future__ import annotations

import json
import re
from typing import Any

from fastconv.tools.explain.numerals import MINUS


def data_of(page: str) -> dict[str, Any]:
    """What a page's script reads."""
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def number(text: str) -> float:
    return float(text.replace(MINUS, "-"))
