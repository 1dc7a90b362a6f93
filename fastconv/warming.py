"""Compiling kernels in advance, on all cores, so that later processes find them in the cache.

A kernel is compiled when it first runs. So what is to be ready runs here once, on arrays of no consequence: of an
operation every algorithm of its table, on the problems below, which are small and between them meet the common register
tiles; of a spec or a plan what the planner picks for it.

Works that compile the same code are one unit: a family of operations (convolutions of signals, images and volumes are
one), an algorithm and a dtype. Units are handed out to as many processes as there are cores. These are started as
``python -c``, and not by `multiprocessing`, which imports the user's main module in each of them: a script without
``if __name__ == "__main__"`` would begin again there, and one from the standard input cannot be imported at all.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from . import _files, backward, grad
from .adaptive import adaptive_avg_pool2d, adaptive_max_pool2d, max_unpool2d
from .checks import check_dtype, flag
from .choice import FILTERS, algorithms, candidates, choose, get_num_threads, name, operation, operations
from .plan import Plan, recipe
from .pool_spec import PoolSpec, adaptive_spec, pool_spec
from .spec import ConvSpec, conv_spec
from .transposed import TransposedPlan, transposed_recipe
from .unfold import fold2d, unfold2d
from .unfold_spec import columns_shape

__all__ = ["warmup"]

# -- problems ------------------------------------------------------------------------------------------------

#: A problem: the shapes of x and weight, and options.
Problem = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]

#: Convolutions of every kind that is compiled apart, as layers of networks have them.
LAYERS: tuple[Problem, ...] = (
    # 1x1
    ((1, 64, 28, 28), (64, 64, 1, 1), {}),
    ((1, 256, 7, 7), (512, 256, 1, 1), {}),
    ((1, 64, 28, 28), (128, 64, 1, 1), {"stride": 2}),
    ((1, 256, 14, 14), (512, 256, 1, 1), {"stride": 2}),
    # 3x3 and other sizes
    ((1, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
    ((1, 64, 7, 7), (64, 64, 3, 3), {"padding": 1}),
    ((1, 64, 28, 28), (16, 64, 3, 3), {"padding": 1}),
    ((1, 64, 28, 28), (64, 64, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 64, 28, 28), (64, 64, 2, 2), {}),
    ((1, 48, 28, 28), (64, 48, 5, 5), {"padding": 2}),
    ((1, 64, 17, 17), (64, 64, 1, 7), {"padding": (0, 3)}),
    ((1, 64, 17, 17), (64, 64, 7, 1), {"padding": (3, 0)}),
    # the first ones, and fully connected ones
    ((1, 3, 64, 64), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 3, 96, 96), (8, 3, 3, 3), {"padding": 1}),
    ((1, 64, 7, 7), (64, 64, 7, 7), {}),
    ((4, 64, 7, 7), (64, 64, 7, 7), {}),
    # depthwise
    *(((1, 64, size, size), (64, 1, 3, 3), {"groups": 64, "padding": 1}) for size in (56, 28, 14, 7)),
    *(((1, 64, size, size), (64, 1, 3, 3), {"groups": 64, "padding": 1, "stride": 2}) for size in (112, 28, 14)),
    ((1, 64, 28, 28), (64, 1, 5, 5), {"groups": 64, "padding": 2}),
    ((1, 64, 56, 56), (64, 1, 7, 7), {"groups": 64, "padding": 3}),
    # of signals and volumes
    ((1, 64, 1000), (64, 64, 3), {"padding": 1}),
    ((1, 64, 1000), (64, 64, 3), {"padding": 1, "stride": 2}),
    ((1, 64, 1000), (64, 64, 2), {"dilation": 4}),
    ((1, 64, 1000), (128, 64, 1), {}),
    ((1, 64, 1000), (64, 1, 3), {"groups": 64, "padding": 1}),
    ((1, 16, 8, 28, 28), (16, 16, 3, 3, 3), {"padding": 1}),
    ((1, 16, 8, 28, 28), (16, 16, 3, 1, 1), {"padding": (1, 0, 0)}),
    ((1, 16, 8, 28, 28), (32, 16, 1, 1, 1), {}),
    ((1, 16, 8, 28, 28), (16, 1, 3, 3, 3), {"groups": 16, "padding": 1}),
)
#: Image filters, for which there are algorithms of their own.
IMAGES: tuple[Problem, ...] = (
    *(((1, 1, 512, 512), (1, 1, size, size), {}) for size in (3, 5, 7, 9, 31)),
    *(((1, 1, 512, 512), (1, 1, *size), {}) for size in ((1, 31), (31, 1))),
    ((1, 1, 160, 160), (1, 1, 11, 11), {}),
)
#: Transposed convolutions: shapes of the result and of the weight, and options of the convolution that is transposed.
TRANSPOSED: tuple[Problem, ...] = (
    ((1, 32, 64, 64), (64, 32, 2, 2), {"stride": 2}),
    ((1, 32, 32, 32), (64, 32, 4, 4), {"stride": 2, "padding": 1}),
    ((1, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
    ((1, 64, 56, 56), (64, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 64}),
    ((4, 64, 4, 4), (100, 64, 4, 4), {}),
    ((1, 64, 1024), (128, 64, 16), {"stride": 8, "padding": 4}),
    ((1, 16, 16, 16, 16), (32, 16, 2, 2, 2), {"stride": 2}),
)
#: Poolings: windows and options, the same along each axis.
POOLINGS: tuple[tuple[int, dict[str, Any]], ...] = (
    (2, {}),
    (3, {"stride": 2, "padding": 1}),
    (3, {"stride": 1, "dilation": 2}),
    (13, {"stride": 1}),
    (32, {}),
)
#: Their input: images and channels, and the size along each axis.
POOLED, POOLED_SIZE = (2, 4), 32
#: Adaptive poolings make so many outputs along each axis of it.
ADAPTIVE = (1, 7)
#: An algorithm runs those problems for which it is estimated to take at most so many times the fastest's time, or if
#: there are none, the one for which it takes the least: nobody waits for code that the planner never picks.
NEAR = 3.0


def _convolutions(problems: Iterable[Problem], axes: int, dtype: np.dtype) -> list[ConvSpec]:
    return [conv_spec(x_shape, weight_shape, (dtype,), axes=axes, **options)
            for x_shape, weight_shape, options in problems if len(x_shape) == axes + 2]


def _poolings(op: str, axes: int, dtype: np.dtype) -> list[PoolSpec]:
    shape, norm = POOLED + (POOLED_SIZE,) * axes, 2.0 if op == "lp" else 1.0
    return [pool_spec(op, shape, dtype, window, axes=axes, norm_type=norm, **options) for window, options in POOLINGS]


# -- running one ---------------------------------------------------------------------------------------------


def _weights(spec: ConvSpec) -> np.ndarray:
    """Weights that are an outer product and no integers, so that all code that looks for factors runs."""
    return np.full(spec.weight_shape, 0.5).astype(spec.dtype)


def _plan(spec: ConvSpec, algorithm: str, once: bool = False) -> None:
    this, x, weight = recipe(spec, algorithm, once), np.zeros(spec.x_shape, spec.dtype), _weights(spec)
    operands = this.pack(weight, None)
    this.run(x, operands, None, ())
    if operands[0] is not this.module:  # other weights will not suit an algorithm for special ones
        this = recipe(spec, name(this.module), once)
        this.run(x, this.pack(weight, None), None, ())


#: A plain call, which packs weights in another way than a plan.
_call = partial(_plan, once=True)


def _weight_gradient(spec: ConvSpec, algorithm: str) -> None:
    x, grad = np.zeros(spec.x_shape, spec.dtype), np.zeros(spec.output_shape, spec.dtype)
    backward.weight_recipe(spec, algorithm).run(x, grad, None)


def _transposed_plan(spec: ConvSpec, algorithm: str) -> None:
    TransposedPlan(spec, _weights(spec), None, algorithm)(np.zeros(spec.output_shape, spec.dtype))


def _transposed_call(spec: ConvSpec, algorithm: str) -> None:
    transposed_recipe(spec, algorithm).run(_weights(spec), np.zeros(spec.output_shape, spec.dtype), None, None)


def _pool(spec: PoolSpec, algorithm: str) -> None:
    x = _pooled(spec)
    for indices in (False, True)[: 1 + (spec.op == "max")]:
        if not spec.adaptive:
            recipe(spec, algorithm).run(x, indices, None)
        elif spec.op == "max":
            adaptive_max_pool2d(x, (spec.oh, spec.ow), return_indices=indices)
        else:
            adaptive_avg_pool2d(x, (spec.oh, spec.ow))


def _pool_gradient(spec: PoolSpec, _: str) -> None:
    backward.pool2d(spec, _pooled(spec), np.zeros(spec.output_shape, spec.dtype), None)


def _unpool(spec: PoolSpec, _: str) -> None:
    x = np.zeros(spec.output_shape, spec.dtype)
    max_unpool2d(x, x.astype(np.int64), (spec.kh, spec.kw))


def _pooled(spec: PoolSpec) -> np.ndarray:
    return np.zeros((*spec.lead, *(spec.depth.d, spec.h, spec.w)[3 - spec.axes :]), spec.dtype)


def _unfold(spec: ConvSpec, _: str) -> None:
    unfold2d(np.zeros(spec.x_shape, spec.dtype), (spec.kh, spec.kw), stride=spec.stride, padding=spec.padding)


def _fold(spec: ConvSpec, _: str) -> None:
    columns, size, kernel = np.zeros(columns_shape(spec), spec.dtype), (spec.h, spec.w), (spec.kh, spec.kw)
    fold2d(columns, size, kernel, stride=spec.stride, padding=spec.padding)


# -- what there is to do -------------------------------------------------------------------------------------


class Work(NamedTuple):
    """A problem, the function above that runs it, and an algorithm, which may be "auto"."""

    run: Callable[[Any, str], None]
    spec: Any
    algorithm: str = "auto"


#: What compiles the same code: a family of operations, an algorithm and a dtype. Those without an algorithm have no
#: table, and use kernels of those with one.
Unit = tuple[str, str, str]
Works = Iterator[tuple[Unit, Work]]


def _unit(family: str, algorithm: str, spec: ConvSpec | PoolSpec) -> Unit:
    return family, algorithm, str(spec.x_dtype)


def _of_table(op: str, axes: int, dtype: np.dtype) -> Works:
    """Every algorithm of an operation on the problems that it is good at; the operation's gradient, if it has one."""
    kind, _, other = _family(op).partition("_")
    if other == "pool":
        specs = _poolings(kind, axes, dtype)
        yield from _near(op, specs, _pool)
        if op in grad.__all__:
            yield _unit(f"{op} gradient", "", specs[0]), Work(_pool_gradient, specs[0])
    elif other == "weight":
        yield from _near(op, _convolutions(LAYERS, axes, dtype), _weight_gradient)
    else:
        yield from _near(op, _convolutions(LAYERS, axes, dtype), _plan, _call)
        yield from _near(op, _convolutions(IMAGES, axes, dtype), _plan, _call, special=True)


