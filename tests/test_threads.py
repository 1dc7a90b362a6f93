"""Threads, Numba's and Python's, and forks: all at the same time, and every result as if it were alone."""

from __future__ import annotations

import os
import pickle
import platform
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from cases import threads, values
from hypothesis import given
from hypothesis import strategies as st
from processes import CALL, finish, run, run_code, start

import fastconv
from fastconv.cpu.system import memory
from fastconv.cpu.system.threads import in_threads

STRESS = Path(__file__).parent / "support" / "stress.py"

# -- at once, and forks --------------------------------------------------------------------------------------

#: tbb comes as a package for this architecture only.
LAYERS = ["omp", "workqueue", None, *(["tbb"] if platform.machine() == "x86_64" else [])]


@pytest.mark.parametrize("layer", LAYERS)
def test_threads_at_once_and_forks(layer: str | None) -> None:
    output = run(STRESS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=max(2, os.cpu_count() or 2))
    # Not the last word: tbb's own remarks on forks wait in C's buffer until the process ends.
    assert ({layer} if layer else {"tbb", "omp", "workqueue"}) & set(output.split())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be kept to a core")
def test_threads_at_once_and_forks_on_one_core() -> None:
    """Numba's tbb, which waits for its threads when Python ends, never ended here."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        process = start(STRESS, NUMBA_NUM_THREADS=2)
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


def test_a_fork_while_a_thread_throws_compiled_code_away() -> None:
    """It has llvmlite's lock, which a child would find held for ever."""
    code = """
        import os, signal, threading, time
        import fastconv, numba
        from llvmlite.binding import ffi

        numba.njit(lambda x: x + 1)(1)
        holds = threading.Event()

        def hold():
            with ffi.lib._lock:
                holds.set()
                time.sleep(0.3)

        threading.Thread(target=hold).start()
        holds.wait()
        child = os.fork()
        if not child:
            signal.alarm(20)
            os._exit(numba.njit(lambda x: x + 2)(1) != 3)
        assert os.waitpid(child, 0)[1] == 0
    """
    run_code(textwrap.dedent(code))


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

    in_threads(meet, 2)
    assert seen == {0, 1}
    in_threads(seen.add, 9)
    assert seen == set(range(9))

    def fail_in_a_helper(share: int) -> None:
        together.wait(60)
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_threads(fail_in_a_helper, 2)


def test_python_threads_in_a_forked_child() -> None:
    code = "import os, threading\nfrom fastconv.cpu.system.threads import in_threads\ntogether = threading.Barrier(2)\n"
    code += "work = lambda share: together.wait(60)\nin_threads(work, 2)\nchild = os.fork()\nin_threads(work, 2)\n"
    code += "if child: assert os.waitpid(child, 0)[1] == 0"
    run("-c", code)


# -- how many ------------------------------------------------------------------------------------------------

