"""Windows of an image by NumPy's own padding, and random problems of order statistics and morphology.

    python tests/support/windows.py 0 100000        # so many problems from the first on; findings are printed
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.ndimage
from images import DTYPES, MODES, image, origin, same, shape

from fastconv import ndimage

#: What `numpy.pad` calls SciPy's modes.
PADDING = {"reflect": "symmetric", "grid-mirror": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap",
           "grid-wrap": "wrap", "constant": "constant", "grid-constant": "constant"}  # fmt: skip
GREY = ("grey_erosion", "grey_dilation", "grey_opening", "grey_closing", "morphological_gradient",
        "morphological_laplace", "white_tophat", "black_tophat")  # fmt: skip
BINARY = ("binary_erosion", "binary_dilation", "binary_opening", "binary_closing")
RANKS = ("rank_filter", "percentile_filter", "median_filter")


def windows(
    x: np.ndarray, sizes: Sequence[int], origins: Sequence[int], modes: Sequence[str], cval: float = 0.0,
    footprint: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """The elements that each window sees, along a last axis."""
    for axis, (size, at, mode) in enumerate(zip(sizes, origins, modes, strict=True)):
        before = size // 2 + at
        given = {"constant_values": cval} if PADDING[mode] == "constant" else {}
        pad = [(before, size - 1 - before) if number == axis else (0, 0) for number in range(x.ndim)]
        x = np.pad(x, pad, mode=PADDING[mode], **given)  # type: ignore[call-overload] # a name for each mode
    views = np.lib.stride_tricks.sliding_window_view(x, tuple(sizes))
    if footprint is not None:
        return views[..., footprint]
    return views.reshape(*views.shape[: x.ndim], -1)


def numbers(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Sometimes fewer different elements than the dtype has, so that there are equal ones, of the same layout."""
    if x.dtype.kind == "b" or rng.random() < 0.5:
        return x
    most = int(rng.choice([2, 7, 100]))
    values = rng.integers(0 if x.dtype.kind == "u" else -most, most, x.shape)
    writeable = x.flags.writeable
    if not writeable:
        x = x.copy()
    x[...] = values / 2 if x.dtype.kind == "f" else values
    x.flags.writeable = writeable
    return x


def footprint(rng: np.random.Generator, sizes: Sequence[int]) -> np.ndarray:
    """A footprint with an element at least."""
    found = rng.random(sizes) < rng.choice([0.3, 0.7])
    found.flat[rng.integers(found.size)] = True
    return found


class Problem:
    """A function's name, an image, and all other arguments."""

    def __init__(self, name: str, x: np.ndarray, args: tuple[Any, ...], told: dict[str, Any]) -> None:
        self.name, self.x, self.args, self.told = name, x, args, told

    def of(self, module: Any) -> Any:
        """What a module makes of it."""
        return getattr(module, self.name)(self.x, *self.args, **self.told)

    def __str__(self) -> str:
        return f"{self.name}(x of {self.x.shape} {self.x.dtype} {self.x.strides}, {self.args}, {self.told})"


def _cval(rng: np.random.Generator, dtype: np.dtype) -> float:
    """A constant that SciPy does not convert in a way that C leaves undefined: see `fastconv.ndimage.windowed`."""
    if dtype.kind == "b":
        return float(rng.integers(2))
    values = [0, 1, 2.5, 0.1, 200, 1e5] + [-3.0] * (dtype.newbyteorder("=") != np.uint64)
    return float(rng.choice(values))


def _axes(rng: np.random.Generator, x: np.ndarray, most: int) -> tuple[tuple[int, ...] | None, list[int]]:
    """Axes, or None for all, and sizes of windows that are no larger than the image."""
    over = tuple(map(int, rng.permutation(x.ndim)[: rng.integers(1, x.ndim + 1)])) if rng.random() < 0.5 else None
    along = sorted(over or range(x.ndim))
    sizes = [int(rng.integers(1, max(2, min(most, x.shape[axis]) + 1))) for axis in along]
    while np.prod(sizes) > 200:
        sizes[int(np.argmax(sizes))] //= 2
    if over is not None and rng.random() < 0.3:
        over = tuple(axis - x.ndim for axis in over)
    return over, sizes