def _family(op: str) -> str:
    """An operation's name without the number of its axes."""
    return re.sub(r"\dd", "", op)


def _near(op: str, specs: Sequence[Any], *runs: Callable[[Any, str], None], special: bool = False) -> Works:
    """Each algorithm runs those of the problems for which `NEAR` allows it; those for special weights, which layers do
    not have, take part only if that is said."""
    kinds = (False, True) if special else (False,)
    every = [dict(chain.from_iterable(candidates(spec, op=op, special=kind).items() for kind in kinds))
             for spec in specs]  # fmt: skip
    for label in algorithms(op):
        times = {spec: costs[label] / min(costs.values())
                 for spec, costs in zip(specs, every, strict=True) if label in costs}  # fmt: skip
        most = max(NEAR, min(times.values(), default=0.0))
        for spec in (spec for spec, time in times.items() if time <= most):
            yield from ((_unit(_family(op), label, spec), Work(run, spec, label)) for run in runs)


def _of_images(op: str, axes: int, dtype: np.dtype) -> Works:
    """Image filters run by those algorithms of `conv2d`'s table that `corr2d` and `fastconv.signal` use."""
    works = _near("conv2d", _convolutions(IMAGES, axes, dtype), _plan, _call, special=True)
    return (found for found in works if found[1].algorithm in (*FILTERS, "row"))


