"""Comparison of a filter of images with other libraries' and, where it has several, of its algorithms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from .. import ndimage
from ..base.values import shown
from ..ndimage.order import ALGORITHMS
from ..planner.measure import medians
from .comparison import Comparison, Row
from .errors import error, half_of_the_digits, largest
from .filter_peers import PEERS, named
from .limits import limited_threads, opencv_team

#: The name of the filter itself among those that it is compared with.
OURS = "fastconv"
#: Integers may differ by so many units: OpenCV rounds once, SciPy cuts a fraction off after each axis.
UNITS = 3
#: Seconds that each variant is timed for.
SECONDS_EACH = 0.5


def compare_filter(
    op: str, image: Any, operand: Any, threads: int | None, repeats: int, peers: Mapping[str, Callable[[], Any]],
    options: dict[str, Any],
) -> Comparison:  # fmt: skip
    """Check and time ``fastconv.ndimage``'s function `op` beside SciPy's, OpenCV's, scikit-image's, and `peers`.

    `operand` is the second argument, as the weights of a correlation, or None.
    """
    name = op.removeprefix("ndimage.")
    if name not in ndimage.__all__:
        raise ValueError(f"op must be 'ndimage.' and one of {', '.join(ndimage.__all__)}, got {shown(op)}")
    function, x = getattr(ndimage, name), np.asarray(image)
    arguments = named(function, x, *(() if operand is None else (operand,)), **options)
    runs: dict[str, Callable[[], Any]] = {}
    runs[OURS] = partial(function, x, **arguments)
    for label in ALGORITHMS[1:] if "algorithm" in arguments else ():
        runs[label] = partial(function, x, **arguments | {"algorithm": label})
    if x.dtype == np.float32 and "precision" in arguments:
        runs[f"{OURS}, double"] = partial(function, x, **arguments | {"precision": "double"})
    reasons = {}
    with limited_threads(threads) as (used, blas_limited):
        for label, made in PEERS.items():
            try:
                call = made(name, x, arguments)
            except ModuleNotFoundError as error:
                reasons[label] = f"{error.name} is not installed"
                continue
            if call is None:
                reasons[label] = "it has no such filter of such an image"
            else:
                runs[label] = call
        if taken := runs.keys() & peers.keys():
            raise ValueError(f"peers need names of their own, got {', '.join(sorted(taken))}")
        with opencv_team(used):
            return _measured(op, x, arguments, function, runs | dict(peers), reasons, repeats, used, blas_limited)


def _measured(
    op: str, x: np.ndarray, arguments: dict[str, Any], function: Callable[..., Any], runs: dict[str, Callable[[], Any]],
    reasons: dict[str, str], repeats: int, threads: int, blas_limited: bool,
) -> Comparison:  # fmt: skip
    reference = _reference(x, arguments, function)
    if not reference.size:
        raise ValueError(f"there is nothing to compute: the result has shape {reference.shape}")
    errors, right = {}, {}
    for label, run in runs.items():
        try:
            result = run()
        except ValueError as refused:
            reasons[label] = str(refused)
            continue
        errors[label] = error(label, result, reference)
        if errors[label] <= _tolerance(x.dtype, reference):
            right[label] = run
        else:
            reasons[label] = f"wrong by {errors[label]:.1e} of the largest value"
    seconds = medians(right, repeats, SECONDS_EACH)
    rows = [Row(label, reason=reason, max_error=errors.get(label)) for label, reason in reasons.items()]
    for label, took in seconds.items():
        rows.append(Row(label, median_ms=1e3 * took, max_error=errors[label], is_auto=label == OURS))
    rows.sort(key=lambda row: row.median_ms or math.inf)
    told = {label: value for label, value in arguments.items() if np.ndim(value) == 0 and value is not None}
    words = ", ".join(f"{label} {value}" for label, value in told.items() if label in ("size", "sigma", "mode"))
    return Comparison(
        problem=f"{op}: {'x'.join(map(str, x.shape))} {x.dtype}" + (f", {words}" if words else ""),
        rows=tuple(rows), threads=threads, blas_limited=blas_limited, flops=0, peak_gflops=None, memory_gflops=0.0,
    )  # fmt: skip


def _reference(x: np.ndarray, arguments: dict[str, Any], function: Callable[..., Any]) -> np.ndarray:
    """SciPy's result, of floats in float64; ours where it has no such filter."""
    if x.dtype.kind == "f":
        x, arguments = x.astype(np.float64), {**arguments, "output": None}
    call = PEERS["scipy"](function.__name__, x, arguments) or partial(function, x, **arguments)
    result = np.asarray(call())
    return result.astype(np.float64 if result.dtype.kind == "f" else np.int64)


def _tolerance(dtype: np.dtype, reference: np.ndarray) -> float:
    """The largest error that passes: half of the digits, or `UNITS` of integers."""
    return half_of_the_digits(dtype) if dtype.kind == "f" else UNITS / (largest(reference) or 1)
