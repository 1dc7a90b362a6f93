"""Every argument of every public function, wrong in many ways: an error that names the argument and the value."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import grad, ndimage, signal
from fastconv.cpu import filters, orders, planner
from fastconv.tools import compare
from fastconv.warming import works

ONES = {axes: np.ones((2, 2, *(5,) * axes), np.float32) for axes in (1, 2, 3)}
KERNELS = {axes: np.ones((2, 2, *(2,) * axes), np.float32) for axes in (1, 2, 3)}
IMAGE, KERNEL, X, WEIGHT = ONES[2][0, 0], KERNELS[2][0, 0], ONES[2], KERNELS[2]
#: The arguments that a good call of each public function needs.
GOOD: dict[str, tuple[Any, ...]] = {
    **{f"{start}{op}{axes}d": (ONES[axes].shape if start else ONES[axes], KERNELS[axes])
       for start in ("", "plan_") for op in ("conv", "conv_transpose") for axes in (1, 2, 3)},
    **{f"{op}_pool{axes}d": (ONES[axes], 2) for op in ("max", "min", "avg") for axes in (1, 2, 3)},
    **{f"lp_pool{axes}d": (ONES[axes], 2, 2) for axes in (1, 2, 3)},
    "adaptive_avg_pool2d": (X, 3), "adaptive_max_pool2d": (X, 3), "max_unpool2d": (X, np.zeros(X.shape, int), 2),
    "corr2d": (IMAGE, KERNEL), "corr2d_matrix": (KERNEL, (5, 5)), "unfold2d": (X, 2),
    "separable_filter": (IMAGE, [1.0, 2.0]),
    "fold2d": (np.ones((4, 16)), 5, 2),
    "algorithms": (), "get_num_threads": (), "set_num_threads": (None,), "num_threads": (1,),
    "output_shape": (X.shape, 2), "receptive_field": ([2, 2],), "warmup": ("unfold2d",), "compare": (X, WEIGHT),
    "explain": (IMAGE, KERNEL), "explain_stack": ([2, 2], (5, 5)),
    "signal.convolve2d": (IMAGE, KERNEL), "signal.correlate2d": (IMAGE, KERNEL),
    "grad.conv2d_input": (X.shape, WEIGHT, X[..., :4, :4]), "grad.conv2d_weight": (X, WEIGHT.shape, X[..., :4, :4]),
    "grad.max_pool2d": (X, X[..., :2, :2], 2), "grad.min_pool2d": (X, X[..., :2, :2], 2),
    "grad.avg_pool2d": (X, X[..., :2, :2], 2),
    **{f"ndimage.{name}": (IMAGE,) for name in ndimage.__all__},
    **{f"ndimage.{name}": (IMAGE, KERNEL) for name in ("correlate", "convolve")},
    **{f"ndimage.{name}1d": (IMAGE, [1.0, 2.0]) for name in ("correlate", "convolve")},
    **{f"ndimage.{name}": (IMAGE, 2) for name in ndimage.__all__
       if re.match("gauss|max|min|uniform|median|grey|morph|black|white|var|std", name)},
    **{f"ndimage.{name}_filter": (IMAGE, 1, 2) for name in ("rank", "percentile")},
    **{f"ndimage.generic_{name}": (IMAGE, ndimage.sobel) for name in ("laplace", "gradient_magnitude")},
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"{prefix}{name}": getattr(module, name)
    for prefix, module in (("", fastconv), ("signal.", signal), ("grad.", grad), ("ndimage.", ndimage))
    for name in module.__all__
    if not inspect.ismodule(getattr(module, name))
}
ARGUMENTS = [(function, name) for function, called in FUNCTIONS.items()
             for name, one in inspect.signature(called).parameters.items() if one.kind is not one.VAR_KEYWORD]

CIRCLE: list = []
CIRCLE.append(CIRCLE)
DEEP: list = []
for _ in range(5000):
    DEEP = [DEEP]
#: What no argument takes.
NOTHING = [object(), lambda: 1, slice(1, 2), 10**5000, CIRCLE, DEEP, np.array(["a", "b"]), np.array([None, object()]),
           np.array(["2026-11-29"], "datetime64[D]"), np.zeros(2, [("a", float), ("b", int)])]
#: What some take.
SOME = [None, "text", b"bytes", [], (), {}, set(), {1, 2}, 0, -1, 1, 1.5, 1j, float("nan"), float("inf"), True,
        np.False_, 2**31, 2**70, 10**6, (1,) * 100_000, [[1, 2], [3]], [1.5, 2], (1, -1), ((1, 2), (3, 4)),
        (None, None), "same", Decimal(1), np.float16(2), np.array(1), np.array(b"x"), np.ones((2, 3), complex),
        np.ones((1,) * 7), np.ones((0, 3)), np.ones((3, 0, 5, 5)), np.ones(3), X.astype(np.longdouble), X[:, :1],
        range(3), {"kernel_size": 2}, Exception("no"), np.float32]
#: Arguments that are handed on to a caller's own function, and values of which it says itself what it thinks.
HANDED_ON: dict[str, Callable[[Any], bool]] = {
    "derivative": callable, "derivative2": callable, "extra_keywords": lambda value: isinstance(value, dict),
    "extra_arguments": lambda value: isinstance(value, (tuple, list)),
}  # fmt: skip


def shows(message: str, value: Any) -> bool:
    """Whether a message has a value, or the beginning of a long one; or the one that is wrong of several; or, of
    numbers that would make an array, its shape or dtype."""
    texts: list[str] = []
    with contextlib.suppress(ValueError, RecursionError):  # it is too large, too deep, or no array
        texts += [repr(value), str(value)]
        if isinstance(value, (tuple, list, range, set, dict, bytes)) or np.ndim(value) == 1:
            texts += [*map(repr, [*value][:3]), str((*value,))]
        if (array := np.asarray(value)).dtype.kind in "biufc" or isinstance(value, np.ndarray):
            texts += [str(array.shape), *([str(array.dtype)] if array.ndim else [])]
    return any(text[:60] in message for text in texts or [type(value).__name__])


class Accepted(Exception):
    """All checks of arguments were passed."""


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is accepted is tested elsewhere."""
    def accept(*args: Any) -> Any:
        raise Accepted

    for op in planner.operations():
        for algorithm in planner.table(op):
            for verb in ("prepare", "prepare_if_suited"):
                if hasattr(algorithm, verb):
                    monkeypatch.setattr(algorithm, verb, lambda *args: None)
            monkeypatch.setattr(algorithm, "run", accept)
    monkeypatch.setattr(compare, "_reference", accept)
    monkeypatch.setattr(works, "stages", accept)
    monkeypatch.setattr(filters.Sweep, "run", accept)
    for verb in ("boxes", "extremum", "ranked", "median_of_present"):
        monkeypatch.setattr(orders, verb, accept)
    yield
    fastconv.set_num_threads(None)


