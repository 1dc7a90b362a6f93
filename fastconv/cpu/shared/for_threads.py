"""Filters that share their work out among threads when they are made, and are kept: made again for another number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...specs.filters import Problem
from ..system.kernels import Direct
from ..system.threads import num_threads


class ForThreads:
    """What filters images of one layout: as `make` makes it, once for each number of threads that it is called with."""

    __slots__ = ("_made", "_make", "problem")

    def __init__(self, make: Callable[[Problem], Any], problem: Problem) -> None:
        self.problem, self._make = problem, make
        self._made: dict[int, Any] = {}
        self.now()

    def now(self) -> Any:
        """What is called now."""
        threads = num_threads()
        made = self._made.get(threads)
        if made is None:
            made = self._made[threads] = self._make(self.problem)
        return made

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """Filter; both arrays have the layout that the problem says."""
        self.now().run(x, out)

    def direct(self, x: np.ndarray, out: np.ndarray) -> Direct | None:
        """What does the same for arrays that lie as these two, on the calling thread, if there is such code."""
        made = self.now()
        return made.direct(x, out) if hasattr(made, "direct") else None
