"""What the public functions call on the CPU: a verb for each kind of operation, from a spec and arrays to a result.

`fastconv.cuda.calls` has the same verbs for a GPU. A spec is checked already, and the arrays fit it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..specs.arrays import allocate, array, computed_array, copied, hand_over, kernel_ready, result_array
from ..specs.conv import ConvSpec
from ..specs.dtypes import named_dtype
from ..specs.pool import PoolSpec, bounds
from ..specs.unfold import columns_shape
from .algorithms import adaptive_pool
from .algorithms import pool_gradient as gradients
from .algorithms import unpool as unpooling
from .plans import CpuPlan, fastest
from .recipes import ConvRecipe, filter_recipe, planner, recipe, weight_recipe
from .shared import im2col
from .system.threads import num_threads, set_num_threads
from .tiles import simd
from .transposed import TransposedPlan, transposed_recipe

#: Multiply-adds that take as long as moving one element: scales the threshold above which threads are used.
MOVED = 8.0

#: An argument as the verbs take it: looked at, neither copied nor converted.
operand = array


def planned_dtype(dtype: Any) -> np.dtype:
    """A plan's dtype that is told by name; TypeError if it is none that is supported."""
    return named_dtype("dtype", dtype)


# -- convolution ---------------------------------------------------------------------------------------------


def conv(
    spec: ConvSpec, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, algorithm: str, out: Any
) -> np.ndarray:  # fmt: skip
    """A convolution."""
    this = recipe(spec, algorithm, once=True)
    return this.run(x, this.pack(weight, bias), out, (x, weight) if bias is None else (x, weight, bias))


