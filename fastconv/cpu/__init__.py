"""The CPU's algorithms: tables, most specialised first, the readable definition last. Volumes have their own.

Every module here keeps the same contract, and the tables drive dispatch, tests, benchmarks and `compare`::

    supports(spec) -> None, or the reason why not, in words a user can act on
    cost(spec, machine) -> estimated seconds
    scratch(spec) -> bytes it allocates while it runs
    prepare(spec, weight) -> packed weights                     (convolution only; done once by a Plan)
    prepare_cost(spec, machine) -> estimated seconds            (convolution; nothing where it is missing)
    run(spec, x, packed, bias, out) -> None                     (convolution)
    run(spec, x, grad, out) -> None                             (gradient for a convolution's weight)
    run(spec, x, out, indices) -> None                          (pooling; indices is None or an int64 array)

A convolution for special weights has one function more, and is not among those that ``"auto"`` picks for any::

    fit(spec, weight) -> packed weights, or None if these do not suit it
"""

from ..planner.choose import by_operation
from .algorithms import (
    conv_dense,
    conv_depthwise,
    conv_dft,
    conv_direct,
    conv_fft,
    conv_fft2d,
    conv_im2col,
    conv_image,
    conv_naive,
    conv_pointwise,
    conv_polyphase,
    conv_row,
    conv_separable,
    conv_winograd,
    pool_across,
    pool_global,
    pool_naive,
    pool_rows,
    pool_running,
    weight_channels,
    weight_naive,
    weight_pixels,
)
from .shared import volumes

CONV2D = (
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
    conv_naive,
)
CONV2D_WEIGHT = (weight_pixels, weight_channels, weight_naive)
POOL2D = (pool_global, pool_across, pool_running, pool_rows, pool_naive)
CONV3D = (*(volumes.Convolution(module) for module in CONV2D[:-1] if module is not conv_separable), conv_naive)
POOL3D = (*(volumes.Pooling(module, POOL2D) for module in POOL2D[:-1]), pool_naive)
TABLES = by_operation(CONV2D, CONV3D, POOL2D, POOL3D, CONV2D_WEIGHT)
