"""Processes that run works in parallel: compiling holds a lock, so threads of one process would wait for each other.

They are started as ``python -c``, not by `multiprocessing`, which imports the user's main module in each process: a
script without ``if __name__ == "__main__"`` would begin again there, and one from standard input cannot be imported.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Work(NamedTuple):
    """A problem, the function that runs it, and an algorithm, which may be "auto"."""

    run: Callable[[Any, str], None]
    spec: Any
    algorithm: str = "auto"


#: Works that compile the same code: a family of operations, an algorithm and a dtype. Units without an algorithm use
#: kernels of units with one.
Unit = tuple[str, str, str]


def told(unit: Unit) -> str:
    """A unit as text."""
    return " ".join(filter(None, unit))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


#: A runner runs the works of each unit. It yields each unit that is done, with the names of the files that were written
#: to the cache for it.
Done = tuple[Unit, set[str]]
Runner = Callable[[dict[Unit, list[Work]]], Iterator[Done]]


@contextmanager
def team(count: int, threads: int) -> Iterator[Runner]:
    """Start `count` processes whose kernels use `threads` threads; the context's value runs works in them.

    Where no process can be started, the works run in this one. It is not used otherwise, as it may have kernels in
    memory that the cache lacks, because it used another cache before, or the cache has been cleared.
    """
    if count == 0 or not _can_start():
        from ..cpu.system import notice

        with notice.silenced():
            yield _here
        return
    # Late, here and below: `import fastconv` does not need them.
    from concurrent.futures import ThreadPoolExecutor, as_completed
    from queue import SimpleQueue

    idle: SimpleQueue[_Process] = SimpleQueue()
    processes: list[_Process] = []

    def one(unit: Unit, works: list[Work]) -> Done:
        process = idle.get()
        try:
            return unit, process.run(unit, works)
        finally:
            idle.put(process)

    def together(units: dict[Unit, list[Work]]) -> Iterator[Done]:
        longest_first = sorted(units.items(), key=lambda item: -len(item[1]))
        for done in as_completed([pool.submit(one, *item) for item in longest_first]):
            yield done.result()

    pool = ThreadPoolExecutor(count)
    try:
        for _ in range(count):
            processes.append(_Process(threads))
            idle.put(processes[-1])
        yield together
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.end()


def _can_start() -> bool:
    return bool(sys.executable) and not getattr(sys, "frozen", False)


@contextmanager
def meanwhile(units: dict[Unit, list[Work]], threads: int) -> Iterator[None]:
    """Run works in another process while this one runs the context's body, and wait for them at the end.

    The works only fill the cache, so a failure is not reported: this process will meet it, too. Nothing is started if
    there is no second core.
    """
    if cores() < 2 or not _can_start():
        yield
        return
    from concurrent.futures import ThreadPoolExecutor, wait

    with team(1, threads) as run:
        pool = ThreadPoolExecutor(1)
        done = pool.submit(lambda: list(run(units)))
        pool.shutdown(wait=False)
        yield
        wait([done])


def _here(units: dict[Unit, list[Work]]) -> Iterator[Done]:
    from ..cpu.system import disk_cache

    for unit, works in units.items():
        before = set(disk_cache.saved)
        _run(works)
        yield unit, disk_cache.saved - before


def _run(works: Iterable[Work]) -> None:
    for run, spec, algorithm in works:
        run(spec, algorithm)


class _Process:
    """Another process, which runs works and answers when they are done."""

    def __init__(self, threads: int) -> None:
        import subprocess

        begin = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from fastconv.warming import team; "
        # NumPy's matrix products are small here, but would start a thread for each core in each process.
        settings = {"NUMBA_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1", "FASTCONV_QUIET": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", begin + "team._serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | settings,
        )  # fmt: skip
        self._send(sys.path)

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def run(self, unit: Unit, works: list[Work]) -> set[str]:
        """Wait until works are done; returns the names of written files, or raises RuntimeError if one fails."""
        assert self._process.stdout is not None
        try:
            self._send(works)
            answer = pickle.load(self._process.stdout)
        except (EOFError, OSError):
            answer = f"the process ended, with exit status {self._process.wait()}"
        if isinstance(answer, str):
            raise RuntimeError(f"{told(unit)} cannot be compiled: {answer}")
        return answer

    def end(self) -> None:
        """End the process, whatever it is doing: a file of the cache is whole or absent."""
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    """Main function of a `_Process`: run works as they come from standard input, until it ends."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    from ..cpu import machine
    from ..cpu.system import disk_cache

    _ = machine.this_machine(1).peak  # measured here, as the planner of a new process needs it
    while True:
        try:
            works = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: set[str] | str
        try:
            _run(works)
            answer = disk_cache.saved
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers)
        answers.flush()
