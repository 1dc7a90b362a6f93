"""Every way to do one convolution, side by side: checked against float64, timed in turns, set against the machine.

Checked first, because a fast wrong answer is worth nothing. Timed in turns (all variants once, then all again), so
that a machine that slows down in between slows all of them down.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..functional.conv import conv2d
from ..functional.device import cpu
from ..functional.plans import plan_conv2d
from ..functional.settings import algorithms, get_num_threads
from ..planner.choose import name
from ..planner.measure import medians
from ..planner.remember import learn
from ..specs.arguments import flag, integer
from ..specs.arrays import allocate, array
from ..specs.conv import ConvSpec
from .comparison import Comparison, Row

#: Seconds of timing a variant gets; one call at least, however slow it is.
SECONDS_EACH = 0.5


def compare(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    threads: int | None = None,
    repeats: int = 21,
    peers: Mapping[str, Callable[[], Any]] | None = None,
    remember: bool = False,
) -> Comparison:
    """Check and time every variant of one `conv2d` on this machine.

    Parameters
    ----------
    x, weight, bias, stride, padding, dilation, groups, activation
        As in `conv2d`. The data must be finite.
    threads : int, optional
        How many threads the kernels and BLAS may use; `get_num_threads` by default.
    repeats : int
        Timed calls of each variant; fewer of those that are slow.
    peers : mapping of str to function, optional
        Other ways to the same result, to be checked and timed as well: functions of no arguments by name.
    remember : bool
        Whether ``algorithm="auto"`` is to take the fastest from now on, as after ``plan_conv2d(..., measure=True)``.

    Returns
    -------
    Comparison
        Its ``rows``, ``str()``, ``to_dict()`` and ``plot()`` tell the result.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`; and if there is nothing to compute or the result is not finite.

    Notes
    -----
    Every variant is first compared with the definition in float64 (integers: exactly), which also compiles it. A
    variant that loses more than half of the digits is not timed. The times are of a prepared plan with ``out`` given.

    Source: Williams, Waterman and Patterson, Roofline: an insightful visual performance model for multicore
    architectures, 2009.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> result = fastconv.compare(np.ones((1, 3, 8, 8)), np.ones((4, 3, 3, 3)), threads=1, repeats=3)
    >>> [row.reason for row in result.rows if row.algorithm == "pointwise"]
    ['the kernel is 3x3, not 1x1']
    >>> max(row.max_error for row in result.rows if row.reason is None) < 1e-12
    True
    """
    x, weight = array("x", x), array("weight", weight)
    bias = None if bias is None else array("bias", bias)
    layer = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "activation": activation}
    repeats, remember, peers = integer("repeats", repeats, 1), flag("remember", remember), dict(peers or {})
    if taken := set(peers) & set(algorithms()):
        raise ValueError(f"peers need names of their own, got {', '.join(sorted(taken))}")
    with limited_threads(threads) as (used, blas_limited):
        plan = partial(plan_conv2d, x.shape, weight, bias, dtype=x.dtype, **layer)
        auto = plan()
        problem = auto.spec
        reference = _reference(problem, x, weight, bias, layer)
        reasons = {name(module): module.supports(problem) for module in cpu().planner.table("conv2d")}
        plans = {label: plan(algorithm=label) for label, reason in reasons.items() if reason is None}
        out = allocate(problem.output_shape, problem.out_dtype)
        runs = {label: partial(variant, x, out=out) for label, variant in plans.items()} | peers
        errors = {label: _error(label, run(), reference) for label, run in runs.items()}
        right = {label: run for label, run in runs.items() if errors[label] <= _tolerance(problem)}
        seconds = medians(right, repeats, SECONDS_EACH)
        peak, bandwidth = _ceilings(problem.acc_dtype, used)
        if remember:
            may = cpu().planner.candidates(problem)
            learn(problem, used, {label: time for label, time in seconds.items() if label in may})

    rows = [Row(label, reason=reason) for label, reason in reasons.items() if reason is not None]
    for label in runs:
        measured: dict[str, Any] = {"reason": f"wrong by {errors[label]:.1e} of the largest value"}
        if label in seconds:
            measured = _rates(problem.flops, seconds[label], peak)
        if label in plans:
            measured |= {"scratch_bytes": plans[label].scratch_bytes, "is_auto": label == auto.algorithm}
        rows.append(Row(label, max_error=errors[label], **measured))
    rows.sort(key=lambda row: row.median_ms or math.inf)
    memory = problem.flops * bandwidth / (x.nbytes + weight.nbytes + out.nbytes)
    return Comparison(
        problem=str(problem),
        rows=tuple(rows),
        threads=used,
        blas_limited=blas_limited,
        flops=problem.flops,
        peak_gflops=None if peak is None else peak / 1e9,
        memory_gflops=memory / 1e9,
    )


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[tuple[int, bool]]:
    """Kernels and, if threadpoolctl is there, BLAS on `threads` threads; yields the number and whether BLAS is too."""
    import numba

    from ..cpu.system.threads import threading_layer

    threading_layer()  # it must choose the layer, not Numba at the next line
    before = numba.get_num_threads()
    try:
        if threads is not None:
            numba.set_num_threads(integer("threads", threads, 1))
        used = get_num_threads()  # fewer than asked for if `set_num_threads` says so
        with _blas_team(used) as limited:
            yield used, limited
    finally:
        numba.set_num_threads(before)


@contextlib.contextmanager
def _blas_team(threads: int) -> Iterator[bool]:
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        yield False
        return
    blas = ThreadpoolController().select(user_api="blas")
    with blas.limit(limits=threads):
        yield bool(blas.info())


def _reference(problem: ConvSpec, x: Any, weight: Any, bias: Any, layer: dict[str, Any]) -> np.ndarray:
    """The definition in float64; of integers in int64, wrapped to the result's width as theirs is."""
    exact = np.dtype(np.float64) if problem.dtype.kind == "f" else np.dtype(np.int64)
    operands = [None if operand is None else operand.astype(exact) for operand in (x, weight, bias)]
    result = conv2d(*operands, **layer, algorithm="naive")
    if not result.size:
        raise ValueError(f"there is nothing to compute: the result has shape {result.shape}")
    if exact.kind == "i":
        return result.astype(problem.out_dtype).astype(exact)
    if not np.abs(result).max() <= np.finfo(problem.out_dtype).max:
        raise ValueError(f"the result must be finite in {problem.out_dtype} to be compared")
    return result


def _error(label: str, result: Any, reference: np.ndarray) -> float:
    """The largest difference from the reference, as a fraction of its largest value."""
    result = np.asarray(result)
    if result.shape != reference.shape:
        raise ValueError(f"{label} gives shape {result.shape}, but the result has shape {reference.shape}")
    difference = np.abs(result.astype(reference.dtype) - reference).max()
    return float(difference / (np.abs(reference).max() or 1))


def _tolerance(problem: ConvSpec) -> float:
    """Half of the digits; integers must be exact."""
    return float(np.finfo(problem.out_dtype).eps) ** 0.5 if problem.dtype.kind == "f" else 0.0


def _ceilings(dtype: np.dtype, threads: int) -> tuple[float | None, float]:
    """Operations a second (None for integers) and bytes a second of this machine."""
    from ..cpu import machine

    ceiling = machine.fma_ceiling(dtype, threads) if dtype.kind == "f" else None
    return ceiling, machine.copy_bandwidth(threads)


def _rates(flops: int, seconds: float, peak: float | None) -> dict[str, Any]:
    rate = flops / seconds
    percent = None if peak is None else 100 * rate / peak
    return {"median_ms": 1e3 * seconds, "gflops": rate / 1e9, "percent_of_peak": percent}

