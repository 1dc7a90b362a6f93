"""Comparison of every algorithm of one call: checked against float64, timed in turns, set against the machine's limits.

Results are checked first, because a fast wrong answer is worth nothing. Timing goes in turns (all variants once, then
all again), so that a machine that slows down in between slows all of them down.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import grad
from ..base.devices import check_device
from ..base.values import shown
from ..functional import adaptive_pool, avg_pool, conv, conv_transpose, lp_pool, max_pool, min_pool, unfold
from ..functional.device import Recorder, backend
from ..planner.choose import computed, name, operation
from ..planner.contract import trait
from ..planner.measure import medians, random_array
from ..planner.remember import learn
from ..specs.arguments import flag, integer
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from ..specs.dtypes import storage
from ..specs.pool import PoolSpec
from ..typing import Device, Operation
from .compare_filters import compare_filter
from .comparison import Comparison, Row
from .errors import error, half_of_the_digits
from .limits import limited_threads

#: Seconds that each variant is timed for; it has at least one call, however slow it is.
SECONDS_EACH = 0.5

_WITHOUT_TABLE = {"corr2d", "corr2d_matrix"}
#: The function of each operation that has a table.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    label: getattr(module, label)
    for module in (conv, conv_transpose, max_pool, min_pool, avg_pool, lp_pool, adaptive_pool, unfold)
    for label in module.__all__
    if label not in _WITHOUT_TABLE
} | {
    "conv2d_input": grad.conv2d_input,
    "conv2d_weight": grad.conv2d_weight,
    "max_pool2d_input": grad.max_pool2d,
    "min_pool2d_input": grad.min_pool2d,
    "avg_pool2d_input": grad.avg_pool2d,
}


def compare(
    x: ArrayLike,
    weight: Any = None,
    bias: ArrayLike | None = None,
    *,
    op: Operation | str = "conv2d",
    threads: int | None = None,
    repeats: int = 21,
    peers: Mapping[str, Callable[[], Any]] | None = None,
    remember: bool = False,
    device: Device = "cpu",
    **options: Any,
) -> Comparison:
    """Check and time every algorithm of one call on this machine.

    Parameters
    ----------
    x, weight, bias
        The first arguments of the operation's function: for `conv2d` input, kernels and bias, for a pooling its input,
        for "conv2d_weight" input, weight_size and grad_output. Arrays are NumPy's, and finite.
    op : str
        The operation: "conv2d", "conv_transpose2d", "max_pool2d", "min_pool2d", "avg_pool2d" or "lp_pool2d", or one of
        these with 1d or 3d instead; a gradient, "conv2d_weight", "conv2d_input", "max_pool2d_input",
        "min_pool2d_input" or "avg_pool2d_input"; or "adaptive_max_pool2d", "adaptive_avg_pool2d", "max_unpool2d",
        "unfold2d" or "fold2d", which have one algorithm; or a filter of images, like "ndimage.gaussian_filter", which
        is set beside SciPy's and, where these are installed, OpenCV's and scikit-image's.
    threads : int, optional
        Number of threads that the kernels and BLAS may use; `get_num_threads` by default.
    repeats : int
        Timed calls of each variant; slow variants have fewer.
    peers : mapping of str to function, optional
        Other ways to compute the result, checked and timed as well: functions without arguments, by name.
    remember : bool
        Whether ``algorithm="auto"`` shall take the fastest from now on, as after ``plan_conv2d(..., measure=True)``;
        only for convolutions, also transposed ones, on the CPU.
    device : {"cpu", "cuda"}
        The device to compute on. With "cuda" arrays are copied there and back, and this is timed, too.
    **options
        Options of the operation's function, like ``stride=2`` or ``kernel_size=3``.

    Returns
    -------
    Comparison
        The result: see its ``rows``, ``str()``, ``to_dict()`` and ``plot()``.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As the operation's function; also if there is nothing to compute, or the result is not finite.

    Notes
    -----
    Every variant is first compared with the definition in float64 (integers: exactly), which also compiles it. A
    variant that loses more than half of the digits is not timed. What is timed are calls with ``out`` given, for
    convolutions calls of a plan.

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
    >>> result = fastconv.compare(np.ones((1, 3, 8, 8)), op="max_pool2d", kernel_size=2, threads=1, repeats=3)
    >>> result.problem
    'max_pool2d: 1x3x8x8 float64, window 2x2, stride 2'
    """
    repeats, remember, peers = integer("repeats", repeats, 1), flag("remember", remember), _functions(peers)
    if isinstance(op, str) and op.startswith("ndimage."):
        if remember or device != "cpu" or bias is not None:
            raise ValueError(f"op={op!r} is compared on the CPU, without bias and remember=True")
        return compare_filter(op, x, weight, threads, repeats, peers, options)
    call = _call(op, (x, weight, bias), options, device)
    calls, spec = backend(device, None), call.spec
    if remember and (device != "cpu" or not call.is_planned):
        raise ValueError(f"remember=True is for convolutions on the CPU, got op={op!r}, device={device!r}")
    algorithms, table = calls.planner.algorithms(call.table), calls.planner.table(call.table)
    if taken := set(peers) & set(algorithms):
        raise ValueError(f"peers need names of their own, got {', '.join(sorted(taken))}")
    with limited_threads(threads) as (used, blas_limited):
        reference = _reference(call)
        auto, out = call.prepared("auto")
        reasons = {label: _reason(table, label, spec) for label in algorithms}
        prepared = {label: call.prepared(label)[0] for label, reason in reasons.items() if reason is None}
        runs = {label: partial(one.run, out=out) for label, one in prepared.items()} | peers
        errors = {label: error(label, run(), reference) for label, run in runs.items()}
        right = {label: run for label, run in runs.items() if errors[label] <= _tolerance(out.dtype)}
        seconds = medians(right, repeats, SECONDS_EACH)
        peak, bandwidth = _ceilings(storage(out.dtype), used) if device == "cpu" else (None, _gpu_bandwidth())
        if remember:
            may = calls.planner.candidates(spec)
            learn(spec, used, {label: time for label, time in seconds.items() if label in may})

    flops = call.flops
    rows = [Row(label, reason=reason) for label, reason in reasons.items() if reason is not None]
    for label in runs:
        measured: dict[str, Any] = {"reason": f"wrong by {errors[label]:.1e} of the largest value"}
        if label in seconds:
            measured = _rates(flops, seconds[label], peak)
        if label in prepared:
            one = prepared[label]
            measured |= {"scratch_bytes": one.scratch_bytes, "error_bound": one.error_bound}
            measured["is_auto"] = label == auto.algorithm
        rows.append(Row(label, max_error=errors[label], **measured))
    rows.sort(key=lambda row: row.median_ms or math.inf)
    moved = out.nbytes + sum(given.nbytes for given in call.operands if isinstance(given, np.ndarray))
    return Comparison(
        problem=str(spec) if op == "conv2d" else f"{op}: {spec}",
        rows=tuple(rows),
        threads=used,
        blas_limited=blas_limited,
        flops=flops,
        peak_gflops=None if peak is None else peak / 1e9,
        memory_gflops=flops * bandwidth / moved / 1e9,
    )


# -- one call ------------------------------------------------------------------------------------------------


class _Prepared(NamedTuple):
    """A variant that is ready to be timed."""

    algorithm: str
    scratch_bytes: int
    error_bound: str
    run: Callable[..., Any]


class _Call(NamedTuple):
    """A call that is compared."""

    op: str
    operands: tuple[Any, ...]
    options: dict[str, Any]
    device: str
    spec: Any
    seen: tuple[Any, ...]
    """The operands as the device's function gets them."""

    @property
    def table(self) -> str:
        """The operation whose table has the algorithms: an adaptive pooling with equal windows is an ordinary one, and
        one of channels that are last is one of volumes."""
        return operation(self.spec) if isinstance(self.spec, PoolSpec) and "_input" not in self.op else self.op

    @property
    def is_planned(self) -> bool:
        """Whether the call has plans."""
        return isinstance(self.spec, ConvSpec | TransposeSpec) and self.op == operation(self.spec)

    @property
    def flops(self) -> int:
        """Multiplications and additions, or comparisons, of the definition; none where elements are only moved."""
        if self.op in ("unfold2d", "max_unpool2d"):
            return 0
        return self.spec.flops // (2 if self.op == "fold2d" else 1)

    def result(self, algorithm: str | None = None, *, exact: bool = False, out: Any = None) -> np.ndarray:
        """The result of the operation's function; with `exact`, on the CPU with operands in float64 or int64."""
        function, options = FUNCTIONS[self.op], self.options | {"out": out, "device": "cpu" if exact else self.device}
        if "algorithm" in inspect.signature(function).parameters:
            options["algorithm"] = algorithm or "auto"
        if exact:
            options.pop("precision", None)
        result = function(*(_exact(given) if exact else given for given in self.operands), **options)
        return result[0] if isinstance(result, tuple) else result

    def prepared(self, algorithm: str) -> tuple[_Prepared, np.ndarray]:
        """A variant that is ready to be timed, and an array for its result."""
        calls, spec = backend(self.device, None), self.spec
        chosen = calls.planner.choose(spec, algorithm, op=self.table, for_one_call=not self.is_planned).algorithm
        bound = trait(chosen, "error_bound")
        if self.is_planned:
            x, weight, bias, *_ = self.seen
            plan = calls.plan(spec, weight, bias, algorithm, False)
            out = np.empty(spec.output_shape, spec.out_dtype)
            return _Prepared(plan.algorithm, plan.scratch_bytes, bound, partial(plan, x)), out
        out = np.empty_like(self.result())
        return _Prepared(name(chosen), chosen.scratch(computed(spec)), bound, partial(self.result, algorithm)), out


