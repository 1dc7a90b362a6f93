"""The GPU's kernels without a GPU: the device suite in Numba's simulator, and what is said without one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv
from benchmarks import gpu, shapes
from fastconv.cuda import planner
from fastconv.cuda.system import kernels
from fastconv.cuda.system.kernels import missing
from fastconv.cuda.tiles import ptx as tiles_ptx
from fastconv.specs.conv import conv_spec
from fastconv.specs.dtypes import PRECISIONS
from fastconv.specs.pool import pool_spec

ROOT = Path(__file__).parent.parent


def test_the_device_suite_in_the_simulator() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", "tests/cuda"]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    summary = done.stdout.strip().splitlines()[-1]
    assert "passed" in summary
    assert "skipped" not in summary


def test_other_dtypes_are_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel on disk is found again, but not once a file that it depends on has changed."""
    before, files = kernels._toolchain.__wrapped__(), kernels.sources()
    changed = tmp_path / "dtypes.py"
    (told,) = [file for file in files if file.name == "dtypes.py"]
    for text, same in ((told.read_text(), True), (told.read_text().replace("np.float32", "np.float64"), False)):
        changed.write_text(text)
        monkeypatch.setattr(kernels, "sources", lambda: tuple(changed if file == told else file for file in files))
        assert (kernels._toolchain.__wrapped__() == before) is same


def test_the_simulator_has_every_instruction() -> None:
    """`ptx_simulated` defines all that `ptx_device` does, with as many arguments, and kernels find both in `ptx`."""
    public = {}
    for module in ("ptx_simulated", "ptx_device"):
        tree = ast.parse((Path(fastconv.__file__).parent / "cuda" / "tiles" / f"{module}.py").read_text())
        functions = {one.name: [argument.arg for argument in one.args.args if argument.arg != "typingctx"]
                     for one in tree.body if isinstance(one, ast.FunctionDef)}
        constants = {name.id: None for one in tree.body if isinstance(one, ast.Assign)
                     for target in one.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        public[module] = {name: value for name, value in (constants | functions).items()
                          if not name.startswith("_") and name != "MMA"}
    simulated, device = public["ptx_simulated"], public["ptx_device"]
    assert set(simulated) == set(device) == set(tiles_ptx.__all__)
    assert all(simulated[name] == given for name, given in device.items() if given is not None and simulated[name])


def test_what_is_missing_is_said() -> None:
    """Each of the three, in a process of its own; on a machine with a GPU, the first two."""
    code = """
import importlib.util, sys
{}
import numpy as np, fastconv
try:
    fastconv.conv2d(np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 1, 1), np.float32), device="cuda")
except RuntimeError as error:
    print(error)
"""
    no_extra = "sys.modules['numba_cuda'] = None"
    assert "pip install 'fastconv[cuda]'" in _said(code.format(no_extra))
    if importlib_has("cuda.bindings"):
        fake = ("import types; from cuda.bindings import driver; import enum\n"
                "class Code(enum.IntEnum): CUDA_ERROR_NO_DEVICE = {}\n"
                "driver.cuInit = lambda flags: {}")
        assert "no NVIDIA GPU" in _said(code.format(fake.format(100, "(Code(100),)")))
        assert "does not start (CUDA_ERROR_NO_DEVICE)" in _said(code.format(fake.format(3, "(Code(3),)")))
        absent = "from cuda.bindings import driver\ndef fail(flags): raise RuntimeError('libcuda was not found. Oh')\n"
        assert "no NVIDIA driver (libcuda was not found)" in _said(code.format(absent + "driver.cuInit = fail"))


def importlib_has(name: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _said(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_planner_knows_every_problem_of_the_benchmark() -> None:
    for layer in shapes.LAYERS.values():
        weight = layer.c_out, layer.c_in // layer.groups, layer.kh, layer.kw
        for precision in PRECISIONS:
            x = gpu.BATCH, layer.c_in, layer.h, layer.w
            spec = conv_spec(x, weight, [np.dtype(np.float32)], **layer.options, precision=precision)
            costs = planner.candidates(spec)
            assert len(costs) >= 2
            assert all(0 < seconds < 1 for label, seconds in costs.items() if label != "naive"), (layer.name, costs)
    for pooling in shapes.POOLINGS.values():
        x = gpu.BATCH, pooling.c, pooling.h, pooling.w
        costs = planner.candidates(pool_spec("max", x, np.dtype(np.float32), **pooling.options))
        assert len(costs) >= 2
        assert all(0 < seconds < 1 for seconds in costs.values()), (pooling.name, costs)


@pytest.mark.skipif(missing() is None, reason="there is a GPU: the benchmark would run")
def test_the_benchmark_says_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 2
    assert "device='cuda'" in capsys.readouterr().err


def test_the_cpu_has_one_precision() -> None:
    x, weight = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(ValueError, match="precision='tf32x3' is for device='cuda'"):
        fastconv.conv2d(x, weight, precision="tf32x3")
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'tf32', 'tf32x3'"):
        fastconv.plan_conv2d(x.shape, weight, precision="fp8")


def test_both_devices_have_the_same_verbs() -> None:
    from fastconv.cpu import calls as on_cpu
    from fastconv.cuda import calls as on_gpu

    assert {*on_cpu.__all__} - {*on_gpu.__all__} == {"mask_threads", "num_threads", "set_num_threads"}
    assert {*on_gpu.__all__} <= {*on_cpu.__all__}
