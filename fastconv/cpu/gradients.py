"""From a spec to a gradient, as `plan` does to a result. (That for a convolution's input is in `transposed`.)"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..specs.arrays import computed_array, hand_over, is_small, kernel_ready, result_array
from ..specs.conv import ConvSpec
from ..specs.pool import PoolSpec
from . import remember
from .choose import check_name, choose, runtime
from .plan import recipe


class WeightRecipe:
    """A convolution and what gives the gradient for its weight: all of a call but the arrays."""

    __slots__ = ("_module", "_seen", "_small", "_spec", "_written")

    def __init__(self, spec: ConvSpec, algorithm: str) -> None:
        self._spec, (self._seen, _, self._written) = spec, spec.kernel_shapes
        self._module, _ = choose("conv2d_weight", spec, algorithm, "cpu")
        self._small = is_small(spec.weight_shape, spec.out_dtype)

    def run(self, x: np.ndarray, grad: np.ndarray, out: Any) -> np.ndarray:
        """The gradient; `grad` is the one for the output."""
        spec = self._spec
        if out is None and self._small:
            result = np.empty(spec.weight_shape, spec.out_dtype)
        else:
            result = result_array(spec.weight_shape, spec.out_dtype, out, (x, grad))
        target = computed_array(result, spec.acc_dtype)
        images, signals = kernel_ready(x, spec.x_dtype), kernel_ready(grad, spec.acc_dtype)
        if not spec.batched:
            images, signals = images.reshape(self._seen), signals.reshape(self._written)
        self._module.run(spec, images, signals, target)
        hand_over(target, result)
        return result


def weight_recipe(spec: ConvSpec, algorithm: str) -> WeightRecipe:
    """The recipe for an algorithm that is asked for by name, or the cheapest; kept for the next call."""
    check_name(algorithm)
    return _weight_recipe(spec, algorithm, runtime().num_threads(), remember.generation)


@lru_cache(maxsize=4096)
def _weight_recipe(spec: ConvSpec, algorithm: str, *choice: int) -> WeightRecipe:
    """`choice` is what the answer of `choose` depends on beside the arguments."""
    return WeightRecipe(spec, algorithm)


def pool2d(spec: PoolSpec, x: np.ndarray, grad: np.ndarray, out: Any) -> np.ndarray:
    """The gradient of a pooling of `x` for its input; `grad` is the one for its output, and gives the dtype."""
    from ..cpu.algorithms import pool_gradient

    signals = grad if grad.dtype.kind == "f" else grad.astype(np.float64)
    result = result_array((*spec.lead, spec.h, spec.w), signals.dtype.newbyteorder("="), out, (x, grad))
    computed = np.dtype(np.float32) if result.dtype == np.float16 else result.dtype
    target, inner = computed_array(result, computed), (spec.planes, spec.oh, spec.ow)
    if result.size:
        signals = kernel_ready(signals, computed).reshape(inner)
        planes = target.reshape(spec.planes, spec.h, spec.w)
        if spec.op == "max":
            _, indices = recipe(spec, "auto").run(x, True, None)
            pool_gradient.max_pool(indices.reshape(inner), signals, planes)
        else:
            pool_gradient.avg_pool(spec, signals, planes)
        hand_over(target, result)
    return result
