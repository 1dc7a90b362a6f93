"""What is to be learned of a GPU in its first minutes, in parts, the most telling ones first.

    bash benchmarks/gpu_first.sh OUT                       # on a machine with a GPU: 8 minutes
    bash benchmarks/gpu_first.sh OUT --rehearse            # in Numba's simulator
    bash benchmarks/gpu_first.sh OUT --rehearse --plant    # the same, with a barrier taken out of a kernel

Each part is a process of its own with a limit of time. After each, OUT has all that is known so far: a report as JSON
and as Markdown, and log.txt with all that the parts have said, tracebacks and all. A part that runs out of time is told
to stop, and what it has said until then counts. The rehearsal has no rows of the table, which need PyTorch on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
#: Seconds of all parts together, and those left to a part that is told to stop.
ALL, GRACE = 480.0, 10.0
#: Processes that run tests at a time: compiling is what they wait for, and an H200's machine has 16 cores.
PROCESSES = 12


#: The smallest problem of every convolution, pooling and gradient, with every algorithm, and of filters.
SMALLEST = ("test_cuda_conv.py", "test_cuda_pool.py", "test_cuda_grad.py", "test_cuda_ndimage.py",
            "-k", "plain-float32 or a_nan_touches")  # fmt: skip


class Part(NamedTuple):
    """A part of the run."""

    name: str
    seconds: float
    """The most that it may take."""
    command: list[str]


@dataclass
class Outcome:
    """What came of a part."""

    name: str
    seconds: float
    status: str
    """"passed", "failed", "out of time" or "left out"."""
    counts: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    said: str = ""
    """Its last lines, if it did not pass."""


def tests(name: str, seconds: float, *arguments: str) -> Part:
    """A part of the device suite."""
    paths = [f"tests/cuda/{one}" if one.startswith("test_") else one for one in arguments]
    command = [sys.executable, "-m", "pytest", "-v", "-rfE", "--tb=short", "-p", "no:cacheprovider"]
    return Part(name, seconds, [*command, *paths])


def parts(rehearse: bool, folder: Path) -> list[Part]:
    """All parts, in order; rows of the table come to NAME.json in a folder."""
    many = [] if rehearse else ["-m", "gpu", "-n", str(PROCESSES)]
    return [
        tests("smallest", 60, *SMALLEST, *many),
        tests("products", 60, "test_cuda_gemm.py", "test_cuda_own_windows.py", *many),
        tests("convolutions", 60, "test_cuda_conv.py", *many),
        _sanitized("memcheck", 90, rehearse),
        *(_table(group, 40, folder, "--only", "resnet") for group in ("conv", "grad")),
        _table("overhead", 20, folder),
        _sanitized("racecheck", 60, rehearse),
        tests("arrays", 40, "test_cuda_arrays.py", "test_cuda_moves.py", *many),
        tests("gradients", 40, "test_cuda_grad.py", *many),
        tests("poolings", 40, "test_cuda_pool.py", *many),
        tests("filters", 40, "test_cuda_ndimage.py", "test_cuda_banks.py", *many),
        tests("volumes", 40, "test_cuda_volumes.py", "test_cuda_transposed.py", *many),
        *(_table(group, 30, folder) for group in ("pool", "filter", "volume", "transposed", "pool grad")),
    ]


def _sanitized(tool: str, seconds: float, rehearse: bool) -> Part:
    """The smallest problems under a tool of compute-sanitizer, or in the simulator, which checks every index itself and
    has `tests.support.races`."""
    if rehearse:
        return tests(tool, seconds, *(SMALLEST if tool == "memcheck" else ("test_cuda_races.py",)))
    cases = tests(tool, seconds, *SMALLEST, "-m", "gpu")
    return cases._replace(command=["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *cases.command])


def _table(group: str, seconds: float, folder: Path, *arguments: str) -> Part:
    name = f"table {group}"
    command = [sys.executable, "-m", "benchmarks.gpu", "--groups", group, *arguments, "--json"]
    return Part(name, seconds, [*command, str(folder / f"{name}.json")])


def run(part: Part, log: Path, place: Path, environment: dict[str, str], limit: float) -> Outcome:
    """Run a part to its end, or for `limit` seconds, with the code in a `place`; what it says is added to a log."""
    if shutil.which(part.command[0]) is None:
        return Outcome(part.name, 0.0, "left out", said=f"{part.command[0]} is not installed")
    begun, status = time.perf_counter(), ""
    with log.open("ab") as file:
        file.write(f"\n==== {part.name}: {' '.join(part.command)}\n".encode())
        file.flush()
        before = file.tell()
        process = subprocess.Popen(part.command, cwd=place, env=environment, stdout=file, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        for wait, number in ((limit, signal.SIGINT), (GRACE, signal.SIGKILL), (None, signal.SIGKILL)):
            try:
                process.wait(wait)
                break
            except subprocess.TimeoutExpired:
                status = "out of time"
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)  # and those that it has started
    said = log.read_bytes()[before:].decode(errors="replace")
    # A test's line has its name first, or with several processes last.
    kinds = "(PASSED|FAILED|ERROR|SKIPPED)"
    results = re.findall(rf"(tests/\S+::.+?) {kinds}|{kinds} (tests/\S+::.+)", said)
    pairs = {(first or second).partition(" - ")[0].strip(): one or other for first, one, other, second in results}
    counts = {kind.lower(): list(pairs.values()).count(kind) for kind in sorted(set(pairs.values()))}
    failed = [name for name, kind in pairs.items() if kind in ("FAILED", "ERROR")]
    if not status and "benchmarks.gpu" in part.command and process.returncode == 2:
        status = "left out"  # it says why
    status = status or ("failed" if process.returncode else "passed")
    last = "" if status == "passed" else "\n".join(said.strip().splitlines()[-5:])
    return Outcome(part.name, time.perf_counter() - begun, status, counts, sorted(set(failed)), last)


def write(out: Path, folder: Path, about: dict[str, Any], outcomes: list[Outcome]) -> None:
    """The report, of what is known so far, with the rows of the table in a folder."""
    rows = []
    for outcome in outcomes:
        with contextlib.suppress(OSError, ValueError):
            table = json.loads((folder / f"{outcome.name}.json").read_text())
            about = about | table["about"]
            rows += table["rows"]
    found = {"about": about, "parts": [asdict(one) for one in outcomes], "rows": rows}
    (out / "report.json").write_text(json.dumps(found, indent=1))
    lines = ["# A GPU's first minutes", "", *(f"- {name}: {value}" for name, value in about.items()), "",
             "| part | | seconds | tests | failed |", "|---|---|---|---|---|"]
    for one in outcomes:
        counts = ", ".join(f"{count} {kind}" for kind, count in one.counts.items())
        lines.append(f"| {one.name} | {one.status} | {one.seconds:.0f} | {counts} | {len(one.failed)} |")
    for one in outcomes:
        if one.failed or one.said:
            lines += ["", f"## {one.name}: {one.status}", ""]
            lines += [f"- `{name}`" for name in one.failed]
            lines += ["", "```", one.said, "```"] if one.said else []
    if rows:
        lines += ["", "| | | ms | % of the ceiling | times as fast as its peer | error |", "|---|---|---|---|---|---|"]
        lines += [f"| {row['group']} {row['name']} | {row['contender']} | {row['ms']:.4f} | {row['percent']:.0f} | "
                  f"{row['ratio']:.2f} | {row['error']:.1e} |" for row in rows]
    (out / "report.md").write_text("\n".join(lines) + "\n")


def planted(folder: Path) -> Path:
    """A copy of the code without one barrier of `conv_im2col`."""
    copy = folder / "planted"
    for folder in ("fastconv", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, copy / folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    file = copy / "fastconv" / "cuda" / "algorithms" / "conv_im2col.py"
    whole, barrier, rest = file.read_text().partition("cuda.syncthreads()")
    if not barrier:
        raise ValueError(f"{file.name} has no barrier to take out")
    file.write_text(f"{whole}pass{rest}")
    return copy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rehearse", action="store_true", help="in Numba's simulator")
    parser.add_argument("--plant", action="store_true", help="with a fault in a kernel, which the report must show")
    parser.add_argument("--parts", nargs="+", help="only these")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.txt").write_bytes(b"")
    with tempfile.TemporaryDirectory() as name:
        outcomes = _all(arguments, out, Path(name))
    return int(any(one.status not in ("passed", "left out") for one in outcomes))


def _all(arguments: argparse.Namespace, out: Path, folder: Path) -> list[Outcome]:
    place = planted(folder) if arguments.plant else ROOT
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    slower = 10 if arguments.rehearse else 1
    if arguments.rehearse:
        environment["NUMBA_ENABLE_CUDASIM"] = "1"
    about = {"begun": time.strftime("%Y-%m-%d %H:%M:%S"), "rehearsal": arguments.rehearse, "planted": arguments.plant}
    outcomes: list[Outcome] = []
    begun = time.perf_counter()
    for part in parts(arguments.rehearse, folder):
        if arguments.parts and part.name not in arguments.parts:
            continue
        left = slower * ALL - (time.perf_counter() - begun)
        if left < GRACE:
            one = Outcome(part.name, 0.0, "left out", said="no time was left")
        else:
            one = run(part, out / "log.txt", place, environment, min(slower * part.seconds, left))
        print(f"{one.name}: {one.status}, {one.seconds:.0f} s, {one.counts}, {len(one.failed)} failed", flush=True)
        outcomes.append(one)
        write(out, folder, about, outcomes)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