def _of_transposed(op: str, axes: int, dtype: np.dtype) -> Works:
    for spec in _convolutions(TRANSPOSED, axes, dtype):
        yield from _of_transposed_spec(spec)


def _of_adaptive(op: str, axes: int, dtype: np.dtype) -> Works:
    for size in ADAPTIVE:
        yield from _of_spec(adaptive_spec(op.split("_")[1], POOLED + (POOLED_SIZE,) * axes, dtype, size))


def _of_unpool(op: str, axes: int, dtype: np.dtype) -> Works:
    spec = _poolings("max", axes, dtype)[0]
    yield _unit(op, "", spec), Work(_unpool, spec)


def _of_windows(op: str, axes: int, dtype: np.dtype) -> Works:
    spec = conv_spec(POOLED + (POOLED_SIZE,) * axes, (1, POOLED[1], 3, 3), (dtype,), padding=1)
    yield _unit(op, "", spec), Work(_unfold if op == "unfold2d" else _fold, spec)


#: The operations that have no table, or only a part of one.
BESIDES: dict[str, Callable[[str, int, np.dtype], Works]] = {
    "corr2d": _of_images,
    "correlate2d": _of_images,
    "convolve2d": _of_images,
    "conv_transpose2d": _of_transposed,
    "conv_transpose1d": _of_transposed,
    "conv_transpose3d": _of_transposed,
    "conv2d_input": _of_transposed,
    "adaptive_avg_pool2d": _of_adaptive,
    "adaptive_max_pool2d": _of_adaptive,
    "max_unpool2d": _of_unpool,
    "unfold2d": _of_windows,
    "fold2d": _of_windows,
}


