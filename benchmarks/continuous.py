"""Whether a commit is slower than another: ``python -m benchmarks.continuous BASE [HEAD]`` (HEAD by default).

asv times the regular layers and poolings of both commits in turns (`asv continuous --interleave-rounds`), each round in
new processes, and lists rows that have changed by more than `FACTOR` and beyond what their samples scatter. The exit
status is 1 if a row became slower: it is what a CI runs. Nothing is added to the kept results.

``--prove`` shows that this works here, on a copy of the repository: of HEAD and a commit that changes no kernel it must
be silent, and of HEAD and one whose `direct` convolution does a third more work it must name rows of that kernel and no
others. That takes six minutes on one core (AMD EPYC of Zen 5).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.before import KEPT_MEMORY
from benchmarks.history import ENVIRONMENT, REGULAR, ROOT, machine, one_core
from benchmarks.shapes import LAYERS, REGULAR_LAYERS

#: Layers and poolings.
ROWS = REGULAR[:2]
#: Processes in which each row is timed. Where a process's arrays lie in memory moves a row by up to a tenth.
ROUNDS = 8
#: Smaller changes are not told.
FACTOR = 1.2
#: The kernel that `--prove` slows, the line that hands out its tasks, and what does a third of them again, rounded up.
SLOWED = Path("fastconv/cpu/algorithms/conv_direct.py")
LINE = "    for job in prange(tasks):\n"
AGAIN = "    for turn in prange((4 * tasks + 2) // 3):\n        job = np.int64(turn) % tasks\n"


def continuous(base: str, head: str, repository: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What asv says of two commits of a repository, by the benchmarks of this tree."""
    from asv.util import load_json  # late: asv imports this module where it is not installed

    config = load_json(ROOT / "asv.conf.json", js_comments=True)
    config |= {"repo": str(repository), "benchmark_dir": str(ROOT / "benchmarks"), "results_dir": "continuous/results",
               "env_dir": "continuous/env", "html_dir": "continuous/html"}  # fmt: skip
    told = ROOT / ".asv" / "continuous.json"
    told.parent.mkdir(exist_ok=True)
    told.write_text(json.dumps(config))
    command = ["asv", "continuous", "--config", str(told), "--machine", machine(), "--interleave-rounds",
               "--attribute", f"rounds={ROUNDS}", "--factor", str(FACTOR), *(f"--bench={row}" for row in ROWS),
               base, head]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", *command], env=os.environ | ENVIRONMENT | KEPT_MEMORY, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, flush=True)
    return done


def faults() -> list[str]:
    """What asv tells wrongly of two pairs of commits, of which it should tell one."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)

        def git(*arguments: str) -> str:
            who = ["-c", "user.name=benchmarks.continuous", "-c", "user.email="]
            done = subprocess.run(["git", *who, *arguments], cwd=copy, check=True, capture_output=True, text=True)
            return done.stdout.strip()

        git("clone", "--quiet", "--shared", str(ROOT), ".")
        base = git("rev-parse", "HEAD")
        (copy / "README.md").write_text("Nothing that is measured has changed.\n")
        git("commit", "--quiet", "--all", "--message", "Unchanged")
        unchanged = git("rev-parse", "HEAD")
        text = (copy / SLOWED).read_text()
        if text.count(LINE) != 1:
            raise RuntimeError(f"{SLOWED} hands out its tasks otherwise than LINE says")
        (copy / SLOWED).write_text(text.replace(LINE, AGAIN))
        git("commit", "--quiet", "--all", "--message", "A kernel that does a third more")
        slowed = git("rev-parse", "HEAD")
        silent, told = continuous(base, unchanged, copy), continuous(base, slowed, copy)
    found = []
    if silent.returncode or "NOT SIGNIFICANTLY CHANGED" not in silent.stdout:
        found.append("of the pair without a change asv is not silent")
    rows = {line.split("(", 1)[1].split(")")[0] for line in told.stdout.splitlines() if line.startswith("| +")}
    if told.returncode != 1 or not rows:
        found.append("asv does not find the kernel that was slowed")
    if wrong := sorted(rows - slowed_rows()):
        found.append(f"asv names rows of other kernels: {', '.join(wrong)}")
    return found


def slowed_rows() -> set[str]:
    """The rows of `Layers` in which the kernel that is slowed computes: where the planner takes it."""
    import fastconv
    from fastconv.cpu import planner
    from fastconv.specs.conv import conv_spec

    rows = {}
    for name in REGULAR_LAYERS:
        layer = LAYERS[name]
        x, weight, bias = layer.arrays()
        spec = conv_spec(x.shape, weight.shape, [x.dtype, weight.dtype, bias.dtype], **layer.options)
        module = planner.choose(spec, "auto", for_one_call=True).algorithm
        rows[f"'{name}', 'auto'"] = module.__name__.rpartition("conv_")[2]
        rows[f"'{name}', 'plan'"] = fastconv.plan_conv2d(x.shape, weight, bias, **layer.options).algorithm
    return {row for row, algorithm in rows.items() if algorithm == SLOWED.stem.removeprefix("conv_")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", metavar="BASE", nargs="?", help="the commit to compare with")
    parser.add_argument("head", metavar="HEAD", nargs="?", default="HEAD", help="the commit that may be slower")
    parser.add_argument("--prove", action="store_true", help="show that asv finds a slowed kernel, and only that")
    arguments = parser.parse_args()
    if (arguments.base is None) != arguments.prove:
        parser.error("give either BASE or --prove")
    one_core()
    if not arguments.prove:
        sys.exit(continuous(arguments.base, arguments.head).returncode)
    found = faults()
    print("\n".join(found) or "asv finds the kernel that was slowed by a third, and is silent where nothing changed")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