def order(rng: np.random.Generator, dtype: Any) -> Problem:
    """A problem of a maximum, minimum, or rank."""
    sides = list(shape(rng, longest=int(rng.choice([17, 17, 40]))))
    if rng.random() < 0.2:  # rows of several vectors
        sides = sides[:3]
        sides[-1 if rng.random() < 0.5 else int(rng.integers(len(sides)))] = int(rng.integers(64, 400))
    x = numbers(rng, image(rng, tuple(sides), dtype))
    told: dict[str, Any] = {"mode": str(rng.choice(MODES)), "cval": _cval(rng, x.dtype)}
    if rng.random() < 0.3:
        told["output"] = np.dtype(rng.choice(DTYPES[1:]))
        if told["output"] == np.uint64 and x.dtype.kind in "if":
            told.pop("output")  # C leaves it open what SciPy's doubles below 0 are there
    kind = rng.integers(4)
    if kind == 0:
        axis = int(rng.integers(-x.ndim, x.ndim))
        size = int(rng.integers(1, 9))
        name = str(rng.choice(["maximum_filter1d", "minimum_filter1d"]))
        return Problem(name, x, (size, axis), told | {"origin": origin(rng, size)})
    axes, sizes = _axes(rng, x, 7)
    in_order = axes is None or [axis % x.ndim for axis in axes] == sorted(axis % x.ndim for axis in axes)
    told |= {"axes": axes, "origin": [origin(rng, size) for size in sizes] if in_order else 0}
    name = str(rng.choice(["maximum_filter", "minimum_filter", *RANKS]))
    if name in RANKS and x.ndim == 1:  # SciPy's ranks of one axis have dtypes of their own, and no footprint
        told.pop("output", None)
        told["size"] = sizes
        x = x.astype(x.dtype.newbyteorder("="), copy=False)
    elif rng.random() < 0.5:
        told["footprint"] = footprint(rng, sizes)
    elif in_order or len({*sizes}) == 1:
        told["size"] = sizes
        if name not in RANKS and rng.random() < 0.5:
            told["mode"] = [str(rng.choice(MODES)) for _ in sizes]
    else:
        told["size"] = min(sizes)
    if "footprint" in told:
        count = int(told["footprint"].sum())
    else:
        count = int(np.prod(np.broadcast_to(told["size"], len(sizes))))
    if name == "rank_filter":
        return Problem(name, x, (int(rng.integers(-count, count)),), told)
    if name == "percentile_filter":
        return Problem(name, x, (float(rng.choice([0, 100, 50, 20, -10, 99])),), told)
    return Problem(name, x, (), told)


def grey(rng: np.random.Generator, dtype: Any) -> Problem:
    """A problem of grey-scale morphology."""
    x = numbers(rng, image(rng, shape(rng), dtype))
    axes, sizes = _axes(rng, x, 5)
    in_order = axes is None or [axis % x.ndim for axis in axes] == sorted(axis % x.ndim for axis in axes)
    told: dict[str, Any] = {"mode": str(rng.choice(MODES)), "cval": _cval(rng, x.dtype), "axes": axes}
    told["origin"] = tuple(origin(rng, size) for size in sizes) if in_order else 0
    kind = rng.integers(4)
    if kind == 0 and (in_order or len({*sizes}) == 1):
        told["size"] = sizes
    elif kind < 3 or x.dtype.kind == "b":
        told["footprint"] = footprint(rng, sizes)
    else:
        told["structure"] = rng.integers(-3, 4, sizes) / rng.choice([1, 2])
        if rng.random() < 0.4:
            told["footprint"] = footprint(rng, sizes)
    return Problem(str(rng.choice(GREY)), x, (), told)


def binary(rng: np.random.Generator, dtype: Any) -> Problem:
    """A problem of binary morphology; one "until nothing changes" comes to an end.

    SciPy 1.17 reads and writes out of bounds for some images without elements, for even sizes along axes that are not
    in their order, and if it is to do several steps with a structuring element that is larger than the image.
    """
    x = numbers(rng, image(rng, tuple(max(1, size) for size in shape(rng)), dtype))
    over = tuple(map(int, rng.permutation(x.ndim)[: rng.integers(1, x.ndim + 1)])) if rng.random() < 0.4 else None
    along = sorted(over or range(x.ndim))
    in_order = over is None or list(over) == along
    told: dict[str, Any] = {"axes": over, "border_value": int(rng.integers(2))}
    told["iterations"] = int(rng.choice([1, 1, 2, 3, 9]))
    if rng.random() < 0.7 or min(x.shape) < 3:
        most = [x.shape[axis] if told["iterations"] > 1 or not in_order else 5 for axis in along]
        sizes = [int(rng.integers(1, min(5, size) + 1)) for size in most]
        if not in_order:
            sizes = [(size - 1) // 2 * 2 + 1 for size in sizes]
        told["structure"] = footprint(rng, sizes)
        told["origin"] = tuple(origin(rng, size) for size in sizes) if in_order else 0
    if rng.random() < 0.4:
        told["mask"] = rng.random(x.shape) < 0.7
    if rng.random() < 0.2:
        told |= {"iterations": int(rng.integers(-1, 1)), "origin": 0}
        if "structure" in told:  # with the element itself no step undoes another
            sizes = [min(size, x.shape[axis]) for size, axis in zip(told["structure"].shape, along, strict=True)]
            told["structure"] = np.ones([(size - 1) // 2 * 2 + 1 for size in sizes], bool)
    return Problem(str(rng.choice(BINARY)), x, (), told)


def equal(result: np.ndarray, expected: np.ndarray, told: object) -> None:
    """AssertionError unless both are equal, bit by bit but for NaN."""
    same(result, expected, lambda: told)


def compared(problem: Problem, ours: Any, theirs: Any) -> None:
    """AssertionError unless two modules agree, and leave the image as it is."""
    before = problem.x.copy()
    with np.errstate(all="ignore"):
        expected = problem.of(theirs)
        result = problem.of(ours)
    np.testing.assert_array_equal(problem.x, before)
    equal(result, expected, problem)


def main(first: int, count: int) -> None:
    """Compare with SciPy, and print what differs."""
    warnings.simplefilter("ignore")
    for number in range(first, first + count):
        kind, dtype = (order, grey, binary)[number % 3], DTYPES[number // 3 % len(DTYPES)]
        problem = kind(np.random.default_rng([number, 5]), dtype)
        try:
            problem.of(scipy.ndimage)
        except (TypeError, ValueError, RuntimeError):
            continue
        try:
            compared(problem, ndimage, scipy.ndimage)
        except Exception as error:  # whatever it is
            print(number, problem, error)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