def names() -> tuple[str, ...]:
    """Names of the operations whose kernels can be compiled in advance."""
    return (*operations(), *BESIDES)


def _of_operation(op: str, dtype: np.dtype) -> Works:
    return BESIDES.get(op, _of_table)(op, int(re.findall(r"(\d)d", op)[0]), dtype)


def _of_spec(spec: ConvSpec | PoolSpec) -> Works:
    """The planner picks, for a plan and for a plain call, which packs the weights each time."""
    if isinstance(spec, PoolSpec) and spec.adaptive:
        yield _unit(f"adaptive_{spec.op}_pool", "", spec), Work(_pool, spec)
        return
    for run, once in (((_plan, False), (_call, True)) if isinstance(spec, ConvSpec) else ((_pool, False),)):
        op = operation(spec)
        module, _ = choose(op, spec, "auto", "cpu", once=once)
        yield _unit(_family(op), name(module), spec), Work(run, spec)


def _of_transposed_spec(spec: ConvSpec) -> Works:
    for run in (_transposed_plan, _transposed_call):
        yield _unit("conv_transpose", "", spec), Work(run, spec)


def stages(problems: Iterable[Any], dtypes: Sequence[np.dtype]) -> list[dict[Unit, list[Work]]]:
    """The works of all units: first those of algorithms, then those that find most of their kernels compiled."""
    found: list[dict[Unit, list[Work]]] = [{}, {}]
    for problem in problems:
        works: Works
        if isinstance(problem, str):
            works = chain.from_iterable(_of_operation(problem, dtype) for dtype in dtypes)
        elif isinstance(problem, TransposedPlan | _Transposed):
            works = _of_transposed_spec(problem.spec)
        else:
            works = _of_spec(problem.spec if isinstance(problem, Plan) else problem)
        for unit, work in works:
            several = found[not unit[1]].setdefault(unit, [])
            if work not in several:
                several.append(work)
    return [units for units in found if units]


