"""Arrays of other libraries: what goes into which function, and what comes out; its table in docs/howto/arrays.md.

``python -m tests.test_libraries`` writes the table anew. PyTorch and JAX are tested where they are installed. What is
known of PyTorch alone is tested everywhere, by a module of a few lines in its place; all else by array_api_strict.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import array_api_strict
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import fastconv
import fastconv.ndimage as ndi
from fastconv import grad, signal

DOCUMENT = Path(__file__).parent.parent / "docs" / "howto" / "arrays.md"
RNG = np.random.default_rng(5)
IMAGES, WEIGHT = RNG.standard_normal((2, 3, 8, 9), np.float32), RNG.standard_normal((4, 3, 3, 3), np.float32)
LAST = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1))
IMAGE, KERNEL = RNG.random((9, 10), np.float32), RNG.random((3, 3), np.float32)
GRADIENT = RNG.standard_normal((2, 4, 6, 7), np.float32)
VALUES, PLACES = fastconv.max_pool2d(IMAGES, 2, return_indices=True)
COLUMNS = fastconv.unfold2d(IMAGES, 3)

ONES = np.ones((4, 8, 3), np.float32)

Make = Callable[[np.ndarray], Any]
#: Calls whose arrays are what the argument makes of NumPy's, by the names that the table has for them.
CALLS: dict[str, list[Callable[[Make], Any]]] = {
    "`conv1d`, `conv2d`, `conv3d`": [
        lambda make: fastconv.conv1d(make(IMAGES[0]), make(ONES)),
        lambda make: fastconv.conv2d(make(IMAGES), make(WEIGHT), make(np.arange(4, dtype=np.float32)), padding=1),
        lambda make: fastconv.conv2d(make(LAST), make(WEIGHT), data_format="NHWC"),
        lambda make: fastconv.conv2d(make(IMAGES), make(WEIGHT[:3]), padding=1),
        lambda make: fastconv.conv3d(make(IMAGES[None]), make(np.ones((3, 2, 2, 3, 3), np.float32))),
    ],
    "`conv_transpose1d`, `2d`, `3d`": [
        lambda make: fastconv.conv_transpose1d(make(IMAGES[0]), make(np.ones((8, 2, 3), np.float32))),
        lambda make: fastconv.conv_transpose2d(make(IMAGES), make(WEIGHT[:3]), stride=2),
        lambda make: fastconv.conv_transpose3d(make(IMAGES[None]), make(np.ones((2, 1, 2, 3, 3), np.float32))),
    ],
    "a plan": [
        lambda make: fastconv.plan_conv2d(IMAGES.shape, make(WEIGHT))(make(IMAGES)),
        lambda make: fastconv.plan_conv2d(IMAGES.shape, make(WEIGHT), padding=((-1, 0), (0, 1)))(make(IMAGES)),
    ],
    "`corr2d`": [lambda make: fastconv.corr2d(make(IMAGE), make(KERNEL), padding=1)],
    "poolings": [
        lambda make: fastconv.max_pool2d(make(IMAGES), 2, padding=((-1, 0), (0, -1))),
        lambda make: fastconv.max_pool2d(make(IMAGES), 2, return_indices=True)[1],
        lambda make: fastconv.min_pool1d(make(IMAGE), 2),
        lambda make: fastconv.max_pool2d(make(LAST), 2, data_format="NHWC"),
        lambda make: fastconv.avg_pool2d(make(LAST), 2, data_format="NHWC"),
        lambda make: fastconv.avg_pool3d(make(LAST), 2, data_format="NDHWC"),
        lambda make: fastconv.avg_pool3d(make(IMAGES), 3, stride=1, padding=1),
        lambda make: fastconv.lp_pool2d(make(IMAGES), 2.0, 2),
    ],
    "adaptive poolings": [
        lambda make: fastconv.adaptive_avg_pool2d(make(IMAGES), 2),
        lambda make: fastconv.adaptive_avg_pool2d(make(LAST), 2, data_format="NHWC"),
    ],
    "`unfold2d`, `fold2d`, `max_unpool2d`": [
        lambda make: fastconv.unfold2d(make(IMAGES), 3),
        lambda make: fastconv.fold2d(make(COLUMNS), (8, 9), 3),
        lambda make: fastconv.max_unpool2d(make(VALUES), make(PLACES), 2, output_size=(8, 9)),
    ],
    "`grad`": [
        lambda make: grad.conv2d_weight(make(IMAGES), WEIGHT.shape, make(GRADIENT)),
        lambda make: grad.conv2d_input(IMAGES.shape, make(WEIGHT), make(GRADIENT)),
        lambda make: grad.max_pool2d(make(IMAGES), make(VALUES), 2),
        lambda make: grad.max_pool2d(make(LAST), make(VALUES.transpose(0, 2, 3, 1).copy()), 2, data_format="NHWC"),
    ],
    "`signal`": [
        lambda make: signal.correlate2d(make(IMAGE), make(KERNEL), mode="same"),
        lambda make: signal.convolve2d(make(IMAGE), make(KERNEL)),
    ],
    "`ndimage`, `separable_filter`": [
        lambda make: ndi.correlate(make(IMAGE), make(KERNEL)),
        lambda make: ndi.gaussian_filter(make(IMAGE), 1.5, mode="nearest"),
        lambda make: ndi.median_filter(make((IMAGE * 255).astype(np.uint8)), 3),
        lambda make: ndi.binary_erosion(make(IMAGE > 0.3)),
        lambda make: fastconv.separable_filter(make(IMAGE), [[1, 2, 1]], axes=(0,)),
    ],
}


class Tensor:
    """An array that says of itself what a tensor of PyTorch does."""

    def __init__(self, array: np.ndarray, requires_grad: bool = False) -> None:
        self.array, self.requires_grad, self.shape = array, requires_grad, array.shape

    def __dlpack__(self, **told: Any) -> Any:
        return self.array.__dlpack__(**told)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.array, dtype)

    def __getitem__(self, key: Any) -> Tensor:
        return Tensor(self.array[key])


@contextmanager
def pytorch() -> Iterator[None]:
    """A block in which a module with nothing but `Tensor` is PyTorch."""
    there, module = sys.modules.get("torch"), ModuleType("torch")
    module.Tensor, module.from_dlpack = Tensor, lambda made: Tensor(np.from_dlpack(made))  # type: ignore[attr-defined]
    sys.modules["torch"] = module
    try:
        yield
    finally:
        sys.modules.pop("torch") if there is None else sys.modules.update(torch=there)


def labelled(array: np.ndarray) -> Any:
    """A table or a column of pandas."""
    return pd.Series(array) if array.ndim == 1 else pd.DataFrame(array)


#: How each kind of array is made of NumPy's, and how many axes it has at most.
KINDS: dict[str, tuple[Make, int]] = {
    "lists": (np.ndarray.tolist, 99),
    "NumPy": (lambda array: array, 99),
    "masked": (np.ma.masked_array, 99),
    "pandas": (labelled, 2),
    "xarray": (xr.DataArray, 99),
    "Dask": (lambda array: da.from_array(array, chunks=tuple(-(-size // 2) for size in array.shape)), 99),
    "PyTorch": (Tensor, 99),
    "JAX, array API": (array_api_strict.asarray, 99),
}
#: What the table calls results, by the package of their class and whether this is a class for tests.
NAMES = {"numpy": "NumPy", "pandas": "pandas", "xarray": "xarray", "dask": "Dask", "tests": "PyTorch",
         "array_api_strict": "same", "test_libraries": "PyTorch", "__main__": "PyTorch"}  # fmt: skip


class TooManyAxes(Exception):
    """The kind of array has fewer axes."""


def limited(make: Make, most: int) -> Make:
    def made(array: np.ndarray) -> Any:
        if array.ndim > most:
            raise TooManyAxes
        return make(array)

    return made


def outcome(call: Callable[[Make], Any], make: Make) -> str | None:
    """What a call returns, in the table's words, after a look at its numbers; None if there are no such arrays."""
    try:
        with pytorch():
            result = call(make)
    except TooManyAxes:
        return None
    except TypeError:
        return "TypeError"
    expected = call(lambda array: array)
    assert result.shape == expected.shape
    np.testing.assert_allclose(np.asarray(result), expected, rtol=2e-5, atol=2e-5)
    return NAMES[type(result).__module__.partition(".")[0]]


