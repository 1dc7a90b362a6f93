"""What the public functions call on a GPU: the verbs of `fastconv.cpu.calls`, from a spec and operands to a result.

Arrays of NumPy are copied to the GPU and back in slices of the batch; arrays on a GPU are used in place, on their
owner's current stream, and nothing here waits for the device.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..specs.arrays import allocate, result_array
from ..specs.conv import ConvSpec, filter_spec
from ..specs.dtypes import BFLOAT16, named_dtype
from ..specs.pool import PoolSpec
from .algorithms import pool_global
from .gradients import input_gradient, pool_gradient, weight_gradient
from .machine import this_machine
from .moves import fold, unfold, unpool
from .operands import Operand, operand, planner
from .plans import DevicePlan, TransposedDevicePlan
from .system import arrays, host_slices
from .system.arrays import Array
from .system.streams import Buffer, Stream, dense


def planned_dtype(value: Any) -> np.dtype:
    """A plan's dtype that is told by name, also by PyTorch's; TypeError if it is none that is supported."""
    if value == "bfloat16" or str(value) == "torch.bfloat16":
        return BFLOAT16
    return named_dtype("dtype", str(value).removeprefix("torch.") if "torch." in str(value) else value)


# -- convolution ---------------------------------------------------------------------------------------------


def conv(spec: ConvSpec, x: Operand, weight: Operand, bias: Operand | None, algorithm: str, out: Any) -> Any:
    """A convolution."""
    return DevicePlan(spec, weight, bias, algorithm, wait=False).run_on_gpu(x, out)


class Filter(NamedTuple):
    """An image filter that is checked."""

    spec: ConvSpec


def filter_recipe(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], dtypes: tuple[np.dtype, ...]) -> Filter:
    """An image filter, checked."""
    return Filter(filter_spec(x_shape, weight_shape, dtypes))


def filtered(this: Filter, x: Operand, kernel: Operand, bias: np.ndarray | None) -> Any:
    """An image, correlated with one kernel."""
    return conv(this.spec, x, kernel, bias, "auto", None)[0, 0]


def conv_transpose(spec: ConvSpec, x: Operand, weight: Operand, bias: Operand | None, algorithm: str, out: Any) -> Any:
    """The transpose of the convolution `spec`, whose output has the shape of `x`."""
    return TransposedDevicePlan(spec, weight, bias, algorithm, wait=False).run_on_gpu(x, out)


def plan(
    spec: ConvSpec, weight: Operand, bias: Operand | None, algorithm: str, measure: bool, transposed: bool
) -> DevicePlan:  # fmt: skip
    """A plan of a convolution, or of its transpose."""
    if measure:
        raise ValueError("measure=True is for device='cpu'; on a GPU the planner estimates")
    return (TransposedDevicePlan if transposed else DevicePlan)(spec, weight, bias, algorithm)


# -- pooling -------------------------------------------------------------------------------------------------


def pool(spec: PoolSpec, x: Operand, return_indices: bool, algorithm: str, out: Any) -> Any:
    """A pooling; the pair (values, indices) if `return_indices`."""
    if not spec.adaptive:
        module, _ = planner.choose(spec, algorithm)
    elif reason := pool_global.supports(spec):
        raise ValueError(f"output_size {spec.output_shape[-2:]} is not supported on a GPU: {reason}")
    else:
        module = pool_global
    if isinstance(x, np.ndarray):
        return _pool_host(spec, module, x, return_indices, out)
    return _pool_device(spec, module, x, return_indices, out)


def _pool_device(spec: PoolSpec, module: Any, x: Array, return_indices: bool, out: Any) -> Any:
    stream = arrays.current_stream(x)
    lead = (1, 1, *spec.lead)[-2:]
    sizes, outs = (shape[1:] for shape in spec.kernel_shapes)
    with stream.current():
        image = x.tensor((*lead, *sizes), spec.axes)
        last = image.channels_last and not image.contiguous
        result = arrays.result(x, spec.output_shape, spec.out_dtype, out, (x,), last)
        indices = arrays.empty_like(x, spec.output_shape, np.dtype(np.int64)) if return_indices else None
        if math.prod(spec.output_shape):
            inner = (*lead, *outs)
            found = None if indices is None else indices.tensor(inner, spec.axes)
            module.run(spec, image, result.tensor(inner, spec.axes), found, stream)
    values = result.value if out is None else out
    return values if indices is None else (values, indices.value)


def _pool_host(spec: PoolSpec, module: Any, x: np.ndarray, return_indices: bool, out: Any) -> Any:
    result = result_array(spec.output_shape, spec.out_dtype, out, [x])
    indices = allocate(spec.output_shape, np.dtype(np.int64)) if return_indices else None
    if result.size:
        shape, inner = spec.kernel_shapes
        outs = [result.reshape(inner), *([] if indices is None else [indices.reshape(inner)])]
        item = math.prod(shape[1:]) * spec.dtype.itemsize + sum(array[0].nbytes for array in outs)
        step = host_slices.slices(spec.planes, item, module.scratch(replace(spec, lead=(1,))), this_machine().memory)

        def run(stream: Stream, _: Any, given: list[Buffer], results: list[Buffer], items: int) -> None:
            part = replace(spec, lead=(items,))
            targets = [dense(buffer, (1, items, *inner[1:])) for buffer in results]
            image = dense(given[0], (1, items, *shape[1:]))
            module.run(part, image, targets[0], targets[1] if len(targets) > 1 else None, stream)

        host_slices.pipeline([(x.reshape(shape), spec.dtype)], outs, step, run)
    return result if indices is None else (result, indices)


__all__ = [
    "conv",
    "conv_transpose",
    "filter_recipe",
    "filtered",
    "fold",
    "input_gradient",
    "operand",
    "plan",
    "planned_dtype",
    "planner",
    "pool",
    "pool_gradient",
    "unfold",
    "unpool",
    "weight_gradient",
]