# -- doing it ------------------------------------------------------------------------------------------------


def warmup(problems: Any = None, *, dtypes: Any = ("float32",), progress: bool = False) -> int:
    """Compile kernels in advance, on all cores, so that later processes find them in the cache.

    Parameters
    ----------
    problems : str, spec or plan, or an iterable of them, optional
        What is to be ready: operations by name, as "conv2d" or "max_pool3d", by all their algorithms for common sizes
        of problems; or single problems, by just the algorithms that ``algorithm="auto"`` picks for a plan and for a
        plain call: plans, also of transposed convolutions, and specs of convolutions and poolings. By default all
        operations.
    dtypes : dtype, or an iterable of them
        For which dtypes of arrays operations are compiled. (A problem has its own.)
    progress : bool
        Whether to show a bar. It needs the extra ``fastconv[cli]``.

    Returns
    -------
    int
        How many kernels it put into the cache; 0 if all were there.

    Raises
    ------
    ValueError, TypeError
        If an operation is unknown, or anything is none of the above. Nothing is compiled then.
    PermissionError
        If nothing can be written to the cache; the message says why.
    ImportError
        If there is to be a bar, but rich is missing.
    RuntimeError
        If a problem fails, as for lack of memory.

    Notes
    -----
    Each problem runs on arrays of its size. There is a process for each core, but no more than there is work for; where
    one is enough, or Python's interpreter is not to be found, it is this one.

    A pooling's name covers its gradient and `return_indices`; "conv2d_input" and "conv2d_weight" are the gradients of
    `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> plan = fastconv.plan_conv2d((1, 8, 12, 12), np.ones((4, 8, 3, 3), np.float32))
    >>> new = fastconv.warmup(["unfold2d", plan])
    >>> fastconv.warmup(["unfold2d", plan])
    0
    """
    wanted, kinds, bar = _problems_of(problems), _dtypes(dtypes), _bar if flag("progress", progress) else _no_bar
    _files.limit()  # ValueError if it is none
    folder = _files.cache_folder()
    if problem := _files.problem(folder):
        raise PermissionError(f"kernels would be compiled for nothing: {folder} is {problem}")
    new: set[str] = set()
    todo = stages(wanted, kinds)
    # The planner may follow what was measured on as many threads as there are here.
    threads = 1 if all(isinstance(one, str) for one in wanted) else get_num_threads()
    processes = min(_cores(), max(map(len, todo), default=0))
    with bar(sum(map(len, todo))) as advance, _team(processes, threads) as run:
        for unit, saved in chain.from_iterable(map(run, todo)):
            new |= saved
            advance(unit)
    return len(new)


