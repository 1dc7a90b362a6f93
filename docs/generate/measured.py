"""Tables of what benchmarks measured, from the files that they write with ``--json`` into `docs/measured/`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
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


def images(record: dict[str, Any]) -> str:
    """Of each kind of filter and each peer how many times as long the peer takes: geometric mean and worst row."""
    rows = []
    for kind, peer in dict.fromkeys((row["table"], peer) for row in record["rows"] for peer in row["seconds"]):
        taken = [row["seconds"] for row in record["rows"] if row["table"] == kind and peer in row["seconds"]]
        if peer != "fastconv":
            ratios = [seconds[peer] / seconds["fastconv"] for seconds in taken]
            rows.append([kind, peer, len(ratios), f"{statistics.geometric_mean(ratios):.1f}", f"{min(ratios):.2f}"])
    return table(["filters", "beside", "rows", f"on {record['threads']} thread(s)", "worst"], rows)


TABLES = {"accuracy": accuracy, "against_scipy": against_scipy, "images": images}
