"""Measures commits of this repository for the page of benchmarks: ``python -m benchmarks.history [COMMIT ...]``.

asv installs each commit's package into a virtual environment and runs the regular rows (`REGULAR`) of this tree's
benchmarks on it; what a commit lacks is not there. Results are kept as JSON in ``benchmarks/results/``, a file for each
commit, and replace what was there. Without commits, all that have results are measured again; ``HEAD`` adds the newest.

All runs on one core: rows are compared across commits, and on two cores of a virtual machine the same call may take
half as long again. A commit takes about two minutes (AMD EPYC of Zen 5), half of them to compile its kernels. The kept
results are of that machine, which does not say its generation itself: ``--cpu "AMD EPYC (Zen 5)"``.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The benchmarks of which every commit's results are kept: of each kind of call those that users make, in the planner's
#: choice, and what is waited for before. Single algorithms, other libraries and memory are left out, and the pooling of
#: 13 MB, which takes what memory takes: beside other programs the same kernel took 0.4 to 1.7 ms (AMD EPYC of Zen 5).
REGULAR = (
    r"bench_conv\.Layers",
    r"bench_pool\.Poolings\.time_pool2d\('(?!vgg)",
    r"bench_image\.Filters",
    r"bench_images\.",
    r"bench_calls\.",
    r"bench_import\.",
    r"bench_cold\.FirstCall\.timeraw_(winograd|max_pool2d)",
)
#: Compiled kernels lie beside asv's environments: the user's cache stays as it is, and a commit's are found again.
ENVIRONMENT = {"FASTCONV_CACHE_DIR": str(ROOT / ".asv" / "kernels")}


def machine(processor: str | None = None) -> str:
    """The name under which asv knows this machine: its processor's, not the host's. Notes the facts where asv looks."""
    from asv.machine import Machine, MachineCollection  # late: asv imports this module where it is not installed

    facts = Machine.get_defaults()
    facts |= {"cpu": processor or facts["cpu"], "os": platform.system()}
    facts["machine"] = re.sub(r"[^a-z0-9]+", "-", facts["cpu"].lower()).strip("-") + "-one-core"
    MachineCollection.save(facts["machine"], facts)
    return facts["machine"]


def measure(commits: list[str], name: str, quick: bool) -> int:
    """Measure commits, or those that have results; asv's exit status."""
    options = ["--machine", name, *(f"--bench={row}" for row in REGULAR)]
    if quick:
        options += ["--quick", "--dry-run"]
    hashes = subprocess.run(
        ["git", "rev-parse", *(f"{commit}^{{commit}}" for commit in commits)],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    command = [sys.executable, "-m", "asv", "run", *options, "HASHFILE:-" if commits else "EXISTING"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, input=hashes, text=True).returncode


def one_core() -> None:
    """Keep this process, and those that it starts, on one core, where the system lets it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", metavar="COMMIT", nargs="*", help="commits (default: all that have results)")
    parser.add_argument("--cpu", metavar="NAME", help="the processor's name (default: what it says itself)")
    parser.add_argument("--quick", action="store_true", help="each row once, nothing kept: compiles, and shows errors")
    arguments = parser.parse_args()
    one_core()
    sys.exit(measure(arguments.commits, machine(arguments.cpu), arguments.quick))


if __name__ == "__main__":
    main()
