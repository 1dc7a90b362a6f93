"""What a worker does: a block of an operation's result, from parts of chunks of its input.

A block is made in bands, so that no copy of a whole chunk with its surroundings is ever made: a band's input is
gathered, computed while it is in the cache, and put into the result. Beside chunks a task so needs a few MiB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np

from ..base.devices import place
from ..specs.boundary import OUTSIDE
from . import sources
from .geometry import Along, Interval, Windows

#: Bytes of a band's input: a second-level cache holds most of it, and a call has enough to do. (A Gaussian of a chunk
#: of 4096x4096 takes 31 ms with 0.5 or 1 MiB, 36 with 4; AMD EPYC, 1 MiB of L2 a core.)
BAND_BYTES = 1 << 20
#: A band is at least so many times as long as what it sees beyond its own. (With 2 that Gaussian takes 37 ms.)
HALOS = 4


class Operation:
    """What is to be done to each block; sent to the workers once."""

    axes: tuple[Along, ...] = ()
    """How the result's axes use the input's."""
    threads: int = 1
    """Threads of a task's kernels."""

    def __init__(self) -> None:
        self.plans: dict[Any, Any] = {}
        """What is made once for each shape of a block, in each worker."""

    def block(self, inputs: list[Any], box: tuple[Interval, ...], operands: tuple[Any, ...], kept: bool = False) -> Any:
        """The result in a `box`, from what its axes read of each input; if it is in memory that this thread has `kept`,
        it is copied before the next block."""
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
    return _on_threads(operation, place, inputs, operands, False)


def read(operation: Operation, place: Place, array: Any, *operands: Any) -> Any:
    """A block of the result, whose input is read from an array on disk; what is read is nobody else's."""
    parts = [np.asarray(array[tuple(slice(*ends) for ends in some)]) for some in product(*place.cuts)]
    return _on_threads(operation, place, [parts], operands, True)


def _on_threads(operation: Operation, place: Place, inputs: list[Any], operands: tuple[Any, ...], own: bool) -> Any:
    from ..cpu.system.threads import mask_threads  # late: who builds a graph needs no Numba

    before = mask_threads(operation.threads)
    try:
        return _in_bands(operation, place, inputs, operands, own)
    finally:
        mask_threads(before)


def _in_bands(operation: Operation, place: Place, inputs: list[Any], operands: tuple[Any, ...], own: bool) -> Any:
    axes, box, first = operation.axes, place.box, inputs[0][0]
    cuts, result = bands(axes, box, first.dtype.itemsize), None
    one_part = len(inputs) == len(inputs[0]) == 1
    along = [number for number, some in enumerate(cuts) if len(some) > 1]
    over = _over(axes, place, cuts, along[0]) if own and one_part and len(along) == 1 else None
    if one_part and over is None and not any(isinstance(one, Windows) for one in axes):
        cuts = [[ends] for ends in box]
    order: Iterable[tuple[Interval, ...]] = product(*cuts)
    if over is not None:
        order = [(*box[: along[0]], cuts[along[0]][number], *box[along[0] + 1 :]) for number in over[0]]
    for part in order:
        runs = [one.reads(*ends) for one, ends in zip(axes, part, strict=True)]
        kept = part != box
        seen = [gathered(runs, place.cuts, parts, f"gathered {at}" * kept) for at, parts in enumerate(inputs)]
        made = operation.block(seen, part, operands, kept)
        if part == box:
            return made
        if result is None:
            shape = tuple(last - start for start, last in box)
            if over is not None and type(made) is np.ndarray and made.dtype == first.dtype and first.flags.writeable:
                starts = [over[1] if number == along[0] else 0 for number in range(len(shape))]
                result = first[tuple(slice(at, at + size) for at, size in zip(starts, shape, strict=True))]
            else:
                result = _empty(made, shape)
        ends = zip(part, box, strict=True)
        _put(result, tuple(slice(start - least, last - least) for (start, last), (least, _) in ends), made)
    return result


def _over(
    axes: Sequence[Along], place: Place, cuts: list[list[Interval]], along: int
) -> tuple[list[int], int] | None:  # fmt: skip
    """The order of bands along an axis in which results may take the place of the input, and where they begin in it;
    None if they may not, or would keep twice the memory that they need."""
    there = [sum(last - first for first, last in have) for have in place.cuts]
    wanted = [last - first for first, last in place.box]
    if any(has < size for has, size in zip(there, wanted, strict=True)) or 2 * math.prod(wanted) < math.prod(there):
        return None
    reads = [axes[along].reads(*ends) for ends in cuts[along]]
    if any(len(runs) > 1 for runs in reads):
        return None
    return sources.order(cuts[along], [runs[0] for runs in reads], place.box[along], place.cuts[along][0])


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


def bands(axes: Sequence[Along], box: tuple[Interval, ...], itemsize: int) -> list[list[Interval]]:
    """Intervals of a box with small inputs: it is cut along axes that are independent, then along the first other."""
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
        cuts[number] = list(pairwise(first + (last - first) * at // count for at in range(count + 1)))
        wanted /= count
    return cuts


def gathered(
    runs: Sequence[Sequence[Interval]], cuts: Sequence[Sequence[Interval]], parts: Sequence[Any], kept: str = ""
) -> Any:  # fmt: skip
    """The positions that `runs` name, from parts whose positions are `cuts`: a view where one part has them all, else a
    new array, or the memory that this thread has `kept` under that name."""
    each = [_copies(some, where) for some, where in zip(runs, cuts, strict=True)]
    if all(len(copies) == 1 for copies in each):
        number = 0
        for (_, part, _), where in zip((copies[0] for copies in each), cuts, strict=True):
            number = number * len(where) + part
        return parts[number][tuple(copies[0][2] for copies in each)]
    shape = tuple(sum(last - first for first, last in some) for some in runs)
    result = _like(parts[0], shape, kept)
    for copies in product(*each):
        number = 0
        for (_, part, _), where in zip(copies, cuts, strict=True):
            number = number * len(where) + part
        result[tuple(to for to, _, _ in copies)] = parts[number][tuple(of for _, _, of in copies)]
    return result


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that is this thread's until it asks for the one of this name again. Dask's workers return freed memory
    to the system at once, and to have new memory takes longer than to fill it."""
    from ..cpu.system.memory import buffer

    return buffer(f"dask {name}", shape, dtype)


def _like(part: Any, shape: tuple[int, ...], kept: str) -> Any:
    if kept and type(part) is np.ndarray:
        return scratch(kept, shape, part.dtype)
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
