"""The CPU's side of the public functions: a verb for each kind of operation, from a spec and arrays to a result.

`fastconv.cuda.calls` has the same verbs for a GPU. A spec is checked already, and the arrays fit it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.libraries import check_alike
from ..specs.arrays import array, computed_array, copied, hand_over, kernel_ready, result_array
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from ..specs.dtypes import computed, gradient_dtype, named_dtype
from ..specs.pool import PoolSpec
from ..specs.unfold import columns_shape
from ..specs.unpool import UnpoolSpec
from . import planner
from .channels_last import fold_last, unfold_last
from .plans import CpuPlan, fastest
from .recipes import ConvRecipe, filter_recipe, recipe, weight_recipe
from .system.threads import mask_threads, num_threads, set_num_threads


def operand(name: str, value: Any) -> np.ndarray:
    """An argument as an array for the verbs: checked, neither copied nor converted. TypeError if it is one of another
    library, as the input is not."""
    if type(value) is not np.ndarray:
        check_alike(**{name: value})
    return array(name, value)


def planned_dtype(dtype: Any) -> np.dtype:
    """The dtype of a plan, given by name; TypeError unless it is supported."""
    return named_dtype("dtype", dtype)


# -- convolution ---------------------------------------------------------------------------------------------


def conv(
    spec: ConvSpec | TransposeSpec, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, algorithm: str, out: Any
) -> np.ndarray:  # fmt: skip
    """A convolution, or a transposed one."""
    this = recipe(spec, algorithm, for_one_call=True)
    return this.run(x, this.pack(weight, bias), out, (x, weight) if bias is None else (x, weight, bias))


def filtered(this: ConvRecipe, x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """An image, correlated with one kernel by a recipe of `filter_recipe`."""
    return this.run(x[None, None], this.pack(kernel[None, None], bias), None, ())[0, 0]


def input_gradient(spec: TransposeSpec, weight: np.ndarray, grad: np.ndarray, algorithm: str, out: Any) -> np.ndarray:
    """The gradient of a convolution for its input; `grad` is the one for its output."""
    return conv(spec, grad, weight, None, algorithm, out)


def weight_gradient(spec: ConvSpec, x: np.ndarray, grad: np.ndarray, algorithm: str, out: Any) -> np.ndarray:
    """The gradient of a convolution for its weight; `grad` is the one for its output."""
    return weight_recipe(spec, algorithm).run(x, grad, out)


def plan(
    spec: ConvSpec | TransposeSpec, weight: np.ndarray, bias: np.ndarray | None, algorithm: str, measure: bool
) -> CpuPlan:
    """A plan, with copies of weight and bias."""
    weight, bias = copied("weight", weight), None if bias is None else copied("bias", bias)
    if measure:
        if algorithm != "auto":
            raise ValueError(f"measure=True finds an algorithm, but algorithm={algorithm!r} is asked for")
        fastest(spec, weight, bias)  # is remembered, and so found by "auto"
    return CpuPlan(spec, weight, bias, algorithm)


# -- pooling -------------------------------------------------------------------------------------------------


def pool(spec: PoolSpec, x: np.ndarray, return_indices: bool, algorithm: str, out: Any) -> Any:
    """A pooling; the pair (values, indices) if `return_indices`."""
    return recipe(spec, algorithm).run(x, return_indices, out)


def pool_gradient(spec: PoolSpec, x: np.ndarray, grad: np.ndarray, out: Any) -> np.ndarray:
    """The gradient of a pooling of `x` for its input; `grad` is the one for its output, and gives the dtype."""
    result = result_array((*spec.lead, spec.h, spec.w), gradient_dtype(grad.dtype), out, (x, grad), spec)
    target, inner = computed_array(result, computed(result.dtype)), (spec.planes, spec.oh, spec.ow)
    if result.size:
        indices = recipe(spec, "auto").run(x, True, None)[1].reshape(inner) if spec.picks else None
        signals = kernel_ready(grad, target.dtype).reshape(inner)
        algorithm = planner.choose(spec, "auto", op=f"{spec.op}_pool2d_input").algorithm
        algorithm.run(spec, indices, signals, target.reshape(spec.planes, spec.h, spec.w))
        hand_over(target, result)
    return result


def unpool(spec: UnpoolSpec, x: np.ndarray, places: np.ndarray, out: Any) -> np.ndarray:
    """Maxima put back to their places in planes of zeros."""
    result = result_array(spec.output_shape, spec.dtype, out, (x, places), spec)
    if places.size:
        values = kernel_ready(x, spec.dtype).reshape(spec.planes, -1)
        found = kernel_ready(places, np.dtype(np.int64)).reshape(spec.planes, -1)
        algorithm = planner.choose(spec, "auto").algorithm
        algorithm.run(spec, values, found, result.reshape(spec.planes, -1))
    return result


# -- windows -------------------------------------------------------------------------------------------------


def unfold(spec: ConvSpec, x: np.ndarray, out: Any) -> np.ndarray:
    """The windows of images as columns."""
    columns = columns_shape(spec)
    result = result_array(columns, spec.dtype, out, (x,), spec)
    if result.size and spec.channels_last:
        unfold_last(spec, x, result)
    elif result.size:
        images = kernel_ready(x, spec.dtype).reshape(spec.kernel_shapes[0])
        algorithm = planner.choose(spec, "auto", op="unfold2d").algorithm
        algorithm.run(spec, images, result.reshape(spec.n, *columns[-2:]))
    return result


def fold(spec: ConvSpec, columns: np.ndarray, out: Any) -> np.ndarray:
    """Columns summed up to images."""
    result = result_array(spec.x_shape, spec.out_dtype, out, (columns,), spec)
    if result.size:
        sums = computed_array(result, spec.acc_dtype)
        given = kernel_ready(columns, spec.acc_dtype).reshape(spec.n, *columns.shape[-2:])
        if spec.channels_last:
            fold_last(spec, given, sums)
        else:
            algorithm = planner.choose(spec, "auto", op="fold2d").algorithm
            algorithm.run(spec, given, sums.reshape(spec.kernel_shapes[0]))
        hand_over(sums, result)
    return result


__all__ = [
    "conv",
    "filter_recipe",
    "filtered",
    "fold",
    "input_gradient",
    "mask_threads",
    "num_threads",
    "operand",
    "plan",
    "planned_dtype",
    "planner",
    "pool",
    "pool_gradient",
    "set_num_threads",
    "unfold",
    "unpool",
    "weight_gradient",
]
