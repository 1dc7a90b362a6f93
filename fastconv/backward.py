"""From a spec to a gradient, as `plan` does to a result. (That for a convolution's input is in `transposed`.)"""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import kernel_ready, result_array
from .choice import choose
from .plan import computed_array, hand_over, recipe
from .pool_spec import PoolSpec
from .spec import ConvSpec


def conv2d_weight(
    spec: ConvSpec, x: np.ndarray, grad: np.ndarray, algorithm: str, device: str, out: Any
) -> np.ndarray:
    """The gradient of the convolution `spec` for its weight; `grad` is the one for its output."""
    module, _ = choose("conv2d_weight", spec, algorithm, device)
    result = result_array(spec.weight_shape, spec.out_dtype, out, (x, grad))
    target = computed_array(result, spec.acc_dtype)
    seen, _, written = spec.kernel_shapes
    images, signals = kernel_ready(x, spec.x_dtype), kernel_ready(grad, spec.acc_dtype)
    module.run(spec, images.reshape(seen), signals.reshape(written), target)
    hand_over(target, result)
    return result


def pool2d(spec: PoolSpec, x: np.ndarray, grad: np.ndarray, device: str, out: Any) -> np.ndarray:
    """The gradient of a pooling of `x` for its input; `grad` is the one for its output, and gives the dtype."""
    from .cpu import scatter

    signals = grad if grad.dtype.kind == "f" else grad.astype(np.float64)
    result = result_array((*spec.lead, spec.h, spec.w), signals.dtype.newbyteorder("="), out, (x, grad))
    computed = np.dtype(np.float32) if result.dtype == np.float16 else result.dtype
    target, inner = computed_array(result, computed), (spec.planes, spec.oh, spec.ow)
    if result.size:
        signals = kernel_ready(signals, computed).reshape(inner)
        planes = target.reshape(spec.planes, spec.h, spec.w)
        if spec.op == "max":
            _, indices = recipe(spec, "auto", device).run(x, True, None)
            scatter.max_pool(indices.reshape(inner), signals, planes)
        else:
            scatter.avg_pool(spec, signals, planes)
        hand_over(target, result)
    return result
