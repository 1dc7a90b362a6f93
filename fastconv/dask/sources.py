"""Arrays on disk that tasks read by themselves: each its block with what lies around it, if that is little more.

Chunks that are handed from task to task are held until the last neighbour has come: of an image of n x n chunks a row
of n. A task that reads what it needs holds nothing else, and nothing travels between workers. What it costs is that
chunks of the storage that two blocks see are read twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from dask.array.core import getter, getter_nofancy

from .geometry import Interval

#: The most that may be read for each element of the image. Under blocks of 4096x4096 stored chunks of 256x256 are read
#: 1.27 times, those of 512x512 1.56 times, and take less time than to hand over chunks (1 GiB, 2 workers).
MOST_READ = 1.6
#: Packages whose arrays return what nobody else holds, so that a result may take its place.
FRESH = ("zarr", "h5py")


def of(x: Any) -> Any:
    """The array on disk that a Dask array is, chunk by chunk and as it is; None if it is none, or it has a lock."""
    layers = x.dask.layers
    source, layer = layers.get(f"original-{x.name}"), layers.get(x.name)
    task = getattr(layer, "task", None)
    if source is None or task is None or task.func not in (getter, getter_nofancy) or task.kwargs.get("lock"):
        return None
    array = next(iter(source.values()))
    array = getattr(array, "value", array)
    fresh = type(array).__module__.partition(".")[0] in FRESH
    known = fresh and getattr(array, "chunks", None) is not None and array.shape == x.shape
    return array if known else None


def is_read(array: Any, spans: Sequence[Sequence[Sequence[Interval]]]) -> bool:
    """Whether tasks are to read the array: `spans` are the intervals that each block sees along each axis."""
    read = [sum(_stored(interval, step) for block in blocks for interval in block)
            for blocks, step in zip(spans, array.chunks, strict=True)]  # fmt: skip
    return math.prod(read) <= MOST_READ * math.prod(array.shape)


def _stored(interval: Interval, step: int) -> int:
    """The elements of the stored chunks that an interval touches."""
    first, last = interval
    return (-(-last // step) - first // step) * step if last > first else 0


def order(
    bands: Sequence[Interval], reads: Sequence[Interval], box: Interval, have: Interval
) -> tuple[list[int], int] | None:  # fmt: skip
    """The order of bands in which each may be written over its own input, and where the result begins in it.

    `reads` are the positions that each band sees, and `have` those that are there. None if there is no such order.
    """
    length = box[1] - box[0]
    numbers = list(range(len(bands)))
    for start, some in ((0, numbers), (have[1] - have[0] - length, numbers[::-1])):
        written = [(start + first - box[0], start + last - box[0]) for first, last in bands]
        seen = [(first - have[0], last - have[0]) for first, last in reads]
        free = all(
            written[now][1] <= seen[later][0] if start == 0 else written[now][0] >= seen[later][1]
            for now, later in pairwise(some)
        )
        if start >= 0 and free:
            return some, start
    return None
