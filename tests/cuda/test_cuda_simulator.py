"""The simulator's threads take turns: what barriers promise, and that a missing one is found."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numba import cuda
from small import SIMULATED

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not SIMULATED, reason="of the simulator")]

if SIMULATED:
    from fastconv.cuda.system.simulator import launch

THREADS = 64


def turned(out, places, barrier):
    """Each thread reads what the opposite one writes."""
    shared = cuda.shared.array(THREADS, np.int64)
    i = cuda.threadIdx.x
    for step in range(places):
        shared[i] = 100 * step + i
        if barrier:
            cuda.syncthreads()
        out[cuda.blockIdx.x, step, i] = shared[THREADS - 1 - i]
        if barrier:
            cuda.syncthreads()


def run(barrier: bool) -> np.ndarray:
    out = np.full((3, 4, THREADS), -1)
    launch(turned, (3, 1, 1), (THREADS, 1, 1), 0, (out, 4, barrier))
    return out


def test_barriers() -> None:
    expected = 100 * np.arange(4)[:, None] + np.arange(THREADS)[::-1]
    np.testing.assert_array_equal(run(True), np.broadcast_to(expected, (3, 4, THREADS)))


def test_a_missing_barrier_is_found_on_every_run() -> None:
    result = run(False)
    assert (result != run(True)).any()
    np.testing.assert_array_equal(result[:, 3], run(False)[:, 3])


def test_either_of_two_threads_may_be_the_first() -> None:
    def note(order):
        for step in range(8):
            order[step].append(cuda.threadIdx.x)
            cuda.syncthreads()

    order: list[list[int]] = [[] for _ in range(8)]
    launch(note, (1, 1, 1), (2, 1, 1), 0, (order,))
    assert set(map(tuple, order)) == {(0, 1), (1, 0)}


def test_threads_that_have_ended_are_not_waited_for() -> None:
    def ending(out):
        i = cuda.threadIdx.x + cuda.blockDim.x * (cuda.threadIdx.y + cuda.blockDim.y * cuda.threadIdx.z)
        for _ in range(i % 3):
            cuda.syncthreads()
        out[i] += 1

    out = np.zeros(24, np.int64)
    launch(ending, (2, 1, 1), (4, 3, 2), 0, (out,))
    assert (out == 2).all()


def test_a_failure_ends_the_block_and_leaves_no_thread_behind() -> None:
    def failing(ended):
        try:
            cuda.syncthreads()
            if cuda.threadIdx.x == 5:
                raise ZeroDivisionError
            cuda.syncthreads()
        finally:
            ended.append(cuda.threadIdx.x)

    ended: list[int] = []
    with pytest.raises(ZeroDivisionError) as caught:
        launch(failing, (7, 1, 1), (THREADS, 1, 1), 0, (ended,))
    assert caught.value.__notes__ == ["in thread (5, 0, 0) of block (0, 0, 0)"]
    assert sorted(ended) == list(range(THREADS))
    test_barriers()


def test_threads_of_python_are_used_again() -> None:
    run(True)
    before = threading.active_count()
    run(True)
    assert threading.active_count() == before
