"""Tables of what benchmarks measured, from the files that they write with ``--json`` into `docs/measured/`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .files import replace


def write(measured: Path, folder: Path) -> None:
    """Write a page's part for each file there is; the pages include them."""
    texts = {}
    for file in sorted(measured.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        texts[f"{file.stem}.md"] = TABLES[file.stem](record) + provenance(record)
    replace(folder, texts)


def provenance(record: dict[str, Any]) -> str:
    """How the figures came about."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    cores = record["cores"]
    told = f"{record['machine']}, {cores} core{'s' * (cores > 1)}, {record['date']}; {versions}"
    return f"\n{told}: `{record['command']}`.\n"


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table of Markdown."""
    lines = [list(head), None, *rows]
    width = len(lines[0])
    return "".join("|" + "|".join(map(str, line if line else ["---"] * width)) + "|\n" for line in lines)


def accuracy(record: dict[str, Any]) -> str:
    """Of each algorithm the median and the largest error over the problems that it can do."""
    rows = []
    for name in dict.fromkeys(row["algorithm"] for row in record["rows"]):
        own = [row for row in record["rows"] if row["algorithm"] == name]
        worst = max(own, key=lambda row: row["roundings"])
        errors = [row["of_largest"] for row in own]
        rows.append([f"`{name}`", len(own), f"{statistics.median(errors):.1e}", f"{max(errors):.1e}",
                     f"{worst['roundings']:.2g}", f"`{worst['problem']}`"])  # fmt: skip
    head = ["algorithm", "problems", "error, median", "largest", "most roundings", "in"]
    return table(head, sorted(rows, key=lambda row: float(row[3])))


def against_scipy(record: dict[str, Any]) -> str:
    """Of each image how many times as long SciPy takes."""
    peers = list(dict.fromkeys(peer for row in record["rows"] for peer in row["seconds"]))
    peers = [peer for peer in peers if peer not in ("fastconv", "one thread")]
    rows = []
    for row in record["rows"]:
        times, cells = row["seconds"], []
        for peer in peers:
            own = [times[name] for name in ("fastconv", "one thread") if peer in times and name in times]
            ratios = [f"{times[peer] / seconds:.1f}" for seconds in own]
            cells.append(f"{ratios[0]} ({ratios[1]})" if len(ratios) > 1 else "".join(ratios) or "-")
        rows.append([row["image"], row["kernel"], row["dtype"], *cells])
    cores = record["cores"]
    told = f"On {cores} threads, in parentheses on one." if cores > 1 else "On one thread."
    return f"{told}\n\n" + table(["image", "kernel", "dtype", *(f"`{peer}`" for peer in peers)], rows)


def comparisons(record: dict[str, Any]) -> str:
    """Of each title how many times as long the others take: geometric mean and worst row, by the number of threads."""
    rows = []
    for title in titles(record):
        cells = []
        for found in by_threads(record, title):
            worst = min(found, key=found.__getitem__)
            below = sum(value < 1 for value in found.values())
            cells += [f"{statistics.geometric_mean(found.values()):.3g}", f"{found[worst]:.2f} ({worst})", below]
        rows.append([title, len(found), *cells])
    head = [cell for number in threads_of(record)
            for cell in (f"{number} thread{'s' * (number > 1)}", "worst row", "below 1")]  # fmt: skip
    return table(["", "rows", *head], rows)


def in_short(record: dict[str, Any], title: str) -> list[str]:
    """The README's figures of one title: rows, and by the number of threads geometric mean and least."""
    every = list(by_threads(record, title))
    cells = [f"{number:.3g}" for found in every
             for number in (statistics.geometric_mean(found.values()), min(found.values()))]  # fmt: skip
    return [str(len(every[0])), *cells]


def titles(record: dict[str, Any]) -> list[str]:
    """What is compared."""
    return list(dict.fromkeys(title for row in record["rows"] for title in row["ratios"]))


def threads_of(record: dict[str, Any]) -> list[int]:
    """On how many threads rows were measured."""
    return list(dict.fromkeys(row["threads"] for row in record["rows"]))


def by_threads(record: dict[str, Any], title: str) -> Iterator[dict[str, float]]:
    """For each number of threads the ratios of one title, by the row."""
    for number in threads_of(record):
        yield {row["row"]: row["ratios"][title] for row in record["rows"]
               if row["threads"] == number and title in row["ratios"]}  # fmt: skip


TABLES = {"accuracy": accuracy, "against_scipy": against_scipy,
          **dict.fromkeys(("peers", "learning", "dimensions", "images"), comparisons)}  # fmt: skip
