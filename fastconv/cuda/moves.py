"""What moves elements on a GPU: `unfold2d`, `fold2d` and `max_unpool2d`.

Arrays of NumPy are copied to the GPU and back in slices of the batch, and arrays on a GPU are used in place, on their
owner's current stream, without waiting for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..specs.arrays import result_array
from ..specs.conv import ConvSpec
from ..specs.unfold import columns_shape
from .machine import this_machine
from .operands import Operand, check_together
from .shared import im2col
from .shared.convert import converted
from .system import arrays, host_slices
from .system.arrays import Array
from .system.streams import Buffer, Stream, dense

#: A tensor's shape with None for as many images as there are.
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Given:
    """An input."""

    array: Operand
    shape: Shape
    dtype: np.dtype
    """That it is converted to on the way."""


def unfold(spec: ConvSpec, x: Operand, out: Any) -> Any:
    """The windows of images as columns."""
    inner = 1, None, *columns_shape(spec)[-2:]
    images = Given(x, (None, spec.c_in, spec.h, spec.w), spec.dtype)
    return _run([images], columns_shape(spec), inner, spec.dtype, out, partial(im2col.unroll, spec))


def fold(spec: ConvSpec, columns: Operand, out: Any) -> Any:
    """Columns summed up to images."""
    inner = None, spec.c_in, spec.h, spec.w
    lines = Given(columns, (1, None, *columns.shape[-2:]), spec.dtype)
    return _run([lines], spec.x_shape, inner, spec.out_dtype, out, partial(im2col.fold, spec))


def unpool(x: Operand, places: Operand, shape: tuple[int, ...], dtype: np.dtype, out: Any) -> Any:
    """Maxima put back to their places in planes of zeros."""
    check_together(x, "x", places, "indices")
    channels = (1, *shape[:-2])[-1]
    maxima, plane = (None, channels, *x.shape[-2:]), (None, channels, *shape[-2:])
    inputs = [Given(x, maxima, dtype), Given(places, maxima, np.dtype(np.int64))]
    return _run(inputs, shape, plane, dtype, out, im2col.unpool)


def _run(
    inputs: Sequence[Given], shape: tuple[int, ...], inner: Shape, dtype: np.dtype, out: Any, kernel: Callable
) -> Any:
    """``kernel(*inputs, result, stream)`` of tensors; `shape` is the result's for the caller, `inner` the tensor's."""
    if isinstance(inputs[0].array, np.ndarray):
        return _run_host(inputs, shape, inner, dtype, out, kernel)
    return _run_device(inputs, shape, inner, dtype, out, kernel)


def _run_device(
    inputs: Sequence[Given], shape: tuple[int, ...], inner: Shape, dtype: np.dtype, out: Any, kernel: Callable
) -> Any:
    found = [given.array for given in inputs]
    first: Array = found[0]  # type: ignore[assignment]
    stream = arrays.current_stream(first)
    with stream.current():
        result = arrays.result(first, shape, dtype, out, tuple(found))  # type: ignore[arg-type]
        if math.prod(shape):
            items = _images(first.shape, inputs[0].shape)
            tensors = [converted(given.array.tensor(_sized(given.shape, items)), given.dtype, stream)  # type: ignore[union-attr]
                       for given in inputs]
            kernel(*tensors, result.tensor(_sized(inner, items)), stream)
    return result.value if out is None else out


def _run_host(
    inputs: Sequence[Given], shape: tuple[int, ...], inner: Shape, dtype: np.dtype, out: Any, kernel: Callable
) -> Any:
    result = result_array(shape, dtype, out, [given.array for given in inputs])  # type: ignore[misc]
    if not result.size:
        return result
    items = _images(inputs[0].array.shape, inputs[0].shape)
    sent = [(given.array.reshape(items, -1), given.dtype) for given in inputs]  # type: ignore[union-attr]
    outs = result.reshape(items, -1)
    item = sum(array[0].size * kind.itemsize for array, kind in sent) + outs[0].nbytes
    step = host_slices.slices(items, item, 0, this_machine().memory)

    def run(stream: Stream, _: Any, buffers: list[Buffer], results: list[Buffer], items: int) -> None:
        tensors = [dense(buffer, _sized(given.shape, items)) for buffer, given in zip(buffers, inputs, strict=True)]
        kernel(*tensors, dense(results[0], _sized(inner, items)), stream)

    host_slices.pipeline(sent, [outs], step, run)
    return result


def _sized(shape: Shape, items: int) -> tuple[int, ...]:
    return tuple(items if size is None else size for size in shape)


def _images(given: tuple[int, ...], shape: Shape) -> int:
    """How many are in an array that has such a shape, with or without the axis of images."""
    behind = len(shape) - 1 - shape.index(None)
    return given[-behind - 1] if len(given) > behind else 1


__all__ = ["fold", "unfold", "unpool"]
