"""Libraries that are installed as extras."""

from __future__ import annotations

import importlib
from types import ModuleType


def extra(module: str) -> ModuleType:
    """Import a module of the extra `cli`; ModuleNotFoundError that says how to install it otherwise."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed: pip install 'fastconv[cli]'") from None
