"""Import of libraries that are installed with the extra `cli`."""

from __future__ import annotations

import importlib
from types import ModuleType


def extra(module: str) -> ModuleType:
    """Import a module of the extra `cli`; if it is missing, ModuleNotFoundError says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed: pip install 'fastconv[cli]'") from None
