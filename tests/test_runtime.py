"""Threads, forks and the cache of compiled kernels, each in processes of their own."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv.cpu import machine
from fastconv.cpu.system import memory, threads

PACKAGE, TESTS = Path(fastconv.__file__).parent, Path(__file__).parent
#: One naive convolution, checked, with one thread so that one build of one kernel is all it needs.
CALL = """
import os
import platform
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
                            stderr=subprocess.STDOUT, cwd=package.parent)


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


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """When the files of a folder were written, and how long they are."""
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.stat().st_size)
            for file in folder.rglob("*") if file.is_file()}


# -- threads and forks ---------------------------------------------------------------------------------------


#: tbb comes as a package for this architecture only.
LAYERS = ["omp", "workqueue", None, *(["tbb"] if platform.machine() == "x86_64" else [])]


@pytest.mark.parametrize("layer", LAYERS)
def test_threads_at_once_and_forks(layer: str | None) -> None:
    output = run(TESTS / "stress.py", NUMBA_THREADING_LAYER=layer,
                 NUMBA_NUM_THREADS=max(2, os.cpu_count() or 2))
    # Not the last word: tbb's own remarks on forks wait in C's buffer until the process ends.
    assert ({layer} if layer else {"tbb", "omp", "workqueue"}) & set(output.split())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be kept to a core")
def test_threads_at_once_and_forks_on_one_core() -> None:
    """Numba's tbb, which waits for its threads when Python ends, never ended here."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        process = start(TESTS / "stress.py", NUMBA_NUM_THREADS=2)
    finally:
        os.sched_setaffinity(0, cores)
    finish(process)


def test_a_fork_before_the_first_call() -> None:
    run_code("import os, fastconv\nchild = os.fork()\n" + CALL + "\nif child: assert os.waitpid(child, 0)[1] == 0")


def test_a_fork_while_a_thread_that_compiles_logs() -> None:
    code = """
import fastconv
import logging, os, threading, time
from numba.core.compiler_lock import global_compiler_lock
begun = threading.Event()
def compile():
    with global_compiler_lock:
        begun.set()
        time.sleep(0.3)
        logging.getLogger("of a module that is imported meanwhile")
thread = threading.Thread(target=compile, daemon=True)
thread.start()
begun.wait()
child = os.fork()
if not child:
    with global_compiler_lock:
        logging.getLogger("here, too")
        os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
"""
    finish(start("-c", code), 30)


def test_first_calls_of_several_threads_load_the_kernels() -> None:
    code = """
import threading
import numpy as np
import fastconv
x, weight, at = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 2, 2), np.float32), np.arange(4).reshape(1, 1, 2, 2)
calls = (lambda: fastconv.unfold2d(x, 2), lambda: fastconv.max_unpool2d(weight, at, 2),
         lambda: fastconv.conv2d(x, weight), lambda: fastconv.conv_transpose2d(x, weight),
         lambda: fastconv.plan_conv_transpose2d(x.shape, weight), fastconv.wisdom.export_wisdom)
start, failed = threading.Barrier(len(calls)), []
def first(call):
    start.wait()
    try:
        call()
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=first, args=(call,)) for call in calls]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed
"""
    run_code(code)


def test_python_threads_share_work() -> None:
    """Two shares that wait for each other are done at once, and what fails in a helper is raised."""
    together, seen = threading.Barrier(2), set()

    def meet(share: int) -> None:
        together.wait(60)
        seen.add(share)

    threads.in_threads(meet, 2)
    assert seen == {0, 1}
    threads.in_threads(seen.add, 9)
    assert seen == set(range(9))

    def fail_in_a_helper(share: int) -> None:
        together.wait(60)
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.in_threads(fail_in_a_helper, 2)


def test_python_threads_in_a_forked_child() -> None:
    code = "import os, threading\nfrom fastconv.cpu.system.threads import in_threads\ntogether = threading.Barrier(2)\n"
    code += "work = lambda share: together.wait(60)\nin_threads(work, 2)\nchild = os.fork()\nin_threads(work, 2)\n"
    code += "if child: assert os.waitpid(child, 0)[1] == 0"
    run("-c", code)


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
    kernels = {"_naive_loops", "unroll", "_add", "_naive_max", "_naive_sum", "_naive_weight", "_adaptive_average",
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


# -- scratch and rates ---------------------------------------------------------------------------------------


@given(calls=st.lists(st.tuples(st.integers(1, 3_000_000), st.sampled_from(["f4", "f8", "u1", "i8"])), max_size=12))
def test_scratch_is_as_large_as_asked_for_and_begins_at_cache_lines(calls: list[tuple[int, str]]) -> None:
    for size, code in calls:
        rows = memory.scratch_rows(size, np.dtype(code))
        assert rows.dtype == code
        assert rows.shape[0] == numba.get_num_threads()
        assert rows.shape[1] >= size
        assert rows.ctypes.data % 64 == rows.strides[0] % 64 == 0
        rows[:, :size] = 1


def test_threads_do_not_share_scratch() -> None:
    def fill(number: int) -> bool:
        for _ in range(50):
            rows = memory.scratch_rows(1000, np.dtype(np.int64))
            rows[:] = number
            time.sleep(1e-4)
            if not (rows == number).all():
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(fill, range(8)))


def test_the_ceiling_of_one_thread_does_not_count_while_it_waits() -> None:
    """On a busy machine another program's turns are waiting, too."""
    assert machine._least_seconds(lambda: time.sleep(0.01), 1) < 0.005


def test_the_peak_is_measured_once_and_damage_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cache_folder", lambda: tmp_path / "cache")
    measure, measured = machine.fma_ceiling, []
    monkeypatch.setattr(machine, "fma_ceiling", lambda *args: measured.append(args) or measure(*args))

    def peak() -> float:
        machine._peak.cache_clear()
        return machine._peak()

    try:
        first = peak()
        assert 1e8 < first < 1e13
        assert peak() == first
        assert len(measured) == 1
        (file,) = (tmp_path / "cache").iterdir()
        for damage in (b"", b"nan", b"1", b"\xff", b"-1e11"):
            file.write_bytes(damage)
            assert 1e8 < peak() < 1e13
        assert len(measured) == 6
    finally:
        machine._peak.cache_clear()
