"""Every way to do one convolution, side by side: checked against float64, timed in turns, set against the machine.

Checked first, because a fast wrong answer is worth nothing. Timed in turns (all variants once, then all again), so
that a machine that slows down in between slows all of them down.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from .. import wisdom
from ..functional.conv import algorithms, conv2d, plan_conv2d
from ..planner.choose import candidates, get_num_threads, name, table
from ..planner.measure import medians
from ..specs.arguments import allocate, array, flag, integer
from ..specs.conv import ConvSpec

#: Seconds of timing a variant gets; one call at least, however slow it is.
SECONDS_EACH = 0.5

HEADERS = ("algorithm", "ms", "GFLOP/s", "% of peak", "scratch", "max error")


# -- the result ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One variant. What was not measured is None, and `reason` then says why."""

    algorithm: str
    """Its name in `fastconv.algorithms`, or in `peers`."""
    median_ms: float | None = None
    """Milliseconds a call, the median."""
    gflops: float | None = None
    """Multiplications and additions of the definition, in billions a second: above the peak if it saves some."""
    percent_of_peak: float | None = None
    """`gflops` of `Comparison.peak_gflops`, in percent."""
    scratch_bytes: int | None = None
    """Memory a call needs beside input and output; None for peers."""
    max_error: float | None = None
    """Largest difference from the float64 result, as a fraction of that result's largest value."""
    is_auto: bool = False
    """Whether this is what ``algorithm="auto"`` picks."""
    reason: str | None = None
    """Why it was not timed."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. Prints as a table (in colour with rich), shows as one in a notebook."""

    problem: str
    """The convolution in words."""
    rows: tuple[Row, ...]
    """The variants, fastest first, those that were not timed last."""
    threads: int
    """Threads that the kernels had, and BLAS if `blas_limited`."""
    blas_limited: bool
    """Whether BLAS was held to that number of threads too; False if threadpoolctl is missing."""
    flops: int
    """Multiplications and additions of the definition."""
    peak_gflops: float | None
    """Measured rate of multiply-adds in registers at that number of threads; None for integers."""
    memory_gflops: float
    """Rate at which input, weight and output, each moved once, would keep main memory busy all the time."""

    def to_dict(self) -> dict[str, Any]:
        """All of it in types that `json.dumps` takes."""
        return asdict(self)

    def title(self) -> str:
        """The problem, its size and the threads, in a line."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return f"{self.problem}: {self.flops / 1e6:,.1f} MFLOP, {threads}"

    def cells(self) -> list[tuple[str, ...]]:
        """The table of the variants that were timed, as texts under `HEADERS`."""
        return [_cells(row) for row in self.rows if row.reason is None]

    def notes(self) -> list[str]:
        """What the table does not say, a line each."""
        notes = [f"{row.algorithm}: {row.reason}" for row in self.rows if row.reason is not None]
        if not self.blas_limited:
            notes.append("BLAS threads were not limited: that needs threadpoolctl, pip install 'fastconv[cli]'")
        if self.peak_gflops is not None:
            peak = f"peak: {self.peak_gflops:,.0f} GFLOP/s of multiply-adds in registers"
            notes.append(f"{peak} (what needs fewer may exceed it)")
        notes.append(f"memory: {self.memory_gflops:,.0f} GFLOP/s, if every array moved once at the speed of a copy")
        return notes

    def plot(self, file: Any = None) -> Any:
        """Draw the rates as bars under this machine's ceilings.

        Parameters
        ----------
        file : path or file object, optional
            Where to save the picture; a path's ending decides the format.

        Returns
        -------
        matplotlib.figure.Figure
            The picture, tied to no window.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is missing.
        """
        timed = [row for row in self.rows if row.gflops is not None][::-1]
        figure = extra("matplotlib.figure").Figure(figsize=(9, 1.4 + 0.45 * len(timed)), layout="constrained")
        axes = figure.add_subplot()
        colours = ["tab:orange" if row.is_auto else "tab:blue" for row in timed]
        bars = axes.barh([_label(row) for row in timed], [row.gflops or 0.0 for row in timed], color=colours)
        axes.bar_label(bars, [f"{row.gflops:,.1f}" for row in timed], padding=4)
        peak = math.inf if self.peak_gflops is None else self.peak_gflops
        if self.peak_gflops is not None:
            axes.axvline(peak, color="0.4", label="peak of multiply-adds in registers")
        if self.memory_gflops < peak:
            axes.axvline(self.memory_gflops, color="0.4", linestyle="--", label="what main memory allows")
        axes.margins(x=0.1)
        axes.set_xlabel("GFLOP/s")
        axes.set_title(self.title(), fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        if file is not None:
            figure.savefig(file, dpi=150)
        return figure

    def __str__(self) -> str:
        return "\n".join([self.title(), "", aligned([HEADERS, *self.cells()]), "", *self.notes()])

    def _repr_html_(self) -> str:
        import html  # late: `import fastconv` has no need of its tables

        def cells(tag: str, texts: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

        body = "".join(cells("td", texts) for texts in self.cells())
        notes = "<br>".join(map(html.escape, self.notes()))
        return (
            f"<table><caption>{html.escape(self.title())}</caption><thead>{cells('th', HEADERS)}</thead>"
            f"<tbody>{body}</tbody></table><small>{notes}</small>"
        )

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        view = Table()
        for index, header in enumerate(HEADERS):
            view.add_column(header, justify="right" if index else "left")
        for row in self.rows:
            if row.reason is None:
                view.add_row(*_cells(row), style="bold green" if row.is_auto else None)
        return Group(Text(self.title(), style="bold"), view, *(Text(note, style="dim") for note in self.notes()))


def _label(row: Row) -> str:
    return f"{row.algorithm} (auto)" if row.is_auto else row.algorithm


def _cells(row: Row) -> tuple[str, ...]:
    formats = ((row.median_ms, ",.3f"), (row.gflops, ",.1f"), (row.percent_of_peak, ".1f"))
    rates = ["-" if value is None else format(value, form) for value, form in formats]
    scratch = "-" if row.scratch_bytes is None else byte_count(row.scratch_bytes)
    return (_label(row), *rates, scratch, f"{row.max_error:.1e}" if row.max_error else "0")


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a table in plain text, the first column to the left, the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in lines)


def byte_count(count: int) -> str:
    """A number of bytes as text, like "2.0 MiB"."""
    if count < 1024:
        return f"{count} B"
    power = min(int(math.log2(count)) // 10, 4)
    return f"{count / 1024**power:.1f} {'KMGT'[power - 1]}iB"


# -- comparing -----------------------------------------------------------------------------------------------


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
        reasons = {name(module): module.supports(problem) for module in table("conv2d")}
        plans = {label: plan(algorithm=label) for label, reason in reasons.items() if reason is None}
        out = allocate(problem.output_shape, problem.out_dtype)
        runs = {label: partial(variant, x, out=out) for label, variant in plans.items()} | peers
        errors = {label: _error(label, run(), reference) for label, run in runs.items()}
        right = {label: run for label, run in runs.items() if errors[label] <= _tolerance(problem)}
        seconds = medians(right, repeats, SECONDS_EACH)
        peak, bandwidth = _ceilings(problem.acc_dtype, used)
        if remember:
            may = candidates(problem)
            wisdom.remember(problem, used, {label: time for label, time in seconds.items() if label in may})

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

    from ..cpu.system import kernels

    kernels.threading_layer()  # it must choose the layer, not Numba at the next line
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


def extra(module: str) -> ModuleType:
    """Import a module of the extra `cli`; ModuleNotFoundError that says how to install it otherwise."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed: pip install 'fastconv[cli]'") from None
