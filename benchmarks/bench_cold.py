"""A first call that has to compile: each sample in a process of its own, with a cache that takes no files."""

from __future__ import annotations

NO_CACHE = "import os; os.environ['FASTCONV_CACHE_DIR'] = os.devnull"
CONV2D = """
import numpy as np
import fastconv
x, weight = np.ones((1, 64, 56, 56), np.float32), np.ones((64, 64, 3, 3), np.float32)
fastconv.conv2d(x, weight, padding=1, algorithm={!r})
"""
MAX_POOL2D = """
import numpy as np
import fastconv
fastconv.max_pool2d(np.ones((1, 64, 112, 112), np.float32), 3, 2, 1)
"""


class FirstCall:
    rounds = 3
    repeat = 1
    number = 1
    warmup_time = 0  # nothing that a sample leaves behind helps the next

    def timeraw_naive(self):
        return CONV2D.format("naive"), NO_CACHE

    def timeraw_direct(self):
        return CONV2D.format("direct"), NO_CACHE

    def timeraw_winograd(self):
        return CONV2D.format("winograd"), NO_CACHE

    def timeraw_max_pool2d(self):
        return MAX_POOL2D, NO_CACHE
