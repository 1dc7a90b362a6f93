"""What a program waits for before its first result, kernels compiled: each sample in a process of its own."""

from __future__ import annotations

FIRST_CALL = """
import numpy as np
import fastconv
fastconv.conv2d(np.ones((1, 8, 32, 32), np.float32), np.ones((16, 8, 3, 3), np.float32), algorithm="naive")
"""


class FirstUse:
    rounds = 2
    repeat = 5
    warmup_time = 0.01  # one sample, which fills the disk caches

    def timeraw_import_numpy(self):
        """The floor: fastconv imports NumPy and nothing else that takes time."""
        return "import numpy"

    def timeraw_import(self):
        return "import fastconv"

    def timeraw_first_call_cached(self):
        """Import, Numba's import, and loading a kernel that an earlier process compiled."""
        return FIRST_CALL
