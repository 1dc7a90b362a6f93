"""Lazy results: one graph for every operation. Nothing is computed here, and no chunk is read.

A task makes a block of the result from the chunk that owns it and from parts of its neighbours, which tasks of their
own copy where the neighbours are: so a worker is sent no more than what the windows see. Weights and what is to be done
are tasks, too, whose results each worker gets once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, product
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from .blocks import Operation, Part, Place, computed
from .geometry import Along, Filtered, Interval, Whole

#: Sizes of chunks along one axis.
Chunks = tuple[int, ...]


def threads() -> int:
    """Threads of a task's kernels: ``dask.config.set({"fastconv.threads": n})``, or 1, as tasks share the cores."""
    return int(dask.config.get("fastconv.threads", 1))


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


def multiplied(chunks: Chunks, pitch: int, count: int) -> Chunks:
    """Chunks of a transposed convolution's outputs: each begins with those of a chunk's first element."""
    ends = [min(count, end * pitch) for end in accumulate(chunks)]
    ends[-1] = count
    return _lengths(ends)


def _intervals(chunks: Chunks) -> list[Interval]:
    ends = list(accumulate(chunks))
    return list(zip([0, *ends], ends, strict=False))


# -- parts ---------------------------------------------------------------------------------------------------

#: A part of a chunk along an axis: the chunk's number, where the part lies in it, and its place in the input.
_Part = tuple[int, Interval, Interval]


def _parts(along: Along, chunks: Chunks, ends: Interval) -> list[_Part]:
    """The parts of chunks that an interval of outputs needs: disjoint, in the input's order."""
    spans: list[list[int]] = []
    for low, high in sorted(along.reads(*ends)):
        if spans and low <= spans[-1][1]:
            spans[-1][1] = max(high, spans[-1][1])
        else:
            spans.append([low, high])
    found = []
    for low, high in spans:
        for number, (start, stop) in enumerate(_intervals(chunks)):
            first, last = max(low, start), min(high, stop)
            if first < last:
                found.append((number, (first - start, last - start), (first, last)))
    return found or [(0, (0, 0), (0, 0))]


def lazy(
    label: str, operation: Operation, inputs: Sequence[Any], chunks: tuple[Chunks, ...], dtype: Any,
    operands: Sequence[Any] = (),
) -> Any:  # fmt: skip
    """The Dask array with these chunks and this dtype whose blocks an operation makes.

    The `inputs` have equal chunks; operands are NumPy arrays, or Dask arrays of one chunk.
    """
    x = inputs[0]
    token = tokenize(operation, [one.name for one in inputs], chunks, *operands)
    name, piece, told = f"{label}-{token}", f"{label}-part-{token}", f"{label}-operation-{token}"
    graph: dict[Any, Any] = {told: operation}
    extra: list[Any] = []
    for number, one in enumerate(operands):
        if hasattr(one, "__dask_keys__"):
            extra.append((one.name, *[0] * one.ndim))
        else:
            graph[f"{label}-operand{number}-{token}"] = one
            extra.append(f"{label}-operand{number}-{token}")
    each = [
        [(ends, _parts(along, sizes, ends)) for ends in _intervals(made)]
        for along, sizes, made in zip(operation.axes, x.chunks, chunks, strict=True)
    ]
    whole = [[(0, size) for size in sizes] for sizes in x.chunks]
    for numbers in product(*[range(len(made)) for made in chunks]):
        here = [blocks[number] for blocks, number in zip(each, numbers, strict=True)]
        keys: list[Any] = []
        for place, source in enumerate(inputs):
            for some in product(*[parts for _, parts in here]):
                chunk = tuple([one[0] for one in some])
                where = tuple([one[1] for one in some])
                key: Any = (source.name, *chunk)
                if any(sizes[one[0]] != one[1] for sizes, one in zip(whole, some, strict=True)):
                    given, key = key, (f"{piece}-{place}", *chunk, where)
                    if key not in graph:
                        graph[key] = (Part(where), given)
                keys.append(key)
        box, cuts = tuple([ends for ends, _ in here]), tuple([tuple([one[2] for one in parts]) for _, parts in here])
        graph[(name, *numbers)] = (computed, told, Place(box, cuts, len(inputs), len(extra)), *extra, *keys)
    lazies = [*inputs, *[one for one in operands if hasattr(one, "__dask_keys__")]]
    meta = np.empty_like(x._meta, dtype=dtype, shape=(0,) * len(chunks))
    return da.Array(HighLevelGraph.from_collections(name, graph, dependencies=lazies), name, chunks, meta=meta)
