"""Compiled kernels, in processes of their own: their files, bounds and ranges, and other processors."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
from processes import CALL, PACKAGE, finish, run, run_code, start

TESTS = Path(__file__).parent


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """When the files of a folder were written, and how long they are."""
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.stat().st_size)
            for file in folder.rglob("*") if file.is_file()}


# -- the cache -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that two processes have filled at the same time."""
    folder = tmp_path_factory.mktemp("cache")
    for process in [start("-c", CALL, FASTCONV_CACHE_DIR=folder, NUMBA_NUM_THREADS=1) for _ in range(2)]:
        finish(process)
    return folder


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "cache"))


def test_a_new_process_compiles_nothing(cache: Path) -> None:
    before = state(cache)
    assert before
    assert all(name.endswith((".nbc", ".txt")) for name in before)
    run_code(FASTCONV_CACHE_DIR=cache)
    assert state(cache) == before


def test_damaged_files_are_mended(cache: Path) -> None:
    names = set(state(cache))
    for damage in (
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
        lambda data: b"\xff" * len(data),
    ):
        for file in cache.iterdir():
            file.write_bytes(damage(file.read_bytes()))
        damaged = state(cache)
        run_code(FASTCONV_CACHE_DIR=cache)
        assert set(state(cache)) == names
        assert not state(cache).items() & damaged.items()  # all written anew
    mended = state(cache)
    run_code(FASTCONV_CACHE_DIR=cache)
    assert state(cache) == mended


def test_settings_of_the_compiler_have_files_of_their_own(cache: Path) -> None:
    before = state(cache)
    run_code(FASTCONV_CACHE_DIR=cache, NUMBA_BOUNDSCHECK=1)
    after = state(cache)
    assert after.items() > before.items()


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    for folder in (file, file / "below"):
        run_code(FASTCONV_CACHE_DIR=folder)
    assert file.read_text() == "not a folder"
    run_code(FASTCONV_CACHE_DIR=None, XDG_CACHE_HOME=None, HOME=file)


@pytest.fixture
def copied_package(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / "site" / "fastconv", ignore=shutil.ignore_patterns("__pycache__")))


def test_a_changed_helper_in_another_file_is_seen(copied_package: Path, tmp_path: Path) -> None:
    helper = copied_package / "cpu" / "helper.py"
    (copied_package / "cpu" / "user.py").write_text(
        "from .helper import constant\nfrom .system.kernels import compiled\n\n@compiled\n"
        "def fill(out):\n    out[0] = constant()\n"
    )
    code = "import numpy as np\nfrom fastconv.cpu.user import fill\nout = np.zeros(1)\nfill(out)\nprint(out[0])"
    for value in (1.0, 2.0):
        helper.write_text(f"from .system.kernels import jit\n@jit\ndef constant():\n    return {value}\n")
        assert run_code(code, package=copied_package, FASTCONV_CACHE_DIR=tmp_path / "cache").strip() == str(value)


def test_code_of_one_factory_compiled_in_several_processes(copied_package: Path, tmp_path: Path) -> None:
    """Code is linked by name: what two processes compiled must not have the same name in a third that loads both."""
    long = "".join(f"        if x[{k}] > {k}.5:\n            total += x[{k}] * x[{k + 1}]\n" for k in range(200))
    (copied_package / "cpu" / "user.py").write_text(
        "from .system.kernels import compiled, jit\ndef filler(value):\n    @jit(key=(value,))\n"
        f"    def inner(x, total):\n{long}        return total + value\n    @compiled(key=(value,))\n"
        "    def fill(out):\n        out[0] = inner(out, 0.0) + inner(out[1:], 0.0)\n    return fill\n"
    )
    code = "import numpy as np\nfrom fastconv.cpu.user import filler\nfor value in {}:\n    out = np.zeros(300)\n"
    code += "    filler(value)(out)\n    print(out[0], end=' ')"
    for values in ([1.0], [2.0], [1.0, 2.0]):
        output = run_code(code.format(values), package=copied_package, FASTCONV_CACHE_DIR=tmp_path / "cache")
        assert output.split() == [str(2 * value) for value in values]


def test_a_read_only_install(copied_package: Path, tmp_path: Path) -> None:
    for path in (copied_package, *copied_package.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = state(copied_package)
    run_code(package=copied_package, FASTCONV_CACHE_DIR=tmp_path / "cache")
    assert state(copied_package) == before  # (root may write to it all the same)


# -- bounds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", ["", "not "])  # for two processes that run tests to share
@pytest.mark.parametrize(
    ("test", "cases", "some"),
    [
        ("test_conv.py::test_every_algorithm", "float32 or plain-int8", "separable or image"),
        ("test_pool.py::test_every_algorithm", "float32 or plain-int8", "lp"),
        ("test_conv_transpose.py::test_every_algorithm", "float32 and (depthwise or columns)", "-depthwise"),
    ],
)
def test_every_algorithm_within_bounds(test: str, cases: str, some: str, half: str) -> None:
    """The named cases once more with Numba's checks of every index."""
    output = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"({cases}) and {half}({some})",
                 f"{TESTS / test}", NUMBA_BOUNDSCHECK=1, NUMBA_NUM_THREADS=1)
    assert " passed" in output
    assert "skipped" not in output


