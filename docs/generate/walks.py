"""How algorithms walk over their arrays, noted while kernels run as Python: ``python -m generate.walks FILE``.

With ``NUMBA_DISABLE_JIT=1`` kernels are the Python that they are written in. The arrays that they are handed are
watched then: which elements of the input they read, when, and how often, and when each element of the result is written
last. What is emitted as machine code has no Python, and no walk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

#: Addresses of elements that were read, and of those written, in order; a vector's elements have one place in it.
READ: list[np.ndarray] = []
WRITTEN: list[np.ndarray] = []


class Watched(np.ndarray):
    """An array that notes which of its elements are used."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if not isinstance(found, np.ndarray):
            READ.append(addresses(self)[key])
        elif not np.may_share_memory(_plain(found), _plain(self)):  # chosen by an array of places
            READ.append(addresses(self)[key])
            return np.asarray(found)
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        _note(READ, value)
        WRITTEN.append(addresses(self)[key])
        super().__setitem__(key, np.asarray(value) if isinstance(value, Watched) else value)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        for each in inputs:
            _note(READ, each)
        for each in out:
            _note(WRITTEN, each)
        if out:
            options["out"] = tuple(_plain(each) for each in out)
        return getattr(ufunc, method)(*map(_plain, inputs), **options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        for each in args:
            for one in each if isinstance(each, list | tuple) else [each]:
                _note(READ, one)
        return function(*_deep(args), **{name: _plain(each) for name, each in kwargs.items()})


def addresses(array: np.ndarray) -> np.ndarray:
    """The address of each element."""
    start = np.array(array.__array_interface__["data"][0])
    for size, stride in zip(array.shape, array.strides, strict=True):
        start = start[..., None] + np.arange(size) * stride
    return start


def _note(where: list[np.ndarray], value: Any) -> None:
    if isinstance(value, Watched):
        where.append(addresses(value))


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Watched) else value


def _deep(values: Any) -> Any:
    return type(values)(map(_deep, values)) if isinstance(values, list | tuple) else _plain(values)


def watch() -> None:
    """From now on kernels are handed arrays that are watched."""
    from fastconv.cpu.system.plain import Plain

    call = Plain.__call__

    def watching(self: Plain, *args: Any) -> Any:
        return call(self, *(each.view(Watched) if isinstance(each, np.ndarray) else each for each in args))

    Plain.__call__ = watching  # type: ignore[method-assign] # this process exists for nothing else


def grid(notes: list[np.ndarray], array: np.ndarray, last: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each element of an array: when it was used, -1 if never; and how often."""
    begin = array.__array_interface__["data"][0]
    when, often = np.full(array.size, -1), np.zeros(array.size, int)
    for time, used in enumerate(notes):
        places = (np.ravel(used) - begin) // array.itemsize
        places = places[(places >= 0) & (places < array.size)]
        often[places] += 1
        new = places if last else places[when[places] < 0]
        when[new] = time
    times = np.unique(when[when >= 0])
    when[when >= 0] = np.searchsorted(times, when[when >= 0])  # 0, 1, 2, ...
    return when.reshape(array.shape), often.reshape(array.shape)


def main(file: str) -> None:
    """Run every problem, and save what was noted."""
    from .problems import problems

    watch()
    found: dict[str, np.ndarray] = {}
    for problem in problems():
        READ.clear()
        WRITTEN.clear()
        try:
            result = np.asarray(problem.call(problem.x))
        except RuntimeError as error:
            if "machine code" not in str(error):
                raise
            continue
        if not result.flags.c_contiguous:
            continue
        read, often = grid(READ, problem.x, last=False)
        written, _ = grid(WRITTEN, result, last=True)
        if (read >= 0).any() and (written >= 0).any():
            found |= {f"{problem.stem}.read": read, f"{problem.stem}.often": often, f"{problem.stem}.written": written}
    np.savez_compressed(file, **found)


def noted(module: str, **environment: str) -> dict[str, np.ndarray]:
    """What ``python -m module FILE`` saves there, run as a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "noted.npz"
        path = os.pathsep.join(filter(None, sys.path))
        subprocess.run([sys.executable, "-m", module, str(file)], env=os.environ | environment | {"PYTHONPATH": path},
                       cwd=Path(__file__).parents[1], check=True)  # fmt: skip
        with np.load(file) as saved:
            return dict(saved)


def walks() -> dict[str, np.ndarray]:
    """What `main` saves."""
    return noted("generate.walks", NUMBA_DISABLE_JIT="1")


if __name__ == "__main__":
    main(sys.argv[1])