def _cores() -> int:
    """As many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Transposed(NamedTuple):
    """What there is to know of a plan of a transposed convolution."""

    spec: ConvSpec


def portable(problems: Any) -> list[Any]:
    """Problems as another process can have them: of plans, what they are for. ValueError or TypeError as `warmup`."""
    return [_Transposed(one.spec) if isinstance(one, TransposedPlan) else one.spec if isinstance(one, Plan) else one
            for one in _problems_of(problems)]  # fmt: skip


def _problems_of(problems: Any) -> list[Any]:
    if problems is None:
        return list(names())
    kinds = str, ConvSpec, PoolSpec, Plan, TransposedPlan, _Transposed
    if isinstance(problems, kinds):
        problems = (problems,)
    elif not isinstance(problems, Iterable):
        raise TypeError(f"problems must be names of operations, specs or plans, got {problems!r}")
    found = list(problems)
    for one in found:
        if not isinstance(one, kinds):
            raise TypeError(f"problems must be names of operations, specs or plans, got {one!r}")
        if isinstance(one, str) and one not in names():
            raise ValueError(f"problems must name operations, {', '.join(map(repr, names()))}, got {one!r}")
        if isinstance(one, ConvSpec | PoolSpec):
            check_dtype("problems", one.dtype)
    return found


def _dtypes(dtypes: Any) -> list[np.dtype]:
    single = isinstance(dtypes, (str, type, np.dtype)) or not isinstance(dtypes, Iterable)
    found = []
    for one in (dtypes,) if single else dtypes:
        try:
            if one is None:  # which NumPy takes for float64
                raise TypeError("None is none")
            found.append(check_dtype("dtypes", np.dtype(one)))
        except TypeError as error:
            raise TypeError(f"dtypes must name supported dtypes, got {one!r}: {error}") from None
    return found


# -- processes -----------------------------------------------------------------------------------------------

#: What runs the works of each unit, and tells one unit after the other that is done, with the names of files that were
#: written to the cache for it.
Done = tuple[Unit, set[str]]
Runner = Callable[[dict[Unit, list[Work]]], Iterator[Done]]


@contextmanager
def _team(count: int, threads: int) -> Iterator[Runner]:
    """So many processes whose kernels may use so many threads; this one where no other can be started.

    This one may have kernels already that are not in the cache: it was another one then, or has been cleared.
    """
    if count == 0 or not sys.executable or getattr(sys, "frozen", False):
        from .cpu import notice

        with notice.silenced():
            yield _here
        return
    # Late, as below: `import fastconv` needs none of it.
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
        for done in as_completed([team.submit(one, *item) for item in longest_first]):
            yield done.result()

    team = ThreadPoolExecutor(count)
    try:
        for _ in range(count):
            processes.append(_Process(threads))
            idle.put(processes[-1])
        yield together
    finally:
        team.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.end()


def _here(units: dict[Unit, list[Work]]) -> Iterator[Done]:
    from .cpu import disk_cache

    for unit, works in units.items():
        before = set(disk_cache.saved)
        _run(works)
        yield unit, disk_cache.saved - before


def _run(works: Iterable[Work]) -> None:
    for run, spec, algorithm in works:
        run(spec, algorithm)


class _Process:
    """Another process, which runs works, and answers when they are done."""

    def __init__(self, threads: int) -> None:
        import subprocess

        begin = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from fastconv import warming; "
        # NumPy's products are small here, and its threads would be one for each core in each process.
        settings = {"NUMBA_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1", "FASTCONV_QUIET": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", begin + "warming._serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | settings,
        )  # fmt: skip
        self._send(sys.path)

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def run(self, unit: Unit, works: list[Work]) -> set[str]:
        """Wait until these are done, for the names of files that were written; RuntimeError if one fails."""
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
        """Whatever it is doing: a file of the cache is whole or not there."""
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    """What `_Process` starts: run works as they come from the standard input, until it ends."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    from .cpu import disk_cache, machine

    _ = machine.this_machine(1).peak  # what the planner of a new process asks for
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


# -- what is shown -------------------------------------------------------------------------------------------


def told(unit: Unit) -> str:
    """A unit in words."""
    return " ".join(filter(None, unit))


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Unit], None]]:
    """A bar on the terminal or in the notebook, with the unit that was done last; it is told each that is done."""
    try:
        from rich.progress import Progress
    except ModuleNotFoundError:
        raise ModuleNotFoundError("progress=True needs rich: pip install 'fastconv[cli]'") from None
    with Progress() as bar:
        task = bar.add_task("", total=total)
        yield lambda unit: bar.update(task, description=told(unit).ljust(36), advance=1)


def _no_bar(total: int) -> AbstractContextManager[Callable[[Unit], None]]:
    return nullcontext(lambda unit: None)