#: What eight threads of a server do, each within a context of its own or all within the same; four threads are Numba's.
SHARED = """
import sys, threading
import numba, numpy as np, fastconv
from fastconv.cpu.system import kernels
kernels.PARALLEL_OPERATIONS = 0
used, real = threading.local(), kernels.launch_on_threads
def launch(loops, threads, args):
    used.threads = threads
    real(loops, threads, args)
kernels.launch_on_threads = launch
x, weight = np.random.default_rng(0).standard_normal((8, 3, 40, 40), np.float32), np.ones((5, 3, 3, 3), np.float32)
expected = [fastconv.conv2d(image, weight, algorithm="naive") for image in x]
assert used.threads == fastconv.get_num_threads() == 4

one, two = fastconv.num_threads(1), fastconv.num_threads(2)
together, failed = threading.Barrier(8), []
def serve(number):
    try:
        assert fastconv.get_num_threads() == 4
        contexts = (one, 1), (two, 2), (fastconv.num_threads(3), 3), (fastconv.num_threads(10**6), 4)
        context, wanted = contexts[number % 4]
        together.wait()
        for _ in range(20):
            with context:
                assert fastconv.get_num_threads() == numba.get_num_threads() == wanted
                used.threads = 1
                result = fastconv.conv2d(x[number], weight, algorithm="naive")
                assert used.threads == wanted or sys.argv[1] == "workqueue", used.threads  # one at a time is parallel
                np.testing.assert_array_equal(result, expected[number])
        assert fastconv.get_num_threads() == 4
    except BaseException as error:
        failed.append(error)
with two:
    threads = [threading.Thread(target=serve, args=(number,)) for number in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert fastconv.get_num_threads() == 2
assert fastconv.get_num_threads() == 4
assert not failed, failed
print(numba.threading_layer())
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_threads_of_a_server_share_the_cores(layer: str | None) -> None:
    output = run("-c", SHARED, str(layer), NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=4)
    assert ({layer} if layer else {"tbb", "omp", "workqueue"}) & set(output.split())


def test_a_number_of_threads_for_a_while() -> None:
    """It nests, is given back after errors, and is of this thread; what limits the process counts, too."""
    with threads(None):
        most = fastconv.get_num_threads()
        one, many = fastconv.num_threads(1), fastconv.num_threads(np.int64(2**31 - 1))
        with one:
            assert fastconv.get_num_threads() == 1
            with many, many:
                assert fastconv.get_num_threads() == most
                with one:
                    with pytest.raises(ZeroDivisionError):
                        many(lambda: 1 // (most - fastconv.get_num_threads()))()
                    assert fastconv.get_num_threads() == 1
                assert fastconv.get_num_threads() == most
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(fastconv.get_num_threads).result() == most
                with pickle.loads(pickle.dumps(many)):
                    assert pool.submit(one(fastconv.get_num_threads)).result() == 1
            assert fastconv.get_num_threads() == 1
        assert one(fastconv.get_num_threads)() == 1
        fastconv.set_num_threads(1)
        try:
            with many:
                assert fastconv.get_num_threads() == 1
        finally:
            fastconv.set_num_threads(None)
        for bad in (0, -1, 2**70, 1.0, "1", True, None, (1,), float("nan")):
            with pytest.raises((ValueError, TypeError), match=r"^threads must be"):
                fastconv.num_threads(bad)
        assert fastconv.get_num_threads() == numba.get_num_threads() == most


# -- results -------------------------------------------------------------------------------------------------


def test_threads_change_nothing() -> None:
    x, weight = values((1, 16, 6, 20, 20), "float32"), values((16, 16, 2, 4, 4), "float32", 1)
    calls = [lambda: fastconv.conv3d(x, weight, padding=1), lambda: fastconv.max_pool3d(x, 2),
             lambda: fastconv.conv_transpose3d(x, weight, stride=2),
             lambda: fastconv.conv_transpose2d(x[0, :, :3, :4, 0], weight[..., 0, :, :], stride=2),
             lambda: fastconv.adaptive_avg_pool2d(x[0], 7),
             lambda: fastconv.unfold2d(x[0], 3),
             lambda: fastconv.fold2d(values((144, 324), "float32"), 20, 3)]  # fmt: skip
    for call in calls:
        with threads(1):
            alone = call()
        with threads(None):
            np.testing.assert_array_equal(call(), alone)


# -- scratch -------------------------------------------------------------------------------------------------


@given(calls=st.lists(st.tuples(st.integers(1, 3_000_000), st.sampled_from(["f4", "f8", "u1", "i8"])), max_size=12))
def test_scratch_is_as_large_as_asked_for_begins_at_cache_lines_and_lies_apart(calls: list[tuple[int, str]]) -> None:
    for size, code in calls:
        rows = memory.scratch_rows(size, np.dtype(code))
        assert rows.dtype == code
        assert rows.shape[0] == numba.get_num_threads()
        assert rows.shape[1] >= size + memory.GAP_BYTES // rows.itemsize
        assert rows.ctypes.data % 64 == rows.strides[0] % 64 == 0
        rows[:, :size] = 1


def test_panels_of_threads_lie_apart() -> None:
    for shape in ((9, 16), (4608, 32)):
        panels = memory.own_panels(shape, np.dtype(np.float32))
        assert panels.shape[0] == numba.get_num_threads()
        assert panels.strides[0] - panels.strides[1] >= memory.GAP_BYTES


def test_steps_keep_their_memory_until_it_must_grow() -> None:
    floats, doubles = np.dtype(np.float32), np.dtype(np.float64)
    first = memory.buffer("a step of a test", (4, 8), floats)
    assert memory.buffer("a step of a test", (4, 8), floats) is first
    assert np.shares_memory(memory.buffer("a step of a test", (16,), doubles), first)
    assert not np.shares_memory(memory.buffer("another step of a test", (4, 8), floats), first)
    larger = memory.buffer("a step of a test", (1000,), doubles)
    assert larger.ctypes.data % 64 == 0
    again = memory.buffer("a step of a test", (4, 8), floats)
    assert np.shares_memory(again, larger)
    assert not np.shares_memory(again, first)
    size = memory.KEPT_BYTES + 1
    one, two = (memory.buffer("a step of a test", (size,), np.dtype(np.uint8)) for _ in range(2))
    assert not np.shares_memory(one, two)
    assert memory.buffer("a step of a test", (4, 8), floats) is again


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


def test_sixteen_threads_use_all_that_is_kept_between_calls() -> None:
    """Plans, caches of recipes, scratch, choices: what threads share, and what each has, while others use theirs."""
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((2, 16, 20, 21), np.float32), rng.standard_normal((24, 16, 3, 3), np.float32)
    image, grad = rng.random((70, 90), np.float32), rng.standard_normal((2, 24, 20, 21), np.float32)
    pixels = (image * 255).astype(np.uint8)
    plan = fastconv.plan_conv2d(x.shape, weight, padding=1)
    calls = [
        lambda: plan(x),
        lambda: fastconv.conv2d(x, weight, padding=1, padding_mode="reflect"),
        lambda: fastconv.conv2d(x, weight, padding=1, algorithm="im2col"),
        lambda: fastconv.conv_transpose2d(grad, weight, stride=2),
        lambda: fastconv.grad.conv2d_weight(x, weight.shape, grad, padding=1),
        lambda: fastconv.grad.conv2d_input(x.shape, weight, grad, padding=1),
        lambda: fastconv.max_pool2d(x, 3, stride=2, return_indices=True)[1],
        lambda: fastconv.avg_pool2d(x, 5, stride=1),
        lambda: fastconv.corr2d(image, image[:9, :9]),
        lambda: fastconv.ndimage.gaussian_filter(image, 1.5),
        lambda: fastconv.ndimage.median_filter(pixels, 5),
        lambda: fastconv.ndimage.grey_opening(pixels, 7),
        lambda: fastconv.signal.convolve2d(image, image[:4, :5], mode="same"),
    ]
    alone = [call() for call in calls]

    def work(seed: int) -> bool:
        order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(calls)), 5))
        return all(np.array_equal(calls[number](), alone[number]) for number in order)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))