def table() -> str:
    """The table of `docs/howto/arrays.md`."""
    rows = [["", *KINDS], ["---"] * (len(KINDS) + 1)]
    for label, calls in CALLS.items():
        row = [label]
        for make, most in KINDS.values():
            found = {outcome(call, limited(make, most)) for call in calls} - {None}
            row.append(" or ".join(sorted(found, key=lambda name: (name == "NumPy", name))) or "-")  # type: ignore
        rows.append(row)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_table_is_what_functions_do() -> None:
    assert table() in DOCUMENT.read_text(), "python -m tests.test_libraries writes it anew"


def installed() -> list[Any]:
    """The libraries whose arrays come back: pairs (how an array is made, its class)."""
    found = [pytest.param(array_api_strict.asarray, type(array_api_strict.asarray(0)), id="array_api_strict")]
    if importlib.util.find_spec("torch"):
        import torch

        found.append(pytest.param(torch.from_numpy, torch.Tensor, id="torch"))
    if importlib.util.find_spec("jax"):
        import jax

        found.append(pytest.param(jax.numpy.asarray, jax.Array, id="jax"))
    return found


@pytest.mark.parametrize(("make", "kind"), installed())
@pytest.mark.parametrize("label", list(CALLS))
def test_the_library_comes_back(label: str, make: Make, kind: type) -> None:
    for call in CALLS[label]:
        result, expected = call(make), call(lambda array: array)
        assert isinstance(result, kind)
        assert np.array_equal(np.asarray(result), expected)