@pytest.mark.parametrize("threads", [1, 2])
def test_bounds_are_checked_at_all(threads: int) -> None:
    """An error in one share of the tasks is raised where the kernel was called, on other threads, too."""
    code = """
import numpy as np
from numba import prange
from fastconv.cpu.system.kernels import kernel

@kernel
def bad(out):
    for task in prange(out.size):
        if task == out.size - 1:
            out[out.size] = 1

try:
    bad(np.zeros(100))
except IndexError:
    print("caught")
"""
    assert "caught" in run_code(code, NUMBA_BOUNDSCHECK=1, NUMBA_NUM_THREADS=threads)


# -- as Python -----------------------------------------------------------------------------------------------

OPERATIONS = """
import sys
import numpy as np
import fastconv
from fastconv import grad, signal
rng, stepped = np.random.default_rng(0), set()
x, weight, volume = (rng.standard_normal(shape) for shape in ((2, 4, 7, 8), (8, 2, 3, 3), (1, 2, 4, 5, 6)))
signals, small, integers = rng.standard_normal((2, 8, 7, 8)), x[:, :, :3, :4], (x * 20).astype(np.int8)

def trace(frame, event, _):
    if event == "line":
        stepped.add(frame.f_code.co_name)
    return trace

sys.settrace(trace)
values, indices = fastconv.max_pool2d(x, (3, 2), 1, (1, 0), return_indices=True)
results = {
    "conv": fastconv.conv2d(x, weight, padding=1, groups=2, activation="relu"),
    "conv of integers": fastconv.conv2d(integers, integers[:, :2, :3, :3], stride=2, groups=2),
    "conv3d": fastconv.conv3d(volume, volume[:, :, :2, :3, :3], dilation=(1, 2, 1), padding=1),
    "phases": fastconv.conv_transpose2d(signals, weight, stride=2, groups=2),
    "joint": fastconv.conv_transpose2d(signals, signals.reshape(8, 7, 4, 4), stride=2, padding="same"),
    "values": values, "indices": indices, "unpooled": fastconv.max_unpool2d(values, indices, (3, 2), 1, (1, 0)),
    "avg": fastconv.avg_pool2d(x, 3, 2, 1, count_include_pad=False), "lp": fastconv.lp_pool2d(np.abs(x), 3.5, 3),
    "max3d": fastconv.max_pool3d(volume, 2), "adaptive": fastconv.adaptive_avg_pool2d(x, (3, 5)),
    "fold": fastconv.fold2d(fastconv.unfold2d(x, 3, padding=1), (7, 8), 3, padding=1),
    "corr": fastconv.corr2d(x[0, 0], weight[0, 0], 1.5), "signal": signal.convolve2d(x[0, 0], 1j * weight[0, 0]),
    "weight": grad.conv2d_weight(x, weight.shape, signals, padding=1, groups=2),
    "input": grad.conv2d_input(x.shape, weight, signals, padding=1, groups=2),
    "max gradient": grad.max_pool2d(x, small, 2), "avg gradient": grad.avg_pool2d(x, small, 2),
    "plan": fastconv.plan_conv2d(x.shape, weight, groups=2)(x),
}
sys.settrace(None)
for op, operands in {"conv2d": (x, weight[:, [0, 1, 0, 1]]), "max_pool2d": (x, 3)}.items():
    for algorithm in fastconv.algorithms(op):
        try:
            results[f"{op} {algorithm}"] = getattr(fastconv, op)(*operands, algorithm=algorithm)
        except ValueError as error:
            assert "cannot do this" in str(error)
        except RuntimeError as error:
            assert "NUMBA_DISABLE_JIT=1 runs Python only" in str(error)
np.savez(sys.argv[1], **results)
print(*stepped)
"""


