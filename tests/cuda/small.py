"""Problems that the simulator, which is slow, can do: each takes several small tiles with ragged edges."""

from __future__ import annotations

from cases import CONV as ALL_CONV
from cases import POOL as ALL_POOL
from cases import Conv, Pool
from numba import config

_SMALL_CONV = (
    Conv("plain", (2, 3, 6, 5), (5, 3, 3, 2), {"padding": 1, "activation": "relu"}, plain=True),
    Conv("everything", (1, 4, 9, 8), (6, 2, 3, 2), {"stride": (2, 1), "padding": ((0, 2), (1, 3)), "dilation": (1, 3),
                                                    "groups": 2}),
    Conv("1x1 kernel", (2, 9, 4, 5), (9, 9, 1, 1)),
    Conv("1x1 kernel, stride and padding", (1, 3, 4, 6), (2, 3, 1, 1), {"stride": 2, "padding": 1}),
    Conv("3x3 kernel", (1, 5, 6, 7), (9, 5, 3, 3), {"padding": 1}, bias=False),
    Conv("kernel larger than the image", (1, 2, 3, 4), (2, 2, 4, 6), {"padding": (1, 2)}),
    Conv("stride larger than the image", (1, 2, 5, 6), (3, 2, 3, 3), {"stride": (50, 2**31 - 1), "padding": 1}),
    Conv("image of one row, padded", (2, 4, 1, 5), (2, 4, 3, 3), {"padding": 1}),
    Conv("image of one pixel, padded", (2, 3, 1, 1), (3, 3, 2, 3), {"padding": 1}),
    Conv("dilation of one tap", (1, 2, 3, 3), (3, 2, 1, 1), {"dilation": 2**31 - 1}),
    Conv("padding larger than everything", (1, 1, 2, 2), (2, 1, 2, 2), {"padding": 4, "stride": 3}),
    Conv("depthwise", (2, 3, 7, 6), (3, 1, 3, 3), {"groups": 3, "padding": 1}, plain=True),
    Conv("depthwise, multiplier, stride", (1, 2, 9, 11), (4, 1, 3, 2), {"groups": 2, "padding": 1, "stride": (2, 3)}),
    Conv("depthwise, dilation", (1, 2, 8, 9), (2, 1, 3, 2), {"groups": 2, "padding": 2, "dilation": (2, 3)}),
    Conv("depthwise, one column of output", (1, 2, 2, 5), (2, 1, 1, 3), {"groups": 2, "dilation": 2}),
    Conv("depthwise, 1x1 plane", (3, 2, 1, 1), (2, 1, 1, 1), {"groups": 2}),
    Conv("one channel, 9 rows of kernel", (1, 1, 14, 6), (1, 1, 9, 3)),
    Conv("one channel to three", (1, 1, 6, 5), (3, 1, 2, 2)),
    Conv("batch 0", (0, 2, 5, 6), (3, 2, 3, 3)),
    Conv("no batch axis", (2, 5, 6), (3, 2, 3, 3), {"padding": 1}),
)

_SMALL_POOL = (
    Pool("plain", (2, 2, 5, 4), 2, plain=True),
    Pool("everything", (2, 2, 7, 6), (3, 2), {"stride": (2, 3), "padding": ((1, 2), (0, 1)), "dilation": (2, 1),
                                             "ceil_mode": True}),
    Pool("one plane, 3x3, padded", (5, 6), 3, {"stride": 2, "padding": 1}),
    Pool("window as large as the image", (1, 2, 4, 5), (4, 5)),
    Pool("large window", (1, 1, 9, 13), (7, 6), {"stride": (1, 2), "padding": (3, 2)}),
    Pool("ceil_mode, window behind the input dropped", (1, 2, 4, 4), 2, {"stride": 3, "padding": 1, "ceil_mode": True}),
    Pool("stride larger than the image", (1, 2, 4, 5), 3, {"stride": (100, 2**31 - 1)}),
    Pool("1x1 window, stride", (1, 2, 4, 5), 1, {"stride": 3}),
    Pool("9x9 window", (1, 1, 9, 9), 9),
    Pool("batch 0", (0, 2, 4, 4), 2),
)

SIMULATED = bool(config.ENABLE_CUDASIM)
CONV = _SMALL_CONV if SIMULATED else (*_SMALL_CONV, *ALL_CONV)
POOL = _SMALL_POOL if SIMULATED else (*_SMALL_POOL, *ALL_POOL)
