"""Random calls of the linear filters of `fastconv.ndimage`, compared with SciPy's.

    python tests/support/image_filters.py 0 100000        # so many problems from the first on; findings are printed

Integers are to be equal. Floats are to be as far apart as rounding takes them, and NaN and infinite where SciPy's are:
of means, whose running sums spread NaN in SciPy, where those of a correlation are.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage
from images import DTYPES, MODES, image, origin, shape

import fastconv
from fastconv import ndimage

NAMES = ("correlate", "convolve", "correlate1d", "convolve1d", "uniform_filter", "uniform_filter1d", "gaussian_filter",
         "gaussian_filter1d", "sobel", "prewitt", "laplace", "gaussian_laplace", "gaussian_gradient_magnitude",
         "generic_laplace", "generic_gradient_magnitude", "separable_filter")  # fmt: skip
#: NumPy's names of the boundaries.
PADDED = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap", "constant": "constant",
          "grid-mirror": "symmetric", "grid-constant": "constant", "grid-wrap": "wrap"}  # fmt: skip
#: Those of several passes that can give negative numbers.
CHAINS = "sobel", "prewitt", "generic_laplace", "generic_gradient_magnitude", "separable_filter"
#: Those that multiply pass by pass what a window of weights gave.
ROOTS = "gaussian_gradient_magnitude", "generic_gradient_magnitude"


class Problem(NamedTuple):
    """A call of a filter."""

    name: str
    image: np.ndarray
    arguments: tuple
    told: dict[str, Any]

    def __repr__(self) -> str:
        x = self.image
        return f"{self.name}: {x.dtype.str} {x.shape} {x.strides} {self.arguments} {self.told}"


def problem(rng: np.random.Generator, dtype: Any, names: tuple[str, ...] = NAMES) -> Problem:
    """A filter of an image of this dtype."""
    name = str(rng.choice(names))
    size = list(shape(rng, 5 if rng.random() < 0.9 else 8))
    if rng.random() < 0.3:  # rows of several vectors
        size = size[:3]
        size[-1 if rng.random() < 0.5 else int(rng.integers(len(size)))] = int(rng.integers(64, 400))
    x = image(rng, tuple(size), dtype)
    axes = tuple(map(int, rng.permutation(x.ndim)[: rng.integers(1, x.ndim + 1)]))
    sizes = [int(rng.integers(1, (4 if x.ndim > 3 or rng.random() < 0.5 else 10))) for _ in axes]
    if rng.random() < 0.1 and x.shape[axes[0]] < 40:  # beyond the image, several times
        sizes[0] = int(3 * x.shape[axes[0]] + 2)
    told: dict[str, Any] = {"mode": str(rng.choice(MODES)), "cval": float(rng.choice([0.0, 3.0, -2.5, 200.0]))}
    if np.dtype(dtype).itemsize >= 4 and np.dtype(dtype).kind in "iu":
        told["cval"] = float(int(told["cval"]))
    a_mode_each = [str(rng.choice(MODES)) for _ in axes]
    whole = rng.random() < 0.5
    if name in ("correlate", "convolve"):
        weights = rng.integers(-3, 4, sizes).astype(float) if whole else rng.standard_normal(sizes)
        if rng.random() < 0.3 and len(sizes) == 2:
            weights = np.outer(weights[:, 0], weights[0])
        told |= {"axes": tuple(sorted(axes)), "origin": [origin(rng, size, name == "convolve") for size in sizes]}
        return Problem(name, x, (weights,), told)
    if name in ("correlate1d", "convolve1d"):
        return Problem(name, x, (_weights(rng, sizes[0], whole),), told | {
            "axis": axes[0], "origin": origin(rng, sizes[0], name == "convolve1d")})  # fmt: skip
    if name == "separable_filter":
        weights = tuple(_weights(rng, size, whole) for size in sizes)
        return Problem(name, x, (weights,), told | {
            "axes": axes, "origin": [origin(rng, size) for size in sizes], "mode": a_mode_each})  # fmt: skip
    if name == "uniform_filter1d":
        return Problem(name, x, (sizes[0],), told | {"axis": axes[0], "origin": origin(rng, sizes[0])})
    if name == "gaussian_filter1d":
        more = {"axis": axes[0], "order": int(rng.integers(3))}
        return Problem(name, x, (float(rng.uniform(0.3, 2.0)),), told | more)
    if name in ("sobel", "prewitt"):
        return Problem(name, x, (axes[0],), told | {"mode": [str(rng.choice(MODES)) for _ in range(x.ndim)]})
    if name == "gaussian_gradient_magnitude":  # of fewer axes SciPy's smooths along all, against its documentation
        axes = tuple(range(x.ndim))
    if name == "gaussian_laplace":  # all axes in another order have SciPy's in the image's, against its documentation
        axes = tuple(sorted(axes))
    told |= {"axes": axes, "mode": [str(rng.choice(MODES)) for _ in axes]}
    if name == "uniform_filter":
        return Problem(name, x, (sizes,), told | {"origin": [origin(rng, size) for size in sizes]})
    if name.startswith("gaussian_"):
        sigmas = [float(rng.choice([0.0, 0.4, 1.0, 1.7] if name == "gaussian_filter" else [0.4, 1.1])) for _ in axes]
        order = {"order": [int(rng.integers(3)) for _ in axes]} if name == "gaussian_filter" else {}
        return Problem(name, x, (sigmas,), told | order)
    return Problem(name, x, (), told)


def _weights(rng: np.random.Generator, size: int, whole: bool) -> np.ndarray:
    """A window of one axis; often symmetric or antisymmetric."""
    weights = rng.integers(-3, 4, size).astype(float) if whole else rng.standard_normal(size)
    if rng.random() < 0.6:
        weights = weights + weights[::-1] if rng.random() < 0.5 else weights - weights[::-1]
    return weights


def called(module: Any, one: Problem, x: np.ndarray | None = None, **more: Any) -> np.ndarray:
    """What a module gives; `more` arguments are its own."""
    x, told = one.image if x is None else x, one.told | more
    if one.name == "generic_laplace":
        second = functools.partial(_second, module)
        return module.generic_laplace(x, second, **{k: v for k, v in told.items() if k != "precision"})
    if one.name == "generic_gradient_magnitude":
        return module.generic_gradient_magnitude(x, module.sobel, **{k: v for k, v in told.items() if k != "precision"})
    if one.name == "separable_filter":
        return (_passes if module is scipy.ndimage else fastconv.separable_filter)(x, *one.arguments, **told)
    if module is scipy.ndimage and one.name in ("correlate", "convolve"):
        return _extended(one, x, told)
    return getattr(module, one.name)(x, *one.arguments, **told)


def _extended(one: Problem, x: np.ndarray, told: dict[str, Any]) -> np.ndarray:
    """SciPy's correlation or convolution of an image that NumPy extends: SciPy's windows several times as large as an
    image see the wrong elements near its rims (1.17, "reflect")."""
    axes, weights = told["axes"], one.arguments[0]
    sides = [(0, 0)] * x.ndim
    for axis, size in zip(axes, weights.shape, strict=True):
        sides[axis] = (size, size) if x.shape[axis] else (0, 0)
    name = PADDED[told["mode"]]
    wide = np.pad(x.astype(float), sides, name, **({"constant_values": told["cval"]} if name == "constant" else {}))
    inside = tuple(slice(before, before + size) for (before, _), size in zip(sides, x.shape, strict=True))
    told = {"output": x.dtype.newbyteorder("="), **told}
    return getattr(scipy.ndimage, one.name)(wide, weights, **told)[inside]


def _second(module: Any, x: np.ndarray, axis: int, output: Any, mode: str, cval: float) -> np.ndarray:
    return module.correlate1d(x, [1, -2, 1], axis, output, mode, cval)


def _passes(x: np.ndarray, weights: Any, axes: Any, mode: Any, cval: float, origin: Any, output: Any = None) -> Any:
    """`separable_filter` by SciPy."""
    for number, axis in enumerate(axes):
        x = scipy.ndimage.correlate1d(x, weights[number], axis, output, mode[number], cval, origin[number])
    return x


def check(one: Problem, rng: np.random.Generator) -> None:
    """AssertionError if both differ."""
    before = one.image.copy()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if one.image.dtype.kind == "f":
            _check_floats(one, rng)
        else:
            _check_integers(one, rng)
    np.testing.assert_array_equal(one.image, before)


def _check_integers(one: Problem, rng: np.random.Generator) -> None:
    if rng.random() < 0.4 and one.name not in ROOTS and not (one.image.dtype.kind == "b" and "laplace" in one.name):
        one.told["output"] = np.dtype(rng.choice(DTYPES))
    out = one.told.get("output", one.image.dtype)
    expected = called(scipy.ndimage, one)
    result = called(ndimage, one)
    assert result.dtype == expected.dtype
    if out.kind == "f":
        scale = _scale(one, expected)
        np.testing.assert_allclose(result, expected, rtol=0, atol=(4e-6 if out.itemsize == 4 else 2e-14) * scale)
    elif (out.kind, out.itemsize) == ("u", 8) and one.name in CHAINS:
        pass  # what is negative after a pass is a rounded 2**64 in SciPy, and an exact one here
    elif out.itemsize < 8 or np.abs(expected.astype(float)).max(initial=0) < 2.0**53:
        np.testing.assert_array_equal(result, expected)


def _scale(one: Problem, result: np.ndarray) -> float:
    """A bound of the sums of |weight * element| that a result is made of."""
    scale = np.abs(one.image.astype(float)).max(initial=0) + abs(one.told["cval"]) + np.abs(result).max(initial=0)
    if one.name in ("correlate", "convolve", "correlate1d", "convolve1d"):
        scale *= np.abs(one.arguments[0]).sum()
    if one.name == "separable_filter":
        scale *= np.prod([max(1, np.abs(weights).sum()) for weights in one.arguments[0]])
    if one.name in ("sobel", "prewitt"):
        scale *= 4.0 ** len(one.told["mode"])
    if one.name.startswith(("gaussian_", "generic_")):
        scale *= 4.0 ** len(one.told.get("axes", (0,)))
    return float(scale)


def _check_floats(one: Problem, rng: np.random.Generator) -> None:
    x, single = one.image, one.image.dtype.itemsize == 4
    clean = called(scipy.ndimage, one, x.astype(np.float64))
    scale = _scale(one, clean)
    atol = (4e-6 if single else 2e-14) * scale
    if one.name in ROOTS:  # the root of a difference that cancels
        atol = np.sqrt(atol) if scale < 1 else 3e-3 * scale if single else 1e-7 * scale
    result = called(ndimage, one)
    assert result.dtype == x.dtype.newbyteorder("=")
    np.testing.assert_allclose(result, clean, rtol=0, atol=atol)
    if one.name not in (*ROOTS, "generic_laplace", "separable_filter"):
        double = called(ndimage, one, precision="double")
        np.testing.assert_allclose(double, called(scipy.ndimage, one), rtol=2e-7 if single else 0,
                                   atol=(3e-7 if single else 2e-14) * scale)  # fmt: skip
    if x.size and not one.name.startswith("uniform"):
        spoilt = x.copy()
        for _ in range(int(rng.integers(1, 3))):
            spoilt[tuple(int(rng.integers(size)) for size in x.shape)] = rng.choice([np.nan, np.inf, -np.inf])
        result, expected = called(ndimage, one, spoilt), called(scipy.ndimage, one, spoilt.astype(np.float64))
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
        np.testing.assert_array_equal(result[~finite], expected[~finite])
        np.testing.assert_allclose(result[finite], expected[finite], rtol=0, atol=atol)


def main(first: int, count: int, names: Callable[[], tuple[str, ...]] = lambda: NAMES) -> int:
    """Check so many problems; tell what is found, and how many findings there are."""
    found = 0
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        one = problem(rng, DTYPES[number % len(DTYPES)], names())
        try:
            check(one, rng)
        except Exception as error:
            found += 1
            print(number, one, type(error).__name__, str(error)[:600], sep="\n", flush=True)
            if found >= 20:
                break
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])) > 0)
