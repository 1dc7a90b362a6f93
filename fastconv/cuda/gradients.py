"""Gradients on a GPU.

Arrays of NumPy are copied to the GPU and back in slices, and arrays on a GPU are used in place, on their owner's
current stream, without waiting for the device.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..specs.arrays import computed_array, hand_over, result_array
from ..specs.conv import ConvSpec
from ..specs.dtypes import BFLOAT16
from ..specs.pool import PoolSpec
from .algorithms import pool_gradient as kernels
from .machine import this_machine
from .operands import Operand, check_together, planner
from .plans import TransposedDevicePlan
from .shared.convert import converted
from .shared.pooling import lanes_last
from .system import arrays, host_slices
from .system.arrays import Array
from .system.streams import Buffer, Stream, Tensor, dense

# -- convolution ---------------------------------------------------------------------------------------------


def weight_gradient(spec: ConvSpec, x: Any, grad: Any, algorithm: str, out: Any) -> Any:
    """The gradient of a convolution for its weight; `grad` is the one for its output."""
    check_together(grad, "grad_output", x, "input")
    module, _ = planner.choose(spec, algorithm, op="conv2d_weight")
    if isinstance(x, np.ndarray):
        return _weight_of_host(spec, module, x, grad, out)
    return _weight_on_device(spec, module, x, grad, out)


def _weight_on_device(spec: ConvSpec, module: Any, x: Array, grad: Array, out: Any) -> Any:
    images, weights, signals = spec.kernel_shapes
    stream = arrays.current_stream(x)
    with stream.current():
        result = arrays.result(x, spec.weight_shape, spec.out_dtype, out, (x, grad))
        seen, signal = (converted(given, spec.dtype, stream) for given in (x.tensor(images), grad.tensor(signals)))
        module.run(spec, seen, signal, result.tensor(weights), stream)
    return result.value if out is None else out


def _weight_of_host(spec: ConvSpec, module: Any, x: np.ndarray, grad: np.ndarray, out: Any) -> np.ndarray:
    """Slices of the batch give sums each, which are added up here in their order."""
    result = result_array(spec.weight_shape, spec.out_dtype, out, (x, grad))
    target = computed_array(result, spec.acc_dtype)
    target[...] = 0
    images, weights, signals = spec.kernel_shapes
    item = (math.prod(images[1:]) + math.prod(signals[1:])) * spec.dtype.itemsize
    step = host_slices.slices(spec.n, item, module.scratch(replace(spec, n=1)), this_machine().memory)

    def run(stream: Stream, _: Any, given: list[Buffer], items: int) -> list[Buffer]:
        part = spec if items == spec.n else replace(spec, n=items)
        sums = stream.empty(target.size, spec.acc_dtype)
        seen, signal = (_items(*pair) for pair in zip(given, (images, signals), strict=True))
        module.run(part, seen, signal, _items(sums, weights), stream)
        return [sums]

    def take(first: int, last: int, parts: list[np.ndarray]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            np.add(target, parts[0].reshape(target.shape), out=target)

    inputs = (x.reshape(images), spec.dtype), (grad.reshape(signals), spec.dtype)
    host_slices.passed(inputs, step, run, take)
    hand_over(target, result)
    return result


def input_gradient(spec: ConvSpec, weight: Operand, grad: Operand, algorithm: str, out: Any) -> Any:
    """The gradient of a convolution for its input; `grad` is the one for its output."""
    check_together(grad, "grad_output", weight, "weight")
    return TransposedDevicePlan(spec, weight, None, algorithm, wait=False).run_on_gpu(grad, out)


def _items(buffer: Buffer, shape: tuple[int, ...]) -> Tensor:
    """As many items of a shape as there are."""
    _, c, h, w = shape
    return dense(buffer, (buffer.size // (c * h * w), c, h, w))


# -- pooling -------------------------------------------------------------------------------------------------


def pool_gradient(spec: PoolSpec, x: Any, grad: Any, out: Any) -> Any:
    """The gradient of a pooling of `x` for its input; `grad` is the one for its output, and gives the dtype."""
    check_together(grad, "grad_output", x, "input")
    dtype = grad.dtype.newbyteorder("=") if grad.dtype.kind == "f" else grad.dtype
    if dtype != BFLOAT16 and dtype.kind != "f":
        dtype = np.dtype(np.float64)
    if isinstance(x, np.ndarray):
        return _pool_of_host(spec, x, grad, dtype, out)
    return _pool_on_device(spec, x, grad, dtype, out)


def _gradient(spec: PoolSpec, image: Tensor | None, grad: Tensor, out: Tensor, stream: Stream) -> None:
    """The kernels. `image` is what was pooled, for maxima."""
    if image is None:
        kernels.avg_pool(spec, grad, out, stream)
        return
    values = kernels.like(image, grad.shape, spec.out_dtype, stream)
    indices = kernels.like(image, grad.shape, np.dtype(np.int64), stream)
    module, _ = planner.choose(spec, "auto")
    module.run(spec, image, values, indices, stream)
    kernels.max_pool(spec, indices, grad, out, stream)


def _pool_on_device(spec: PoolSpec, x: Array, grad: Array, dtype: np.dtype, out: Any) -> Any:
    n, c = (1, 1, *spec.lead)[-2:]
    stream = arrays.current_stream(x)
    with stream.current():
        image = x.tensor((n, c, spec.h, spec.w), spec.axes)
        result = arrays.result(x, x.shape, dtype, out, (x, grad), lanes_last(image))
        if x.size:
            signal = converted(grad.tensor((n, c, spec.oh, spec.ow), spec.axes), dtype, stream)
            target = result.tensor(image.shape, spec.axes)
            _gradient(spec, image if spec.op == "max" else None, signal, target, stream)
    return result.value if out is None else out


def _pool_of_host(spec: PoolSpec, x: np.ndarray, grad: np.ndarray, dtype: np.dtype, out: Any) -> np.ndarray:
    result = result_array(x.shape, dtype, out, (x, grad))
    if not result.size:
        return result
    planes, signals = (spec.planes, spec.h, spec.w), (spec.planes, spec.oh, spec.ow)
    inputs = [(grad.reshape(signals), dtype)]
    if spec.op == "max":
        inputs.append((x.reshape(planes), spec.dtype))
    item = sum(array[0].size * kind.itemsize for array, kind in inputs) + spec.h * spec.w * dtype.itemsize
    # Of maxima and their indices, or of columns that are gathered first.
    between = spec.oh * (spec.ow * (8 + spec.dtype.itemsize) if spec.op == "max" else spec.w * 8)
    step = host_slices.slices(spec.planes, item, between, this_machine().memory)

    def run(stream: Stream, _: Any, given: list[Buffer], results: list[Buffer], items: int) -> None:
        sizes = [(items, *array.shape[1:]) for array, _ in inputs]
        signal, *images = (dense(buffer, (1, *size)) for buffer, size in zip(given, sizes, strict=True))
        target = dense(results[0], (1, items, spec.h, spec.w))
        part = replace(spec, lead=(items,))
        _gradient(part, images[0] if images else None, signal, target, stream)

    host_slices.pipeline(inputs, [result.reshape(planes)], step, run)
    return result


__all__ = ["input_gradient", "pool_gradient", "weight_gradient"]
