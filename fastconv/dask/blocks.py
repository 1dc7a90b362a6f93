"""What a worker does: a block of an operation's result, from parts of chunks of its input.

A block is made in bands, so that no copy of a whole chunk with its surroundings is ever made: a band's input is
gathered, computed while it is in the cache, and put into the result. Beside chunks a task so needs a few MiB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np

from ..base.devices import place
from ..cpu.system.threads import mask_threads
from .geometry import OUTSIDE, Along, Interval, Windows

#: Bytes of a band's input: a second-level cache holds it, and a call has enough to do (AMD EPYC, 1 MiB of L2 a core).
BAND_BYTES = 1 << 21
#: A band is at least so many times as long as what it sees beyond its own.
HALOS = 8


class Operation:
    """What is to be done to each block; sent to the workers once."""

    axes: tuple[Along, ...] = ()
    """How the result's axes use the input's."""
    threads: int = 1
    """Threads of a task's kernels."""

    def __init__(self) -> None:
        self.plans: dict[Any, Any] = {}
        """What is made once for each shape of a block, in each worker."""

    def block(self, inputs: list[Any], box: tuple[Interval, ...], operands: tuple[Any, ...]) -> Any:
        """The result in a `box`, from what its axes read of each input."""
        raise NotImplementedError

    def __dask_tokenize__(self) -> Any:
        raise NotImplementedError


class Place:
    """The place of a block, and where the parts of the input come from."""

    __slots__ = ("box", "cuts", "inputs", "operands")

    def __init__(self, box: tuple[Interval, ...], cuts: tuple[tuple[Interval, ...], ...], inputs: int, operands: int):
        self.box = box
        self.cuts = cuts
        """The positions along each axis that parts have; parts are their product, the last axis fastest."""
        self.inputs, self.operands = inputs, operands


def computed(operation: Operation, place: Place, *given: Any) -> Any:
    """A block of the result; `given` are the operands, then the parts of each input."""
    operands, parts = given[: place.operands], given[place.operands :]
    each = len(parts) // place.inputs
    inputs = [parts[number * each : (number + 1) * each] for number in range(place.inputs)]
    before = mask_threads(operation.threads)
    try:
        return _in_bands(operation, place, inputs, operands)
    finally:
        mask_threads(before)


def _in_bands(operation: Operation, place: Place, inputs: list[Any], operands: tuple[Any, ...]) -> Any:
    axes, result = operation.axes, None
    for box in bands(axes, place.box, inputs[0][0].dtype.itemsize):
        runs = [along.reads(*ends) for along, ends in zip(axes, box, strict=True)]
        made = operation.block([gathered(runs, place.cuts, parts) for parts in inputs], box, operands)
        if box == place.box:
            return made
        if result is None:
            shape = tuple(last - first for first, last in place.box)
            result = _empty(made, shape)
        ends = zip(box, place.box, strict=True)
        _put(result, tuple(slice(first - start, last - start) for (first, last), (start, _) in ends), made)
    return result


def _empty(made: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(made, tuple):
        return tuple(_empty(one, shape) for one in made)
    return np.empty_like(made, shape=shape)


def _put(result: Any, here: tuple[slice, ...], made: Any) -> None:
    if isinstance(made, tuple):
        for one, part in zip(result, made, strict=True):
            one[here] = part
    else:
        result[here] = made


def bands(axes: Sequence[Along], box: tuple[Interval, ...], itemsize: int) -> Iterator[tuple[Interval, ...]]:
    """A box in parts with small inputs: cut along the axes that are independent, then along the first of the others."""
    lengths = [sum(last - first for first, last in along.reads(*ends)) for along, ends in zip(axes, box, strict=True)]
    wanted = math.prod(lengths) * itemsize / BAND_BYTES
    cuts = [[ends] for ends in box]
    order = [number for number, along in enumerate(axes) if type(along) is Along]
    order += [number for number, along in enumerate(axes) if hasattr(along, "before")][:1]
    for number in order:
        if wanted <= 1:
            break
        first, last = box[number]
        least = max(1, HALOS * axes[number].halo // axes[number].pace)
        count = max(1, min(math.ceil(wanted), (last - first) // least))
        ends = [first + (last - first) * at // count for at in range(count + 1)]
        cuts[number] = list(pairwise(ends))
        wanted /= count
    return product(*cuts)


def gathered(runs: Sequence[Sequence[Interval]], cuts: Sequence[Sequence[Interval]], parts: Sequence[Any]) -> Any:
    """The positions that `runs` name, from parts whose positions are `cuts`: a view where one part has them all."""
    each = [_copies(some, where) for some, where in zip(runs, cuts, strict=True)]
    if all(len(copies) == 1 for copies in each):
        number = 0
        for (_, part, _), where in zip((copies[0] for copies in each), cuts, strict=True):
            number = number * len(where) + part
        return parts[number][tuple(copies[0][2] for copies in each)]
    shape = tuple(sum(last - first for first, last in some) for some in runs)
    result = _like(parts[0], shape)
    for copies in product(*each):
        number = 0
        for (_, part, _), where in zip(copies, cuts, strict=True):
            number = number * len(where) + part
        result[tuple(to for to, _, _ in copies)] = parts[number][tuple(of for _, _, of in copies)]
    return result


def _like(part: Any, shape: tuple[int, ...]) -> Any:
    return np.ma.empty(shape, part.dtype) if isinstance(part, np.ma.MaskedArray) else np.empty_like(part, shape=shape)


def _copies(runs: Sequence[Interval], cuts: Sequence[Interval]) -> list[tuple[slice, int, slice]]:
    """For each piece of the runs: where it goes, which part has it, and where."""
    found, at = [], 0
    for first, last in runs:
        for number, (start, stop) in enumerate(cuts):
            low, high = max(first, start), min(last, stop)
            if low < high:
                found.append((slice(at + low - first, at + high - first), number, slice(low - start, high - start)))
        at += last - first
    return found


def extended(x: Any, axes: Sequence[Along], box: tuple[Interval, ...], fill: Any = 0) -> Any:
    """A block's input with the elements that windows see outside of the whole input."""
    for number, (along, ends) in enumerate(zip(axes, box, strict=True)):
        sources = along.sources(*ends) if isinstance(along, Windows) else None
        if sources is not None:
            outside = sources == OUTSIDE
            x = np.take(x, np.maximum(sources, 0), number)
            if outside.any():
                x[(slice(None),) * number + (outside,)] = fill
    return x


class Part:
    """Copies a part of a chunk: a view would keep all of the chunk in a worker's memory."""

    __slots__ = ("where",)

    def __init__(self, where: tuple[Interval, ...]) -> None:
        self.where = where

    def __call__(self, chunk: Any) -> Any:
        return chunk[tuple(slice(*ends) for ends in self.where)].copy()


def calls_of(device: str | None, x: Any) -> Any:
    """The module with the verbs of the device that a block is on."""
    if place(device, x) == "cpu":
        from ..cpu import calls

        return calls
    from ..cuda import calls as gpu

    return gpu
