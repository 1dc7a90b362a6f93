"""Python processes of their own, which have this package on their path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fastconv

PACKAGE = Path(fastconv.__file__).parent
#: Where scripts that tests start are found by their names; the package may be installed elsewhere.
ROOT = Path(__file__).parents[2]
#: One naive convolution, checked, with one thread so that one build of one kernel is all it needs.
CALL = """
import numpy as np
import fastconv
x = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
result = fastconv.conv2d(x, np.array([[[[0, 1], [2, 3]]]], np.float32), algorithm="naive")
assert result.tolist() == [[[19, 25], [37, 43]]], result
"""


def start(*arguments: object, package: Path = PACKAGE, **environment: object) -> subprocess.Popen:
    variables = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    variables |= {name: str(value) for name, value in environment.items()}
    variables = {name: value for name, value in variables.items() if value != "None"}
    return subprocess.Popen([sys.executable, *map(str, arguments)], env=variables, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, cwd=ROOT if package is PACKAGE else package.parent)


def finish(process: subprocess.Popen, seconds: float = 600) -> str:
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


def run(*arguments: object, **environment: object) -> str:
    return finish(start(*arguments, **environment))


def run_code(code: str = CALL, **environment: object) -> str:
    return run("-W", "error", "-c", code, **{"NUMBA_NUM_THREADS": 1, **environment})
