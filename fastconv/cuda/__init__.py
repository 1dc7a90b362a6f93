"""Tables of the GPU's algorithms, one for each operation: the most specialised first, the readable definition last.

`fastconv.planner.contract` says what an algorithm offers; `prepare` and `run` take a stream as their last argument.
Arrays are `system.streams.Tensor` (a pointer, a shape, strides in elements). `x`, `weight` and `grad` have the spec's
dtype; `out` has `spec.out_dtype` (a gradient's may have `spec.acc_dtype`); `bias` is a `system.streams.Buffer` of
`spec.acc_dtype`. An algorithm takes memory only from `stream.empty`, and never waits for the device.
"""

from __future__ import annotations

from ..planner.choose import Planner, Table, name
from .algorithms import (
    conv_depthwise,
    conv_im2col,
    conv_implicit_gemm,
    conv_naive,
    conv_pointwise,
    conv_winograd,
    fold_col2im,
    gradient_gather,
    pool_global,
    pool_naive,
    pool_rows,
    pool_running,
    unfold_im2col,
    unpool_scatter,
    weight_implicit_gemm,
    weight_naive,
    weight_pixels,
)
from .algorithms.transpose_phases import Phases
from .machine import this_machine
from .shared.volumes import Convolution, Pooling

TABLES: dict[str, Table] = {}
#: Chooses among the tables' algorithms; on a GPU nothing is measured and remembered.
planner = Planner(TABLES, this_machine)

CONV2D = (conv_depthwise, conv_pointwise, conv_winograd, conv_implicit_gemm, conv_im2col, conv_naive)
CONV3D = tuple(Convolution(module) for module in CONV2D)
CONV_TRANSPOSE = (Phases(planner), *(Phases(planner, name(module)) for module in CONV2D))
CONV2D_WEIGHT = (weight_pixels, weight_implicit_gemm, weight_naive)
POOL2D = (pool_global, pool_running, pool_rows, pool_naive)
#: `pool_naive` needs no wrapper: it pools volumes itself.
POOL3D = (*(Pooling(module, POOL2D) for module in POOL2D[:-1]), pool_naive)

for axes in (2, 1, 3):  # a signal is an image of height 1
    TABLES |= {f"conv{axes}d": CONV3D if axes == 3 else CONV2D, f"conv_transpose{axes}d": CONV_TRANSPOSE}
    TABLES |= {f"{op}_pool{axes}d": POOL3D if axes == 3 else POOL2D for op in ("max", "min", "avg", "lp")}
TABLES |= {"conv2d_input": CONV_TRANSPOSE, "conv2d_weight": CONV2D_WEIGHT}
TABLES |= {f"{op}_pool2d_input": (gradient_gather,) for op in ("max", "min", "avg")}
TABLES |= {f"adaptive_{op}_pool2d": (pool_global,) for op in ("max", "avg")}
TABLES |= {"max_unpool2d": (unpool_scatter,), "unfold2d": (unfold_im2col,), "fold2d": (fold_col2im,)}
