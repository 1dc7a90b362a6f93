"""From a spec to a gradient, as `plan` does to a result. (That for a convolution's input is in `transposed`.)"""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import allocate, check_out, kernel_ready
from .plan import _convert, _target, choose, pool
from .spec import ConvSpec, PoolSpec


def conv2d_weight(
    spec: ConvSpec, x: np.ndarray, grad: np.ndarray, algorithm: str, device: str, out: Any
) -> np.ndarray:
    """The gradient of the convolution `spec` for its weight; `grad` is the one for its output."""
    module = choose("conv2d_weight", spec, algorithm, device)
    result = _result(spec.weight_shape, spec.out_dtype, out, (x, grad))
    target = _target(result, spec.acc_dtype)
    seen, _, written = spec.kernel_shapes
    images, signals = kernel_ready(x, spec.x_dtype), kernel_ready(grad, spec.acc_dtype)
    module.run(spec, images.reshape(seen), signals.reshape(written), target)
    _convert(target, result)
    return result


def pool2d(spec: PoolSpec, x: np.ndarray, grad: np.ndarray, device: str, out: Any) -> np.ndarray:
    """The gradient of a pooling of `x` for its input; `grad` is the one for its output, and gives the dtype."""
    from .cpu import scatter

    signals = grad if grad.dtype.kind == "f" else grad.astype(np.float64)
    result = _result((*spec.lead, spec.h, spec.w), signals.dtype.newbyteorder("="), out, (x, grad))
    computed = np.dtype(np.float32) if result.dtype == np.float16 else result.dtype
    target, inner = _target(result, computed), (spec.planes, spec.oh, spec.ow)
    if result.size:
        signals = kernel_ready(signals, computed).reshape(inner)
        planes = target.reshape(spec.planes, spec.h, spec.w)
        if spec.op == "max":
            _, indices = pool(spec, x, True, "auto", device, None)
            scatter.max_pool(indices.reshape(inner), signals, planes)
        else:
            scatter.avg_pool(spec, signals, planes)
        _convert(target, result)
    return result


def _result(shape: tuple[int, ...], dtype: np.dtype, out: Any, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    return allocate(shape, dtype) if out is None else check_out(out, shape, dtype, inputs)
