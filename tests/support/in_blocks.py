"""Random calls with Dask arrays, in random chunks, compared bit by bit with the calls with the whole arrays.

    python tests/support/in_blocks.py 0 100000        # so many problems from the first on; findings are printed
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import dask
import dask.array as da
import image_filters
import numpy as np
import windows
from images import DTYPES

import fastconv
from fastconv import ndimage
from fastconv.dask import blocks

#: Filters whose sums of floats depend on the place of a window and the size of the image: sums of parts are shared by
#: several windows, and images of long rows are read in place, in another order of additions.
SHARED = image_filters.NAMES
#: How far these may be off, of the largest result: some roundings.
ROUNDED = {"f": 1e-5, "d": 1e-13, "F": 1e-5, "D": 1e-13}
_FORMATS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


class Problem(NamedTuple):
    """A function of one array, the array, and what to call it."""

    call: Callable[[Any], Any]
    x: np.ndarray
    name: str
    told: str


def chunks(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Chunks of any sizes, also of one element and of all."""
    found = []
    for size in shape:
        ends = sorted({*rng.integers(1, size, int(rng.integers(0, 5)))} if size > 1 else ())
        found.append(tuple(int(one) for one in np.diff([0, *ends, size])))
    return tuple(found)


def filters(rng: np.random.Generator, dtype: Any) -> Problem:
    """A filter of `ndimage`."""
    kind = int(rng.integers(6))
    if kind < 3:
        names = tuple(name for name in image_filters.NAMES if not name.startswith("generic"))
        one = image_filters.problem(rng, dtype, names)
        return Problem(lambda x: image_filters.called(ndimage, one, x), one.image, one.name, repr(one))
    other = (windows.order, windows.grey, windows.binary)[kind - 3](rng, dtype)
    call = lambda x: getattr(ndimage, other.name)(x, *other.args, **other.told)  # noqa: E731 # as the others
    return Problem(call, other.x, other.name, str(other))


def layers(rng: np.random.Generator, dtype: Any) -> Problem:
    """A convolution, a transposed one, a pooling, or an image filter."""
    axes = int(rng.integers(1, 4))
    size = [int(one) for one in rng.integers(4, 14 if axes < 3 else 9, axes)]
    n, c, groups = int(rng.integers(1, 3)), int(rng.choice([1, 2, 4])), 1
    kernel, stride = ([int(one) for one in rng.integers(1, 5, axes)] for _ in range(2))
    gaps = [int(one) for one in rng.choice([1, 1, 2], axes)]
    pads: Any = [tuple(int(one) for one in rng.integers(0, 4, 2)) for _ in range(axes)]
    if rng.random() < 0.2:
        pads = str(rng.choice(["same", "same_lower", "valid"]))

    def numbers(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 3).astype(dtype)

    kind = rng.choice(["conv", "conv", "transpose", "max", "min", "avg", "lp", "corr", "adaptive"])
    if kind in ("corr", "adaptive"):
        axes, size, kernel = 2, [9, 12], [*kernel, 2, 3][:2]
    args: tuple[Any, ...]
    told: dict[str, Any] = {"stride": stride, "dilation": gaps, "padding": pads}
    if kind in ("conv", "transpose"):
        groups = int(rng.choice([1, c]))
        told["groups"] = groups
        bias = numbers(groups * 2) if rng.random() < 0.5 else None
    if kind == "conv":
        last = bool(rng.random() < 0.3)
        x = numbers(n, *size, c) if last else numbers(n, c, *size)
        args = numbers(groups * 2, c // groups, *kernel), bias
        modes = ["zeros", "reflect", "replicate", "circular"]
        told |= {"padding_mode": str(rng.choice(modes)), "data_format": _FORMATS[axes][last]}
        told["activation"] = "relu" if rng.random() < 0.3 else None
        function = getattr(fastconv, f"conv{axes}d")
    elif kind == "transpose":
        x, args = numbers(n, c, *size), (numbers(c, 2, *kernel), bias)
        function = getattr(fastconv, f"conv_transpose{axes}d")
        if rng.random() < 0.5:
            told["output_padding"] = [int(rng.integers(max(both))) for both in zip(stride, gaps, strict=True)]
    elif kind == "corr":
        x, args, function = numbers(*size), (numbers(*kernel), int(rng.integers(2))), fastconv.corr2d
        told = {"padding": 0 if isinstance(pads, str) else pads[0], "padding_mode": "replicate"}
    elif kind == "adaptive":
        x, args, told = numbers(n, c, *size), (kernel,), {}
        function = getattr(fastconv, str(rng.choice(["adaptive_avg_pool2d", "adaptive_max_pool2d"])))
    else:
        x = numbers(*(n, c)[int(rng.integers(3)) :], *size)
        args = (2.0, kernel) if kind == "lp" else (kernel,)
        told["ceil_mode"] = bool(rng.random() < 0.5)
        if kind == "lp":
            told.pop("padding")
            told.pop("dilation")
        elif kind == "avg":
            told |= {"count_include_pad": bool(rng.random() < 0.5), "divisor_override": rng.choice([None, 3])}
        else:
            told["return_indices"] = bool(rng.random() < 0.5)
        function = getattr(fastconv, f"{kind}_pool{axes}d")
    text = f"{function.__name__}(x of {x.shape} {x.dtype}, {[getattr(one, 'shape', one) for one in args]}, {told})"
    return Problem(lambda x: function(x, *args, **told), x, function.__name__, text)


def check(problem: Problem, rng: np.random.Generator) -> bool:
    """AssertionError unless the lazy result is the whole array's, or both are refused; whether there is one."""
    cut = chunks(rng, problem.x.shape)
    told = f"{problem.told} in {cut}"
    with np.errstate(all="ignore"):
        try:
            expected = problem.call(problem.x)
        except (ValueError, TypeError, RuntimeError) as error:
            try:
                made = problem.call(da.from_array(problem.x, chunks=cut))
                dask.compute(made, scheduler="synchronous")
            except type(error):
                return False
            raise AssertionError(f"{told}: not refused") from None
        lazy = problem.call(da.from_array(problem.x, chunks=cut))
        found = dask.compute(lazy, scheduler="synchronous")[0]
    several = [one if isinstance(one, tuple) else (one,) for one in (lazy, found, expected)]
    for promise, result, wanted in zip(*several, strict=True):
        assert promise.dtype == promise._meta.dtype == result.dtype == wanted.dtype, told
        assert promise.shape == result.shape == wanted.shape, told
        is_float = wanted.dtype.kind in "fc"
        if np.array_equal(result, wanted, equal_nan=is_float):
            continue
        assert problem.name in SHARED, f"{told}: not equal"
        assert is_float, f"{told}: not equal"
        apart = float(np.nanmax(np.abs(result - wanted)))
        assert apart <= ROUNDED[wanted.dtype.char] * float(np.nanmax(np.abs(wanted))), f"{told}: {apart} apart"
    return True


def main(first: int, count: int) -> None:
    """Compare, and print what differs."""
    warnings.simplefilter("ignore")
    for number in range(first, first + count):
        rng = np.random.default_rng([number, 17])
        blocks.BAND_BYTES = (64, 1 << 20)[number // 2 % 2]
        try:
            check((filters, layers)[number % 2](rng, DTYPES[number // 2 % len(DTYPES)]), rng)
        except Exception as error:  # whatever it is
            print(number, repr(error))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
