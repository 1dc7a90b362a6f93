"""``NUMBA_DISABLE_JIT=1``: kernels run as the Python that they are written in, for debuggers and coverage.

Vector instructions have definitions in NumPy for that, register tiles their plain twins. What has neither says so where
it is called; ``algorithm="auto"`` picks none of it, but what is easy to follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

PLAIN = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined] # Numba sets it from the environment


class Plain:
    """A function in the place of its compiled code, which warns of no overflow."""

    def __init__(self, py_func: Callable) -> None:
        self._py_func = py_func

    def __call__(self, *args: Any) -> Any:
        with np.errstate(all="ignore"):
            return self._py_func(*args)

    def compile(self, argtypes: tuple) -> Plain:
        """Itself, for any types."""
        return self


def refused(what: str) -> RuntimeError:
    """The error for what has no Python."""
    return RuntimeError(f"{what} is machine code, and NUMBA_DISABLE_JIT=1 runs Python only: leave algorithm='auto', "
                        "or ask for a plain one, as 'naive', or unset the variable")  # fmt: skip