def _call(op: str, operands: tuple[Any, ...], options: dict[str, Any], device: str) -> _Call:
    """Check a call and find its spec; ValueError or TypeError if an argument does not fit."""
    if not isinstance(op, str) or op not in FUNCTIONS:
        raise ValueError(f"op must be one of {', '.join(map(repr, FUNCTIONS))}, got {shown(op)}")
    check_device(device)
    for label in ("algorithm", "out"):
        if label in options:
            raise TypeError(f"{label} is what compare tries itself")
    given = [one for number, one in enumerate(operands) if one is not None or number == 0]
    _, spec, seen = FUNCTIONS[op](*given, **options, device=Recorder())
    arrays = tuple(one if one is None or _is_shape(one) else np.asarray(one) for one in given)
    return _Call(op, arrays, options, device, spec, seen)


def _functions(peers: Any) -> dict[str, Callable[[], Any]]:
    """TypeError unless they are functions by name."""
    if peers is not None and not (isinstance(peers, Mapping) and all(map(callable, peers.values()))):
        raise TypeError(f"peers must be functions by name, got {shown(peers)}")
    return dict(peers or {})


def random_operands(
    op: str, x_shape: tuple[int, ...], weight_shape: tuple[int, ...] | None, dtype: np.dtype, options: dict[str, Any]
) -> tuple[Any, ...]:
    """Random operands for `compare`; ValueError or TypeError, before any is made, if the arguments do not fit.

    `x_shape` is the shape of the input. A gradient's is that of its layer, an unpooling's that of the pooling.
    """
    if op not in FUNCTIONS:
        raise ValueError(f"op must be one of {', '.join(FUNCTIONS)}, got {op!r}")
    x = np.broadcast_to(np.zeros((), dtype), x_shape)
    if op.startswith("conv"):
        if weight_shape is None:
            raise ValueError(f"{op} needs a weight")
        function = "conv2d" if op.startswith("conv2d") else op
        spec = _call(function, (x, np.broadcast_to(x.dtype.type(0), weight_shape), None), options, "cpu").spec
    elif weight_shape is not None:
        raise ValueError(f"{op} has no weight")
    else:
        pooling = "max_pool2d" if op == "max_unpool2d" else op.removesuffix("_input")
        spec = _call(pooling, (x, None, None), options, "cpu").spec
    x = random_array(x_shape, dtype)
    if op == "max_unpool2d":
        return max_pool.max_pool2d(x, **options, return_indices=True)
    if op in ("conv2d_weight", "conv2d_input") or op.endswith("_input"):
        signals = random_array(spec.output_shape, dtype, seed=2)
        if op == "conv2d_weight":
            return x, weight_shape, signals
        return (x_shape, random_array(weight_shape, dtype, seed=1), signals) if weight_shape else (x, signals)
    return (x,) if weight_shape is None else (x, random_array(weight_shape, dtype, seed=1))


