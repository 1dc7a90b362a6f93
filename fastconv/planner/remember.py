"""The store of measured choices ("wisdom"): the fastest algorithm of each measured problem, remembered on disk.

``plan_conv2d(..., measure=True)`` and ``compare(..., remember=True)`` time the algorithms and remember which won.
``algorithm="auto"`` then takes the winner for that problem, dtype and number of threads, in this process and in
processes that start later. Wisdom holds for one machine: the processor with its features, and the versions of this
package (all of its sources), Numba, llvmlite and NumPy. Wisdom of another machine is ignored.

On disk, each machine has a folder and each problem a small file in it, so that processes never wait for each other and
nothing is read before it is asked for. A damaged file counts as absent. Where no file can be written, wisdom lasts as
long as the process.

Source: Frigo and Johnson, The design and implementation of FFTW3, 2005.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..base.files import cache_folder, entries, read, remove, write
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec

#: A number that rises whenever something is learnt or forgotten: whoever keeps a choice keeps it, too, to compare.
generation = 0

#: Records that this process has learnt, by `_key`.
_learned: dict[tuple[str, int], dict[str, Any]] = {}


# -- for the planner -----------------------------------------------------------------------------------------


def recall(spec: ConvSpec | TransposeSpec, threads: int) -> str | None:
    """The algorithm that won when this problem was measured with so many threads; None if it was not measured."""
    folder = os.path.join(_root(), _machine_name())  # faster than with a Path: every new problem asks
    if not _learned and not os.path.isdir(folder):
        return None
    key = _key(spec, threads)
    record = _learned.get(key) or _read(os.path.join(folder, _name(*key)))
    if record is None or (record["problem"], record["threads"]) != key:
        return None
    return record["algorithm"]


def learn(spec: ConvSpec | TransposeSpec, threads: int, seconds: Mapping[str, float]) -> str:
    """Remember the fastest of these algorithms and return its name."""
    problem, _ = _key(spec, threads)
    winner = min(seconds, key=seconds.__getitem__)
    keep({"problem": problem, "threads": threads, "algorithm": winner, "seconds": dict(seconds)})
    return winner


def records() -> Iterator[dict[str, Any]]:
    """All records for this machine, each problem once, in no particular order."""
    known = dict(_learned)
    yield from known.values()
    for file, *_ in entries(_folder()):
        record = _read(file) if file.suffix == ".json" else None
        if record is not None and (record["problem"], record["threads"]) not in known:
            yield record


def forget() -> int:
    """Forget everything, on disk and for other machines and versions, too; returns the number of problems."""
    global generation
    names = {_file(*key).name for key in _learned}
    for folder in _root().glob("*"):
        found = [file for file, *_ in entries(folder)]
        names |= {file.name for file in found if file.suffix == ".json"}
        remove(found)
        with suppress(OSError):  # not empty: a process is writing
            folder.rmdir()
    _learned.clear()
    generation += 1
    return len(names)


def _key(spec: ConvSpec | TransposeSpec, threads: int) -> tuple[str, int]:
    return str(spec.as_batch()), threads


def keep(record: dict[str, Any]) -> None:
    global generation
    key = record["problem"], record["threads"]
    _learned[key] = record
    write(_file(*key), json.dumps(record).encode())
    generation += 1


# -- on disk -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def machine() -> dict[str, str]:
    """The machine and the versions that wisdom holds for, by name."""
    import llvmlite
    import numba
    import numpy

    from ..cpu.system import target

    return {
        "processor": target.processor().name,
        "features": hashlib.sha256(" ".join(sorted(target.processor().features)).encode()).hexdigest()[:16],
        "FASTCONV_SIMD": os.environ.get("FASTCONV_SIMD", ""),
        "NUMBA_DISABLE_JIT": os.environ.get("NUMBA_DISABLE_JIT", ""),
        "fastconv": target.package_hash()[:16],
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": numpy.__version__,
    }


@lru_cache(maxsize=1)
def _machine_name() -> str:
    return hashlib.sha256(json.dumps(machine()).encode()).hexdigest()[:16]


def _root() -> Path:
    return cache_folder() / "wisdom"


def _folder() -> Path:
    return _root() / _machine_name()


def _file(problem: str, threads: int) -> Path:
    return _folder() / _name(problem, threads)


def _name(problem: str, threads: int) -> str:
    return f"{hashlib.sha256(f'{threads} {problem}'.encode()).hexdigest()[:32]}.json"


def _read(file: Path | str) -> dict[str, Any] | None:
    try:
        record = json.loads(read(Path(file)) or b"")
    except (ValueError, RecursionError):
        return None
    return record if is_sound(record) else None


def is_sound(record: Any) -> bool:
    """Whether a record has the form that `learn` writes."""
    if not isinstance(record, dict) or record.keys() != {"problem", "threads", "algorithm", "seconds"}:
        return False
    seconds = record["seconds"]
    return (
        isinstance(record["problem"], str)
        and record["problem"].isascii()
        and type(record["threads"]) is int
        and record["threads"] >= 1
        and isinstance(record["algorithm"], str)
        and isinstance(seconds, dict)
        and all(isinstance(value, float) and 0 < value < math.inf for value in seconds.values())
        and record["algorithm"] in seconds
    )
