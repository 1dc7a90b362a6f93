"""The CPU's algorithms: a table for each operation, the most specialised first, the readable definition last.

`fastconv.planner.contract` says what an algorithm has. The tables drive dispatch, tests, benchmarks, `compare` and
`warmup`. Volumes have tables of their own: the algorithms for images, wrapped, and the definition.
"""

from __future__ import annotations

from ..planner.choose import Planner, Table, name
from ..planner.contract import Convolution, Gradient, Move, Pooling
from .algorithms import (
    adaptive_windows,
    conv_dense,
    conv_depthwise,
    conv_dft,
    conv_direct,
    conv_fft,
    conv_fft2d,
    conv_im2col,
    conv_im2col_blas,
    conv_image,
    conv_naive,
    conv_pointwise,
    conv_polyphase,
    conv_row,
    conv_separable,
    conv_winograd,
    fold_col2im,
    gradient_scatter,
    pool_across,
    pool_global,
    pool_naive,
    pool_rows,
    pool_running,
    transpose_depthwise,
    unfold_im2col,
    unpool_scatter,
    weight_channels,
    weight_naive,
    weight_pixels,
)
from .algorithms.transpose_columns import Columns
from .algorithms.transpose_phases import Joint, Named, Phases
from .machine import this_machine
from .shared import volumes
from .system.plain import PLAIN
from .system.threads import num_threads

TABLES: dict[str, Table] = {}
#: Chooses among the tables' algorithms, by costs on one thread.
planner = Planner(TABLES, lambda: this_machine(1), num_threads, "plain" if PLAIN else "automatic")

CONV2D: tuple[Convolution, ...] = (
    conv_dense,
    conv_pointwise,
    conv_winograd,
    conv_depthwise,
    conv_direct,
    conv_separable,
    conv_image,
    conv_row,
    conv_polyphase,
    conv_dft,
    conv_fft2d,
    conv_fft,
    conv_im2col,
    conv_im2col_blas,
    conv_naive,
)
CONV3D: tuple[Convolution, ...] = (
    *(volumes.Convolution(module) for module in CONV2D[:-1] if module is not conv_separable),
    conv_naive,
)
CONV_TRANSPOSE: tuple[Convolution, ...] = (
    transpose_depthwise,
    Columns(conv_pointwise),
    Joint(planner),
    Phases(planner),
    *(Named(planner, name(module)) for module in CONV2D),
)
CONV2D_WEIGHT: tuple[Gradient, ...] = (weight_pixels, weight_channels, weight_naive)
POOL2D: tuple[Pooling, ...] = (pool_global, pool_across, pool_running, pool_rows, pool_naive)
POOL3D: tuple[Pooling, ...] = (*(volumes.Pooling(module, POOL2D) for module in POOL2D[:-1]), pool_naive)
ADAPTIVE_POOL: tuple[Pooling, ...] = (adaptive_windows,)
POOL_GRADIENT: tuple[Gradient, ...] = (gradient_scatter,)
UNPOOL: tuple[Gradient, ...] = (unpool_scatter,)
UNFOLD: tuple[Move, ...] = (unfold_im2col,)
FOLD: tuple[Move, ...] = (fold_col2im,)

for axes in (2, 1, 3):  # a signal is an image of height 1
    TABLES |= {f"conv{axes}d": CONV3D if axes == 3 else CONV2D, f"conv_transpose{axes}d": CONV_TRANSPOSE}
    TABLES |= {f"{op}_pool{axes}d": POOL3D if axes == 3 else POOL2D for op in ("max", "min", "avg", "lp")}
TABLES |= {"conv2d_input": CONV_TRANSPOSE, "conv2d_weight": CONV2D_WEIGHT}
TABLES |= {f"{op}_pool2d_input": POOL_GRADIENT for op in ("max", "min", "avg")}
TABLES |= {f"adaptive_{op}_pool2d": ADAPTIVE_POOL for op in ("max", "avg")}
TABLES |= {"max_unpool2d": UNPOOL, "unfold2d": UNFOLD, "fold2d": FOLD}
