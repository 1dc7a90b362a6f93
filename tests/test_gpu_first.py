"""The command for a GPU's first minutes: what is planted shows in its report, and nothing that is known is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_first
from benchmarks.gpu_first import Outcome, Part


def test_the_rehearsal_shows_a_planted_fault(tmp_path: Path) -> None:
    command = ["bash", str(gpu_first.ROOT / "benchmarks" / "gpu_first.sh"), str(tmp_path), "--rehearse", "--plant",
               "--parts", "smallest", "table overhead"]
    done = subprocess.run(command, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    smallest, table = report["parts"]
    assert smallest["status"] == "failed"
    assert smallest["failed"] == ["tests/cuda/test_cuda_conv.py::test_every_algorithm[plain-float32-im2col]"]
    assert smallest["counts"]["passed"] > 35
    assert (table["status"], table["said"]) == ("left out", "the simulator is no GPU")
    assert smallest["failed"][0] in (tmp_path / "report.md").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert "AssertionError: at " in log
    assert {file.name for file in tmp_path.iterdir()} == {"report.json", "report.md", "log.txt"}


def test_a_part_that_does_not_end_leaves_what_it_has_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_first, "GRACE", 0.5)
    code = """
import json, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
row = {"group": "conv", "name": "3x3", "contender": "fastconv", "ms": 1.5, "percent": 50, "ratio": 2, "error": 1e-7}
json.dump({"about": {"GPU": "one"}, "rows": [row]}, open(sys.argv[1], "w"))
print("tests/cuda/test_a.py::test_b[c d] PASSED [ 5%]\\n[gw0] [ 9%] FAILED tests/cuda/test_a.py::test_e ", flush=True)
time.sleep(60)
"""
    log = tmp_path / "log.txt"
    part = Part("slow", 1, [sys.executable, "-c", code, str(tmp_path / "slow.json")])
    found = gpu_first.run(part, log, tmp_path, dict(os.environ), 3)
    assert found.status == "out of time"
    assert found.seconds < 30
    assert found.counts == {"failed": 1, "passed": 1}
    assert found.failed == ["tests/cuda/test_a.py::test_e"]
    absent = gpu_first.run(Part("none", 1, ["no-such-program"]), log, tmp_path, {}, 1)
    assert absent == Outcome("none", 0.0, "left out", said="no-such-program is not installed")
    gpu_first.write(tmp_path, tmp_path, {"begun": "now"}, [found, absent])
    report = (tmp_path / "report.md").read_text()
    for line in ("- GPU: one", "| conv 3x3 | fastconv | 1.5000 | 50 | 2.00 | 1.0e-07 |", "## slow: out of time"):
        assert line in report.splitlines()


def test_all_parts_have_their_time(tmp_path: Path) -> None:
    found = gpu_first.parts(False, tmp_path)
    assert len({part.name for part in found}) == len(found)
    files = {Path(word).name for part in found for word in part.command if word.startswith("tests/cuda/")}
    suite = {file.name for file in (gpu_first.ROOT / "tests" / "cuda").glob("test_*.py")}
    assert suite - files == {"test_cuda_races.py", "test_cuda_simulator.py"}  # of the simulator
    most = [part.seconds for part in found]
    assert sum(most[: len(most) // 2]) < gpu_first.ALL
