"""The public function `warmup`, which compiles kernels in advance, so that later processes find them in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ..base import files
from ..base.values import shown
from ..functional.settings import get_num_threads
from ..planner.plan import Plan
from ..specs.arguments import flag
from ..specs.conv import ConvSpec
from ..specs.conv_transpose import TransposeSpec
from ..specs.dtypes import check_dtype
from ..specs.pool import PoolSpec
from .team import Unit, cores, team, told

__all__ = ["warmup"]

#: What can be compiled for: the name of an operation, a problem, or several of either.
Problem: TypeAlias = str | ConvSpec | TransposeSpec | PoolSpec | Plan
Problems: TypeAlias = Problem | Iterable[Problem]


def warmup(
    problems: Problems | None = None, *, dtypes: DTypeLike | Iterable[DTypeLike] = ("float32",), progress: bool = False
) -> int:  # fmt: skip
    """Compile kernels in advance, on all cores, so that later processes find them in the cache.

    Parameters
    ----------
    problems : str, spec or plan, or an iterable of them, optional
        What to prepare. The name of an operation, like "conv2d" or "max_pool3d", compiles all its algorithms for common
        sizes of problems. A single problem compiles just the algorithms that ``algorithm="auto"`` picks for a plan and
        for a plain call: a plan, also of a transposed convolution, or the spec of a convolution or pooling. By default
        all operations.
    dtypes : dtype, or an iterable of them
        The dtypes of arrays that named operations are compiled for. (A single problem has its own dtype.)
    progress : bool
        Whether to show a bar. It needs the extra ``fastconv[cli]``.

    Returns
    -------
    int
        Number of kernels that were put into the cache; 0 if all were there.

    Raises
    ------
    ValueError, TypeError
        If an operation is unknown, or an argument is none of the above. Nothing is compiled then.
    PermissionError
        If nothing can be written to the cache; the message says why.
    ImportError
        If `progress` is asked for, but rich is missing.
    RuntimeError
        If a problem fails, as for lack of memory.

    Notes
    -----
    Each problem runs on arrays of its size. As many processes are started as there are cores, but no more than there is
    work for; where one is enough, or Python's interpreter is not found, the calling process does the work.

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
    from ..cpu.system.plain import PLAIN, refused
    from .works import stages  # late: it loads the CPU's kernels

    if PLAIN:
        raise refused("what warmup compiles")
    wanted, kinds, bar = _problems_of(problems), _dtypes(dtypes), _bar if flag("progress", progress) else _no_bar
    files.limit()  # ValueError if the environment sets no number
    folder = files.cache_folder()
    if problem := files.problem(folder):
        raise PermissionError(f"kernels would be compiled for nothing: {folder} is {problem}")
    new: set[str] = set()
    todo = stages(wanted, kinds)
    # The planner may follow wisdom, which was measured with as many threads as this process has.
    threads = 1 if all(isinstance(one, str) for one in wanted) else get_num_threads()
    processes = min(cores(), max(map(len, todo), default=0))
    with bar(sum(map(len, todo))) as advance, team(processes, threads) as run:
        for unit, saved in chain.from_iterable(map(run, todo)):
            new |= saved
            advance(unit)
    return len(new)


def portable(problems: Any) -> list[Any]:
    """Problems in a form that another process can be sent: plans are replaced by their specs. Errors as `warmup`'s."""
    return [one.problem if isinstance(one, Plan) else one for one in _problems_of(problems)]


def _problems_of(problems: Any) -> list[Any]:
    from .works import names

    if problems is None:
        return list(names())
    kinds = str, ConvSpec, TransposeSpec, PoolSpec, Plan
    found = [problems] if isinstance(problems, kinds) else _listed(problems)
    for one in found:
        if not isinstance(one, kinds):
            raise TypeError(f"problems must be names of operations, specs or plans, got {shown(one)}")
        if isinstance(one, str) and one not in names():
            plain = ", ".join(repr(name) for name in names() if "." not in name)
            raise ValueError(f"problems must name operations, {plain}, or 'ndimage.' with a filter's name, "
                             f"got {shown(one)}")  # fmt: skip
        if isinstance(one, ConvSpec | PoolSpec):
            check_dtype("problems", one.dtype)
    return found


def _listed(given: Any) -> list[Any]:
    """The items of an iterable; what is none is one itself."""
    try:
        return list(given)
    except TypeError:
        return [given]


def _dtypes(dtypes: Any) -> list[np.dtype]:
    found = []
    for one in [dtypes] if isinstance(dtypes, (str, type, np.dtype)) else _listed(dtypes):
        try:
            if one is None:  # which NumPy takes for float64
                raise TypeError("None is none")
            found.append(check_dtype("dtypes", np.dtype(one)))
        except Exception as error:  # NumPy has several for what it cannot read
            raise TypeError(f"dtypes must name supported dtypes, got {shown(one)}: {error}") from None
    return found


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Unit], None]]:
    """A progress bar on the terminal or in the notebook; what is yielded advances it by a unit and shows the unit."""
    try:
        from rich.progress import Progress
    except ModuleNotFoundError:
        raise ModuleNotFoundError("progress=True needs rich: pip install 'fastconv[cli]'") from None
    with Progress() as bar:
        task = bar.add_task("", total=total)
        yield lambda unit: bar.update(task, description=told(unit).ljust(36), advance=1)


def _no_bar(total: int) -> AbstractContextManager[Callable[[Unit], None]]:
    return nullcontext(lambda unit: None)
