"""A cache with files as kernels have them, the command that tells of it, and processes that use it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastconv
from fastconv.__main__ import main
from fastconv.base import files
from fastconv.cpu.system import target

HOUR = 3600
#: A kernel's file: a checksum, for what it is, and code.
DATA = (bytes(32) + target.kernels_id(target.processor()) + bytes(range(100)) * 10)[:1000]
#: A call whose kernel is compiled fast.
CALL = """
import numpy as np, fastconv
fastconv.set_num_threads(1)
fastconv.conv2d(np.ones((1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32), algorithm="naive")
"""


def name(number: int, kind: str = "nbc") -> str:
    return f"_kernel-{number:040x}.{kind}"


def fill(folder: Path, count: int = 4) -> list[Path]:
    """Kernels of 1000 bytes, the last used most recently: an hour after the one before it."""
    made = [folder / name(number) for number in range(count)]
    for number, file in enumerate(made):
        assert files.write(file, DATA)
        used(file, hours_ago=count - number)
    return made


def used(file: Path, hours_ago: float) -> None:
    os.utime(file, (time.time() - hours_ago * HOUR,) * 2)


def left(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def kernels(folder: Path) -> set[str]:
    return {file for file in left(folder) if file.endswith(".nbc")}


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """A new process of Python with this cache."""
    variables = {"FASTCONV_CACHE_DIR": str(folder), "PYTHONPATH": str(Path(fastconv.__file__).parents[1])} | environment
    return subprocess.Popen([sys.executable, "-W", "error", *arguments], env={**os.environ, **variables}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> str:
    """What it printed; it must go well and keep quiet on stderr."""
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, ""), err
    return out


def command(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    return (main(["cache", *argv]), *capsys.readouterr())