def _is_shape(given: Any) -> bool:
    return isinstance(given, tuple | list) and all(isinstance(size, int) for size in given)


def _exact(given: Any) -> Any:
    """An array in float64 or int64, in which results are exact, or nearly so."""
    if not isinstance(given, np.ndarray):
        return given
    return given.astype(np.float64 if given.dtype.kind == "f" else np.int64)


def _reason(table: tuple[Any, ...], label: str, spec: Any) -> str | None:
    """The reason why no algorithm of this name supports `spec`; None if one does."""
    reasons = [algorithm.supports(computed(spec)) for algorithm in table if name(algorithm) == label]
    return None if None in reasons else reasons[-1]


# -- measuring -----------------------------------------------------------------------------------------------


def _reference(call: _Call) -> np.ndarray:
    """The definition's result in float64; for integers in int64, wrapped to the width of the result's dtype."""
    dtype = call.result().dtype
    result = call.result("naive", exact=True)
    if not result.size:
        raise ValueError(f"there is nothing to compute: the result has shape {result.shape}")
    if result.dtype.kind != "f":
        return result.astype(dtype).astype(np.int64)
    if not np.abs(result).max() <= np.finfo(dtype).max:
        raise ValueError(f"the result must be finite in {dtype} to be compared")
    return result


def _tolerance(dtype: np.dtype) -> float:
    """The largest error that passes: half of the digits; none for integers."""
    return half_of_the_digits(dtype) if dtype.kind == "f" else 0.0


def _ceilings(dtype: np.dtype, threads: int) -> tuple[float | None, float]:
    """This machine's limits: operations a second (None for integers), and bytes copied a second."""
    from ..cpu import machine

    ceiling = machine.fma_ceiling(dtype, threads) if dtype.kind == "f" else None
    return ceiling, machine.copy_bandwidth(threads)


def _gpu_bandwidth() -> float:
    from ..cuda.machine import this_machine

    return this_machine().bandwidth


def _rates(flops: int, seconds: float, peak: float | None) -> dict[str, Any]:
    rate = flops / seconds
    percent = None if peak is None or not flops else 100 * rate / peak
    return {"median_ms": 1e3 * seconds, "gflops": rate / 1e9 if flops else None, "percent_of_peak": percent}
