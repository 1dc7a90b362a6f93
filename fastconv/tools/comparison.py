"""The result of a comparison: its rows, and their presentation as text, HTML and a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..base.units import byte_count
from .extras import extra

HEADERS = ("algorithm", "ms", "GFLOP/s", "% of peak", "scratch", "max error", "error bound")


@dataclass(frozen=True)
class Row:
    """One variant. Values that were not measured are None, and `reason` then says why."""

    algorithm: str
    """The variant's name in `fastconv.algorithms`, or in `peers`."""
    median_ms: float | None = None
    """Median time of a call in milliseconds."""
    gflops: float | None = None
    """Multiplications and additions of the definition, in billions a second: above the peak if it saves some."""
    percent_of_peak: float | None = None
    """The rate `gflops` in percent of `Comparison.peak_gflops`."""
    scratch_bytes: int | None = None
    """Memory in bytes that a call needs beside input and output; None for peers."""
    max_error: float | None = None
    """Largest difference from the float64 result, as a fraction of that result's largest value."""
    error_bound: str | None = None
    """The sum whose rounding bounds an output's error, some times over: its own "window", or the "largest output"."""
    is_auto: bool = False
    """Whether ``algorithm="auto"`` picks this variant."""
    reason: str | None = None
    """The reason why it was not timed."""


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`. It prints as a table (in colour with rich), and shows as one in a notebook."""

    problem: str
    """The problem in words."""
    rows: tuple[Row, ...]
    """The variants, the fastest first, and behind them the variants that were not timed."""
    threads: int
    """Number of threads that the kernels had, and BLAS if `blas_limited`."""
    blas_limited: bool
    """Whether BLAS was limited to that number of threads, too; False if threadpoolctl is missing."""
    flops: int
    """Multiplications and additions, or comparisons, of the definition; 0 where elements are only moved."""
    peak_gflops: float | None
    """Measured rate of multiply-adds in registers on that number of threads; None for integers."""
    memory_gflops: float
    """Rate at which input, weight and output, each moved once, would keep main memory busy all the time."""

    def to_dict(self) -> dict[str, Any]:
        """All fields in types that `json.dumps` takes."""
        return asdict(self)

    def title(self) -> str:
        """One line: the problem, its number of operations, and the threads."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        work = f"{self.flops / 1e6:{',.1f' if self.flops >= 1e5 else '.1g'}} MFLOP, " if self.flops else ""
        return f"{self.problem}: {work}{threads}"

    def cells(self) -> list[tuple[str, ...]]:
        """The table of the variants that were timed, as texts under `HEADERS`."""
        return [_cells(row) for row in self.rows if row.reason is None]

    def notes(self) -> list[str]:
        """Lines about everything that the table does not show."""
        notes = [f"{row.algorithm}: {row.reason}" for row in self.rows if row.reason is not None]
        if not self.blas_limited:
            notes.append("BLAS threads were not limited: that needs threadpoolctl, pip install 'fastconv[cli]'")
        if self.peak_gflops is not None:
            peak = f"peak: {self.peak_gflops:,.0f} GFLOP/s of multiply-adds in registers"
            notes.append(f"{peak} (what needs fewer may exceed it)")
        if self.flops:
            notes.append(f"memory: {self.memory_gflops:,.0f} GFLOP/s, if every array moved once at the speed of a copy")
        return notes

    def plot(self, file: Any = None) -> Any:
        """Draw the rates as bars under this machine's ceilings.

        Parameters
        ----------
        file : path or file object, optional
            The file for the picture; a path's ending decides the format.

        Returns
        -------
        matplotlib.figure.Figure
            The picture, which belongs to no window.

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
        import html  # late: `import fastconv` does not need it

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
            view.add_column(header, justify="right" if index else "left", no_wrap=not index)
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
    return (_label(row), *rates, scratch, f"{row.max_error:.1e}" if row.max_error else "0", row.error_bound or "-")


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a table in plain text: the first column is aligned to the left, the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in lines)