def filtered(this: ConvRecipe, x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """An image, correlated with one kernel by a recipe of `filter_recipe`."""
    return this.run(x[None, None], this.pack(kernel[None, None], bias), None, ())[0, 0]


def conv_transpose(
    spec: ConvSpec, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, algorithm: str, out: Any
) -> np.ndarray:  # fmt: skip
    """The transpose of the convolution `spec`, whose output has the shape of `x`."""
    return transposed_recipe(spec, algorithm).run(weight, x, bias, out)


def input_gradient(spec: ConvSpec, weight: np.ndarray, grad: np.ndarray, algorithm: str, out: Any) -> np.ndarray:
    """The gradient of a convolution for its input; `grad` is the one for its output."""
    return conv_transpose(spec, grad, weight, None, algorithm, out)


def weight_gradient(spec: ConvSpec, x: np.ndarray, grad: np.ndarray, algorithm: str, out: Any) -> np.ndarray:
    """The gradient of a convolution for its weight; `grad` is the one for its output."""
    return weight_recipe(spec, algorithm).run(x, grad, out)


def plan(
    spec: ConvSpec, weight: np.ndarray, bias: np.ndarray | None, algorithm: str, measure: bool, transposed: bool
) -> CpuPlan | TransposedPlan:  # fmt: skip
    """A plan of a convolution, or of its transpose, with copies of weight and bias."""
    weight, bias = copied("weight", weight), None if bias is None else copied("bias", bias)
    if measure and algorithm != "auto":
        raise ValueError(f"measure=True finds an algorithm, but algorithm={algorithm!r} is asked for")
    if transposed:
        return TransposedPlan.measured(spec, weight, bias) if measure else TransposedPlan(spec, weight, bias, algorithm)
    if measure:
        fastest(spec, weight, bias)  # is remembered, and so found by "auto"
    return CpuPlan(spec, weight, bias, algorithm)


# -- pooling -------------------------------------------------------------------------------------------------


def pool(spec: PoolSpec, x: np.ndarray, return_indices: bool, algorithm: str, out: Any) -> Any:
    """A pooling; the pair (values, indices) if `return_indices`."""
    if spec.adaptive:
        return _adaptive_pool(spec, x, return_indices, out)
    return recipe(spec, algorithm).run(x, return_indices, out)


def _adaptive_pool(spec: PoolSpec, x: np.ndarray, return_indices: bool, out: Any) -> Any:
    result = result_array(spec.output_shape, spec.out_dtype, out, (x,))
    indices = allocate(spec.output_shape, np.dtype(np.int64)) if return_indices else None
    if result.size:
        target, inner = computed_array(result, spec.x_dtype), (-1, spec.oh, spec.ow)
        planes = kernel_ready(x, spec.x_dtype).reshape(-1, spec.h, spec.w)
        windows = bounds(spec.h, spec.oh), bounds(spec.w, spec.ow)
        if spec.op == "avg":
            adaptive_pool.average(planes, target.reshape(inner), *windows)
        else:
            places = None if indices is None else indices.reshape(inner)
            adaptive_pool.maximum(planes, target.reshape(inner), places, *windows)
        hand_over(target, result)
    return result if indices is None else (result, indices)


def pool_gradient(spec: PoolSpec, x: np.ndarray, grad: np.ndarray, out: Any) -> np.ndarray:
    """The gradient of a pooling of `x` for its input; `grad` is the one for its output, and gives the dtype."""
    signals = grad if grad.dtype.kind == "f" else grad.astype(np.float64)
    result = result_array((*spec.lead, spec.h, spec.w), signals.dtype.newbyteorder("="), out, (x, grad))
    computed = np.dtype(np.float32) if result.dtype == np.float16 else result.dtype
    target, inner = computed_array(result, computed), (spec.planes, spec.oh, spec.ow)
    if result.size:
        signals = kernel_ready(signals, computed).reshape(inner)
        planes = target.reshape(spec.planes, spec.h, spec.w)
        if spec.op == "max":
            _, indices = recipe(spec, "auto").run(x, True, None)
            gradients.max_pool(indices.reshape(inner), signals, planes)
        else:
            gradients.avg_pool(spec, signals, planes)
        hand_over(target, result)
    return result


def unpool(x: np.ndarray, places: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, out: Any) -> np.ndarray:
    """Maxima put back to their places in planes of zeros."""
    result = result_array(shape, dtype, out, (x, places))
    if places.size:
        planes = math.prod(x.shape[:-2])
        values, flat = kernel_ready(x, result.dtype).reshape(planes, -1), result.reshape(planes, -1)
        bits = f"u{result.itemsize}"  # elements are moved, whatever they are
        found = kernel_ready(places, np.dtype(np.int64)).reshape(planes, -1)
        unpooling.unpool.sized(MOVED * flat.size)(values.view(bits), found, flat.view(bits))
    return result


# -- windows -------------------------------------------------------------------------------------------------


def unfold(spec: ConvSpec, x: np.ndarray, out: Any) -> np.ndarray:
    """The windows of images as columns."""
    columns = columns_shape(spec)
    result = result_array(columns, spec.dtype, out, (x,))
    if result.size:
        images, target = kernel_ready(x, spec.dtype).reshape(spec.kernel_shapes[0]), result
        if spec.dtype.kind != "f" or spec.dtype.itemsize == 2:  # elements are moved, whatever they are
            images, target = images.view(f"u{spec.dtype.itemsize}"), result.view(f"u{spec.dtype.itemsize}")
        pads = spec.padding[0][0], spec.padding[1][0]
        loops = im2col.unroll.sized(MOVED * target.size / spec.n)
        for image, one in zip(images, target.reshape(spec.n, *columns[-2:]), strict=True):
            loops(image, one, 0, (spec.kh, spec.kw, spec.ow), spec.stride, pads, spec.dilation)
    return result


def fold(spec: ConvSpec, columns: np.ndarray, out: Any) -> np.ndarray:
    """Columns summed up to images."""
    result = result_array(spec.x_shape, spec.out_dtype, out, (columns,))
    if result.size:
        sums = computed_array(result, spec.acc_dtype)
        given = kernel_ready(columns, spec.acc_dtype).reshape(spec.n, *columns.shape[-2:])
        window, pads = (spec.kh, spec.kw, spec.oh, spec.ow), (spec.padding[0][0], spec.padding[1][0])
        lanes = simd.lanes(spec.acc_dtype)
        for one, image in zip(given, sums.reshape(spec.kernel_shapes[0]), strict=True):
            im2col.fold.sized(MOVED * one.size)(one, image, window, spec.stride, pads, spec.dilation, lanes)
        hand_over(sums, result)
    return result


__all__ = [
    "conv",
    "conv_transpose",
    "filter_recipe",
    "filtered",
    "fold",
    "input_gradient",
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
