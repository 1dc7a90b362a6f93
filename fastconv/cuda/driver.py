"""The way of arrays through a GPU, for every operation.

NumPy arrays are copied to the GPU and back in slices (`host_slices`). Arrays on a GPU are used in place, on their
owner's current stream, without waiting for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..specs.arrays import allocate, result_array
from .machine import this_machine
from .operands import Operand
from .shared.convert import converted
from .system import arrays, host_slices
from .system.arrays import Array
from .system.streams import Buffer, Stream, Tensor, dense

#: Shape of a tensor; None stands for the number of items in a slice.
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Given:
    """An input: an array, with the shape and dtype of the tensor that the kernel sees."""

    array: Operand
    shape: Shape
    dtype: np.dtype
    """The dtype that the array is converted to on the way."""


@dataclass(frozen=True)
class Wanted:
    """A result: its shape for the caller and for the kernel, and its dtype."""

    shape: tuple[int, ...]
    """Shape of the caller's array."""
    inner: Shape
    """Shape of the tensor that the kernel fills."""
    dtype: np.dtype


@dataclass(frozen=True)
class Job:
    """Work on all items, or on the items of a slice: ``kernel(items, prepared, inputs, results, stream)``."""

    kernel: Callable[[int, Any, list[Tensor], list[Tensor], Stream], None]
    items: int
    axes: int = 2
    """Number of spatial axes: tensors of signals and images have four axes, of volumes five."""
    scratch: int = 0
    """Bytes of scratch memory for one item."""
    prepare: Callable[[Stream, int], Any] = lambda stream, device: None
    """Called once before the kernel, with a stream and the number of its device."""
    lead: tuple[int, ...] = ()
    """Sizes whose product is `items`: the first axes of tensors on a device, where arrays may have any strides."""
    in_place: bool = False
    """Whether the kernel takes arrays on a GPU without conversion, in any dtype."""
    keeps_layout: bool = False
    """Whether results are laid out channels last if the first input is."""


def run(
    job: Job, inputs: Sequence[Given], results: Sequence[Wanted], out: Any, others: Sequence[Any] = ()
) -> list[Any]:
    """The results, of which the first is `out` if that is given. It may share no memory with inputs or `others`."""
    return (_run_host if isinstance(inputs[0].array, np.ndarray) else _run_device)(job, inputs, results, out, others)


def _run_device(
    job: Job, inputs: Sequence[Given], results: Sequence[Wanted], out: Any, others: Sequence[Any]
) -> list[Any]:  # fmt: skip
    first: Array = inputs[0].array  # type: ignore[assignment]
    stream = arrays.current_stream(first)
    known = tuple(given for given in (*(one.array for one in inputs), *others) if isinstance(given, Array))
    with stream.current():
        tensors = [given.array.tensor(_whole(job, given.shape), job.axes) for given in inputs]  # type: ignore[union-attr]
        last = job.keeps_layout and tensors[0].channels_last and not tensors[0].contiguous
        made = [arrays.result(first, one.shape, one.dtype, None if number else out, known, last)
                for number, one in enumerate(results)]  # fmt: skip
        prepared = job.prepare(stream, first.device)
        if math.prod(results[0].shape):
            if not job.in_place:
                tensors = [converted(one, given.dtype, stream) for one, given in zip(tensors, inputs, strict=True)]
            targets = [array.tensor(_whole(job, one.inner), job.axes) for array, one in zip(made, results, strict=True)]
            job.kernel(job.items, prepared, tensors, targets, stream)
    values = [one.value for one in made]
    return values if out is None else [out, *values[1:]]


def _run_host(
    job: Job, inputs: Sequence[Given], results: Sequence[Wanted], out: Any, others: Sequence[Any]
) -> list[Any]:  # fmt: skip
    known = [*(one.array for one in inputs), *others]
    made = [result_array(results[0].shape, results[0].dtype, out, known)]
    made += [allocate(one.shape, one.dtype) for one in results[1:]]
    if not made[0].size:
        return made
    sent = [(given.array.reshape(job.items, -1), given.dtype) for given in inputs]  # type: ignore[union-attr]
    outs = [one.reshape(job.items, -1) for one in made]
    item = sum(array[0].size * dtype.itemsize for array, dtype in sent) + sum(one[0].nbytes for one in outs)
    step = host_slices.slices(job.items, item, job.scratch, this_machine().memory)

    def kernel(stream: Stream, prepared: Any, given: list[Buffer], buffers: list[Buffer], items: int) -> None:
        tensors, targets = (
            [dense(buffer, _sized(shape, items)) for buffer, shape in zip(several, shapes, strict=True)]
            for several, shapes in ((given, [one.shape for one in inputs]), (buffers, [one.inner for one in results]))
        )  # fmt: skip
        job.kernel(items, prepared, tensors, targets, stream)

    host_slices.pipeline(sent, outs, step, kernel, lambda stream: job.prepare(stream, 0))
    return made


def _sized(shape: Shape, items: int) -> tuple[int, ...]:
    return tuple([items if size is None else size for size in shape])


def _whole(job: Job, shape: Shape) -> tuple[int, ...]:
    """Shape of a tensor of all items, on a device."""
    return (*job.lead, *shape[2:]) if job.lead else _sized(shape, job.items)  # type: ignore[arg-type]
