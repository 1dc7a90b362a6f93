"""Lazy results: one graph for every operation. Nothing is computed here, and no chunk is read.

A task makes a block of the result from the chunk that owns it and from parts of its neighbours, which tasks of their
own copy where the neighbours are: so a worker is sent no more than what the windows see. Weights and what is to be done
are tasks, too, whose results each worker gets once.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask import config
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ..base.libraries import is_dask
from . import sources
from .blocks import Operation, Part, Place, computed, read
from .geometry import Along, Filtered, Interval, Whole

#: Sizes of chunks along one axis.
Chunks = tuple[int, ...]


def threads() -> int:
    """Threads of a task's kernels: ``dask.config.set({"fastconv.threads": n})``, or 1, as tasks share the cores."""
    return int(config.get("fastconv.threads", 1))


# -- chunks --------------------------------------------------------------------------------------------------


def known(x: Any, name: str) -> Any:
    """A Dask array whose sizes are known; ValueError otherwise."""
    if any(size != size for size in x.shape):
        raise ValueError(f"{name} must have chunks of known sizes: call its compute_chunk_sizes(), got {x.chunks}")
    return x


def merged(chunks: Chunks, least: int) -> Chunks:
    """Chunks that are put together until each has so many elements."""
    found: list[int] = []
    for size in chunks:
        if found and found[-1] < least:
            found[-1] += size
        else:
            found.append(size)
    if len(found) > 1 and found[-1] < least:
        last = found.pop()
        found[-1] += last
    return tuple(found)


def rechunked(x: Any, axes: Sequence[Along]) -> Any:
    """The input with chunks as large as what windows see beyond their own, along each axis on its own."""
    chunks = []
    for sizes, along in zip(x.chunks, axes, strict=True):
        reach = max(along.before, along.behind) if isinstance(along, Filtered) else along.halo
        chunks.append((sum(sizes),) if type(along) is Whole else merged(sizes, max(reach, along.pace, 1)))
    return x if tuple(chunks) == x.chunks else x.rechunk(tuple(chunks))


