"""Whether results are, bit by bit, those of another checkout: ``python -m benchmarks.unchanged PATH``.

PATH is the folder that holds the other's ``fastconv/``. Both compute the same random calls, of all operations and
dtypes, each in a process of its own; results are compared by their dtype, shape and bytes, and errors by their type and
message. Public functions, their arguments and defaults are compared, too.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checkouts import checkout, copied

DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64")


class Calls:
    """Random calls, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def number(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def array(self, *shape: int) -> np.ndarray:
        dtype = np.dtype(DTYPES[self.number(0, len(DTYPES) - 1)])
        values = self.rng.standard_normal(shape) * 4
        return (np.abs(values) if dtype.kind in "bu" else values).astype(dtype)

    def geometry(self, axes: int) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
        """Sizes, a kernel that fits, and options."""
        size = tuple(self.number(1, 24 if axes < 3 else 9) for _ in range(axes))
        kernel = tuple(self.number(1, 5 if axes < 3 else 3) for _ in range(axes))
        return size, kernel, {"stride": self.number(1, 3), "padding": self.number(0, 2)}

    def convolution(self, fastconv: Any, kind: str, axes: int) -> Any:
        size, kernel, options = self.geometry(axes)
        groups, each, filters = self.number(1, 3), self.number(1, 4), self.number(1, 4)
        options |= {"groups": groups, "dilation": self.number(1, 2)}
        x = self.array(self.number(1, 3), groups * each, *size)
        if kind == "conv_transpose":
            weight = self.array(groups * each, filters, *kernel)
        else:
            weight = self.array(groups * filters, each, *kernel)
        bias = self.array(groups * filters) if self.number(0, 1) else None
        if self.number(0, 3):
            return getattr(fastconv, f"{kind}{axes}d")(x, weight, bias, **options)
        return getattr(fastconv, f"plan_{kind}{axes}d")(x.shape, weight, bias, dtype=x.dtype, **options)(x)

    def pooling(self, fastconv: Any, kind: str, axes: int) -> Any:
        size, kernel, options = self.geometry(axes)
        x, norm = self.array(self.number(1, 3), self.number(1, 3), *size), (2.0,) if kind == "lp" else ()
        options |= {"dilation": self.number(1, 2), "ceil_mode": bool(self.number(0, 1))}
        if kind == "max" and self.number(0, 1):
            options["return_indices"] = True
        return getattr(fastconv, f"{kind}_pool{axes}d")(x, *norm, kernel, **options)

    def other(self, fastconv: Any, number: int) -> Any:
        extent, kernel, options = self.geometry(2)
        x = self.array(self.number(1, 3), self.number(1, 3), *extent)
        if number == 0:
            return fastconv.corr2d(x[0, 0], self.array(*kernel), self.number(0, 2))
        if number == 1:
            size = self.number(1, 5)
            return fastconv.adaptive_avg_pool2d(x, size), fastconv.adaptive_max_pool2d(x, size)
        if number == 2:
            return fastconv.unfold2d(x, kernel, **options)
        if number == 3:
            columns = fastconv.unfold2d(x, kernel, **options)
            return fastconv.fold2d(columns, extent, kernel, **options)
        if number == 4:
            mode = ("full", "same", "valid")[self.number(0, 2)]
            return fastconv.signal.convolve2d(x[0, 0], self.array(*kernel), mode, "symm")
        if number == 5:
            values, places = fastconv.max_pool2d(x, 2, return_indices=True)
            return fastconv.max_unpool2d(values, places, 2)
        weight = self.array(self.number(1, 3), x.shape[1], *kernel)
        y = fastconv.conv2d(x, weight, **options)
        if number == 6:
            return fastconv.grad.conv2d_weight(x, weight.shape, y, **options)
        if number == 7:
            return fastconv.grad.conv2d_input(x.shape, weight, y, **options)
        pooled = fastconv.avg_pool2d(x, 2)
        return fastconv.grad.avg_pool2d(x, pooled, 2), fastconv.grad.max_pool2d(x, pooled, 2)

    def one(self, fastconv: Any) -> Any:
        kind, axes = self.number(0, 9), self.number(1, 3)
        if kind < 3:
            return self.convolution(fastconv, ("conv", "conv", "conv_transpose")[kind], axes)
        return self.pooling(fastconv, ("max", "avg", "lp")[kind - 3], axes) if kind < 6 else self.other(
            fastconv, self.number(0, 8))  # fmt: skip


def told(call: Callable[[], Any]) -> str:
    """A call's result, or its error, in a few letters."""
    try:
        found = call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    digest = hashlib.sha256()
    for array in found if isinstance(found, tuple) else (found,):
        digest.update(repr((array.dtype, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def signatures(fastconv: Any) -> Iterator[str]:
    """Public functions with their arguments and defaults."""
    for module in (fastconv, fastconv.grad, fastconv.signal, fastconv.nn, fastconv.wisdom, fastconv.cache):
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value):
                arguments = inspect.signature(value).parameters.values()
                yield f"{module.__name__}.{name}({', '.join(f'{one.name}={one.default!r}' for one in arguments)})"


def computed(path: str, count: int) -> list[str]:
    """What a checkout says of all calls."""
    command = [sys.executable, "-m", "benchmarks.unchanged", path, "--count", str(count), "--serve"]
    environment = os.environ | {"PYTHONPATH": path}
    return json.loads(subprocess.run(command, env=environment, cwd=path, capture_output=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", metavar="PATH", help="a folder with another checkout's fastconv/")
    parser.add_argument("--count", type=int, default=2000, help="random calls (default: 2000)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        import fastconv

        with np.errstate(all="ignore"):
            calls = [told(lambda seed=seed: Calls(seed).one(fastconv)) for seed in range(arguments.count)]
        print(json.dumps([*signatures(fastconv), *calls]))
        return
    here = Path(__file__).resolve().parent
    with (
        copied(checkout(arguments.path), here) as before,
        copied(checkout(str(here.parent)), here) as now,
    ):
        pairs = list(zip(computed(before, arguments.count), computed(now, arguments.count), strict=True))
    differ = [pair for pair in pairs if pair[0] != pair[1]]
    errors = sum(": " in now for _, now in pairs[-arguments.count :])
    print(f"{len(pairs)} functions and calls ({errors} calls end in an error), {len(differ)} differ")
    for old, new in differ[:20]:
        print(f"  {old}\n  {new}")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
