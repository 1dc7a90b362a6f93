"""Threads at once, and forks: run by test_threads in a process of its own, for each of Numba's threading layers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np
import reference
from cases import POOL, example, threads

import fastconv

Job = Callable[[], bool]


def jobs() -> list[Job]:
    """Calls of every algorithm, each telling whether its result is right."""
    result: list[Job] = []
    for algorithm in fastconv.algorithms("conv2d"):
        case = example(algorithm)
        arrays = case.arrays("float32")
        expected, scale = reference.conv2d(*arrays, **case.options)
        call = partial(fastconv.conv2d, *arrays, **case.options, algorithm=algorithm)
        result.append(partial(close, call, expected, reference.TOLERANCE[arrays[0].dtype] * scale))
    x = POOL[0].array("float32")
    window = 1, x.shape[-1]  # every algorithm does windows one row high and as wide as the image
    maxima, mean = reference.max_pool2d(x, window)[0], reference.avg_pool2d(x, window)[0]
    for algorithm in fastconv.algorithms("max_pool2d"):
        result.append(partial(close, partial(fastconv.max_pool2d, x, window, algorithm=algorithm), maxima, 0))
    for algorithm in fastconv.algorithms("avg_pool2d"):
        result.append(partial(close, partial(fastconv.avg_pool2d, x, window, algorithm=algorithm), mean, 1e-5))
    return result


def close(call: Callable[[], np.ndarray], expected: np.ndarray, limit: float) -> bool:
    return bool((np.abs(call() - expected) <= limit).all())


def right(work: list[Job], first: int = 0, rounds: int = 1) -> bool:
    """Run all jobs, beginning with one of them."""
    return all(job() for _ in range(rounds) for job in work[first:] + work[:first])


def at_once(work: list[Job]) -> None:
    """Eight threads at the same time, each in another job."""
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda thread: right(work, thread % len(work), rounds=10), range(8)))


def forked(check: Callable[[], bool]) -> None:
    """A forked child does the check, and lives to tell."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that waits for a lock nobody holds
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"child ended with status {status}"


def grandchild(work: list[Job]) -> bool:
    forked(partial(right, work))
    return right(work)


def compile_something(number: int) -> bool:
    return numba.njit(lambda x: x + number)(1) == number + 1


def fork_while_busy(work: list[Job]) -> None:
    stop = threading.Event()

    def keep(busy: Callable[[], object]) -> None:
        while not stop.is_set():
            busy()

    counter = iter(range(10**9))
    busy = [partial(right, work), partial(right, work, 1), lambda: compile_something(next(counter))]
    started = [threading.Thread(target=keep, args=(each,)) for each in busy]
    for thread in started:
        thread.start()
    try:
        for _ in range(10):
            forked(partial(right, work))
            forked(partial(compile_something, 1))
    finally:
        stop.set()
        for thread in started:
            thread.join()


def main() -> None:
    work = jobs()
    with threads(1):
        assert right(work)  # on one thread, too, as in a child
    assert right(work)
    at_once(work)
    forked(partial(right, work))
    forked(lambda: at_once(work) is None)
    forked(partial(grandchild, work))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(partial(right, work), range(4)))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(forked, partial(right, work)).result()
    fork_while_busy(work)
    at_once(work)
    from fastconv.cpu.system.threads import threading_layer

    print(threading_layer())


if __name__ == "__main__":
    with threads(None):
        main()