def test_kernels_as_python(tmp_path: Path) -> None:
    """Every operation, and the algorithms whose instructions have definitions in Python, as compiled."""
    script = tmp_path / "operations.py"
    script.write_text(OPERATIONS)
    stepped, results = {}, {}
    python = {"NUMBA_DISABLE_JIT": 1, "FASTCONV_CACHE_DIR": tmp_path / "cache"}
    for name, environment in {"python": python, "compiled": {}}.items():
        file = tmp_path / f"{name}.npz"
        stepped[name] = set(run("-W", "error", script, file, NUMBA_NUM_THREADS=1, **environment).split())
        results[name] = dict(np.load(file))
    assert not (tmp_path / "cache").exists()  # nothing was compiled
    kernels = {"_naive_loops", "unroll", "_add", "_naive_pick", "_naive_sum", "_naive_weight", "_adaptive_average",
               "_scatter_max", "_scatter_avg", "_unpool_scatter", "_shuffle_exchange", "_shuffle_interleave"}
    assert kernels <= stepped["python"]
    assert not kernels & stepped["compiled"]
    refused = {"conv2d winograd", "max_pool2d running", "max_pool2d rows"}
    assert results["compiled"].keys() - results["python"].keys() == refused
    for label, result in results["python"].items():
        np.testing.assert_allclose(result, results["compiled"][label], rtol=1e-10, atol=1e-10, err_msg=label)


def test_what_has_no_python_says_so() -> None:
    code = """
import numpy as np
import fastconv
from fastconv.cpu.system.plain import PLAIN
assert PLAIN
for call in (lambda: fastconv.conv2d(np.ones((1, 4, 9, 9)), np.ones((8, 4, 3, 3)), algorithm="winograd"),
             lambda: fastconv.warmup("unfold2d")):
    try:
        call()
    except RuntimeError as error:
        print(error)
"""
    told = run_code(code, NUMBA_DISABLE_JIT=1).splitlines()
    assert len(told) == 2
    for line in told:
        assert "is machine code, and NUMBA_DISABLE_JIT=1 runs Python only: leave algorithm='auto'" in line


def test_ranges_of_kernels_are_those_of_python(tmp_path: Path) -> None:
    loops = "stop", "start, stop", "start, stop, step", "stop, start, -1", "stop, start, -3"
    code = "".join(f"    for i in range({each}):\n        out[n] = i\n        n += 1\n" for each in loops)
    script = tmp_path / "ranges.py"  # a kernel's code is in a file
    script.write_text(f"""
import numpy as np
from fastconv.cpu.system.kernels import compiled

def walk(start, stop, step, out):
    n = 0
{code}    return n

for start, stop, step in ((0, 7, 1), (-3, 9, 4), (5, 5, 2), (6, 2, 3)):
    outs = np.zeros((2, 99), np.int64)
    assert compiled(walk)(start, stop, step, outs[0]) == walk(start, stop, step, outs[1])
    assert (outs[0] == outs[1]).all(), outs
""")
    run("-W", "error", script, FASTCONV_CACHE_DIR=tmp_path)  # whose key does not tell this package


def test_a_kernel_has_one_parallel_loop() -> None:
    code = """
import numpy as np
from numba import prange
from fastconv.cpu.system.kernels import kernel

@kernel
def twice(out):
    for task in prange(out.size):
        out[task] = 1
    for task in prange(out.size):
        out[task] = 2

try:
    twice(np.zeros(1))
except TypeError as error:
    print(error)
"""
    assert "twice has 2 parallel loops, not one" in run_code(code)


# -- other processors ----------------------------------------------------------------------------------------

#: What Numba may be told to compile for besides this processor, by the width of its registers in bytes.
OTHERS = {16: {"NUMBA_CPU_NAME": "generic"}}
if platform.machine() in ("x86_64", "AMD64"):
    OTHERS[32] = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+sse4.2"}


@pytest.mark.parametrize("width", OTHERS)
def test_kernels_are_as_wide_as_the_processor_numba_compiles_for(width: int) -> None:
    """Wider ones, and instructions that it does not have, end the process."""
    code = f"""
import numpy as np
import fastconv
from fastconv.cpu.tiles import simd

rng = np.random.default_rng(0)
x, weight = rng.integers(0, 9, (1, 8, 12, 21)), rng.integers(0, 9, (8, 8, 3, 3))
expected = fastconv.conv2d(x, weight, algorithm="naive")
for dtype, algorithms in ((np.float32, ("direct", "image", "winograd")), (np.uint8, ("direct", "image"))):
    for algorithm in algorithms:
        result = fastconv.conv2d(x.astype(dtype), weight.astype(dtype), algorithm=algorithm)
        np.testing.assert_allclose(result, expected, rtol=1e-4)
np.testing.assert_array_equal(fastconv.max_pool2d(x.astype(np.float32), 3), fastconv.max_pool2d(x, 3))
x, weight = x.astype(np.float32), weight.astype(np.float32)
for kernels, options in ((weight, {{"stride": 2}}), (weight[:, :1], {{"stride": (2, 3), "groups": 8}})):
    expected = fastconv.conv_transpose2d(x, kernels, **options, algorithm="naive")
    np.testing.assert_allclose(fastconv.conv_transpose2d(x, kernels, **options), expected, rtol=1e-4)
assert simd.register_bytes() == {width}
"""
    run_code(code, **OTHERS[width])
