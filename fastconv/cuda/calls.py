"""Functions that the public functions call on a GPU, from a spec and operands to a result; `fastconv.cpu.calls` has
functions with these names for the CPU.

NumPy arrays are copied to the GPU and back in slices. Arrays on a GPU are used in place, on their owner's current
stream, and nothing here waits for the device (`fastconv.cuda.driver`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..specs.arrays import computed_array, hand_over, result_array
from ..specs.conv import ConvSpec, filter_spec
from ..specs.conv_transpose import TransposeSpec
from ..specs.dtypes import gradient_dtype, named_dtype, native
from ..specs.pool import PoolSpec
from ..specs.unfold import columns_shape
from ..specs.unpool import UnpoolSpec
from . import planner
from .algorithms.gradient_gather import like
from .driver import Given, Job, Wanted, run
from .machine import this_machine
from .operands import Operand, check_layout, check_together, operand
from .plans import DevicePlan
from .system import host_slices
from .system.streams import Buffer, Stream, Tensor, dense

_INT64 = np.dtype(np.int64)


def planned_dtype(value: Any) -> np.dtype:
    """The dtype of a plan that `value` names, also by PyTorch's name; TypeError if it is not supported."""
    return named_dtype("dtype", value, native)


# -- convolution ---------------------------------------------------------------------------------------------


def conv(
    spec: ConvSpec | TransposeSpec, x: Operand, weight: Operand, bias: Operand | None, algorithm: str, out: Any
) -> Any:
    """The result of a convolution or of a transposed convolution."""
    return DevicePlan(spec, weight, bias, algorithm, wait=False).run_on_gpu(x, out)


class Filter(NamedTuple):
    """A checked image filter."""

    spec: ConvSpec


def filter_recipe(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], dtypes: tuple[np.dtype, ...], padding: Any = 0,
    padding_mode: Any = "zeros",
) -> Filter:  # fmt: skip
    """Check an image filter."""
    return Filter(filter_spec(x_shape, weight_shape, dtypes, padding, padding_mode))


def filtered(this: Filter, x: Operand, kernel: Operand, bias: np.ndarray | None) -> Any:
    """An image correlated with one kernel, plus the bias."""
    return conv(this.spec, x, kernel, bias, "auto", None)[0, 0]


def plan(
    spec: ConvSpec | TransposeSpec, weight: Operand, bias: Operand | None, algorithm: str, measure: bool
) -> DevicePlan:
    """A plan with packed weight and bias."""
    if measure:
        raise ValueError("measure=True is for device='cpu'; on a GPU the planner estimates")
    return DevicePlan(spec, weight, bias, algorithm)


def input_gradient(spec: TransposeSpec, weight: Operand, grad: Operand, algorithm: str, out: Any) -> Any:
    """The gradient of a convolution for its input; `grad` is the gradient for its output."""
    check_together(grad, "grad_output", weight, "weight")
    return conv(spec, grad, weight, None, algorithm, out)


def weight_gradient(spec: ConvSpec, x: Operand, grad: Operand, algorithm: str, out: Any) -> Any:
    """The gradient of a convolution for its weight; `grad` is the gradient for its output."""
    check_together(grad, "grad_output", x, "input")
    check_layout(spec)
    chosen = planner.choose(spec, algorithm, op="conv2d_weight").algorithm
    if isinstance(x, np.ndarray):
        return _weight_in_slices(spec, chosen, x, grad, out)  # type: ignore[arg-type]

    def kernel(items: int, _: Any, given: Sequence[Tensor], made: Sequence[Tensor], stream: Stream) -> None:
        chosen.run(spec, *given, *made, stream)

    images, weights, signals = spec.kernel_shapes
    inputs = Given(x, images, spec.dtype), Given(grad, signals, spec.dtype)
    return run(Job(kernel, spec.n), inputs, [Wanted(spec.weight_shape, weights, spec.out_dtype)], out)[0]


