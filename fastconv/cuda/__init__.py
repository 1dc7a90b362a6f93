"""The GPU's algorithms: a table for each kind of operation, most specialised first, the readable definition last.

The same contract as in `cpu`, with a stream more; arrays are `streams.Tensor` (a pointer, a shape, steps in elements)::

    supports(spec) -> None, or the reason why not, in words a user can act on
    cost(spec, machine) -> estimated seconds
    scratch(spec) -> bytes it allocates (by `stream.empty`) while it runs
    prepare(spec, weight, stream) -> packed weights                (convolution only; done once by a Plan)
    run(spec, x, packed, bias, out, stream) -> None                (convolution)
    run(spec, x, grad, out, stream) -> None                        (gradient for a convolution's weight)
    run(spec, x, out, indices, stream) -> None                     (pooling; indices is None or an int64 Tensor)

`x`, `weight` and `grad` have the spec's dtype, `out` has `spec.out_dtype` (a gradient's may be `spec.acc_dtype`),
`bias` is a `streams.Buffer` of `spec.acc_dtype`.
Nothing waits for the device.
"""

from ..planner.choose import by_operation
from .algorithms import (
    conv_depthwise,
    conv_im2col,
    conv_implicit_gemm,
    conv_naive,
    conv_pointwise,
    conv_winograd,
    pool_global,
    pool_naive,
    pool_rows,
    pool_running,
    weight_implicit_gemm,
    weight_naive,
    weight_pixels,
)
from .shared.volumes import Convolution, Pooling

CONV2D = (conv_depthwise, conv_pointwise, conv_winograd, conv_implicit_gemm, conv_im2col, conv_naive)
CONV2D_WEIGHT = (weight_pixels, weight_implicit_gemm, weight_naive)
POOL2D = (pool_global, pool_running, pool_rows, pool_naive)
CONV3D = tuple(Convolution(module) for module in CONV2D)
#: The definition pools volumes as they are.
POOL3D = (*(Pooling(module, POOL2D) for module in POOL2D[:-1]), pool_naive)
TABLES = by_operation(CONV2D, CONV3D, POOL2D, POOL3D, CONV2D_WEIGHT)