def owned(chunks: Chunks, step: int, count: int) -> Chunks:
    """Chunks of so many outputs, a `step` of the input apart: each belongs to the chunk where its step begins."""
    ends = [min(count, -(-end // step)) for end in accumulate(chunks)]
    ends[-1] = count
    return _lengths(ends)


def _lengths(ends: list[int]) -> Chunks:
    return tuple(last - first for first, last in zip([0, *ends], ends, strict=False) if last > first) or (0,)


def strided(axes: Sequence[Along], given: Sequence[Chunks], shape: Sequence[int]) -> tuple[Chunks, ...]:
    """Chunks of a result of this shape whose windows move by steps along the axes of an input with the `given` ones."""
    return tuple(
        (count,) if isinstance(along, Whole) else owned(chunks, along.pace, count)
        for along, chunks, count in zip(axes, given, shape, strict=True)
    )


def multiplied(chunks: Chunks, pitch: int, count: int) -> Chunks:
    """Chunks of a transposed convolution's outputs: each begins with those of a chunk's first element."""
    ends = [min(count, end * pitch) for end in accumulate(chunks)]
    ends[-1] = count
    return _lengths(ends)


def _intervals(chunks: Chunks) -> list[Interval]:
    ends = list(accumulate(chunks))
    return list(zip([0, *ends], ends, strict=False))


# -- parts ---------------------------------------------------------------------------------------------------


def _spans(along: Along, ends: Interval) -> list[Interval]:
    """The disjoint intervals of the input that an interval of outputs needs, in its order."""
    found: list[Interval] = []
    for low, high in sorted(along.reads(*ends)):
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return found


class _Part(NamedTuple):
    """A part of a chunk along one axis."""

    chunk: int
    inside: Interval
    """Its place in the chunk."""
    where: Interval
    """Its place in the input."""
    is_whole: bool


def _parts(spans: Sequence[Interval], chunks: Chunks) -> list[_Part]:
    """The parts of chunks that have some disjoint intervals, in the input's order."""
    found, every = [], _intervals(chunks)
    for low, high in spans:
        at = max(0, bisect_right(every, (low, sys.maxsize)) - 1)
        while at < len(every) and every[at][0] < high:
            start, stop = every[at]
            first, last = max(low, start), min(high, stop)
            if first < last:
                found.append(_Part(at, (first - start, last - start), (first, last), (first, last) == (start, stop)))
            at += 1
    return found or [_Part(0, (0, 0), (0, 0), False)]


def lazy(
    label: str, operation: Operation, inputs: Sequence[Any], chunks: tuple[Chunks, ...], dtype: Any,
    operands: Sequence[Any] = (),
) -> Any:  # fmt: skip
    """The Dask array with these chunks and this dtype whose blocks an operation makes.

    The `inputs` have equal chunks; operands are NumPy arrays, or Dask arrays of one chunk.
    """
    token = tokenize(operation, [one.name for one in inputs], chunks, *operands)
    name, told = f"{label}-{token}", f"{label}-operation-{token}"
    graph: dict[Any, Any] = {told: operation}
    extra: list[Any] = []
    for number, one in enumerate(operands):
        key: Any = f"{label}-operand{number}-{token}"
        if is_dask(one):
            key = (one.name, *[0] * one.ndim)
        else:
            graph[key] = one
        extra.append(key)
    spans = [[(ends, _spans(along, ends)) for ends in _intervals(sizes)]
             for along, sizes in zip(operation.axes, chunks, strict=True)]  # fmt: skip
    array = sources.of(inputs[0]) if len(inputs) == 1 else None
    if array is not None and sources.is_read(array, [[some for _, some in axis] for axis in spans]):
        key = f"original-{inputs[0].name}"
        for numbers, blocks in _products(spans):
            cuts = tuple([tuple(some) for _, some in blocks])
            place = Place(tuple([ends for ends, _ in blocks]), cuts, 1, len(extra))
            graph[(name, *numbers)] = (read, told, place, key, *extra)
    else:
        parts = [[(ends, _parts(some, sizes)) for ends, some in axis]
                 for axis, sizes in zip(spans, inputs[0].chunks, strict=True)]  # fmt: skip
        for numbers, blocks in _products(parts):
            cuts = tuple([tuple([one.where for one in some]) for _, some in blocks])
            place = Place(tuple([ends for ends, _ in blocks]), cuts, len(inputs), len(extra))
            keys = [key for one in inputs for key in _keys(one, f"{label}-part-{token}", blocks, graph)]
            graph[(name, *numbers)] = (computed, told, place, *extra, *keys)
    lazies = [*inputs, *[one for one in operands if is_dask(one)]]
    meta = np.empty_like(np.ma.getdata(inputs[0]._meta), dtype=dtype, shape=(0,) * len(chunks))
    made: Any = da.Array  # has no types
    return made(HighLevelGraph.from_collections(name, graph, dependencies=lazies), name, chunks, meta=meta)


def _products(axes: Sequence[Sequence[Any]]) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
    """The numbers of all blocks, and what there is of each along each axis."""
    numbers = product(*[range(len(blocks)) for blocks in axes])
    return zip(numbers, product(*axes), strict=True)


def _keys(x: Any, label: str, blocks: Sequence[tuple[Interval, list[_Part]]], graph: dict[Any, Any]) -> Iterator[Any]:
    """The keys of the parts of chunks that a block needs; a part that is no whole chunk has a task in the graph."""
    for some in product(*[parts for _, parts in blocks]):
        key = (x.name, *[one.chunk for one in some])
        if all(one.is_whole for one in some):
            yield key
            continue
        inside = tuple([one.inside for one in some])
        part = (f"{label}-{x.name}", *key[1:], inside)
        if part not in graph:
            graph[part] = (Part(inside), key)
        yield part