def _weight_in_slices(spec: ConvSpec, chosen: Any, x: np.ndarray, grad: np.ndarray, out: Any) -> np.ndarray:
    """The gradient for the weight, from the sums of each slice of the batch, which are added up here in order."""
    result = result_array(spec.weight_shape, spec.out_dtype, out, (x, grad))
    target = computed_array(result, spec.acc_dtype)
    target[...] = 0
    images, weights, signals = spec.kernel_shapes
    item = (math.prod(images[1:]) + math.prod(signals[1:])) * spec.dtype.itemsize
    step = host_slices.slices(spec.n, item, chosen.scratch(spec.of_images(1)), this_machine().memory)

    def sums_of(stream: Stream, _: Any, given: list[Buffer], items: int) -> list[Buffer]:
        sums = stream.empty(target.size, spec.acc_dtype)
        seen, signal = (dense(one, (items, *shape[1:])) for one, shape in zip(given, (images, signals), strict=True))
        chosen.run(spec.of_images(items), seen, signal, dense(sums, weights), stream)
        return [sums]

    def take(first: int, last: int, parts: list[np.ndarray]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            np.add(target, parts[0].reshape(target.shape), out=target)

    inputs = (x.reshape(images), spec.dtype), (grad.reshape(signals), spec.dtype)
    host_slices.passed(inputs, step, sums_of, take)
    hand_over(target, result)
    return result


# -- pooling -------------------------------------------------------------------------------------------------


def pool(spec: PoolSpec, x: Operand, return_indices: bool, algorithm: str, out: Any) -> Any:
    """The result of a pooling; the pair (values, indices) with `return_indices`."""
    chosen = planner.choose(spec, algorithm).algorithm
    (_, *sizes), (_, *outs) = spec.kernel_shapes

    def kernel(items: int, _: Any, given: Sequence[Tensor], made: Sequence[Tensor], stream: Stream) -> None:
        chosen.run(_of_planes(spec, items), *given, made[0], made[1] if return_indices else None, stream)

    job = Job(kernel, spec.planes, spec.axes, chosen.scratch(replace(spec, lead=(1,))), lead=(1, 1, *spec.lead)[-2:],
              keeps_layout=True)  # fmt: skip
    dtypes = (spec.out_dtype, _INT64)[: 1 + return_indices]
    wanted = [Wanted(spec.output_shape, (1, None, *outs), dtype) for dtype in dtypes]
    made = run(job, [Given(x, (1, None, *sizes), spec.dtype)], wanted, out)
    return tuple(made) if return_indices else made[0]


def _of_planes(spec: PoolSpec, planes: int) -> PoolSpec:
    return spec if planes == spec.planes else replace(spec, lead=(planes,))


def pool_gradient(spec: PoolSpec, x: Operand, grad: Operand, out: Any) -> Any:
    """The gradient of a pooling of `x` for its input; `grad` is the gradient for its output, and gives the dtype."""
    check_together(grad, "grad_output", x, "input")
    dtype = gradient_dtype(grad.dtype)
    pooling = planner.choose(spec, "auto").algorithm
    gradient = planner.choose(spec, "auto", op=f"{spec.op}_pool2d_input").algorithm

    def kernel(items: int, _: Any, given: Sequence[Tensor], made: Sequence[Tensor], stream: Stream) -> None:
        *image, signal = given
        part, indices = _of_planes(spec, items), None
        if spec.picks:
            values = like(image[0], signal.shape, spec.out_dtype, stream)
            indices = like(image[0], signal.shape, _INT64, stream)
            pooling.run(part, image[0], values, indices, stream)
        gradient.run(part, indices, signal, made[0], stream)

    # Of maxima and their indices, or of columns that are gathered first.
    between = spec.oh * spec.ow * (8 + spec.dtype.itemsize) if spec.picks else spec.oh * spec.w * 8
    job = Job(kernel, spec.planes, spec.axes, between, lead=(1, 1, *spec.lead)[-2:], keeps_layout=True)
    planes, signals = (1, None, spec.h, spec.w), (1, None, spec.oh, spec.ow)
    needed = spec.picks or not isinstance(x, np.ndarray)  # on a device it tells the stream and the layout
    inputs = [Given(x, planes, spec.dtype)] if needed else []
    wanted = Wanted(x.shape, planes, dtype)
    return run(job, [*inputs, Given(grad, signals, dtype)], [wanted], out, (x,))[0]


def unpool(spec: UnpoolSpec, x: Operand, places: Operand, out: Any) -> Any:
    """Maxima put back to their places, in planes of zeros."""
    check_together(x, "x", places, "indices")
    channels = (1, *spec.x_shape[:-2])[-1]
    maxima, plane = (None, channels, *spec.x_shape[-2:]), (None, channels, *spec.output_shape[-2:])
    inputs = [Given(x, maxima, spec.dtype), Given(places, maxima, _INT64)]
    wanted = Wanted(spec.output_shape, plane, spec.dtype)
    return run(_moves("max_unpool2d", spec, spec.planes // channels), inputs, [wanted], out)[0]


# -- windows -------------------------------------------------------------------------------------------------


def unfold(spec: ConvSpec, x: Operand, out: Any) -> Any:
    """The windows of images as columns."""
    check_layout(spec)
    columns = columns_shape(spec)
    inputs = [Given(x, (None, spec.c_in, spec.h, spec.w), spec.dtype)]
    wanted = Wanted(columns, (1, None, *columns[-2:]), spec.dtype)
    return run(_moves("unfold2d", spec, spec.n), inputs, [wanted], out)[0]


def fold(spec: ConvSpec, columns: Operand, out: Any) -> Any:
    """Columns summed up to images."""
    check_layout(spec)
    inputs = [Given(columns, (1, None, *columns.shape[-2:]), spec.dtype)]
    wanted = Wanted(spec.x_shape, (None, spec.c_in, spec.h, spec.w), spec.out_dtype)
    return run(_moves("fold2d", spec, spec.n), inputs, [wanted], out)[0]


def _moves(op: str, spec: ConvSpec | UnpoolSpec, items: int) -> Job:
    """The job of an operation that moves elements."""
    chosen: Any = planner.choose(spec, "auto", op=op).algorithm

    def kernel(items: int, _: Any, given: Sequence[Tensor], made: Sequence[Tensor], stream: Stream) -> None:
        chosen.run(spec, *given, *made, stream)

    return Job(kernel, items)


__all__ = [
    "conv",
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