@pytest.mark.parametrize(("make", "kind"), installed())
def test_libraries_do_not_mix(make: Make, kind: type) -> None:
    for call, name in [
        (lambda x, y: fastconv.conv2d(x(IMAGES), y(WEIGHT)), "weight"),
        (lambda x, y: fastconv.conv2d(x(IMAGES), x(WEIGHT), y(np.ones(4, np.float32))), "bias"),
        (lambda x, y: fastconv.conv2d(x(IMAGES), x(WEIGHT), out=y(np.ones((2, 4, 6, 7), np.float32))), "out"),
        (lambda x, y: fastconv.corr2d(x(IMAGE), y(KERNEL)), "kernel"),
        (lambda x, y: fastconv.max_unpool2d(x(VALUES), y(PLACES), 2), "indices"),
        (lambda x, y: signal.correlate2d(x(IMAGE), y(KERNEL)), "in2"),
        (lambda x, y: ndi.correlate(x(IMAGE), y(KERNEL)), "weights"),
    ]:
        for x, y in [(make, np.array), (np.array, make)]:
            with pytest.raises(TypeError, match=f"{name} (is an array of|must be)"):
                call(x, y)


@pytest.mark.parametrize(("make", "kind"), installed())
def test_memory_is_shared(make: Make, kind: type) -> None:
    """Neither input nor result is copied where the library lets NumPy have its memory."""
    image = make(np.ones((300, 300), np.float32))
    result = ndi.maximum_filter(image, 3)
    assert isinstance(result, kind)
    seen = np.from_dlpack(image)
    assert np.shares_memory(seen, np.from_dlpack(image))


@pytest.mark.parametrize(("make", "kind"), [one for one in installed() if one.id != "jax"])  # those cannot change
def test_out_is_written_to_and_returned(make: Make, kind: type) -> None:
    out = make(np.zeros((2, 4, 6, 7), np.float32))
    assert fastconv.conv2d(make(IMAGES), make(WEIGHT), out=out) is out
    assert np.array_equal(np.from_dlpack(out), fastconv.conv2d(IMAGES, WEIGHT))
    blurred = make(np.zeros(IMAGE.shape, np.float32))
    assert ndi.uniform_filter(make(IMAGE), 3, output=blurred) is blurred
    assert np.array_equal(np.from_dlpack(blurred), ndi.uniform_filter(IMAGE, 3))


def test_a_gradient_is_not_lost_silently() -> None:
    with pytorch():
        for arrays in [(Tensor(IMAGES, True), Tensor(WEIGHT)), (Tensor(IMAGES), Tensor(WEIGHT, True))]:
            with pytest.raises(TypeError, match=r"(x|weight) requires a gradient.*detach"):
                fastconv.conv2d(*arrays)
        with pytest.raises(TypeError, match=r"input requires a gradient.*detach"):
            ndi.sobel(Tensor(IMAGE, True))


if __name__ == "__main__":
    lines = DOCUMENT.read_text().splitlines(keepends=True)
    inside = [number for number, line in enumerate(lines) if line.startswith("|")]
    lines[inside[0] : inside[-1] + 1] = [table()]
    DOCUMENT.write_text("".join(lines))