def call(function: str, **changed: Any) -> None:
    called = FUNCTIONS[function]
    given = dict(zip(inspect.signature(called).parameters, GOOD[function], strict=False)) | changed
    called(**given)


def test_every_public_function_has_a_good_call() -> None:
    assert set(GOOD) == set(FUNCTIONS)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_good_call_is_good(function: str) -> None:
    with contextlib.suppress(Accepted):
        call(function)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")  # SciPy's, of a complex `fillvalue`
@pytest.mark.filterwarnings("ignore:ignoring size because footprint is set")
@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract")  # of an image that is infinite
@pytest.mark.parametrize(("function", "argument"), ARGUMENTS)
def test_an_error_names_the_argument_and_the_value(function: str, argument: str) -> None:
    default = inspect.signature(FUNCTIONS[function]).parameters[argument].default
    for number, value in enumerate([*NOTHING, *SOME]):
        if value is default or (argument in HANDED_ON and HANDED_ON[argument](value)):
            continue
        try:
            call(function, **{argument: value})
        except Accepted:
            pass
        except (ValueError, TypeError, MemoryError) as error:
            message = str(error)
            assert re.search(rf"\b{argument}\b", message)
            assert shows(message, value)
            assert len(message) < 1000
            continue
        assert number >= len(NOTHING), "it was taken"


@pytest.mark.parametrize(
    ("function", "changed", "words", "missing"),
    [
        ("conv2d", {"x": None}, "x has dtype object; .*, got None", "weight"),
        ("corr2d", {"x": np.ones((5, 5), int), "kernel": np.ones((2, 2), int), "bias": 2**70},
         f"bias has dtype object; .*, got {2**70}", "kernel"),
        ("conv2d", {"dilation": 7}, r"covers 8x8 pixels \(weight of shape \(2, 2, 2, 2\), dilation 7\), .* x ", "padd"),
        ("conv2d", {"dilation": 7, "padding": 1}, r"dilation 7\), .* 7x7 of x \(\(2, 2, 5, 5\), padding 1\)", "stride"),
        ("max_pool2d", {"dilation": 7}, r"covers 8 pixels of the vertical axis \(kernel_size 2, dilation 7\)", "padd"),
        ("grad.max_pool2d", {"stride": 1}, "grad_output has .*kernel_size 2, stride 1", "weight"),
        ("conv2d", {"padding": 10**6}, r"\(of 2x2x5x5 float32, weight 2x2x2x2, padding 1000000\)", "stride"),
    ],
)
def test_several_arguments_that_do_not_fit_together(function: str, changed: dict, words: str, missing: str) -> None:
    """Those that were given are named, and no others."""
    with pytest.raises((ValueError, TypeError, MemoryError), match=words) as caught:
        call(function, **changed)
    assert missing not in str(caught.value)
